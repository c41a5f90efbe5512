import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createExec, type Exec } from '../../agent/host/exec.ts';
import type { Sockets } from '../../agent/host/sockets.ts';
import { parseListeners } from '../../agent/host/sockets.ts';

/** One network namespace with a stand-in process that listens and connects as any uid. */
export interface Space {
  readonly name: string;
  readonly exec: Exec;
  readonly sockets: Sockets;
  /** /proc of the stand-in: its `net` shows this namespace. */
  readonly procPath: string;
  listen(uid: number, host: string, port: number, tag: string): Promise<void>;
  listenUdp(uid: number, host: string, port: number, tag: string): Promise<void>;
  /** Who answered, or the error's code. */
  connect(uid: number, host: string, port: number, from?: string): Promise<string>;
  /** `from`: source port. */
  askUdp(uid: number, host: string, port: number, keep?: boolean, from?: number): Promise<string>;
  closePort(port: number): Promise<void>;
  run(...args: string[]): string;
  /** iptables-save of both families and, for nft, the names of all tables; counters and dates taken out. */
  snapshot(backend?: 'nft' | 'legacy'): string;
  close(): Promise<void>;
}

/** Makes a fresh namespace `redirect-NAME-PID` with lo up. `backend` decides what plain `iptables` means inside. Needs root. */
export function openSpace(label: string, backend: 'nft' | 'legacy' = 'nft'): Space {
  const name = `redirect-${label}-${process.pid}`;
  const plain = createExec();
  const run = (...args: string[]) =>
    execFileSync('ip', ['netns', 'exec', name, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  execFileSync('ip', ['netns', 'add', name]);
  run('ip', 'link', 'set', 'lo', 'up');
  run('sh', '-c', 'echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start'); // servers of any uid on 22, 53, 80
  const file = fileURLToPath(new URL('./redirect-standin.ts', import.meta.url));
  const child = spawn('ip', ['netns', 'exec', name, process.execPath, file], { stdio: ['pipe', 'pipe', 'inherit'] });
  const send = conversation(child);
  const must = async (command: object) => {
    const answer = await send(command);
    if (answer !== 'ok') throw new Error(`${JSON.stringify(command)}: ${answer}`);
  };
  const renamed = (program: string) =>
    /^ip6?tables(-|$)/.test(program) ? program.replace('tables', `tables-${backend}`) : program;
  const exec: Exec = (program, args, options) =>
    plain('ip', ['netns', 'exec', name, renamed(program), ...args], options);
  const proc = (path: string) => run('cat', `/proc/net/${path}`);
  return {
    name,
    exec,
    procPath: `/proc/${child.pid}`,
    sockets: {
      listeners: async () => [...parseListeners(proc('tcp'), 'v4'), ...parseListeners(proc('tcp6'), 'v6')],
      udp: async () => [...parseListeners(proc('udp'), 'v4', '07'), ...parseListeners(proc('udp6'), 'v6', '07')],
      holders: async () => new Map(),
    },
    listen: (uid, host, port, tag) => must({ op: 'listen', uid, host, port, tag }),
    listenUdp: (uid, host, port, tag) => must({ op: 'listen-udp', uid, host, port, tag }),
    connect: (uid, host, port, from) => send({ op: 'connect', uid, host, port, from }),
    askUdp: (uid, host, port, keep, from) => send({ op: 'ask-udp', uid, host, port, keep, from }),
    closePort: (port) => must({ op: 'close', port }),
    run,
    snapshot(which = backend) {
      const saves = ['iptables', 'ip6tables'].map((p) => run(p.replace('tables', `tables-${which}-save`)));
      const tables = which === 'nft' ? run('nft', 'list', 'tables') : '';
      return [...saves, tables]
        .join('\n')
        .replace(/^#.*$/gm, '')
        .replace(/\[\d+:\d+\]/g, '[0:0]');
    },
    async close() {
      child.stdin?.end();
      await new Promise((resolve) => (child.exitCode === null ? child.once('exit', resolve) : resolve(undefined)));
      execFileSync('ip', ['netns', 'del', name]);
    },
  };
}

const PROXY_UID = 13;

/** Listens where the rules lead to, as Envoy (uid 13) and the DNS sockets (root) do; answers `P15001`, `DNS15053` and so on. */
export async function standInProxy(
  space: Space,
  ports: readonly number[] = [15001, 15100, 15006, 15053, 15054],
): Promise<void> {
  for (const port of ports) {
    const dns = port === 15053 || port === 15054;
    for (const host of port === 15006 ? ['0.0.0.0', '::'] : ['127.0.0.1', '::1']) {
      await space.listen(dns ? 0 : PROXY_UID, host, port, dns ? `DNS${port}` : `P${port}`);
      if (dns) await space.listenUdp(0, host, port, `DNS${port}`);
    }
  }
}

/** Joins two spaces by a veth pair: 10.9.0.N/24 and fd09::N/64, N = 1 and 2. */
export function join(a: Space, b: Space): void {
  execFileSync('ip', ['link', 'add', 'eth0', 'netns', a.name, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', b.name]);
  for (const [space, n] of [
    [a, 1],
    [b, 2],
  ] as const) {
    space.run('ip', 'addr', 'add', `10.9.0.${n}/24`, 'dev', 'eth0');
    space.run('ip', '-6', 'addr', 'add', `fd09::${n}/64`, 'dev', 'eth0', 'nodad');
    space.run('ip', 'link', 'set', 'eth0', 'up');
  }
}

function conversation(child: ChildProcess): (command: object) => Promise<string> {
  const waiting: ((answer: string) => void)[] = [];
  createInterface({ input: child.stdout! }).on('line', (line) => waiting.shift()?.(JSON.parse(line) as string));
  return (command) =>
    new Promise((resolve) => {
      waiting.push(resolve);
      child.stdin?.write(`${JSON.stringify(command)}\n`);
    });
}
