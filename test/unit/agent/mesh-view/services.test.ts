// What kinds of services come to in a view: addresses, protocols, endpoints, identities, names that DNS answers.
import { test } from 'tap';
import { dnsHosts } from '../../../../agent/mesh-view/dns-hosts.ts';
import { protocolOf } from '../../../../agent/mesh-view/protocols.ts';
import type { EndpointView, ServiceView } from '../../../../agent/mesh-view/view.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { group, meshView, object, type TestHost, type TestMesh } from './build-mesh.ts';

const HOSTS: readonly TestHost[] = [
  { id: 'a', addresses: ['10.0.0.1'], groups: ['default/web'] },
  { id: 'b', addresses: ['10.0.0.2', 'fd00::2'], groups: ['default/db'] },
  { id: 'c', addresses: ['10.0.0.3'], groups: ['default/db'], health: 'unhealthy' },
];
const BASE = [group('web', { http: 8080 }), group('db', { tcp: 5432, http: 9080 })];
const DB = 'db.default.svc.cluster.local';

function viewOf(objects: readonly MeshObject[], more: Partial<TestMesh> = {}) {
  return meshView({ objects: [...BASE, ...objects], hosts: HOSTS, ...more });
}
function serviceOf(host: string, objects: readonly MeshObject[], more: Partial<TestMesh> = {}): ServiceView {
  return viewOf(objects, more).services.find((one) => one.host === host) as ServiceView;
}
const svc = (name: string, spec: object, labels: Record<string, string> = {}) =>
  object('Service', name, { selector: { app: name }, ports: [{ name: 'tcp', port: 5432 }], ...spec }, { labels });
const entry = (host: string, spec: object) =>
  object('ServiceEntry', 'e', { hosts: [host], ports: [{ number: 80, name: 'http', protocol: 'HTTP' }], ...spec });
const brief = (endpoints: readonly EndpointView[]) =>
  endpoints.map((one) => `${one.addresses.join('|')} ${JSON.stringify(one.ports)} w${one.weight} ${one.health}`);

test('protocols by what is declared: appProtocol, then the name’s prefix, then well-known ports', async (t) => {
  for (const [declared, name, number, expected] of [
    ['kubernetes.io/h2c', 'http', 80, 'HTTP2'],
    ['kubernetes.io/ws', '', 80, 'HTTP'],
    ['kubernetes.io/wss', '', 80, 'TLS'],
    [undefined, 'kubernetes.io/ws', 80, 'AUTO'],
    ['grpc', 'tcp', 80, 'HTTP2'],
    ['GRPC-Web', '', 80, 'HTTP2'],
    ['http-alt', '', 80, 'HTTP'],
    ['', 'grpc-web-x', 80, 'HTTP2'],
    ['postgres', 'http', 80, 'AUTO'],
    ['postgres', 'http', 3306, 'TCP'],
    ['mysql', '', 80, 'TCP'],
    ['MONGO', '', 80, 'TCP'],
    ['redis', '', 80, 'TCP'],
    ['HTTPS', '', 80, 'TLS'],
    [undefined, 'http2-x', 80, 'HTTP2'],
    [undefined, 'https', 80, 'TLS'],
    [undefined, 'web', 80, 'AUTO'],
    [undefined, 'smtp', 25, 'TCP'],
    [undefined, undefined, 27017, 'TCP'],
  ] as const)
    t.equal(
      protocolOf({ ...(declared === undefined ? {} : { declared }), ...(name === undefined ? {} : { name }), number }),
      expected,
      `${declared} ${name} ${number}`,
    );
});

test('headless: no address of its own, DNS answers with what is ready, endpoints come as for any other', async (t) => {
  const view = viewOf([svc('db', { clusterIP: 'None' })]);
  const db = view.services.find((one) => one.host === DB) as ServiceView;
  t.match(db, { headless: true, addresses: [] });
  t.equal(db.endpoints.length, 2);
  t.strictSame(dnsHosts(view)('default').get(DB), { v4: ['10.0.0.2'], v6: ['fd00::2'] });
  const all = viewOf([svc('db', { clusterIP: 'None', publishNotReadyAddresses: true })]);
  t.strictSame(dnsHosts(all)('default').get(DB)?.v4, ['10.0.0.2', '10.0.0.3']);
  const none = viewOf([svc('db', { clusterIP: 'None' })], { hosts: HOSTS.slice(0, 1) });
  t.equal(dnsHosts(none)('default').get(DB), undefined);
});

