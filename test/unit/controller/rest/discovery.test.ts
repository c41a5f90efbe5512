import fc from 'fast-check';
import protobuf from 'protobufjs';
import t from 'tap';
import { KINDS } from '../../../../api/resources/registry.ts';
import { StatusError } from '../../../../controller/rest/errors.ts';
import { age } from '../../../../controller/rest/presentation.ts';
import { decodeProtobuf } from '../../../../controller/rest/protobuf.ts';
import { kindTarget, parseResourcePath } from '../../../../controller/rest/target.ts';
import { startRest } from './harness.ts';

/** What t.throws compares with; its type wants an Error. */
const refusal = (status: object): Error => ({ status }) as unknown as Error;

t.test('plain and aggregated discovery list the same', async (t) => {
  const h = await startRest(t);
  const plain = new Set<string>();
  t.match((await h.send('GET', '/api')).body, { kind: 'APIVersions', versions: ['v1'] });
  const groups = (await h.send('GET', '/apis')).body.groups as { versions: { groupVersion: string }[] }[];
  const paths = ['/api/v1', ...groups.flatMap((group) => group.versions.map((one) => `/apis/${one.groupVersion}`))];
  for (const path of paths) {
    const { body } = await h.send('GET', path);
    t.match(body, { kind: 'APIResourceList', groupVersion: path.replace(/^\/apis?\//, '') });
    for (const one of body.resources) plain.add(`${body.groupVersion}/${one.name}/${one.kind}/${one.namespaced}`);
  }
  const aggregated = new Set<string>();
  for (const path of ['/api', '/apis']) {
    const accept = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json';
    const answer = await h.send('GET', path, undefined, { accept });
    t.match(answer.headers['content-type'], 'g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList');
    for (const group of answer.body.items)
      for (const version of group.versions)
        for (const one of version.resources) {
          const groupVersion =
            group.metadata.name === '' ? version.version : `${group.metadata.name}/${version.version}`;
          aggregated.add(`${groupVersion}/${one.resource}/${one.responseKind.kind}/${one.scope === 'Namespaced'}`);
        }
    const etag = String(answer.headers.etag);
    t.equal((await h.send('GET', path, undefined, { accept, 'if-none-match': etag })).code, 304);
  }
  t.strictSame([...aggregated].sort(), [...plain].sort());
  t.ok(KINDS.every((info) => [...plain].some((one) => one.includes(`/${info.plural}/${info.kind}/`))));
  t.equal((await h.send('GET', '/apis/networking.istio.io')).body.kind, 'APIGroup');
});

t.test('OpenAPI v3: an index of immutable documents that name kinds, patches and parameters', async (t) => {
  const h = await startRest(t);
  const index = (await h.send('GET', '/openapi/v3')).body.paths as Record<string, { serverRelativeURL: string }>;
  for (const [name, { serverRelativeURL }] of Object.entries(index)) {
    const { body, headers } = await h.send('GET', serverRelativeURL);
    t.match(headers, { etag: String, 'cache-control': 'public, immutable', expires: String });
    t.match(body, { openapi: '3.0.0', components: { schemas: {} } }, name);
    const text = JSON.stringify(body);
    for (const [, ref] of text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g))
      if (body.components.schemas[ref as string] === undefined) t.fail(`${name} refers to ${ref}, which is not there`);
  }
  const { body } = await h.send('GET', index['apis/networking.istio.io/v1']?.serverRelativeURL as string);
  const patch = body.paths['/apis/networking.istio.io/v1/namespaces/{namespace}/virtualservices/{name}'].patch;
  t.match(patch['x-kubernetes-group-version-kind'], { kind: 'VirtualService' });
  t.same(
    patch.parameters.map((one: { name: string }) => one.name),
    ['dryRun', 'fieldManager', 'fieldValidation'],
  );
});

t.test('reviews of oneself', async (t) => {
  const h = await startRest(t);
  const ours = await h.as({});
  const may = async (attributes: object) =>
    (
      await ours('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SelfSubjectAccessReview',
        spec: { resourceAttributes: attributes },
      })
    ).body.status.allowed;
  const vs = { group: 'networking.istio.io', resource: 'virtualservices' };
  t.equal(await may({ ...vs, verb: 'create', namespace: 'shop' }), true);
  t.equal(await may({ ...vs, verb: 'create', namespace: 'other' }), false);
  t.equal(await may({ ...vs, verb: 'list' }), false);
  t.equal(await may({ group: '', resource: 'pods', verb: 'get', namespace: 'shop' }), false);
  t.equal(await may({ group: '*', resource: '*', verb: '*' }), false);
  const who = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' };
  t.match((await ours('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', who)).body.status.userInfo, {
    username: 'op0',
  });
  t.equal((await ours('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', { ...who, kind: 'X' })).code, 400);
  t.match((await h.send('GET', '/api/v1/namespaces/shop/events?fieldSelector=involvedObject.name%3Dx')).body, {
    kind: 'EventList',
    items: [],
  });
});

const bytes = (field: number, value: Uint8Array | string) => {
  const writer = protobuf.Writer.create().uint32((field << 3) | 2);
  return typeof value === 'string' ? writer.string(value).finish() : writer.bytes(value).finish();
};
const envelope = (kind: string, raw: Uint8Array) =>
  Buffer.concat([
    Buffer.from('k8s\0'),
    bytes(1, Buffer.concat([bytes(1, 'v1'), bytes(2, kind)])),
    bytes(2, raw),
    bytes(3, ''),
    bytes(4, ''),
  ]);

t.test('protobuf bodies: the few that kubectl sends, nothing that would be ignored', async (t) => {
  const label = bytes(11, Buffer.concat([bytes(1, 'a'), bytes(2, 'b')]));
  const meta = Buffer.concat([bytes(1, 'books'), bytes(2, ''), label, bytes(8, '')]);
  t.strictSame(
    decodeProtobuf(envelope('Namespace', Buffer.concat([bytes(1, meta), bytes(2, ''), bytes(3, bytes(1, ''))]))),
    {
      metadata: { name: 'books', labels: { a: 'b' } },
      apiVersion: 'v1',
      kind: 'Namespace',
    },
  );
  t.match(decodeProtobuf(envelope('DeleteOptions', Buffer.concat([bytes(4, 'Background'), bytes(5, 'All')]))), {
    dryRun: ['All'],
    propagationPolicy: 'Background',
  });
  t.throws(
    () => decodeProtobuf(envelope('Namespace', bytes(2, bytes(1, 'kubernetes')))),
    refusal({ code: 400, message: /field 2/ }),
  );
  t.throws(() => decodeProtobuf(envelope('Pod', Buffer.alloc(0))), refusal({ code: 415 }));
  t.throws(() => decodeProtobuf(envelope('__proto__', Buffer.alloc(0))), refusal({ code: 415 }));
});

t.test('fuzz: protobuf bodies and paths never throw but as refusals', async (t) => {
  const onlyRefusals = (work: () => unknown) => {
    try {
      work();
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
    }
  };
  const kinds = fc.constantFrom('Namespace', 'DeleteOptions', 'SelfSubjectAccessReview');
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (raw) =>
      onlyRefusals(() => decodeProtobuf(Buffer.concat([Buffer.from('k8s\0'), raw]))),
    ),
    { numRuns: 2000, seed: 7 },
  );
  fc.assert(
    fc.property(kinds, fc.uint8Array({ maxLength: 200 }), (kind, raw) =>
      onlyRefusals(() => decodeProtobuf(envelope(kind, raw))),
    ),
    { numRuns: 2000, seed: 7 },
  );
  const part = fc.oneof(
    fc.constantFrom(
      'api',
      'apis',
      'v1',
      'namespaces',
      'networking.istio.io',
      'virtualservices',
      'services',
      '',
      '%',
      '%2f',
      '..',
    ),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(part, { maxLength: 9 }), (parts) => {
      const path = parseResourcePath(`/${parts.join('/')}`);
      if (path !== undefined) kindTarget(path);
    }),
    { numRuns: 2000, seed: 7 },
  );
  t.pass('none threw');
});

