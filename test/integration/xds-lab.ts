// An Envoy of one's own in a scratch folder, on free loopback ports, and the agent's xDS server in this process. No root is needed.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, createServer, get, type RequestOptions } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Registry } from 'prom-client';
import { createEnvoyAdmin, type EnvoyAdmin } from '../../agent/envoy/admin.ts';
import { bootstrap } from '../../agent/envoy/bootstrap.ts';
import type { XdsResource } from '../../agent/translate/resource-set.ts';
import type { SecretMaterial } from '../../agent/xds/secrets.ts';
import { createXds, type Xds } from '../../agent/xds/server.ts';
import { systemClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';
import { messages, resourceSet } from '../builders/xds.ts';
import { until } from '../fakes/until.ts';

const ENVOY = fileURLToPath(new URL('../../build/envoy/envoy', import.meta.url));
/** Far below the 15 s that Envoy waits for a name that nobody answers. */
export const DEADLINE_MS = 10_000;

type Undo = (fn: () => unknown) => void;

export interface XdsLab {
  readonly dir: string;
  readonly admin: EnvoyAdmin;
  readonly secrets: Map<string, SecretMaterial>;
  /** Tells the agent that `secrets` changed. */
  rotated(): void;
  xds(): Xds;
  /** Gives Envoy these resources and waits until it has acknowledged them; resolves with the ms that took. */
  push(...resources: readonly XdsResource[]): Promise<number>;
  set(...resources: readonly XdsResource[]): void;
  acknowledged(what: string): Promise<void>;
  /** The agent's server goes, or comes anew over what the one before persisted. */
  stopAgent(): Promise<void>;
  startAgent(): Promise<void>;
  /** Resolves when the agent has died of the next refusal: it neither sends nor writes anything after it. */
  dieOnRefusal(): Promise<void>;
  /** Starts Envoy and returns its process id. */
  startEnvoy(): number;
  stopEnvoy(): Promise<void>;
  /** Resources and removals sent by type since the last call. */
  sent(): Promise<Record<string, number>>;
  envoyLog(): string;
  /** The names that Envoy has, by its admin API. */
  names(of: 'clusters' | 'listeners'): Promise<string[]>;
}

export async function openLab(undo: Undo): Promise<XdsLab> {
  const dir = mkdtempSync(join(tmpdir(), 'xds-'));
  undo(() => rmSync(dir, { recursive: true, force: true }));
  mkdirSync(join(dir, 'proxy'));
  const [envoyMetrics, readiness] = await freePorts(2);
  const adminSocket = join(dir, 'proxy', 'a.sock');
  const xdsSocket = join(dir, 'x.sock');
  const input = { host: 'lab', trustDomain: 'mesh.test', locality: '', xdsSocket, adminSocket };
  const ports = { envoyMetrics: envoyMetrics as number, readiness: readiness as number };
  writeFileSync(
    join(dir, 'bootstrap.json'),
    JSON.stringify(bootstrap({ ...input, metricsAddress: '127.0.0.1', ports })),
  );
  const admin = createEnvoyAdmin(adminSocket);
  const secrets = new Map<string, SecretMaterial>();
  let changed = () => {};
  let generation = 0;
  let registry = new Registry();
  let counted: Record<string, number> = {};
  let xds: Xds | undefined;
  let stopEnvoy = async () => {};
  let refused = () => {};
  const log = { ...silentLogger, warn: (message: string) => message === 'envoy refused' && refused() };
  undo(() => xds?.stop());
  undo(() => stopEnvoy());

  const lab: XdsLab = {
    dir,
    admin,
    secrets,
    rotated: () => changed(),
    xds: () => xds as Xds,
    set: (...resources) => (xds as Xds).setResources(resourceSet(++generation, resources)),
    acknowledged: async (what) => {
      await until(
        () => xds?.status().settled === true && xds.status().ackedGeneration === generation,
        `${what} to be acknowledged`,
        DEADLINE_MS,
      );
    },
    async push(...resources) {
      const start = performance.now();
      lab.set(...resources);
      await lab.acknowledged(`generation ${generation}`);
      return performance.now() - start;
    },
    async stopAgent() {
      await xds?.stop();
      xds = undefined;
    },
    async startAgent() {
      registry = new Registry();
      counted = {};
      const secretSource = { get: (name: string) => secrets.get(name), onChange: (fn: () => void) => (changed = fn) };
      const deps = { messages, secrets: secretSource, clock: systemClock, log, registry };
      xds = createXds({ ...deps, socketPath: xdsSocket, persistPath: join(dir, 'xds.json') });
      await xds.start(new AbortController().signal);
    },
    dieOnRefusal: () =>
      new Promise((resolve) => {
        refused = () => {
          refused = () => {};
          const state = readFileSync(join(dir, 'xds.json'));
          const stopped = lab.stopAgent();
          setImmediate(async () => {
            await stopped;
            writeFileSync(join(dir, 'xds.json'), state);
            resolve();
          });
        };
      }),
    startEnvoy: () => {
      const envoy = startEnvoy(dir);
      stopEnvoy = envoy.stop;
      return envoy.pid;
    },
    stopEnvoy: () => stopEnvoy(),
    async sent() {
      const metric = await registry.getSingleMetric('mesh_agent_xds_resources_sent_total')?.get();
      const now = Object.fromEntries(metric?.values.map(({ labels, value }) => [String(labels.type), value]) ?? []);
      const since = Object.entries(now).map(([type, count]) => [type, count - (counted[type] ?? 0)] as const);
      counted = now;
      return Object.fromEntries(since.filter(([, count]) => count > 0));
    },
    envoyLog: () => readFileSync(join(dir, 'envoy.log'), 'utf8'),
    async names(of) {
      const text = await fetchText({ socketPath: adminSocket, path: `/${of}` });
      const found = text.split('\n').map((line) => line.split('::')[0] as string);
      const own = new Set(['', 'xds-agent', 'admin', 'metrics', 'readiness']);
      return [...new Set(found)].filter((name) => !own.has(name)).sort();
    },
  };
  return lab;
}

/** Ends it by its pid, and waits for that. */
function startEnvoy(dir: string): { readonly pid: number; stop(): Promise<void> } {
  const log = openSync(join(dir, 'envoy.log'), 'a');
  const args = [
    '-c',
    join(dir, 'bootstrap.json'),
    '--use-dynamic-base-id',
    '--concurrency',
    '2',
    '--drain-time-s',
    '1',
  ];
  const child = spawn(ENVOY, [...args, '--log-level', 'warning'], { stdio: ['ignore', log, log] });
  const exited = new Promise((resolve) => child.once('exit', resolve));
  return {
    pid: child.pid as number,
    async stop() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/** Ports given so far: until Envoy has them the kernel takes them for free, and might give one twice. */
const given = new Set<number>();

/** Ports that were free a moment ago; none twice. */
export async function freePorts(count: number): Promise<number[]> {
  const servers: Server[] = [];
  const ports: number[] = [];
  while (ports.length < count) {
    const server = createTcpServer();
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    if (!given.has(port)) ports.push(port);
    given.add(port);
  }
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** A server that says `name` to everybody; over TCP alone too: what comes is answered with its name. */
export async function startBackend(undo: Undo, name: string): Promise<number> {
  const server = createServer((_, response) => response.end(name));
  server.keepAliveTimeout = 0; // Node would end a kept connection after 5 s, maybe as Envoy sends its next request on it
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  undo(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

/** GET; rejects on any status but 200, and after the deadline. */
export function fetchText(options: RequestOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = get({ host: '127.0.0.1', path: '/', timeout: DEADLINE_MS, ...options }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk) => (body += chunk));
      response.on('error', reject);
      response.on('end', () =>
        response.statusCode === 200 ? resolve(body) : reject(new Error(`${response.statusCode} ${body}`)),
      );
    });
    sent.on('timeout', () => sent.destroy(new Error('timed out')));
    sent.on('error', reject);
  });
}

export interface Load {
  readonly answers: Record<string, number>;
  readonly failures: string[];
  stop(): Promise<void>;
}

/** Requests one after the other, `lanes` at a time: half of them on connections kept open, half on new ones. */
export function startLoad(port: number, lanes: number): Load {
  const answers: Record<string, number> = {};
  const failures: string[] = [];
  let going = true;
  const agents = [new Agent({ keepAlive: true }), new Agent({ keepAlive: false })];
  const lane = async (agent: Agent) => {
    while (going) {
      try {
        const answer = await fetchText({ port, agent });
        answers[answer] = (answers[answer] ?? 0) + 1;
      } catch (error) {
        failures.push(String(error));
      }
    }
  };
  const all = Array.from({ length: lanes }, (_, i) => lane(agents[i % 2] as Agent));
  return {
    answers,
    failures,
    async stop() {
      going = false;
      await Promise.all(all);
      for (const agent of agents) agent.destroy();
    },
  };
}

/** What was persisted, as text. */
export function persisted(lab: XdsLab): { everSent: Record<'cluster' | 'listener', string[]> } {
  return JSON.parse(readFileSync(join(lab.dir, 'xds.json'), 'utf8'));
}

/** True when a TCP connection to the port is taken. */
export function connects(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
