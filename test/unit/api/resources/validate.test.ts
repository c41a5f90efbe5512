import fc from 'fast-check';
import t from 'tap';
import { checkEnforced } from '../../../../api/resources/enforcement.ts';
import { KINDS } from '../../../../api/resources/registry.ts';
import { Report } from '../../../../api/resources/report.ts';
import { validateObject } from '../../../../api/resources/validate.ts';
import { cpuMs } from '../../../fakes/cpu-time.ts';

const ROUTE = { route: [{ destination: { host: 'reviews' } }] };
const virtualService = (spec: object, metadata: object = { name: 'reviews' }, version = 'v1') => ({
  apiVersion: `networking.istio.io/${version}`,
  kind: 'VirtualService',
  metadata,
  spec,
});

t.test(
  'a good object is normalized: storage version, default namespace, no status, no nulls, no managed fields',
  async (t) => {
    const input = {
      ...virtualService(
        { hosts: ['reviews'], gateways: null, http: [{ ...ROUTE, timeout: null }] },
        undefined,
        'v1alpha3',
      ),
      metadata: {
        name: 'reviews',
        labels: { app: 'reviews' },
        annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}' },
        resourceVersion: '7',
        uid: 'u',
        generation: 3,
        creationTimestamp: null,
        managedFields: [{ manager: 'x' }],
        selfLink: '/x',
        finalizers: [],
      },
      status: { conditions: [] },
    };
    const { object, violations } = validateObject(input);
    t.same(violations, []);
    t.same(object, {
      apiVersion: 'networking.istio.io/v1',
      kind: 'VirtualService',
      metadata: {
        name: 'reviews',
        namespace: 'default',
        labels: { app: 'reviews' },
        annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}' },
        resourceVersion: '7',
        uid: 'u',
        generation: 3,
      },
      spec: { hosts: ['reviews'], http: [ROUTE] },
    });
  },
);

t.test('validating what was accepted changes nothing', async (t) => {
  const first = validateObject(virtualService({ hosts: ['reviews'], http: [ROUTE] })).object;
  t.same(validateObject(first).object, first);
});

t.test('unknown fields are named, or pruned with a warning', async (t) => {
  const input = virtualService(
    { hosst: ['a'], hosts: ['a'], http: [{ ...ROUTE, constructor: 1 }] },
    { name: 'a', nmae: 'b' },
  );
  const strict = validateObject({ ...input, extra: 1 });
  t.same(
    strict.violations
      .filter((one) => one.reason === 'UnknownField')
      .map((one) => one.message)
      .sort(),
    [
      'unknown field "extra"',
      'unknown field "metadata.nmae"',
      'unknown field "spec.hosst"',
      'unknown field "spec.http[0].constructor"',
    ],
  );
  t.equal(strict.object, undefined);
  const pruned = validateObject(input, { unknownFields: 'prune' });
  t.same(pruned.violations, []);
  t.same(pruned.object?.spec, { hosts: ['a'], http: [ROUTE] });
  t.equal(pruned.warnings.length, 3);
});

