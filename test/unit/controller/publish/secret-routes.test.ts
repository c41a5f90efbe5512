import { request } from 'node:https';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { newKey } from '../../../../agent/identity/svid-file.ts';
import { AGENT_API } from '../../../../api/http/agent-api.ts';
import { createCsr } from '../../../../api/identity/x509.ts';
import { keyOf, type MeshObject } from '../../../../api/resources/object.ts';
import { initAuthority, loadAuthority } from '../../../../controller/ca/authority.ts';
import { createToken } from '../../../../controller/ca/join-token.ts';
import { registerIdentityRoutes } from '../../../../controller/publish/identity-routes.ts';
import { registerSecretRoutes } from '../../../../controller/publish/secret-routes.ts';
import { createPublishServer } from '../../../../controller/publish/server.ts';
import { type HostRow, hostKeyOf } from '../../../../controller/store/internal-rows.ts';
import { createStoreRows } from '../../../../controller/store/rows.ts';
import { createSecretVault } from '../../../../controller/store/secret-vault.ts';
import { initSqliteStore, openSqliteStore } from '../../../../controller/store/sqlite.ts';
import { systemClock } from '../../../../runtime/clock.ts';
import { silentLogger } from '../../../../runtime/log.ts';

interface Identity {
  readonly key: ReturnType<typeof newKey>;
  readonly cert: string;
}

const NAME = 'edge/web-cert';
const b64 = (text: string) => Buffer.from(text).toString('base64');
const object = (kind: string, namespace: string, name: string, more: object): MeshObject => ({
  apiVersion: 'v1',
  kind,
  metadata: { name, namespace },
  ...more,
});
const group = (namespace: string, name: string) =>
  object('WorkloadGroup', namespace, name, { spec: { template: { labels: { istio: name } } } });
const gateway = (namespace: string, credentialName: string, selector = 'ingressgateway') =>
  object('Gateway', namespace, 'gw', {
    spec: { selector: { istio: selector }, servers: [{ tls: { credentialName } }] },
  });

/** A served API for agents on real TLS; a namespace `edge` with a gateway and a Secret. */
async function world(t: Test) {
  const dir = t.testdir();
  const now = Date.now();
  await initAuthority(join(dir, 'ca'), 'mesh.test', 'c1', now);
  const authority = await loadAuthority(join(dir, 'ca'), 'mesh.test', 'c1');
  initSqliteStore(join(dir, 'store.db'));
  const store = openSqliteStore({ path: join(dir, 'store.db') });
  const rows = createStoreRows(store);
  const vault = createSecretVault(Buffer.alloc(32, 1));
  const audited: { principal: string; keys: readonly string[] }[] = [];
  const tls = authority.issueServer({ dnsNames: [], ipAddresses: ['127.0.0.1'] }, now);
  const common = {
    rows,
    authority,
    trustedIntermediates: () => [authority.intermediatePem],
    clock: systemClock,
    log: silentLogger,
  };
  const server = createPublishServer({
    listen: { host: '127.0.0.1', port: 0 },
    tls: { cert: tls.chainPem, key: tls.keyPem },
    log: silentLogger,
    register(fastify) {
      registerIdentityRoutes(fastify, { ...common, getObject: async () => undefined, onStatus: () => {} });
      registerSecretRoutes(fastify, {
        ...common,
        store,
        vault,
        record: (event) => void audited.push(event),
      });
    },
  });
  await server.start(new AbortController().signal);
  t.teardown(async () => {
    await server.stop();
    await store.close();
  });
  const post = (path: string, body: unknown, identity?: Identity) =>
    // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever came
    new Promise<{ status: number; body: any }>((resolve, reject) => {
      const sent = request({
        ...{ host: '127.0.0.1', port: server.port(), method: 'POST', path, agent: false, rejectUnauthorized: false },
        headers: { 'content-type': 'application/json' },
        ...(identity && { cert: identity.cert, key: identity.key.export({ format: 'pem', type: 'pkcs8' }) as string }),
      });
      sent.once('error', reject);
      sent.once('response', (response) => {
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.once('end', () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) }));
      });
      sent.end(JSON.stringify(body));
    });
  const put = async (...objects: readonly MeshObject[]) => {
    const writes = objects.map((one) => ({
      key: keyOf(one),
      value: JSON.stringify(one.kind === 'Secret' ? vault.seal(one) : one),
    }));
    await store.commit(writes);
  };
  const remove = (...keys: readonly string[]) => store.commit(keys.map((key) => ({ key, value: null })));
  const host = async (name: string, workloadGroups: readonly string[]): Promise<Identity> => {
    const made = await createToken(rows, { host: name, workloadGroups }, now);
    const key = newKey();
    const body = {
      token: made.id,
      secret: made.secret,
      hostCsr: createCsr(key),
      gossipAddresses: [],
      clock: Date.now(),
    };
    return { key, cert: (await post(AGENT_API.enrol, body)).body.hostSvid as string };
  };
  const revoke = async (name: string) => {
    const found = await rows.get<HostRow>(hostKeyOf(name));
    const row = { ...found?.row, revokedAt: new Date().toISOString() };
    await rows.commit([{ key: hostKeyOf(name), row, ifRevision: found?.revision ?? 0 }]);
  };
  const ask = (identity: Identity | undefined, secrets: readonly { name: string; have?: string }[], wait = 0) =>
    post(AGENT_API.secrets, { secrets: secrets.map((one) => ({ have: '', ...one })), wait }, identity);
  await put(
    group('edge', 'ingressgateway'),
    gateway('edge', 'web-cert'),
    secret('edge', 'web-cert', 'first'),
    secret('edge', 'unnamed', 'x'),
    secret('other', 'web-cert', 'x'),
  );
  return { ask, put, remove, host, revoke, audited };
}

