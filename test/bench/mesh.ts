/** What the whole mesh costs on this machine: three hosts in namespaces, real Envoys, real rules. `run` returns the figures. */
import { execFileSync } from 'node:child_process';
import { chownSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { OPERATOR_API } from '../../api/http/operator-api.ts';
import { must } from '../../scripts/lib/demo/run.ts';
import { nodeOf, SERVICES, TOPOLOGY } from '../../scripts/lib/demo/topology.ts';
import { createWorld, HOST_NODE, HOSTS, onHost, type World } from '../../scripts/lib/demo/world.ts';
import { pathsOf } from '../../scripts/lib/lab/paths.ts';
import { cpuSeconds, pidsOf, rssMb } from './processes.ts';
import { median, percentile, round } from './stats.ts';
import { startServer, throughput } from './throughput.ts';

const PUSHES = 60;
const STARTS = 7;
const IDLE_SECONDS = 30;

export async function run(say: (line: string) => void): Promise<object> {
  needWrk();
  const abort = new AbortController();
  process.once('SIGINT', () => abort.abort(new Error('interrupted')));
  const world = createWorld(abort.signal);
  try {
    const file = join(world.temp, 'topology.yaml');
    writeFileSync(file, TOPOLOGY);
    must(await world.lab('up', '--file', file), 'scripts/lab up');
    await world.apply(SERVICES);
    await startServer(world, 'b', 'hm-reviews');
    await served(world);
    const figures: Record<string, object> = {};
    const measures: readonly (readonly [string, () => Promise<object>])[] = [
      ['idle', () => idle(world)],
      ['push', () => push(world)],
      ['rules', () => rules(world)],
      ['agentStart', () => agentStart(world)],
      ['throughput', () => throughput(world, nodeOf('b').ip4, 16)],
      ['join', () => join_(world)],
    ];
    for (const [name, measure] of measures) {
      figures[name] = await measure();
      say(`${name}: ${JSON.stringify(figures[name])}`);
    }
    return figures;
  } finally {
    await world.close();
    await createWorld(new AbortController().signal).lab('down');
  }
}

function needWrk(): void {
  try {
    execFileSync('wrk', ['-v'], { stdio: 'ignore' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      execFileSync('apt-get', ['install', '-y', '--no-install-recommends', 'wrk'], { stdio: 'ignore' });
  }
}

/** A request of a's client reaches b through both Envoys. */
async function served(world: World): Promise<void> {
  await world.until(
    async () => (await world.curl('a', 'hm-client', 'http://reviews:9080/')).status === 200,
    'reviews served through the mesh',
    20_000,
  );
}

/** Memory and CPU of an agent and an Envoy that have nothing to do. */
async function idle(world: World): Promise<object> {
  const pids = await pidsOf(world, 'b');
  await pause(15_000);
  const before = { agent: cpuSeconds(pids.agent), proxy: cpuSeconds(pids.proxy) };
  await pause(IDLE_SECONDS * 1000);
  const percent = (now: number, then: number) => round(((now - then) / IDLE_SECONDS) * 100);
  return {
    agentRssMb: round(rssMb(pids.agent)),
    envoyRssMb: round(rssMb(pids.proxy)),
    agentCpuPercent: percent(cpuSeconds(pids.agent), before.agent),
    envoyCpuPercent: percent(cpuSeconds(pids.proxy), before.proxy),
    seconds: IDLE_SECONDS,
  };
}

/** From the start of a REST write to the last of three Envoys having acknowledged its generation. */
async function push(world: World): Promise<object> {
  const times: number[] = [];
  for (let i = 0; i < PUSHES; i++) {
    const begun = performance.now();
    const { status, body } = await world.rest('POST', OPERATOR_API.apply, { objects: [virtualService(i)] });
    if (status !== 200) throw new Error(`apply answered ${status}: ${body}`);
    const { revision } = JSON.parse(body) as { revision: number };
    await Promise.all(HOSTS.map((host) => acknowledged(host, revision)));
    times.push(performance.now() - begun);
    await pause(20);
  }
  return { pushes: PUSHES, p50Ms: percentile(times, 0.5), p99Ms: percentile(times, 0.99) };
}

const virtualService = (i: number) => ({
  apiVersion: 'networking.istio.io/v1',
  kind: 'VirtualService',
  metadata: { name: 'bench', namespace: 'default' },
  spec: {
    hosts: ['reviews'],
    http: [{ timeout: `${i + 1}s`, route: [{ destination: { host: 'reviews', port: { number: 9080 } } }] }],
  },
});

async function acknowledged(host: string, revision: number): Promise<void> {
  const end = performance.now() + 10_000;
  while (performance.now() < end) {
    if ((await ackedGeneration(host)) >= revision) return;
    await pause(2);
  }
  throw new Error(`${host} did not acknowledge generation ${revision}`);
}

function ackedGeneration(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    request({ socketPath: `${pathsOf(host).runDir}/admin.sock`, path: '/status' }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.once('end', () => resolve((JSON.parse(text) as { ackedGeneration: number }).ackedGeneration));
    })
      .once('error', reject)
      .end();
  });
}

