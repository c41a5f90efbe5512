// Gateways on real Envoys: a client outside the mesh, a gateway host, servers; and a workload that leaves by an egress gateway.
import t, { before, test } from 'tap';
import { translate } from '../../agent/translate/translate.ts';
import type { MeshObject } from '../../api/resources/object.ts';
import { caSdsName, credentialSdsName } from '../../api/resources/secret-data.ts';
import { createWorldCa } from '../builders/server-certificate.ts';
import { until } from '../fakes/until.ts';
import { group, meshView, object, service, type TestHost } from '../unit/agent/mesh-view/build-mesh.ts';
import { type Answer, type App, type Lab, secretBodies, startLab } from './translate-lab.ts';

t.setTimeout(580_000);

const EDGE = '10.66.0.1';
const EDGE6 = 'fd66::1';
const SERVERS = 4200;
const PORTS = { http: 9080, grpc: 9081, tcp: 5432, tls: 9443 };
const WEB = 4001;

const HOSTS: readonly TestHost[] = [
  { id: 'e', addresses: [EDGE, EDGE6], groups: [], gateways: ['istio-system/edge'] },
  { id: 'b', addresses: ['10.66.0.2', 'fd66::2'], groups: ['default/reviews', 'default/db'] },
  { id: 'c', addresses: ['10.66.0.3', 'fd66::3'], groups: ['default/web'] },
];
const SVIDS: Record<string, readonly (readonly [string, string])[]> = {
  e: [['istio-system', 'edge']],
  b: [
    ['default', 'reviews'],
    ['default', 'db'],
  ],
  c: [['default', 'web']],
};
const VIPS = Object.fromEntries(
  [
    'reviews.default.svc.cluster.local',
    'db.default.svc.cluster.local',
    'edge.istio-system.svc.cluster.local',
    'out.example',
  ].map((name, index) => [name, { v4: `240.240.0.${index + 1}`, v6: `fd6d:6573:6800::${index + 1}` }]),
);

const BASE: readonly MeshObject[] = [
  group('edge', {}, { namespace: 'istio-system', labels: { istio: 'ingressgateway' } }),
  group('web', {}),
  group('reviews', { http: PORTS.http, grpc: PORTS.grpc }, { labels: { version: 'v1' } }),
  group('db', { tcp: PORTS.tcp, tls: PORTS.tls }),
  service('reviews', [
    { name: 'http', port: 80, targetPort: PORTS.http },
    { name: 'http2', port: 81, targetPort: PORTS.grpc },
  ]),
  service('db', [
    { name: 'tcp', port: 5432 },
    { name: 'tls', port: 9443 },
  ]),
  service(
    'edge',
    [
      { name: 'http', port: 80, targetPort: 8080 },
      { name: 'tls', port: 9444 },
    ],
    { namespace: 'istio-system' },
  ),
];

const world = createWorldCa();
const clients = createWorldCa('clients');
const first = world.issue({ dnsNames: ['web.example', 'mutual.example', 'optional.example', 'bytes.example'] });
const second = world.issue({ dnsNames: ['second', 'web.example'] });
const passed = world.issue({ dnsNames: ['pass.example'] });
const client = clients.issue({ dnsNames: ['client.example'], uris: ['urn:client'] });
const stranger = createWorldCa('strangers').issue({ dnsNames: ['client.example'] });
const other = clients.issue({ dnsNames: ['other.example'] });

let lab: Lab;
let outside: App;

/** What the agent serves by SDS from a Secret of the gateway's namespace. */
function credentials(web: { certPem: string; keyPem: string }): Map<string, object> {
  const name = credentialSdsName('istio-system', 'web');
  const ca = caSdsName('istio-system', 'web');
  return new Map<string, object>([
    [
      name,
      {
        name,
        tls_certificate: {
          certificate_chain: { inline_string: web.certPem },
          private_key: { inline_string: web.keyPem },
        },
      },
    ],
    [ca, { name: ca, validation_context: { trusted_ca: { inline_string: clients.caPem } } }],
  ]);
}

