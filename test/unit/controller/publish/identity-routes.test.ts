import { createPublicKey } from 'node:crypto';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { newKey } from '../../../../agent/identity/svid-file.ts';
import { AGENT_API } from '../../../../api/http/agent-api.ts';
import { createCsr } from '../../../../api/identity/x509.ts';
import { initAuthority, loadAuthority } from '../../../../controller/ca/authority.ts';
import { createToken } from '../../../../controller/ca/join-token.ts';
import { registerIdentityRoutes } from '../../../../controller/publish/identity-routes.ts';
import { createPublishServer } from '../../../../controller/publish/server.ts';
import { type HostRow, hostKeyOf } from '../../../../controller/store/internal-rows.ts';
import { createStoreRows } from '../../../../controller/store/rows.ts';
import { initSqliteStore, openSqliteStore } from '../../../../controller/store/sqlite.ts';
import { systemClock } from '../../../../runtime/clock.ts';
import { silentLogger } from '../../../../runtime/log.ts';

type Key = ReturnType<typeof newKey>;
interface Identity {
  readonly key: Key;
  readonly cert: string;
}

/** A served API for agents on real TLS, a CA and a store. */
async function world(t: Test) {
  const dir = t.testdir();
  const now = Date.now();
  await initAuthority(join(dir, 'ca'), 'mesh.test', 'c1', now);
  const authority = await loadAuthority(join(dir, 'ca'), 'mesh.test', 'c1');
  initSqliteStore(join(dir, 'store.db'));
  const store = openSqliteStore({ path: join(dir, 'store.db') });
  const rows = createStoreRows(store);
  const told: string[] = [];
  const trusted = [authority.intermediatePem];
  const tls = authority.issueServer({ dnsNames: [], ipAddresses: ['127.0.0.1'] }, now);
  const server = createPublishServer({
    listen: { host: '127.0.0.1', port: 0 },
    tls: { cert: tls.chainPem, key: tls.keyPem },
    log: silentLogger,
    register: (fastify) =>
      registerIdentityRoutes(fastify, {
        rows,
        authority,
        trustedIntermediates: () => trusted,
        getObject: async () => ({
          apiVersion: 'networking.istio.io/v1',
          kind: 'WorkloadGroup',
          metadata: { name: 'web', namespace: 'default' },
          spec: { template: { serviceAccount: 'web' } },
        }),
        onStatus: (status) => void told.push(status.host),
        clock: systemClock,
        log: silentLogger,
      }),
  });
  await server.start(new AbortController().signal);
  t.teardown(async () => {
    await server.stop();
    store.close();
  });
  const ask = (method: string, path: string, body: unknown, identity?: Identity, agent: Agent | false = false) =>
    new Promise<{ status: number; body: Record<string, unknown> }>((resolve, reject) => {
      const sent = request({
        ...{ host: '127.0.0.1', port: server.port(), method, path, agent, rejectUnauthorized: false },
        headers: { 'content-type': 'application/json' },
        ...(identity && { cert: identity.cert, key: identity.key.export({ format: 'pem', type: 'pkcs8' }) as string }),
      });
      sent.once('error', reject);
      sent.once('response', (response) => {
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.once('end', () =>
          resolve({ status: response.statusCode ?? 0, body: text === '' ? {} : JSON.parse(text) }),
        );
      });
      sent.end(JSON.stringify(body));
    });
  const token = (host: string) => createToken(rows, { host, workloadGroups: ['default/web'] }, now);
  const enrolBody = (made: { id: string; secret: string }, key: Key) => ({
    ...{ token: made.id, secret: made.secret, hostCsr: createCsr(key) },
    ...{ gossipAddresses: [], clock: Date.now() },
  });
  /** A joined host. */
  const host = async (name: string): Promise<Identity> => {
    const key = newKey();
    const { body } = await ask('POST', AGENT_API.enrol, enrolBody(await token(name), key));
    return { key, cert: body.hostSvid as string };
  };
  const revoke = async (name: string) => {
    const found = await rows.get<HostRow>(hostKeyOf(name));
    const row = { ...found?.row, revokedAt: new Date().toISOString() };
    await rows.commit([{ key: hostKeyOf(name), row, ifRevision: found?.revision ?? 0 }]);
  };
  return { authority, rows, store, told, trusted, ask, token, enrolBody, host, revoke };
}

const workload = (csr: string, group = 'default/web') => ({ requests: [{ kind: 'workload', group, csr }] });