test('families of a service’s address', async (t) => {
  const families = (spec: object) =>
    serviceOf(DB, [svc('db', spec)]).addresses.map((one) => (one.includes(':') ? 6 : 4));
  for (const [spec, expected] of [
    [{}, [4, 6]],
    [{ ipFamilies: ['IPv4'] }, [4]],
    [{ ipFamilies: ['IPv6'] }, [6]],
    [{ ipFamilies: ['IPv4', 'IPv6'] }, [4, 6]],
    [{ ipFamilyPolicy: 'SingleStack' }, [4]],
    [{ ipFamilyPolicy: 'SingleStack', ipFamilies: ['IPv6'] }, [6]],
    [{ ipFamilyPolicy: 'PreferDualStack', ipFamilies: ['IPv6'] }, [4, 6]],
    [{ ipFamilyPolicy: 'RequireDualStack' }, [4, 6]],
  ] as const)
    t.strictSame(families(spec), expected, JSON.stringify(spec));
});

test('internalTrafficPolicy Local: what this host serves', async (t) => {
  const ids = (self: string, policy: string) =>
    serviceOf(DB, [svc('db', { internalTrafficPolicy: policy })], { self }).endpoints.map(({ id }) => id);
  t.strictSame(ids('b', 'Local'), ['b/default/db']);
  t.strictSame(ids('a', 'Local'), []);
  t.equal(ids('a', 'Cluster').length, 2);
});

test('ExternalName: the mesh’s own service by its members, anything else by DNS', async (t) => {
  const alias = (name: string, externalName: string, port: object = { port: 5432 }) =>
    object('Service', name, { type: 'ExternalName', externalName, ports: [port] });
  const at = (name: string, objects: readonly MeshObject[]) => serviceOf(`${name}.default.svc.cluster.local`, objects);
  const objects = [svc('db', {}), alias('other', `${DB}.`), alias('second', 'other.default.svc.cluster.local')];
  for (const name of ['other', 'second']) {
    t.match(at(name, objects), {
      resolution: 'STATIC',
      external: false,
      identities: ['spiffe://mesh.test/ns/default/sa/db'],
    });
    t.strictSame(brief(at(name, objects).endpoints), brief(at('db', objects).endpoints), name);
    t.equal(at(name, objects).addresses.length, 2, 'an address of its own');
  }
  t.equal(at('other', objects).ports[0]?.protocol, 'TCP', 'the target’s protocol where it declares none');
  const moved = at('other', [svc('db', {}), alias('other', DB, { port: 1, targetPort: 5432 })]);
  t.match(moved.endpoints[0], { ports: { 1: { port: 5432 } } });
  t.strictSame(
    at('other', [svc('db', {}), alias('other', DB, { port: 99 })]).ports,
    [],
    'a port that the target lacks',
  );
  t.match(at('out', [alias('out', 'db.example.com')]), {
    resolution: 'DNS',
    external: true,
    endpoints: [{ addresses: ['db.example.com'] }],
  });
  const loop = [alias('x', 'y.default.svc.cluster.local'), alias('y', 'x.default.svc.cluster.local')];
  t.match(at('x', loop), { resolution: 'DNS' }, 'a loop ends');
});

test('ServiceEntry: selectors, names, ports', async (t) => {
  t.strictSame(
    brief(serviceOf('x.test', [entry('x.test', { resolution: 'STATIC', workloadSelector: {} })]).endpoints),
    [],
  );
  const named = object('WorkloadEntry', 'n', { address: 'db.example.com', labels: { app: 'named' } });
  const byLabel = (resolution: string) =>
    serviceOf('x.test', [named, entry('x.test', { resolution, workloadSelector: { labels: { app: 'named' } } })])
      .endpoints;
  t.strictSame(brief(byLabel('STATIC')), [], 'a name is no endpoint to load balance to');
  t.match(byLabel('DNS'), [{ addresses: ['db.example.com'] }]);
  for (const resolution of ['NONE', 'DYNAMIC_DNS']) {
    const found = serviceOf('x.test', [
      entry('x.test', { resolution, ports: [{ number: 80, name: 'http', protocol: 'HTTP', targetPort: 443 }] }),
    ]);
    t.match(found, { addresses: [], endpoints: [], ports: [{ number: 80, targetPort: 443, transport: 'plain' }] });
  }
  const equal = serviceOf('x.test', [entry('x.test', { ports: [{ number: 80, name: 'http', targetPort: 80 }] })]);
  t.equal(equal.ports[0]?.targetPort, undefined);
});

test('ServiceEntry: DNS answers a wildcard with its addresses, ranges and services without an address not at all', async (t) => {
  const answers = (host: string, spec: object) => dnsHosts(viewOf([entry(host, spec)]))('default').get(host);
  t.strictSame(answers('*.x.test', { addresses: ['10.9.0.1', '10.8.0.0/16'], resolution: 'STATIC' }), {
    v4: ['10.9.0.1'],
    v6: [],
  });
  t.equal(answers('*.x.test', { resolution: 'DYNAMIC_DNS' }), undefined);
  t.equal(answers('x.test', { resolution: 'NONE' }), undefined, 'an address of the mesh’s would hide the server’s own');
  t.match(answers('x.test', { resolution: 'DNS' }), { v4: [/^240\.240\./] });
});

