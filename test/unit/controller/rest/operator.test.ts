import t from 'tap';
import { createStoreRows } from '../../../../controller/store/rows.ts';
import { fields, serviceEntry, startRest, VS, virtualService } from './harness.ts';

const APPLY = '/apis/hostmesh.io/v1/apply';
const service = (name: string, port = 80) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'shop' },
  spec: { selector: { app: name }, ports: [{ name: 'http', port }] },
});
const workloadGroup = (name: string) => ({
  apiVersion: 'networking.istio.io/v1',
  kind: 'WorkloadGroup',
  metadata: { name, namespace: 'shop' },
  spec: { metadata: { labels: { app: name } }, template: { ports: { http: 8080 } } },
});
const vs = (name: string, weight = 100) => virtualService(name, weight, { namespace: 'shop' });

t.test('a transaction is one revision and tells what it did', async (t) => {
  const h = await startRest(t);
  const before = await h.store.revision();
  const first = await h.send('POST', APPLY, { objects: [service('reviews'), vs('a'), vs('b')] });
  t.equal(first.code, 200, JSON.stringify(first.body));
  t.match(first.body, {
    kind: 'ApplyResult',
    revision: before + 1,
    dryRun: false,
    results: [
      { key: 'Service/shop/reviews', action: 'created' },
      { key: 'VirtualService/shop/a', action: 'created' },
      { key: 'VirtualService/shop/b', action: 'created' },
    ],
  });
  t.same(h.commits.slice(-1), [before + 1]);
  const second = await h.send('POST', APPLY, { objects: [service('reviews'), vs('a', 50), vs('c')] });
  t.same(
    second.body.results.map((one: { action: string }) => one.action),
    ['unchanged', 'configured', 'created'],
  );
  const third = await h.send('POST', APPLY, { objects: [service('reviews'), vs('a', 50)] });
  t.equal(third.body.revision, before + 2, 'nothing changed: no revision');
  t.match((await h.send('GET', `${VS}/a`)).body.metadata, { generation: 2 });
  t.match(first.body.results[1].warnings, [{ path: 'spec.hosts[0]', message: /VirtualService shop\/b has host/ }]);
});

t.test('all or none: one bad object among many stores nothing and is named', async (t) => {
  const h = await startRest(t);
  const before = await h.store.revision();
  const bad = { ...vs('bad', -5), typo: 1 };
  const { body } = await h.send('POST', APPLY, {
    objects: [service('x'), bad, vs('y'), { kind: 'Pod', apiVersion: 'v1' }],
  });
  t.match(body, { code: 422, reason: 'Invalid', message: /nothing was applied/ });
  t.ok(fields(body).includes('objects[1].typo'));
  t.ok(fields(body).includes('objects[3].kind'), String(fields(body)));
  const twice = await h.send('POST', APPLY, { objects: [vs('y'), vs('y')] });
  t.match(twice.body, {
    code: 422,
    details: { causes: [{ field: 'objects[1].metadata.name', reason: 'FieldValueDuplicate' }] },
  });
  const stale = { ...vs('y'), metadata: { name: 'y', namespace: 'shop', resourceVersion: '1' } };
  t.match((await h.send('POST', APPLY, { objects: [vs('z'), stale] })).body, {
    code: 409,
    details: { causes: [{ field: 'objects[1]' }] },
  });
  const ours = await h.as({});
  const foreign = await ours('POST', APPLY, { objects: [vs('ok'), virtualService('no', 100, { namespace: 'other' })] });
  t.match(foreign.body, { code: 403, details: { causes: [{ field: 'objects[1]' }] } });
  t.equal(await h.store.revision(), before + 1, 'only the principal was added');
});

t.test('YAML documents, dry runs, pruning', async (t) => {
  const h = await startRest(t);
  const yaml = { 'content-type': 'application/yaml' };
  const text = `# a comment\n${JSON.stringify(service('reviews'))}\n---\napiVersion: v1\nkind: List\nitems:\n- ${JSON.stringify(vs('a'))}\n---\n`;
  const dry = await h.send('POST', `${APPLY}?dryRun=All`, text, yaml);
  t.match(dry.body, { dryRun: true, results: [{ action: 'created' }, { action: 'created' }] });
  t.equal((await h.send('GET', `${VS}/a`)).code, 404);
  t.equal((await h.send('POST', APPLY, text, yaml)).body.results.length, 2);
  const broken = await h.send('POST', APPLY, 'a: 1\nb: [2', yaml);
  t.match(broken.body, { code: 400, message: /line 2, column/ });
  const odd = await h.send('POST', `${APPLY}?fieldValidation=Warn`, { objects: [{ ...vs('a'), typo: 1 }] });
  t.match(odd.body.results, [{ action: 'unchanged', warnings: [{ message: 'unknown field "typo"' }] }]);
});