const secret = (namespace: string, name: string, value: string) =>
  object('Secret', namespace, name, { data: { 'tls.crt': b64(`crt ${value}`), 'tls.key': b64(`key ${value}`) } });

t.test('a Secret goes to a host granted a gateway that names it, and to no other', async (t) => {
  const w = await world(t);
  await w.put(group('edge', 'plain'), group('other', 'ingressgateway'));
  const edge = await w.host('a', ['edge/ingressgateway']);
  const served = await w.ask(edge, [{ name: NAME }]);
  t.match(served, {
    status: 200,
    body: { secrets: [{ name: NAME, parts: { certificate: 'crt first', privateKey: 'key first' } }] },
  });
  t.match(w.audited, [{ principal: 'host:a', keys: [`Secret/${NAME}`] }]);
  const refused = { code: 'SECRET_NOT_GRANTED' };
  const cases: [string, Identity, string][] = [
    ['one that no Gateway names', edge, 'edge/unnamed'],
    ['of another namespace', edge, 'other/web-cert'],
    ['to a workload of the namespace that is no gateway', await w.host('b', ['edge/plain']), NAME],
    ['to a gateway of another namespace', await w.host('c', ['other/ingressgateway']), NAME],
    ['to a host without grants', await w.host('d', []), NAME],
    ['for a group that does not exist', await w.host('e', ['edge/ghost']), NAME],
  ];
  for (const [name, identity, asked] of cases)
    t.match((await w.ask(identity, [{ name: asked }])).body, { secrets: [refused] }, name);
  t.equal(w.audited.length, 1);
  t.equal((await w.ask(undefined, [{ name: NAME }])).status, 401, 'without a certificate');
});

t.test('a Gateway of a stranger opens nothing; of one whom the group’s owner allows, it does', async (t) => {
  const w = await world(t);
  const edge = await w.host('a', ['edge/ingressgateway']);
  await w.put(gateway('tenant', 'unnamed'));
  t.match((await w.ask(edge, [{ name: 'edge/unnamed' }])).body, { secrets: [{ code: 'SECRET_NOT_GRANTED' }] });
  const shared = group('edge', 'ingressgateway');
  await w.put({ ...shared, metadata: { ...shared.metadata, annotations: { 'hostmesh.io/gateway': 'tenant' } } });
  t.match((await w.ask(edge, [{ name: 'edge/unnamed' }])).body, { secrets: [{ parts: { privateKey: 'key x' } }] });
});

