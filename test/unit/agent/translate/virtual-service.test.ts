// VirtualServices on the way to Envoy: which of them is for a call, what its rules become. The simulator asks where calls go.
import { test } from 'tap';
import { translate } from '../../../../agent/translate/translate.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { group, meshView, object, service, type TestHost } from '../mesh-view/build-mesh.ts';
import { type Call, type Outcome, simulate } from './simulate.ts';

const VIPS = {
  'reviews.default.svc.cluster.local': { v4: '240.240.0.1', v6: 'fd6d:6573:6800::1' },
  'db.default.svc.cluster.local': { v4: '240.240.0.2', v6: 'fd6d:6573:6800::2' },
};
const HOSTS: readonly TestHost[] = [{ id: 'a', addresses: ['10.0.0.1'], groups: ['default/web', 'shop/till'] }];
const MESH: readonly MeshObject[] = [
  group('web', {}),
  group('till', {}, { namespace: 'shop' }),
  group('reviews', { http: 9080 }),
  group('db', { tcp: 5432 }),
  service('reviews', [
    { name: 'http', port: 80 },
    { name: 'http-b', port: 81 },
  ]),
  service('db', [
    { name: 'tcp', port: 5432 },
    { name: 'tls', port: 8443 },
  ]),
  object('ServiceEntry', 'wild', {
    hosts: ['*.wild.example'],
    ports: [
      { number: 443, name: 'tls', protocol: 'TLS' },
      { number: 8080, name: 'http', protocol: 'HTTP' },
    ],
  }),
  object('DestinationRule', 'hashed', {
    host: 'db',
    trafficPolicy: { loadBalancer: { consistentHash: { httpHeaderName: 'h' } } },
  }),
];

const answer = (status: number) => ({ directResponse: { status } });
const vs = (name: string, spec: object, created = 0): MeshObject => object('VirtualService', name, spec, { created });
const http = (host: string, more: Partial<Call> & { path?: string } = {}): Call => ({
  listener: 15001,
  address: '240.240.0.1',
  port: 80,
  ...more,
  http: { host, ...(more.path === undefined ? {} : { path: more.path }) },
});
const bytes = (address: string, port: number, sni?: string): Call => ({
  listener: 15001,
  address,
  port,
  ...(sni === undefined ? {} : { sni }),
});
const to = (cluster: string): Partial<Outcome> => ({ clusters: { [cluster]: 100 } });
const REVIEWS = 'outbound_.80_._.reviews.default.svc.cluster.local';
const DB = 'outbound_.5432_._.db.default.svc.cluster.local';

function check(
  name: string,
  objects: readonly MeshObject[],
  rows: readonly (readonly [string, Call, Partial<Outcome>])[],
): void {
  test(name, async (t) => {
    const set = translate(meshView({ objects: [...MESH, ...objects], hosts: HOSTS, vips: VIPS }));
    for (const [what, call, expected] of rows) {
      const { chain, ...outcome } = simulate(set, call);
      t.same(outcome, expected, `${what} (chain ${chain})`);
    }
  });
}

check(
  'several of one host: the oldest that has a rule for the call; none has: the service',
  [
    vs(
      'old',
      { hosts: ['reviews'], http: [{ match: [{ port: 81, sourceLabels: { app: 'web' } }], ...answer(201) }] },
      1,
    ),
    vs('new', { hosts: ['reviews'], http: [{ match: [{ sourceNamespace: 'shop' }], ...answer(202) }] }, 2),
    vs('wild', { hosts: ['*.default.svc.cluster.local'], http: [answer(203)] }, 0),
  ],
  [
    ['the oldest', http('reviews', { port: 81 }), { answer: 201 }],
    ['it has no rule for this port, the next none for this source', http('reviews'), to(REVIEWS)],
    ['the next has one for that source', http('reviews.default', { listener: 15100 }), { answer: 202 }],
  ],
);

