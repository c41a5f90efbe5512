import t from 'tap';
import { fields, SE, serviceEntry, startRest, VS, virtualService } from './harness.ts';

const MERGE = { 'content-type': 'application/merge-patch+json' };
const JSON_PATCH = { 'content-type': 'application/json-patch+json' };

t.test('create, read, update, patch, delete: versions and generations move as Kubernetes moves them', async (t) => {
  const h = await startRest(t);
  const made = await h.send('POST', VS, virtualService('reviews'));
  t.equal(made.code, 201);
  t.match(made.body.metadata, { namespace: 'shop', generation: 1, creationTimestamp: '2026-11-25T00:00:00Z' });
  const { uid, resourceVersion } = made.body.metadata;
  t.same((await h.send('GET', `${VS}/reviews`)).body, made.body);
  t.equal(h.commits.at(-1), Number(resourceVersion), 'the commit was announced');

  const again = await h.send('PUT', `${VS}/reviews`, made.body);
  t.same([again.code, again.body], [200, made.body], 'a PUT of what is there changes nothing');
  const noop = await h.send('PATCH', `${VS}/reviews`, { spec: { hosts: ['reviews'] } }, MERGE);
  t.same(noop.body, made.body, 'nor does such a patch');
  t.equal(h.commits.at(-1), Number(resourceVersion), 'and no commit is announced');

  const labelled = await h.send('PATCH', `${VS}/reviews`, { metadata: { labels: { a: 'b' } } }, MERGE);
  t.match(labelled.body.metadata, { uid, generation: 1, labels: { a: 'b' } }, 'metadata is no spec');
  const changed = await h.send('PUT', `${VS}/reviews`, virtualService('reviews', 50));
  t.match(changed.body.metadata, { uid, generation: 2, creationTimestamp: '2026-11-25T00:00:00Z' });
  t.notOk(changed.body.metadata.labels, 'an update replaces labels');
  t.ok(Number(changed.body.metadata.resourceVersion) > Number(resourceVersion));

  const stale = await h.send('PUT', `${VS}/reviews`, made.body);
  t.match([stale.code, stale.body.reason], [409, 'Conflict']);
  const stalePatch = await h.send('PATCH', `${VS}/reviews`, { metadata: { resourceVersion } }, MERGE);
  t.equal(stalePatch.code, 409);
  const otherUid = await h.send('PUT', `${VS}/reviews`, virtualService('reviews', 50, { uid: 'another' }));
  t.equal(otherUid.code, 409);

  const gone = await h.send('DELETE', `${VS}/reviews`);
  t.match(gone.body, { kind: 'Status', status: 'Success', details: { name: 'reviews', kind: 'virtualservices', uid } });
  for (const method of ['GET', 'PUT', 'PATCH', 'DELETE']) {
    const body = { PUT: virtualService('reviews'), PATCH: {} }[method];
    const answer = await h.send(method, `${VS}/reviews`, body, method === 'PATCH' ? MERGE : {});
    t.match([answer.code, answer.body.reason], [404, 'NotFound'], method);
  }
  t.equal((await h.send('POST', VS, virtualService('reviews'))).code, 201);
  t.match((await h.send('POST', VS, virtualService('reviews'))).body, { code: 409, reason: 'AlreadyExists' });
});

t.test('server fields are the server’s, whatever a client sends', async (t) => {
  const h = await startRest(t);
  const sent = virtualService('r', 100, {
    uid: 'mine',
    generation: 99,
    creationTimestamp: '2020-01-01T00:00:00Z',
    managedFields: [{ manager: 'kubectl' }],
  });
  const { body } = await h.send('POST', VS, { ...sent, status: { observedGeneration: 4 } });
  t.not(body.metadata.uid, 'mine');
  t.match(body.metadata, { generation: 1, creationTimestamp: '2026-11-25T00:00:00Z' });
  t.notOk(body.metadata.managedFields);
  t.notOk(body.status);
  t.match((await h.send('POST', VS, virtualService('s', 100, { resourceVersion: '7' }))).body, { code: 400 });
});

