/** Parts 1 and 2 of the story: a controller starts, three hosts join and find one another. */
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ADMIN_API, type PeerRow } from '../../../api/http/admin-api.ts';
import { pathsOf } from '../lab/paths.ts';
import { hostState, plantForeignRules } from './host-state.ts';
import { check, must, type Run } from './run.ts';
import type { Step } from './story.ts';
import { SERVERS, TOPOLOGY } from './topology.ts';
import { HOST_NODE, HOSTS, onHost, type World } from './world.ts';

/** State of every host before the mesh came to it; part 11 compares. */
export const before = new Map<string, string>();

/** `lab up` under way: its lines, and its end. */
interface Ascent {
  readonly end: Promise<Run>;
  words: string;
}

const ascents = new WeakMap<World, Ascent>();

/** Starts `lab up`; host states are saved when the namespaces exist, which is seconds before a host joins. */
function startAscent(world: World): Ascent {
  const file = join(world.temp, 'topology.yaml');
  writeFileSync(file, TOPOLOGY);
  const onStderr = (text: string) => {
    ascent.words += text;
  };
  const ascent: Ascent = { words: '', end: world.labWith({ onStderr }, 'up', '--file', file) };
  ascent.end.catch(() => {}); // awaited by step 2; a rejection before that is not unhandled
  ascents.set(world, ascent);
  return ascent;
}

async function saveHostStates(world: World): Promise<void> {
  await Promise.all(
    HOSTS.map(async (host) => {
      await plantForeignRules(world, host);
      const state = await hostState(world, host);
      check(!state.includes('MESH_'), `the mesh was on ${host} before its state was saved`);
      before.set(host, state);
    }),
  );
}

async function reached(world: World, ascent: Ascent, line: RegExp): Promise<void> {
  let ended: Run | undefined;
  const remember = (run: Run) => {
    ended = run;
  };
  void ascent.end.then(remember, () => {}); // stopped by hand: `until` says so
  await world.until(
    () => {
      if (ended !== undefined) must(ended, 'scripts/lab up');
      return line.test(ascent.words);
    },
    `scripts/lab up says ${line}: ${ascent.words.slice(-500)}`,
    60_000,
    10,
  );
}

/** Files of at most 16 MiB. One that vanishes while it is looked at was a temporary one. */
function filesUnder(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter(
      (path) => (statSync(path, { throwIfNoEntry: false })?.size ?? Number.POSITIVE_INFINITY) <= 16 * 1024 * 1024,
    );
}

/** Files under `folder` that hold one of `secrets` or a private key and that others than their owner may read. */
function exposed(folder: string, secrets: readonly string[]): string[] {
  return filesUnder(folder).filter((path) => {
    const text = readFileSync(path, 'latin1');
    const isSecret = text.includes('PRIVATE KEY-----') || secrets.some((secret) => text.includes(secret));
    return isSecret && (statSync(path).mode & 0o077) !== 0;
  });
}

async function controllerUp(world: World, note: (line: string) => void): Promise<void> {
  const ascent = startAscent(world);
  await reached(world, ascent, /network namespaces/);
  await saveHostStates(world);
  await reached(world, ascent, /controller answers/);
  const { MESH_API, MESH_TOKEN } = await world.env();
  const { stateDir, config, logDir } = pathsOf('ctl1');
  const open = exposed(stateDir, [MESH_TOKEN]);
  check(open.length === 0, `secrets that others may read: ${open.join(', ')}`);
  const init = ['mesh-controller', HOST_NODE, onHost('controller/main.ts'), 'init', '--config', config] as const;
  const again = await world.on('ctl1', init[0], init.slice(1));
  const words = again.stdout + again.stderr;
  check(again.code !== 0, 'a second init went through: it would have replaced the keys');
  check(!words.includes(MESH_TOKEN), 'a second init prints the token');
  const log = readFileSync(join(logDir, 'controller.log'), 'utf8');
  check(!log.includes(MESH_TOKEN) && !log.includes('PRIVATE KEY'), 'the controller logs a secret');
  check(!ascent.words.includes(MESH_TOKEN), 'the token was printed while the controller came up');
  const status = must(await world.meshctl(['status']), 'meshctl status').stdout;
  check(/c1 https:\S+ reachable \(answered\)/.test(status), `meshctl status names no controller: ${status}`);
  const roots = /^Root keys: +(.*)$/m.exec(status)?.[1];
  check(roots !== undefined, `meshctl status does not say where the root keys are: ${status}`);
  note(`REST over TLS on ${MESH_API}; keys and token readable by their owner only; a second init is refused`);
  note(`TUF root keys: ${roots}`);
}

async function hostsUp(world: World, note: (line: string) => void): Promise<void> {
  const ascent = ascents.get(world) as Ascent;
  must(await ascent.end, 'scripts/lab up');
  await Promise.all(
    SERVERS.map(([host, user, name, ports]) =>
      world.start(host, user, [HOST_NODE, onHost('scripts/lib/sample-service.ts'), name, ...ports], / serves /),
    ),
  );
  for (const host of HOSTS) keysStayedHome(host);
  await world.until(() => allKnown(world), 'each host knows the other two, alive, by gossip', 60_000);
  await world.until(() => allCertified(world), 'every workload has its certificate, every Envoy its config', 60_000);
  note('b and c knew one address, that of a; each now knows both others by gossip');
  const ready = [...ascent.words.matchAll(/host (\w+) is ready after (\d+) ms/g)].map(
    ([, host, ms]) => `${host} ${ms}`,
  );
  note(`ms from the last join to ready: ${ready.join(', ')}`);
}

/** The host's key was made there: only its owner reads it, and the controller has it nowhere. */
function keysStayedHome(host: string): void {
  const { stateDir } = pathsOf(host);
  const open = exposed(stateDir, []);
  check(open.length === 0, `private keys that others may read: ${open.join(', ')}`);
  const [, key = ''] = readFileSync(join(stateDir, 'identity/host.pem'), 'utf8').split('\n');
  check(key.length > 40, `${host} has no key`);
  for (const path of filesUnder(pathsOf('ctl1').stateDir))
    check(!readFileSync(path, 'latin1').includes(key), `the controller holds the key of ${host}: ${path}`);
}

async function allKnown(world: World): Promise<boolean> {
  const tables = await Promise.all(HOSTS.map((host) => world.agent(host, ADMIN_API.peers) as Promise<PeerRow[]>));
  return tables.every((rows, i) =>
    HOSTS.every((host) => host === HOSTS[i] || rows.some((row) => row.host === host && row.state === 'alive')),
  );
}

async function allCertified(world: World): Promise<boolean> {
  const all = await Promise.all(HOSTS.map((host) => world.agentStatus(host)));
  return all.every(
    ({ workloads, envoyConnected, ready }) =>
      ready && envoyConnected && workloads.length > 0 && workloads.every((w) => w.svidNotAfter !== undefined),
  );
}

export const upSteps: readonly Step[] = [
  {
    part: 1,
    name: 'controller',
    title: 'mesh-controller makes its keys and serves REST over TLS; no secret is readable by others or printed twice',
    run: controllerUp,
  },
  {
    part: 2,
    name: 'hosts',
    title: 'three hosts join with their join strings, get their certificates and find one another by gossip',
    run: hostsUp,
  },
];
