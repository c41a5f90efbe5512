/**
 * Where the controller keeps what operators wrote and its own rows. In: transactions of puts and deletes, each guarded by the revision that
 * its writer saw. Out: entries, pages, and changes in the order in which they were committed. A store must never acknowledge a write that
 * a crash could lose, apply a part of a transaction, or start from zero because its files are missing. The interface is the part of etcd's
 * that we need (revisions, compare-and-set transactions, watch from a revision, compaction), so that etcd can fill it (DESIGN 3.8).
 */
import { MeshError } from '../../api/errors.ts';

/** One key as it stood at a revision. */
export interface Entry {
  /** `KIND/NS/NAME`, or `_internal/...`. */
  readonly key: string;
  /** JSON text, stored as given. */
  readonly value: string;
  /** Revision of its last write (etcd: mod_revision). */
  readonly revision: number;
  /** Revision of the write that created it. */
  readonly createRevision: number;
}

/** One write. `ifRevision`: only when the key's revision is this one, 0 meaning "absent"; without it the write is unconditional. */
export interface Write {
  readonly key: string;
  /** JSON text; null deletes. Deleting an absent key is no error and no event. */
  readonly value: string | null;
  readonly ifRevision?: number;
}

/** A condition on a key that the transaction does not write. */
export interface Check {
  readonly key: string;
  readonly ifRevision: number;
}

export type CommitResult =
  /** `revision` is that of the writes; the current one when nothing was written. */
  | { readonly ok: true; readonly revision: number }
  /** Nothing was written: `key` stands at `revision` (0: absent), not where the writer saw it. */
  | { readonly ok: false; readonly key: string; readonly revision: number };

export interface Page {
  /** Sorted by key (bytes). */
  readonly entries: readonly Entry[];
  /** The revision that the page shows; pass it on with `after` to read the next page of the same moment. */
  readonly revision: number;
  /** True when more follow `entries`. */
  readonly more: boolean;
}

export interface ListOptions {
  /** At most this many entries; without it all. */
  readonly limit?: number;
  /** Only keys above this one. */
  readonly after?: string;
  /** As it stood then; STORE_COMPACTED when that is out of the kept history, STORE_REVISION_FUTURE when it is yet to come. */
  readonly revision?: number;
}

/** One change. `previous` is the entry before it; absent: the key was created. `entry` is absent when the key was deleted. */
export interface Change {
  readonly key: string;
  readonly revision: number;
  readonly entry?: Entry;
  readonly previous?: Entry;
}

/** All changes of one revision below the watched prefix, in key order. Without any: progress, everything up to `revision` has been delivered. */
export interface Changes {
  readonly revision: number;
  readonly changes: readonly Change[];
}

export interface Store {
  get(key: string): Promise<Entry | undefined>;
  /** Entries whose keys start with `prefix`. */
  list(prefix: string, options?: ListOptions): Promise<Page>;
  count(prefix: string): Promise<number>;
  /** All or none, under one new revision, on stable storage when it resolves. A key may be written once in a transaction (STORE_KEY_INVALID). */
  commit(writes: readonly Write[], checks?: readonly Check[]): Promise<CommitResult>;
  /** Latest committed revision; 1 in a store in which nothing was ever written. */
  revision(): Promise<number>;
  /**
   * Changes after revision `from`, oldest first, then as they are committed, until `signal` aborts (the iteration then ends). Throws
   * STORE_COMPACTED when the changes after `from` are no longer all kept (also later, to a reader too slow for the history), and
   * STORE_REVISION_FUTURE when `from` is above the current revision (a client from before a restore).
   */
  watch(prefix: string, from: number, signal: AbortSignal): AsyncIterable<Changes>;
  close(): Promise<void>;
}

/** Prefix of the rows that no operator sees. */
export const INTERNAL_PREFIX = '_internal/';

const KEY = /^[\x21-\x7e]{1,1024}$/;

/** Throws STORE_KEY_INVALID unless `key` is printable ASCII, 1 to 1024 characters: then byte order is the same in every store. */
export function assertKey(key: string): void {
  if (!KEY.test(key)) throw new MeshError('STORE_KEY_INVALID', 'a key is 1 to 1024 printable ASCII characters');
}

/** Least string above every key that starts with `prefix` (keys are ASCII); for range scans. */
export function prefixEnd(prefix: string): string {
  return prefix === '' ? '\x7f' : prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
}
