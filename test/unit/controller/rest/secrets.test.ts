import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { SECRET_MARKER } from '../../../../api/resources/secret-data.ts';
import { createSecretVault } from '../../../../controller/store/secret-vault.ts';
import { createWorldCa } from '../../../builders/server-certificate.ts';
import { fields, startRest } from './harness.ts';

const PATH = '/api/v1/namespaces/shop/secrets';
const KEY = 'Secret/shop/web';
const CA = createWorldCa();
const PAIR = CA.issue({ dnsNames: ['web.example'] });
const NEXT = CA.issue({ dnsNames: ['web.example'] });
const b64 = (text: string) => Buffer.from(text).toString('base64');
const STRATEGIC = { 'content-type': 'application/strategic-merge-patch+json' };
const vault = createSecretVault(Buffer.alloc(32, 7));

const data = ({ certPem, keyPem }: typeof PAIR, more: object = {}) => ({
  'tls.crt': b64(certPem),
  'tls.key': b64(keyPem),
  ...more,
});

function secret(pair = PAIR, more: object = {}): Record<string, unknown> {
  const copy = { 'kubectl.kubernetes.io/last-applied-configuration': JSON.stringify({ data: data(pair) }), note: 'x' };
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'web', annotations: copy },
    type: 'kubernetes.io/tls',
    data: data(pair),
    ...more,
  };
}

/** Pieces of what must never be seen, as text, base64 and inside JSON. */
const needles = [PAIR.keyPem, NEXT.keyPem].flatMap((pem) => {
  const line = pem.split('\n')[1] as string;
  return [line, b64(pem).slice(40, 100)];
});
const leaks = (text: string) => needles.filter((needle) => text.includes(needle));

const stored = async (h: Awaited<ReturnType<typeof startRest>>) =>
  JSON.parse((await h.store.get(KEY))?.value ?? '{}') as MeshObject;