t.test('what is no object of ours is refused with its reason', async (t) => {
  const table: [unknown, string, RegExp][] = [
    [undefined, '', /object is expected/],
    [null, '', /object is expected/],
    ['x', '', /object is expected/],
    [[], '', /object is expected/],
    [{}, 'apiVersion', /required/],
    [{ apiVersion: 'v1' }, 'kind', /required/],
    [{ apiVersion: 1, kind: {} }, 'kind', /required/],
    [{ apiVersion: 'v1', kind: 'Pod' }, 'kind', /no kind/],
    [{ apiVersion: 'networking.istio.io/v2', kind: 'Gateway' }, 'kind', /networking.istio.io\/v1,/],
    [
      { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'a' } },
      'kind',
      /WorkloadGroup says what a host may/,
    ],
    [{ apiVersion: 'hostmesh.io/v1', kind: 'Host', metadata: { name: 'a' } }, 'kind', /can be stored/],
    [{ apiVersion: 'v1', kind: 'Service' }, 'metadata', /metadata/],
    [virtualService({}, { name: 'A_B' }), 'metadata.name', /not a valid name/],
    [virtualService({}, { name: '' }), 'metadata.name', /required/],
    [virtualService({}, { name: 5 }), 'metadata.name', /must be a string/],
    [virtualService({}, { name: 'a', namespace: 'A' }), 'metadata.namespace', /not a valid namespace/],
    [virtualService({}, { name: 'a', labels: { a: 1 } }), 'metadata.labels.a', /must be a string/],
    [virtualService({}, { name: 'a', labels: { 'a b': 'c' } }), 'metadata.labels', /label key/],
    [virtualService({}, { name: 'a', annotations: { a: 'x'.repeat(262_145) } }), 'metadata.annotations', /256 KiB/],
    [virtualService({}, { name: 'a', finalizers: ['x'] }), 'metadata.finalizers', /not supported/],
    [{ apiVersion: 'v1', kind: 'Service', metadata: { name: '1a' } }, 'metadata.name', /DNS label/],
    [
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'a', namespace: 'b' } },
      'metadata.namespace',
      /no namespace/,
    ],
    [
      { apiVersion: 'hostmesh.io/v1', kind: 'MeshConfig', metadata: { name: 'other' } },
      'metadata.name',
      /one MeshConfig/,
    ],
    [virtualService({ hosts: 'a' }), 'spec.hosts', /must be a list/],
    [virtualService({ hosts: [1] }), 'spec.hosts[0]', /must be a string/],
    [virtualService({ hosts: [null] }), 'spec.hosts[0]', /must be a string/],
    [virtualService([] as object), 'spec', /must be an object/],
    [{ apiVersion: 'networking.istio.io/v1', kind: 'DestinationRule', metadata: { name: 'a' } }, 'spec', /required/],
  ];
  for (const [input, path, message] of table) {
    const { object, violations } = validateObject(input);
    t.equal(object, undefined);
    t.ok(
      violations.some((one) => one.path === path && message.test(one.message)),
      `${path} ${message}`,
      { violations },
    );
  }
});

t.test('the namespace of the request', async (t) => {
  const spec = { hosts: ['a'], http: [ROUTE] };
  t.equal(validateObject(virtualService(spec), { namespace: 'shop' }).object?.metadata.namespace, 'shop');
  t.equal(
    validateObject(virtualService(spec, { name: 'a', namespace: 'shop' }), { namespace: 'shop' }).violations.length,
    0,
  );
  t.match(validateObject(virtualService(spec, { name: 'a', namespace: 'other' }), { namespace: 'shop' }).violations, [
    { path: 'metadata.namespace' },
  ]);
});

t.test('hostile input is bounded', async (t) => {
  let deep: unknown = 'x';
  for (let i = 0; i < 10_000; i++) deep = [deep];
  const wide = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'a' },
    spec: { ports: Array(60_000).fill({ port: 1 }) },
  };
  const many = virtualService({ hosts: Array.from({ length: 45_000 }, (_, i) => `h${i}`), http: [ROUTE] });
  t.match(validateObject(deep).violations, [{ message: /deeper than 32/ }]);
  t.match(validateObject(wide).violations, [{ message: /too large/ }]);
  t.match(validateObject(virtualService({ hosts: ['x'.repeat(1_100_000)] })).violations, [{ message: /too large/ }]);
  t.match(validateObject(JSON.parse('{"apiVersion":"v1","kind":"Service","__proto__":{"a":1}}')).violations, [
    { message: /__proto__/ },
  ]);
  t.equal(({} as { a?: number }).a, undefined);
  const started = cpuMs();
  t.match(validateObject(many).violations, [{ path: 'spec.hosts', message: /at most 1000/ }]);
  t.equal(validateObject(virtualService({ hosts: ['a'], http: Array(45_000).fill('_') })).violations.length, 100);
  t.ok(cpuMs() - started < 3000, 'thousands of hosts in one object do not stall the controller');
});

t.test('random input never throws and never passes by accident', async (t) => {
  const kinds = fc.constantFrom(
    ...KINDS.flatMap((info) => info.versions.map((v) => [`${info.group}${info.group ? '/' : ''}${v}`, info.kind])),
  );
  const input = fc.record({
    kind: kinds,
    metadata: fc.oneof(fc.constant({ name: 'a' }), fc.jsonValue()),
    spec: fc.jsonValue({ maxDepth: 4 }),
    data: fc.option(fc.jsonValue(), { nil: undefined }),
  });
  fc.assert(
    fc.property(input, ({ kind, metadata, spec, data }) => {
      const { object, violations } = validateObject({ apiVersion: kind[0], kind: kind[1], metadata, spec, data });
      return (object === undefined) === violations.length > 0;
    }),
    { numRuns: 500, seed: 7 },
  );
  t.pass('500 objects');
});

