/**
 * The audit log: one JSON line a write, chained by hash, so that a line changed or removed later shows. In: who, what, with which result.
 * Out: lines in a 0600 file, and the log. It must never hold bodies or credentials, and no write is acknowledged before its line is on
 * disk. The record of a commit also lies in the store, in the same transaction: a crash between the two is repaired at the next start.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs';
import { MeshError } from '../../api/errors.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { INTERNAL_PREFIX, type Store } from '../store/store.ts';

/** What happened. `keys` are `KIND/NS/NAME`. */
export interface AuditEvent {
  readonly principal: string;
  readonly source: string;
  readonly verb: string;
  readonly keys: readonly string[];
  readonly fieldManager?: string;
  readonly dryRun?: boolean;
  /** HTTP status of the answer. */
  readonly code: number;
  /** Reason of a refusal. */
  readonly reason?: string;
  readonly revision?: number;
}

/** A line of the file. `hash` is SHA-256 over the line's JSON without `hash`; `previous` is the hash of the line before it. */
export interface AuditLine extends AuditEvent {
  readonly seq: number;
  readonly time: string;
  readonly previous: string;
  readonly hash: string;
}

export const AUDIT_PREFIX = `${INTERNAL_PREFIX}audit/`;
const GENESIS = '0'.repeat(64);
const MAX_LINE = 4 * 1024 * 1024;

export interface Audit {
  /** Opens the file, checks its last line, writes the line that a crash kept back. Throws AUDIT_BROKEN. */
  open(): Promise<void>;
  /** A row to commit together with the write, so that no crash can lose its line. */
  row(event: AuditEvent): { readonly key: string; readonly value: string };
  /** Writes the line, on disk when it returns. Keeps it when the disk refuses, and then `assertReady` throws until it could be written. */
  append(event: AuditEvent): void;
  /** Throws AUDIT_UNAVAILABLE while lines wait for the disk: then nothing more is written. */
  assertReady(): void;
  close(): void;
}

/** `rotateBytes`: from there on the file is renamed to PATH.SEQ and a new one goes on with the chain; old files are the operator's to keep. */
export function createAudit(
  options: { readonly path: string; readonly replica: string; readonly rotateBytes?: number },
  deps: { readonly store: Store; readonly clock: Clock; readonly log: Logger },
): Audit {
  const { path } = options;
  const key = AUDIT_PREFIX + options.replica;
  let fd: number | undefined;
  let last = { seq: 0, hash: GENESIS };
  const waiting: AuditEvent[] = [];

  function write(event: AuditEvent): void {
    const line = lineOf(event, last, new Date(deps.clock.now()).toISOString());
    if (fd === undefined) throw new MeshError('AUDIT_UNAVAILABLE', 'the audit log is not open');
    if (!existsSync(path)) reopen(); // moved away by an operator: the chain goes on in a new file
    const before = statSync(path).size;
    try {
      const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
      if (writeSync(fd, bytes) < bytes.length)
        throw new MeshError('AUDIT_UNAVAILABLE', 'the disk took a part of the line');
      fsyncSync(fd);
    } catch (error) {
      ftruncateSync(fd, before); // no half line, whose rest would break the chain
      throw error;
    }
    last = { seq: line.seq, hash: line.hash };
    if (before > (options.rotateBytes ?? 64 * 1024 * 1024)) rotate();
  }

  function rotate(): void {
    renameSync(path, `${path}.${last.seq}`);
    reopen();
  }

  function reopen(): void {
    const old = fd;
    fd = openSync(path, 'a', 0o600);
    if (old !== undefined) closeSync(old);
  }

  function flush(): void {
    while (waiting[0] !== undefined) {
      write(waiting[0]);
      waiting.shift();
    }
  }

  return {
    async open() {
      const entry = await deps.store.get(key);
      const pending = entry === undefined ? undefined : (JSON.parse(entry.value) as { seq: number; event: AuditEvent });
      last = existsSync(path) ? lastLine(path) : { seq: 0, hash: GENESIS };
      if (last.seq === 0 && pending !== undefined && pending.seq > 1) last = { seq: pending.seq - 1, hash: GENESIS };
      fd = openSync(path, 'a', 0o600);
      if (pending !== undefined && pending.seq > last.seq) write({ ...pending.event, revision: entry?.revision });
    },
    row: (event) => ({ key, value: JSON.stringify({ seq: last.seq + waiting.length + 1, event }) }),
    append(event) {
      deps.log.info('write', { ...event, keys: event.keys.slice(0, 20), objects: event.keys.length });
      waiting.push(event);
      try {
        flush();
      } catch (error) {
        deps.log.error('the audit log cannot be written', { error });
      }
    },
    assertReady() {
      try {
        flush();
      } catch (cause) {
        throw new MeshError('AUDIT_UNAVAILABLE', 'the audit log cannot be written, so nothing else is', { cause });
      }
    },
    close() {
      if (fd !== undefined) closeSync(fd);
      fd = undefined;
    },
  };
}

function lineOf(event: AuditEvent, last: { seq: number; hash: string }, time: string): AuditLine {
  const line = { seq: last.seq + 1, time, ...event, previous: last.hash };
  return { ...line, hash: hashOf(line) };
}

function hashOf(line: object): string {
  return createHash('sha256').update(JSON.stringify(line)).digest('hex');
}

/** The last whole line; a part of a line after it is what a crash left of an unacknowledged write, and is cut off. */
function lastLine(path: string): { seq: number; hash: string } {
  const size = statSync(path).size;
  const fd = openSync(path, 'r+');
  try {
    const tail = Buffer.alloc(Math.min(size, MAX_LINE));
    readSync(fd, tail, 0, tail.length, size - tail.length);
    const end = tail.lastIndexOf(0x0a) + 1;
    if (end < tail.length) ftruncateSync(fd, size - (tail.length - end));
    const text = tail.subarray(0, end).toString('utf8').trimEnd();
    if (text === '') return { seq: 0, hash: GENESIS };
    return parseLine(text.slice(text.lastIndexOf('\n') + 1), path);
  } finally {
    closeSync(fd);
  }
}

function parseLine(text: string, path: string): AuditLine {
  try {
    const { hash, ...line } = JSON.parse(text) as AuditLine;
    if (hash === hashOf(line)) return { ...line, hash };
  } catch {
    // told below
  }
  throw new MeshError('AUDIT_BROKEN', `the last line of ${path} was changed: move the file away to start a new chain`);
}

/** Checks the whole text of an audit file: the 1-based number of the first line that does not fit the chain, or undefined. */
export function firstBrokenLine(text: string, previous?: string): number | undefined {
  let expected = previous;
  for (const [i, lineText] of text
    .split('\n')
    .filter((line) => line !== '')
    .entries()) {
    try {
      const { hash, ...line } = JSON.parse(lineText) as AuditLine;
      if (hash !== hashOf(line) || (expected !== undefined && line.previous !== expected)) return i + 1;
      expected = hash;
    } catch {
      return i + 1;
    }
  }
  return undefined;
}