const secrets = (host: string, web = first) =>
  new Map([...secretBodies(lab.ca, host, SVIDS[host] ?? []), ...(host === 'e' ? credentials(web) : [])]);

async function push(...objects: readonly MeshObject[]): Promise<void> {
  for (const self of ['e', 'b', 'c']) {
    const view = meshView({ objects: [...BASE, ...objects], hosts: HOSTS, vips: VIPS, self });
    t.same(view.gatewayProblems, []);
    await lab.host(self).push(translate(view));
    t.same(lab.host(self).ads?.refusals, [], 'Envoy took everything');
  }
}

const gateway = (...servers: object[]) => object('Gateway', 'gw', { selector: { istio: 'ingressgateway' }, servers });
const server = (number: number, protocol: string, hosts: string[], more: object = {}) => ({
  port: { number, name: `${protocol}-${number}-${hosts[0]?.replaceAll('*', 'all')}`, protocol },
  hosts,
  ...more,
});
const rules = (name: string, hosts: string[], more: object) =>
  object('VirtualService', name, { hosts, gateways: ['gw'], ...more });
const to = (host: string, number: number) => [{ destination: { host, port: { number } } }];

const http = (port: number, host: string, more: object = {}): Promise<Answer> =>
  outside.ask({
    do: 'http',
    address: EDGE,
    port,
    ...more,
    headers: { host, ...(more as { headers?: object }).headers },
  });
const https = (port: number, servername: string, more: object = {}): Promise<Answer> =>
  outside.ask({
    do: 'https',
    address: EDGE,
    port,
    servername,
    ca: world.caPem,
    headers: { host: servername },
    ...more,
  });

interface Served {
  readonly server: string;
  readonly version: string;
  readonly headers: Record<string, string>;
}
const served = (answer: Answer): Served => JSON.parse(answer.body ?? '{}');

before(async () => {
  lab = await startLab(
    [
      { id: 'e', envoy: true },
      { id: 'b', envoy: true, inbound: Object.values(PORTS) },
      { id: 'c', envoy: true, outbound: { [WEB]: 15001 } },
      { id: 'd', envoy: false },
    ],
    (ca, host) => new Map([...secretBodies(ca, host, SVIDS[host] ?? []), ...(host === 'e' ? credentials(first) : [])]),
  );
  outside = lab.host('d').app(4100);
  const reviews = lab.host('b').app(SERVERS);
  await reviews.ask({ do: 'serve', port: PORTS.http, name: 'reviews' });
  await reviews.ask({ do: 'serve-h2', port: PORTS.grpc, name: 'grpc' });
  await reviews.ask({ do: 'serve-tcp', port: PORTS.tcp, name: 'db' });
  await reviews.ask({ do: 'serve-tls', port: PORTS.tls, name: 'pass', cert: passed.certPem, key: passed.keyPem });
  await outside.ask({ do: 'serve', port: 8000, name: 'out' });
});

t.teardown(() => lab.close());

