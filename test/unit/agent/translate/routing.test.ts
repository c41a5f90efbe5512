// Where calls go: the generated config asked by a simulator of Envoy's rules.
import { test } from 'tap';
import { translate } from '../../../../agent/translate/translate.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { group, meshView, object, service, type TestHost } from '../mesh-view/build-mesh.ts';
import { type Call, type Outcome, simulate } from './simulate.ts';

const VIPS = {
  'reviews.default.svc.cluster.local': { v4: '240.240.0.1', v6: 'fd6d:6573:6800::1' },
  'db.default.svc.cluster.local': { v4: '240.240.0.2', v6: 'fd6d:6573:6800::2' },
  'cart.shop.svc.cluster.local': { v4: '240.240.0.3', v6: 'fd6d:6573:6800::3' },
  'odd.default.svc.cluster.local': { v4: '240.240.0.4', v6: 'fd6d:6573:6800::4' },
  'tls.example': { v4: '240.240.0.5', v6: 'fd6d:6573:6800::5' },
};

const HOSTS: readonly TestHost[] = [{ id: 'a', addresses: ['10.0.0.1'], groups: ['default/web', 'shop/till'] }];

const MESH: readonly MeshObject[] = [
  group('web', {}),
  group('till', {}, { namespace: 'shop' }),
  group('reviews', { http: 9080 }),
  group('db', { tcp: 5432 }),
  service('reviews', [
    { name: 'http', port: 80 },
    { name: 'grpc', port: 81 },
  ]),
  service('db', [
    { name: 'tcp', port: 80 },
    { name: 'tcp-b', port: 5432 },
  ]),
  service('cart', [{ name: 'http', port: 80 }], { namespace: 'shop' }),
  service('odd', [{ name: 'x', port: 80 }]),
  object('ServiceEntry', 'tls', {
    hosts: ['tls.example'],
    ports: [{ number: 443, name: 'tls', protocol: 'TLS' }],
    resolution: 'DNS',
  }),
  object('ServiceEntry', 'wild', {
    hosts: ['*.wild.example'],
    ports: [
      { number: 443, name: 'tls', protocol: 'TLS' },
      { number: 8080, name: 'http', protocol: 'HTTP' },
    ],
  }),
  object('ServiceEntry', 'written', {
    hosts: ['written.example'],
    addresses: ['10.50.0.0/16'],
    ports: [{ number: 80, name: 'http', protocol: 'HTTP' }],
    resolution: 'STATIC',
    endpoints: [{ address: '10.50.1.1' }],
  }),
];

const reviews = (port = 80, subset = '') => `outbound_.${port}_.${subset}_.reviews.default.svc.cluster.local`;
const only = (cluster: string): Partial<Outcome> => ({ clusters: { [cluster]: 100 } });
const http = (host: string, more: Partial<Call> & { path?: string; headers?: Record<string, string> } = {}): Call => ({
  listener: 15001,
  address: '240.240.0.1',
  port: 80,
  ...more,
  http: {
    host,
    ...(more.path === undefined ? {} : { path: more.path }),
    ...(more.headers === undefined ? {} : { headers: more.headers }),
  },
});
const bytes = (address: string, port: number, more: Partial<Call> = {}): Call => ({
  listener: 15001,
  address,
  port,
  ...more,
});

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
  'names and addresses of services, each in the caller’s namespace',
  [],
  [
    ['short', http('reviews'), only(reviews())],
    ['with port', http('reviews:80'), only(reviews())],
    ['in its namespace', http('reviews.default'), only(reviews())],
    ['whole', http('reviews.default.svc.cluster.local'), only(reviews())],
    ['VIP', http('240.240.0.1'), only(reviews())],
    ['IPv6 VIP', http('[fd6d:6573:6800::1]', { address: 'fd6d:6573:6800::1' }), only(reviews())],
    ['an unknown name at a virtual address is whose address it is', http('nobody.example'), only(reviews())],
    ['another namespace’s short name is not ours, but at its address', http('cart'), only(reviews())],
    ['an unknown name at an address that is nobody’s', http('x', { address: '240.240.9.9' }), only('BlackHoleCluster')],
    [
      'its full name is',
      http('cart.shop', { address: '240.240.0.3' }),
      only('outbound_.80_._.cart.shop.svc.cluster.local'),
    ],
    [
      'from that namespace',
      http('cart', { address: '240.240.0.3', listener: 15100 }),
      only('outbound_.80_._.cart.shop.svc.cluster.local'),
    ],
    ['another port', http('reviews:81', { port: 81 }), only(reviews(81))],
    [
      'by Host alone, to an address that is nobody’s',
      http('reviews', { address: '10.9.9.9' }),
      only('PassthroughCluster'),
    ],
    ['a written range', http('written.example', { address: '10.50.3.3' }), only('outbound_.80_._.written.example')],
  ],
);

check(
  'bytes, undeclared protocols and TLS',
  [],
  [
    [
      'bytes on a port that others use for HTTP',
      bytes('240.240.0.2', 80),
      only('outbound_.80_._.db.default.svc.cluster.local'),
    ],
    ['IPv6', bytes('fd6d:6573:6800::2', 5432), only('outbound_.5432_._.db.default.svc.cluster.local')],
    [
      'undeclared, HTTP',
      http('odd', { address: '240.240.0.4' }),
      only('outbound_.80_._.odd.default.svc.cluster.local'),
    ],
    ['undeclared, bytes', bytes('240.240.0.4', 80), only('outbound_.80_._.odd.default.svc.cluster.local')],
    ['TLS', bytes('240.240.0.5', 443, { sni: 'tls.example' }), only('outbound_.443_._.tls.example')],
    [
      'a wildcard host, by SNI, wherever it goes',
      bytes('93.184.1.1', 443, { sni: 'a.wild.example' }),
      only('outbound_.443_._.*.wild.example'),
    ],
    ['another name there', bytes('93.184.1.1', 443, { sni: 'b.example' }), only('PassthroughCluster')],
    [
      'a wildcard host by HTTP',
      http('a.wild.example', { address: '93.184.1.1', port: 8080 }),
      only('outbound_.8080_._.*.wild.example'),
    ],
    ['unknown', bytes('10.9.9.9', 9999), only('PassthroughCluster')],
    ['the listener’s own port', bytes('127.0.0.1', 15001), only('BlackHoleCluster')],
  ],
);