t.test('a transaction that an internal writer overtakes is planned anew', async (t) => {
  const h = await startRest(t);
  await h.send('POST', APPLY, { objects: [vs('a')] });
  const rows = createStoreRows(h.store);
  const commit = h.store.commit.bind(h.store);
  let meddled = false;
  h.store.commit = async (writes, checks) => {
    if (!meddled && writes.some((write) => write.key === 'VirtualService/shop/a')) {
      meddled = true;
      const entry = await h.store.get('VirtualService/shop/a');
      const row = {
        ...JSON.parse(entry?.value ?? ''),
        metadata: { ...JSON.parse(entry?.value ?? '').metadata, labels: { by: 'another' } },
      };
      await rows.commit([{ key: 'VirtualService/shop/a', row, ifRevision: entry?.revision ?? 0 }]);
    }
    return await commit(writes, checks);
  };
  const merge = { 'content-type': 'application/merge-patch+json' };
  const { code, body } = await h.send('PATCH', `${VS}/a`, { metadata: { labels: { mine: 'x' } } }, merge);
  t.equal(code, 200);
  t.same(body.metadata.labels, { by: 'another', mine: 'x' });
  t.ok(meddled);
});

t.test('hosts, revocation, join tokens, status', async (t) => {
  const h = await startRest(t);
  t.match((await h.send('GET', '/apis/hostmesh.io/v1/hosts')).body, {
    kind: 'HostList',
    items: [{ metadata: { name: 'a' } }, {}],
  });
  t.match((await h.send('GET', '/apis/hostmesh.io/v1/hosts/b')).body, { kind: 'Host', spec: { revoked: false } });
  t.equal((await h.send('GET', '/apis/hostmesh.io/v1/hosts/c')).code, 404);
  t.match((await h.send('POST', '/apis/hostmesh.io/v1/hosts/b/revoke', {})).body, {
    kind: 'Host',
    spec: { revoked: true },
  });
  t.same(h.revoked, ['b']);
  t.equal((await h.send('POST', '/apis/hostmesh.io/v1/hosts/c/revoke', {})).code, 404);
  t.equal((await h.send('GET', '/apis/hostmesh.io/v1/hosts/b/revoke')).code, 405);
  const token = (spec: unknown, more = {}) =>
    h.send('POST', '/apis/hostmesh.io/v1/jointokens', {
      apiVersion: 'hostmesh.io/v1',
      kind: 'JoinToken',
      spec,
      ...more,
    });
  const made = await token({ host: 'h1', workloadGroups: ['shop/cart'], ttlSeconds: 600 });
  t.match(made, {
    code: 201,
    body: { status: { joinString: 'join-h1' }, spec: { host: 'h1' } },
    headers: { 'cache-control': 'no-store' },
  });
  t.match(String(made.headers.warning), /WorkloadGroup shop\/cart is not known/);
  await h.send('POST', APPLY, { objects: [workloadGroup('cart')] });
  t.notOk((await token({ host: 'h1', workloadGroups: ['shop/cart'] })).headers.warning);
  for (const bad of [
    undefined,
    null,
    {},
    { host: 7, workloadGroups: [] },
    { host: 'h1' },
    { host: 'h', workloadGroups: [], more: 1 },
    { host: 'h', workloadGroups: [], gateway: true }, // a host is one by its WorkloadGroup
  ])
    t.equal((await token(bad)).code, 422, JSON.stringify(bad));
  t.equal((await token({ host: 'h1', workloadGroups: [] }, { metadata: { name: 'x' } })).code, 422);
  t.match((await h.send('GET', '/apis/hostmesh.io/v1/status')).body, { kind: 'MeshStatus' });
});

t.test('core and Istio kinds of a sample apply as they are', async (t) => {
  const h = await startRest(t);
  const objects = [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop', labels: { 'istio-injection': 'enabled' } } },
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'reviews', namespace: 'shop' } },
    service('reviews', 9080),
    { ...serviceEntry('se'), metadata: { name: 'se', namespace: 'shop' } },
    vs('reviews'),
    {
      apiVersion: 'networking.istio.io/v1',
      kind: 'DestinationRule',
      metadata: { name: 'reviews', namespace: 'shop' },
      spec: { host: 'reviews', subsets: [{ name: 'v1', labels: { version: 'v1' } }] },
    },
    {
      apiVersion: 'networking.istio.io/v1',
      kind: 'WorkloadGroup',
      metadata: { name: 'reviews-v1', namespace: 'shop' },
      spec: {
        metadata: { labels: { app: 'reviews' } },
        template: { serviceAccount: 'reviews', ports: { http: 9080 } },
      },
    },
    {
      apiVersion: 'security.istio.io/v1',
      kind: 'PeerAuthentication',
      metadata: { name: 'default', namespace: 'istio-system' },
      spec: { mtls: { mode: 'STRICT' } },
    },
  ];
  const { code, body } = await h.send('POST', APPLY, { objects });
  t.equal(code, 200, JSON.stringify(body));
  t.equal(body.results.length, objects.length);
});
