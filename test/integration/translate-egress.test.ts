// Sidecar, MeshConfig and what HTTP may carry, on real Envoys: who is reached by which name and port, and by what way.
import t, { before, test } from 'tap';
import { fileSecrets } from '../../agent/translate/origination.ts';
import { translate } from '../../agent/translate/translate.ts';
import type { MeshObject } from '../../api/resources/object.ts';
import { until } from '../fakes/until.ts';
import { group, meshView, object, service, type TestHost } from '../unit/agent/mesh-view/build-mesh.ts';
import { type Answer, type App, type Lab, secretBodies, startLab } from './translate-lab.ts';

t.setTimeout(580_000);

const WEB = 4001;
const PORTS = { http: 9080, stream: 9081, tcp: 5432, sidecar: 9090 };
const HOSTS: readonly TestHost[] = [
  { id: 'a', addresses: ['10.66.0.1', 'fd66::1'], groups: ['default/web'] },
  { id: 'b', addresses: ['10.66.0.2', 'fd66::2'], groups: ['default/reviews', 'default/db'] },
];
const vip = (n: number) => ({ v4: `240.240.0.${n}`, v6: `fd6d:6573:6800::${n}` });
const VIPS = {
  'reviews.default.svc.cluster.local': vip(1),
  'db.default.svc.cluster.local': vip(2),
  'sidecar.default.svc.cluster.local': vip(3),
};
const [REVIEWS, DB, SIDECAR] = [1, 2, 3].map((n) => `240.240.0.${n}`) as [string, string, string];

const BASE: readonly MeshObject[] = [
  group('web', {}),
  group('reviews', { http: PORTS.http, stream: PORTS.stream }),
  group('db', { tcp: PORTS.tcp }),
  service('reviews', [
    { name: 'http', port: 80, targetPort: PORTS.http },
    { name: 'http-stream', port: 81, targetPort: PORTS.stream },
  ]),
  service('db', [{ name: 'tcp', port: 5432 }]),
  service('sidecar', [{ name: 'http-own', port: 80, targetPort: PORTS.sidecar }], { app: 'reviews' }),
];

const SVIDS_B = [
  ['default', 'reviews'],
  ['default', 'db'],
] as const;

let lab: Lab;
let web: App;

async function push(...objects: readonly MeshObject[]): Promise<void> {
  for (const self of ['a', 'b']) {
    const view = meshView({ objects: [...BASE, ...objects], hosts: HOSTS, vips: VIPS, self });
    await lab.host(self).push(translate(view));
  }
  for (const id of ['a', 'b']) t.same(lab.host(id).ads?.refusals, [], `${id} takes everything`);
}

const sidecar = (app: string, spec: object) =>
  object('Sidecar', app, { workloadSelector: { labels: { app } }, ...spec });
const meshConfig = (spec: object) => object('MeshConfig', 'default', spec);
const get = (host: string, address: string, more: object = {}): Promise<Answer> =>
  web.ask({ do: 'http', address, port: 80, path: '/', headers: { host }, ...more });
const bytes = (address: string, port: number): Promise<Answer> => web.ask({ do: 'tcp', address, port, send: 'hi' });
const isBehind = (answer: Answer) => answer.status === 200 && parsed(answer).server === 'behind';
const parsed = ({ body }: Answer) =>
  JSON.parse(body ?? '{}') as { server: string; url: string; version: string; headers: Record<string, string> };

/** Asks until the answer is as wanted: what is open between the proxies goes on by the former chain until that is drained (3 s here). */
async function soon(ask: () => Promise<Answer>, wanted: (answer: Answer) => boolean, what: string): Promise<boolean> {
  return until(async () => wanted(await ask()), what, 10_000);
}