test('no way of reading shows a value: create, get, list, table, metadata, watch, update, patch, delete', async (t) => {
  const h = await startRest(t);
  const seen: string[] = [];
  const ask = async (method: string, url: string, body?: unknown, headers?: Record<string, string>) => {
    const answer = await h.send(method, url, body, headers);
    t.ok(answer.code < 300, `${method} ${url}: ${answer.code} ${JSON.stringify(answer.body).slice(0, 300)}`);
    seen.push(JSON.stringify(answer.body));
    return answer.body;
  };
  const made = await ask('POST', PATH, secret());
  t.same(made.data, { 'tls.crt': SECRET_MARKER, 'tls.key': SECRET_MARKER });
  t.same(made.metadata.annotations, { note: 'x' }, 'kubectl’s copy is gone');
  t.notOk('sealed' in made);
  await ask('GET', `${PATH}/web`);
  await ask('GET', PATH);
  await ask('GET', `/api/v1/secrets?includeObject=Object`, undefined, {
    accept: 'application/json;as=Table;g=meta.k8s.io;v=v1',
  });
  await ask('GET', PATH, undefined, { accept: 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1' });
  await ask('PUT', `${PATH}/web`, secret(NEXT));
  await ask('PATCH', `${PATH}/web`, { data: { 'tls.crt': b64(PAIR.certPem), 'tls.key': b64(PAIR.keyPem) } }, STRATEGIC);
  await ask('POST', '/apis/hostmesh.io/v1/apply', {
    objects: [{ ...secret(NEXT), metadata: { name: 'web', namespace: 'shop' } }],
  });
  await ask('DELETE', PATH);
  t.same(leaks(seen.join('\n')), []);
  t.same(leaks(readFileSync(h.auditPath, 'utf8')), [], 'the audit log');
  const files = ['store.db', 'store.db-wal'].map((file) => readFileSync(join(h.folder, file)).toString('latin1'));
  t.same(leaks(files.join('')), [], 'the store’s files, its history with them');
});

test('a watch shows no value either', async (t) => {
  const h = await startRest(t);
  await h.send('POST', PATH, secret());
  const pending = h.rest.server.inject({
    method: 'GET',
    url: `${PATH}?watch=true&timeoutSeconds=5`,
    headers: { authorization: `Bearer ${h.adminToken}` },
  });
  await new Promise((resolve) => setImmediate(resolve));
  await h.send('PUT', `${PATH}/web`, secret(NEXT));
  await h.clock.advance(6000);
  const { payload } = await pending;
  t.match(payload, /"type":"ADDED"[\s\S]*"type":"MODIFIED"/);
  t.same(leaks(payload), []);
  t.notMatch(payload, /sealed/);
});

test('what is stored opens to the values, under its own name only', async (t) => {
  const h = await startRest(t);
  await h.send(
    'POST',
    PATH,
    secret(PAIR, { data: undefined, stringData: { 'tls.crt': PAIR.certPem, 'tls.key': PAIR.keyPem } }),
  );
  const object = await stored(h);
  t.same(vault.open(object), data(PAIR));
  const moved = { ...object, metadata: { ...object.metadata, namespace: 'other' } };
  t.throws(() => vault.open(moved), { code: 'SECRET_UNREADABLE' });
  t.throws(() => createSecretVault(Buffer.alloc(32, 8)).open(object), { code: 'SECRET_UNREADABLE' });
});

test('read, modify, write keeps what the reader could not see', async (t) => {
  const h = await startRest(t);
  await h.send('POST', PATH, secret());
  const version = vault.versionOf(await stored(h));
  const { body } = await h.send('GET', `${PATH}/web`);
  const same = await h.send('PUT', `${PATH}/web`, body);
  t.equal(same.body.metadata.resourceVersion, body.metadata.resourceVersion, 'nothing changed, nothing written');
  const labelled = { ...body, metadata: { ...body.metadata, labels: { a: 'b' } } };
  t.equal((await h.send('PUT', `${PATH}/web`, labelled)).code, 200);
  const extended = await h.send('PATCH', `${PATH}/web`, { data: { 'ca.crt': b64(CA.caPem) } }, STRATEGIC);
  t.equal(extended.code, 200, JSON.stringify(extended.body));
  t.same(vault.open(await stored(h)), data(PAIR, { 'ca.crt': b64(CA.caPem) }));
  t.not(vault.versionOf(await stored(h)), version);
  const half = await h.send('PATCH', `${PATH}/web`, { data: { 'tls.crt': b64(NEXT.certPem) } }, STRATEGIC);
  t.match(half.body, { code: 422 }, 'judged together with what is kept');
  t.same(fields(half.body), ['data[tls.crt]']);
  t.same(leaks(JSON.stringify(half.body)), []);
});

test('immutable Secrets, and types, stay', async (t) => {
  const h = await startRest(t);
  await h.send('POST', PATH, secret(PAIR, { immutable: true }));
  const cases: [Record<string, unknown>, string][] = [
    [secret(NEXT, { immutable: true }), 'data'],
    [secret(PAIR), 'immutable'],
    [secret(PAIR, { immutable: true, type: 'Opaque' }), 'type'],
  ];
  for (const [body, path] of cases) {
    const answer = await h.send('PUT', `${PATH}/web`, body);
    t.equal(answer.code, 422);
    t.same(fields(answer.body), [path]);
  }
  t.equal((await h.send('PUT', `${PATH}/web`, secret(PAIR, { immutable: true }))).code, 200);
});

test('an operator of one namespace writes and lists its own only; a bad one is not stored', async (t) => {
  const h = await startRest(t);
  const shop = await h.as({ namespaces: ['shop'] });
  t.equal((await shop('POST', PATH, secret())).code, 201);
  t.equal((await shop('GET', '/api/v1/namespaces/other/secrets')).code, 403);
  t.equal((await shop('POST', '/api/v1/namespaces/other/secrets', secret())).code, 403);
  const marker = await h.send('POST', PATH, secret(PAIR, { metadata: { name: 'b' }, data: { cacert: SECRET_MARKER } }));
  t.equal(marker.code, 422);
  const soon = CA.issue({ dnsNames: ['x'] }, { notBefore: h.clock.now() - 1000, notAfter: h.clock.now() + 86_400_000 });
  const warned = await h.send('POST', PATH, { ...secret(soon), metadata: { name: 'soon' } });
  t.match(String(warned.headers.warning), /ends in 1 days/);
});
