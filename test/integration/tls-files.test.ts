// Certificate files on a host, from the disk to a handshake: agent/tls-files, the agent's own xDS server and a real Envoy.
import { rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import t, { type Test, test } from 'tap';
import { createTlsFiles } from '../../agent/tls-files/tls-files.ts';
import { fileSecrets, originationSocket } from '../../agent/translate/origination.ts';
import type { Json, XdsResource } from '../../agent/translate/resource-set.ts';
import { silentLogger } from '../../runtime/log.ts';
import { createWorldCa } from '../builders/server-certificate.ts';
import { listener, route } from '../builders/xds.ts';
import { createFakeClock } from '../fakes/fake-clock.ts';
import { until } from '../fakes/until.ts';
import { DEADLINE_MS, fetchText, freePorts, openLab } from './xds-lab.ts';

t.setTimeout(580_000);

const world = createWorldCa();
const server = world.issue({ dnsNames: ['x.example'] });
const AT = '/etc/mesh/tls';
const TLS = {
  mode: 'MUTUAL',
  sni: 'x.example',
  caCertificates: `${AT}/ca.pem`,
  clientCertificate: `${AT}/client.pem`,
  privateKey: `${AT}/client.key`,
};

/** A server that only takes clients with a certificate, and answers with its name. */
async function startServer(t: Test): Promise<number> {
  const options = { cert: server.certPem, key: server.keyPem, ca: world.caPem, requestCert: true };
  const made = https.createServer(options, (request, response) =>
    // A connection for each: one that is kept keeps its certificate.
    response
      .writeHead(200, { connection: 'close' })
      .end(String((request.socket as TLSSocket).getPeerCertificate().subject?.CN)),
  );
  made.on('tlsClientError', () => {});
  t.teardown(() => {
    made.closeAllConnections();
    made.close();
  });
  await new Promise<void>((resolve) => made.listen(0, '127.0.0.1', resolve));
  return (made.address() as AddressInfo).port;
}

function clusterTo(port: number): XdsResource {
  const from = {
    tls: TLS,
    host: 'x.example',
    subjectAltNames: [],
    carries: 'http',
    http2: false,
    minVersion: 'TLSv1_2',
  } as const;
  const address = { socket_address: { address: '127.0.0.1', port_value: port } };
  const body = {
    name: 'x',
    type: 'STATIC',
    connect_timeout: '1s',
    load_assignment: { cluster_name: 'x', endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] },
    transport_socket: originationSocket(from).socket,
  };
  return { type: 'cluster', name: 'x', body: body as unknown as Json, origins: [] };
}

test('files that are not there hold nothing up and connect to nobody; they come, change and go on disk', async (t) => {
  const lab = await openLab((fn) => t.teardown(fn));
  const folder = t.testdir();
  const clock = createFakeClock();
  const files = createTlsFiles({ folder, clock, log: silentLogger });
  const names = Object.values(fileSecrets(TLS));
  files.want(new Map(names.map((name) => [name, ['DestinationRule/a/b']])));
  const serve = () => {
    for (const name of names) {
      const material = files.get(name);
      if (material !== undefined) lab.secrets.set(name, material);
    }
    lab.rotated();
  };
  files.onChange(serve);
  await files.start(new AbortController().signal);
  t.teardown(() => files.stop());
  const upstream = await startServer(t);
  const [port = 0] = await freePorts(1);
  await lab.startAgent();
  serve();
  lab.set(clusterTo(upstream), listener('l', port, { route: 'r' }), route('r', 'x'));
  lab.startEnvoy();
  const started = performance.now();
  await lab.acknowledged('a cluster without its files');
  t.ok(performance.now() - started < DEADLINE_MS, 'far below the 15 s that Envoy waits for a secret');
  const get = () => fetchText({ host: '127.0.0.1', port, headers: { host: 'x.example' } }).catch(String);
  t.notMatch(await get(), /^client/);
  t.equal(files.problems().length, 2);

  const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
  const client = (name: string) => {
    const { certPem, keyPem } = world.issue({ dnsNames: [name] });
    write('client.pem', certPem);
    write('client.key', keyPem);
  };
  client('client-1');
  await clock.advance(5000);
  t.notMatch(await get(), /^client/, 'without a CA nobody is believed');
  write('ca.pem', world.caPem);
  await clock.advance(5000);
  await until(async () => (await get()) === 'client-1', 'the files to be used', DEADLINE_MS);
  client('client-2');
  await clock.advance(5000);
  await until(async () => (await get()) === 'client-2', 'the new certificate', DEADLINE_MS);
  write('ca.pem', createWorldCa('another').caPem);
  await clock.advance(5000);
  await until(async () => !(await get()).startsWith('client'), 'the server not to be believed any more', DEADLINE_MS);
  rmSync(join(folder, 'ca.pem'));
  await clock.advance(5000);
  t.match(files.problems(), [/ca.pem: there is no such file/]);
  t.same(lab.xds().status().refused, []);
  t.notMatch(lab.envoyLog(), /PRIVATE KEY/);
});
