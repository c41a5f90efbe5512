/**
 * Whole machines on this one: Debian under systemd-nspawn, each with a root and a network namespace of its own, joined by a bridge in a
 * namespace that no other network reaches. In: build/machine/base (machine-base). Out: booted machines that run commands. Must never touch
 * this machine's network, and leaves nothing: roots, namespaces and processes go with `down`.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { startNspawn } from './machine-nspawn.ts';

const ROOT = resolve(import.meta.dirname, '../../..');
const BOOT_MS = 60_000;
const EXEC_MS = 60_000;
const POLL_MS = 50;

/** What a command on a machine gave. */
export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export interface ExecOptions {
  readonly input?: string;
  /** Default 60 s; then the command is killed and it throws. */
  readonly timeoutMs?: number;
  /** A user of the machine; default root. */
  readonly user?: string;
}

export interface Machine {
  readonly name: string;
  readonly address: string;
  /** Its root folder on this machine. */
  readonly root: string;
  /** Runs a shell command there; resolves with its code whatever it is. Rejects at once when the machine is dead. */
  exec(command: string, options?: ExecOptions): Promise<Ran>;
  /** exec that throws, with what was printed, unless the code is 0. Resolves with stdout. */
  must(command: string, options?: ExecOptions): Promise<string>;
  /** Starts a command that goes on; end its stdin, or kill it, to end it. */
  start(command: string, user?: string): ChildProcess;
  /** Writes a file there; folders are made. */
  write(path: string, text: string, mode?: number): void;
  /** Reboots it as `systemctl reboot` does and waits until systemd has started its units. */
  reboot(): Promise<void>;
  /** Powers it off, 25 s at most; never throws, also when it is dead. */
  stop(): Promise<void>;
}

export interface World {
  /** Boots a machine with this last number of its address. */
  boot(name: string, number: number): Promise<Machine>;
  /** Runs a command in the namespace of the bridge (10.213.0.254): what is outside the machines. */
  outside(command: string, args: readonly string[]): ChildProcess;
  readonly address: string;
  down(): Promise<void>;
}