t.test('one kind under all its versions', async (t) => {
  const h = await startRest(t);
  const alpha = '/apis/networking.istio.io/v1alpha3/namespaces/shop/virtualservices';
  const old = { ...virtualService('r'), apiVersion: 'networking.istio.io/v1alpha3' };
  t.equal((await h.send('POST', alpha, old)).body.apiVersion, 'networking.istio.io/v1alpha3');
  t.equal((await h.send('GET', `${VS}/r`)).body.apiVersion, 'networking.istio.io/v1');
  t.equal((await h.send('GET', alpha)).body.items[0].apiVersion, 'networking.istio.io/v1alpha3');
  t.match((await h.send('POST', VS, old)).body, {
    code: 400,
    message: /v1alpha3 in a request for networking.istio.io\/v1/,
  });
});

t.test('dry runs say what would be and store nothing', async (t) => {
  const h = await startRest(t);
  const before = await h.store.revision();
  const made = await h.send('POST', `${VS}?dryRun=All`, virtualService('r'));
  t.match([made.code, made.body.metadata.generation], [201, 1]);
  t.equal((await h.send('GET', `${VS}/r`)).code, 404);
  t.equal(await h.store.revision(), before);
  await h.send('POST', VS, virtualService('r'));
  t.equal((await h.send('PATCH', `${VS}/r?dryRun=All`, { spec: { hosts: ['x'] } }, MERGE)).body.metadata.generation, 2);
  for (const [url, body] of [
    [`${VS}/r`, { dryRun: ['All'] }],
    [`${VS}/r?dryRun=All`, undefined],
    [VS, { kind: 'DeleteOptions', apiVersion: 'v1', dryRun: ['All'] }],
  ] as const)
    t.equal((await h.send('DELETE', url, body)).code, 200);
  t.match((await h.send('GET', `${VS}/r`)).body.spec.hosts, ['reviews']);
  t.equal((await h.send('DELETE', `${VS}/r`, { dryRun: ['Some'] })).code, 400);
  t.equal((await h.send('DELETE', `${VS}/r?dryRun=true`)).code, 400);
});

t.test('delete options: preconditions hold, unknown ones are refused', async (t) => {
  const h = await startRest(t);
  const { uid, resourceVersion } = (await h.send('POST', VS, virtualService('r'))).body.metadata;
  const remove = (body: unknown) => h.send('DELETE', `${VS}/r`, body);
  t.equal((await remove({ preconditions: { uid: 'x' } })).code, 409);
  t.equal((await remove({ preconditions: { resourceVersion: '1' } })).code, 409);
  t.equal((await remove({ preconditions: { uid, other: 1 } })).code, 400);
  t.equal((await remove({ force: true })).code, 400);
  t.equal((await remove({ propagationPolicy: 'Foreground', preconditions: { uid, resourceVersion } })).code, 200);
});

t.test('unknown fields: strict by default, pruned with a warning on request', async (t) => {
  const h = await startRest(t);
  const odd = virtualService('r');
  const spec = { ...(odd.spec as object), hosst: ['x'] };
  const refused = await h.send('POST', VS, { ...odd, spec });
  t.match(refused.body, { code: 400, message: 'strict decoding error: unknown field "spec.hosst"' });
  for (const mode of ['Warn', 'Ignore']) {
    const taken = await h.send('POST', `${VS}?fieldValidation=${mode}`, {
      ...odd,
      spec,
      metadata: { name: mode.toLowerCase() },
    });
    t.equal(taken.code, 201);
    t.notOk(taken.body.spec.hosst);
    t.match(String(taken.headers.warning), '299 - "unknown field \\"spec.hosst\\""');
  }
  t.equal((await h.send('POST', `${VS}?fieldValidation=Loose`, odd)).code, 400);
});

t.test('invalid objects: 422 with every field', async (t) => {
  const h = await startRest(t);
  const bad = virtualService('r', -1);
  const { body } = await h.send('POST', VS, { ...bad, spec: { ...(bad.spec as object), hosts: [] } });
  t.match(body, {
    code: 422,
    reason: 'Invalid',
    details: { name: 'r', kind: 'VirtualService', group: 'networking.istio.io' },
  });
  t.ok(fields(body).includes('spec.http[0].route[0].weight'), String(fields(body)));
  t.match(
    (
      await h.send('POST', '/api/v1/namespaces/shop/secrets', {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: 's' },
        stringData: { password: 'hunter2' },
      })
    ).code,
    422,
  );
});

