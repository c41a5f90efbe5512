/**
 * The endpoint table: one signed record a host, what the own probes say of it, which of its addresses have answered. In: verified records,
 * verdicts of the detector, config. Out: snapshots, digests. Pure: no IO, no clock; a host leaves it only when config drops it.
 */
import type { EndpointSnapshot, HostEntry, HostRecord, Liveness } from '../../api/gossip/host-record.ts';
import { compareRecords } from '../../api/gossip/record-codec.ts';
import {
  BUCKETS,
  bucketOf,
  DIGEST_BYTES,
  digestBytes,
  type Version,
  versionHash,
} from '../../api/gossip/sync-message.ts';
import type { VerifiedRecord } from './trust.ts';

/** new: first record of the host. newer: replaces. same, older: nothing to do. equivocation: same version, other content; the first stays. */
export type MergeResult = 'new' | 'newer' | 'same' | 'older' | 'equivocation';

export interface TableRow extends VerifiedRecord {
  readonly liveness: Liveness;
  readonly proven: readonly string[];
}

export interface EndpointTable {
  merge(incoming: VerifiedRecord): MergeResult;
  /** Puts a row back from the host's own file: `alive` with its proven addresses until probes say otherwise; a host that left stays so. */
  restore(incoming: VerifiedRecord, proven: readonly string[]): void;
  get(host: string): TableRow | undefined;
  rows(): IterableIterator<TableRow>;
  readonly size: number;
  /** False when nothing changed, or when the host has left (only a newer record ends that). */
  setLiveness(host: string, liveness: Liveness): boolean;
  /** An address of the record answered a probe with the host's key. False when known or no longer claimed. */
  prove(host: string, address: string): boolean;
  /** Drops every row that `keep` refuses; returns the hosts dropped. */
  retain(keep: (row: TableRow) => boolean): string[];
  /** Changes whenever a snapshot would. */
  readonly version: number;
  snapshot(synced: boolean): EndpointSnapshot;
  digest(): Uint8Array;
  bucketDigests(): Uint8Array;
  versions(buckets: ReadonlySet<number>): Version[];
}

/** What a record counts in digests, hashed once. */
const marks = new WeakMap<HostRecord, { readonly bucket: number; readonly hash: bigint }>();

function markOf(record: HostRecord): { readonly bucket: number; readonly hash: bigint } {
  const known = marks.get(record);
  if (known !== undefined) return known;
  const mark = { bucket: bucketOf(record.host), hash: versionHash(record) };
  marks.set(record, mark);
  return mark;
}

export function createEndpointTable(ownHost: string): EndpointTable {
  const rows = new Map<string, TableRow>();
  /** Proven address -> who holds it, the own host left out: a proof must not cost a look at all rows. */
  const holders = new Map<string, string>();
  const sums: bigint[] = Array<bigint>(BUCKETS).fill(0n);
  const modulus = 1n << 256n;
  let version = 0;
  let cached: EndpointSnapshot | undefined;

  const count = (row: VerifiedRecord, sign: 1n | -1n) => {
    const { bucket, hash } = markOf(row.record);
    sums[bucket] = ((((sums[bucket] as bigint) + sign * hash) % modulus) + modulus) % modulus;
  };
  const release = ({ record, proven }: TableRow) => {
    for (const address of proven) if (holders.get(address) === record.host) holders.delete(address);
  };
  /** One address, one host: whoever held it before has to answer on it again. */
  const hold = (host: string, address: string) => {
    if (host === ownHost) return;
    const other = rows.get(holders.get(address) ?? '');
    if (other !== undefined && other.record.host !== host)
      rows.set(other.record.host, { ...other, proven: other.proven.filter((a) => a !== address) });
    holders.set(address, host);
  };
  const put = (row: TableRow) => {
    const old = rows.get(row.record.host);
    if (old !== undefined) {
      count(old, -1n);
      release(old);
    }
    count(row, 1n);
    for (const address of row.proven) hold(row.record.host, address);
    rows.set(row.record.host, row);
    version += 1;
  };
  /** The own host needs no proof of its own addresses; others keep those that the new record still claims, unless they rebooted elsewhere. */
  const provenOf = (incoming: VerifiedRecord, old: readonly string[]): readonly string[] =>
    incoming.record.host === ownHost
      ? incoming.record.addresses
      : incoming.record.addresses.filter((a) => old.includes(a));

  return {
    merge(incoming) {
      const old = rows.get(incoming.record.host);
      if (old !== undefined) {
        const order = compareRecords(incoming.record, old.record);
        if (order < 0) return 'older';
        if (order === 0) return sameBytes(incoming.envelope.payload, old.envelope.payload) ? 'same' : 'equivocation';
      }
      const returning = old?.liveness === 'left' ? 'alive' : (old?.liveness ?? 'alive');
      const liveness: Liveness = incoming.record.leaving === true ? 'left' : returning;
      put({ ...incoming, liveness, proven: provenOf(incoming, old?.proven ?? []) });
      return old === undefined ? 'new' : 'newer';
    },
    restore(incoming, proven) {
      const liveness = incoming.record.leaving === true ? 'left' : 'alive';
      put({ ...incoming, liveness, proven: provenOf(incoming, proven) });
    },
    get: (host) => rows.get(host),
    rows: () => rows.values(),
    get size() {
      return rows.size;
    },
    setLiveness(host, liveness) {
      const row = rows.get(host);
      if (row === undefined || row.liveness === liveness || row.liveness === 'left') return false;
      rows.set(host, { ...row, liveness });
      version += 1;
      return true;
    },
    prove(host, address) {
      const row = rows.get(host);
      if (row === undefined || row.proven.includes(address) || !row.record.addresses.includes(address)) return false;
      hold(host, address);
      rows.set(host, { ...row, proven: row.record.addresses.filter((a) => a === address || row.proven.includes(a)) });
      version += 1;
      return true;
    },
    retain(keep) {
      const dropped: string[] = [];
      for (const row of rows.values()) {
        if (keep(row)) continue;
        dropped.push(row.record.host);
        count(row, -1n);
        release(row);
        rows.delete(row.record.host);
        version += 1;
      }
      return dropped;
    },
    get version() {
      return version;
    },
    snapshot(synced) {
      if (cached?.version === version && cached.synced === synced) return cached;
      const hosts = new Map<string, HostEntry>();
      for (const row of rows.values()) {
        hosts.set(row.record.host, { record: row.record, liveness: row.liveness, provenAddresses: row.proven });
      }
      cached = { version, synced, hosts };
      return cached;
    },
    digest: () => digestBytes(sums.reduce((a, b) => (a + b) % modulus, 0n)),
    bucketDigests: () => Buffer.concat(sums.map(digestBytes), BUCKETS * DIGEST_BYTES),
    versions(buckets) {
      const out: Version[] = [];
      for (const { record } of rows.values()) {
        if (buckets.has(markOf(record).bucket))
          out.push({ host: record.host, epoch: record.epoch, counter: record.counter });
      }
      return out;
    },
  };
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