/** Resolves when `holds` gives something but undefined or false; throws what was awaited after `withinMs`. */
export async function eventually<T>(
  what: string,
  withinMs: number,
  holds: () => Promise<T | undefined | false>,
): Promise<T> {
  const end = performance.now() + withinMs;
  for (;;) {
    const found = await holds();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

/** The namespace and its bridge. name: short, of this run alone. share: a folder of this machine that each sees, read-only, as /srv/share. */
export async function createWorld(name: string, share: string): Promise<World> {
  execFileSync(join(ROOT, 'scripts/lib/package/machine-base'), { stdio: ['ignore', 'ignore', 'inherit'] });
  const netns = `sys-${name}`;
  const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  // of a run that was killed; its machines ended with it
  if (existsSync(`/run/netns/${netns}`)) ip('netns', 'del', netns);
  ip('netns', 'add', netns);
  for (const args of [
    ['link', 'set', 'lo', 'up'],
    ['link', 'add', 'br0', 'type', 'bridge'],
    ['link', 'set', 'br0', 'up'],
    ['addr', 'add', '10.213.0.254/24', 'dev', 'br0'],
    ['addr', 'add', 'fd00:213::fe/64', 'dev', 'br0', 'nodad'],
  ])
    ip('-n', netns, ...args);
  const folder = join(ROOT, 'build/machine', name);
  rmSync(folder, { recursive: true, force: true });
  const boots: Promise<Machine>[] = [];
  const others: ChildProcess[] = [];
  return {
    address: '10.213.0.254',
    boot(host, number) {
      const boot = bootMachine({ host, number, netns, folder, share });
      boots.push(boot);
      return boot;
    },
    outside(command, args) {
      const child = spawn('nsenter', [`--net=/run/netns/${netns}`, command, ...args], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      others.push(child);
      return child;
    },
    async down() {
      for (const child of others) child.kill('SIGKILL');
      // a machine whose boot failed has stopped itself
      await Promise.all(boots.map((boot) => boot.then((machine) => machine.stop()).catch(() => {})));
      if (existsSync(`/run/netns/${netns}`)) ip('netns', 'del', netns);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

interface Place {
  readonly host: string;
  readonly number: number;
  readonly netns: string;
  readonly folder: string;
  readonly share: string;
}

function furnish(root: string, { host, number }: Place): void {
  mkdirSync(dirname(root), { recursive: true });
  execFileSync('cp', ['-a', '--reflink=auto', join(ROOT, 'build/machine/base'), root]);
  const put = (path: string, text: string) => writeFileSync(join(root, path), text);
  put('etc/hostname', `${host}\n`);
  put('etc/hosts', `127.0.0.1 localhost ${host}\n::1 localhost\n`);
  rmSync(join(root, 'etc/resolv.conf'), { force: true });
  put('etc/resolv.conf', 'nameserver 10.213.0.254\n');
  put('etc/machine-id', '');
  // its network, as a machine of its own has it: before network.target
  put(
    'etc/systemd/system/host0.service',
    `[Unit]
DefaultDependencies=no
Before=network-pre.target network.target
Wants=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip link set host0 up
ExecStart=ip address replace 10.213.0.${number}/24 dev host0
ExecStart=ip -6 address replace fd00:213::${number}/64 dev host0 nodad
ExecStart=ip route replace default via 10.213.0.254
`,
  );
  mkdirSync(join(root, 'etc/systemd/system/sysinit.target.wants'), { recursive: true });
  symlinkSync('/etc/systemd/system/host0.service', join(root, 'etc/systemd/system/sysinit.target.wants/host0.service'));
}

async function bootMachine(place: Place): Promise<Machine> {
  const { host, number, netns, folder, share } = place;
  const root = join(folder, host);
  furnish(root, place);
  const nspawn = startNspawn({ host, root, netns, share, log: `${root}.log` });
  const start = (command: string, user?: string) => {
    const leader = nspawn.leader();
    if (leader === undefined) throw new Error(`${host} is between two boots: ${command}`);
    return spawn('nsenter', entered(leader, command, user), { stdio: ['pipe', 'pipe', 'pipe'] });
  };
  const exec = async (command: string, options: ExecOptions = {}) =>
    collect(start(command, options.user), `${host}: ${command}`, options);
  /** Until PID 1, another one than `but`, has started its units; says what it still waits for otherwise. */
  const booted = async (but?: number) => {
    try {
      await eventually(`${host} has started its units`, BOOT_MS, async () => {
        const leader = nspawn.leader();
        if (leader === undefined || leader === but) return false;
        const { out } = await exec('systemctl is-system-running', { timeoutMs: BOOT_MS });
        return /running|degraded/.test(out);
      });
    } catch (error) {
      const why = 'systemctl is-system-running; systemctl list-jobs --no-pager; journalctl -b --no-pager -o cat -n 30';
      const ran = await exec(why, { timeoutMs: 10_000 }).catch((cause: Error) => ({ out: '', err: cause.message }));
      throw new Error(`${(error as Error).message}\n${ran.out}${ran.err}`, { cause: error });
    }
  };
  const machine: Machine = {
    name: host,
    address: `10.213.0.${number}`,
    root,
    exec,
    start,
    async must(command, options) {
      const ran = await exec(command, options);
      if (ran.code !== 0) throw new Error(`${host}: ${command}: exit ${ran.code}\n${ran.out}${ran.err}`);
      return ran.out;
    },
    write(path, text, mode = 0o644) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text, { mode });
    },
    async reboot() {
      const before = nspawn.leader();
      // the command's own connection goes with the machine
      await exec('systemctl reboot', { timeoutMs: BOOT_MS }).catch(() => {});
      await booted(before);
    },
    stop: nspawn.stop,
  };
  try {
    await booted();
    return machine;
  } catch (error) {
    await nspawn.stop();
    throw error;
  }
}

/** Arguments of nsenter that run a shell command in the machine whose PID 1 is `leader`. */
function entered(leader: number, command: string, user?: string): string[] {
  return [
    ...['-t', String(leader), '-m', '-u', '-i', '-n', '-p', '-C', '-r', '-w'],
    // the clock is the one of this machine: no command may set it
    ...['setpriv', '--bounding-set=-sys_time,-sys_module'],
    ...(user === undefined ? [] : ['setpriv', '--reuid', user, '--regid', user, '--init-groups']),
    ...['env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'LANG=C.UTF-8', 'HOME=/root', 'sh', '-c', command],
  ];
}

function collect(child: ChildProcess, what: string, { input = '', timeoutMs = EXEC_MS }: ExecOptions): Promise<Ran> {
  return new Promise((done, fail) => {
    let [out, err] = ['', ''];
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      out += text;
    });
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      err += text;
    });
    const late = setTimeout(() => {
      child.kill('SIGKILL');
      // what it started over there may hold them for long
      child.stdout!.destroy();
      child.stderr!.destroy();
      fail(new Error(`${what}: not done in ${timeoutMs} ms\n${out}${err}`));
    }, timeoutMs);
    child.once('error', fail);
    child.once('close', (code) => {
      clearTimeout(late);
      done({ code: code ?? -1, out, err });
    });
    child.stdin!.on('error', () => {});
    child.stdin!.end(input);
  });
}
