import t from 'tap';
import { createEndpointTable } from '../../../../agent/gossip/endpoint-table.ts';
import { createIntake, type IntakeResult, isHostile } from '../../../../agent/gossip/intake.ts';
import { createTrust, type Grants } from '../../../../agent/gossip/trust.ts';
import { sealEnvelope } from '../../../../api/gossip/envelope.ts';
import { encodeRecord } from '../../../../api/gossip/record-codec.ts';
import type { HostGrant } from '../../../../api/signed-config/desired-config.ts';
import { record, sealed } from '../../../builders/gossip.ts';
import { createTestCa } from '../../../builders/test-ca.ts';

const ca = createTestCa();
const h1 = ca.host('h1');
const now = Date.now();
const DAY = 86_400_000;

function room(change: Partial<Grants> = {}) {
  const grant = (host: string): HostGrant => ({ host, epoch: 1, workloadGroups: ['default/web'], gossipAddresses: [] });
  const grants: Grants = {
    hosts: new Map(['h1', 'h2', 'own'].map((h) => [h, grant(h)])),
    revokedHosts: new Set(),
    intermediates: [ca.intermediatePem],
    ...change,
  };
  const trust = createTrust({ trustDomain: ca.trustDomain, grants, addressAllowed: () => true });
  const table = createEndpointTable('own');
  const counts = new Map<IntakeResult, number>();
  const own: number[] = [];
  const refused: string[] = [];
  const intake = createIntake({
    ownHost: 'own',
    trust,
    table,
    monotonic: () => 0,
    onMerged: () => {},
    onOwn: (v) => own.push(v.record.counter),
    count: (result) => counts.set(result, (counts.get(result) ?? 0) + 1),
    onRefused: (host, reason, detail) => refused.push([host, reason, detail].join(' ').trim()),
  });
  const take = (bytes: Uint8Array, at: number | undefined = now) => intake.take(bytes, at, true);
  return { grants, trust, table, counts, own, refused, intake, take };
}

t.test('a record of a granted host comes in, once', async (t) => {
  const { take, table } = room();
  const { bytes } = sealed(h1, record('h1'));
  t.equal(take(bytes), 'merged');
  t.equal(take(bytes), 'known');
  t.equal(take(sealed(h1, record('h1', { counter: 3 })).bytes), 'merged');
  t.equal(take(bytes), 'known', 'an older one played back');
  t.equal(take(sealed(h1, record('h1', { counter: 3, network: 'x' })).bytes), 'equivocation');
  t.equal(table.get('h1')?.record.counter, 3);
});

t.test('everything else is dropped, by reason', async (t) => {
  const foreign = createTestCa();
  const h2 = ca.host('h2');
  const good = sealed(h1, record('h1'));
  const forged = Buffer.from(good.bytes);
  forged[10] = (forged[10] as number) ^ 1;
  const cases: [IntakeResult, boolean, Uint8Array][] = [
    ['malformed', true, Buffer.from('junk')],
    ['malformed', true, new Uint8Array(0)],
    ['malformed', true, sealEnvelope('record', Buffer.from('{}'), h1.privateKey, Buffer.from('no certificate')).bytes],
    ['version', false, Buffer.concat([Buffer.of(9), good.bytes.subarray(1)])],
    ['signature', true, forged],
    ['signature', true, sealEnvelope('record', good.payload, h2.privateKey, h1.leaf.raw).bytes],
    ['signer', true, sealed(h2, record('h1')).bytes],
    ['certificate', false, sealed(foreign.host('h1'), record('h1')).bytes],
    [
      'certificate',
      false,
      sealed(ca.host('h1', { notBefore: now - 2 * DAY, notAfter: now - DAY }), record('h1')).bytes,
    ],
    [
      'certificate',
      false,
      sealed(ca.host('h1', { notBefore: now + 2 * DAY, notAfter: now + 3 * DAY }), record('h1')).bytes,
    ],
    ['not-a-host', true, sealed(ca.workload('default', 'web', 'h1'), record('h1')).bytes],
    ['content', false, sealEnvelope('record', Buffer.from('{}'), h1.privateKey, h1.leaf.raw).bytes],
    ['no-grant', false, sealed(ca.host('h9'), record('h9')).bytes],
    ['epoch', false, sealed(h1, record('h1', { epoch: 2 })).bytes],
    [
      'group-not-granted',
      false,
      sealed(h1, record('h1', { workloads: [{ group: 'default/pay', health: 'healthy' }] })).bytes,
    ],
  ];
  for (const [want, hostile, bytes] of cases) {
    const { take, table, counts } = room();
    const result = take(bytes);
    t.equal(result, want);
    t.equal(isHostile(result), hostile, `${want} closes the link: ${hostile}`);
    t.equal(table.size, 0, 'nothing came in');
    t.equal(counts.get(want), 1, 'counted');
  }
  const revoked = room({ revokedHosts: new Set(['h1']) });
  t.equal(revoked.take(good.bytes), 'revoked');
});