t.test('JSON patch and its failures', async (t) => {
  const h = await startRest(t);
  await h.send('POST', VS, virtualService('r'));
  const patch = (operations: unknown) => h.send('PATCH', `${VS}/r`, operations, JSON_PATCH);
  t.same((await patch([{ op: 'replace', path: '/spec/hosts/0', value: 'x' }])).body.spec.hosts, ['x']);
  t.match((await patch([{ op: 'test', path: '/spec/hosts/0', value: 'y' }])).body, { code: 422 });
  t.match((await patch([{ op: 'remove', path: '/spec/nothing' }])).body, { code: 422 });
  t.match((await patch([{ op: 'replace', path: '/metadata/name', value: 'other' }])).body, { code: 400 });
  t.match((await patch([{ op: 'replace', path: '', value: [] }])).body, { code: 400 });
  t.match((await patch({})).body, { code: 400 });
  t.same((await h.send('GET', `${VS}/r`)).body.spec.hosts, ['x']);
});

t.test('server-side apply and unknown patch types: 415 with the reason and what is taken', async (t) => {
  const h = await startRest(t);
  await h.send('POST', VS, virtualService('r'));
  const apply = await h.send('PATCH', `${VS}/r`, virtualService('r'), {
    'content-type': 'application/apply-patch+yaml',
  });
  t.match(apply.body, {
    code: 415,
    reason: 'UnsupportedMediaType',
    message: /server-side apply is not served.*merge-patch/,
  });
  const strategic = { 'content-type': 'application/strategic-merge-patch+json' };
  t.match((await h.send('PATCH', `${VS}/r`, {}, strategic)).body, { code: 415 });
  t.match((await h.send('PATCH', `${VS}/r`, {}, { 'content-type': 'application/json' })).body, { code: 415 });
});

t.test('deletecollection takes what the selector chooses, in one revision', async (t) => {
  const h = await startRest(t);
  for (const name of ['a', 'b', 'c'])
    await h.send('POST', VS, virtualService(name, 100, { labels: { team: name === 'c' ? 'y' : 'x' } }));
  await h.send('POST', SE, serviceEntry('kept'));
  const before = await h.store.revision();
  const gone = await h.send('DELETE', `${VS}?labelSelector=team=x`);
  t.match(gone.body, { kind: 'VirtualServiceList', items: [{ metadata: { name: 'a' } }, { metadata: { name: 'b' } }] });
  t.equal(await h.store.revision(), before + 1);
  t.same(
    (await h.send('GET', VS)).body.items.map((one: { metadata: { name: string } }) => one.metadata.name),
    ['c'],
  );
  t.equal((await h.send('GET', `${SE}/kept`)).code, 200);
});