t.test(
  'a DestinationRule’s credentials go to those whom it selects, in its own namespace; without a selector to gateways',
  async (t) => {
    const w = await world(t);
    await w.put(group('edge', 'plain'), group('other', 'plain'));
    const edge = await w.host('a', ['edge/ingressgateway']);
    const plain = await w.host('b', ['edge/plain']);
    const stranger = await w.host('c', ['other/plain']);
    const rule = (namespace: string, more: object) =>
      object('DestinationRule', namespace, 'dr', {
        spec: { host: 'x', trafficPolicy: { tls: { mode: 'MUTUAL', credentialName: 'unnamed' } }, ...more },
      });
    const selecting = (name: string) => ({ workloadSelector: { matchLabels: { istio: name } } });
    const got = async () =>
      Promise.all(
        [edge, plain, stranger].map(
          async (one) => 'version' in (await w.ask(one, [{ name: 'edge/unnamed' }])).body.secrets[0],
        ),
      );
    const rows: readonly (readonly [string, object, boolean[]])[] = [
      ['no selector', rule('edge', {}), [true, false, false]],
      ['a workload', rule('edge', selecting('plain')), [false, true, false]],
      ['a rule of another namespace', rule('other', selecting('plain')), [false, false, false]],
    ];
    for (const [what, one, expected] of rows) {
      await w.remove('DestinationRule/edge/dr', 'DestinationRule/other/dr');
      const waiting = w.ask(edge, [{ name: 'edge/unnamed', have: 'SECRET_NOT_GRANTED' }], expected[0] ? 30 : 0);
      await w.put(one as MeshObject);
      await waiting;
      t.same(await got(), expected, what);
    }
  },
);

t.test('a revoked host gets nothing, also while it waits', async (t) => {
  const w = await world(t);
  const edge = await w.host('a', ['edge/ingressgateway']);
  const { version } = (await w.ask(edge, [{ name: NAME }])).body.secrets[0];
  const waiting = w.ask(edge, [{ name: NAME, have: version }], 30);
  await w.revoke('a');
  t.match(await waiting, { status: 403, body: { code: 'HOST_REVOKED' } });
  t.match(await w.ask(edge, [{ name: NAME }]), { status: 403, body: { code: 'HOST_REVOKED' } });
});

t.test('what a host has already is not sent again; a change, an end and a beginning are, at once', async (t) => {
  const w = await world(t);
  const edge = await w.host('a', ['edge/ingressgateway']);
  const { version } = (await w.ask(edge, [{ name: NAME }])).body.secrets[0];
  t.same((await w.ask(edge, [{ name: NAME, have: version }])).body, { secrets: [] });
  const rotated = w.ask(edge, [{ name: NAME, have: version }], 30);
  await w.put(secret('edge', 'web-cert', 'second'));
  const next = (await rotated).body.secrets[0];
  t.match(next, { parts: { privateKey: 'key second' } });
  t.not(next.version, version);
  const gone = w.ask(edge, [{ name: NAME, have: next.version }], 30);
  await w.remove(`Secret/${NAME}`);
  t.match((await gone).body, { secrets: [{ name: NAME, code: 'SECRET_UNKNOWN' }] });
  const back = w.ask(edge, [{ name: NAME, have: 'SECRET_UNKNOWN' }], 30);
  await w.put(secret('edge', 'web-cert', 'second'));
  t.match((await back).body, { secrets: [{ name: NAME, version: next.version }] }, 'the version is of the content');
  const closed = w.ask(edge, [{ name: NAME, have: next.version }], 30);
  await w.remove('Gateway/edge/gw');
  t.match((await closed).body, { secrets: [{ name: NAME, code: 'SECRET_NOT_GRANTED' }] });
});

t.test('bad requests, and too much in one answer', async (t) => {
  const w = await world(t);
  const edge = await w.host('a', ['edge/ingressgateway']);
  const many = Array.from({ length: 101 }, (_, i) => ({ name: `edge/s${i}` }));
  for (const bad of [many, [{ name: '../x' }], [{ name: 'edge/a/b' }], [{ name: 'x' }]])
    t.equal((await w.ask(edge, bad)).status, 400);
  t.equal((await w.ask(edge, [], 56)).status, 400);
  const names = ['a', 'b', 'c'];
  await w.put(...names.map((name) => secret('edge', name, name.repeat(400_000))));
  await w.put(
    object('Gateway', 'edge', 'big', {
      spec: {
        selector: { istio: 'ingressgateway' },
        servers: names.map((credentialName) => ({ tls: { credentialName } })),
      },
    }),
  );
  const first = (
    await w.ask(
      edge,
      names.map((name) => ({ name: `edge/${name}` })),
    )
  ).body.secrets;
  t.same(
    first.map((one: { name: string }) => one.name),
    ['edge/a'],
    'the rest comes with the next request',
  );
});
