import { open, readdir, readFile } from 'node:fs/promises';

/** A process that ran before its user's traffic was captured: what it had open then goes on around the mesh. */
export interface OlderProcess {
  readonly pid: number;
  readonly name: string;
  readonly uid: number;
}

/** USER_HZ: what proc(5) counts start times in, on every platform that we ship for. */
const TICKS_PER_SECOND = 100;
const MAX_FOUND = 20;

/** Seconds since boot, the clock that processes' start times are on. */
export async function uptimeSeconds(procPath = '/proc'): Promise<number> {
  return Number((await readFile(`${procPath}/uptime`, 'utf8')).split(' ')[0]);
}

/**
 * Processes of the uids in `since` that started before that uid's moment (seconds since boot); at most 20, by pid. What cannot be read, or ended
 * meanwhile, is left out.
 */
export async function olderProcesses(since: ReadonlyMap<number, number>, procPath = '/proc'): Promise<OlderProcess[]> {
  if (since.size === 0) return [];
  const found: OlderProcess[] = [];
  for (const pid of (await readdir(procPath)).filter((name) => /^\d+$/.test(name))) {
    const uid = Number(/^Uid:\s+\d+\s+(\d+)/m.exec(await head(`${procPath}/${pid}/status`))?.[1] ?? Number.NaN);
    const captured = since.get(uid);
    if (captured === undefined) continue;
    const stat = await head(`${procPath}/${pid}/stat`);
    const name = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
    const startTicks = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
    if (startTicks / TICKS_PER_SECOND < captured) found.push({ pid: Number(pid), name, uid });
    if (found.length === MAX_FOUND) break;
  }
  return found.sort((a, b) => a.pid - b.pid);
}

async function head(path: string): Promise<string> {
  const file = await open(path, 'r').catch(() => undefined);
  if (file === undefined) return '';
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
    return buffer.toString('latin1', 0, bytesRead);
  } catch {
    return '';
  } finally {
    await file.close();
  }
}