t.test('namespaces: two always are; another goes with what is in it', async (t) => {
  const h = await startRest(t);
  const { items } = (await h.send('GET', '/api/v1/namespaces')).body;
  t.same(
    items.map((one: { metadata: { name: string } }) => one.metadata.name),
    ['default', 'istio-system'],
  );
  t.match((await h.send('DELETE', '/api/v1/namespaces/default')).body, { code: 403 });
  await h.send('POST', '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } });
  await h.send('POST', VS, virtualService('r'));
  const before = await h.store.revision();
  t.equal((await h.send('DELETE', '/api/v1/namespaces/shop')).code, 200);
  t.equal(await h.store.revision(), before + 1);
  t.equal((await h.send('GET', `${VS}/r`)).code, 404);
});

t.test('writers that race: each conflict is told, none is lost', async (t) => {
  const h = await startRest(t);
  const { body } = await h.send('POST', VS, virtualService('r'));
  const race = await Promise.all(
    [1, 2, 3, 4].map((i) => h.send('PUT', `${VS}/r`, { ...body, spec: { ...body.spec, hosts: [`h${i}`] } })),
  );
  t.same(race.map((one) => one.code).sort(), [200, 409, 409, 409]);
  const labels = [1, 2, 3, 4].map((i) => ({ metadata: { labels: { [`l${i}`]: 'x' } } }));
  await Promise.all(labels.map((patch) => h.send('PATCH', `${VS}/r`, patch, MERGE)));
  t.same(Object.keys((await h.send('GET', `${VS}/r`)).body.metadata.labels).sort(), ['l1', 'l2', 'l3', 'l4']);
});

t.test('quotas', async (t) => {
  const h = await startRest(t, { quota: { objects: 50, perKindAndNamespace: 2 } });
  for (const name of ['a', 'b']) t.equal((await h.send('POST', VS, virtualService(name))).code, 201);
  t.match((await h.send('POST', VS, virtualService('c'))).body, { code: 403, message: /exceeded quota/ });
  t.equal((await h.send('POST', SE, serviceEntry('c'))).code, 201, 'each kind has its own');
});

t.test('small objects that ask for many clusters are refused, as every host would make them', async (t) => {
  const h = await startRest(t, { quota: { clustersPerNamespace: 100, clusters: 150 } });
  const service = (name: string, ports: number) => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name },
    spec: {
      selector: { app: name },
      ports: Array.from({ length: ports }, (_, i) => ({ name: `http-${i}`, port: 1000 + i })),
    },
  });
  const rule = (name: string, host: string, subsets: number) => ({
    apiVersion: 'networking.istio.io/v1',
    kind: 'DestinationRule',
    metadata: { name },
    spec: { host, subsets: Array.from({ length: subsets }, (_, i) => ({ name: `s${i}`, labels: { v: `${i}` } })) },
  });
  const services = (namespace: string) => `/api/v1/namespaces/${namespace}/services`;
  const rules = (namespace: string) => `/apis/networking.istio.io/v1/namespaces/${namespace}/destinationrules`;
  t.equal((await h.send('POST', services('default'), service('a', 10))).code, 201);
  const over = await h.send('POST', rules('default'), rule('a', 'a', 10));
  t.match(over.body, { code: 403, message: /namespace default would ask 110 clusters .*at most 100/ });
  t.match((await h.send('POST', rules('default'), rule('w', '*.local', 10))).body, { code: 403 }, 'by a wildcard too');
  t.equal((await h.send('POST', rules('default'), rule('a', 'a', 9))).code, 201, 'as many as may be');
  t.match((await h.send('POST', services('default'), service('b', 1))).body, { code: 403 });
  const transaction = { objects: [service('c', 60), rule('c', 'c', 1)].map((o) => withNamespace(o, 'shop')) };
  const whole = await h.send('POST', '/apis/hostmesh.io/v1/apply', transaction);
  t.match(whole.body, { code: 403, message: /namespace shop would ask 120/ }, 'counted together');
  const rest = await h.send('POST', services('shop'), service('c', 60));
  t.match(rest.body, { code: 403, message: /the mesh would ask 160 clusters/ });
  t.equal((await h.send('PUT', `${rules('default')}/a`, rule('a', 'a', 3))).code, 200, 'less is always taken');
  t.equal((await h.send('POST', services('shop'), service('c', 60))).code, 201);
  const many = {
    apiVersion: 'networking.istio.io/v1',
    kind: 'VirtualService',
    metadata: { name: 'many' },
    spec: {
      hosts: Array.from({ length: 100 }, (_, i) => `h${i}`),
      http: Array.from({ length: 40 }, (_, i) => ({
        match: [{ uri: { exact: `/${i}` } }],
        route: [{ destination: { host: 'c' } }],
      })),
    },
  };
  const routes = await h.send('POST', '/apis/networking.istio.io/v1/namespaces/shop/virtualservices', many);
  t.match(routes.body, { code: 403, message: /namespace shop would ask 460 clusters .*ten routes/ }, 'routes too');
});

function withNamespace<T extends { metadata: object }>(object: T, namespace: string): T {
  return { ...object, metadata: { ...object.metadata, namespace } };
}
