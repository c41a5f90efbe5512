// Services of every sort on real Envoys: how their names are found, where they live, who may answer.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import tls from 'node:tls';
import { fileURLToPath } from 'node:url';
import t, { before, test } from 'tap';
import { translate } from '../../agent/translate/translate.ts';
import type { MeshObject } from '../../api/resources/object.ts';
import { group, meshView, object, service, type TestHost, type TestMesh } from '../unit/agent/mesh-view/build-mesh.ts';
import { type Answer, type App, type Lab, secretBodies, startLab } from './translate-lab.ts';

t.setTimeout(580_000);

const WEB = 4001;
const OUTSIDE = 4100;
const TAG = `translate${process.pid}`;
const RESOLV = ['a', 'b'].map((id) => `/etc/netns/${TAG}-${id}`);
const HERE = dirname(fileURLToPath(import.meta.url));
const OUT = '10.66.0.4';
/** Nobody is there: what connects to it was led elsewhere by its proxy. */
const NOWHERE = '10.66.0.99';

const HOSTS: readonly TestHost[] = [
  { id: 'a', addresses: ['10.66.0.1', 'fd66::1'], groups: ['default/web'] },
  { id: 'b', addresses: ['10.66.0.2', 'fd66::2'], groups: ['default/db', 'default/api'], gateways: ['default/egress'] },
  { id: 'c', addresses: ['10.66.0.3', 'fd66::3'], groups: ['default/db'] },
];
const VIPS = {
  'db.default.svc.cluster.local': vip(1),
  'api.default.svc.cluster.local': vip(2),
  'alias.default.svc.cluster.local': vip(3),
  'far.example': vip(4),
};
const NAMES = { 'one.dyn.test': OUT, 'two.dyn.test': OUT, 'loop.dyn.test': '127.0.0.1', 'self.dyn.test': '10.66.0.1' };
const STRICT = object('PeerAuthentication', 'mesh', { mtls: { mode: 'STRICT' } }, { namespace: 'istio-system' });
const BASE: readonly MeshObject[] = [
  STRICT,
  group('web', {}),
  group('db', { tcp: 5432, http: 9080 }),
  group('api', { grpc: 9081 }),
  group('egress', {}),
];

let lab: Lab;
let web: App;
let dns: ChildProcess;

function vip(n: number) {
  return { v4: `240.240.0.${n}`, v6: `fd6d:6573:6800::${n}` };
}

async function push(objects: readonly MeshObject[], more: Partial<TestMesh> = {}): Promise<void> {
  for (const self of ['a', 'b', 'c'])
    await lab
      .host(self)
      .push(translate(meshView({ objects: [...BASE, ...objects], hosts: HOSTS, vips: VIPS, ...more, self })));
}

const get = (address: string, host: string, more: object = {}): Promise<Answer> =>
  web.ask({ do: 'http', address, port: 80, headers: { host }, ...more });
const tcp = (address: string, port: number, more: object): Promise<Answer> =>
  web.ask({ do: 'tcp', address, port, ...more });
const served = (answer: Answer) => (JSON.parse(answer.body ?? '{}') as { server?: string }).server;
const seen = (answer: Answer) =>
  (JSON.parse(answer.body ?? '{}') as { headers?: Record<string, string> }).headers ?? {};
const entry = (host: string, port: object, more: object) =>
  object('ServiceEntry', host.replace('*', 'any'), { hosts: [host], ports: [port], ...more });

before(async () => {
  for (const folder of RESOLV) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'resolv.conf'), `nameserver ${OUT}\noptions timeout:3 attempts:2\n`);
  }
  lab = await startLab(
    [
      { id: 'a', envoy: true, outbound: { [WEB]: 15001 } },
      { id: 'b', envoy: true, inbound: [5432, 9080, 9081] },
      { id: 'c', envoy: true, inbound: [5432, 9080] },
      { id: 'd', envoy: false },
    ],
    (ca, host) =>
      secretBodies(
        ca,
        host,
        { a: ['web'], b: ['db', 'api', 'egress'], c: ['db'] }[host]?.map((sa) => ['default', sa]) ?? [],
      ),
  );
  dns = spawn('ip', [
    'netns',
    'exec',
    `${TAG}-d`,
    process.execPath,
    join(HERE, 'translate-dns.ts'),
    OUT,
    JSON.stringify(NAMES),
  ]);
  await once(dns.stdout as NodeJS.ReadableStream, 'data');
  web = lab.host('a').app(WEB);
  for (const id of ['b', 'c']) {
    const app = lab.host(id).app(4200);
    await app.ask({ do: 'serve-tcp', port: 5432, name: id });
    await app.ask({ do: 'serve', port: 9080, name: id });
  }
  await lab.host('b').app(4200).ask({ do: 'serve-h2', port: 9081, name: 'api' });
  const outside = lab.host('d').app(OUTSIDE);
  await outside.ask({ do: 'serve', port: 8000, name: 'out-8000' });
  await outside.ask({ do: 'serve', port: 8080, name: 'out-8080' });
  await outside.ask({ do: 'serve-tcp', port: 8443, name: 'tls' });
  await outside.ask({ do: 'relay', port: 15443, to: { address: '10.66.0.2', port: 9080 } });
});

