import { request } from 'node:https';
import t from 'tap';
import { cpuMs } from '../../../fakes/cpu-time.ts';
import { startRest, VS, virtualService } from './harness.ts';

t.test('bad input is 4xx with a Status, never 500, and nothing is stored', async (t) => {
  const h = await startRest(t);
  const before = await h.store.revision();
  const good = JSON.stringify(virtualService('r'));
  const yaml = { 'content-type': 'application/yaml' };
  const merge = { 'content-type': 'application/merge-patch+json' };
  const protobuf = { 'content-type': 'application/vnd.kubernetes.protobuf' };
  const deep = `${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`;
  const cases: [
    name: string,
    code: number,
    method: string,
    url: string,
    body?: unknown,
    headers?: Record<string, string>,
  ][] = [
    ['no JSON', 400, 'POST', VS, '{"kind"'],
    ['no body', 400, 'POST', VS],
    ['empty body', 400, 'POST', VS, ''],
    ['a list', 400, 'POST', VS, []],
    ['null', 400, 'POST', VS, 'null'],
    ['a number', 400, 'POST', VS, '7'],
    ['deeply nested', 400, 'POST', VS, deep],
    ['no UTF-8', 400, 'POST', VS, Buffer.from([0x22, 0xff, 0xfe, 0x22])],
    ['broken YAML', 400, 'POST', VS, 'a: [1', yaml],
    ['two YAML documents', 400, 'POST', VS, `${good}\n---\n${good}`, yaml],
    [
      'a YAML bomb',
      400,
      'POST',
      VS,
      'a: &a [x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c]',
      yaml,
    ],
    ['no kind', 400, 'POST', VS, { metadata: { name: 'r' } }],
    ['another kind', 400, 'POST', VS, { ...virtualService('r'), kind: 'Gateway' }],
    ['an unknown version', 400, 'POST', VS, { ...virtualService('r'), apiVersion: 'networking.istio.io/v9' }],
    ['no metadata', 422, 'POST', VS, { apiVersion: 'networking.istio.io/v1', kind: 'VirtualService' }],
    ['metadata null', 422, 'POST', VS, { ...virtualService('r'), metadata: null }],
    ['a name that is none', 422, 'POST', VS, virtualService('../etc')],
    ['another namespace', 422, 'POST', VS, virtualService('r', 100, { namespace: 'other' })],
    ['wrong types', 422, 'POST', VS, { ...virtualService('r'), spec: { hosts: 'reviews', http: 7 } }],
    ['spec is a list', 422, 'POST', VS, { ...virtualService('r'), spec: [] }],
    ['__proto__', 400, 'POST', VS, good.replace('"spec"', '"__proto__"')],
    ['an odd content type', 415, 'POST', VS, good, { 'content-type': 'text/plain' }],
    ['junk protobuf', 400, 'POST', '/api/v1/namespaces', Buffer.from('k8s\0\xff\xff\xff\xff'), protobuf],
    ['protobuf without its mark', 400, 'POST', '/api/v1/namespaces', Buffer.from('hello'), protobuf],
    ['no such kind', 404, 'POST', VS.replace('virtualservices', 'things'), good],
    ['no such group', 404, 'GET', '/apis/example.com/v1/things'],
    ['no such path', 404, 'GET', '/'],
    ['an empty segment', 404, 'GET', '/apis//v1/virtualservices'],
    ['a broken escape', 404, 'GET', '/apis/%zz/v1/x'],
    ['a namespaced object without its namespace', 404, 'GET', '/apis/networking.istio.io/v1/virtualservices/r'],
    ['a cluster kind in a namespace', 404, 'GET', '/apis/hostmesh.io/v1/namespaces/shop/meshconfigs'],
    ['a subresource', 404, 'GET', `${VS}/r/scale`],
    ['create outside a namespace', 400, 'POST', '/apis/networking.istio.io/v1/virtualservices', good],
    ['POST to an object', 405, 'POST', `${VS}/r`, good],
    ['PUT to a collection', 405, 'PUT', VS, good],
    ['hosts are read only', 405, 'DELETE', '/apis/hostmesh.io/v1/hosts/a'],
    ['tokens cannot be listed', 405, 'GET', '/apis/hostmesh.io/v1/jointokens'],
    ['limit is no number', 400, 'GET', `${VS}?limit=x`],
    ['continue is junk', 400, 'GET', `${VS}?continue=x`],
    ['a selector that is none', 400, 'GET', `${VS}?labelSelector=a%20b`],
    ['a field that cannot be selected', 400, 'GET', `${VS}?fieldSelector=spec.x=1`],
    ['a future revision', 410, 'GET', `${VS}?resourceVersion=99999`],
    ['not acceptable', 406, 'GET', VS, undefined, { accept: 'application/vnd.kubernetes.protobuf' }],
    ['the old openapi', 404, 'GET', '/openapi/v2'],
    ['a patch that is no object', 400, 'PATCH', `${VS}/there`, '[]', merge],
    ['a patch with too many levels', 400, 'PATCH', `${VS}/there`, deep, merge],
    ['a patch to nothing valid', 422, 'PATCH', `${VS}/there`, { spec: null }, merge],
    ['watch=maybe', 400, 'GET', `${VS}?watch=maybe`],
    ['initial events without bookmarks', 422, 'GET', `${VS}?watch=1&sendInitialEvents=true`],
    ['apply without objects', 400, 'POST', '/apis/hostmesh.io/v1/apply', {}],
    ['apply with something else', 400, 'POST', '/apis/hostmesh.io/v1/apply', { objects: [], force: true }],
    ['apply by GET', 405, 'GET', '/apis/hostmesh.io/v1/apply'],
    ['too many objects', 413, 'POST', '/apis/hostmesh.io/v1/apply', { objects: Array(5001).fill(0) }],
    ['an object over 1 MiB', 413, 'POST', VS, Buffer.alloc(1_100_000, 0x20)],
    ['a transaction of 10 MB', 413, 'POST', '/apis/hostmesh.io/v1/apply', Buffer.alloc(10_000_000, 0x20)],
  ];
  await h.send('POST', VS, virtualService('there'));
  for (const [name, code, method, url, body, headers] of cases) {
    const answer = await h.send(method, url, body, headers);
    t.equal(answer.code, code, `${name}: ${JSON.stringify(answer.body).slice(0, 200)}`);
    t.match(answer.body, { kind: 'Status', status: 'Failure', code, message: String }, name);
  }
  t.equal(await h.store.revision(), before + 1, 'nothing but the one that was meant');
});

