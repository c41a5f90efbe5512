/**
 * The embedded store: one SQLite file, WAL, fsync at every commit (DESIGN 3.8). In: the path of a file that `initSqliteStore` (sqlite-file.ts) made. Out: a
 * Store. It must never create a file at open, go on with a broken one, or share it with another process.
 */
import { closeSync, existsSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { MeshError } from '../../api/errors.ts';
import { checkFile, storeError, syncPath } from './sqlite-file.ts';
import {
  assertKey,
  type Change,
  type Changes,
  type Check,
  type CommitResult,
  type Entry,
  type ListOptions,
  type Page,
  prefixEnd,
  type Store,
  type Write,
} from './store.ts';

export { initSqliteStore } from './sqlite-file.ts';

/** Changes read at a time for one watcher. */
const WATCH_BATCH = 256;

export interface SqliteOptions {
  readonly path: string;
  /** Revisions of history kept for watches and for pages of an older moment; compacted when a quarter more has gathered. Default 10,000. */
  readonly historyRevisions?: number;
  /** Bytes of history kept at most, roughly; older revisions go first. Default 256 MiB. */
  readonly historyBytes?: number;
  /** Upper bound of the file in pages of 4 KiB; a write beyond it is refused as on a full disk. Default 1,048,576 (4 GiB). */
  readonly maxPages?: number;
}

export interface SqliteStore extends Store {
  /** Writes a consistent copy to a new file while the store is in use: the way back from a broken disk. */
  backup(path: string): Promise<void>;
}

/**
 * Opens the store and checks it whole. Throws STORE_MISSING, STORE_BROKEN (with the way back in the message), STORE_LOCKED when another
 * process has it open.
 */
export function openSqliteStore(options: SqliteOptions): SqliteStore {
  const { path } = options;
  if (!existsSync(path)) {
    throw new MeshError(
      'STORE_MISSING',
      `there is no store at ${path}: restore it from a backup; only for a new mesh run \`mesh-controller init\``,
    );
  }
  let db: DatabaseSync | undefined;
  try {
    db = new DatabaseSync(path, { timeout: 500 });
    db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
    db.exec(`PRAGMA max_page_count = ${Math.trunc(options.maxPages ?? 1_048_576)}`);
    db.exec('BEGIN IMMEDIATE; COMMIT'); // takes the lock now, not at the first write
    checkFile(db, path);
  } catch (error) {
    db?.close();
    throw storeError(error, path);
  }
  const revisions = options.historyRevisions ?? 10_000;
  return createStore(db, path, { revisions, bytes: options.historyBytes ?? 256 * 1024 * 1024 });
}

interface Keep {
  readonly revisions: number;
  readonly bytes: number;
}

function createStore(db: DatabaseSync, path: string, keep: Keep): SqliteStore {
  const sql = prepareAll(db);
  let historyBytes = (sql.historyBytes.get() as { bytes: number }).bytes;
  const wakeups = new Set<() => void>();
  const meta = () => sql.meta.get() as { revision: number; compacted: number };
  let closed = false;
  const guarded = <T>(work: () => T): T => {
    if (closed) throw new MeshError('STORE_CLOSED', 'the store is closed');
    try {
      return work();
    } catch (error) {
      throw storeError(error, path);
    }
  };

  function assertRevision(wanted: number): void {
    const { revision, compacted } = meta();
    if (wanted > revision)
      throw new MeshError('STORE_REVISION_FUTURE', `revision ${wanted} is yet to come; the store is at ${revision}`);
    if (wanted < compacted)
      throw new MeshError('STORE_COMPACTED', `the changes after revision ${wanted} are no longer all kept`);
  }

  function list(prefix: string, options: ListOptions): Page {
    const revision = options.revision ?? meta().revision;
    assertRevision(revision);
    const limit = options.limit ?? -2; // with the one more that tells whether there is more: -1, SQLite's "no limit"
    const range = { from: prefix, to: prefixEnd(prefix), after: options.after ?? '', limit: limit + 1 };
    const rows = revision === meta().revision ? sql.list.all(range) : sql.listAt.all({ ...range, at: revision });
    const more = limit >= 0 && rows.length > limit;
    return { entries: (more ? rows.slice(0, limit) : rows).map(entryOf), revision, more };
  }

  function commit(writes: readonly Write[], checks: readonly Check[]): CommitResult {
    const seen = new Set<string>();
    for (const { key } of writes) {
      assertKey(key);
      if (seen.has(key)) throw new MeshError('STORE_KEY_INVALID', 'a transaction writes each key once');
      seen.add(key);
    }
    db.exec('BEGIN IMMEDIATE');
    try {
      const result = write(writes, checks);
      db.exec(result.ok ? 'COMMIT' : 'ROLLBACK');
      return result;
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK');
      throw error;
    }
  }

  function write(writes: readonly Write[], checks: readonly Check[]): CommitResult {
    const before = new Map(writes.map(({ key }) => [key, sql.get.get({ key }) as EntryRow | undefined]));
    for (const { key, ifRevision } of [...writes, ...checks]) {
      const row = before.get(key) ?? (sql.get.get({ key }) as EntryRow | undefined);
      const at = row?.revision ?? 0;
      if (ifRevision !== undefined && at !== ifRevision) return { ok: false, key, revision: at };
    }
    const effective = writes.filter(({ key, value }) => value !== null || before.get(key) !== undefined);
    const { revision: current, compacted } = meta();
    if (effective.length === 0) return { ok: true, revision: current };
    const revision = current + 1;
    for (const { key, value } of effective) {
      const old = before.get(key);
      const created = value === null ? null : (old?.created ?? revision);
      sql.record.run({
        revision,
        key,
        value,
        created,
        oldValue: old?.value ?? null,
        oldRevision: old?.revision ?? null,
        oldCreated: old?.created ?? null,
      });
      if (value === null) sql.remove.run({ key });
      else sql.put.run({ key, value, revision, created });
    }
    for (const { key, value } of effective) historyBytes += (value?.length ?? 0) + (before.get(key)?.value.length ?? 0);
    const compact = compactTo(revision, compacted);
    if (compact !== compacted) {
      sql.compact.run({ compact });
      historyBytes = (sql.historyBytes.get() as { bytes: number }).bytes;
    }
    sql.setMeta.run({ revision, compact });
    return { ok: true, revision };
  }

  /** The revision up to which history goes; in batches, as a delete at every commit would cost more than the history itself. */
  function compactTo(revision: number, compacted: number): number {
    let compact = compacted;
    if (revision - compacted > keep.revisions * 1.25) compact = revision - keep.revisions;
    if (historyBytes > keep.bytes * 1.25) {
      const kept = sql.keepFrom.get({ bytes: keep.bytes }) as { first: number | null };
      compact = Math.max(compact, Math.min((kept.first ?? revision) - 1, revision - 1));
    }
    return compact;
  }

  /** The next changes after `from`, at most WATCH_BATCH rows but never a part of a revision. */
  function changesAfter(prefix: string, from: number): Changes[] {
    assertRevision(from);
    const { revision } = meta();
    const range = { from: prefix, to: prefixEnd(prefix), after: from };
    const last = (sql.changeEnd.get({ ...range, limit: WATCH_BATCH - 1 }) as { revision: number } | undefined)
      ?.revision;
    const until = last ?? revision;
    const grouped = new Map<number, Change[]>();
    for (const row of sql.changes.all({ ...range, until }) as unknown as HistoryRow[]) {
      const found = grouped.get(row.revision) ?? [];
      grouped.set(row.revision, found);
      found.push(changeOf(row));
    }
    const batches = [...grouped].map(([at, changes]) => ({ revision: at, changes }));
    if ((batches.at(-1)?.revision ?? from) < until) batches.push({ revision: until, changes: [] });
    return batches;
  }

  async function* watch(prefix: string, from: number, signal: AbortSignal): AsyncIterable<Changes> {
    let cursor = from;
    while (!signal.aborted) {
      if (closed) throw new MeshError('STORE_CLOSED', 'the store is closed');
      const batches = guarded(() => changesAfter(prefix, cursor));
      if (batches.length === 0) {
        await woken(wakeups, signal);
        continue;
      }
      for (const batch of batches) {
        if (signal.aborted) return;
        cursor = batch.revision;
        yield batch;
      }
    }
  }

  return {
    get: async (key) => guarded(() => optionalEntry(sql.get.get({ key }) as EntryRow | undefined)),
    list: async (prefix, options = {}) => guarded(() => list(prefix, options)),
    count: async (prefix) => guarded(() => (sql.count.get({ from: prefix, to: prefixEnd(prefix) }) as { n: number }).n),
    async commit(writes, checks = []) {
      const result = guarded(() => commit(writes, checks));
      if (result.ok) for (const wake of [...wakeups]) wake();
      return result;
    },
    revision: async () => guarded(() => meta().revision),
    watch,
    async backup(to) {
      if (existsSync(to)) throw new MeshError('STORE_EXISTS', `${to} exists already; nothing was changed`);
      closeSync(openSync(to, 'wx', 0o600)); // VACUUM INTO takes an empty file and keeps its mode
      guarded(() => db.prepare('VACUUM INTO ?').run(to));
      syncPath(to);
      syncPath(dirname(to));
    },
    async close() {
      if (closed) return;
      closed = true;
      for (const wake of [...wakeups]) wake();
      db.close();
    },
  };
}

type Sql = Record<
  | 'meta'
  | 'setMeta'
  | 'get'
  | 'put'
  | 'remove'
  | 'record'
  | 'compact'
  | 'count'
  | 'list'
  | 'listAt'
  | 'changeEnd'
  | 'changes'
  | 'historyBytes'
  | 'keepFrom',
  StatementSync
>;

function prepareAll(db: DatabaseSync): Sql {
  const range = 'key >= :from AND key < :to';
  return {
    meta: db.prepare('SELECT revision, compacted FROM meta'),
    setMeta: db.prepare('UPDATE meta SET revision = :revision, compacted = :compact'),
    get: db.prepare('SELECT key, value, revision, created FROM entry WHERE key = :key'),
    put: db.prepare(
      'INSERT INTO entry VALUES (:key, :value, :revision, :created) ON CONFLICT (key) DO UPDATE SET value = :value, revision = :revision',
    ),
    remove: db.prepare('DELETE FROM entry WHERE key = :key'),
    record: db.prepare(
      'INSERT INTO history VALUES (:revision, :key, :value, :created, :oldValue, :oldRevision, :oldCreated)',
    ),
    compact: db.prepare('DELETE FROM history WHERE revision <= :compact'),
    historyBytes: db.prepare(
      "SELECT coalesce(sum(length(coalesce(value, '')) + length(coalesce(old_value, ''))), 0) AS bytes FROM history",
    ),
    // The oldest revision from which on the history fits.
    keepFrom: db.prepare(
      `SELECT min(revision) AS first FROM (
         SELECT revision, sum(length(coalesce(value, '')) + length(coalesce(old_value, '')))
           OVER (ORDER BY revision DESC) AS bytes FROM history)
        WHERE bytes <= :bytes`,
    ),
    count: db.prepare(`SELECT count(*) AS n FROM entry WHERE ${range}`),
    list: db.prepare(
      `SELECT key, value, revision, created FROM entry WHERE ${range} AND key > :after ORDER BY key LIMIT :limit`,
    ),
    listAt: db.prepare(
      `SELECT key, value, revision, created FROM entry WHERE ${range} AND key > :after AND revision <= :at
       UNION ALL
       SELECT key, old_value, old_revision, old_created FROM history AS h
        WHERE ${range} AND key > :after AND old_value IS NOT NULL
          AND revision = (SELECT min(revision) FROM history WHERE key = h.key AND revision > :at)
       ORDER BY key LIMIT :limit`,
    ),
    changeEnd: db.prepare(
      `SELECT revision FROM history WHERE ${range} AND revision > :after ORDER BY revision LIMIT 1 OFFSET :limit`,
    ),
    changes: db.prepare(
      `SELECT * FROM history WHERE ${range} AND revision > :after AND revision <= :until ORDER BY revision, key`,
    ),
  };
}

interface EntryRow {
  readonly key: string;
  readonly value: string;
  readonly revision: number;
  readonly created: number;
}

interface HistoryRow {
  readonly revision: number;
  readonly key: string;
  readonly value: string | null;
  readonly created: number | null;
  readonly old_value: string | null;
  readonly old_revision: number | null;
  readonly old_created: number | null;
}

function entryOf(row: unknown): Entry {
  const { key, value, revision, created } = row as EntryRow;
  return { key, value, revision, createRevision: created };
}

function optionalEntry(row: EntryRow | undefined): Entry | undefined {
  return row === undefined ? undefined : entryOf(row);
}

function changeOf(row: HistoryRow): Change {
  const { key, revision } = row;
  return {
    key,
    revision,
    ...(row.value !== null && { entry: { key, value: row.value, revision, createRevision: row.created as number } }),
    ...(row.old_value !== null && {
      previous: {
        key,
        value: row.old_value,
        revision: row.old_revision as number,
        createRevision: row.old_created as number,
      },
    }),
  };
}

/** Resolves at the next commit, close, or abort. */
function woken(wakeups: Set<() => void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      wakeups.delete(done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    wakeups.add(done);
    signal.addEventListener('abort', done, { once: true });
  });
}
