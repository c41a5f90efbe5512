/**
 * `npm run bench push`: what a change costs from a REST write to every host: CPU of a real controller, bytes and CPU of each host, time to the
 * last of them and to real Envoys, beside the peer's figures (issue 5). 100 agents: two with an Envoy each in a process of their own, the
 * others in one more process, without Envoy. Config goes as it does in the product: from the controller to eight hosts, from them by gossip;
 * gossip of config is without a network (5 to 25 ms a hop). Real gossip carries host records, among ten hosts. Two processes of hosts share
 * this machine's cores with everything else: times to the last host have the CPU of a hundred hosts in them (BENCH_PUSH_HOSTS=20: of twenty, and
 * the same way to go). BENCH_PUSH_PUSHES=8.
 */
import { fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { MeshObject } from '../../api/resources/object.ts';
import { bigMesh, route } from './big-mesh.ts';
import { now } from './gossip/protocol.ts';
import { cpuSeconds } from './processes.ts';
import { type Calls, createCalls } from './push-calls.ts';
import type { LinkBytes } from './push-host.ts';
import type { HostPlan, Orders, ProcessSpec, Reached } from './push-process.ts';
import { type Row, tableOf } from './push-table.ts';
import { createPushWorld, type World } from './push-world.ts';
import { median, percentile, round } from './stats.ts';

const SIZE = { services: 500, hosts: Number(process.env.BENCH_PUSH_HOSTS ?? 100) };
/** Agents with an Envoy; then those with a gossip room for host records, one of which is the host whose endpoint changes. */
const WITH_ENVOY = 2;
const WITH_RECORDS = 10;
const CHANGED = `h${WITH_RECORDS}`;
/** The host that comes new, again and again. */
const NEWCOMER = 'h0';
const NEWCOMERS = 4;
/** Agents without Envoy that also translate, when the last Envoy has acknowledged: the work is the same on each. */
const TRANSLATE = 8;
const CHANGES = 20;
/** Within it the others were answered, asked again, and hosts have reported. */
const SETTLED_MS = 2600;
/** Within it hosts have reported what they hold. */
const REPORTED_MS = 150;
/** A host may say so many new things in a row; what is faster, others take up at their next comparison. */
const CHANGE_EVERY_MS = 1000;
const IDLE_MS = 8000;

/** A process of hosts. */
interface Hosts {
  readonly pid: number;
  readonly calls: Calls;
  order<K extends keyof Orders>(name: K, ...args: Parameters<Orders[K]>): Promise<ReturnType<Orders[K]>>;
  end(): Promise<void>;
}

interface Mesh {
  readonly world: World;
  /** With Envoys, and without. */
  readonly real: Hosts;
  readonly sim: Hosts;
  readonly dir: string;
  /** CPU of a second in which nothing happens, in ms. */
  readonly idle: { controller: number; real: number; sim: number };
}

export async function run(say: (line: string) => void): Promise<object> {
  const undo: (() => unknown)[] = [];
  try {
    const mesh = await start(undo, say);
    const figures = {
      idleCpuMsPerSecond: mesh.idle,
      virtualService: await pushes(mesh),
      endpoint: await endpoints(mesh),
      newAgent: await newcomers(mesh, undo),
    };
    for (const line of tableOf(rowsOf(figures))) say(line);
    return { ...SIZE, cores: cpus().length, ...figures };
  } finally {
    for (const fn of undo.reverse()) await fn();
  }
}

async function start(undo: (() => unknown)[], say: (line: string) => void): Promise<Mesh> {
  const dir = mkdtempSync(join(tmpdir(), 'push-'));
  // A hundred hosts have a hundred disks: theirs is memory here, but for those that are measured to their Envoy's word.
  const memory = mkdtempSync('/dev/shm/push-');
  undo.push(() => [dir, memory].map((path) => rmSync(path, { recursive: true, force: true })));
  const { objects, hosts = [], self } = bigMesh(SIZE);
  const servers = hosts.filter(({ id }) => id !== self);
  const world = await createPushWorld(dir, [
    ...servers.map(({ id, groups }, i) => ({ host: id, address: addressOf(i + 1), groups })),
    { host: NEWCOMER, address: addressOf(0), groups: [] },
  ]);
  undo.push(() => world.stop());
  const generation = await world.apply(objects.map(stripped));
  say(`controller: ${objects.length} objects applied`);
  const plans = servers.map(
    ({ id, groups }, i): HostPlan => ({
      spec: world.host(id),
      envoy: i < WITH_ENVOY,
      translates: i < WITH_ENVOY,
      ...(i < WITH_RECORDS ? { groups } : {}),
    }),
  );
  const common = { size: SIZE, rootText: world.rootText, rootPem: world.rootPem };
  const near = plans.slice(WITH_ENVOY);
  const far = plans.slice(0, WITH_ENVOY);
  const sim = launch(undo);
  const real = launch(undo);
  join_(real, sim);
  await sim.order('prepare', { ...common, dir: memory, hosts: near, bus: { far: far.map(({ spec }) => spec.host) } });
  await real.order('prepare', { ...common, dir, hosts: far, bus: 'far' });
  await Promise.all([sim.order('start'), real.order('start')]);
  await Promise.all([sim.order('reached', generation), real.order('reached', generation)]);
  await sim.order('translate', TRANSLATE);
  await Promise.all([sim.order('linked', WITH_RECORDS - 1), real.order('linked', WITH_RECORDS - 1)]);
  say(`${plans.length} agents hold generation ${generation}, ${WITH_ENVOY} Envoys have acknowledged it`);
  await pause(SETTLED_MS);
  const read = meter({ world, real, sim });
  const before = await read();
  await pause(IDLE_MS);
  const after = await read();
  const idle = {
    controller: round((after.controller - before.controller) / (IDLE_MS / 1000)),
    real: round((after.real - before.real) / (IDLE_MS / 1000)),
    sim: round((after.sim - before.sim) / (IDLE_MS / 1000)),
  };
  say(`idle, ms of CPU a second: ${JSON.stringify(idle)}`);
  return { world, real, sim, dir, idle };
}

const addressOf = (n: number) => `127.${20 + (process.pid % 200)}.0.${n + 1}`;
const pause = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));

