/**
 * The demo's hands: scripts/lab, programs on lab hosts, meshctl, plain REST calls, the sockets of agents and Envoys, and waiting for
 * conditions. In: commands. Out: exit codes and text. Everything started here ends with `close`, or when `signal` aborts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { proxyPaths } from '../../../agent/envoy/paths.ts';
import { ADMIN_API, type AgentStatus } from '../../../api/http/admin-api.ts';
import { type MeshStatus, OPERATOR_API } from '../../../api/http/operator-api.ts';
import { LAB_DIR, pathsOf, ROOT, TREE } from '../lab/paths.ts';
import { check, endGroup, must, type Run, type RunOptions, run } from './run.ts';

/** Node as programs on hosts start it: any user can read it there. */
export const HOST_NODE = `${TREE}/build/node/bin/node`;
/** A file of the work tree as hosts see it. */
export const onHost = (path: string): string => `${TREE}/${path}`;
/** Hosts with an agent (topology.ts). */
export const HOSTS = ['a', 'b', 'c'] as const;

/** What scripts/lib/sample-service.ts answers. */
export interface Reply {
  readonly service: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly remote: string;
}

export interface Answer {
  readonly status: number;
  readonly body: string;
}

/** A program that runs until it is told to end. */
export interface Background {
  /** Closes its stdin and waits for its end: what it wrote to stdout. */
  finish(): Promise<string>;
}

export interface World {
  /** A folder for this run's own files, removed by close. */
  readonly temp: string;
  readonly signal: AbortSignal;
  lab(...args: string[]): Promise<Run>;
  labWith(options: RunOptions, ...args: string[]): Promise<Run>;
  /** Runs a program on a lab host, as `user` or root. */
  on(host: string, user: string | undefined, command: readonly string[], options?: RunOptions): Promise<Run>;
  /** Starts a program on a host and waits until `ready` matches its output (stdout and stderr). It ends with the world at the latest. */
  start(host: string, user: string | undefined, command: readonly string[], ready: RegExp): Promise<Background>;
  meshctl(args: readonly string[], options?: RunOptions): Promise<Run>;
  /** meshctl apply of YAML; throws with its words when refused. */
  apply(yaml: string): Promise<string>;
  /** GET by curl on a host as a workload's user: status 0 when the connection failed. */
  curl(
    host: string,
    user: string | undefined,
    url: string,
    args?: readonly string[],
  ): Promise<{ status: number; body: string; reply?: Reply; seconds: number }>;
  /** What `scripts/lab env` prints. */
  env(): Promise<Readonly<Record<'MESH_API' | 'MESH_CA_FILE' | 'MESH_TOKEN', string>>>;
  /** A call to the controller's REST API with the admin's token. */
  rest(method: string, path: string, body?: unknown): Promise<Answer>;
  meshStatus(): Promise<MeshStatus>;
  /** GET on the admin socket of a host's agent. */
  agent(host: string, path: string): Promise<unknown>;
  agentStatus(host: string): Promise<AgentStatus>;
  /** GET on the admin socket of a host's Envoy. */
  envoy(host: string, path: string): Promise<string>;
  /** Polls until `condition` gives a truthy value; throws with `what` after `timeoutMs`. */
  until<T>(
    condition: () => Promise<T> | T,
    what: string | (() => string),
    timeoutMs: number,
    everyMs?: number,
  ): Promise<NonNullable<T>>;
  /** Every host verified the controller's latest generation and its Envoy acknowledged it. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

/** `signal` ends whatever is under way. */
export function createWorld(signal: AbortSignal): World {
  const temp = mkdtempSync(join(tmpdir(), 'hostmesh-demo-'));
  chmodSync(temp, 0o711); // what an agent's user owns in it, it must be able to reach
  const labCommand = join(ROOT, 'scripts/lab');
  const children = new Set<ChildProcess>();
  const userArgs = (user: string | undefined) => (user === undefined ? [] : ['--user', user]);
  const labWith: World['labWith'] = (options, ...args) =>
    run(labCommand, args, { timeoutMs: 120_000, signal, ...options });
  let labEnv: Awaited<ReturnType<World['env']>> | undefined;
  const env: World['env'] = async () => {
    labEnv ??= parseEnv(must(await labWith({}, 'env'), 'scripts/lab env').stdout);
    return labEnv;
  };
  const world: World = {
    temp,
    signal,
    lab: (...args) => labWith({}, ...args),
    labWith,
    env,
    on: (host, user, command, options) =>
      run(labCommand, ['exec', host, ...userArgs(user), '--', ...command], { signal, ...options }),
    start: (host, user, command, ready) => {
      const child = spawn(labCommand, ['exec', host, ...userArgs(user), '--', ...command], {
        stdio: ['pipe', 'pipe', 'pipe'],
        detached: true,
      });
      children.add(child);
      return background(child, ready, `${command.at(-1)} on ${host}`, () => children.delete(child));
    },
    meshctl: async (args, options = {}) =>
      run(process.execPath, [join(ROOT, 'cli/main.ts'), ...args], {
        signal,
        ...options,
        env: { ...(await env()), ...options.env },
      }),
    async apply(yaml) {
      const { stdout, stderr } = must(await world.meshctl(['apply', '-f', '-'], { input: yaml }), 'meshctl apply');
      return stdout + stderr;
    },
    async curl(host, user, url, args = []) {
      const format = '\n%{http_code} %{time_total}';
      const { stdout } = await world.on(host, user, ['curl', '-s', '-m', '20', '-w', format, ...args, url]);
      return parseCurl(stdout);
    },
    async rest(method, path, body) {
      const { MESH_API, MESH_CA_FILE, MESH_TOKEN } = await env();
      const headers = { authorization: `Bearer ${MESH_TOKEN}`, 'content-type': 'application/json' };
      const options = { method, headers, ca: readFileSync(MESH_CA_FILE), timeout: 30_000, agent: false };
      const url = new URL(path, MESH_API);
      return send((got) => httpsRequest(url, options, got), body === undefined ? undefined : JSON.stringify(body));
    },
    async meshStatus() {
      const { status, body } = await world.rest('GET', OPERATOR_API.status);
      check(status === 200, `GET status answered ${status}: ${body.slice(0, 300)}`);
      return JSON.parse(body) as MeshStatus;
    },
    async agent(host, path) {
      return JSON.parse(await overSocket(`${pathsOf(host).runDir}/admin.sock`, path)) as unknown;
    },
    agentStatus: async (host) => (await world.agent(host, ADMIN_API.status)) as AgentStatus,
    envoy: (host, path) => overSocket(proxyPaths(pathsOf(host)).adminSocket, path),
    async until(condition, what, timeoutMs, everyMs = 50) {
      const end = performance.now() + timeoutMs;
      for (;;) {
        signal.throwIfAborted();
        const value = await condition();
        if (value) return value as NonNullable<typeof value>;
        if (performance.now() > end)
          throw new Error(`not within ${timeoutMs / 1000} s: ${typeof what === 'string' ? what : what()}`);
        await new Promise((resolve) => setTimeout(resolve, everyMs));
      }
    },
    settled: () => settled(world),
    async close() {
      for (const child of children) endGroup(child.pid, 'SIGTERM');
      rmSync(temp, { recursive: true, force: true });
    },
  };
  return world;
}

async function settled(world: World): Promise<void> {
  const { generation } = await world.meshStatus();
  let behind = '';
  await world.until(
    async () => {
      const all = await Promise.all(HOSTS.map((host) => world.agentStatus(host).catch(() => undefined)));
      behind = HOSTS.map((host, i) => `${host} at ${all[i]?.ackedGeneration ?? 'nothing'}`).join(', ');
      return all.every((one) => one !== undefined && one.ackedGeneration >= generation);
    },
    () => `every Envoy acknowledged generation ${generation}: ${behind}`,
    30_000,
    20,
  );
}

function background(child: ChildProcess, ready: RegExp, what: string, ended: () => void): Promise<Background> {
  return new Promise((resolve, reject) => {
    let stdout = '';
    let words = '';
    const heard = (text: string) => {
      words = (words + text).slice(-4000);
      if (ready.test(words)) resolve({ finish });
    };
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      heard(text);
    });
    child.stderr?.setEncoding('utf8').on('data', heard);
    child.stdin?.on('error', () => {}); // it ended by itself
    const gone = new Promise<void>((resolveGone) => child.once('close', () => resolveGone()));
    const finish = async () => {
      child.stdin?.end();
      await gone;
      return stdout;
    };
    child.once('error', reject);
    child.once('close', (code) => {
      ended();
      reject(new Error(`${what} ended with ${code} before it was ready: ${words}`));
    });
  });
}

