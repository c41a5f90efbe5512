import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { HostStatus } from '../../../../api/http/agent-api.ts';
import { MAX_JOIN_STRING, parseJoinString } from '../../../../api/http/join-string.ts';
import { spendToken } from '../../../../controller/ca/join-token.ts';
import { createHostDirectory, createTokenIssuer } from '../../../../controller/hosts.ts';
import { createReports, type Reports } from '../../../../controller/reports.ts';
import type { TokenIssuer } from '../../../../controller/rest/operator.ts';
import { TOKEN_PREFIX } from '../../../../controller/store/internal-rows.ts';
import { createStoreRows } from '../../../../controller/store/rows.ts';
import { initSqliteStore, openSqliteStore } from '../../../../controller/store/sqlite.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';

const ROOT = 'ab'.repeat(32);
const DAY_MS = 86_400_000;

function world(t: Test, urls: readonly string[] = ['https://10.0.0.1:15201', 'https://[fd00::1]:15201']) {
  const path = join(t.testdir(), 'store.db');
  initSqliteStore(path);
  const store = openSqliteStore({ path });
  t.teardown(() => store.close());
  const clock = createFakeClock();
  const rows = createStoreRows(store);
  const reports: Reports = createReports(clock);
  const tokens = createTokenIssuer({ rows, rootSha256: ROOT, agentUrls: async () => urls, clock });
  const hosts = createHostDirectory({ store, reports, clock });
  /** What the enrolment route does. */
  const enrol = (joinString: string) => {
    const { token, secret } = parseJoinString(joinString);
    return spendToken(rows, { id: token, secret, keySha256: '0'.repeat(64), gossipAddresses: [] }, clock.now());
  };
  return { store, clock, rows, reports, tokens, hosts, enrol };
}

t.test('a join string holds where to go, what to trust and who to be, and is good once', async (t) => {
  const { tokens, enrol, hosts, clock, store } = world(t);
  const spec = { host: 'a', workloadGroups: ['default/web', 'default/db', 'default/web'], peers: ['10.0.0.2:15300'] };
  const made = await tokens.create(spec);
  t.match(parseJoinString(made.joinString), {
    controllers: ['https://10.0.0.1:15201', 'https://[fd00::1]:15201'],
    rootSha256: ROOT,
    token: made.id,
    host: 'a',
    workloadGroups: ['default/db', 'default/web'],
    peers: ['10.0.0.2:15300'],
  });
  t.equal(Date.parse(made.expires), clock.now() + 3_600_000);
  const { secret } = parseJoinString(made.joinString);
  const { entries } = await store.list('');
  t.notOk(
    entries.some(({ value }) => value.includes(secret)),
    'the secret is not stored',
  );
  t.same(await hosts.list(), [], 'a token is no member');
  await enrol(made.joinString);
  t.match(await hosts.list(), [
    {
      kind: 'Host',
      metadata: { name: 'a', creationTimestamp: new Date(clock.now()).toISOString() },
      spec: { workloadGroups: ['default/db', 'default/web'], revoked: false },
    },
  ]);
  await t.rejects(enrol(made.joinString), { code: 'TOKEN_SPENT' });
});

