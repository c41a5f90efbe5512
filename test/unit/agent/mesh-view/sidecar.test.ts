// Sidecars: which one holds, what it imports, and what follows for names, clusters and ports.
import { test } from 'tap';
import { dnsHosts } from '../../../../agent/mesh-view/dns-hosts.ts';
import { clientView, throughListener } from '../../../../agent/mesh-view/lookup.ts';
import type { MeshView, WorkloadView } from '../../../../agent/mesh-view/view.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { group, meshView, object, service, type TestHost } from './build-mesh.ts';

const HOSTS: readonly TestHost[] = [{ id: 'a', addresses: ['10.0.0.1'], groups: ['shop/till'] }];
const HTTP = [{ name: 'http', port: 80 }];
const MESH: readonly MeshObject[] = [
  group('till', { http: 8080 }, { namespace: 'shop', labels: { tier: 'front' } }),
  service('cart', HTTP, { namespace: 'shop' }),
  service('reviews', HTTP, { namespace: 'books' }),
  service('ratings', HTTP, { namespace: 'books' }),
  object(
    'ServiceEntry',
    'api',
    { hosts: ['api.example.com'], resolution: 'DNS', ports: [{ number: 443, name: 'tls', protocol: 'TLS' }] },
    { namespace: 'books' },
  ),
  object(
    'ServiceEntry',
    'wild',
    { hosts: ['*.example.org'], ports: [{ number: 80, name: 'http', protocol: 'HTTP' }] },
    { namespace: 'shop' },
  ),
];

const sidecar = (spec: object, meta: { name?: string; namespace?: string; created?: number } = {}) =>
  object('Sidecar', meta.name ?? 'default', spec, { namespace: meta.namespace ?? 'shop', created: meta.created });
const egress = (...hosts: string[]) => ({ egress: [{ hosts }] });

function viewOf(...objects: readonly MeshObject[]): { readonly view: MeshView; readonly till: WorkloadView } {
  const view = meshView({ objects: [...MESH, ...objects], hosts: HOSTS });
  return { view, till: view.workloads[0] as WorkloadView };
}

const clientOf = ({ view, till }: ReturnType<typeof viewOf>) =>
  clientView(view, till.namespace, till.labels, till.egress, till.egressProxy?.host);
const short = (host: string) => host.replace('.svc.cluster.local', '');
const hostsOf = (list: readonly { readonly host: string }[]) => list.map(({ host }) => short(host)).sort();

test('what egress hosts import', async (t) => {
  const all = ['*.example.org', 'api.example.com', 'cart.shop', 'ratings.books', 'reviews.books'];
  const rows: readonly [readonly string[], readonly string[]][] = [
    [['*/*'], all],
    [['./*'], ['*.example.org', 'cart.shop']],
    [['books/*'], ['api.example.com', 'ratings.books', 'reviews.books']],
    [['books/reviews.books.svc.cluster.local'], ['reviews.books']],
    [['*/*.example.com'], ['api.example.com']],
    [
      ['*/api.example.com', './*'],
      ['*.example.org', 'api.example.com', 'cart.shop'],
    ],
    [['*/*.books.svc.cluster.local'], ['ratings.books', 'reviews.books']],
    [['~/*'], []],
    [['shop/api.example.com'], []],
    [['*/foo.example.org'], []],
    [['*/*.org'], ['*.example.org']],
  ];
  for (const [hosts, expected] of rows) {
    const one = viewOf(sidecar(egress(...hosts)));
    t.same(hostsOf(clientOf(one).services), expected, hosts.join());
    const names = [...dnsHosts(one.view)('shop').keys()].map(short).sort();
    t.same(
      names,
      expected.filter((host) => host !== '*.example.org'),
      `DNS: ${hosts.join()}`,
    );
  }
  t.same(hostsOf(clientOf(viewOf(sidecar({ ingress: [{ port: { number: 1 } }] }))).services), all, 'no egress: all');
});