check(
  'hosts that no service defines',
  [
    vs('alone', { hosts: ['alone.up', '*.alone.up'], http: [answer(201)] }),
    vs('beside', { hosts: ['beside.up', 'reviews'], http: [{ match: [{ port: 81 }], ...answer(202) }] }),
    vs('within', { hosts: ['one.wild.example'], http: [answer(203)] }),
  ],
  [
    ['port 80', http('alone.up'), { answer: 201 }],
    ['a wildcard', http('x.alone.up'), { answer: 201 }],
    ['where a service of the same object is', http('beside.up', { port: 81 }), { answer: 202 }],
    ['within a wildcard service', http('one.wild.example', { address: '93.184.1.1', port: 8080 }), { answer: 203 }],
    [
      'another of the wildcard’s',
      http('two.wild.example', { address: '93.184.1.1', port: 8080 }),
      to('outbound_.8080_._.*.wild.example'),
    ],
  ],
);

check(
  'tcp and tls: the service’s addresses only, the first rule first, TLS ports by SNI',
  [
    vs('db', {
      hosts: ['db'],
      tcp: [
        {
          match: [{ destinationSubnets: ['240.240.0.0/24', '0.0.0.0/0'] }],
          route: [{ destination: { host: 'reviews', port: { number: 80 } } }],
        },
        { match: [{ destinationSubnets: ['240.240.0.2'] }], route: [{ destination: { host: 'nowhere' } }] },
      ],
    }),
    vs('wild', {
      hosts: ['one.wild.example'],
      tls: [
        {
          match: [{ sniHosts: ['One.wild.example'] }],
          route: [{ destination: { host: 'db', port: { number: 5432 } } }],
        },
      ],
    }),
  ],
  [
    ['the wider of two subnets was first', bytes('240.240.0.2', 5432), to(REVIEWS)],
    ['the other family', bytes('fd6d:6573:6800::2', 5432), to(DB)],
    ['nobody else’s address', bytes('10.3.3.3', 5432), to('PassthroughCluster')],
    ['a TLS port knows no tcp rules', bytes('240.240.0.2', 8443), to('outbound_.8443_._.db.default.svc.cluster.local')],
    ['a host within a wildcard service', bytes('93.184.1.1', 443, 'one.wild.example'), to(DB)],
    ['another of it', bytes('93.184.1.1', 443, 'two.wild.example'), to('outbound_.443_._.*.wild.example')],
  ],
);

// biome-ignore lint/suspicious/noExplicitAny: the bodies are Envoy's
type Body = any;

/** The route that Envoy gets for one rule of reviews. */
function routeOf(rule: object, more: readonly MeshObject[] = []): Body {
  const set = translate(
    meshView({ objects: [...MESH, vs('r', { hosts: ['reviews'], http: [rule] }), ...more], hosts: HOSTS, vips: VIPS }),
  );
  const config = set.resources.route.get('outbound_.80_.default')?.body as Body;
  return config.virtual_hosts.find((host: Body) => host.name.startsWith('reviews')).routes[0];
}

