// DestinationRules on real Envoys: a client host, two hosts of a service in two places, and a host outside the mesh with servers of its own.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { before, test } from 'tap';
import { createTlsFiles } from '../../agent/tls-files/tls-files.ts';
import { translate } from '../../agent/translate/translate.ts';
import type { MeshObject } from '../../api/resources/object.ts';
import { systemClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';
import { createWorldCa } from '../builders/server-certificate.ts';
import { until } from '../fakes/until.ts';
import { group, meshView, object, service, type TestHost, type TestMesh } from '../unit/agent/mesh-view/build-mesh.ts';
import { type Answer, type App, type Lab, secretBodies, startLab } from './translate-lab.ts';

t.setTimeout(580_000);

const WEB = 4001;
const OTHER = 4002;
const OUTSIDE = '10.66.0.4';
const PORTS = { http: 9080, tcp: 5432 };

const HOSTS: readonly TestHost[] = [
  { id: 'a', addresses: ['10.66.0.1', 'fd66::1'], groups: ['default/web', 'default/other'] },
  { id: 'b', addresses: ['10.66.0.2', 'fd66::2'], groups: ['default/near'] },
  { id: 'c', addresses: ['10.66.0.3', 'fd66::3'], groups: ['default/far'] },
];
const SVIDS: Record<string, readonly (readonly [string, string])[]> = {
  a: [
    ['default', 'web'],
    ['default', 'other'],
  ],
  b: [['default', 'near']],
  c: [['default', 'far']],
};

const outside = (host: string, ports: object[], more: object = {}) =>
  object('ServiceEntry', host, {
    hosts: [host],
    ports,
    resolution: 'STATIC',
    endpoints: [{ address: OUTSIDE }],
    ...more,
  });
const port = (number: number, protocol: string, targetPort: number) => ({
  number,
  name: `${protocol.toLowerCase()}-${number}`,
  protocol,
  targetPort,
});

const BASE: readonly MeshObject[] = [
  group('web', {}, { labels: { tier: 'front' } }),
  group('other', {}),
  group('near', { http: PORTS.http, tcp: PORTS.tcp }, { app: 'reviews', labels: { tier: 'x' }, locality: 'eu/a' }),
  group('far', { http: PORTS.http, tcp: PORTS.tcp }, { app: 'reviews', labels: { tier: 'front' }, locality: 'us/b' }),
  service('reviews', [
    { name: 'http', port: 80, targetPort: PORTS.http },
    { name: 'tcp', port: 5432 },
  ]),
  outside('https.example', [port(80, 'HTTP', 8443), port(81, 'HTTP', 8444), port(82, 'TCP', 8443)]),
  outside('raw.example', [port(90, 'TCP', 7000)]),
  outside('proxy.example', [port(3128, 'TCP', 3128), port(3129, 'HTTP', 3128)]),
  outside('slow.example', [port(80, 'HTTP', 8000)]),
];
const NAMES = ['reviews.default.svc.cluster.local', 'https.example', 'raw.example', 'proxy.example', 'slow.example'];
const VIPS = Object.fromEntries(
  NAMES.map((name, index) => [name, { v4: `240.240.0.${index + 1}`, v6: `fd6d:6573:6800::${index + 1}` }]),
);
const address = (name: string) => VIPS[NAMES.find((full) => full.startsWith(name)) ?? '']?.v4;

const world = createWorldCa();
const stranger = createWorldCa('stranger');
const server = world.issue({ dnsNames: ['https.example', 'other.example'] });
const client = world.issue({ dnsNames: ['client'] });

const dir = mkdtempSync(join(tmpdir(), 'tls-files-'));
const files = createTlsFiles({ folder: dir, clock: systemClock, log: silentLogger });
let lab: Lab;
let web: App;

/** What the agent's SDS would serve for the names of a translation. */
function secretsOf(set: ReturnType<typeof translate>): Map<string, object> {
  files.want(set.secretOrigins);
  const bodies = new Map(secretBodies(lab.ca, 'a', SVIDS.a ?? []));
  for (const name of set.secretOrigins.keys()) {
    const material = files.get(name);
    if (material === undefined) continue;
    const body =
      'privateKeyPem' in material
        ? {
            tls_certificate: {
              certificate_chain: { inline_string: material.certificateChainPem },
              private_key: { inline_string: material.privateKeyPem },
            },
          }
        : { validation_context: { ...material.validation, trusted_ca: { inline_string: material.trustedCaPem } } };
    bodies.set(name, { name, ...body });
  }
  return bodies;
}

async function push(objects: readonly MeshObject[], more: Partial<TestMesh> = {}): Promise<void> {
  const mesh = { objects: [...BASE, ...objects], hosts: HOSTS, vips: VIPS, locality: 'eu/a', ...more };
  const set = translate(meshView({ ...mesh, self: 'a' }));
  lab.host('a').ads?.setSecrets(secretsOf(set));
  await lab.host('a').push(set);
  t.same(lab.host('a').ads?.refusals, [], 'Envoy took everything');
}

const rule = (host: string, trafficPolicy: object, more: object = {}) =>
  object('DestinationRule', `${host}-rule`, { host, trafficPolicy, ...more });

const get = (name: string, number = 80, more: object = {}): Promise<Answer> =>
  web.ask({ do: 'http', address: address(name), port: number, headers: { host: name }, ...more });

const json = (answer: Answer) => JSON.parse(answer.body ?? '{}') as Record<string, unknown>;

const bytes = (name: string, number: number, send = 'hello', app = web): Promise<Answer> =>
  app.ask({ do: 'tcp', address: address(name), port: number, send });

const many = async (count: number): Promise<Record<string, number>> => {
  const ask = { do: 'many', address: address('reviews'), port: 80, headers: { host: 'reviews' }, count };
  return (await web.ask(ask)).counts ?? {};
};

before(async () => {
  writeFileSync(join(dir, 'ca.pem'), world.caPem);
  writeFileSync(join(dir, 'stranger.pem'), stranger.caPem);
  writeFileSync(join(dir, 'client.pem'), client.certPem);
  writeFileSync(join(dir, 'client.key'), client.keyPem);
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  lab = await startLab(
    [
      { id: 'a', envoy: true, outbound: { [WEB]: 15001, [OTHER]: 15100 } },
      { id: 'b', envoy: true, inbound: Object.values(PORTS) },
      { id: 'c', envoy: true, inbound: Object.values(PORTS) },
      { id: 'd', envoy: false },
    ],
    (ca, host) => secretBodies(ca, host, SVIDS[host] ?? []),
  );
  web = lab.host('a').app(WEB);
  for (const id of ['b', 'c']) {
    await lab.host(id).app(4200).ask({ do: 'serve', port: PORTS.http, name: id });
    await lab.host(id).app(4200).ask({ do: 'serve-tcp', port: PORTS.tcp, name: id });
    await lab.host(id).push(translate(meshView({ objects: BASE, hosts: HOSTS, vips: VIPS, self: id })));
  }
  const world4 = lab.host('d').app(4100);
  const tls = { name: 'd', cert: server.certPem, key: server.keyPem };
  await world4.ask({ do: 'serve-https', port: 8443, ...tls });
  await world4.ask({ do: 'serve-https', port: 8444, ca: world.caPem, ...tls });
  await world4.ask({ do: 'serve-record', port: 7000 });
  await world4.ask({ do: 'serve-forward', port: 3128 });
  await world4.ask({ do: 'serve', port: 8000, name: 'd', delayMs: 3000 });
});

t.teardown(() => lab?.close());

const AT = '/etc/mesh/tls';
const simple = (more: object = {}) => ({ tls: { mode: 'SIMPLE', caCertificates: `${AT}/ca.pem`, ...more } });

/** Policy for https.example, what comes of a request to port 80: what the server saw, or a failure. */
const ORIGINATION: readonly (readonly [string, object, object | 'refused'])[] = [
  ['SIMPLE: SNI and name to verify are the Host', simple(), { servername: 'https.example', alpn: 'http/1.1' }],
  ['SIMPLE: an SNI of its own', simple({ sni: 'other.example' }), { servername: 'other.example' }],
  ['SIMPLE: a name the certificate has', simple({ subjectAltNames: ['other.example'] }), { server: 'd' }],
  ['SIMPLE: a name the certificate lacks', simple({ subjectAltNames: ['x.example'] }), 'refused'],
  ['SIMPLE: another CA', simple({ caCertificates: `${AT}/stranger.pem` }), 'refused'],
  ['SIMPLE: the system’s CAs, which have not signed it', simple({ caCertificates: undefined }), 'refused'],
  ['SIMPLE: a CA file that is not there', simple({ caCertificates: `${AT}/none.pem` }), 'refused'],
  ['SIMPLE: no verification', { tls: { mode: 'SIMPLE', insecureSkipVerify: true } }, { server: 'd' }],
  ['DISABLE', { tls: { mode: 'DISABLE' } }, 'refused'],
  ['by port', { portLevelSettings: [{ port: { number: 80 }, ...simple() }] }, { servername: 'https.example' }],
  ['of another port', { portLevelSettings: [{ port: { number: 81 }, ...simple() }] }, 'refused'],
];

test('TLS to a server outside the mesh', async (t) => {
  for (const [what, policy, expected] of ORIGINATION) {
    await push([rule('https.example', policy)]);
    const answer = await get('https.example');
    if (expected === 'refused') t.not(answer.status, 200, `${what}: ${answer.status}`);
    else t.match({ status: answer.status, ...json(answer) }, { status: 200, ...expected }, what);
  }
});

test('MUTUAL: the server sees the certificate; without its file there is no connection to a server that asks for one', async (t) => {
  const mutual = (key: string) => ({
    tls: {
      mode: 'MUTUAL',
      caCertificates: `${AT}/ca.pem`,
      clientCertificate: `${AT}/client.pem`,
      privateKey: `${AT}/${key}`,
    },
    connectionPool: { tcp: { connectTimeout: '1s' } },
  });
  await push([rule('https.example', simple())]);
  t.not((await get('https.example', 81)).status, 200, 'SIMPLE has none to show');
  const started = performance.now();
  await push([rule('https.example', mutual('none.key'))]);
  t.ok(performance.now() - started < 10_000, 'a file that is missing holds up nothing: Envoy would wait 15 s');
  t.not((await get('https.example', 81)).status, 200, 'no key, no connection');
  t.match(files.problems(), [
    /DestinationRule\/default\/https.example-rule.*: \/etc\/mesh\/tls\/none.key: there is no such file/,
  ]);
  await push([rule('https.example', mutual('client.key'))]);
  const answer = await get('https.example', 81);
  t.match({ status: answer.status, ...json(answer) }, { status: 200, client: 'client', servername: 'https.example' });
});

test('credentialName: nobody until the Secret is here, then the Secret’s certificate', async (t) => {
  const tls = { mode: 'MUTUAL', credentialName: 'client' };
  const policy = { tls, connectionPool: { tcp: { connectTimeout: '1s' } } };
  await push([rule('https.example', policy)]);
  t.not((await get('https.example', 81)).status, 200);
  const name = 'kubernetes://default/client';
  const secrets = new Map(secretBodies(lab.ca, 'a', SVIDS.a ?? []));
  const tls_certificate = {
    certificate_chain: { inline_string: client.certPem },
    private_key: { inline_string: client.keyPem },
  };
  secrets.set(name, { name, tls_certificate });
  const ca = `${name}-cacert`;
  secrets.set(ca, { name: ca, validation_context: { trusted_ca: { inline_string: world.caPem } } });
  lab.host('a').ads?.setSecrets(secrets);
  await until(async () => (await get('https.example', 81)).status === 200, 'the Secret to be used', 15_000);
  t.match(json(await get('https.example', 81)), { client: 'client' });
});

test('mTLS of the mesh is what the rule says, else what the endpoints speak', async (t) => {
  const mode = (name: string) => ({ tls: { mode: name } });
  const rows: readonly (readonly [string, object, 'mtls' | 'plain' | 'refused'])[] = [
    ['nothing said', { loadBalancer: { simple: 'RANDOM' } }, 'mtls'],
    ['ISTIO_MUTUAL', mode('ISTIO_MUTUAL'), 'mtls'],
    ['ISTIO_MUTUAL of another server', { tls: { mode: 'ISTIO_MUTUAL', subjectAltNames: ['spiffe://x/y'] } }, 'refused'],
    ['DISABLE', mode('DISABLE'), 'plain'],
    ['no mode is DISABLE', { tls: {} }, 'plain'],
    [
      'SIMPLE, which the server’s proxy does not take',
      { tls: { mode: 'SIMPLE', insecureSkipVerify: true } },
      'refused',
    ],
    ['by port', { ...mode('DISABLE'), portLevelSettings: [{ port: { number: 80 }, ...mode('ISTIO_MUTUAL') }] }, 'mtls'],
  ];
  for (const [what, policy, expected] of rows) {
    await push([rule('reviews', policy)]);
    const answer = await get('reviews');
    const mtls = () => (json(answer).headers as Record<string, string>)['x-forwarded-client-cert']?.includes('/sa/web');
    const seen = answer.status !== 200 ? 'refused' : mtls() ? 'mtls' : 'plain';
    t.equal(seen, expected, what);
  }
});

test('bytes over TLS: SNI and name are the host’s, no ALPN of the mesh’s is offered', async (t) => {
  await push([rule('https.example', simple())]);
  const answer = await bytes('https.example', 82, 'GET / HTTP/1.1\r\nHost: any\r\n\r\n');
  t.match(answer.received ?? answer.error, /^HTTP\/1.1 200/);
  t.match(answer.received, /"servername":"https.example"/);
  await push([rule('https.example', simple({ subjectAltNames: ['x.example'] }))]);
  t.notMatch((await bytes('https.example', 82, 'GET / HTTP/1.1\r\nHost: any\r\n\r\n')).received ?? '', /200/);
});

test('a PROXY header tells the server who called; a workloadSelector says whose connections have it', async (t) => {
  for (const [version, head] of [
    ['V1', Buffer.from('PROXY TCP4 10.66.0.1').toString('hex')],
    ['V2', '0d0a0d0a000d0a515549540a21'],
  ] as const) {
    const selector = { workloadSelector: { matchLabels: { tier: 'front' } } };
    await push([rule('raw.example', { proxyProtocol: { version } }, selector)]);
    const seen = JSON.parse((await bytes('raw.example', 90)).received ?? '{}');
    t.equal(String(seen.hex).slice(0, head.length), head, version);
    const plain = JSON.parse((await bytes('raw.example', 90, 'hello', lab.host('a').app(OTHER))).received ?? '{}');
    t.equal(plain.hex, Buffer.from('hello').toString('hex'), 'a workload without the label');
  }
});

test('tunnels: CONNECT and POST through a forward proxy, by a port of TCP and of HTTP', async (t) => {
  for (const [number, protocol, expected] of [
    [3128, undefined, 'CONNECT far.example:8443|hello'],
    [3128, 'POST', 'POST far.example:8443|hello'],
  ] as const) {
    await push([rule('proxy.example', { tunnel: { protocol, targetHost: 'far.example', targetPort: 8443 } })]);
    t.equal((await bytes('proxy.example', number)).received, expected);
  }
  const via = { host: 'proxy.example', port: { number: 3129 }, subset: 'far' };
  await push([
    rule(
      'proxy.example',
      { connectionPool: { tcp: { connectTimeout: '1s' } } },
      {
        subsets: [{ name: 'far', trafficPolicy: { tunnel: { targetHost: '10.9.9.9', targetPort: 1 } } }],
      },
    ),
    object('VirtualService', 'raw', { hosts: ['raw.example'], tcp: [{ route: [{ destination: via }] }] }),
  ]);
  t.equal((await bytes('raw.example', 90)).received, 'CONNECT 10.9.9.9:1|hello');
});

test('idle timeout and longest life of connections of bytes', async (t) => {
  for (const [tcp, traffic] of [
    [{ idleTimeout: '1.5s' }, false],
    [{ maxConnectionDuration: '2s' }, true],
  ] as const) {
    await push([rule('reviews', { connectionPool: { tcp } })]);
    const { connection } = await web.ask({ do: 'open', address: address('reviews'), port: 5432 });
    const say = () => web.ask({ do: 'say', connection, send: 'x' });
    t.match((await say()).received, /:x/);
    if (traffic) await until(async () => (await say()).closed === true, 'the connection to end', 15_000);
    else await until(async () => /"cx_active": *0|cx_active::0/.test(await stats()), 'the connection to end', 15_000);
    t.ok((await say()).closed, JSON.stringify(tcp));
  }
  await push([rule('reviews', { connectionPool: { tcp: { idleTimeout: '0s' } } })]);
  t.match((await bytes('reviews', 5432)).received, /:hello/);
});

const stats = async (): Promise<string> => {
  const text = await lab.host('a').admin('/clusters');
  return text
    .split('\n')
    .filter((line) => line.startsWith('outbound_.5432_') && line.includes('cx_active'))
    .map((line) => line.replace(/.*cx_active/, 'cx_active'))
    .filter((line) => !line.endsWith('::0'))
    .concat('cx_active::0')[0] as string;
};

test('a full pool answers at once; one without limits serves all', async (t) => {
  const at = () => Promise.all(Array.from({ length: 4 }, () => get('slow.example')));
  await push([
    rule('slow.example', { connectionPool: { http: { http1MaxPendingRequests: 1 }, tcp: { maxConnections: 1 } } }),
  ]);
  const answers = await at();
  const refused = answers.filter((answer) => answer.status === 503);
  t.ok(refused.length >= 2 && refused.length < 4, 'one on the connection, one waiting at most');
  t.ok(
    refused.every((answer) => (answer.ms ?? 0) < 2500),
    'the others are answered at once',
  );
  await push([rule('slow.example', { connectionPool: { http: { http2MaxRequests: 0 } } })]);
  t.same(
    (await at()).map((answer) => answer.status),
    [200, 200, 200, 200],
  );
});

test('outlier detection passes over a host that answers 503: one at least where no limit is said', async (t) => {
  const policy = (maxEjectionPercent?: number) => ({
    outlierDetection: { consecutive5xxErrors: 2, interval: '1s', baseEjectionTime: '60s', maxEjectionPercent },
    loadBalancer: { localityLbSetting: { enabled: false } },
  });
  const failing = async () => {
    for (let i = 0; i < 8; i++) await get('reviews', 80, { headers: { host: 'reviews', 'x-fail': 'b' } });
  };
  for (const limit of [100, undefined]) {
    await push([rule('reviews', policy(limit))]);
    const passedOver = async () => {
      await failing();
      return Object.keys(await many(10)).join() === 'c';
    };
    await until(passedOver, 'host b to be passed over', 15_000);
    t.same(await many(50), { c: 50 });
    await push([]);
  }
  await push([rule('reviews', policy(10))]);
  await failing();
  t.same(Object.keys(await many(50)).sort(), ['b', 'c'], '10 % of two hosts is none');
});

test('localities: near first and far when near is gone; shares; an order by labels', async (t) => {
  const outlierDetection = { interval: '60s' };
  const policy = (setting: object) =>
    rule('reviews', { outlierDetection, loadBalancer: { localityLbSetting: setting } });
  await push([policy({})]);
  t.same(await many(50), { b: 50 }, 'eu/a before us/b');
  await push([policy({})], { hosts: HOSTS.map((host) => (host.id === 'b' ? { ...host, health: 'unhealthy' } : host)) });
  t.same(await many(50), { c: 50 }, 'none left in eu/a');
  await push([policy({})], { hosts: HOSTS.filter((host) => host.id !== 'b') });
  t.same(await many(50), { c: 50 }, 'its host is gone');
  await push([policy({ failoverPriority: ['tier'] })]);
  t.same(await many(50), { c: 50 }, 'far has the client’s label');
  await push([policy({ enabled: false })]);
  const even = await many(200);
  t.ok((even.b ?? 0) > 60 && (even.c ?? 0) > 60, JSON.stringify(even));
  await push([policy({ distribute: [{ from: 'eu/*', to: { 'eu/a': 20, 'us/b': 80 } }] })]);
  // The mean of four times 500, as one in a few hundred of single ones is further off by chance.
  const { b = 0, c = 0 } = await many(2000);
  t.equal(b + c, 2000);
  t.ok(Math.abs(b / 4 - 100) < 3 * Math.sqrt(500 * 0.2 * 0.8) + 1, `${b} of 2000 for 20 %`);
  await push([policy({ distribute: [{ from: '*', to: { 'us/*': 100 } }] })]);
  t.same(await many(20), { c: 20 }, 'a locality that is not named gets nothing');
});

test('a cookie of consistent hashing keeps a client on one host, with the attributes that the rule gives it', async (t) => {
  const httpCookie = { name: 'stick', ttl: '0s', path: '/p', attributes: [{ name: 'SameSite', value: 'Strict' }] };
  await push([rule('reviews', { loadBalancer: { consistentHash: { httpCookie } } })]);
  const answer = await get('reviews');
  const cookie = String(answer.headers?.['set-cookie'] ?? '');
  t.match(cookie, /stick="?[0-9a-f]+"?;.*Path=\/p/);
  t.match(cookie, /SameSite=Strict/);
  const seen = new Set<unknown>();
  for (let i = 0; i < 10; i++) {
    seen.add(json(await get('reviews', 80, { headers: { host: 'reviews', cookie: cookie.split(';')[0] } })).server);
  }
  t.same([...seen], [json(answer).server]);
});

test('a subset that no rule defines is nobody: 503', async (t) => {
  const to = { destination: { host: 'reviews', subset: 'ghost' } };
  await push([
    rule('reviews', { loadBalancer: { simple: 'ROUND_ROBIN' } }),
    object('VirtualService', 'reviews', { hosts: ['reviews'], http: [{ route: [to] }] }),
  ]);
  t.equal((await get('reviews')).status, 503);
});
