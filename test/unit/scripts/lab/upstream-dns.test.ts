import { test } from 'tap';
import { answerQuery } from '../../../../scripts/lib/lab/upstream-dns.ts';

const zone = { 'outside.test': { v4: '10.77.0.253', v6: 'fd77::253' } };

test('the lab resolver answers its own names and nothing else', (t) => {
  const ask = (name: string, type: 'A' | 'AAAA' | 'MX') =>
    answerQuery(zone, { id: 7, questions: [{ name, type, class: 'IN' }] });
  t.match(ask('outside.test', 'A'), { id: 7, answers: [{ data: '10.77.0.253' }] });
  t.match(ask('OUTSIDE.test', 'AAAA'), { answers: [{ data: 'fd77::253' }] });
  t.strictSame(
    [ask('outside.test', 'MX').answers, (ask('outside.test', 'MX').flags ?? 0) & 15],
    [[], 0],
    'another type: no data',
  );
  t.equal((ask('reviews', 'A').flags ?? 0) & 15, 3, 'a name of the mesh does not exist outside');
  t.equal((ask('constructor', 'A').flags ?? 0) & 15, 3);
  t.end();
});
