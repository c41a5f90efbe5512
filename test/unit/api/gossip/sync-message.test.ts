import t from 'tap';
import {
  BUCKETS,
  bucketOf,
  DIGEST_BYTES,
  decodeSync,
  digestBytes,
  encodeSync,
  MAX_SYNC_MESSAGE_BYTES,
  type SyncMessage,
  versionHash,
} from '../../../../api/gossip/sync-message.ts';

const digest = Buffer.alloc(DIGEST_BYTES, 7);

t.test('each message survives encoding', async (t) => {
  const messages: SyncMessage[] = [
    { type: 'digest', digest },
    { type: 'equal' },
    { type: 'busy' },
    { type: 'buckets', digests: Buffer.alloc(DIGEST_BYTES * BUCKETS, 3) },
    { type: 'versions', buckets: [0, 63], versions: [{ host: 'h1', epoch: 1, counter: 2 }] },
    { type: 'records', last: true, want: ['h1'], envelopes: [Buffer.from('one'), Buffer.from('two')] },
    { type: 'records', last: false, want: [], envelopes: [] },
  ];
  for (const message of messages) t.same(decodeSync(encodeSync(message)), message, message.type);
  t.equal(encodeSync({ type: 'digest', digest }).length, 33, 'two equal tables cost 33 bytes and one');
});

t.test('junk is refused', async (t) => {
  const versions = (value: unknown) => Buffer.concat([Buffer.of(3), Buffer.from(JSON.stringify(value))]);
  const cases: [string, Uint8Array][] = [
    ['empty', new Uint8Array(0)],
    ['type', Buffer.of(99)],
    ['short digest', Buffer.concat([Buffer.of(0), digest.subarray(1)])],
    ['buckets', Buffer.concat([Buffer.of(2), digest])],
    ['not JSON', Buffer.from('\x03{')],
    ['bucket 64', versions([[64], []])],
    ['host', versions([[0], [['../etc', 1, 1]]])],
    ['counter', versions([[0], [['h1', 1, 1.5]]])],
    ['too many', versions([[0], Array.from({ length: 8193 }, () => ['h', 1, 1])])],
    ['length beyond the end', Buffer.from([4, 1, 0, 0, 0, 2, 0x5b, 0x5d, 0, 0, 1, 0])],
    ['half a length', Buffer.from([4, 1, 0, 0, 0, 2, 0x5b, 0x5d, 0])],
    ['flag', Buffer.from([4, 2, 0, 0, 0, 2, 0x5b, 0x5d])],
    ['oversize', new Uint8Array(MAX_SYNC_MESSAGE_BYTES + 1)],
  ];
  for (const [name, bytes] of cases) t.throws(() => decodeSync(bytes), { code: 'SYNC_INVALID' }, name);
});

t.test('digests', async (t) => {
  const a = versionHash({ host: 'a', epoch: 1, counter: 1 });
  t.not(a, versionHash({ host: 'a', epoch: 1, counter: 2 }));
  t.not(a, versionHash({ host: 'b', epoch: 1, counter: 1 }));
  t.equal(digestBytes(1n).length, DIGEST_BYTES);
  const seen = new Set(Array.from({ length: 1000 }, (_, i) => bucketOf(`host-${i}`)));
  t.equal(seen.size, BUCKETS, 'a thousand hosts use all buckets');
  t.throws(
    () => encodeSync({ type: 'records', last: true, want: [], envelopes: [new Uint8Array(MAX_SYNC_MESSAGE_BYTES)] }),
    { code: 'SYNC_INVALID' },
  );
});