t.test('every set field is enforced or refused', async (t) => {
  const enforced = {
    fields: {
      VirtualService: [
        'spec.hosts[]',
        'spec.http[].match[].headers.*.exact',
        'spec.http[].fault.**',
        'spec.tcp[].mode',
      ],
    },
    values: { VirtualService: { 'spec.tcp[].mode': ['A', 'B'] } },
  };
  const found = (fields: Record<string, unknown>, kind = 'VirtualService'): string[] => {
    const report = new Report();
    checkEnforced(kind, fields, report, enforced);
    return report.violations.map((one) => one.path);
  };
  t.same(
    found({ spec: { hosts: ['a'], http: [{ match: [{ headers: { 'x-a': { exact: 'b' } } }], fault: { any: [1] } }] } }),
    [],
  );
  t.same(found({ spec: { hosts: [], http: [{}] } }), [], 'empty on the way to an enforced field');
  t.same(found({ spec: { gateways: ['a'] } }), ['spec.gateways']);
  t.same(found({ spec: { gateways: [] } }), ['spec.gateways'], 'even when empty');
  t.same(found({ spec: { http: [{}, { match: [{ headers: { 'x-a': { regex: 'b' } } }] }] } }), [
    'spec.http[1].match[0].headers[x-a].regex'.replace('[x-a]', '.x-a'),
  ]);
  t.same(found({ spec: { http: [{ match: [{ headers: { 'a b': { regex: 'b' } } }] }] } }), [
    'spec.http[0].match[0].headers[a b].regex',
  ]);
  t.same(found({ spec: { tcp: [{ mode: 'A' }, { mode: 'C' }] } }), ['spec.tcp[1].mode']);
  t.same(found({}, 'AuthorizationPolicy'), [''], 'a kind without patterns is refused whole');
  t.same(found({}, 'Namespace'), [], 'save the kinds that mean nothing by themselves');
});

t.test('a field that cannot be enforced is refused with its own reason, and all below it', async (t) => {
  const enforced = {
    fields: { VirtualService: ['spec.http[].a'] },
    values: {},
    refused: { VirtualService: { 'spec.http[].pods': 'hosts run no pods' } },
  };
  const report = new Report();
  checkEnforced('VirtualService', { spec: { http: [{ a: 1, pods: { deep: [1] } }, { b: 1 }] } }, report, enforced);
  t.same(
    report.violations.map((one) => [one.path, one.message]),
    [
      ['spec.http[0].pods', 'not supported: hosts run no pods'],
      ['spec.http[1].b', 'not supported yet: this version does not enforce the field'],
    ],
  );
});

t.test('this version: an unenforced kind or field says so', async (t) => {
  const jwt = { apiVersion: 'security.istio.io/v1', kind: 'RequestAuthentication', metadata: { name: 'a' }, spec: {} };
  const message =
    /^not supported yet: this version does not enforce RequestAuthentication; pushing it would be ignored silently, and .* forged tokens/;
  t.match(validateObject(jwt).violations, [{ path: '', message }]);
  const namespace = (spec: object) =>
    validateObject({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'a' }, spec }).violations;
  t.same(namespace({}), [], 'as kubectl create namespace sends it');
  t.match(namespace({ finalizers: ['x'] }), [{ path: 'spec.finalizers', message: /^not supported: .* at once/ }]);
  const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'a' }, secrets: [{ name: 'x' }] };
  t.match(validateObject(account).violations, [{ path: 'secrets', message: /^not supported: .*credentialName/ }]);
  const tcp = [{ match: [{ sourceSubnet: '10.0.0.0/8' }], route: [{ destination: { host: 'a' } }] }];
  t.match(validateObject(virtualService({ hosts: ['a'], tcp })).violations, [
    { path: 'spec.tcp[0].match[0].sourceSubnet', message: /^not supported: / },
  ]);
});
