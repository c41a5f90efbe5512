// Where calls go under a Sidecar: the generated config asked by a simulator of Envoy's rules; what it must not change.
import { test } from 'tap';
import { translate } from '../../../../agent/translate/translate.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { group, meshView, object, service, type TestHost } from '../mesh-view/build-mesh.ts';
import { type Call, type Outcome, simulate } from './simulate.ts';

const HOSTS: readonly TestHost[] = [
  { id: 'a', addresses: ['10.0.0.1'], groups: ['shop/till', 'shop/clerk'] },
  { id: 'b', addresses: ['10.0.0.2'], groups: ['books/reviews'] },
];
const vip = (n: number) => ({ v4: `240.240.0.${n}`, v6: `fd6d:6573:6800::${n}` });
const VIPS = {
  'cart.shop.svc.cluster.local': vip(1),
  'reviews.books.svc.cluster.local': vip(2),
  'db.books.svc.cluster.local': vip(3),
};
const MESH: readonly MeshObject[] = [
  group('till', { http: 8080 }, { namespace: 'shop' }),
  group('clerk', {}, { namespace: 'shop' }),
  group('reviews', { http: 9080, tcp: 5432 }, { namespace: 'books' }),
  service('cart', [{ name: 'http', port: 80 }], { namespace: 'shop' }),
  service(
    'reviews',
    [
      { name: 'http', port: 80, targetPort: 9080 },
      { name: 'http-b', port: 81, targetPort: 9080 },
    ],
    { namespace: 'books' },
  ),
  service('db', [{ name: 'tcp', port: 5432 }], { namespace: 'books', app: 'reviews' }),
];
const CART = 'outbound_.80_._.cart.shop.svc.cluster.local';
const REVIEWS = 'outbound_.80_._.reviews.books.svc.cluster.local';
const DB = 'outbound_.5432_._.db.books.svc.cluster.local';

const sidecar = (spec: object) =>
  object('Sidecar', 'till', { workloadSelector: { labels: { app: 'till' } }, ...spec }, { namespace: 'shop' });
const set = (...objects: readonly MeshObject[]) =>
  translate(meshView({ objects: [...MESH, ...objects], hosts: HOSTS, vips: VIPS }));
const http = (host: string, n: number, more: Partial<Call> = {}): Call => ({
  listener: 15001,
  address: `240.240.0.${n}`,
  port: 80,
  ...more,
  http: { host },
});
const tcp = (n: number, port: number, more: Partial<Call> = {}): Call => ({
  listener: 15001,
  address: `240.240.0.${n}`,
  port,
  ...more,
});
const only = (cluster: string): Partial<Outcome> => ({ clusters: { [cluster]: 100 } });