test('who may answer: accounts that were named, and those that a ServiceEntry lists', async (t) => {
  const mtls = { 'security.istio.io/tlsMode': 'istio' };
  const identities = (spec: object) =>
    serviceOf('x.test', [entry('x.test', { location: 'MESH_INTERNAL', resolution: 'STATIC', ...spec })]).identities;
  const sa = (name: string) => `spiffe://mesh.test/ns/default/sa/${name}`;
  const plain = { address: '10.1.1.1', labels: mtls };
  const named = { address: '10.1.1.2', labels: mtls, serviceAccount: 'q' };
  t.strictSame(identities({ endpoints: [plain] }), [sa('default')]);
  t.strictSame(identities({ endpoints: [plain, named] }), [sa('default'), sa('q')]);
  t.strictSame(identities({ endpoints: [plain, named], subjectAltNames: [sa('z'), 'x.test'] }), [sa('q'), sa('z')]);
  t.strictSame(identities({ workloadSelector: { labels: { app: 'db' } }, subjectAltNames: [sa('z')] }), [
    sa('db'),
    sa('z'),
  ]);
});

test('several objects for one host: the oldest decides, ports and endpoints add up', async (t) => {
  const at = (name: string, created: number, spec: object) =>
    object('ServiceEntry', name, { hosts: ['x.test'], resolution: 'STATIC', ...spec }, { created });
  const found = serviceOf('x.test', [
    at('young', 2, {
      ports: [
        { number: 80, name: 'a', protocol: 'TCP' },
        { number: 81, name: 'b' },
      ],
      endpoints: [{ address: '10.1.1.2' }],
    }),
    at('old', 1, {
      ports: [{ number: 80, name: 'http', protocol: 'HTTP' }],
      endpoints: [{ address: '10.1.1.1' }, { address: '10.1.1.3' }],
    }),
    at('other', 3, { resolution: 'DNS', endpoints: [{ address: 'db.example.com' }] }),
  ]);
  t.strictSame(
    found.ports.map(({ number, protocol }) => [number, protocol]),
    [
      [80, 'HTTP'],
      [81, 'AUTO'],
    ],
  );
  t.strictSame(found.endpoints.map(({ addresses }) => addresses[0]).sort(), ['10.1.1.1', '10.1.1.2', '10.1.1.3']);
});

test('networks: those behind a gateway are their gateway, weight and labels kept; what speaks no mTLS is left out', async (t) => {
  const gateway = svc('gw', { ports: [{ name: 'tls', port: 15443 }] }, { 'topology.istio.io/network': 'away' });
  const gwEntry = (n: number) => object('WorkloadEntry', `gw${n}`, { address: `10.7.0.${n}`, labels: { app: 'gw' } });
  const mtls = { 'security.istio.io/tlsMode': 'istio' };
  const far = entry('x.test', {
    location: 'MESH_INTERNAL',
    resolution: 'STATIC',
    endpoints: [
      { address: '10.1.1.1', network: 'away', labels: { ...mtls, version: 'v1' }, weight: 4 },
      { address: '10.1.1.2', network: 'away', labels: { ...mtls, version: 'v1' }, weight: 2 },
      { network: 'away', labels: { ...mtls, version: 'v2' } },
      { address: '10.1.1.4', network: 'away' },
      { address: '10.1.1.5', network: 'here' },
      { address: '10.1.1.6' },
      { address: '10.1.1.7', network: 'elsewhere' },
    ],
  });
  const seen = (objects: readonly MeshObject[], network: string) =>
    brief(serviceOf('x.test', [far, ...objects], { network }).endpoints);
  const near = ['10.1.1.5', '10.1.1.6', '10.1.1.7'].map((one) => `${one} {"80":{"port":80,"mtls":false}} w1 healthy`);
  const at = (n: number, weight: number) => `10.7.0.${n} {"80":{"port":15443,"mtls":true}} w${weight} healthy`;
  t.strictSame(seen([gateway, gwEntry(1)], 'here').sort(), [...near, at(1, 1), at(1, 6)].sort());
  t.strictSame(
    seen([gateway, gwEntry(1), gwEntry(2)], 'here').filter((one) => one.includes('w3')).length,
    2,
    'split among gateways',
  );
  t.strictSame(seen([gateway], 'here').sort(), near, 'no gateway serves now: nobody is reached there');
  t.equal(seen([], 'here').length, 6, 'no gateway at all: reached directly, as in Istio');
  t.equal(seen([gateway, gwEntry(1)], 'away').length, 6, 'from inside: reached directly');
  const group = viewOf([svc('db', {}), gateway, gwEntry(1)], {
    network: 'here',
    hosts: [
      { ...(HOSTS[0] as TestHost) },
      { id: 'b', addresses: ['10.0.0.2'], provenAddresses: [], groups: ['default/db'] },
    ],
  });
  t.strictSame(
    group.services.find((one) => one.host === DB)?.endpoints,
    [],
    'of one’s own network only what answered a probe',
  );
});