function overSocket(socketPath: string, path: string): Promise<string> {
  const options: RequestOptions = { socketPath, path, timeout: 20_000 };
  return send((got) => httpRequest(options, got)).then(({ status, body }) => {
    check(status === 200, `GET ${path} on ${socketPath} answered ${status}: ${body.slice(0, 300)}`);
    return body;
  });
}

function send(
  open: (got: (response: IncomingMessage) => void) => ReturnType<typeof httpRequest>,
  body?: string,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = open((response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.once('error', reject);
      response.once('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
    });
    asked.once('timeout', () => asked.destroy(new Error('no answer in time')));
    asked.once('error', reject);
    asked.end(body);
  });
}

/** Body, status and time out of what curl prints with the format of `World.curl`. */
export function parseCurl(stdout: string): { status: number; body: string; reply?: Reply; seconds: number } {
  const cut = stdout.lastIndexOf('\n');
  const [status = '0', seconds = '0'] = stdout.slice(cut + 1).split(' ');
  const body = stdout.slice(0, Math.max(0, cut));
  const reply = parseReply(body);
  return { status: Number(status), seconds: Number(seconds), body, ...(reply === undefined ? {} : { reply }) };
}

function parseReply(body: string): Reply | undefined {
  try {
    const value = JSON.parse(body) as Reply | null;
    return typeof value?.service === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}

/** `NAME=VALUE` lines. Throws when one of the three that the lab prints is missing. */
export function parseEnv(text: string): Awaited<ReturnType<World['env']>> {
  const found = Object.fromEntries(
    text.split('\n').flatMap((line) => {
      const at = line.indexOf('=');
      return at < 0 ? [] : [[line.slice(0, at), line.slice(at + 1)]];
    }),
  ) as Record<string, string>;
  const { MESH_API = '', MESH_CA_FILE = '', MESH_TOKEN = '' } = found;
  check(MESH_API && MESH_CA_FILE && MESH_TOKEN, 'scripts/lab env did not print MESH_API, MESH_CA_FILE and MESH_TOKEN');
  return { MESH_API, MESH_CA_FILE, MESH_TOKEN };
}

/** The lab's own folder: it exists while a lab is up. */
export const LAB_FOLDER = LAB_DIR;
