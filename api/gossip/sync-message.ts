/**
 * Anti-entropy on the wire (DESIGN 6): a 32-byte digest, then 64 bucket digests, then host and version pairs of the buckets that differ,
 * then records. One message is a type byte and a body; frames carry their length outside. Pure; bounds before reading.
 */
import { createHash } from 'node:crypto';
import { MeshError } from '../errors.ts';
import { LABEL } from '../identity/spiffe-id.ts';
import { MAX_ENVELOPE_BYTES } from './envelope.ts';

export const BUCKETS = 64;
export const DIGEST_BYTES = 32;
/** One message, at most. Records of a larger answer come in several messages. */
export const MAX_SYNC_MESSAGE_BYTES = 256 * 1024;
/** Hosts of a mesh that one answer may name. */
export const MAX_VERSIONS = 8192;

/** Which version of a host's record a table holds. */
export interface Version {
  readonly host: string;
  readonly epoch: number;
  readonly counter: number;
}

/**
 * digest: opens a session. equal: nothing to do. buckets: 64 digests of the answering side. versions: what the opening side holds in the
 * buckets that differ (named, so that the answering side knows what is missing). records: envelopes; `last` ends the sender's turn, and
 * the answering side's last one names the hosts whose newer record it wants. done: the session is over.
 */
export type SyncMessage =
  | { readonly type: 'digest'; readonly digest: Uint8Array }
  | { readonly type: 'equal' }
  | { readonly type: 'buckets'; readonly digests: Uint8Array }
  | { readonly type: 'versions'; readonly buckets: readonly number[]; readonly versions: readonly Version[] }
  | {
      readonly type: 'records';
      readonly last: boolean;
      readonly want: readonly string[];
      readonly envelopes: readonly Uint8Array[];
    }
  | { readonly type: 'busy' };

const TYPES = ['digest', 'equal', 'buckets', 'versions', 'records', 'busy'] as const;

/** Hashing each name in each comparison was most of its cost. Emptied when full: names come from peers. */
const buckets = new Map<string, number>();

/** The bucket of a host: the first six bits of a hash, so that hosts spread evenly whatever their names. */
export function bucketOf(host: string): number {
  const known = buckets.get(host);
  if (known !== undefined) return known;
  const bucket = (createHash('sha256').update(host).digest()[0] as number) % BUCKETS;
  if (buckets.size >= MAX_VERSIONS) buckets.clear();
  buckets.set(host, bucket);
  return bucket;
}

/** One version as a number that is added up modulo 2^256: order does not matter, and an insider cannot cancel another's (XOR can). */
export function versionHash({ host, epoch, counter }: Version): bigint {
  return BigInt(`0x${createHash('sha256').update(`hostmesh version 1\0${host}\0${epoch}\0${counter}`).digest('hex')}`);
}

export function digestBytes(sum: bigint): Uint8Array {
  return Buffer.from(sum.toString(16).padStart(64, '0'), 'hex');
}

/** Encodes one message. Throws SYNC_INVALID if it is larger than a peer would take. */
export function encodeSync(message: SyncMessage): Uint8Array {
  const out = Buffer.concat([Buffer.of(TYPES.indexOf(message.type)), ...body(message)]);
  if (out.length > MAX_SYNC_MESSAGE_BYTES) throw invalid('too large');
  return out;
}

function body(message: SyncMessage): Uint8Array[] {
  switch (message.type) {
    case 'digest':
      return [message.digest];
    case 'buckets':
      return [message.digests];
    case 'versions':
      return [
        Buffer.from(JSON.stringify([message.buckets, message.versions.map((v) => [v.host, v.epoch, v.counter])])),
      ];
    case 'records': {
      const want = Buffer.from(JSON.stringify(message.want));
      const parts: Uint8Array[] = [Buffer.of(message.last ? 1 : 0), length(want), want];
      for (const envelope of message.envelopes) parts.push(length(envelope), envelope);
      return parts;
    }
    default:
      return [];
  }
}

/** Decodes one message of an untrusted peer. Throws SYNC_INVALID. */
export function decodeSync(bytes: Uint8Array): SyncMessage {
  if (bytes.length < 1 || bytes.length > MAX_SYNC_MESSAGE_BYTES) throw invalid('size');
  const rest = Buffer.from(bytes.subarray(1));
  switch (TYPES[bytes[0] as number]) {
    case 'digest':
      if (rest.length !== DIGEST_BYTES) throw invalid('digest');
      return { type: 'digest', digest: rest };
    case 'equal':
      return { type: 'equal' };
    case 'busy':
      return { type: 'busy' };
    case 'buckets':
      if (rest.length !== DIGEST_BYTES * BUCKETS) throw invalid('buckets');
      return { type: 'buckets', digests: rest };
    case 'versions':
      return decodeVersions(rest);
    case 'records':
      return decodeRecords(rest);
    default:
      throw invalid('type');
  }
}

function decodeVersions(rest: Buffer): SyncMessage {
  const value = json(rest);
  const [buckets, versions] = Array.isArray(value) && value.length === 2 ? (value as unknown[]) : [];
  if (!Array.isArray(buckets) || buckets.length > BUCKETS || !Array.isArray(versions) || versions.length > MAX_VERSIONS)
    throw invalid('versions');
  if (!buckets.every((b): b is number => Number.isInteger(b) && b >= 0 && b < BUCKETS)) throw invalid('buckets');
  return { type: 'versions', buckets, versions: versions.map(decodeVersion) };
}

function decodeVersion(value: unknown): Version {
  const [host, epoch, counter] = Array.isArray(value) && value.length === 3 ? (value as unknown[]) : [];
  if (typeof host !== 'string' || !LABEL.test(host) || !Number.isSafeInteger(epoch) || !Number.isSafeInteger(counter))
    throw invalid('version');
  return { host, epoch: epoch as number, counter: counter as number };
}

function decodeRecords(rest: Buffer): SyncMessage {
  if (rest.length < 5 || (rest[0] as number) > 1) throw invalid('records');
  let at = 1;
  const take = (max: number): Buffer => {
    if (at + 4 > rest.length) throw invalid('length');
    const size = rest.readUInt32BE(at);
    if (size > max || at + 4 + size > rest.length) throw invalid('length');
    at += 4 + size;
    return rest.subarray(at - size, at);
  };
  const want = json(take(MAX_SYNC_MESSAGE_BYTES));
  if (!Array.isArray(want) || want.length > MAX_VERSIONS) throw invalid('want');
  if (!want.every((h): h is string => typeof h === 'string' && LABEL.test(h))) throw invalid('want');
  const envelopes: Uint8Array[] = [];
  while (at < rest.length) envelopes.push(take(MAX_ENVELOPE_BYTES));
  return { type: 'records', last: rest[0] === 1, want, envelopes };
}

function json(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    throw invalid('not JSON');
  }
}

function length(bytes: Uint8Array): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(bytes.length, 0);
  return out;
}

function invalid(what: string): MeshError {
  return new MeshError('SYNC_INVALID', `not a sync message: ${what}`);
}
