import t from 'tap';
import { compareRecords, decodeRecord, encodeRecord, refuseRecord } from '../../../../api/gossip/record-codec.ts';
import { record } from '../../../builders/gossip.ts';

t.test('a record survives encoding', async (t) => {
  const full = record('h1', { workloads: [{ group: 'default/web', health: 'draining', weight: 7 }], leaving: true });
  t.same(decodeRecord(encodeRecord(full)), full);
  t.same(decodeRecord(encodeRecord(record('h1'))), record('h1'));
});

t.test('fields of a newer agent are left alone', async (t) => {
  const bytes = Buffer.from(JSON.stringify({ ...record('h1'), zone: 'z' }));
  t.same(decodeRecord(bytes), record('h1'));
});

t.test('every field is checked', async (t) => {
  const cases: [string, object][] = [
    ['host', { host: 'H1' }],
    ['host', { host: '../x' }],
    ['epoch', { epoch: -1 }],
    ['epoch', { epoch: 1.5 }],
    ['counter', { counter: 2 ** 53 }],
    ['counter', { counter: '1' }],
    ['capability', { capability: null }],
    ['network', { network: '' }],
    ['addresses', { addresses: ['10.0.0.01'] }],
    ['addresses', { addresses: Array.from({ length: 9 }, (_, i) => `10.0.0.${i}`) }],
    ['addresses', { addresses: [1] }],
    ['gossipAddresses', { gossipAddresses: ['10.0.0.1'] }],
    ['probeKey', { probeKey: 'AAAA' }],
    ['probeKey', { probeKey: 'x'.repeat(44) }],
    ['workloads', { workloads: [null] }],
    ['workloads.group', { workloads: [{ group: 'web', health: 'healthy' }] }],
    ['workloads.health', { workloads: [{ group: 'default/web', health: 'fine' }] }],
    ['workloads.weight', { workloads: [{ group: 'default/web', health: 'healthy', weight: 0 }] }],
    ['workloads.weight', { workloads: [{ group: 'default/web', health: 'healthy', weight: 1001 }] }],
    ['leaving', { leaving: false }],
  ];
  for (const [field, change] of cases) {
    const bytes = Buffer.from(JSON.stringify({ ...record('h1'), ...change }));
    t.throws(() => decodeRecord(bytes), { code: 'RECORD_INVALID', details: { field } }, JSON.stringify(change));
  }
  const twice = [{ group: 'default/web', health: 'healthy' as const }];
  t.throws(
    () => encodeRecord(record('h1', { workloads: [...twice, ...twice] })),
    { code: 'RECORD_INVALID' },
    'one group twice',
  );
});

t.test('size comes before parsing', async (t) => {
  t.throws(() => decodeRecord(new Uint8Array(8 * 1024 + 1)), { code: 'RECORD_TOO_LARGE' });
  for (const junk of ['', '[]', 'null', '1', '{', '\xff'])
    t.throws(() => decodeRecord(Buffer.from(junk, 'latin1')), { code: 'RECORD_INVALID' }, junk);
});

t.test('order is epoch, then counter', async (t) => {
  t.ok(compareRecords({ epoch: 2, counter: 1 }, { epoch: 1, counter: 9 }) > 0);
  t.ok(compareRecords({ epoch: 1, counter: 1 }, { epoch: 1, counter: 2 }) < 0);
  t.equal(compareRecords({ epoch: 1, counter: 1 }, { epoch: 1, counter: 1 }), 0);
});

t.test('what config does not grant is refused, by reason', async (t) => {
  const grant = { host: 'h1', epoch: 1, workloadGroups: ['default/web'], gossipAddresses: [] };
  const trust = { grant, revoked: false, addressAllowed: (a: string) => a !== '10.9.9.9' };
  const r = record('h1', { workloads: [{ group: 'default/web', health: 'healthy' }] });
  t.equal(refuseRecord(r, 'h1', trust), undefined);
  t.equal(refuseRecord(r, 'h2', trust), 'signer');
  t.equal(refuseRecord(r, 'h1', { ...trust, grant: undefined }), 'no-grant');
  t.equal(refuseRecord(r, 'h1', { ...trust, revoked: true }), 'revoked');
  t.equal(refuseRecord({ ...r, epoch: 2 }, 'h1', trust), 'epoch');
  t.equal(
    refuseRecord({ ...r, workloads: [{ group: 'default/pay', health: 'healthy' }] }, 'h1', trust),
    'group-not-granted',
  );
  t.equal(refuseRecord({ ...r, addresses: ['10.9.9.9'] }, 'h1', trust), 'address');
  t.equal(refuseRecord({ ...r, gossipAddresses: ['10.9.9.9:1'] }, 'h1', trust), 'address');
});
