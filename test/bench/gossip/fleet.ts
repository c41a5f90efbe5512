/** Members of one kind in as many processes as serve, on both sides of a network, and what is known of them together. */
import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { createTestCa } from '../../builders/test-ca.ts';
import { cpuSeconds } from '../processes.ts';
import type { Network, Side } from './network.ts';
import type { Command, MemberSpec, MeshSpec, Report } from './protocol.ts';

/** Some processes and their members. `lone` and `frozen` have one member, `victims` a tenth. */
export interface Group {
  readonly name: 'left' | 'right' | 'victims' | 'lone' | 'frozen';
  readonly members: readonly string[];
  /** Of its processes. */
  cpuSeconds(): number;
  /** To each process, of `names` those that it has. */
  send(command: Command): Promise<Report>;
  signal(signal: NodeJS.Signals): void;
}

export interface Fleet {
  readonly size: number;
  readonly groups: Readonly<Record<Group['name'], Group>>;
  /** Reports of the groups that live and are not frozen, together. */
  report(): Promise<Report>;
  reset(): Promise<void>;
  /** Resolves with the milliseconds until all living members believe exactly `alive` others alive; rejects after `withinMs`. */
  whole(alive: number, withinMs: number): Promise<number>;
  cpuSeconds(): number;
  close(): Promise<void>;
}

/** What runs so many members in one process: a command that obeys protocol.ts. */
export type Program = (members: number) => readonly string[];

const POLL_MS = 100;
/** Members of a process. More processes start more hosts at the same time: nineteen did not get 200 hosts going on two cores within two minutes. */
const PER_PROCESS = 44;
const PORT = 15300;
const SIDE: Readonly<Record<Group['name'], Side>> = { left: 'a', right: 'b', victims: 'b', lone: 'a', frozen: 'a' };

export async function createFleet(program: Program, size: number, network: Network): Promise<Fleet> {
  const dir = await mkdtemp(join(tmpdir(), 'bench-gossip-'));
  const ca = createTestCa();
  const tenth = Math.max(1, Math.floor(size / 10));
  const half = Math.floor((size - tenth - 2) / 2);
  const counts = { left: half, right: size - tenth - 2 - half, victims: tenth, lone: 1, frozen: 1 };
  const next = { a: 0, b: 0 };
  const placed = Object.entries(counts).map(([name, count]) => {
    const side = SIDE[name as Group['name']];
    const members = Array.from({ length: count }, (_, n) => {
      const address = network.address(side, next[side]++);
      return { name: `${name}${n}`, address };
    });
    return { name: name as Group['name'], side, members };
  });
  const everyone = placed.flatMap(({ members }) => members);
  const addressesOf = (name: Group['name']) => placed.find((group) => group.name === name)?.members ?? [];
  const mesh: MeshSpec = {
    trustDomain: ca.trustDomain,
    intermediatePem: ca.intermediatePem,
    granted: everyone.map(({ name, address }) => [name, address]),
    seeds: [addressesOf('left')[0], addressesOf('right')[0], addressesOf('left')[1]].flatMap((m) => m?.address ?? []),
    port: PORT,
    dir,
  };
  const groups = await Promise.all(
    placed.map(async ({ name, side, members }) => {
      const parts = chunks(members, PER_PROCESS);
      const group = launchGroup(name, parts, (count) => [...network.inside(side), ...program(count)]);
      await group.start((part) => {
        const specs = part.map(({ name: host, address }): MemberSpec => {
          const { chainPem, privateKeyPem } = ca.host(host);
          return { name: host, address, chainPem, privateKeyPem };
        });
        return { op: 'start', mesh, members: specs };
      });
      return group;
    }),
  );
  const living = () => groups.filter((group) => !group.silent());
  const report = async () => join_(await Promise.all(living().map((group) => group.send({ op: 'report' }))));
  return {
    size,
    groups: Object.fromEntries(groups.map((group) => [group.name, group])) as unknown as Fleet['groups'],
    report,
    async reset() {
      await Promise.all(living().map((group) => group.send({ op: 'reset' })));
    },
    async whole(alive, withinMs) {
      const begun = performance.now();
      for (;;) {
        const { members } = await report();
        const wrong = Object.values(members).filter((member) => member.alive !== alive).length;
        const took = performance.now() - begun;
        if (wrong === 0) return took;
        if (took > withinMs) throw new Error(`${wrong} members of ${size} are not whole after ${withinMs} ms`);
        await new Promise((done) => setTimeout(done, POLL_MS));
      }
    },
    cpuSeconds: () => living().reduce((sum, group) => sum + group.cpuSeconds(), 0),
    async close() {
      await Promise.all(groups.map((group) => group.end()));
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function join_(reports: readonly Report[]): Report {
  return {
    members: Object.assign({}, ...reports.map((report) => report.members)),
    published: reports.flatMap((report) => report.published ?? []),
    arrivals: reports.flatMap((report) => report.arrivals ?? []),
    deaths: reports.flatMap((report) => report.deaths ?? []),
    rssMb: Math.max(...reports.map((report) => report.rssMb)),
  };
}

interface Placed {
  readonly name: string;
  readonly address: string;
}

interface Launched extends Group {
  start(command: (members: readonly Placed[]) => Command): Promise<unknown>;
  /** Killed or frozen. */
  silent(): boolean;
  end(): Promise<void>;
}

function chunks<T>(list: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, n) => list.slice(n * size, (n + 1) * size));
}

function launchGroup(
  name: Group['name'],
  parts: readonly (readonly Placed[])[],
  command: (members: number) => readonly string[],
): Launched {
  const processes = parts.map((part) => ({
    part,
    names: part.map((m) => m.name),
    child: launch(name, command(part.length)),
  }));
  let silent = false;
  return {
    name,
    members: parts.flat().map((member) => member.name),
    cpuSeconds: () => processes.reduce((sum, { child }) => sum + cpuSeconds(child.pid), 0),
    start: (make) => Promise.all(processes.map(({ part, child }) => child.send(make(part)))),
    silent: () => silent,
    async send(command) {
      const answers = processes.map(({ names, child }): Promise<Report> | undefined => {
        if (!('names' in command)) return child.send(command);
        const own = command.names.filter((member) => names.includes(member));
        return own.length === 0 ? undefined : child.send({ ...command, names: own });
      });
      return join_(await Promise.all(answers.filter((answer) => answer !== undefined)));
    },
    signal(signal) {
      silent = signal !== 'SIGCONT';
      for (const { child } of processes) child.signal(signal);
    },
    end: async () => void (await Promise.all(processes.map(({ child }) => child.end()))),
  };
}

interface Process {
  readonly pid: number;
  send(command: Command): Promise<Report>;
  signal(signal: NodeJS.Signals): void;
  end(): Promise<void>;
}

/** `ip netns exec` becomes the program itself: its pid is the program's. */
function launch(name: Group['name'], command: readonly string[]): Process {
  const [file = '', ...args] = command;
  const child: ChildProcess = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const waiting: ((line: string) => void)[] = [];
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => waiting.shift()?.(line));
  child.stdin?.on('error', () => {});
  const ended = new Promise<void>((done) => void child.once('close', () => done()));
  return {
    pid: child.pid as number,
    send(command) {
      const answer = new Promise<string>((done, fail) => {
        waiting.push(done);
        void ended.then(() => fail(new Error(`the process of ${name} has ended`)));
      });
      child.stdin?.write(`${JSON.stringify(command)}\n`);
      return answer.then((line) => JSON.parse(line) as Report);
    },
    signal: (signal) => void child.kill(signal),
    async end() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}
