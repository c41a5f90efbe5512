import { test } from 'tap';
import { dnsHosts } from '../../../../agent/mesh-view/dns-hosts.ts';
import { clientView } from '../../../../agent/mesh-view/lookup.ts';
import { buildMeshView } from '../../../../agent/mesh-view/mesh-view.ts';
import type { MeshView, ServiceView } from '../../../../agent/mesh-view/view.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { group, meshInput, meshView, object, service, type TestHost } from './build-mesh.ts';

const REVIEWS = [
  group('web', { http: 8080 }),
  group('reviews', { http: 9080 }, { labels: { version: 'v1' }, locality: 'eu/a' }),
  service('reviews', [{ name: 'http', port: 80, targetPort: 'http' }]),
];
const HOST = 'reviews.default.svc.cluster.local';
const A: TestHost = { id: 'a', addresses: ['10.0.0.1'], groups: ['default/web'] };
const B: TestHost = { id: 'b', addresses: ['fd00::2', '10.0.0.2'], groups: ['default/reviews'] };

function find(view: MeshView, host = HOST): ServiceView {
  const found = view.services.find((each) => each.host === host);
  if (found === undefined) throw new Error(`no service ${host}`);
  return found;
}

const ids = (view: MeshView, host = HOST) => find(view, host).endpoints.map((endpoint) => endpoint.id);

test('a Service has the WorkloadGroups that its selector selects, on the hosts that serve them', async (t) => {
  const reviews = find(meshView({ objects: REVIEWS, hosts: [A, B] }));
  t.match(reviews, {
    addresses: ['240.240.0.1', 'fd6d:6573:6800::1'],
    ports: [{ number: 80, name: 'http', protocol: 'HTTP', transport: 'mtls' }],
    identities: ['spiffe://mesh.test/ns/default/sa/reviews'],
    endpoints: [
      {
        id: 'b/default/reviews',
        addresses: ['10.0.0.2', 'fd00::2'],
        ports: { 80: { port: 9080, mtls: true } },
        labels: { app: 'reviews', version: 'v1' },
        locality: 'eu/a',
        weight: 1,
        health: 'healthy',
      },
    ],
  });
});

test('who serves, and who does not', async (t) => {
  const cases: readonly (readonly [string, Partial<TestHost>, readonly string[], readonly string[]])[] = [
    ['alive', {}, [], ['b/default/reviews']],
    ['suspect', { liveness: 'suspect' }, [], ['b/default/reviews']],
    ['dead', { liveness: 'dead' }, [], []],
    ['left', { liveness: 'left' }, [], []],
    ['revoked', {}, ['b'], []],
    ['not granted', { grant: [] }, [], []],
    ['an address that was not proved', { provenAddresses: [] }, [], []],
    ['unhealthy: kept, marked', { health: 'unhealthy' }, [], ['b/default/reviews']],
  ];
  for (const [name, change, revoked, expected] of cases) {
    const view = meshView({ objects: REVIEWS, hosts: [A, { ...B, ...change }], revoked });
    t.same(ids(view), expected, name);
    t.equal(find(view).ports[0]?.transport, 'mtls', `${name}: the cluster stays as it is`);
  }
  t.equal(
    find(meshView({ objects: REVIEWS, hosts: [A, { ...B, health: 'draining' }] })).endpoints[0]?.health,
    'draining',
  );
});

test('a WorkloadEntry stands by itself in plaintext; on a live host’s address it is that host’s endpoint', async (t) => {
  const entry = (address: string, spec: object = {}) =>
    object('WorkloadEntry', 'r', { address, labels: { app: 'reviews' }, ports: { http: 9080 }, ...spec });
  const own = meshView({ objects: [...REVIEWS, entry('10.0.0.9', { serviceAccount: 'other' })], hosts: [A, B] });
  t.same(ids(own), ['WorkloadEntry/default/r', 'b/default/reviews']);
  t.equal(find(own).endpoints[0]?.ports[80]?.mtls, false);
  t.equal(find(own).ports[0]?.transport, 'mixed');
  const covered = entry('10.0.0.2', { serviceAccount: 'reviews', weight: 4 });
  const same = meshView({ objects: [...REVIEWS, covered], hosts: [A, B] });
  t.same(ids(same), ['WorkloadEntry/default/r'], 'one endpoint, not two');
  t.match(find(same).endpoints[0], { weight: 4, ports: { 80: { mtls: true } } });
  const dead = meshView({ objects: [...REVIEWS, covered], hosts: [A, { ...B, liveness: 'dead' }] });
  t.same(ids(dead), [], 'the host’s death is the entry’s');
  const labelled = entry('10.0.0.9', { labels: { app: 'reviews', 'security.istio.io/tlsMode': 'istio' } });
  t.equal(find(meshView({ objects: [REVIEWS[2] as MeshObject, labelled], hosts: [A] })).ports[0]?.transport, 'mtls');
});