t.test('10 MB over a real socket get their 413, and the connection lives on', async (t) => {
  const h = await startRest(t);
  const send = (bytes: number) =>
    new Promise<number>((resolve, reject) => {
      const outgoing = request(
        {
          host: '127.0.0.1',
          port: h.rest.port(),
          ca: h.ca,
          method: 'POST',
          path: VS,
          headers: {
            authorization: `Bearer ${h.adminToken}`,
            'content-type': 'application/json',
            'content-length': bytes,
          },
        },
        (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        },
      );
      outgoing.once('error', reject);
      outgoing.end(Buffer.alloc(bytes, 0x20));
    });
  t.equal(await send(10_000_000), 413);
  t.equal(await send(10), 400);
});

t.test('warnings carry nothing that could break a header', async (t) => {
  const h = await startRest(t);
  const odd = { ...virtualService('r'), 'x"\r\nset-cookie: a=b\u00e9': 1 };
  const { code, headers } = await h.send('POST', `${VS}?fieldValidation=Warn`, odd);
  t.equal(code, 201);
  t.notOk(headers['set-cookie']);
  t.match(String(headers.warning), /unknown field/);
});

t.test('YAML that would hold up everybody is refused before it is parsed', async (t) => {
  const h = await startRest(t);
  const text = `a:\n${'- {b: c}\n'.repeat(300_000)}`;
  const started = cpuMs();
  const answer = await h.send('POST', '/apis/hostmesh.io/v1/apply', text, { 'content-type': 'application/yaml' });
  t.match(answer.body, { code: 400, message: /larger than 1048576 bytes/ });
  t.ok(cpuMs() - started < 1000, `${Math.round(cpuMs() - started)} ms`);
});
