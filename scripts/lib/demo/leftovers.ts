/** What a lab could leave on the machine. In: nothing. Out: a snapshot, and what is there now that was not. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { ROOT_NODE } from '../lab/plan.ts';
import { LAB_FOLDER } from './world.ts';

/** Things of the machine, each as a line. */
export type Snapshot = ReadonlySet<string>;

/** Namespaces, the lab's device and folders, users, groups, name server files, and processes that run out of the work tree as hosts see it. */
export function snapshot(): Snapshot {
  return new Set([
    ...list('/run/netns')
      .filter(isOurs)
      .map((name) => `network namespace ${name}`),
    ...list('/etc/netns')
      .filter(isOurs)
      .map((name) => `folder /etc/netns/${name}`),
    ...names('/etc/passwd')
      .filter(isOurs)
      .map((name) => `user ${name}`),
    ...names('/etc/group')
      .filter(isOurs)
      .map((name) => `group ${name}`),
    ...list('/sys/class/net')
      .filter((name) => name === ROOT_NODE.device)
      .map((name) => `device ${name}`),
    ...(existsSync(LAB_FOLDER) ? [`folder ${LAB_FOLDER}`] : []),
    ...list('/proc')
      .filter((name) => /^\d+$/.test(name) && isNear(name) && commandOf(name).includes(LAB_FOLDER))
      .map((pid) => `process ${pid} ${commandOf(pid).slice(0, 100)}`),
  ]);
}

/** What `after` has that `before` had not. */
export function left(before: Snapshot, after: Snapshot): string[] {
  return [...after].filter((line) => !before.has(line)).sort();
}

/** What is left once the machine has settled: the kernel takes namespaces and their devices away in its own time. */
export async function leftAfter(before: Snapshot, timeoutMs: number): Promise<string[]> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const found = left(before, snapshot());
    if (found.length === 0 || performance.now() > end) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Names that a lab gives (lab/plan.ts, lab/users.ts): what others make on the machine meanwhile is theirs. */
function isOurs(name: string): boolean {
  return /^(hm|mesh)-/.test(name);
}

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

function names(file: string): string[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .flatMap((line) => line.split(':', 1))
    .filter((name) => name !== '');
}

/** In this machine's own process space: a container on it may well have a lab of its own. */
function isNear(pid: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`) === readlinkSync('/proc/self/ns/pid');
  } catch {
    return false; // it ended
  }
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return ''; // it ended
  }
}