const V1V2 = object('DestinationRule', 'r', {
  host: 'reviews',
  subsets: [
    { name: 'v1', labels: { v: '1' } },
    { name: 'v2', labels: { v: '2' } },
  ],
});
const vs = (spec: object, name = 'r'): MeshObject => object('VirtualService', name, { hosts: ['reviews'], ...spec });

check(
  'VirtualService: weights, matches in order, ports, sources',
  [
    V1V2,
    vs({
      http: [
        { match: [{ sourceLabels: { app: 'till' } }], directResponse: { status: 410 } },
        { match: [{ port: 81 }], route: [{ destination: { host: 'reviews', subset: 'v2' } }] },
        {
          match: [{ uri: { prefix: '/a' }, headers: { u: { exact: 'x' } } }, { uri: { exact: '/b' } }],
          route: [{ destination: { host: 'reviews', subset: 'v2' } }],
        },
        { match: [{ uri: { prefix: '/db' } }], route: [{ destination: { host: 'db', port: { number: 5432 } } }] },
        { match: [{ uri: { prefix: '/gone' } }], redirect: { uri: '/new' } },
        {
          route: [
            { destination: { host: 'reviews', subset: 'v1' }, weight: 80 },
            { destination: { host: 'reviews', subset: 'v2' }, weight: 20 },
          ],
        },
      ],
    }),
  ],
  [
    ['split', http('reviews'), { clusters: { [reviews(80, 'v1')]: 80, [reviews(80, 'v2')]: 20 } }],
    [
      'a match of two parts, one missing',
      http('reviews', { path: '/a' }),
      { clusters: { [reviews(80, 'v1')]: 80, [reviews(80, 'v2')]: 20 } },
    ],
    ['both', http('reviews', { path: '/ab', headers: { u: 'x' } }), only(reviews(80, 'v2'))],
    ['the second match', http('reviews', { path: '/b' }), only(reviews(80, 'v2'))],
    [
      'another service and port',
      http('reviews', { path: '/db/1' }),
      only('outbound_.5432_._.db.default.svc.cluster.local'),
    ],
    ['redirect', http('reviews', { path: '/gone' }), { redirect: '/new' }],
    ['port', http('reviews', { port: 81 }), only(reviews(81, 'v2'))],
    ['source', http('reviews.default', { listener: 15100 }), { answer: 410 }],
  ],
);

check(
  'VirtualService: nothing matches; unknown hosts and subsets; hosts of no service',
  [
    vs({ http: [{ match: [{ uri: { prefix: '/only' } }], route: [{ destination: { host: 'nowhere' } }] }] }),
    object('VirtualService', 'made-up', {
      hosts: ['made.up'],
      http: [{ route: [{ destination: { host: 'reviews', subset: 'none' } }] }],
    }),
  ],
  [
    ['no route', http('reviews'), { answer: 404 }],
    [
      'an unknown service: a cluster that does not exist',
      http('reviews', { path: '/only' }),
      only('outbound_.80_._.nowhere.default.svc.cluster.local'),
    ],
    ['a host of no service, at port 80', http('made.up'), only(reviews(80, 'none'))],
  ],
);

check(
  'tcp and tls rules',
  [
    object('VirtualService', 'db', {
      hosts: ['db'],
      tcp: [
        {
          match: [{ port: 80, destinationSubnets: ['240.240.0.2/32'] }],
          route: [{ destination: { host: 'reviews', port: { number: 80 } } }],
        },
        {
          match: [{ port: 5432 }],
          route: [
            { destination: { host: 'db', port: { number: 80 } }, weight: 1 },
            { destination: { host: 'odd' }, weight: 3 },
          ],
        },
      ],
    }),
    object('VirtualService', 'tls', {
      hosts: ['tls.example'],
      tls: [
        {
          match: [{ port: 443, sniHosts: ['inner.tls.example'] }],
          route: [{ destination: { host: 'db', port: { number: 5432 } } }],
        },
      ],
    }),
  ],
  [
    ['by subnet', bytes('240.240.0.2', 80), only(reviews())],
    [
      'weights',
      bytes('240.240.0.2', 5432),
      {
        clusters: {
          'outbound_.80_._.db.default.svc.cluster.local': 1,
          'outbound_.80_._.odd.default.svc.cluster.local': 3,
        },
      },
    ],
    [
      'by SNI',
      bytes('240.240.0.5', 443, { sni: 'inner.tls.example' }),
      only('outbound_.5432_._.db.default.svc.cluster.local'),
    ],
    ['another SNI', bytes('240.240.0.5', 443, { sni: 'tls.example' }), only('outbound_.443_._.tls.example')],
  ],
);

check(
  'REGISTRY_ONLY',
  [object('MeshConfig', 'default', { outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } })],
  [
    ['unknown bytes', bytes('10.9.9.9', 9999), only('BlackHoleCluster')],
    ['unknown HTTP on a port that is known', http('who', { address: '10.9.9.9', port: 8080 }), { answer: 502 }],
    ['known', http('reviews'), only(reviews())],
  ],
);