t.test('nothing is stored for a join string that no host could use', async (t) => {
  const { tokens, store } = world(t);
  const before = await store.revision();
  const group = (i: number) => `default/${'g'.repeat(200)}-${i}`;
  const cases: [spec: Partial<Parameters<TokenIssuer['create']>[0]>, field: string][] = [
    [{ peers: ['10.0.0.1'] }, 'spec.peers'],
    [{ peers: ['example.com:15300'] }, 'spec.peers'],
    [{ peers: ['10.0.0.1:0'] }, 'spec.peers'],
    [{ peers: ['fd00::1:15300'] }, 'spec.peers'],
    [{ peers: Array.from({ length: 17 }, (_, i) => `10.0.0.${i}:15300`) }, 'spec.peers'],
    [{ workloadGroups: Array.from({ length: 100 }, (_, i) => group(i)) }, 'spec.workloadGroups'],
    [{ workloadGroups: ['web'] }, 'spec.workloadGroups'],
    [{ host: 'A b' }, 'spec.host'],
    [{ ttlSeconds: 0 }, 'spec.ttlSeconds'],
  ];
  for (const [spec, field] of cases)
    await t.rejects(tokens.create({ host: 'a', workloadGroups: [], ...spec }), {
      code: 'TOKEN_INVALID',
      details: { field },
    });
  t.equal(await store.revision(), before);
  const groups = Array.from({ length: 25 }, (_, i) => group(i));
  const { joinString } = await tokens.create({ host: 'a', workloadGroups: groups });
  t.ok(joinString.length <= MAX_JOIN_STRING);
  t.equal(parseJoinString(joinString).workloadGroups.length, 25, 'just below the bound');
});

t.test(
  'revoked: its open tokens die with it, its word is forgotten, its name stays out while its SVIDs live',
  async (t) => {
    const { tokens, hosts, enrol, store, clock, reports } = world(t);
    const create = (host: string) => tokens.create({ host, workloadGroups: [] });
    await enrol((await create('a')).joinString);
    const spare = await create('a');
    const other = await create('b');
    reports.put({ host: 'a', generation: 3 } as HostStatus);
    t.match(await hosts.list(), [{ status: { generation: 3, reportedAt: new Date(clock.now()).toISOString() } }]);

    const revision = await store.revision();
    const revoked = await hosts.revoke('a');
    t.match(revoked, { metadata: { name: 'a' }, spec: { revoked: true } });
    t.equal(revoked?.status, undefined);
    t.equal(await store.revision(), revision + 1, 'grant and tokens in one transaction');
    t.match(await hosts.revoke('a'), { spec: { revoked: true } }, 'twice is no error');
    t.equal(await store.revision(), revision + 1, 'and changes nothing');
    t.equal(await hosts.revoke('nobody'), undefined);

    await t.rejects(enrol(spare.joinString), { code: 'TOKEN_REFUSED' }, 'the spare one lets nobody in');
    await enrol(other.joinString);
    t.equal(await store.count(TOKEN_PREFIX), 2, 'tokens of other hosts and spent ones stay');

    await t.rejects(create('a'), { code: 'TOKEN_INVALID', details: { field: 'spec.host' }, message: /another id/ });
    clock.set(clock.now() + 30 * DAY_MS - 1);
    await t.rejects(create('a'), { code: 'TOKEN_INVALID' });
    clock.set(clock.now() + 1);
    await enrol((await create('a')).joinString);
    t.match((await hosts.list())[0], { metadata: { name: 'a' }, spec: { revoked: false, epoch: 2 } });
  },
);

t.test('a revocation in a race with another writer is tried again, not lost', async (t) => {
  const { store, reports, clock, tokens, enrol } = world(t);
  await enrol((await tokens.create({ host: 'a', workloadGroups: [] })).joinString);
  let races = 0;
  const racing = {
    ...store,
    async commit(...args: Parameters<typeof store.commit>) {
      const entry = await store.get('_internal/hosts/a');
      // Another replica renews the host's SVID at this moment.
      if (entry !== undefined && races++ < 2) await store.commit([{ key: entry.key, value: `${entry.value} ` }]);
      return store.commit(...args);
    },
  };
  const hosts = createHostDirectory({ store: racing, reports, clock });
  t.match(await hosts.revoke('a'), { spec: { revoked: true } });
  t.equal(races, 3);
  races = -100;
  const again = createHostDirectory({ store: racing, reports, clock });
  await enrol((await tokens.create({ host: 'c', workloadGroups: [] })).joinString);
  t.match(await again.revoke('c'), { spec: { revoked: true } }, 'a busy row of another host is not in the way');
});
