import t from 'tap';
import { createToken, spendToken } from '../../../../controller/ca/join-token.ts';
import { mayIssueWorkload, mayRenewHost } from '../../../../controller/ca/policy.ts';
import type { HostRow } from '../../../../controller/store/internal-rows.ts';
import { createMemoryRows } from '../../../fakes/memory-rows.ts';

const NOW = Date.parse('2026-11-25T00:00:00Z');
const REQUEST = { host: 'b', workloadGroups: ['default/reviews'] };
const USE = { keySha256: 'k1', gossipAddresses: ['10.0.0.2:15300'] };

t.test('a token is spent once, its secret kept as a hash only', async (t) => {
  const rows = createMemoryRows();
  const token = await createToken(rows, REQUEST, NOW);
  t.notOk(JSON.stringify([...rows.all]).includes(token.secret), 'the secret is not stored');
  const { host } = await spendToken(rows, { ...USE, id: token.id, secret: token.secret }, NOW);
  t.match(host, { host: 'b', epoch: 1, workloadGroups: ['default/reviews'], hostKey: 'k1' });
  await t.rejects(spendToken(rows, { ...USE, id: token.id, secret: token.secret }, NOW), { code: 'TOKEN_SPENT' });
  const again = await createToken(rows, REQUEST, NOW);
  t.equal(
    (await spendToken(rows, { ...USE, id: again.id, secret: again.secret }, NOW)).host.epoch,
    2,
    'a re-enrolment starts a new epoch',
  );
});

t.test('refused: wrong secret, unknown id, expired, lost race', async (t) => {
  const rows = createMemoryRows();
  const { id, secret } = await createToken(rows, { ...REQUEST, ttlSeconds: 60 }, NOW);
  await t.rejects(spendToken(rows, { ...USE, id, secret: `${secret}x` }, NOW), { code: 'TOKEN_REFUSED' });
  await t.rejects(spendToken(rows, { ...USE, id: '0123456789abcdef', secret }, NOW), { code: 'TOKEN_REFUSED' });
  await t.rejects(spendToken(rows, { ...USE, id: '../hosts/b', secret }, NOW), { code: 'TOKEN_REFUSED' });
  await t.rejects(spendToken(rows, { ...USE, id, secret }, NOW + 61_000), { code: 'TOKEN_EXPIRED' });
  rows.beforeCommit = () => {
    const key = `_internal/tokens/${id}`;
    const stored = rows.all.get(key);
    if (stored) rows.all.set(key, { ...stored, revision: stored.revision + 100 });
  };
  await t.rejects(spendToken(rows, { ...USE, id, secret }, NOW), { code: 'TOKEN_SPENT' });
  t.equal(await rows.get('_internal/hosts/b'), undefined, 'nothing half done');
});

t.test('bad requests name the field', async (t) => {
  const cases: [object, string][] = [
    [{ host: 'B' }, 'spec.host'],
    [{ host: '' }, 'spec.host'],
    [{ ttlSeconds: 0 }, 'spec.ttlSeconds'],
    [{ ttlSeconds: 1.5 }, 'spec.ttlSeconds'],
    [{ ttlSeconds: 604_801 }, 'spec.ttlSeconds'],
    [{ workloadGroups: ['reviews'] }, 'spec.workloadGroups'],
  ];
  for (const [change, field] of cases) {
    await t.rejects(
      createToken(createMemoryRows(), { ...REQUEST, ...change }, NOW),
      { code: 'TOKEN_INVALID', details: { field } },
      field,
    );
  }
});

t.test('no grant, no SVID', async (t) => {
  const host: HostRow = {
    host: 'b',
    epoch: 1,
    workloadGroups: ['default/reviews'],
    gossipAddresses: [],
    hostKey: 'k1',
    serials: ['2', '3'],
  };
  const group = (serviceAccount?: string) => ({
    apiVersion: 'networking.istio.io/v1',
    kind: 'WorkloadGroup',
    metadata: { name: 'reviews', namespace: 'default' },
    spec: { template: { serviceAccount } },
  });
  const cases: [Parameters<typeof mayIssueWorkload>, object][] = [
    [
      [host, 'default/reviews', group('reviews'), 'td'],
      { allowed: true, spiffeId: 'spiffe://td/ns/default/sa/reviews' },
    ],
    [[host, 'default/reviews', group(), 'td'], { allowed: true, spiffeId: 'spiffe://td/ns/default/sa/default' }],
    [[host, 'default/admin', group('admin'), 'td'], { allowed: false, code: 'NOT_GRANTED' }],
    [[host, 'default/reviews', undefined, 'td'], { allowed: false, code: 'WORKLOAD_GROUP_UNKNOWN' }],
    [[host, 'default/reviews', group('a/../b'), 'td'], { allowed: false, code: 'SERVICE_ACCOUNT_INVALID' }],
    [[{ ...host, revokedAt: 'x' }, 'default/reviews', group(), 'td'], { allowed: false, code: 'HOST_REVOKED' }],
    [[undefined, 'default/reviews', group(), 'td'], { allowed: false, code: 'HOST_UNKNOWN' }],
  ];
  for (const [args, expected] of cases) t.match(mayIssueWorkload(...args), expected);

  const fresh = { serial: '1', keySha256: 'k1', expired: false };
  t.match(mayRenewHost(host, fresh), { allowed: true });
  t.match(mayRenewHost(host, { ...fresh, expired: true, serial: '3' }), { allowed: true });
  t.match(mayRenewHost(host, { ...fresh, expired: true }), { allowed: false, code: 'HOST_CLONED' });
  t.match(mayRenewHost(host, { ...fresh, keySha256: 'k2' }), { allowed: false, code: 'HOST_KEY_CHANGED' });
  t.match(mayRenewHost({ ...host, revokedAt: 'x' }, fresh), { allowed: false, code: 'HOST_REVOKED' });
});