test('which Sidecar holds: the workload’s, its namespace’s, the root namespace’s; the oldest of each; they do not add up', async (t) => {
  const rows: readonly [string, readonly MeshObject[], readonly string[]][] = [
    [
      'root',
      [sidecar(egress('books/*'), { namespace: 'istio-system' })],
      ['api.example.com', 'ratings.books', 'reviews.books'],
    ],
    [
      'root’s ./ is the workload’s namespace',
      [sidecar(egress('./cart.shop.svc.cluster.local'), { namespace: 'istio-system' })],
      ['cart.shop'],
    ],
    [
      'namespace before root',
      [sidecar(egress('~/*'), { namespace: 'istio-system' }), sidecar(egress('*/cart.shop.svc.cluster.local'))],
      ['cart.shop'],
    ],
    [
      'labels before namespace, though younger',
      [
        sidecar(egress('~/*')),
        sidecar(
          { workloadSelector: { labels: { tier: 'front' } }, ...egress('*/cart.shop.svc.cluster.local') },
          { name: 'till', created: 9 },
        ),
      ],
      ['cart.shop'],
    ],
    [
      'labels of others',
      [
        sidecar(egress('*/cart.shop.svc.cluster.local'), { name: 'z' }),
        sidecar({ workloadSelector: { labels: { tier: 'back' } }, ...egress('~/*') }, { name: 'other' }),
      ],
      ['cart.shop'],
    ],
    [
      'of two for the same labels the oldest',
      [
        sidecar({ workloadSelector: { labels: { app: 'till' } }, ...egress('~/*') }, { name: 'a', created: 5 }),
        sidecar(
          { workloadSelector: { labels: { tier: 'front' } }, ...egress('*/cart.shop.svc.cluster.local') },
          { name: 'b', created: 1 },
        ),
      ],
      ['cart.shop'],
    ],
    [
      'labels in the root namespace are for its own workloads',
      [
        sidecar({ workloadSelector: { labels: { tier: 'front' } }, ...egress('~/*') }, { namespace: 'istio-system' }),
        sidecar(egress('*/cart.shop.svc.cluster.local')),
      ],
      ['cart.shop'],
    ],
    [
      'without labels a selector is none',
      [sidecar({ workloadSelector: {}, ...egress('*/cart.shop.svc.cluster.local') })],
      ['cart.shop'],
    ],
    [
      'another namespace’s',
      [sidecar(egress('*/cart.shop.svc.cluster.local')), sidecar(egress('~/*'), { namespace: 'books' })],
      ['cart.shop'],
    ],
  ];
  for (const [what, objects, expected] of rows) t.same(hostsOf(clientOf(viewOf(...objects)).services), expected, what);
});

test('exportTo holds before any import', async (t) => {
  const hidden = object(
    'ServiceEntry',
    'hidden',
    { hosts: ['hidden.example'], exportTo: ['.'], ports: [{ number: 80, name: 'http' }] },
    { namespace: 'books' },
  );
  t.same(hostsOf(clientOf(viewOf(hidden, sidecar(egress('books/hidden.example')))).services), []);
});

test('what VirtualServices lead to has clusters and names, without being called by them', async (t) => {
  const rules = object(
    'VirtualService',
    'cart',
    {
      hosts: ['cart'],
      http: [
        {
          route: [{ destination: { host: 'reviews.books.svc.cluster.local' } }],
          mirror: { host: 'ratings.books.svc.cluster.local' },
        },
      ],
    },
    { namespace: 'shop' },
  );
  const one = viewOf(rules, sidecar(egress('./cart.shop.svc.cluster.local')));
  const client = clientOf(one);
  t.same(hostsOf(client.services), ['cart.shop']);
  t.same(hostsOf(client.destinations), ['cart.shop', 'ratings.books', 'reviews.books']);
  t.ok(client.service('reviews.books.svc.cluster.local'), 'the rule finds its destination');
  t.equal(client.virtualServicesFor('cart.shop.svc.cluster.local').length, 1);
  const other = clientOf(viewOf(rules, sidecar(egress('books/ratings.books.svc.cluster.local'))));
  t.same(hostsOf(other.destinations), ['ratings.books'], 'rules that are not imported lead nowhere');
});

test('listeners: each its own hosts, and its port', async (t) => {
  const one = viewOf(
    sidecar({
      egress: [
        { port: { number: 80, protocol: 'HTTP', name: 'http' }, hosts: ['books/reviews.books.svc.cluster.local'] },
        {
          port: { number: 9000, protocol: 'TCP', name: 'tcp' },
          bind: '127.0.0.1',
          captureMode: 'NONE',
          hosts: ['*/*'],
        },
        { hosts: ['./*', 'books/*'] },
      ],
    }),
  );
  t.match(one.till.egress, [
    { port: { number: 80, protocol: 'HTTP' }, captured: true, bind: undefined },
    { port: { number: 9000, protocol: 'TCP' }, captured: false, bind: '127.0.0.1' },
    { captured: true, port: undefined },
  ]);
  const client = clientOf(one);
  const through = (index: number) => throughListener(client, (one.till.egress ?? [])[index] as never);
  t.same(hostsOf(through(0).services), ['reviews.books']);
  t.same(hostsOf(through(1).services), [], 'nobody has port 9000');
  t.same(hostsOf(through(2).services), [
    '*.example.org',
    'api.example.com',
    'cart.shop',
    'ratings.books',
    'reviews.books',
  ]);
});