test('HTTP by host and path, mTLS to the service by the gateway’s identity; strangers’ headers stay outside', async (t) => {
  await push(
    gateway(server(80, 'HTTP', ['*.example.com', 'plain.example'])),
    rules('a', ['a.example.com'], {
      http: [
        { match: [{ uri: { prefix: '/moved' } }], redirect: { uri: '/', redirectCode: 302 } },
        { match: [{ uri: { prefix: '/never' }, gateways: ['mesh'] }], directResponse: { status: 418 } },
        { route: to('reviews', 80) },
      ],
    }),
    rules('b', ['plain.example'], { http: [{ match: [{ port: 80 }], route: to('reviews', 81) }] }),
  );
  for (const address of [EDGE, EDGE6]) {
    const answer = await http(8080, 'a.example.com:8080', { address, headers: { 'x-hostmesh-workload': 'forged' } });
    t.equal(answer.status, 200, `${address}: ${answer.error}`);
    t.equal(served(answer).server, 'reviews');
    t.match(
      served(answer).headers['x-forwarded-client-cert'],
      /URI=spiffe:\/\/mesh\.test\/ns\/istio-system\/sa\/edge$/,
    );
  }
  t.match(await http(8080, 'a.example.com', { path: '/moved' }), { status: 302 });
  t.match(
    await http(8080, 'a.example.com', { path: '/never' }),
    { status: 200 },
    'a match of the mesh’s is not the gateway’s',
  );
  t.equal((await http(8080, 'b.example.com')).status, 404, 'a host of the server without a route');
  t.equal((await http(8080, 'nobody.example')).status, 404);
  t.match(await outside.ask({ do: 'http2', address: EDGE, port: 8080, headers: { ':authority': 'plain.example' } }), {
    status: 200,
  });
  const forged = await http(8080, 'a.example.com', {
    headers: {
      'x-forwarded-for': '1.2.3.4',
      'x-forwarded-client-cert': 'URI=spiffe://mesh.test/ns/a/sa/admin',
      'x-envoy-upstream-rq-timeout-ms': '1',
      'x-envoy-max-retries': '9',
    },
  });
  t.equal(forged.status, 200);
  const { headers } = served(forged);
  t.match(headers['x-forwarded-for'], /^1\.2\.3\.4,\s?10\.66\.0\.4$/, 'its own address after what it says');
  t.notMatch(headers['x-forwarded-client-cert'], /admin/);
  t.notMatch(headers, { 'x-envoy-upstream-rq-timeout-ms': /./ });
  t.notMatch(headers, { 'x-envoy-max-retries': /./ });
});

test('HTTPS: SIMPLE by a Secret, HTTP/2 by ALPN to a server that speaks HTTP/1.1; a redirect from http', async (t) => {
  await push(
    gateway(
      server(8081, 'HTTP', ['web.example'], { tls: { httpsRedirect: true } }),
      server(443, 'HTTPS', ['web.example'], { tls: { mode: 'SIMPLE', credentialName: 'web' } }),
    ),
    rules('web', ['web.example'], { http: [{ route: to('reviews', 80) }] }),
  );
  const redirected = await http(8081, 'web.example', { path: '/x?y=1' });
  t.match(redirected, { status: 301, headers: { location: 'https://web.example/x?y=1' } });
  const answer = await https(443, 'web.example');
  t.equal(answer.status, 200, String(answer.error));
  t.equal(served(answer).server, 'reviews');
  t.match(served(answer).headers, { 'x-forwarded-proto': 'https' });
  const h2 = await outside.ask({
    do: 'https-h2',
    address: EDGE,
    port: 443,
    servername: 'web.example',
    ca: world.caPem,
  });
  t.equal(h2.status, 200, String(h2.error));
  t.equal(served(h2).version, '1.1', 'the server’s port is declared http');
  t.match(await https(443, 'unknown.example'), { error: /./ }, 'no chain for another name');
  t.match(await https(443, '', { headers: { host: 'web.example' } }), { error: /./ }, 'nor for none');
});

test('MUTUAL asks for a certificate of the client CA and a name; OPTIONAL_MUTUAL takes none or a good one', async (t) => {
  const tls = { credentialName: 'web', subjectAltNames: ['client.example'] };
  await push(
    gateway(
      server(443, 'HTTPS', ['mutual.example'], { tls: { mode: 'MUTUAL', ...tls } }),
      server(443, 'HTTPS', ['optional.example'], { tls: { mode: 'OPTIONAL_MUTUAL', credentialName: 'web' } }),
    ),
    rules('web', ['mutual.example', 'optional.example'], { http: [{ route: to('reviews', 80) }] }),
  );
  const as = ({ certPem, keyPem }: typeof client) => ({ cert: certPem, key: keyPem });
  const good = await https(443, 'mutual.example', as(client));
  t.equal(good.status, 200, String(good.error));
  t.equal((await https(443, 'optional.example')).status, 200);
  t.equal((await https(443, 'optional.example', as(other))).status, 200);
  const cases = [
    ['mutual.example', {}],
    ['mutual.example', as(stranger)],
    ['mutual.example', as(other)],
    ['optional.example', as(stranger)],
  ] as const;
  for (const [name, identity] of cases) t.match(await https(443, name, identity), { error: /./ }, name);
});