t.test('who may ask and report: a host, for itself, as long as it is a member', async (t) => {
  const { ask, host, revoke, told, authority } = await world(t);
  const a = await host('a');
  const b = await host('b');
  const csr = createCsr(newKey());
  const stranger = newKey();
  const served = await ask('POST', AGENT_API.svid, workload(createCsr(stranger)), a);
  t.match(served, { status: 200, body: { results: [{ svid: /BEGIN CERTIFICATE/ }] } });
  const { svid } = (served.body.results as { svid: string }[])[0] as { svid: string };
  const asWorkload = { key: stranger, cert: svid };
  const other = newKey();
  const twin = { key: other, cert: authority.issueHost('a', createPublicKey(other), Date.now()) };
  for (const [name, answer, expected] of [
    ['nobody', await ask('PUT', AGENT_API.status, { host: 'a' }), { status: 401, body: { code: 'UNAUTHENTICATED' } }],
    ['a workload', await ask('PUT', AGENT_API.status, { host: 'a' }, asWorkload), { status: 401 }],
    ['a workload for SVIDs', await ask('POST', AGENT_API.svid, workload(csr), asWorkload), { status: 401 }],
    ['another host', await ask('PUT', AGENT_API.status, { host: 'a' }, b), { body: { code: 'STATUS_INVALID' } }],
    ['another key', await ask('PUT', AGENT_API.status, { host: 'a' }, twin), { body: { code: 'HOST_KEY_CHANGED' } }],
    ['itself', await ask('PUT', AGENT_API.status, { host: 'a' }, a), { status: 204 }],
    [
      'a group that it is not granted',
      await ask('POST', AGENT_API.svid, workload(csr, 'default/db'), a),
      { body: { results: [{ code: 'NOT_GRANTED' }] } },
    ],
    [
      'a new key under its name',
      await ask('POST', AGENT_API.svid, { requests: [{ kind: 'host', csr }] }, a),
      { body: { results: [{ code: 'HOST_KEY_CHANGED' }] } },
    ],
  ] as const)
    t.match(answer, expected, name);
  t.same(told, ['a']);
  await revoke('b');
  t.match(await ask('POST', AGENT_API.svid, workload(csr), b), { status: 403, body: { code: 'HOST_REVOKED' } });
  t.match(await ask('PUT', AGENT_API.status, { host: 'b' }, b), { status: 403, body: { code: 'HOST_REVOKED' } });
});

t.test('a connection that is kept loses what its host loses', async (t) => {
  const { ask, host, revoke, told, trusted, authority } = await world(t);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  const a = await host('a');
  const report = () => ask('PUT', AGENT_API.status, { host: 'a' }, a, agent);
  t.match(await report(), { status: 204 });
  t.match(await report(), { status: 204 });
  trusted.pop();
  t.match(
    await report(),
    { status: 401, body: { code: 'SVID_UNTRUSTED' } },
    'its issuer was taken out of signed config',
  );
  trusted.push(authority.intermediatePem);
  t.match(await report(), { status: 204 });
  await revoke('a');
  t.match(await report(), { status: 403, body: { code: 'HOST_REVOKED' } });
  t.equal(told.length, 3);
});

t.test('a stolen host does not keep the CA and the store busy', async (t) => {
  const { ask, host, store } = await world(t);
  const a = await host('a');
  const renewal = { kind: 'host', csr: createCsr(a.key) };
  const before = await store.revision();
  const many = await ask('POST', AGENT_API.svid, { requests: [renewal, renewal] }, a);
  t.match(many, { status: 400, body: { code: 'BODY_INVALID' } });
  t.equal(await store.revision(), before, 'nothing was written');
  const answers = await Promise.all(
    Array.from({ length: 12 }, () => ask('POST', AGENT_API.svid, { requests: [renewal] }, a)),
  );
  const limited = answers.filter(({ status }) => status === 429).length;
  t.ok(limited >= 5, `${limited} of 12 at once are turned away`);
  t.match(await ask('POST', AGENT_API.svid, { requests: [] }, await host('b')), { status: 200 }, 'others are served');
});

t.test('a token is spent once, by its secret; guessing is slow', async (t) => {
  const { ask, token, enrolBody } = await world(t);
  const made = await token('a');
  const wrong = await ask('POST', AGENT_API.enrol, enrolBody({ ...made, secret: 'x'.repeat(32) }, newKey()));
  const unknown = await ask('POST', AGENT_API.enrol, enrolBody({ ...made, id: '0'.repeat(16) }, newKey()));
  t.same(wrong, unknown, 'a wrong secret and an unknown token look the same');
  const both = await Promise.all([1, 2].map(() => ask('POST', AGENT_API.enrol, enrolBody(made, newKey()))));
  t.same(both.map(({ status }) => status).sort(), [200, 403], 'two at the same moment');
  const guesses = await Promise.all(
    Array.from({ length: 20 }, () => ask('POST', AGENT_API.enrol, enrolBody({ ...made, secret: 'y' }, newKey()))),
  );
  t.ok(guesses.filter(({ status }) => status === 429).length >= 8);
});

t.test('a revoked host does not come back with a token that was made at that moment', async (t) => {
  const { ask, token, enrolBody, host, revoke } = await world(t);
  await host('a');
  const made = await token('a');
  await revoke('a');
  const back = await ask('POST', AGENT_API.enrol, enrolBody(made, newKey()));
  t.match(back, { status: 403, body: { code: 'HOST_REVOKED' } });
});
