/** The file of the embedded store: how it is made and judged, and what SQLite's failures mean. */
import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { MeshError } from '../../api/errors.ts';

/** SQLite's own mark of a file format, "Hmsh". */
const APPLICATION_ID = 0x486d7368;
const SCHEMA_VERSION = 1;
/**
 * `entry` is the present. `history` has every change of the kept revisions together with what it replaced, so that the state at a kept
 * revision is the present with the later changes taken back.
 */
const SCHEMA = `
CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL, compacted INTEGER NOT NULL) STRICT;
INSERT INTO meta VALUES (1, 1, 1);
CREATE TABLE entry (key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL, created INTEGER NOT NULL) STRICT;
CREATE TABLE history (
  revision INTEGER NOT NULL, key TEXT NOT NULL, value TEXT, created INTEGER,
  old_value TEXT, old_revision INTEGER, old_created INTEGER, UNIQUE (revision, key)
) STRICT;
CREATE INDEX history_by_key ON history (key, revision);
`;

/** Makes an empty store. Throws STORE_EXISTS rather than touch a file that is there. The file appears complete or not at all. */
export function initSqliteStore(path: string): void {
  if (existsSync(path)) throw new MeshError('STORE_EXISTS', `${path} exists already; nothing was changed`);
  const temp = `${path}.new`;
  rmSync(temp, { force: true });
  try {
    closeSync(openSync(temp, 'wx', 0o600)); // SQLite would make it by the umask; its WAL inherits the mode
    const db = new DatabaseSync(temp);
    db.exec(
      `BEGIN; ${SCHEMA} PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT`,
    );
    db.close();
    syncPath(temp);
    renameSync(temp, path);
    syncPath(dirname(path));
  } catch (error) {
    rmSync(temp, { force: true });
    throw storeError(error, path);
  }
}

/** Is it ours, of a format that we read, and sound on every page? Throws STORE_BROKEN, STORE_VERSION. */
export function checkFile(db: DatabaseSync, path: string): void {
  const pragma = (name: string) => Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0];
  if (pragma('application_id') !== APPLICATION_ID) throw broken(path, 'it is not a store of mesh-controller');
  const version = pragma('user_version');
  if (version !== SCHEMA_VERSION) {
    throw new MeshError(
      'STORE_VERSION',
      `${path} has format ${version}; this version of mesh-controller reads format ${SCHEMA_VERSION}`,
    );
  }
  const verdict = pragma('integrity_check(1)');
  if (verdict !== 'ok') throw broken(path, String(verdict));
}

/** fsync of a file or folder. */
export function syncPath(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** A store that cannot be trusted, with the way back. */
export function broken(path: string, why: string, cause?: unknown): MeshError {
  return new MeshError(
    'STORE_BROKEN',
    `the store ${path} is broken (${why}): stop the controller, keep the file for study, put a backup in its place`,
    { cause },
  );
}

/** SQLite's result codes as ours (sqlite.org/rescode.html; the low byte is the primary code). */
export function storeError(error: unknown, path: string): unknown {
  const errcode = (error as { errcode?: unknown }).errcode;
  if (error instanceof MeshError || typeof errcode !== 'number') return error;
  const why = (error as Error).message;
  switch (errcode & 0xff) {
    case 5: // SQLITE_BUSY
    case 6: // SQLITE_LOCKED
      return new MeshError('STORE_LOCKED', `another process has ${path} open`, { cause: error });
    case 11: // SQLITE_CORRUPT
    case 26: // SQLITE_NOTADB
      return broken(path, why, error);
    case 13: // SQLITE_FULL
      return new MeshError('STORE_FULL', `the disk of ${path} is full; nothing was written`, { cause: error });
    default:
      return new MeshError('STORE_FAILED', `the store ${path} failed: ${why}`, { cause: error });
  }
}
