import t from 'tap';
import { createBucket, createBuckets } from '../../../../agent/gossip/budget.ts';
import { createPingBook, createProver, gossipEndpoints, proofEndpoint } from '../../../../agent/gossip/probes.ts';
import { record } from '../../../builders/gossip.ts';

const ping = (change = {}) => ({
  host: 'h1',
  to: undefined,
  answerer: 'h1',
  sentAt: 0,
  relayFor: undefined,
  ...change,
});

t.test('a ping is answered once, by whom it was for, in time', async (t) => {
  const book = createPingBook();
  book.open('a', ping());
  t.equal(book.answer('a', 'h2', 1), undefined, 'another host');
  t.match(book.answer('a', 'h1', 1), { host: 'h1' });
  t.equal(book.answer('a', 'h1', 2), undefined, 'played back');
  book.open('b', ping());
  t.equal(book.answer('b', 'h1', 10_000), undefined, 'too late to mean anything');
  t.equal(book.answer('x', 'h1', 0), undefined, 'never asked');
});

t.test('the book is bounded', async (t) => {
  const book = createPingBook();
  for (let i = 0; i < 10_000; i++) book.open(String(i), ping());
  t.ok(book.size <= 4096, `${book.size}`);
  book.open('later', ping({ sentAt: 20_000 }));
  t.equal(book.size, 1);
});

t.test('where an address is asked for its key', async (t) => {
  const r = record('h1', {
    addresses: ['10.0.0.1', 'fd00::1'],
    gossipAddresses: ['10.0.0.1:15300', '[fd00::2]:15400'],
  });
  t.same(gossipEndpoints(r), [
    { address: '10.0.0.1', port: 15300 },
    { address: 'fd00::2', port: 15400 },
  ]);
  t.same(proofEndpoint(r, '10.0.0.1'), { address: '10.0.0.1', port: 15300 });
  t.same(proofEndpoint(r, 'fd00::1'), { address: 'fd00::1', port: 15300 }, 'the host’s first port');
  t.equal(proofEndpoint(record('h1', { gossipAddresses: [] }), '10.0.0.1'), undefined);
});

t.test('proofs are asked for later and later, and never many at once', async (t) => {
  const prover = createProver();
  const one = [{ host: 'h1', address: '10.0.0.1' }];
  const at: number[] = [];
  for (let now = 0; now <= 120_000; now += 100) if (prover.due(one, now).due.length > 0) at.push(now);
  t.equal(at[0], 0);
  t.ok(at.length >= 7 && at.length <= 12, at.join(' '));
  const again = createProver();
  const silent = at.map((now) => again.due(one, now).due[0]?.silent);
  t.equal(
    silent.indexOf(true),
    at.findIndex((ms) => ms > 9000),
    'called silent after nine seconds of tries',
  );
  prover.due([], 130_000);
  t.equal(prover.due(one, 130_001).due.length, 1, 'a new claim starts anew');
  const many = Array.from({ length: 500 }, (_, i) => ({ host: `h${i}`, address: '10.0.0.1' }));
  const first = createProver();
  t.equal(first.due(many, 0).due.length, 50);
  t.equal(first.due(many, 1).due.length, 50, 'the next ones follow');
});

t.test('buckets', async (t) => {
  let now = 0;
  const bucket = createBucket({ perSecond: 10, burst: 2 }, () => now);
  t.same([bucket.take(1), bucket.take(1), bucket.take(1)], [true, true, false]);
  now = 100;
  t.same([bucket.take(1), bucket.take(1)], [true, false]);
  now = 1e6;
  t.notOk(bucket.take(3), 'never more than the burst');
  const many = createBuckets({ perSecond: 1, burst: 1 }, () => now, 2);
  t.ok(many.take('a', 1));
  t.notOk(many.take('a', 1));
  t.ok(many.take('b', 1));
  t.ok(many.take('c', 1), 'the third pushes the first out');
  t.notOk(many.take('c', 1));
});
