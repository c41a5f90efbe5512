/**
 * The process that is a machine: systemd-nspawn, started again when the machine reboots. In: a root folder and a network namespace. Out: its
 * PID 1, alive or not. Must never outlive this process, nor end a process that it did not start; a dead machine is said to be dead at once.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, openSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';

/** SIGRTMIN+4 to a systemd: power off (systemd(1)). */
const POWER_OFF = 38;
/** systemd-nspawn --keep-unit ends so when the machine wants to be started again. */
const REBOOT = 133;
const POWER_OFF_MS = 20_000;
const KILL_MS = 5000;

/** Roots of the hierarchies in which systemd makes its groups: cgroup v2, or v1 with or without the second beside it. */
const CGROUPS = ['/sys/fs/cgroup', '/sys/fs/cgroup/systemd', '/sys/fs/cgroup/unified'];
/**
 * nspawn makes its groups below that of whoever starts it: machines that share one see each other's units of the same name, cannot kill them (EIO)
 * and remove groups that the other is about to use (219/CGROUP).
 */
const OWN_CGROUP = `for root in ${CGROUPS.join(' ')}; do
  [ ! -w $root/cgroup.procs ] || { mkdir -p $root/$0 && echo $$ > $root/$0/cgroup.procs; } || exit 1
done
exec "$@"`;

/** What a machine is started from. share: a folder that it sees, read-only, as /srv/share. log: where its console goes. */
export interface NspawnOptions {
  readonly host: string;
  readonly root: string;
  readonly netns: string;
  readonly share: string;
  readonly log: string;
}

export interface Nspawn {
  /** The machine's PID 1 as this machine sees it, undefined between two boots. Throws, with the console's last words, when it is dead. */
  leader(): number | undefined;
  /** Powers it off, kills it when that takes too long; 25 s at most. Never throws. */
  stop(): Promise<void>;
}

/** Starts a machine. Every process of it ends when this process ends. */
export function startNspawn({ host, root, netns, share, log }: NspawnOptions): Nspawn {
  const out = openSync(log, 'a');
  const group = `machine-${host}-${netns}`;
  const launch = () =>
    // setpriv: it ends with this process, however that ends
    spawn(
      'sh',
      ['-c', OWN_CGROUP, group, 'setpriv', '--pdeathsig=KILL', 'nsenter', `--net=/run/netns/${netns}`, ...command()],
      { stdio: ['ignore', out, out] },
    );
  const command = () => [
    'systemd-nspawn',
    '--quiet',
    `--directory=${root}`,
    `--machine=${host}-${netns}`,
    `--hostname=${host}`,
    '--register=no',
    '--keep-unit',
    '--network-bridge=br0',
    `--bind-ro=${share}:/srv/share`,
    '--boot',
    '--console=pipe',
  ];
  let child: ChildProcess;
  let [dead, stopping] = ['', false];
  const ended = new Promise<void>((done) => {
    const boot = () => {
      child = launch();
      child.once('error', (error) => {
        dead = error.message;
        done();
      });
      child.once('close', (code, signal) => {
        if (code === REBOOT && !stopping) return boot();
        dead = `ended with ${signal ?? code}`;
        for (const root of CGROUPS) removeGroup(join(root, group));
        done();
      });
    };
    boot();
  });
  const leader = () => {
    if (dead !== '') throw new Error(`${host} is dead (${dead}): ${readFileSync(log, 'utf8').slice(-500)}`);
    return childrenOf(child.pid).find(isPid1);
  };
  return {
    leader,
    async stop() {
      if (dead !== '') return;
      stopping = true;
      appendFileSync(log, '--- stopped by the test\n');
      if (!powerOff(leader())) child.kill('SIGKILL');
      if (await within(POWER_OFF_MS, ended)) return;
      child.kill('SIGKILL');
      await within(KILL_MS, ended);
    },
  };
}

/** False when there is no such process any more. */
function powerOff(pid: number | undefined): boolean {
  try {
    return pid !== undefined && process.kill(pid, POWER_OFF);
  } catch {
    return false;
  }
}

async function within(ms: number, ended: Promise<void>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((done) => {
    timer = setTimeout(() => done(false), ms);
  });
  const inTime = await Promise.race([ended.then(() => true), late]);
  clearTimeout(timer);
  return inTime;
}

/** Deepest first; what is in use or gone stays as it is. */
function removeGroup(path: string): void {
  try {
    for (const entry of readdirSync(path, { withFileTypes: true }))
      if (entry.isDirectory()) removeGroup(join(path, entry.name));
    rmdirSync(path);
  } catch {
    // left-overs are empty, and are used again by the next machine of this name
  }
}

function childrenOf(pid: number | undefined): number[] {
  return read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number);
}

/** systemd-nspawn's first child only makes ready and goes; PID 1 of a namespace of its own, once systemd runs in it, is the machine. */
function isPid1(pid: number): boolean {
  return /^NSpid:.*\s1$/m.test(read(`/proc/${pid}/status`)) && read(`/proc/${pid}/comm`).trim() !== 'systemd-nspawn';
}

/** A file of /proc; empty when its process is gone. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