test('a headless service: clients pick an endpoint, mTLS holds, one that goes cuts nobody else', async (t) => {
  const headless = object('Service', 'db', {
    clusterIP: 'None',
    selector: { app: 'db' },
    ports: [
      { name: 'tcp', port: 5432 },
      { name: 'http', port: 80, targetPort: 9080 },
    ],
  });
  await push([headless]);
  for (const [id, address, six] of [
    ['b', '10.66.0.2', 'fd66::2'],
    ['c', '10.66.0.3', 'fd66::3'],
  ] as const) {
    t.equal((await tcp(address, 5432, { send: 'x' })).received, `${id}:x`);
    t.equal((await tcp(six, 5432, { send: 'x' })).received, `${id}:x`);
    for (const port of [80, 9080]) {
      const answer = await get(address, `${address}:${port}`, { port });
      t.equal(served(answer), id, `port ${port}`);
      t.match(seen(answer)['x-forwarded-client-cert'], /sa\/web$/);
    }
  }
  const open = await web.ask({ do: 'open', address: '10.66.0.2', port: 5432 });
  t.equal((await web.ask({ do: 'say', connection: open.connection, send: '1' })).received, 'b:1');
  const gone = HOSTS.map((host) => (host.id === 'c' ? { ...host, liveness: 'dead' as const } : host));
  await push([headless], { hosts: gone });
  await push([headless]);
  t.equal((await web.ask({ do: 'say', connection: open.connection, send: '2' })).received, 'b:2');
});

test('DYNAMIC_DNS: HTTP by Host, at the service’s port, never to this host', async (t) => {
  const http = { number: 8080, name: 'http', protocol: 'HTTP' };
  await push([entry('*.dyn.test', http, { resolution: 'DYNAMIC_DNS' })]);
  const ask = (host: string) => get(NOWHERE, host, { port: 8080 });
  for (const host of ['one.dyn.test:8080', 'two.dyn.test']) t.equal(served(await ask(host)), 'out-8080', host);
  for (const [host, status] of [
    ['one.dyn.test:8000', 421],
    ['one.dyn.test:22', 421],
    ['loop.dyn.test:8080', 503],
    ['self.dyn.test:8080', 503],
    ['none.dyn.test:8080', 503],
  ] as const)
    t.equal((await ask(host)).status, status, host);
});

test('DYNAMIC_DNS: another port for requests that name none; rules for some of the names, and by no other', async (t) => {
  const http = { number: 80, name: 'http', protocol: 'HTTP', targetPort: 8080 };
  const to = (match: object, more: object = {}) => ({
    ...match,
    ...more,
    route: [{ destination: { host: '*.dyn.test' } }],
  });
  await push([
    entry('*.dyn.test', http, { resolution: 'DYNAMIC_DNS' }),
    object('VirtualService', 'one', {
      hosts: ['one.dyn.test'],
      http: [
        to({ match: [{ uri: { prefix: '/two' } }] }, { rewrite: { authority: 'two.dyn.test' } }),
        to({ match: [{ uri: { prefix: '/out' } }] }, { rewrite: { authority: 'loop.test:8080' } }),
        to({}, { headers: { request: { set: { 'x-by': 'rule' } } } }),
      ],
    }),
  ]);
  t.equal(served(await get(NOWHERE, 'two.dyn.test')), 'out-8080');
  const ruled = await get(NOWHERE, 'one.dyn.test');
  t.match(seen(ruled), { 'x-by': 'rule' });
  t.equal(seen(await get(NOWHERE, 'one.dyn.test', { path: '/two' })).host, 'two.dyn.test:8080');
  t.equal((await get(NOWHERE, 'one.dyn.test', { path: '/out' })).status, 503, 'a name that is not the service’s');
  t.equal((await get(NOWHERE, 'one.dyn.test:9999')).status, 421);
});