test('target ports: by name, by number, by the workload’s own name of the port', async (t) => {
  const cases: readonly (readonly [object, number | undefined])[] = [
    [{ name: 'http', port: 80, targetPort: 'admin' }, 9090],
    [{ name: 'http', port: 80, targetPort: 'nothing' }, undefined],
    [{ name: 'http', port: 80, targetPort: 7000 }, 9080],
    [{ name: 'x', port: 80, targetPort: 7000 }, 7000],
    [{ name: 'x', port: 80 }, 80],
  ];
  for (const [port, expected] of cases) {
    const objects = [
      group('reviews', { http: 9080, admin: 9090 }),
      object('Service', 'reviews', { selector: { app: 'reviews' }, ports: [port] }),
    ];
    t.equal(find(meshView({ objects, hosts: [B] })).endpoints[0]?.ports[80]?.port, expected, JSON.stringify(port));
  }
});

test('ServiceEntry: hosts, addresses, resolution, endpoints', async (t) => {
  const entry = (spec: object) => [
    object('ServiceEntry', 'e', {
      hosts: ['x.example'],
      ports: [{ number: 443, name: 'tls', protocol: 'TLS' }],
      ...spec,
    }),
  ];
  const at = (spec: object) => find(meshView({ objects: entry(spec), hosts: [A] }), 'x.example');
  t.match(at({ resolution: 'DNS' }), {
    resolution: 'DNS',
    endpoints: [{ addresses: ['x.example'], ports: { 443: { port: 443, mtls: false } } }],
  });
  t.match(at({}), { resolution: 'NONE', endpoints: [] });
  t.match(at({ addresses: ['10.7.0.0/16'] }), { addresses: ['10.7.0.0/16'] });
  t.match(at({ resolution: 'STATIC', endpoints: [{ address: '10.1.1.1', ports: { tls: 8443 } }] }), {
    endpoints: [{ addresses: ['10.1.1.1'], ports: { 443: { port: 8443 } } }],
    ports: [{ protocol: 'TLS', transport: 'plain' }],
  });
});

test('PeerAuthentication: mesh, namespace, workload and port; the oldest of a level; UNSET inherits', async (t) => {
  const pa = (name: string, mode: string, meta: object = {}, more: object = {}) =>
    object('PeerAuthentication', name, { mtls: { mode }, ...more }, meta);
  const selector = { selector: { matchLabels: { app: 'reviews' } } };
  const cases: readonly (readonly [readonly MeshObject[], string])[] = [
    [[], 'PERMISSIVE'],
    [[pa('m', 'STRICT', { namespace: 'istio-system' })], 'STRICT'],
    [[pa('m', 'STRICT', { namespace: 'istio-system' }), pa('n', 'DISABLE')], 'DISABLE'],
    [[pa('n', 'DISABLE'), pa('w', 'STRICT', {}, selector)], 'STRICT'],
    [[pa('n', 'STRICT'), pa('w', 'UNSET', {}, selector)], 'STRICT'],
    [[pa('w', 'STRICT', {}, { ...selector, portLevelMtls: { '9080': { mode: 'DISABLE' } } })], 'DISABLE'],
    [[pa('new', 'DISABLE', { created: 9 }), pa('old', 'STRICT', { created: 1 })], 'STRICT'],
    [[pa('else', 'STRICT', {}, { selector: { matchLabels: { app: 'web' } } })], 'PERMISSIVE'],
  ];
  for (const [policies, mode] of cases) {
    const view = meshView({ objects: [...REVIEWS, ...policies], hosts: [A, B], self: 'b' });
    t.equal(view.workloads[0]?.inboundPorts[0]?.mode, mode, policies.map((each) => each.metadata.name).join());
    t.equal(find(view).endpoints[0]?.ports[80]?.mtls, mode !== 'DISABLE', 'callers know');
  }
});