t.test('paths', async (t) => {
  const cases: [string, object | undefined][] = [
    ['/api/v1/namespaces', { plural: 'namespaces', group: '' }],
    ['/api/v1/namespaces/x', { plural: 'namespaces', name: 'x' }],
    ['/api/v1/namespaces/x/services', { plural: 'services', namespace: 'x' }],
    ['/apis/g/v1/namespaces/x/things/n/status', { group: 'g', namespace: 'x', name: 'n', subresource: 'status' }],
    ['/apis/g/v1', undefined],
    ['/apis/g/v1/things/n/sub/more', undefined],
    ['/other/v1/things', undefined],
  ];
  for (const [path, expected] of cases) {
    if (expected === undefined) t.equal(parseResourcePath(path), undefined, path);
    else t.match(parseResourcePath(path), expected, path);
  }
});

t.test('ages as kubectl tells them', async (t) => {
  const [minute, hour, day] = [60_000, 3_600_000, 86_400_000];
  const cases: [number, string][] = [
    [-5, '0s'],
    [119_000, '119s'],
    [2 * minute, '2m'],
    [3 * minute + 4000, '3m4s'],
    [179 * minute, '179m'],
    [3 * hour + 2 * minute, '3h2m'],
    [47 * hour, '47h'],
    [3 * day + 4 * hour, '3d4h'],
    [400 * day, '400d'],
    [800 * day, '2y'],
  ];
  for (const [ms, text] of cases) t.equal(age(ms), text);
});
