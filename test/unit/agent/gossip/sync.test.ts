import t from 'tap';
import { createEndpointTable, type EndpointTable } from '../../../../agent/gossip/endpoint-table.ts';
import {
  answerSync,
  type Channel,
  compareVersions,
  differing,
  openSync,
  type SyncSource,
} from '../../../../agent/gossip/sync.ts';
import { MeshError } from '../../../../api/errors.ts';
import { decodeRecord } from '../../../../api/gossip/record-codec.ts';
import { BUCKETS, bucketOf, DIGEST_BYTES, encodeSync } from '../../../../api/gossip/sync-message.ts';
import { record, verified } from '../../../builders/gossip.ts';

/** Two channels that are each other's far end; counts what crosses. */
function pipe(): { a: Channel; b: Channel; bytes: () => number } {
  let bytes = 0;
  const end = (
    inbox: Uint8Array[],
    outbox: Uint8Array[],
    wake: { in?: () => void; out?: () => void },
    mine: 'in' | 'out',
  ): Channel => ({
    async send(frame) {
      bytes += frame.length;
      outbox.push(frame);
      wake[mine === 'in' ? 'out' : 'in']?.();
    },
    async receive(maxBytes) {
      while (inbox.length === 0) {
        await new Promise<void>((resolve) => {
          wake[mine] = resolve;
        });
      }
      const frame = inbox.shift() as Uint8Array;
      if (frame.length > maxBytes) throw new MeshError('FRAME_TOO_LARGE', 'x');
      return frame;
    },
  });
  const one: Uint8Array[] = [];
  const two: Uint8Array[] = [];
  const wake = {};
  return { a: end(one, two, wake, 'in'), b: end(two, one, wake, 'out'), bytes: () => bytes };
}

function source(table: EndpointTable, mayRead = (_bytes: number) => true): SyncSource {
  return {
    digest: () => table.digest(),
    bucketDigests: () => table.bucketDigests(),
    versions: (buckets) => table.versions(buckets),
    envelope: (host) => table.get(host)?.envelope.bytes,
    async take(envelopes) {
      for (const bytes of envelopes) table.merge(verified(decodeRecord(bytes)));
    },
    mayRead,
  };
}

function tables(count: number): [EndpointTable, EndpointTable] {
  const pair: [EndpointTable, EndpointTable] = [createEndpointTable('a'), createEndpointTable('b')];
  for (let i = 0; i < count; i++) for (const table of pair) table.merge(verified(record(`h${i}`)));
  return pair;
}

async function session(one: EndpointTable, two: EndpointTable, mayRead?: (bytes: number) => boolean) {
  const { a, b, bytes } = pipe();
  const [opened, answered] = await Promise.all([openSync(a, source(one)), answerSync(b, source(two, mayRead))]);
  return { opened, answered, bytes: bytes() };
}

t.test('two equal tables cost a digest', async (t) => {
  const [one, two] = tables(1000);
  const result = await session(one, two);
  t.equal(result.opened.equal, true);
  t.ok(result.bytes <= 42, `${result.bytes} bytes`);
});

t.test('one record of a thousand costs little', async (t) => {
  const [one, two] = tables(1000);
  two.merge(verified(record('h500', { counter: 2 })));
  const { opened, bytes } = await session(one, two);
  t.equal(opened.received, 1);
  t.equal(one.get('h500')?.record.counter, 2);
  t.ok(bytes < 4000, `${bytes} bytes`);
  t.same(one.digest(), two.digest());
});

t.test('both sides come out equal, whatever either lacked', async (t) => {
  const [one, two] = tables(300);
  one.merge(verified(record('only-one-1')));
  two.merge(verified(record('only-two-2')));
  for (let i = 0; i < 100; i++) one.merge(verified(record(`h${i}`, { counter: 5 })));
  for (let i = 50; i < 150; i++) two.merge(verified(record(`h${i}`, { counter: 4 })));
  await session(one, two);
  t.same(one.digest(), two.digest());
  t.equal(one.size, 302);
  t.equal(two.get('h99')?.record.counter, 5);
  t.equal(one.get('h149')?.record.counter, 4);
});

