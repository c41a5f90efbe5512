import t from 'tap';
import { type AdmissionDeps, createAdmission } from '../../../../agent/gossip/admission.ts';
import { createEndpointTable } from '../../../../agent/gossip/endpoint-table.ts';
import type { Link } from '../../../../agent/gossip/node.ts';
import { createTrust } from '../../../../agent/gossip/trust.ts';
import { record, sealed } from '../../../builders/gossip.ts';
import { createTestCa } from '../../../builders/test-ca.ts';

const DAY = 86_400_000;
const ca = createTestCa();
const now = Date.now();

function room(change: Partial<AdmissionDeps> = {}) {
  const hosts = ['own', 'h1', 'h2'].map((host) => [
    host,
    { host, epoch: 1, workloadGroups: [], gossipAddresses: [] },
  ]) as never;
  const trust = createTrust({
    trustDomain: ca.trustDomain,
    grants: { hosts: new Map(hosts), revokedHosts: new Set(['h2']), intermediates: [ca.intermediatePem] },
    addressAllowed: () => true,
  });
  const table = createEndpointTable('own');
  const clock = { wall: now, monotonic: 0 };
  const closed: string[] = [];
  const refused: string[] = [];
  const own = ca.host('own', { notAfter: now + 10 * DAY });
  const links: Link[] = [];
  const admission = createAdmission({
    host: 'own',
    trust,
    table,
    links: () => links,
    ownLeaf: () => own.leaf.raw,
    closeLink: (host, reason) => closed.push(`${host} ${reason}`),
    onRefused: (host, reason) => refused.push(`${host} ${reason}`),
    now: () => clock.wall,
    monotonic: () => clock.monotonic,
    random: () => 0,
    ...change,
  });
  const take = (identity: ReturnType<typeof ca.host>, host: string) => {
    const verified = trust.record(sealed(identity, record(host)).bytes, clock.wall);
    if (typeof verified === 'string') throw new Error(verified);
    table.merge(verified);
  };
  const left = () => {
    table.retain((row) => admission.keeps(row));
    return [...table.rows()].map((row) => row.record.host);
  };
  return { admission, table, clock, closed, refused, links, take, left };
}

const link = (host: string, more: Partial<Link> = {}): Link => ({
  host,
  direction: 'inbound',
  healthy: true,
  ageMs: 60_000,
  leaf: new Uint8Array(),
  ...more,
});

t.test('members with a valid SVID are linked; others are refused and named', async (t) => {
  const { admission, refused } = room();
  t.equal(admission.admit(ca.host('h1').leaf.raw).host, 'h1');
  const expired = ca.host('h1', { notBefore: now - 2 * DAY, notAfter: now - 1 });
  const cases: [string, ReturnType<typeof ca.host>][] = [
    ['LINK_REFUSED', createTestCa().host('h1')],
    ['LINK_REFUSED', expired],
    ['LINK_REFUSED', ca.workload('default', 'web', 'h1')],
    ['LINK_NOT_MEMBER', ca.host('h2')],
    ['LINK_NOT_MEMBER', ca.host('h9')],
  ];
  for (const [code, identity] of cases) t.throws(() => admission.admit(identity.leaf.raw), { code });
  t.same(refused, ['h1 certificate', 'h2 not-a-member', 'h9 not-a-member']);
});

t.test('who was cut off is refused for a while', async (t) => {
  const { admission, clock } = room();
  const { raw } = ca.host('h1').leaf;
  admission.ban('h1', 30_000);
  t.throws(() => admission.admit(raw), { code: 'LINK_BANNED' });
  clock.monotonic = 30_000;
  t.equal(admission.admit(raw).host, 'h1');
});

t.test('an ended certificate closes links and takes its host out of the table', async (t) => {
  const { admission, clock, closed, links, take, left } = room();
  const short = ca.host('h1', { notAfter: now + 1000 });
  take(short, 'h1');
  links.push(link('h1', { leaf: short.leaf.raw }));
  admission.checkLinks();
  t.same([closed, admission.anyExpired()], [[], false]);
  clock.wall = now + 1001;
  admission.checkLinks();
  t.same(closed, ['h1 not-admitted']);
  t.ok(admission.anyExpired());
  t.same(left(), []);
});

t.test('a clock by which the own SVID has ended too empties no table', async (t) => {
  const { admission, clock, take, left, table } = room();
  take(ca.host('h1', { notAfter: now + DAY }), 'h1');
  clock.wall = now + 11 * DAY;
  t.notOk(admission.anyExpired());
  t.same(left(), ['h1']);
  table.setLiveness('h1', 'dead');
  t.same(left(), [], 'but a dead host with an ended certificate goes');
});

t.test('a full host makes room for a newcomer, and nobody is pushed out by one that dials without end', async (t) => {
  const { admission, clock, closed, links } = room();
  t.ok(admission.makeRoom('new'));
  for (let i = 0; i < 28; i++)
    links.push(link(`h${i}`, { direction: i < 4 ? 'outbound' : 'inbound', ageMs: i * 1000 }));
  t.ok(admission.makeRoom('new'), '28 of 32');
  for (let i = 28; i < 32; i++) links.push(link(`h${i}`, { ageMs: 500 }));
  t.ok(admission.makeRoom('new'));
  t.same(closed, ['h10 room'], 'an inbound one that has had time to learn of others');
  t.ok(admission.makeRoom('new'));
  t.notOk(admission.makeRoom('new'), 'not again within a minute');
  t.ok(admission.makeRoom('other'));
  t.ok(admission.makeRoom('third'));
  t.notOk(admission.makeRoom('fourth'), 'four at once at most');
  clock.monotonic = 1000;
  t.ok(admission.makeRoom('fifth'), 'then one a second');
  links.splice(0, links.length, ...Array.from({ length: 32 }, (_, i) => link(`h${i}`, { ageMs: 100 })));
  clock.monotonic = 10_000;
  t.notOk(admission.makeRoom('sixth'), 'nobody who has just come');
});

t.test('handshakes are rationed by address and in all, before any cryptography', async (t) => {
  const { admission, clock } = room();
  const granted = (address: string, n: number) =>
    Array.from({ length: n }, () => admission.mayHandshake(address)).filter(Boolean).length;
  t.equal(granted('10.0.0.1', 1000), 100);
  t.equal(granted('10.0.0.2', 100), 100, 'another address is not hit');
  clock.monotonic = 1000;
  t.equal(granted('10.0.0.1', 1000), 10);
  t.ok(
    Array.from({ length: 5000 }, (_, i) => admission.mayHandshake(`10.1.${i % 250}.1`)).filter(Boolean).length <= 400,
  );
});
