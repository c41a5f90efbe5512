import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { createCsr } from '../../../../api/identity/x509.ts';
import { putPrincipal } from '../../../../controller/rest/principals.ts';
import { startRest, VS } from './harness.ts';

const PATH = '/apis/hostmesh.io/v1/principals';
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

t.test('made, used, replaced, taken away; its token is shown once', async (t) => {
  const h = await startRest(t);
  const made = await h.send('POST', PATH, { name: 'ann', role: 'namespace', namespaces: ['shop'] });
  t.match(made, { code: 201, headers: { 'cache-control': 'no-store' }, body: { credential: 'token' } });
  const { token } = made.body;
  t.equal((await h.send('GET', VS, undefined, bearer(token))).code, 200);
  t.equal((await h.send('GET', VS.replace('shop', 'other'), undefined, bearer(token))).code, 403);
  const listed = await h.send('GET', PATH);
  t.match(listed.body.items, [{ name: 'ann', role: 'namespace', credential: 'token' }, { name: 'root' }]);
  t.notMatch(JSON.stringify(listed.body), /tokenHash|[0-9a-f]{64}/);
  t.equal((await h.send('POST', PATH, { name: 'ann', role: 'admin' })).code, 409);
  const again = await h.send('PUT', `${PATH}/ann`, {
    name: 'ann',
    role: 'namespace',
    namespaces: ['other'],
    verbs: ['get', 'list'],
  });
  t.equal(again.code, 200);
  t.equal((await h.send('GET', VS, undefined, bearer(token))).code, 401, 'the old token is dead');
  t.equal((await h.send('GET', VS.replace('shop', 'other'), undefined, bearer(again.body.token))).code, 200);
  t.equal((await h.send('DELETE', `${PATH}/ann`)).code, 200);
  t.equal((await h.send('GET', VS, undefined, bearer(again.body.token))).code, 401);
  t.equal((await h.send('DELETE', `${PATH}/ann`)).code, 404);
  const audit = readFileSync(h.auditPath, 'utf8');
  t.match(audit, /"verb":"create","keys":\["Principal\/\/ann"\]/);
  t.notMatch(audit, token);
});

t.test('a certificate for the operator’s own key, and no token', async (t) => {
  const h = await startRest(t);
  const csr = createCsr(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
  const made = await h.send('POST', PATH, { name: 'bob', role: 'admin', csr });
  t.match(made.body, { name: 'bob', credential: 'certificate', certificate: 'certificate of bob' });
  t.equal(made.body.token, undefined);
  t.equal((await h.send('GET', VS, undefined, bearer('bob.'))).code, 401);
  t.equal((await h.send('POST', PATH, { name: 'eve', role: 'admin', csr: 'junk' })).code, 400);
});

t.test('who may, and what nobody may', async (t) => {
  const h = await startRest(t);
  const shop = await h.as({ namespaces: ['shop'] });
  for (const [method, path] of [
    ['GET', PATH],
    ['POST', PATH],
    ['DELETE', `${PATH}/root`],
    ['PUT', `${PATH}/root`],
  ] as const)
    t.equal(
      (await shop(method, path, method === 'GET' ? undefined : { name: 'root', role: 'admin' })).code,
      403,
      `${method} ${path}`,
    );
  t.equal((await h.send('DELETE', `${PATH}/root`)).code, 403, 'the last admin stays');
  t.equal((await h.send('PUT', `${PATH}/root`, { name: 'root', role: 'namespace', namespaces: ['a'] })).code, 403);
  const limited = await putPrincipal(h.store, {
    name: 'maker',
    role: 'admin',
    namespaces: [],
    verbs: ['create', 'get'],
  });
  t.equal(
    (await h.send('POST', PATH, { name: 'x', role: 'admin' }, bearer(limited))).code,
    403,
    'one cannot give what one lacks',
  );
  t.equal((await h.send('POST', PATH, { name: 'x', role: 'admin', verbs: ['get'] }, bearer(limited))).code, 201);
  for (const body of [
    {},
    { name: 'A b', role: 'admin' },
    { name: 'a', role: 'root' },
    { name: 'a', role: 'namespace' },
    { name: 'a', role: 'namespace', namespaces: ['../x'] },
    { name: 'a', role: 'admin', namespaces: ['x'] },
    { name: 'a', role: 'admin', verbs: [] },
    { name: 'a', role: 'admin', verbs: ['impersonate'] },
    { name: 'a', role: 'admin', tokenHash: 'x' },
  ])
    t.equal((await h.send('POST', PATH, body)).code, 400, JSON.stringify(body));
  t.equal((await h.send('PUT', `${PATH}/b`, { name: 'a', role: 'admin' })).code, 400);
  t.equal((await h.send('PUT', `${PATH}/a`, { name: 'a', role: 'admin' })).code, 404);
  t.equal((await h.send('PATCH', `${PATH}/a`, {})).code, 405);
});