before(async () => {
  lab = await startLab(
    [
      { id: 'a', envoy: true, outbound: { [WEB]: 15001 } },
      { id: 'b', envoy: true, inbound: [PORTS.http, PORTS.stream, PORTS.tcp, 9092] },
      { id: 'd', envoy: false },
    ],
    (ca, host) => secretBodies(ca, host, host === 'a' ? [['default', 'web']] : SVIDS_B),
  );
  web = lab.host('a').app(WEB);
  const app = lab.host('b').app(4200);
  await app.ask({ do: 'serve', port: PORTS.http, name: 'b' });
  await app.ask({ do: 'serve', port: 9082, name: 'behind' });
  await app.ask({ do: 'serve-stream', port: PORTS.stream, name: 'stream' });
  await lab.host('b').app(4201).ask({ do: 'serve-tcp', port: PORTS.tcp, name: 'db' });
  const outside = lab.host('d').app(4300);
  await outside.ask({ do: 'serve', port: 8000, name: 'd' });
  await outside.ask({ do: 'serve-tcp', port: 9999, name: 'tcp-d' });
});
t.teardown(() => lab?.close());

test('what a Sidecar does not import is not there; its outboundTrafficPolicy decides of the rest', async (t) => {
  const only = (policy?: object) =>
    sidecar('web', { egress: [{ hosts: ['./reviews.default.svc.cluster.local'] }], ...policy });
  await push();
  t.equal((await bytes(DB, 5432)).received, 'db:hi', 'without a Sidecar');
  await push(only());
  t.equal((await get('reviews', REVIEWS)).status, 200);
  const gone = await bytes(DB, 5432);
  t.ok(gone.closed ?? gone.error, 'a virtual address of nobody is closed');
  t.ok((gone.ms ?? 9999) < 5000, 'at once, where the application would wait for ten seconds');
  t.equal((await get('nobody', '10.66.0.3', { port: 8000 })).status, 200, 'outside, where it may go anywhere');
  await push(only({ outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } }));
  t.equal((await get('reviews', REVIEWS)).status, 200);
  t.equal((await get('nobody', REVIEWS)).status, 502, 'a name that no service has');
  t.not((await get('nobody', '10.66.0.3', { port: 8000 })).status, 200, 'outside is closed');
  t.notOk((await bytes('10.66.0.3', 9999)).received);
});

test('egressProxy has what no service is meant by', async (t) => {
  await push();
  t.equal((await bytes('10.66.0.3', 9999)).received, 'tcp-d:hi');
  const egressProxy = { host: 'db.default.svc.cluster.local', port: { number: 5432 } };
  await push(
    sidecar('web', {
      egress: [{ hosts: ['*/reviews.default.svc.cluster.local'] }],
      outboundTrafficPolicy: { mode: 'ALLOW_ANY', egressProxy },
    }),
  );
  t.equal((await bytes('10.66.0.3', 9999)).received, 'db:hi');
  t.equal((await get('reviews', REVIEWS)).status, 200, 'services go their own way');
});

test('egress listeners with a port: hosts of their own; sockets of the proxy’s own', async (t) => {
  await push(
    sidecar('web', {
      egress: [
        { port: { number: 80, protocol: 'HTTP' }, hosts: ['./sidecar.default.svc.cluster.local'] },
        {
          port: { number: 5432, protocol: 'TCP' },
          bind: '127.0.0.1',
          captureMode: 'NONE',
          hosts: ['./db.default.svc.cluster.local'],
        },
        { port: { number: 81, protocol: 'HTTP' }, bind: '::1', captureMode: 'NONE', hosts: ['*/*'] },
        { hosts: ['./*'] },
      ],
    }),
  );
  t.equal((await get('reviews', REVIEWS)).status, 503, 'port 80 is another listener’s');
  t.equal((await bytes('127.0.0.1', 5432)).received, 'db:hi', 'its own socket');
  t.equal((await bytes(DB, 5432)).received, 'db:hi', 'which takes nothing from the captured port');
  const streamed = await web.ask({
    do: 'stream',
    address: '::1',
    port: 81,
    headers: { host: 'reviews' },
    send: 'x',
    count: 3,
  });
  t.match(streamed, { status: 200, rounds: 3 }, 'HTTP by Host on ::1');
  t.equal((await get('nobody', '::1', { port: 81 })).status, 502);
});