test('imports, ports, policy', async (t) => {
  const proxied = { mode: 'ALLOW_ANY', egressProxy: { host: 'db.books.svc.cluster.local', port: { number: 5432 } } };
  const cart = { hosts: ['./cart.shop.svc.cluster.local'] };
  const rows: readonly [string, object, Call, Partial<Outcome>][] = [
    ['imported', { egress: [cart] }, http('cart', 1), only(CART)],
    [
      'not imported: its virtual address is nobody’s',
      { egress: [cart] },
      http('reviews.books', 2),
      only('BlackHoleCluster'),
    ],
    ['nor its name at another’s address', { egress: [cart] }, http('reviews.books', 1), only(CART)],
    ['nor by bytes', { egress: [cart] }, tcp(3, 5432), only('BlackHoleCluster')],
    ['its neighbour has no such Sidecar', { egress: [cart] }, tcp(3, 5432, { listener: 15100 }), only(DB)],
    ['outside, by default', { egress: [cart] }, tcp(0, 443, { address: '192.0.2.1' }), only('PassthroughCluster')],
    [
      'REGISTRY_ONLY',
      { egress: [cart], outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } },
      tcp(0, 443, { address: '192.0.2.1' }),
      only('BlackHoleCluster'),
    ],
    [
      'REGISTRY_ONLY: an unknown name',
      { outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } },
      http('x', 1),
      { answer: 502 },
    ],
    [
      'egressProxy',
      { egress: [cart], outboundTrafficPolicy: proxied },
      tcp(0, 443, { address: '192.0.2.1' }),
      only(DB),
    ],
    [
      'egressProxy, not for virtual addresses',
      { egress: [cart], outboundTrafficPolicy: proxied },
      tcp(2, 7),
      only('BlackHoleCluster'),
    ],
    [
      'a port of its own: its hosts',
      { egress: [{ port: { number: 80, protocol: 'HTTP' }, hosts: ['books/*'] }, { hosts: ['./*'] }] },
      http('reviews.books', 2),
      only(REVIEWS),
    ],
    [
      'and none of the catch-all’s',
      { egress: [{ port: { number: 80, protocol: 'HTTP' }, hosts: ['books/*'] }, { hosts: ['./*'] }] },
      http('cart', 2),
      only(REVIEWS),
    ],
    [
      'a protocol of its own: bytes',
      { egress: [{ port: { number: 80, protocol: 'TCP' }, hosts: ['books/reviews.books.svc.cluster.local'] }] },
      tcp(2, 80),
      only(REVIEWS),
    ],
    [
      'bound to an address that connections are made to',
      {
        egress: [{ port: { number: 80, protocol: 'HTTP' }, bind: '10.7.7.7', hosts: ['books/*'] }, { hosts: ['./*'] }],
      },
      http('reviews.books', 0, { address: '10.7.7.7' }),
      only(REVIEWS),
    ],
    [
      'which leaves the port at other addresses alone',
      {
        egress: [{ port: { number: 80, protocol: 'HTTP' }, bind: '10.7.7.7', hosts: ['books/*'] }, { hosts: ['./*'] }],
      },
      http('cart', 1),
      only(CART),
    ],
    [
      'a port without a catch-all: the rest is unknown',
      { egress: [{ port: { number: 80, protocol: 'HTTP' }, hosts: ['*/*'] }] },
      tcp(3, 5432),
      only('BlackHoleCluster'),
    ],
  ];
  for (const [what, spec, call, expected] of rows) {
    const { chain, ...outcome } = simulate(set(sidecar(spec)), call);
    t.same(outcome, expected, `${what} (chain ${chain})`);
  }
});

test('clusters are those of what is reached, on this host by anybody', async (t) => {
  const names = (...objects: readonly MeshObject[]) =>
    [...set(...objects).resources.cluster.keys()].filter((name) => name.startsWith('outbound'));
  t.equal(names().length, 4);
  const everyone = object('Sidecar', 'default', { egress: [{ hosts: ['./*'] }] }, { namespace: 'shop' });
  t.same(names(everyone), [CART]);
  t.same(
    names(everyone, sidecar({ egress: [{ hosts: ['books/db.books.svc.cluster.local'] }] })).sort(),
    [CART, DB].sort(),
  );
});

test('limits and places of ingress change clusters, and no listener', async (t) => {
  const of = (spec: object) => set(sidecar({ egress: [{ hosts: ['*/*'] }], ...spec })).resources;
  const port = { number: 8080, protocol: 'HTTP' };
  const before = of({});
  for (const spec of [
    { inboundConnectionPool: { tcp: { maxConnections: 3 } } },
    { ingress: [{ port, defaultEndpoint: '127.0.0.1:8081' }] },
    { ingress: [{ port, connectionPool: { http: { http2MaxRequests: 3 } } }] },
  ]) {
    const after = of(spec);
    t.same(after.listener.get('inbound')?.body, before.listener.get('inbound')?.body, JSON.stringify(spec));
    t.notSame(
      [...after.cluster.values()].map(({ body }) => body),
      [...before.cluster.values()].map(({ body }) => body),
    );
  }
});

test('the same Sidecar, the same bytes; two workloads alike share clusters', async (t) => {
  const everyone = object('Sidecar', 'default', { egress: [{ hosts: ['./*', 'books/*'] }] }, { namespace: 'shop' });
  const one = set(everyone);
  t.same([...one.resources.cluster], [...set(everyone).resources.cluster]);
  t.equal([...one.resources.cluster.keys()].filter((name) => name.includes('reviews')).length, 2, 'one a port');
});
