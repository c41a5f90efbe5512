import t from 'tap';
import { createEndpointTable } from '../../../../agent/gossip/endpoint-table.ts';
import { record, verified } from '../../../builders/gossip.ts';

t.test('the newer record wins, the first of two equal versions stays', async (t) => {
  const table = createEndpointTable('own');
  t.equal(table.merge(verified(record('h1'))), 'new');
  t.equal(table.merge(verified(record('h1'))), 'same');
  t.equal(table.merge(verified(record('h1', { network: 'other' }))), 'equivocation');
  t.equal(table.get('h1')?.record.network, 'default');
  t.equal(table.merge(verified(record('h1', { counter: 3 }))), 'newer');
  t.equal(table.merge(verified(record('h1', { counter: 2 }))), 'older');
  t.equal(
    table.merge(verified(record('h1', { epoch: 2, counter: 1 }))),
    'newer',
    'a re-enrolled host is above its older records',
  );
  t.equal(table.size, 1);
});

t.test('an address is proven by an answer only, and kept while claimed', async (t) => {
  const table = createEndpointTable('own');
  table.merge(verified(record('h1', { addresses: ['10.0.0.1', 'fd00::1'] })));
  t.same(table.get('h1')?.proven, []);
  t.notOk(table.prove('h1', '10.0.0.9'), 'not claimed');
  t.ok(table.prove('h1', 'fd00::1'));
  t.notOk(table.prove('h1', 'fd00::1'), 'known already');
  table.prove('h1', '10.0.0.1');
  t.same(table.get('h1')?.proven, ['10.0.0.1', 'fd00::1'], 'in the record’s order');
  table.merge(verified(record('h1', { counter: 2, addresses: ['fd00::1', '10.0.0.7'] })));
  t.same(table.get('h1')?.proven, ['fd00::1']);
  table.merge(verified(record('own', { addresses: ['10.0.0.2'] })));
  t.same(table.get('own')?.proven, ['10.0.0.2'], 'the own host proves nothing to itself');
});

t.test('an address that another host answers on is not inherited', async (t) => {
  const table = createEndpointTable('own');
  table.merge(verified(record('h1', { addresses: ['10.0.0.1'] })));
  table.prove('h1', '10.0.0.1');
  table.merge(verified(record('h2', { addresses: ['10.0.0.1'] })));
  t.same(table.get('h2')?.proven, [], 'h2 has not answered there');
  table.prove('h2', '10.0.0.1');
  t.same(table.get('h1')?.proven, [], 'h1 has to answer again');
});

t.test('liveness', async (t) => {
  const table = createEndpointTable('own');
  table.merge(verified(record('h1')));
  t.equal(table.get('h1')?.liveness, 'alive');
  t.ok(table.setLiveness('h1', 'dead'));
  t.notOk(table.setLiveness('h1', 'dead'));
  table.merge(verified(record('h1', { counter: 2 })));
  t.equal(table.get('h1')?.liveness, 'dead', 'a newer record alone raises nobody');
  table.merge(verified(record('h1', { counter: 3, leaving: true })));
  t.equal(table.get('h1')?.liveness, 'left', 'at once');
  t.notOk(table.setLiveness('h1', 'alive'), 'an answer does not bring back who left');
  table.merge(verified(record('h1', { counter: 4 })));
  t.equal(table.get('h1')?.liveness, 'alive');
  t.notOk(table.setLiveness('nobody', 'dead'));
});

t.test('a restored host is alive with its proven addresses', async (t) => {
  const table = createEndpointTable('own');
  table.restore(verified(record('h1', { addresses: ['10.0.0.1'] })), ['10.0.0.1', '10.0.0.200']);
  t.match(table.snapshot(false).hosts.get('h1'), { liveness: 'alive', provenAddresses: ['10.0.0.1'] });
  table.restore(verified(record('h2', { leaving: true })), []);
  t.equal(table.get('h2')?.liveness, 'left');
});

t.test('snapshots are immutable and cost nothing when nothing changed', async (t) => {
  const table = createEndpointTable('own');
  table.merge(verified(record('h1')));
  const before = table.snapshot(true);
  t.equal(table.snapshot(true), before);
  t.not(table.snapshot(false), before);
  table.setLiveness('h1', 'suspect');
  const after = table.snapshot(true);
  t.equal(before.hosts.get('h1')?.liveness, 'alive');
  t.equal(after.hosts.get('h1')?.liveness, 'suspect');
  t.ok(after.version > before.version);
});

t.test('digests follow versions, whatever the order', async (t) => {
  const one = createEndpointTable('a');
  const two = createEndpointTable('b');
  const hosts = Array.from({ length: 200 }, (_, i) => `host-${i}`);
  for (const h of hosts) one.merge(verified(record(h, { counter: 2 })));
  for (const h of hosts.toReversed()) two.merge(verified(record(h)));
  t.notSame(one.digest(), two.digest());
  for (const h of hosts) two.merge(verified(record(h, { counter: 2 })));
  t.same(one.digest(), two.digest());
  t.same(one.bucketDigests(), two.bucketDigests());
  t.same(
    two.retain((row) => row.record.host !== 'host-7'),
    ['host-7'],
  );
  t.notSame(one.digest(), two.digest());
  t.equal(two.versions(new Set(Array.from({ length: 64 }, (_, i) => i))).length, 199);
  two.retain(() => false);
  t.same(Buffer.from(two.digest()), Buffer.alloc(32), 'empty again is zero again');
});