function launch(undo: (() => unknown)[]): Hosts {
  const program = fileURLToPath(new URL('./push-process.ts', import.meta.url));
  const execArgv = ['--no-warnings', '--max-old-space-size=6000'];
  const child = fork(program, [], { execArgv, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const ended = new Promise<void>((done) => void child.once('exit', () => done()));
  const calls = createCalls(child);
  let over = false;
  const hosts: Hosts = {
    pid: child.pid as number,
    calls,
    order: (name, ...args) => calls.call(name, ...args),
    async end() {
      if (over) return;
      over = true;
      await calls.call('stop').catch(() => {});
      child.kill('SIGKILL');
      await ended;
    },
  };
  undo.push(() => hosts.end());
  return hosts;
}

/** Lets the two processes call each other: `far` has the hosts that stand in the bus of `near`. */
function join_(far: Hosts, near: Hosts): void {
  for (const name of ['bus.announce', 'bus.fetch', 'bus.peers'])
    far.calls.on(name, (...args: unknown[]) => near.calls.call(name, ...args));
  for (const name of ['far.announced', 'far.serve'])
    near.calls.on(name, (...args: unknown[]) => far.calls.call(name, ...args));
}

interface Reading {
  readonly at: number;
  readonly controller: number;
  readonly real: number;
  readonly sim: number;
}

/** CPU so far in ms, of the controller and of both processes of hosts. */
function meter({ world, real, sim }: Pick<Mesh, 'world' | 'real' | 'sim'>): () => Promise<Reading> {
  return async () => ({
    at: now(),
    controller: cpuSeconds(world.pid) * 1000,
    real: await real.order('cpuMs'),
    sim: await sim.order('cpuMs'),
  });
}

/** What was used between two readings, beyond what idling uses. */
function used(before: Reading, after: Reading, idle: Mesh['idle']) {
  const seconds = (after.at - before.at) / 1000;
  const net = (key: keyof Mesh['idle']) => after[key] - before[key] - idle[key] * seconds;
  return { controller: net('controller'), real: net('real'), sim: net('sim') };
}

async function pushes(mesh: Mesh) {
  const { real, sim, idle } = mesh;
  const count = Number(process.env.BENCH_PUSH_PUSHES ?? 8);
  const read = meter(mesh);
  const [simulated, translating] = [SIZE.hosts - WITH_ENVOY, TRANSLATE];
  const sum = { controller: 0, askedAgain: 0, real: 0, sim: 0, translate: 0 };
  const [answered, first, direct, all, lastVerified, acked, lastAcked]: number[][] = [[], [], [], [], [], [], []];
  // Unmeasured: a process that has never taken a change up compiles what does it.
  await pushed(mesh, 0);
  const traffic = { before: await both(mesh), direct: 0 };
  await real.order('sent');
  for (let i = 1; i <= count; i++) {
    const before = await read();
    const { begun, answeredMs, reached, askedAgainMs } = await pushed(mesh, i);
    sum.askedAgain += askedAgainMs;
    answered?.push(answeredMs);
    const cost = used(before, await read(), idle);
    for (const key of ['controller', 'real', 'sim'] as const) sum[key] += cost[key];
    sum.translate += await sim.order('translate', translating);
    const verified = reached.map((host) => host.verified - begun);
    const envoys = reached.flatMap((host) => (host.acked === undefined ? [] : [host.acked - begun]));
    first?.push(Math.min(...verified));
    direct?.push(...reached.filter((host) => host.fromController).map((host) => host.verified - begun));
    all?.push(...verified);
    lastVerified?.push(Math.max(...verified));
    acked?.push(...envoys);
    lastAcked?.push(Math.max(...envoys));
    traffic.direct += reached.filter((host) => host.fromController).length;
  }
  const after = await both(mesh);
  const each = (key: keyof typeof after) => round((after[key] - traffic.before[key]) / count);
  const spread = (times: readonly number[] = []) => ({ p50: percentile(times, 0.5), p99: percentile(times, 0.99) });
  return {
    pushes: count,
    controllerCpuMs: round(sum.controller / count),
    ofWhichAfterAllHaveItMs: round(sum.askedAgain / count),
    restAnswerMs: median(answered ?? []),
    hostsServedByController: round(traffic.direct / count),
    controllerBodies: each('bodies'),
    updateBytes: Math.round(each('fromController') / Math.max(1, each('bodies'))),
    bytesPerHost: Math.round((each('fromController') + each('fromPeers') + each('announced')) / SIZE.hosts),
    agentCpuMs: {
      fetchVerifyKeep: round(sum.sim / count / simulated),
      translate: round(sum.translate / count / translating),
      withXdsAndEnvoy: round(sum.real / count / WITH_ENVOY),
    },
    firstHostMs: spread(first),
    hostsServedDirectlyMs: spread(direct),
    hostsMs: spread(all),
    lastHostMs: spread(lastVerified),
    envoyAckMs: spread(acked),
    lastEnvoyAckMs: spread(lastAcked),
    sentToEnvoys: await real.order('sent'),
  };
}

/** One VirtualService written; until every host has it and what follows is over. */
async function pushed({ world, real, sim }: Mesh, number: number) {
  const begun = now();
  const revision = await world.apply([stripped(route(5, `${20 + number}s`))]);
  const answeredMs = now() - begun;
  const reached: Reached[] = (
    await Promise.all([real.order('reached', revision), sim.order('reached', revision)])
  ).flat();
  await pause(REPORTED_MS);
  const taken = cpuSeconds(world.pid) * 1000;
  await pause(SETTLED_MS);
  return { begun, answeredMs, reached, askedAgainMs: cpuSeconds(world.pid) * 1000 - taken };
}

async function both({ real, sim }: Mesh) {
  const [a, b] = await Promise.all([real.order('traffic'), sim.order('traffic')]);
  return {
    fromController: a.fromController + b.fromController,
    fromPeers: a.fromPeers + b.fromPeers,
    announced: a.announced + b.announced,
    bodies: a.bodies + b.bodies,
  };
}

/** The controller says when an object was made. */
function stripped({ metadata: { creationTimestamp: _, ...metadata }, ...rest }: MeshObject): MeshObject {
  return { ...rest, metadata };
}

async function endpoints(mesh: Mesh) {
  const { real, sim, idle } = mesh;
  const read = meter(mesh);
  const idleBytes = await real.order('linkBytes');
  await pause(IDLE_MS / 2);
  const bytes = await real.order('linkBytes');
  const perMs = (key: keyof LinkBytes) => (bytes[key] - idleBytes[key]) / (IDLE_MS / 2);
  await real.order('sent');
  const before = await read();
  const times: number[] = [];
  for (let i = 0; i < CHANGES; i++) {
    const weight = 2 + i;
    const begun = now();
    await sim.order('publish', CHANGED, weight);
    times.push(...(await real.order('weighted', CHANGED, weight)).map((at) => at - begun));
    await pause(CHANGE_EVERY_MS);
  }
  const after = await read();
  const cost = used(before, after, idle);
  const total = await real.order('linkBytes');
  const moved = (key: keyof LinkBytes) =>
    Math.round((total[key] - bytes[key] - perMs(key) * (after.at - before.at)) / CHANGES / WITH_ENVOY);
  return {
    changes: CHANGES,
    gossipingHosts: WITH_RECORDS,
    controllerCpuMs: round(cost.controller / CHANGES),
    agentCpuMs: round(cost.real / CHANGES / WITH_ENVOY),
    bytesReceivedPerHost: moved('received'),
    bytesSentPerHost: moved('sent'),
    envoyAckMs: { p50: percentile(times, 0.5), p99: percentile(times, 0.99) },
    sentToEnvoys: await real.order('sent'),
  };
}

/** A host that holds nothing, in a process that has translated nothing, again and again. */
async function newcomers(mesh: Mesh, undo: (() => unknown)[]) {
  const { world, dir, idle } = mesh;
  const costs: { controller: number; agent: number; process: number; envoy: number; time: number; bytes: number }[] =
    [];
  for (let i = 0; i < NEWCOMERS; i++) {
    const hosts = launch(undo);
    await hosts.order('prepare', {
      size: SIZE,
      rootText: world.rootText,
      rootPem: world.rootPem,
      dir: join(dir, `new-${i}`),
      hosts: [{ spec: world.host(NEWCOMER), envoy: true, translates: true }],
      bus: 'none',
    } satisfies ProcessSpec);
    const [envoyPid = 0] = await hosts.order('envoyPids');
    await pause(500);
    const before = {
      agent: await hosts.order('cpuMs'),
      envoy: cpuSeconds(envoyPid),
      controller: cpuSeconds(world.pid),
    };
    const begun = now();
    await hosts.order('start');
    const [reached] = await hosts.order('reached', 1);
    const agent = await hosts.order('cpuMs');
    await pause(500);
    const seconds = (now() - begun) / 1000;
    costs.push({
      controller: (cpuSeconds(world.pid) - before.controller) * 1000 - idle.controller * seconds,
      agent: agent - before.agent,
      process: agent,
      envoy: (cpuSeconds(envoyPid) - before.envoy) * 1000,
      time: (reached?.acked ?? Number.NaN) - begun,
      bytes: (await hosts.order('traffic')).fromController,
    });
    await hosts.end();
  }
  const of = (key: keyof (typeof costs)[number]) => median(costs.map((cost) => cost[key]));
  const controller = costs.reduce((sum, cost) => sum + cost.controller, 0) / costs.length;
  return {
    newcomers: NEWCOMERS,
    controllerCpuMs: round(controller),
    bytes: Math.round(of('bytes')),
    agentCpuMs: of('agent'),
    agentCpuWithProgramStartMs: of('process'),
    envoyCpuMs: of('envoy'),
    envoyAckMs: of('time'),
  };
}

function rowsOf(figures: {
  virtualService: Awaited<ReturnType<typeof pushes>>;
  endpoint: Awaited<ReturnType<typeof endpoints>>;
  newAgent: Awaited<ReturnType<typeof newcomers>>;
}): Row[] {
  const { virtualService: one, endpoint, newAgent } = figures;
  const kb = (bytes: number) => `${round(bytes / 1000)} KB`;
  const ms = (value: number) => `${value} ms`;
  const spread = ({ p50, p99 }: { p50: number; p99: number }) => `${p50} / ${p99} ms`;
  const agent = one.agentCpuMs;
  return [
    [
      'one VirtualService: CPU of the controller',
      '325 ms',
      '15 ms',
      `${ms(one.controllerCpuMs)}, ${one.ofWhichAfterAllHaveItMs} of it when all hosts have it (they ask again)`,
    ],
    ['... bytes to each host', '223 KB', '15 KB', `${kb(one.bytesPerHost)} (one update: ${kb(one.updateBytes)})`],
    ['... CPU of an agent: fetch, verify, keep', '', '', ms(agent.fetchVerifyKeep)],
    ['... ... translate', '', '', ms(agent.translate)],
    ['... ... all of it, with xDS to an Envoy', '', '20 ms', ms(agent.withXdsAndEnvoy)],
    ['... hosts served by the controller: verified, p50 / p99', '', '', spread(one.hostsServedDirectlyMs)],
    ['... last host has verified it, p50 / p99', '305 ms', '', spread(one.lastHostMs)],
    ['... last real Envoy has acknowledged it, p50 / p99', '305 ms', '150 ms', spread(one.lastEnvoyAckMs)],
    ['one endpoint: CPU of the controller', '22 ms', '0', ms(endpoint.controllerCpuMs)],
    [
      '... bytes to each host, gossip with TLS',
      '600 B',
      '600 B',
      `${endpoint.bytesReceivedPerHost} B (and passed on: ${endpoint.bytesSentPerHost} B)`,
    ],
    ['... CPU of an agent', '', '', ms(endpoint.agentCpuMs)],
    ['... real Envoys have acknowledged it, p50 / p99', '116 ms', '100 ms', spread(endpoint.envoyAckMs)],
    ['full config: CPU of the controller', '56-67 ms', '', ms(newAgent.controllerCpuMs)],
    ['... bytes', '1.0 MB', '', kb(newAgent.bytes)],
    ['... CPU of the agent', '', '150 ms', ms(newAgent.agentCpuMs)],
    ['... CPU of Envoy', '', '', ms(newAgent.envoyCpuMs)],
    ['... until Envoy has acknowledged it', '', '', ms(newAgent.envoyAckMs)],
  ];
}
