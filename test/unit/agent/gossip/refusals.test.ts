import t from 'tap';
import { createRefusals } from '../../../../agent/gossip/refusals.ts';

t.test('the last refusals by host and reason, newest first, bounded', async (t) => {
  let now = Date.parse('2026-01-01T00:00:00Z');
  const refusals = createRefusals(() => now);
  refusals.note('h1', 'group-not-granted', 'default/pay');
  refusals.note('h2', 'signature');
  refusals.note('h1', 'group-not-granted', 'default/bank');
  t.same(refusals.list(), [
    { host: 'h1', reason: 'group-not-granted', count: 2, lastAt: '2026-01-01T00:00:00.000Z', detail: 'default/bank' },
    { host: 'h2', reason: 'signature', count: 1, lastAt: '2026-01-01T00:00:00.000Z' },
  ]);
  refusals.note('h3', 'epoch');
  refusals.settle('h3');
  refusals.settle('h1');
  t.equal(refusals.list().length, 2, 'a good record ends what config was late for, and hides no false claim');
  for (let i = 0; i < 1000; i++) refusals.note(`h${i}`, 'hostile', 'x'.repeat(5000));
  t.equal(refusals.list().length, 20);
  t.equal(refusals.list()[0]?.host, 'h999');
  t.equal(refusals.list()[0]?.detail?.length, 200);
  now += 3_600_001;
  t.same(refusals.list(), []);
});
