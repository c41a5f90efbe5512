/** mesh-controller and meshctl as processes, for tests. In: a folder of the test's own. Out: exit codes, texts, a running controller. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../controller/main.ts', import.meta.url));
const MESHCTL = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));

export interface Finished {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
}

export interface Spawned {
  readonly child: ChildProcess;
  readonly finished: Promise<Finished>;
}

function start(program: string, args: readonly string[], env: Record<string, string>, stdin = ''): Spawned {
  const child = spawn(process.execPath, [program, ...args], {
    env: { PATH: process.env.PATH ?? '', ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const text = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text.out += chunk;
  });
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    text.err += chunk;
  });
  child.stdin.on('error', () => {}).end(stdin);
  const finished = once(child, 'close').then(([code, signal]) => ({ code, signal, ...text }) as Finished);
  return { child, finished };
}

/** `mesh-controller ARGS`, not waited for. */
export const spawnController = (...args: string[]): Spawned => start(MAIN, args, {});

/** `mesh-controller ARGS` to its end. */
export const controllerCommand = (...args: string[]): Promise<Finished> => spawnController(...args).finished;

/** Runs `meshctl` as the admin whose files lie in `stateDir`. */
export function createMeshctl(stateDir: string, restPort: number, env: Record<string, string> = {}) {
  const settings = {
    HOME: '/nonexistent',
    MESH_API: `https://127.0.0.1:${restPort}`,
    MESH_CA_FILE: join(stateDir, 'ca.pem'),
    MESH_TOKEN_FILE: join(stateDir, 'admin-token'),
    ...env,
  };
  return (args: readonly string[], stdin?: string): Promise<Finished> => start(MESHCTL, args, settings, stdin).finished;
}

export interface Running {
  readonly pid: number;
  /** Fields of each line of its log so far. */
  readonly log: readonly Record<string, unknown>[];
  /** All that it wrote. */
  text(): string;
  signal(name: NodeJS.Signals): void;
  /** SIGTERM, or the signal given; how it ended. */
  stop(name?: NodeJS.Signals): Promise<Finished>;
}

/** Starts `run` and resolves when it serves. Rejects with its words when it ends before. */
export async function runController(configPath: string): Promise<Running> {
  const { child, finished } = spawnController('run', '--config', configPath);
  const log: Record<string, unknown>[] = [];
  let text = '';
  const ready = new Promise<void>((resolve) => {
    createInterface({ input: child.stderr as NodeJS.ReadableStream }).on('line', (line) => {
      text += `${line}\n`;
      const fields = line.startsWith('{') ? JSON.parse(line) : { message: line };
      log.push(fields);
      if (fields.message === 'ready') resolve();
    });
  });
  await Promise.race([
    ready,
    finished.then(({ code, err }) => {
      throw new Error(`mesh-controller ended with ${code}: ${err}`);
    }),
  ]);
  return {
    pid: child.pid as number,
    log,
    text: () => text,
    signal: (name) => void child.kill(name),
    async stop(name = 'SIGTERM') {
      if (child.exitCode === null && child.signalCode === null) child.kill(name);
      return await finished;
    },
  };
}

/** Two ports of loopback that nobody has at this moment. */
export async function freePorts(): Promise<{ rest: number; agents: number }> {
  const servers = [createServer(), createServer()];
  const ports = servers.map(async (server) => {
    await once(server.listen(0, '127.0.0.1'), 'listening');
    return (server.address() as { port: number }).port;
  });
  const [rest, agents] = (await Promise.all(ports)) as [number, number];
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return { rest, agents };
}

/** Text of a controller.yaml on loopback. */
export const controllerYaml = (stateDir: string, ports: { rest: number; agents: number }, more = ''): string =>
  `trustDomain: mesh.test
addresses: [127.0.0.1]
listen: 127.0.0.1
stateDir: ${stateDir}
ports: {rest: ${ports.rest}, agents: ${ports.agents}}
${more}`;
