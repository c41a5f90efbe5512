import { chmod, link, lstat, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '../../api/errors.ts';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';
import { delay } from '../../runtime/clock.ts';
import { networkNamespace } from '../host/sockets.ts';
import type { RedirectResult } from './result.ts';

/** What the oneshot must remember between runs, in a folder that only root can write. Gone with a reboot, as the rules are. */
export interface RedirectState {
  readonly bootId: string;
  /** Inode of the network namespace: the state of another one says nothing here. */
  readonly netns: number;
  /** `v4/nat` and so on: tables that did not exist before us and are deleted again when empty. */
  readonly absentBefore: readonly string[];
  /** ::6 was on lo before us: it stays. */
  readonly addressBefore: boolean;
  /** ownedText of what was wanted and of what the kernel showed afterwards, by `FAMILY/TABLE`: iptables versions print differently. */
  readonly applied: Readonly<Record<string, { readonly wanted: string; readonly shown: string }>>;
  /** True once the agent has confirmed that it is healthy through the rules. */
  readonly confirmed: boolean;
  /** The revert timer that runs now. `deadline`: ms since the epoch. */
  readonly revert?: { readonly id: string; readonly deadline: number };
}

const FILE = 'state.json';
const STATUS = 'status';
const LOCK = 'lock';
const LOCK_WAIT_MS = 20_000;

/** Makes the folder (0700) or checks that it is root's own: whoever else could write it would decide what clean-up does. */
export async function openStateDir(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const info = await lstat(path);
  if (!info.isDirectory() || info.uid !== process.getuid?.())
    throw new MeshError('REDIRECT_STATE', `${path} must be a folder of the user who runs this`, { details: { path } });
  await chmod(path, 0o700);
}

/** This boot and network namespace: what a state must be of to count. */
export async function currentPlace(): Promise<Pick<RedirectState, 'bootId' | 'netns'>> {
  const [bootId, netns] = await Promise.all([readFile('/proc/sys/kernel/random/boot_id', 'utf8'), networkNamespace()]);
  return { bootId: bootId.trim(), netns };
}

/** The state of this boot and namespace, or undefined. A broken file is as none: every rule is found by its chain, not by this file. */
export async function loadState(dir: string): Promise<RedirectState | undefined> {
  const text = await readFile(join(dir, FILE), 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    const state = JSON.parse(text) as RedirectState;
    const here = await currentPlace();
    return state.bootId === here.bootId && state.netns === here.netns && Array.isArray(state.absentBefore)
      ? state
      : undefined;
  } catch {
    return undefined;
  }
}

export async function saveState(dir: string, state: RedirectState): Promise<void> {
  await writeFileAtomic(join(dir, FILE), JSON.stringify(state));
}

export async function removeState(dir: string): Promise<void> {
  await rm(join(dir, FILE), { force: true });
}

/** Keeps what a run did, one word, where redirect-watch reads it: the result itself lies in a folder that the agent's user may fill with anything. */
export async function saveStatus(dir: string, status: RedirectResult['status']): Promise<void> {
  await openStateDir(dir);
  await writeFileAtomic(join(dir, STATUS), `${status}\n`);
}

/**
 * Runs `work` while no other oneshot of this host runs. The lock file names its process; that of a dead process is taken over. Throws
 * REDIRECT_BUSY after 20 s.
 */
export async function withLock<T>(dir: string, work: () => Promise<T>, waitMs = LOCK_WAIT_MS): Promise<T> {
  const path = join(dir, LOCK);
  const deadline = performance.now() + waitMs;
  while (!(await tryLock(path))) {
    if (performance.now() > deadline) throw new MeshError('REDIRECT_BUSY', `another redirection run holds ${path}`);
    await delay(25);
  }
  try {
    return await work();
  } finally {
    await rm(path, { force: true });
  }
}

async function tryLock(path: string): Promise<boolean> {
  const file = await open(path, 'wx', 0o600).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST') return undefined;
    throw error;
  });
  if (file !== undefined) {
    try {
      await file.writeFile(`${process.pid} ${await startTime(process.pid)}`);
    } finally {
      await file.close();
    }
    return true;
  }
  const content = await readFile(path, 'utf8').catch(() => '');
  const [pid = '', started = ''] = content.split(' ');
  // An empty file is a run between its two steps, or one that died there: only its age tells.
  const age = Date.now() - ((await lstat(path).catch(() => undefined))?.mtimeMs ?? Date.now());
  const dead = pid === '' ? age > 2000 : (await startTime(Number(pid))) !== started;
  if (dead) await removeStale(path, content);
  return false;
}

/** Moves the dead run's lock away. Another waiter may have done so and locked meanwhile: then what was moved is its lock, and goes back. */
async function removeStale(path: string, content: string): Promise<void> {
  const aside = `${path}.${process.pid}`;
  const moved = await rename(path, aside).then(
    () => true,
    () => false,
  );
  if (!moved) return;
  if ((await readFile(aside, 'utf8')) !== content) await link(aside, path).catch(() => {});
  await rm(aside, { force: true });
}

/** Field 22 of /proc/PID/stat: with the pid it names a process for good. Empty when there is none. */
async function startTime(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}