t.test('an empty joiner of a thousand gets all of it', async (t) => {
  const [, two] = tables(1000);
  const joiner = createEndpointTable('j');
  const { bytes } = await session(joiner, two);
  t.equal(joiner.size, 1000);
  t.ok(bytes < 700_000, `${bytes} bytes`);
});

t.test('what a peer may read is bounded, and the rest follows', async (t) => {
  const [, two] = tables(100);
  const joiner = createEndpointTable('j');
  let left = 10_000;
  const mayRead = (bytes: number) => {
    left -= bytes;
    return left >= 0;
  };
  await session(joiner, two, mayRead);
  t.ok(joiner.size > 0 && joiner.size < 100, `${joiner.size} records`);
  left = 1e6;
  await session(joiner, two, mayRead);
  t.equal(joiner.size, 100);
  joiner.retain(() => false);
  left = 0;
  await t.rejects(session(joiner, two, mayRead), { code: 'SYNC_BUSY' });
});

t.test('messages out of order, and junk, end the session', async (t) => {
  const [one] = tables(1);
  for (const frame of [encodeSync({ type: 'equal' }), Buffer.of(99), Buffer.alloc(0)]) {
    const { a, b } = pipe();
    await a.send(frame);
    await t.rejects(answerSync(b, source(one)), { code: 'SYNC_INVALID' });
  }
  const { a, b } = pipe();
  await b.send(encodeSync({ type: 'records', last: true, want: [], envelopes: [] }));
  await t.rejects(openSync(a, source(one)), { code: 'SYNC_INVALID' });
});

t.test('an endless answer has an end', async (t) => {
  const [one] = tables(1);
  const { a, b } = pipe();
  const opening = openSync(a, { ...source(one), take: async () => {} });
  opening.catch(() => {});
  await b.receive(1000);
  await b.send(encodeSync({ type: 'buckets', digests: Buffer.alloc(BUCKETS * DIGEST_BYTES, 1) }));
  await b.receive(100_000);
  const envelopes = Array.from({ length: 10_001 }, () => Buffer.from('x'));
  for (let i = 0; i < 2; i++) await b.send(encodeSync({ type: 'records', last: false, want: [], envelopes }));
  await t.rejects(opening, { code: 'SYNC_INVALID' });
});

t.test('comparing versions', async (t) => {
  const v = (host: string, counter: number, epoch = 1) => ({ host, epoch, counter });
  const all = new Set(Array.from({ length: BUCKETS }, (_, i) => i));
  t.same(compareVersions([v('a', 1), v('b', 2), v('c', 1)], [v('b', 1), v('c', 2), v('d', 1)], all), {
    send: ['a', 'b'],
    want: ['c', 'd'],
  });
  t.same(compareVersions([v('a', 9, 1)], [v('a', 1, 2)], all), { send: [], want: ['a'] });
  t.same(
    compareVersions([], [v('d', 1)], new Set([(bucketOf('d') + 1) % BUCKETS])),
    { send: [], want: [] },
    'outside what was asked',
  );
  const digests = Buffer.alloc(BUCKETS * DIGEST_BYTES);
  const other = Buffer.from(digests);
  other[DIGEST_BYTES * 5 + 31] = 1;
  t.same(differing(digests, other), [5]);
});

t.test(
  'tables of thousands of hosts that have nothing in common become equal, a message never too large',
  async (t) => {
    const make = (side: string, from: number) => {
      const table = createEndpointTable('own');
      for (let n = from; n < from + 5000; n++)
        table.merge(
          verified(record(`${side}-${n}-${'x'.repeat(55)}`.slice(0, 63), { gossipAddresses: [], addresses: [] })),
        );
      return table;
    };
    const [x, y] = [make('x', 0), make('y', 5000)];
    let sessions = 0;
    while (Buffer.compare(x.digest(), y.digest()) !== 0 && sessions < 20) {
      const { a, b } = pipe();
      const [opened] = await Promise.all([openSync(a, source(x)), answerSync(b, source(y))]);
      t.ok(opened.received + opened.sent > 0, 'each session brings some');
      sessions += 1;
    }
    t.equal(x.size, 10_000);
    t.equal(y.size, 10_000);
    t.comment(`${sessions} sessions`);
  },
);
