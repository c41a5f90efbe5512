import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import t from 'tap';
import { OPERATOR_API } from '../../../../api/http/operator-api.ts';
import { initAuthority, loadAuthority } from '../../../../controller/ca/authority.ts';
import { parseControllerConfig } from '../../../../controller/config.ts';
import { startController } from '../../../../controller/controller.ts';
import { initMesh } from '../../../../controller/init.ts';
import { createRenewal, issueServerTls } from '../../../../controller/server-certificate.ts';
import { statePaths } from '../../../../controller/state-dir.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';

const DAY_MS = 86_400_000;

t.test('it names the replica, what hosts reach it on, and loopback', async (t) => {
  const now = Date.now();
  const dir = join(t.testdir(), 'ca');
  await initAuthority(dir, 'mesh.test', 'c1', now);
  const authority = await loadAuthority(dir, 'mesh.test', 'c1');
  const config = { addresses: ['10.0.0.1', 'fd00::1', '127.0.0.1'], dnsNames: ['c1.example.com'] };
  const { cert } = issueServerTls(authority, config, now);
  const leaf = new X509Certificate(cert);
  t.equal(
    leaf.subjectAltName,
    'URI:spiffe://mesh.test/controller/c1, DNS:c1.example.com, DNS:localhost, IP Address:10.0.0.1, IP Address:FD00:0:0:0:0:0:0:1, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1',
  );
  for (const address of ['10.0.0.1', 'fd00::1', '::1']) t.ok(leaf.checkIP(address), address);
  t.equal(cert.match(/BEGIN CERTIFICATE/g)?.length, 2, 'the intermediate goes along');
});

t.test('renewal: when 30 days old, after a failure the next day, also with a clock that went back', async (t) => {
  const clock = createFakeClock();
  let made = 0;
  let broken = false;
  const renew = () => {
    if (broken) throw new Error('the disk is full');
    made++;
  };
  const part = createRenewal({ clock, log: silentLogger, renew });
  await part.start(new AbortController().signal);
  await clock.advance(29 * DAY_MS);
  t.equal(made, 0);
  await clock.advance(DAY_MS);
  t.equal(made, 1);
  broken = true;
  await clock.advance(30 * DAY_MS);
  t.equal(made, 1);
  broken = false;
  await clock.advance(DAY_MS);
  t.equal(made, 2, 'tried again');
  clock.set(clock.now() - 365 * DAY_MS);
  await clock.advance(DAY_MS);
  t.equal(made, 3);
  await part.stop();
  await clock.advance(100 * DAY_MS);
  t.equal(made, 3, 'stopped');
});

/** The certificate that a server shows, and its answer. */
function get(port: number, path: string, options: object): Promise<{ serial: string; status: number }> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path, agent: false, ...options }, (response) => {
      const serial = (response.socket as TLSSocket).getPeerX509Certificate()?.serialNumber ?? '';
      response.resume().once('end', () => resolve({ serial, status: response.statusCode ?? 0 }));
    });
    sent.once('error', reject).end();
  });
}

async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()];
  const ports = await Promise.all(
    servers.map(
      (one) =>
        new Promise<number>((resolve) =>
          one.listen(0, '127.0.0.1', () => resolve((one.address() as { port: number }).port)),
        ),
    ),
  );
  await Promise.all(servers.map((one) => new Promise((resolve) => one.close(resolve))));
  return ports as [number, number];
}

t.test('a running controller shows a new one on both ports, and still knows operators by certificate', async (t) => {
  const dir = t.testdir();
  const [rest, agents] = await freePorts();
  const config = parseControllerConfig(
    `{trustDomain: mesh.test, addresses: [127.0.0.1], listen: 127.0.0.1, stateDir: ${dir}, ports: {rest: ${rest}, agents: ${agents}}}`,
    'c.yaml',
  );
  const clock = createFakeClock(Date.now() - 40 * DAY_MS); // what is made 31 days later is valid now
  await initMesh({ config, clock });
  const paths = statePaths(dir);
  const { chainPem, keyPem } = await loadAuthority(paths.ca, 'mesh.test', 'c1').then((authority) =>
    authority.issueOperator('admin', clock.now()),
  );
  const controller = await startController(config, { clock, random: () => 0.5, log: silentLogger });
  t.teardown(() => controller.stop());
  const ca = await readFile(paths.caFile);
  const look = async () => ({
    rest: await get(rest, OPERATOR_API.status, { ca, cert: chainPem, key: keyPem }),
    agents: await get(agents, '/mesh/v1/root/1', { ca }),
    anonymous: await get(rest, OPERATOR_API.status, { ca }),
  });
  const before = await look();
  t.match(before, { rest: { status: 200 }, agents: { status: 200 }, anonymous: { status: 401 } });
  clock.set(clock.now() + 31 * DAY_MS);
  await clock.advance(DAY_MS);
  const after = await look();
  t.match(after, { rest: { status: 200 }, agents: { status: 200 }, anonymous: { status: 401 } });
  t.not(after.rest.serial, before.rest.serial);
  t.not(after.agents.serial, before.agents.serial);
});