test('a host that two namespaces define: the one that is imported, under a name of its own', async (t) => {
  const twice = ['books', 'shop'].map((namespace) =>
    object('ServiceEntry', 'twice', { hosts: ['twice.example'], ports: [{ number: 80, name: 'http' }] }, { namespace }),
  );
  const plain = clientOf(viewOf(...twice));
  const chosen = clientOf(viewOf(...twice, sidecar(egress('books/twice.example'))));
  const of = (client: typeof plain) => client.service('twice.example');
  t.equal(of(plain)?.namespace, 'shop');
  t.equal(of(chosen)?.namespace, 'books');
  t.not(plain.variant(of(plain) as never), chosen.variant(of(chosen) as never));
});

test('outboundTrafficPolicy: the Sidecar’s, else the mesh’s; empty is REGISTRY_ONLY, as in Istio', async (t) => {
  const strict = object('MeshConfig', 'default', { outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } });
  const policy = (mode?: string) => sidecar({ outboundTrafficPolicy: mode === undefined ? {} : { mode } });
  const rows: readonly [string, readonly MeshObject[], string][] = [
    ['nobody says', [], 'ALLOW_ANY'],
    ['mesh', [strict], 'REGISTRY_ONLY'],
    ['Sidecar that says nothing', [strict, sidecar(egress('*/*'))], 'REGISTRY_ONLY'],
    ['Sidecar opens', [strict, policy('ALLOW_ANY')], 'ALLOW_ANY'],
    ['Sidecar closes', [policy('REGISTRY_ONLY')], 'REGISTRY_ONLY'],
    ['empty', [policy()], 'REGISTRY_ONLY'],
  ];
  for (const [what, objects, expected] of rows) t.equal(viewOf(...objects).till.outboundPolicy, expected, what);
  const proxy = {
    outboundTrafficPolicy: {
      mode: 'ALLOW_ANY',
      egressProxy: { host: 'reviews.books.svc.cluster.local', port: { number: 80 } },
    },
  };
  const one = viewOf(sidecar({ ...proxy, ...egress('./*') }));
  t.equal(one.till.egressProxy?.port?.number, 80);
  t.ok(
    hostsOf(clientOf(one).destinations).includes('reviews.books'),
    'the egress proxy has a cluster, imported or not',
  );
});

test('ingress: only the listeners that are written; pools by port, then for all', async (t) => {
  const pool = { tcp: { maxConnections: 1 } };
  const own = { tcp: { maxConnections: 2 } };
  const one = viewOf(
    service('till', [{ name: 'http', port: 80, targetPort: 8080 }], { namespace: 'shop' }),
    sidecar({
      inboundConnectionPool: pool,
      ingress: [
        { port: { number: 8080, protocol: 'GRPC', name: 'g' }, defaultEndpoint: '127.0.0.1:9090' },
        { port: { number: 7000, protocol: '', name: 'x' }, connectionPool: own, defaultEndpoint: '0.0.0.0:7001' },
        {
          port: { number: 7443, protocol: 'TLS', name: 't' },
          captureMode: 'NONE',
          bind: '10.0.0.1',
          defaultEndpoint: '[::1]:7444',
        },
      ],
    }),
  );
  t.match(one.till.inboundPorts, [
    { number: 7000, protocol: 'AUTO', pool: own, endpoint: { address: '0.0.0.0', port: 7001 } },
    { number: 7443, protocol: 'TLS', pool, bind: '10.0.0.1', endpoint: { address: '::1', port: 7444 } },
    {
      number: 8080,
      protocol: 'HTTP2',
      pool,
      endpoint: { address: '127.0.0.1', port: 9090 },
      service: { name: 'till' },
    },
  ]);
  t.same(one.till.applicationPorts, [7001, 7444, 9090]);
  const whole = viewOf(sidecar({ inboundConnectionPool: pool }));
  t.match(whole.till.inboundPorts, [{ number: 8080, pool }], 'without listeners the ports are the workload’s');
  t.same(whole.till.applicationPorts, [8080]);
});