test('DYNAMIC_DNS: TLS by the name in the handshake', async (t) => {
  const port = { number: 443, name: 'tls', protocol: 'TLS', targetPort: 8443 };
  await push([entry('*.dyn.test', port, { resolution: 'DYNAMIC_DNS' })]);
  const ask = async (name: string) => tcp(NOWHERE, 443, { hex: await clientHello(name) });
  t.match(await ask('one.dyn.test'), { received: /^tls:/ });
  t.notOk((await ask('self.dyn.test')).received, 'this host’s own address');
  t.notOk((await ask('loop.dyn.test')).received, 'loopback');
});

test('DYNAMIC_DNS by an egress gateway', async (t) => {
  const server = (number: number, protocol: string, more: object = {}) => ({
    port: { number, name: `p${number}`, protocol },
    hosts: ['*.dyn.test'],
    ...more,
  });
  const to = (number: number) => ({ route: [{ destination: { host: '*.dyn.test', port: { number } } }] });
  await push([
    object('ServiceEntry', 'any', {
      hosts: ['*.dyn.test'],
      ports: [
        { number: 8080, name: 'http', protocol: 'HTTP' },
        { number: 443, name: 'tls', protocol: 'TLS', targetPort: 8443 },
      ],
      resolution: 'DYNAMIC_DNS',
    }),
    object('Gateway', 'out', {
      selector: { app: 'egress' },
      servers: [server(8081, 'HTTP'), server(8444, 'TLS', { tls: { mode: 'PASSTHROUGH' } })],
    }),
    object('VirtualService', 'out', {
      hosts: ['*.dyn.test'],
      gateways: ['out'],
      http: [to(8080)],
      tls: [{ match: [{ port: 8444, sniHosts: ['*.dyn.test'] }], ...to(443) }],
    }),
  ]);
  const outside = lab.host('d').app(OUTSIDE);
  const ask = (host: string) => outside.ask({ do: 'http', address: '10.66.0.2', port: 8081, headers: { host } });
  t.equal(served(await ask('one.dyn.test')), 'out-8080');
  t.equal((await ask('one.dyn.test:22')).status, 421);
  t.equal((await ask('loop.dyn.test')).status, 503);
  const hello = async (name: string) =>
    outside.ask({ do: 'tcp', address: '10.66.0.2', port: 8444, hex: await clientHello(name) });
  t.match(await hello('two.dyn.test'), { received: /^tls:/ });
  t.notOk((await hello('loop.dyn.test')).received);
});

test('NONE: where the client goes, at another port where the entry says so', async (t) => {
  await push([entry('none.test', { number: 80, name: 'http', protocol: 'HTTP', targetPort: 8000 }, {})]);
  t.equal(served(await get(OUT, 'none.test')), 'out-8000');
  await push([entry('*.none.test', { number: 81, name: 'tcp', protocol: 'TCP', targetPort: 8443 }, {})]);
  t.match(await tcp(OUT, 81, { send: 'x' }), { received: 'tls:x' }, 'bytes know no name');
});

test('names that a server’s certificate must have', async (t) => {
  const far = (subjectAltNames: string[]) =>
    entry(
      'far.example',
      { number: 80, name: 'http', protocol: 'HTTP', targetPort: 9080 },
      {
        location: 'MESH_INTERNAL',
        resolution: 'STATIC',
        endpoints: [{ address: '10.66.0.2', labels: { 'security.istio.io/tlsMode': 'istio' } }],
        subjectAltNames,
      },
    );
  await push([far(['spiffe://mesh.test/ns/default/sa/db'])]);
  t.equal(served(await get('240.240.0.4', 'far.example')), 'b');
  await push([far(['spiffe://mesh.test/ns/default/sa/other'])]);
  t.equal((await get('240.240.0.4', 'far.example')).status, 503);
});

test('a network behind a gateway: its endpoints are the gateway, mTLS is end to end', async (t) => {
  const gateway = object(
    'Service',
    'eastwest',
    { selector: { app: 'gateway' }, ports: [{ name: 'tls', port: 15443 }] },
    { labels: { 'topology.istio.io/network': 'there' } },
  );
  const far = entry(
    'far.example',
    { number: 80, name: 'http', protocol: 'HTTP', targetPort: 9080 },
    {
      location: 'MESH_INTERNAL',
      resolution: 'STATIC',
      endpoints: [
        { address: NOWHERE, network: 'there', serviceAccount: 'db', labels: { 'security.istio.io/tlsMode': 'istio' } },
      ],
    },
  );
  const entryPoint = object('WorkloadEntry', 'gw', { address: OUT, labels: { app: 'gateway' } });
  await push([gateway, far, entryPoint], { network: 'here' });
  const answer = await get('240.240.0.4', 'far.example');
  t.equal(served(answer), 'b');
  t.match(seen(answer)['x-forwarded-client-cert'], /sa\/web$/);
});