test('bytes: TLS ended, TLS passed through by SNI, plain TCP; the versions of TLS that a server allows', async (t) => {
  await push(
    gateway(
      server(443, 'TLS', ['bytes.example'], {
        tls: {
          mode: 'SIMPLE',
          credentialName: 'web',
          maxProtocolVersion: 'TLSV1_2',
          cipherSuites: ['ECDHE-ECDSA-AES256-GCM-SHA384'],
        },
      }),
      server(443, 'TLS', ['pass.example'], { tls: { mode: 'PASSTHROUGH' } }),
      server(5432, 'TCP', ['*']),
    ),
    rules('bytes', ['bytes.example'], { tcp: [{ match: [{ port: 443 }], route: to('db', 5432) }] }),
    rules('pass', ['pass.example'], {
      tls: [{ match: [{ sniHosts: ['pass.example'], port: 443 }], route: to('db', 9443) }],
    }),
    rules('tcp', ['any.example'], { tcp: [{ match: [{ port: 5432 }], route: to('db', 5432) }] }),
  );
  const tls = (servername: string, more: object = {}) =>
    outside.ask({ do: 'tls', address: EDGE, port: 443, servername, ca: world.caPem, send: 'ping', ...more });
  t.match(await tls('bytes.example'), { received: 'db:ping', from: /web\.example/ });
  t.match(await tls('bytes.example', { minVersion: 'TLSv1.3' }), { error: /./ });
  t.match(await tls('bytes.example', { ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256', maxVersion: 'TLSv1.2' }), {
    error: /./,
  });
  t.match(await tls('pass.example'), { received: 'pass:ping', from: /pass\.example/ }, 'the server’s own certificate');
  t.match(await outside.ask({ do: 'tcp', address: EDGE, port: 5432, send: 'ping' }), { received: 'db:ping' });
});

test('a rotation, and a route, reach the next connection and the next request; what is open goes on', async (t) => {
  const objects = (path: string) => [
    gateway(
      server(443, 'HTTPS', ['web.example'], { tls: { mode: 'SIMPLE', credentialName: 'web' } }),
      server(443, 'TLS', ['bytes.example'], { tls: { mode: 'SIMPLE', credentialName: 'web' } }),
    ),
    rules('bytes', ['bytes.example'], { tcp: [{ route: to('db', 5432) }] }),
    rules('web', ['web.example'], {
      http: [{ match: [{ uri: { prefix: path } }], directResponse: { status: 418 } }, { route: to('reviews', 80) }],
    }),
  ];
  await push(...objects('/a'));
  const opened = await outside.ask({
    do: 'tls',
    address: EDGE,
    port: 443,
    servername: 'bytes.example',
    ca: world.caPem,
    send: 'one',
  });
  t.match(opened, { received: 'db:one' });
  lab.host('e').ads?.setSecrets(secrets('e', second));
  await until(
    async () => /CN=second/.test((await https(443, 'web.example')).from ?? ''),
    'the new certificate',
    15_000,
  );
  await push(...objects('/b'));
  t.equal((await https(443, 'web.example', { path: '/b' })).status, 418);
  t.match(await outside.ask({ do: 'tls-say', connection: opened.connection, send: 'two' }), { received: 'db:two' });
  lab.host('e').ads?.setSecrets(secrets('e'));
});

test('a workload leaves by an egress gateway: mTLS to it, and from it to a server outside', async (t) => {
  await push(
    object('Gateway', 'gw', {
      selector: { istio: 'ingressgateway' },
      servers: [server(9444, 'HTTPS', ['out.example'], { tls: { mode: 'ISTIO_MUTUAL' } })],
    }),
    object('ServiceEntry', 'out', {
      hosts: ['out.example'],
      ports: [{ number: 80, name: 'http', protocol: 'HTTP', targetPort: 8000 }],
      resolution: 'STATIC',
      endpoints: [{ address: '10.66.0.4' }],
    }),
    object('DestinationRule', 'edge', {
      host: 'edge.istio-system.svc.cluster.local',
      trafficPolicy: {
        portLevelSettings: [{ port: { number: 9444 }, tls: { mode: 'ISTIO_MUTUAL', sni: 'out.example' } }],
      },
    }),
    object('VirtualService', 'out', {
      hosts: ['out.example'],
      gateways: ['mesh', 'gw'],
      http: [
        { match: [{ gateways: ['mesh'], port: 80 }], route: to('edge.istio-system.svc.cluster.local', 9444) },
        { match: [{ gateways: ['gw'], port: 9444 }], route: to('out.example', 80) },
      ],
    }),
  );
  const web = lab.host('c').app(WEB);
  const answer = await web.ask({ do: 'http', address: '240.240.0.4', port: 80, headers: { host: 'out.example' } });
  t.equal(answer.status, 200, JSON.stringify(answer));
  t.equal(served(answer).server, 'out');
  t.match(served(answer).headers['x-forwarded-client-cert'] ?? '', /spiffe:\/\/mesh\.test\/ns\/default\/sa\/web/);
  t.match(
    await outside.ask({
      do: 'tls',
      address: EDGE,
      port: 9444,
      servername: 'out.example',
      send: 'GET / HTTP/1.1\r\n\r\n',
    }),
    { error: /./ },
    'nobody without an SVID',
  );
});

test('AUTO_PASSTHROUGH: the mesh’s own mTLS goes on to the service that its SNI names, and nothing else does', async (t) => {
  await push(gateway(server(15443, 'TLS', ['*.local'], { tls: { mode: 'AUTO_PASSTHROUGH' } })));
  const { chainPem, privateKeyPem } = lab.ca.workload('default', 'web', 'c');
  const call = (servername: string, alpn: readonly string[]) =>
    outside.ask({
      do: 'https',
      address: EDGE,
      port: 15443,
      servername,
      alpn,
      cert: chainPem,
      key: privateKeyPem,
      headers: { host: 'reviews' },
    });
  const reviews = 'outbound_.80_._.reviews.default.svc.cluster.local';
  const answer = await call(reviews, ['istio-http/1.1']);
  t.equal(answer.status, 200, JSON.stringify(answer));
  t.match(served(answer).headers['x-forwarded-client-cert'], /sa\/web$/, 'the caller’s identity, end to end');
  t.match(await call(reviews, ['http/1.1']), { error: /./ }, 'TLS of an application’s own');
  t.match(await call('outbound_.81_.v9_.reviews.default.svc.cluster.local', ['istio-http/1.1']), { error: /./ });
});

test('TLS of an application’s own leaves by an egress gateway, by its SNI', async (t) => {
  await lab
    .host('d')
    .app(4101)
    .ask({ do: 'serve-tls', port: 8443, name: 'out', cert: passed.certPem, key: passed.keyPem });
  await push(
    object('Gateway', 'gw', {
      selector: { istio: 'ingressgateway' },
      servers: [server(9444, 'TLS', ['pass.example'], { tls: { mode: 'PASSTHROUGH' } })],
    }),
    object('ServiceEntry', 'pass', {
      hosts: ['pass.example'],
      addresses: ['240.240.0.9'],
      ports: [{ number: 443, name: 'tls', protocol: 'TLS', targetPort: 8443 }],
      resolution: 'STATIC',
      endpoints: [{ address: '10.66.0.4' }],
    }),
    object('VirtualService', 'pass', {
      hosts: ['pass.example'],
      gateways: ['mesh', 'gw'],
      tls: [
        {
          match: [{ gateways: ['mesh'], port: 443, sniHosts: ['pass.example'] }],
          route: to('edge.istio-system.svc.cluster.local', 9444),
        },
        { match: [{ gateways: ['gw'], port: 9444, sniHosts: ['pass.example'] }], route: to('pass.example', 443) },
      ],
    }),
  );
  const web = lab.host('c').app(WEB);
  const answer = await web.ask({
    do: 'tls',
    address: '240.240.0.9',
    port: 443,
    servername: 'pass.example',
    ca: world.caPem,
    send: 'ping',
  });
  t.match(answer, { received: 'out:ping', from: /pass\.example/ });
  const stats = await lab.host('e').admin('/stats?filter=listener.*9444.*downstream_cx_total');
  t.match(stats, /: [1-9]/, 'through the gateway');
});