test('ingress: the application elsewhere, limits, sockets of the proxy’s own', async (t) => {
  const ingress = (more: object, number = PORTS.http) =>
    sidecar('reviews', { ingress: [{ port: { number, protocol: 'HTTP' }, ...more }] });
  for (const defaultEndpoint of ['127.0.0.1:9082', '[::1]:9082', '0.0.0.0:9082']) {
    await push(ingress({ defaultEndpoint }));
    for (const address of [REVIEWS, 'fd6d:6573:6800::1'])
      t.ok(await soon(() => get('reviews', address), isBehind, `${defaultEndpoint} from ${address}`));
  }
  const stream = () => get('reviews', REVIEWS, { port: 81 });
  t.ok(await soon(stream, ({ status }) => status !== 200, 'a port that is no ingress listener’s is not served'));
  await push(ingress({ captureMode: 'NONE', bind: '0.0.0.0', defaultEndpoint: '127.0.0.1:9082' }, PORTS.sidecar));
  t.ok(await soon(() => get('sidecar', SIDECAR), isBehind, 'the proxy’s own socket'));
  t.match(
    parsed(await get('sidecar', SIDECAR)).headers['x-forwarded-client-cert'],
    /URI=spiffe:\/\/mesh\.test\/ns\/default\/sa\/web$/,
    'by mTLS as everywhere',
  );
  await push(ingress({ connectionPool: { http: { http2MaxRequests: 1 } } }));
  const slow = { headers: { host: 'reviews', 'x-delay-ms': '300' } };
  const three = async () =>
    (await Promise.all([1, 2, 3].map(() => get('reviews', REVIEWS, slow)))).map(({ status }) => status).sort();
  t.ok(await until(async () => String(await three()) === '200,503,503', 'one request at a time', 10_000));
});

test('ingress with TLS of its own: strangers by HTTPS, nothing else', async (t) => {
  const files = { serverCertificate: '/etc/mesh/tls/b.pem', privateKey: '/etc/mesh/tls/b.key' };
  const { certificate = '' } = fileSecrets({
    mode: 'MUTUAL',
    clientCertificate: files.serverCertificate,
    privateKey: files.privateKey,
  });
  const { chainPem, privateKeyPem } = lab.ca.workload('default', 'reviews', 'b');
  const tls_certificate = {
    certificate_chain: { inline_string: chainPem },
    private_key: { inline_string: privateKeyPem },
  };
  lab
    .host('b')
    .ads?.setSecrets(
      new Map([...secretBodies(lab.ca, 'b', SVIDS_B), [certificate, { name: certificate, tls_certificate }]]),
    );
  await push(
    sidecar('reviews', {
      ingress: [
        { port: { number: PORTS.http, protocol: 'HTTP' } },
        {
          port: { number: 9092, protocol: 'HTTPS' },
          defaultEndpoint: '127.0.0.1:9082',
          tls: { mode: 'SIMPLE', ...files },
        },
      ],
    }),
    object('PeerAuthentication', 'tls', {
      selector: { matchLabels: { app: 'reviews' } },
      mtls: { mode: 'STRICT' },
      portLevelMtls: { '9092': { mode: 'DISABLE' } },
    }),
  );
  const stranger = lab.host('d').app(4300);
  const at = { address: '10.66.0.2', port: 9092 };
  const https = () => stranger.ask({ do: 'https', ...at, headers: { host: 'b.example' } });
  t.ok(await soon(https, isBehind, 'TLS ends at the proxy'));
  t.not((await stranger.ask({ do: 'http', ...at })).status, 200, 'plaintext is not taken');
  t.equal((await get('reviews', REVIEWS)).status, 200, 'peers go on by mTLS at the other port');
});

test('an unknown Host at a service’s address is the service; at nobody’s, nobody', async (t) => {
  await push();
  for (const address of [REVIEWS, 'fd6d:6573:6800::1']) {
    const answer = await get('anything.example', address);
    t.equal(parsed(answer).headers?.host, 'anything.example', `${address}: the Host is kept`);
    t.match(parsed(answer).headers['x-forwarded-client-cert'], /sa\/web$/, 'by mTLS');
  }
  t.equal((await get('anything.example', '240.240.9.9')).status, 503);
  await push(object('VirtualService', 'reviews', { hosts: ['reviews'], http: [{ directResponse: { status: 418 } }] }));
  t.equal((await get('reviews', REVIEWS)).status, 418);
  t.equal((await get('anything.example', REVIEWS)).status, 200, 'rules are of names (Istio: passthrough knows none)');
});