test('a network behind a gateway of the mesh: by the name in mTLS to the service, port and subset', async (t) => {
  const eastwest = object(
    'Service',
    'eastwest',
    { selector: { app: 'egress' }, ports: [{ name: 'tls', port: 15443 }] },
    { labels: { 'topology.istio.io/network': 'there' } },
  );
  const gateway = object('Gateway', 'eastwest', {
    selector: { app: 'egress' },
    servers: [
      { port: { number: 15443, name: 'tls', protocol: 'TLS' }, hosts: ['*.local'], tls: { mode: 'AUTO_PASSTHROUGH' } },
    ],
  });
  const there = BASE.map((one) =>
    one.metadata.name === 'db'
      ? object('WorkloadGroup', 'db', over(one.spec, { template: { network: 'there' } }))
      : one,
  );
  const objects = [...there, eastwest, gateway, service('db', [{ name: 'http', port: 80, targetPort: 9080 }])];
  // Whoever is not of that network has had no answer from its hosts: all that it reaches is the gateway.
  const unproved = HOSTS.map((host) => (host.id === 'c' ? { ...host, provenAddresses: [] } : host));
  for (const self of ['a', 'b', 'c']) {
    const own = self === 'a' ? { network: 'here', hosts: unproved } : { network: 'there', hosts: HOSTS };
    await lab.host(self).push(translate(meshView({ objects, vips: VIPS, ...own, self })));
  }
  const { counts } = await web.ask({
    do: 'many',
    address: '240.240.0.1',
    port: 80,
    headers: { host: 'db' },
    count: 40,
    parallel: 4,
  });
  const { b = 0, c = 0 } = counts ?? {};
  t.equal(b + c, 40, `one HTTP/2 connection is led to one of them: ${JSON.stringify(counts)}`);
  t.match(seen(await get('240.240.0.1', 'db'))['x-forwarded-client-cert'], /sa\/web$/, 'the caller, not the gateway');
  t.match(await lab.host('a').admin('/clusters'), /10\.66\.0\.2:15443::cx_total::[1-9]/);
  for (const id of ['a', 'b']) t.same(lab.host(id).ads?.refusals, [], `host ${id} refused nothing`);
});

/** `change` merged over `base`. */
function over(base: unknown, change: Record<string, unknown>): unknown {
  const merged: Record<string, unknown> = { ...(base as Record<string, unknown>) };
  for (const [key, value] of Object.entries(change))
    merged[key] = typeof value === 'object' ? over(merged[key], value as Record<string, unknown>) : value;
  return merged;
}

test('another name for a service; gRPC-Web for a gRPC server; what is unhealthy gets nothing', async (t) => {
  const db = service('db', [{ name: 'http', port: 80, targetPort: 9080 }]);
  await push([
    db,
    service('api', [{ name: 'grpc-web', port: 80, targetPort: 9081 }]),
    object('Service', 'alias', {
      type: 'ExternalName',
      externalName: 'db.default.svc.cluster.local',
      ports: [{ port: 80 }],
    }),
  ]);
  t.match(served(await get('240.240.0.3', 'alias')), /^[bc]$/);
  const call = await get('240.240.0.2', 'api', {
    method: 'POST',
    send: '\0\0\0\0\0',
    headers: { host: 'api', 'content-type': 'application/grpc-web+proto' },
  });
  const body = call.body ?? '';
  t.match(body.slice(body.indexOf('{')), /"version":"2.0".*"content-type":"application\/grpc/);
  const unhealthy = HOSTS.map((host) => (host.id === 'c' ? { ...host, health: 'unhealthy' as const } : host));
  await push([db], { hosts: unhealthy });
  const { counts } = await web.ask({
    do: 'many',
    address: '240.240.0.1',
    port: 80,
    headers: { host: 'db' },
    count: 30,
  });
  t.same(counts, { b: 30 });
  t.same(lab.host('a').ads?.refusals, [], 'Envoy refused nothing');
});

test('the lab goes without a trace', async (t) => {
  dns.kill('SIGKILL');
  for (const folder of RESOLV) rmSync(folder, { recursive: true, force: true });
  await lab.close();
  t.notMatch(execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' }), new RegExp(TAG));
});

/** The first bytes of a TLS client that asks for `name`, in hex. */
async function clientHello(name: string): Promise<string> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const taken = once(server, 'connection') as Promise<[net.Socket]>;
  const client = tls.connect({ host: '127.0.0.1', port: (server.address() as AddressInfo).port, servername: name });
  client.on('error', () => {});
  const [socket] = await taken;
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  client.destroy();
  socket.destroy();
  server.close();
  return bytes.toString('hex');
}