t.test('who is to blame is named by a certificate, never by a claim', async (t) => {
  const expired = ca.host('h1', { notBefore: now - 9 * DAY, notAfter: now - DAY });
  const cases: [string[], Uint8Array][] = [
    [[], Buffer.from('junk')],
    [[], sealed(ca.host('h2'), record('h1')).bytes], // the link that brought it is blamed
    [[], sealed(createTestCa().host('h1'), record('h1')).bytes],
    [[], sealEnvelope('record', encodeRecord(record('h1')), h1.privateKey, expired.leaf.raw).bytes],
    [['h1 certificate'], sealed(expired, record('h1')).bytes],
    [['h1 content'], sealEnvelope('record', Buffer.from('{}'), h1.privateKey, h1.leaf.raw).bytes],
    [['h9 no-grant'], sealed(ca.host('h9'), record('h9')).bytes],
    [
      ['h1 group-not-granted default/pay'],
      sealed(
        h1,
        record('h1', { workloads: ['default/web', 'default/pay'].map((group) => ({ group, health: 'healthy' })) }),
      ).bytes,
    ],
  ];
  for (const [want, bytes] of cases) {
    const { take, refused } = room();
    take(bytes);
    t.same(refused, want);
  }
  const { take, refused } = room();
  take(sealed(h1, record('h1')).bytes);
  take(sealed(h1, record('h1', { network: 'x' })).bytes);
  t.same(refused, ['h1 equivocation two records numbered 1.1']);
});

t.test(
  'clocks a day apart: what was renewed today by the others is taken by one that lives in yesterday',
  async (t) => {
    const today = ca.host('h1', { notBefore: now - 15 * 60_000, notAfter: now + 30 * DAY });
    t.equal(room().take(sealed(today, record('h1')).bytes, now - DAY + 3_600_000), 'merged');
    t.equal(room().take(sealed(today, record('h1')).bytes, now + DAY), 'merged');
    const { take } = room();
    t.equal(take(sealed(today, record('h1')).bytes), 'merged');
    t.equal(take(sealed(today, record('h1', { counter: 2 })).bytes, now - DAY + 3_600_000), 'merged', 'known leaf');
  },
);

t.test('another trust domain is refused', async (t) => {
  const other = createTestCa('other.test');
  const { take } = room({ intermediates: [other.intermediatePem] });
  t.equal(take(sealed(other.host('h1'), record('h1')).bytes), 'certificate');
});

t.test('a record that config is late for waits, bounded', async (t) => {
  const { take, intake, trust, table, grants } = room({ hosts: new Map() });
  t.equal(take(sealed(h1, record('h1')).bytes), 'no-grant');
  t.equal(intake.parked, 1);
  trust.update({
    ...grants,
    hosts: new Map([['h1', { host: 'h1', epoch: 1, workloadGroups: [], gossipAddresses: [] }]]),
  });
  intake.retry(now);
  t.ok(table.get('h1'));
  t.equal(intake.parked, 0);
  for (let i = 0; i < 300; i++) take(sealed(h1, record('h1', { epoch: 2, counter: i })).bytes);
  t.equal(intake.parked, 1, 'one a host');
});

t.test('a host that publishes without end is not followed', async (t) => {
  const { take, table } = room();
  const results = Array.from({ length: 30 }, (_, i) => take(sealed(h1, record('h1', { counter: i + 1 })).bytes));
  t.equal(results.filter((r) => r === 'merged').length, 10);
  t.equal(results.at(-1), 'budget');
  t.equal(table.get('h1')?.record.counter, 10);
});

t.test('own records of before are seen, not merged', async (t) => {
  const { take, own, table } = room();
  t.equal(take(sealed(ca.host('own'), record('own', { counter: 40 })).bytes), 'own');
  t.same(own, [40]);
  t.equal(table.size, 0);
});

t.test('the own file is not judged by the clock, only by who signed', async (t) => {
  const old = sealed(ca.host('h1', { notBefore: now - 9 * DAY, notAfter: now - DAY }), record('h1')).bytes;
  t.equal(room().take(old), 'certificate');
  t.equal(room().intake.take(old, undefined, false), 'merged');
  t.equal(room({ intermediates: [createTestCa().intermediatePem] }).intake.take(old, undefined, false), 'certificate');
});

t.test('a dropped intermediate revokes at once what it issued', async (t) => {
  const { take, trust, grants } = room();
  t.equal(take(sealed(h1, record('h1')).bytes), 'merged');
  trust.update({ ...grants, intermediates: [] });
  t.equal(take(sealed(h1, record('h1', { counter: 2 })).bytes), 'certificate');
});
