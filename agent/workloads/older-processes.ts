import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { effectiveUid, procHead } from '../host/processes.ts';

/** A process that ran before its user's traffic was captured: what it had open then goes on around the mesh. */
export interface OlderProcess {
  readonly pid: number;
  readonly name: string;
  readonly uid: number;
}

/** USER_HZ: what proc(5) counts start times in, on every platform that we ship for. */
const TICKS_PER_SECOND = 100;
const MAX_FOUND = 20;
/** A run of an exec probe, which ends by itself within its timeout: at boot the first may be older than the rules. */
const PROBE_RUN = /\/system\.slice\/mesh-probe-[0-9a-f]{16}@[^/\n]*\.service$/m;

/** Seconds since boot, the clock that processes' start times are on. At once: what starts after the call is no older than it. */
export function uptimeSeconds(procPath = '/proc'): number {
  return Number(readFileSync(`${procPath}/uptime`, 'utf8').split(' ')[0]);
}

/**
 * Processes of the uids in `since` that started before that uid's moment (seconds since boot); at most 20, by pid. Runs of exec probes, what cannot be read, or ended
 * meanwhile, are left out.
 */
export async function olderProcesses(since: ReadonlyMap<number, number>, procPath = '/proc'): Promise<OlderProcess[]> {
  if (since.size === 0) return [];
  const found: OlderProcess[] = [];
  for (const pid of (await readdir(procPath)).filter((name) => /^\d+$/.test(name))) {
    const uid = await effectiveUid(procPath, pid);
    const captured = uid === undefined ? undefined : since.get(uid);
    if (uid === undefined || captured === undefined) continue;
    const stat = await procHead(`${procPath}/${pid}/stat`);
    const name = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
    const startTicks = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
    if (startTicks / TICKS_PER_SECOND >= captured) continue;
    if (!PROBE_RUN.test(await procHead(`${procPath}/${pid}/cgroup`))) found.push({ pid: Number(pid), name, uid });
    if (found.length === MAX_FOUND) break;
  }
  return found.sort((a, b) => a.pid - b.pid);
}