test('DestinationRules: the client’s namespace, the service’s, the root; exportTo; merged subsets', async (t) => {
  const rule = (name: string, namespace: string, host: string, spec: object = {}, created = 0) =>
    object('DestinationRule', name, { host, ...spec }, { namespace, created });
  const from = (namespace: string, rules: readonly MeshObject[]) => {
    const view = meshView({ objects: [...REVIEWS, ...rules], hosts: [A, B] });
    return clientView(view, namespace).destinationRule(find(view));
  };
  const all = [
    rule('own', 'shop', HOST),
    rule('service', 'default', 'reviews'),
    rule('root', 'istio-system', '*.svc.cluster.local'),
  ];
  t.equal(from('shop', all)?.namespace, 'shop');
  t.equal(from('other', all)?.namespace, 'default');
  t.equal(from('other', [all[2] as MeshObject])?.namespace, 'istio-system');
  t.equal(from('other', [rule('private', 'default', 'reviews', { exportTo: ['.'] })]), undefined);
  const merged = from('default', [
    rule('one', 'default', 'reviews', { subsets: [{ name: 'v1' }] }, 1),
    rule('two', 'default', 'reviews', { subsets: [{ name: 'v2' }], trafficPolicy: { tls: { mode: 'DISABLE' } } }, 2),
  ]);
  t.same(
    merged?.subsets.map((subset) => subset.name),
    ['v1', 'v2'],
  );
  t.equal(merged?.trafficPolicy?.tls?.mode, 'DISABLE');
  t.equal(
    from('default', [
      rule('wild', 'default', '*.default.svc.cluster.local', {}, 1),
      rule('exact', 'default', 'reviews', { subsets: [{ name: 'x' }] }, 2),
    ])?.subsets.length,
    1,
    'the more specific host',
  );
});

test('a namespace’s own rule for a foreign service does not leak into other namespaces’ clusters', async (t) => {
  const view = meshView({
    objects: [
      ...REVIEWS,
      object(
        'DestinationRule',
        'mine',
        { host: HOST, trafficPolicy: { tls: { mode: 'DISABLE' } } },
        { namespace: 'shop' },
      ),
    ],
    hosts: [A, B],
  });
  t.equal(clientView(view, 'default').variant(find(view)), '');
  t.equal(clientView(view, 'shop').variant(find(view)), '~shop');
});

test('VirtualServices: short names in the rule’s namespace, the most specific host, the oldest, exportTo', async (t) => {
  const vs = (name: string, hosts: string[], meta: object = {}, more: object = {}) =>
    object('VirtualService', name, { hosts, ...more }, meta);
  const chosen = (objects: readonly MeshObject[], namespace = 'default') =>
    clientView(meshView({ objects: [...REVIEWS, ...objects], hosts: [A, B] }), namespace).virtualServicesFor(HOST)[0]
      ?.key;
  t.equal(chosen([vs('short', ['reviews'])]), 'VirtualService/default/short');
  t.equal(chosen([vs('elsewhere', ['reviews'], { namespace: 'shop' })]), undefined);
  t.equal(
    chosen([vs('wild', ['*.default.svc.cluster.local'], { created: 1 }), vs('exact', [HOST], { created: 2 })]),
    'VirtualService/default/exact',
  );
  t.equal(
    chosen([vs('young', [HOST], { created: 2 }), vs('old', [HOST], { created: 1 })]),
    'VirtualService/default/old',
  );
  t.equal(chosen([vs('private', [HOST], {}, { exportTo: ['.'] })], 'shop'), undefined);
  t.equal(chosen([vs('ingress', [HOST], {}, { gateways: ['gw'] })]), undefined);
});