/** What the root oneshot takes in the kernel (its own measure), and as a command with Node's start. */
async function rules(world: World): Promise<object> {
  const { config, runDir } = pathsOf('c');
  const once = async (verb: 'apply' | 'clean') => {
    const begun = performance.now();
    const command = [
      HOST_NODE,
      '--max-semi-space-size=1',
      onHost('agent/main.ts'),
      'redirect',
      verb,
      '--config',
      config,
    ];
    must(await world.on('c', undefined, command), `redirect ${verb}`);
    const whole = performance.now() - begun;
    return {
      whole,
      inner: (JSON.parse(readFileSync(`${runDir}/redirect/result.json`, 'utf8')) as { durationMs: number }).durationMs,
    };
  };
  const times = { applied: [] as number[], again: [] as number[], cleaned: [] as number[], command: [] as number[] };
  for (let i = 0; i < 5; i++) {
    const cleaned = await once('clean');
    const applied = await once('apply');
    const again = await once('apply');
    times.cleaned.push(cleaned.inner);
    times.applied.push(applied.inner);
    times.again.push(again.inner);
    times.command.push(applied.whole, again.whole, cleaned.whole);
  }
  return {
    appliedMs: median(times.applied),
    appliedUnchangedMs: median(times.again),
    cleanedMs: median(times.cleaned),
    wholeCommandMs: median(times.command),
  };
}

async function agentStart(world: World): Promise<object> {
  const times: number[] = [];
  for (let i = 0; i < STARTS; i++) {
    must(await world.lab('kill', 'c', 'agent', '--stay-down'), 'kill');
    const begun = performance.now();
    void world.lab('start', 'c', 'agent');
    await world.until(
      () =>
        world.agentStatus('c').then(
          (s) => s.ready,
          () => false,
        ),
      'c is ready',
      30_000,
      5,
    );
    times.push(performance.now() - begun);
    await pause(500);
  }
  return { starts: STARTS, p50Ms: median(times), worstMs: percentile(times, 1) };
}

/** A host that knows nothing: from `mesh-agent join` to the first answer through its Envoy. */
async function join_(world: World): Promise<object> {
  const paths = pathsOf('a');
  const owner = statSync(paths.stateDir);
  must(await world.lab('kill', 'a', 'all'), 'kill');
  rmSync(paths.stateDir, { recursive: true });
  mkdirSync(paths.stateDir, { mode: 0o2750 });
  chownSync(paths.stateDir, owner.uid, owner.gid);
  const body = {
    apiVersion: OPERATOR_API.groupVersion,
    kind: 'JoinToken',
    spec: { host: 'a', workloadGroups: ['default/client', 'default/batch'], peers: [`${nodeOf('b').ip4}:15300`] },
  };
  const made = JSON.parse((await world.rest('POST', OPERATOR_API.joinTokens, body)).body) as {
    status: { joinString: string };
  };
  const begun = performance.now();
  const command = [HOST_NODE, onHost('agent/main.ts'), 'join', '--config', paths.config];
  must(await world.on('a', undefined, command, { input: made.status.joinString }), 'join');
  const joined = performance.now() - begun;
  must(await world.lab('start', 'a', 'all'), 'start');
  await served(world);
  return { joinCommandMs: round(joined), toFirstRequestMs: round(performance.now() - begun) };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