test('retries', async (t) => {
  const retries = (spec: object | undefined, host = 'reviews', more: readonly MeshObject[] = []) =>
    routeOf(
      { route: [{ destination: { host, port: { number: 80 } } }], ...(spec === undefined ? {} : { retries: spec }) },
      more,
    ).route.retry_policy;
  const avoids = {
    retry_host_predicate: [{ name: 'envoy.retry_host_predicates.previous_hosts' }],
    host_selection_retry_max_attempts: 5,
  };
  t.match(retries(undefined), {
    num_retries: 2,
    retry_on: 'connect-failure,refused-stream,unavailable,cancelled',
    ...avoids,
  });
  t.equal(retries({ attempts: 0 }), undefined);
  t.equal(retries({}), undefined);
  t.match(retries({ attempts: 4 }), { num_retries: 4, retry_on: /^connect-failure/ });
  t.match(retries({ attempts: 1, retryOn: '503,5xx,404' }), {
    retry_on: '5xx,retriable-status-codes',
    retriable_status_codes: [503, 404],
  });
  t.match(retries({ attempts: 1, retryOn: 'retriable-status-codes,503' }), {
    retry_on: 'retriable-status-codes',
    retriable_status_codes: [503],
  });
  t.match(retries({ attempts: 1, backoff: '10ms' }), { retry_back_off: { base_interval: '0.01s' } });
  t.notOk('retry_host_predicate' in retries({ attempts: 1, retryIgnorePreviousHosts: false }));
  t.notOk('retry_host_predicate' in retries(undefined, 'db'), 'a hashed request stays with its server');
  t.match(retries({ attempts: 1, retryIgnorePreviousHosts: true }, 'db'), avoids);
  const mesh = object('MeshConfig', 'default', { defaultHttpRetryPolicy: { attempts: 7, retryOn: 'reset' } });
  t.match(retries(undefined, 'reviews', [mesh]), { num_retries: 7, retry_on: 'reset' }, 'the mesh’s own');
  t.match(retries({ attempts: 1 }, 'reviews', [mesh]), { num_retries: 1 });
});

test('names, sources and statistics of a route', async (t) => {
  const route = [{ destination: { host: 'reviews' } }];
  t.equal(routeOf({ name: 'n', match: [{ name: 'm', uri: { prefix: '/a' } }], route }).name, 'n.m');
  t.equal(routeOf({ match: [{ name: 'm', uri: { prefix: '/a' } }], route }).name, '.m');
  t.notOk('name' in routeOf({ route }));
  const one = routeOf({ match: [{ headers: { a: {} }, statPrefix: 's' }], route });
  t.equal(one.stat_prefix, 's');
  t.same(one.metadata.filter_metadata.hostmesh, { origin: 'VirtualService/default/r', path: 'spec.http[0].match[0]' });
});

test('a copy goes under its caller’s own identity', async (t) => {
  const rule = { route: [{ destination: { host: 'reviews' } }], mirror: { host: 'db', port: { number: 5432 } } };
  const set = translate(
    meshView({ objects: [...MESH, vs('r', { hosts: ['reviews'], http: [rule] })], hosts: HOSTS, vips: VIPS }),
  );
  const copies = [...set.resources.cluster.values()].filter(({ name }) => name.includes('~mirror@'));
  t.same(
    copies.map(({ name }) => name.split('~mirror@')[1]),
    ['spiffe://mesh.test/ns/default/sa/web', 'spiffe://mesh.test/ns/shop/sa/till'],
  );
  for (const { name, body } of copies) {
    t.match(JSON.stringify(body), new RegExp(`"default_value":"${name.split('~mirror@')[1]}"`));
    t.ok(set.resources.endpoint.has(name));
  }
  const plain = [...set.resources.cluster.values()].filter(({ name }) => !name.includes('~mirror@'));
  t.notMatch(JSON.stringify(plain), /"default_value":"spiffe/, 'no other cluster has an identity of its own');
});

test('rules of an object with many hosts that no service defines stand once', async (t) => {
  const hosts = Array.from({ length: 500 }, (_, i) => `h${i}.up`);
  const set = translate(
    meshView({
      objects: [
        ...MESH,
        vs('a', { hosts, http: [answer(201)] }, 1),
        vs('b', { hosts: ['h1.up', 'other.up'], http: [answer(202)] }, 2),
      ],
      hosts: HOSTS,
      vips: VIPS,
    }),
  );
  const config = set.resources.route.get('outbound_.80_.default')?.body as Body;
  const own = config.virtual_hosts.filter((host: Body) => host.domains.some((name: string) => name.endsWith('.up')));
  t.same(
    own.map((host: Body) => host.domains.length),
    [500, 1],
    'a host that an older object has is not the younger one’s',
  );
  t.equal(new Set(config.virtual_hosts.map((host: Body) => host.name)).size, config.virtual_hosts.length);
});
