/**
 * Since when each workload's user is captured, and which of its processes are older: what these had open goes around the mesh until they are
 * restarted. In: applied specs. Out: one line a process, for status. Kept in RUN_DIR, which a boot empties, as it does the rules.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '../runtime/atomic-file.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Logger } from '../runtime/log.ts';
import { olderProcesses, uptimeSeconds } from './workloads/older-processes.ts';

export interface CaptureTimes {
  /** The rules that capture these uids stand. */
  captured(uids: readonly number[]): void;
  problems(): readonly string[];
  stop(): void;
}

const LOOK_EVERY_MS = 15_000;

/** `standing`: uids that an agent before this one left captured; their moments are read from disk. */
export function createCaptureTimes(deps: {
  readonly runDir: string;
  readonly standing: readonly number[];
  readonly clock: Clock;
  readonly log: Logger;
}): CaptureTimes {
  const path = join(deps.runDir, 'captured.json');
  let since = new Map<number, number>();
  let lines: readonly string[] = [];
  let cancel = () => {};
  let stopped = false;
  let queue = load().catch((error) => deps.log.warn('moments of capture not read', { path, error }));

  async function load(): Promise<void> {
    if (deps.standing.length === 0) return;
    const text = await readFile(path, 'utf8').catch(() => '{}');
    const kept = new Map(Object.entries(JSON.parse(text) as Record<string, number>).map(([k, v]) => [Number(k), v]));
    since = new Map([...kept].filter(([uid]) => deps.standing.includes(uid)));
  }
  async function note(uids: readonly number[], now: number): Promise<void> {
    const next = new Map(uids.map((uid) => [uid, since.get(uid) ?? now]));
    const same = next.size === since.size && uids.every((uid) => since.has(uid));
    since = next;
    if (!same) await writeFileAtomic(path, JSON.stringify(Object.fromEntries(since)));
    await look();
  }
  /** As long as there are older ones it looks again: they end by being restarted. */
  async function look(): Promise<void> {
    cancel();
    const older = await olderProcesses(since);
    lines = older.map(
      ({ pid, name, uid }) =>
        `process ${pid} (${name}) of uid ${uid} is older than the rules: what it had open goes around the mesh until it is restarted`,
    );
    if (older.length > 0 && !stopped) cancel = deps.clock.after(LOOK_EVERY_MS, () => enqueue(look));
  }
  function enqueue(work: () => Promise<void>): void {
    queue = queue.then(work).catch((error) => deps.log.warn('processes older than the rules not found out', { error }));
  }

  return {
    captured(uids) {
      // Before anybody hears that the rules stand: a unit that waits for the mesh starts within milliseconds of it.
      const now = uptimeSeconds();
      enqueue(() => note(uids, now));
    },
    problems: () => lines,
    stop() {
      stopped = true;
      cancel();
    },
  };
}
