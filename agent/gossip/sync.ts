/**
 * Anti-entropy (DESIGN 6): repairs what gossip missed. In: a channel to a peer, a table's digests. Out: the records that either side lacks.
 * Costs 33 bytes when both are equal. Knows no libp2p and verifies nothing: `take` does, and says whether the peer is to be dropped.
 */
import { MeshError } from '../../api/errors.ts';
import { compareRecords } from '../../api/gossip/record-codec.ts';
import {
  BUCKETS,
  bucketOf,
  DIGEST_BYTES,
  decodeSync,
  encodeSync,
  MAX_SYNC_MESSAGE_BYTES,
  MAX_VERSIONS,
  type SyncMessage,
  type Version,
} from '../../api/gossip/sync-message.ts';

/** Frames in order, both ways. `receive` rejects when the peer closes, is too slow or sends more than `maxBytes`. */
export interface Channel {
  send(frame: Uint8Array): Promise<void>;
  receive(maxBytes: number): Promise<Uint8Array>;
}

/** What anti-entropy needs of a table. */
export interface SyncSource {
  digest(): Uint8Array;
  bucketDigests(): Uint8Array;
  versions(buckets: ReadonlySet<number>): Version[];
  envelope(host: string): Uint8Array | undefined;
  /** Takes records of a peer in; throws when one shows that the peer is hostile. */
  take(envelopes: readonly Uint8Array[]): Promise<void>;
  /** False: the peer has used up what it may be sent for now. */
  mayRead(bytes: number): boolean;
}

export interface SyncResult {
  readonly equal: boolean;
  readonly received: number;
  readonly sent: number;
}

/** A batch of records, well below the largest message. */
const BATCH_BYTES = 128 * 1024;
const MAX_RECORDS = 20_000;
/** Hosts whose record is asked for in one session: with names of 63 characters and a batch they fit one message. The rest goes with the next. */
const MAX_WANT = 1500;
/** Of one message of versions; a version is a name and two numbers of up to 16 digits. */
const MAX_VERSIONS_BYTES = 240 * 1024;
const VERSION_BYTES = 38;

/** The opening side of a session. Throws SYNC_INVALID, SYNC_BUSY, or what the channel throws. */
export async function openSync(channel: Channel, source: SyncSource): Promise<SyncResult> {
  await channel.send(encodeSync({ type: 'digest', digest: source.digest() }));
  const first = await receive(channel);
  if (first.type === 'equal') return { equal: true, received: 0, sent: 0 };
  if (first.type === 'busy') throw new MeshError('SYNC_BUSY', 'the peer has sent enough for now');
  if (first.type !== 'buckets') throw unexpected(first);
  await channel.send(encodeSync(versionsOf(source, differing(first.digests, source.bucketDigests()))));
  const { received, want } = await receiveRecords(channel, source);
  const sent = await sendRecords(channel, source, want, []);
  return { equal: false, received, sent };
}

/** The answering side. Throws as openSync does. */
export async function answerSync(channel: Channel, source: SyncSource): Promise<SyncResult> {
  const first = await receive(channel);
  if (first.type !== 'digest') throw unexpected(first);
  if (Buffer.compare(first.digest, source.digest()) === 0) {
    await channel.send(encodeSync({ type: 'equal' }));
    return { equal: true, received: 0, sent: 0 };
  }
  if (!source.mayRead(BUCKETS * DIGEST_BYTES)) {
    await channel.send(encodeSync({ type: 'busy' }));
    throw new MeshError('SYNC_BUSY', 'the peer asks for too much');
  }
  await channel.send(encodeSync({ type: 'buckets', digests: source.bucketDigests() }));
  const theirs = await receive(channel);
  if (theirs.type !== 'versions') throw unexpected(theirs);
  const { send, want } = compareVersions(
    source.versions(new Set(theirs.buckets)),
    theirs.versions,
    new Set(theirs.buckets),
  );
  const sent = await sendRecords(channel, source, send, want);
  const { received } = await receiveRecords(channel, source);
  return { equal: false, received, sent };
}

/** What this side holds in buckets that differ: as many of them as fit one message, the rest goes with the next session. */
function versionsOf(source: SyncSource, differ: readonly number[]): SyncMessage & { type: 'versions' } {
  for (let buckets = differ; ; buckets = buckets.slice(0, Math.floor(buckets.length / 2))) {
    const versions = source.versions(new Set(buckets));
    const bytes = versions.reduce((sum, { host }) => sum + host.length + VERSION_BYTES, 0);
    if (bytes <= MAX_VERSIONS_BYTES && versions.length <= MAX_VERSIONS) return { type: 'versions', buckets, versions };
  }
}

/** Buckets whose digests differ. */
export function differing(a: Uint8Array, b: Uint8Array): number[] {
  const out: number[] = [];
  for (let i = 0; i < BUCKETS; i++) {
    const range: [number, number] = [i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES];
    if (Buffer.compare(a.subarray(...range), b.subarray(...range)) !== 0) out.push(i);
  }
  return out;
}

/** What this side has newer, and what the other has newer. Versions outside the named buckets are left out: nobody asked for them. */
export function compareVersions(
  own: readonly Version[],
  theirs: readonly Version[],
  buckets: ReadonlySet<number>,
): { send: string[]; want: string[] } {
  const other = new Map(theirs.filter((v) => buckets.has(bucketOf(v.host))).map((v) => [v.host, v]));
  const send: string[] = [];
  const want: string[] = [];
  for (const mine of own) {
    const yours = other.get(mine.host);
    other.delete(mine.host);
    const order = yours === undefined ? 1 : compareRecords(mine, yours);
    if (order > 0) send.push(mine.host);
    if (order < 0) want.push(mine.host);
  }
  return { send, want: [...want, ...other.keys()].slice(0, MAX_WANT) };
}

async function sendRecords(
  channel: Channel,
  source: SyncSource,
  hosts: readonly string[],
  want: readonly string[],
): Promise<number> {
  let batch: Uint8Array[] = [];
  let bytes = 0;
  let sent = 0;
  for (const host of hosts) {
    const envelope = source.envelope(host);
    if (envelope === undefined) continue;
    if (!source.mayRead(envelope.length)) break; // the rest goes with the next session
    batch.push(envelope);
    bytes += envelope.length;
    sent += 1;
    if (bytes < BATCH_BYTES) continue;
    await channel.send(encodeSync({ type: 'records', last: false, want: [], envelopes: batch }));
    batch = [];
    bytes = 0;
  }
  await channel.send(encodeSync({ type: 'records', last: true, want, envelopes: batch }));
  return sent;
}

async function receiveRecords(
  channel: Channel,
  source: SyncSource,
): Promise<{ received: number; want: readonly string[] }> {
  let received = 0;
  for (;;) {
    const message = await receive(channel);
    if (message.type !== 'records') throw unexpected(message);
    if (!message.last && message.envelopes.length === 0) throw new MeshError('SYNC_INVALID', 'a batch without records');
    received += message.envelopes.length;
    if (received > MAX_RECORDS) throw new MeshError('SYNC_INVALID', `more than ${MAX_RECORDS} records in one session`);
    await source.take(message.envelopes);
    if (message.last) return { received, want: message.want };
  }
}

async function receive(channel: Channel): Promise<SyncMessage> {
  return decodeSync(await channel.receive(MAX_SYNC_MESSAGE_BYTES));
}

function unexpected(message: SyncMessage): MeshError {
  return new MeshError('SYNC_INVALID', `a message of type ${message.type} out of order`);
}