test('WebSocket, CONNECT, HTTP/1.0, streams, large headers, Expect, the application’s own headers', async (t) => {
  await push();
  const upgrade = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13' };
  const at = { address: REVIEWS, port: 81 };
  t.match(await web.ask({ do: 'upgrade', ...at, headers: { host: 'reviews', ...upgrade }, send: 'ping' }), {
    status: 101,
    received: 'ping',
  });
  const tunnel = {
    do: 'upgrade',
    ...at,
    method: 'CONNECT',
    path: 'far.example:443',
    headers: { host: 'far.example:443' },
  };
  t.match(await web.ask({ ...tunnel, send: 'tunnelled' }), { status: 200, received: 'tunnelled' });
  const old = await web.ask({
    do: 'tcp',
    address: REVIEWS,
    port: 80,
    send: 'GET /old HTTP/1.0\r\nHost: reviews\r\n\r\n',
  });
  t.match(old.received, /^HTTP\/1\.[01] 200/);
  t.match(await web.ask({ do: 'stream', ...at, headers: { host: 'reviews' }, send: 'x'.repeat(1000), count: 20 }), {
    status: 200,
    rounds: 20,
  });
  t.match(await web.ask({ do: 'large', ...at, path: '/echo', size: 8 << 20, headers: { host: 'reviews' } }), {
    status: 200,
    size: 8 << 20,
  });
  const big = await get('reviews', REVIEWS, { headers: { host: 'reviews', 'x-large': 'y'.repeat(15_000) } });
  t.equal(parsed(big).headers['x-large']?.length, 15_000);
  t.notOk(big.headers?.server, 'no server header is made up');
  const many = Object.fromEntries([...Array(90).keys()].map((i) => [`x-h${i}`, 'v']));
  t.equal((await get('reviews', REVIEWS, { headers: { host: 'reviews', ...many } })).status, 200);
});

test('pathNormalization, on the way out and in', async (t) => {
  const path = '/a//b/../%2fc';
  for (const [normalization, url] of [
    [undefined, '/a//%2fc'],
    ['NONE', path],
    ['MERGE_SLASHES', '/a/%2fc'],
    ['DECODE_AND_MERGE_SLASHES', '/a/c'],
  ] as const) {
    await push(...(normalization === undefined ? [] : [meshConfig({ pathNormalization: { normalization } })]));
    const asked = () => get('reviews', REVIEWS, { path });
    t.ok(await soon(asked, (answer) => parsed(answer).url === url, `${normalization ?? 'BASE'}: ${url}`));
  }
});

test('MeshConfig: access log, TLS 1.3, HTTP/1.1 between proxies, no automatic mTLS', async (t) => {
  await push(
    meshConfig({
      accessLogFormat: 'seen %REQ(:PATH)% %PROTOCOL%',
      meshMTLS: { minProtocolVersion: 'TLSV1_3' },
      h2UpgradePolicy: 'DO_NOT_UPGRADE',
    }),
  );
  t.equal((await get('reviews', REVIEWS, { path: '/logged' })).status, 200);
  const logged = /^seen \/logged HTTP\/1\.1$/m;
  // Envoy writes its log out each 10 s.
  const asked = async () => {
    await get('reviews', REVIEWS, { path: '/logged' });
    return logged.test(lab.host('b').envoyLog());
  };
  t.ok(await until(asked, 'the server’s side to speak HTTP/1.1, and to write it down', 15_000));
  await push(meshConfig({ accessLog: { enabled: false } }));
  t.equal((await get('reviews', REVIEWS, { path: '/unlogged' })).status, 200);
  t.notMatch(lab.host('a').envoyLog(), /unlogged/);
  await push(meshConfig({ enableAutoMtls: false }));
  t.equal(parsed(await get('reviews', REVIEWS)).headers['x-forwarded-client-cert'], undefined, 'plaintext');
});