test('inbound ports: the template’s and those that services reach, with protocol and mode', async (t) => {
  const objects = [...REVIEWS, service('more', [{ name: 'grpc', port: 81, targetPort: 7070 }], { app: 'reviews' })];
  const [reviews] = meshView({ objects, hosts: [A, B], self: 'b' }).workloads;
  t.match(reviews?.inboundPorts, [
    { number: 7070, protocol: 'HTTP2', mode: 'PERMISSIVE', service: { name: 'more' } },
    { number: 9080, protocol: 'HTTP', mode: 'PERMISSIVE', service: { name: 'reviews' } },
  ]);
});

test('a Service is exported as its annotation says, else as MeshConfig does', async (t) => {
  const seenFrom = (namespace: string, exportTo: string | undefined, byDefault?: readonly string[]) => {
    const annotations = exportTo === undefined ? undefined : { 'networking.istio.io/exportTo': exportTo };
    const services = REVIEWS.map((one) =>
      one.kind === 'Service' ? { ...one, metadata: { ...one.metadata, annotations } } : one,
    );
    const config = object('MeshConfig', 'mesh', { defaultServiceExportTo: byDefault }, { namespace: 'istio-system' });
    const objects = [...services, ...(byDefault === undefined ? [] : [config])];
    return dnsHosts(meshView({ objects, hosts: [A, B] }))(namespace).has(HOST);
  };
  for (const [namespace, exportTo, byDefault, seen] of [
    ['shop', undefined, undefined, true],
    ['shop', '.', undefined, false],
    ['default', '.', undefined, true],
    ['shop', 'other, shop', undefined, true],
    ['shop', 'other', undefined, false],
    ['shop', '~', undefined, false],
    ['shop', undefined, ['.'], false],
    ['shop', '*', ['.'], true],
    ['shop', ' , ', ['.'], false],
  ] as const)
    t.equal(seenFrom(namespace, exportTo, byDefault), seen, `${exportTo}, by default ${byDefault}, from ${namespace}`);
});

test('DNS: what each namespace sees, with VIPs; nothing for what has no address', async (t) => {
  const view = meshView({
    objects: [
      ...REVIEWS,
      object('ServiceEntry', 'p', {
        hosts: ['private.example'],
        ports: [{ number: 80, name: 'http' }],
        exportTo: ['.'],
        resolution: 'DNS',
      }),
      object('ServiceEntry', 'w', {
        hosts: ['*.wild.example'],
        ports: [{ number: 443, name: 'tls', protocol: 'TLS' }],
      }),
    ],
    hosts: [A, B],
  });
  const names = dnsHosts(view);
  t.same([...names('default').keys()].sort(), ['private.example', HOST]);
  t.same([...names('shop').keys()], [HOST]);
  t.match(names('shop').get(HOST), { v4: [/^240\.240\./], v6: [/^fd6d:/] });
});

test('same inputs, same view, whatever the order of objects and hosts; VIP ranges do not follow single VIPs', async (t) => {
  const objects = [...REVIEWS, object('MeshConfig', 'default', { outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } })];
  const one = meshInput({ objects, hosts: [A, B], revoked: ['z', 'y'] });
  const two = meshInput({ objects: [...objects].reverse(), hosts: [B, A], self: 'a', revoked: ['y', 'z'] });
  t.same(JSON.stringify(buildMeshView(one)), JSON.stringify(buildMeshView(two)));
  const view = buildMeshView(one);
  t.same(view.vipRanges, ['240.240.0.0/16', 'fd6d:6573:6800::/48']);
  t.same(view.revokedNames, ['y.hosts.mesh.test', 'z.hosts.mesh.test']);
  t.equal(view.mesh.outboundPolicy, 'REGISTRY_ONLY');
});

test('where the host is: agent.yaml, else the first of its WorkloadGroups that says', async (t) => {
  const objects = [...REVIEWS, group('other', {}, { locality: 'us' })];
  const at = (groups: string[], locality?: string) =>
    meshView({
      objects,
      hosts: [{ id: 'a', addresses: ['10.0.0.1'], groups }],
      ...(locality === undefined ? {} : { locality }),
    }).host.locality;
  t.equal(at(['default/web', 'default/reviews', 'default/other']), 'eu/a');
  t.equal(at(['default/web']), '');
  t.equal(at(['default/reviews'], 'ap/x'), 'ap/x');
});
