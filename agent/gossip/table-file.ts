/**
 * What gossip keeps on disk: the endpoint table (signed records and which addresses were proven) and the own counter. Files are replaced
 * atomically, the table at most every five seconds (neighbours tell what a crash loses); a file that cannot be read is set aside with a log line, never half used.
 */
import { readFile, rename } from 'node:fs/promises';
import { errorLine, MeshError } from '../../api/errors.ts';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';

export interface StoredRow {
  readonly envelope: Uint8Array;
  readonly proven: readonly string[];
}

export interface TableFile {
  load(): Promise<StoredRow[]>;
  /** Asks for a write within five seconds of `rows()` as they are then. */
  touch(): void;
  /** Writes now what is outstanding. */
  flush(): Promise<void>;
}

const MAX_FILE_BYTES = 64 * 1024 * 1024;
const BATCH_MS = 5000;

export function createTableFile(
  path: string,
  rows: () => Iterable<StoredRow>,
  deps: { readonly clock: Clock; readonly log: Logger },
): TableFile {
  let cancel: (() => void) | undefined;
  let writing: Promise<void> = Promise.resolve();

  const write = (): Promise<void> => {
    cancel?.();
    cancel = undefined;
    const hosts = [...rows()].map((row) => ({
      envelope: Buffer.from(row.envelope).toString('base64'),
      proven: row.proven,
    }));
    writing = writing
      .then(() => writeFileAtomic(path, JSON.stringify({ version: 1, hosts })))
      .catch((error: unknown) => {
        deps.log.warn('endpoint table not written; the last one stays', { error });
      });
    return writing;
  };
  return {
    async load() {
      const text = await readOrSetAside(path, deps.log);
      if (text === undefined) return [];
      try {
        return parseTable(text);
      } catch (error) {
        await setAside(path, deps.log, error);
        return [];
      }
    },
    touch() {
      cancel ??= deps.clock.after(BATCH_MS, () => void write());
    },
    async flush() {
      if (cancel !== undefined) await write();
      await writing;
    },
  };
}

function parseTable(text: string): StoredRow[] {
  const value = JSON.parse(text) as { version?: unknown; hosts?: unknown };
  if (value.version !== 1 || !Array.isArray(value.hosts)) throw new MeshError('STATE_INVALID', 'not an endpoint table');
  return value.hosts.map((row: { envelope?: unknown; proven?: unknown }) => {
    if (typeof row.envelope !== 'string' || !Array.isArray(row.proven))
      throw new MeshError('STATE_INVALID', 'not an endpoint table');
    return {
      envelope: Buffer.from(row.envelope, 'base64'),
      proven: row.proven.filter((a): a is string => typeof a === 'string'),
    };
  });
}

/**
 * Own counters that were never used before. A block is reserved on disk before its first number is given out, so a crash skips numbers and
 * repeats none. Where the disk refuses, numbers go on from memory: neighbours that hold a higher one say so, and `raise` follows.
 */
export interface CounterFile {
  next(): Promise<number>;
  /** A neighbour holds the own record with this counter: stay above it. */
  raise(seen: number): void;
}

const BLOCK = 64;

export function createCounterFile(path: string, log: Logger): CounterFile {
  let last: number | undefined;
  let reserved = 0;
  let floor = 0;
  return {
    async next() {
      if (last === undefined) {
        last = Number((await readOrSetAside(path, log)) ?? 0);
        if (!Number.isSafeInteger(last) || last < 0) {
          await setAside(path, log, new MeshError('STATE_INVALID', 'not a counter'));
          last = 0;
        }
        reserved = last;
      }
      last = Math.max(last, floor) + 1;
      if (last > reserved) {
        reserved = last + BLOCK;
        try {
          await writeFileAtomic(path, String(reserved));
        } catch (error) {
          log.warn('own record counter not written', { error });
        }
      }
      return last;
    },
    raise(seen) {
      floor = Math.max(floor, seen);
    },
  };
}

async function readOrSetAside(path: string, log: Logger): Promise<string | undefined> {
  try {
    const bytes = await readFile(path);
    if (bytes.length <= MAX_FILE_BYTES) return bytes.toString('utf8');
    await setAside(path, log, new MeshError('STATE_INVALID', `${bytes.length} bytes`));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') log.warn('state file cannot be read', { path, error });
  }
  return undefined;
}

async function setAside(path: string, log: Logger, error: unknown): Promise<void> {
  log.warn('a broken state file is set aside; neighbours will tell what it held', { path, reason: errorLine(error) });
  await rename(path, `${path}.broken`).catch(() => {});
}
