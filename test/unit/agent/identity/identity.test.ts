import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { createIdentity, type Secret } from '../../../../agent/identity/identity.ts';
import { expiryProblem, renewAt } from '../../../../agent/identity/rotation.ts';
import { loadSvid, saveSvid } from '../../../../agent/identity/svid-file.ts';
import { MeshError } from '../../../../api/errors.ts';
import type { SvidRequest, SvidResponse } from '../../../../api/http/agent-api.ts';
import { parseCsr } from '../../../../api/identity/x509.ts';
import { createAuthority } from '../../../../controller/ca/authority.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { createTestCa } from '../../../builders/test-ca.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';
import { until } from '../../../fakes/until.ts';

const DAY = 86_400_000;
const TD = 'mesh.test';

async function setup(t: { teardown(fn: () => void): void }) {
  const dir = mkdtempSync(join(tmpdir(), 'identity-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const clock = createFakeClock(Date.now());
  const ca = createTestCa(TD);
  const own = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  // The authority under test is the real one, over a self-made intermediate.
  const { issueCertificate } = await import('../../../../api/identity/x509.ts');
  const intermediatePem = issueCertificate({
    commonName: 'replica',
    publicKey: own.publicKey,
    issuer: { commonName: 'replica', privateKey: own.privateKey },
    serial: Uint8Array.of(1),
    notBefore: clock.now() - DAY,
    notAfter: clock.now() + 3650 * DAY,
    ca: { pathLength: 0 },
  });
  const authority = createAuthority({
    trustDomain: TD,
    replica: 'c1',
    rootPem: ca.rootPem,
    intermediatePem,
    privateKey: own.privateKey,
  });
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  await saveSvid(join(dir, 'host.pem'), key.privateKey, authority.issueHost('a', key.publicKey, clock.now()));
  const asked: SvidRequest[] = [];
  const server = {
    asked,
    down: false,
    answer: (request: SvidRequest): SvidResponse => ({
      results: request.requests.map((r) => ({
        svid:
          r.kind === 'host'
            ? authority.issueHost('a', parseCsr(r.csr), clock.now())
            : authority.issueWorkload(
                `spiffe://${TD}/ns/default/sa/${r.group?.split('/')[1]}`,
                'a',
                parseCsr(r.csr),
                clock.now(),
              ),
      })),
    }),
  };
  const create = () => {
    const identity = createIdentity({
      dir,
      host: 'a',
      trustDomain: TD,
      requestSvids: async (request) => {
        asked.push(request);
        if (server.down) throw new MeshError('UNREACHABLE', 'no controller');
        return server.answer(request);
      },
      trusted: () => [intermediatePem],
      clock,
      random: () => 0.5,
      log: silentLogger,
    });
    const changed: string[] = [];
    identity.onChange((names) => changed.push(...names));
    return { identity, changed };
  };
  return { dir, clock, server, create, authority };
}

const WEB = { group: 'default/web', spiffeId: `spiffe://${TD}/ns/default/sa/web` };
const API = { group: 'default/api', spiffeId: `spiffe://${TD}/ns/default/sa/api` };
const abort = () => new AbortController().signal;

t.test('SVIDs are fetched, kept over a restart, renewed after a day', async (t) => {
  const { dir, clock, server, create } = await setup(t);
  const { identity, changed } = create();
  await identity.start(abort());
  identity.setWorkloads([WEB, API]);
  await until(() => changed.length === 2, 'both SVIDs');
  t.same(changed, [WEB.spiffeId, API.spiffeId]);
  const secret = identity.secret(WEB.spiffeId) as Extract<Secret, { privateKeyPem: string }>;
  t.ok(createPrivateKey(secret.privateKeyPem));
  t.same(identity.secret('spiffe://mesh.test/ns/default/sa/other'), undefined);
  t.match(identity.secret('ROOTCA'), { trustedCaPem: /BEGIN CERTIFICATE/ });
  for (const file of readdirSync(join(dir, 'workloads')))
    t.equal(statSync(join(dir, 'workloads', file)).mode & 0o777, 0o600);
  await identity.stop();

  server.asked.length = 0;
  const second = create();
  await second.identity.start(abort());
  second.identity.setWorkloads([WEB, API]);
  await clock.advance(1000);
  t.same(server.asked, [], 'nothing is asked for while the stored ones are young');
  t.same(second.identity.secret(WEB.spiffeId), secret, 'served with every controller dead');
  clock.set(clock.now() + 1.2 * DAY);
  await until(async () => {
    await clock.advance(60_000);
    return second.changed.length === 3;
  }, 'renewal');
  t.same(second.changed, [WEB.spiffeId, API.spiffeId, 'spiffe://mesh.test/host/a'], 'the host SVID is told of too');
  t.same(
    server.asked.flatMap((r) => r.requests.map((x) => x.group ?? 'host')).sort(),
    ['default/api', 'default/web', 'host'],
    'each renewed once a day',
  );
  t.not((second.identity.secret(WEB.spiffeId) as typeof secret).privateKeyPem, secret.privateKeyPem, 'with a new key');
  await second.identity.stop();
});

t.test('an SVID for another identity, host or key is refused', async (t) => {
  const { clock, server, create, authority } = await setup(t);
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
  const answers: Record<string, (csr: string) => string> = {
    identity: (csr) => authority.issueWorkload(API.spiffeId, 'a', parseCsr(csr), clock.now()),
    host: (csr) => authority.issueWorkload(WEB.spiffeId, 'b', parseCsr(csr), clock.now()),
    key: () => authority.issueWorkload(WEB.spiffeId, 'a', other, clock.now()),
    issuer: () => createTestCa(TD).workload('default', 'web', 'a').chainPem,
    junk: () => 'junk',
  };
  for (const [name, svid] of Object.entries(answers)) {
    server.answer = (request) => ({ results: request.requests.map((r) => ({ svid: svid(r.csr) })) });
    const { identity } = create();
    await identity.start(abort());
    identity.setWorkloads([WEB]);
    await until(() => identity.status().problems.length === 2, name);
    t.equal(identity.secret(WEB.spiffeId), undefined, name);
    t.match(identity.status().problems, [/no SVID for default\/web yet/, /.+/], name);
    await identity.stop();
  }
});

t.test('with controllers dead it tries again and alarms before the end', async (t) => {
  const { clock, server, create } = await setup(t);
  const { identity } = create();
  await identity.start(abort());
  identity.setWorkloads([WEB]);
  await until(() => identity.secret(WEB.spiffeId), 'the SVID');
  server.down = true;
  clock.set(clock.now() + 5 * DAY);
  await clock.advance(3_600_000);
  t.same(identity.status().problems, ['no controller']);
  t.ok(server.asked.length > 60 && server.asked.length < 300, `bounded retries in an hour: ${server.asked.length}`);
  clock.set(clock.now() + 6.5 * DAY);
  t.match(identity.status().problems.join(), /SVID of default\/web ends in \d+ h/);
  clock.set(clock.now() + 3 * DAY);
  t.match(identity.status().problems.join(), /SVID of default\/web expired/);
  server.down = false;
  await clock.advance(60_000);
  await until(() => identity.status().problems.length === 0, 'recovery');
  await identity.stop();
});

t.test('files: not joined, readable by others, key of another', async (t) => {
  const { dir, create } = await setup(t);
  chmodSync(join(dir, 'host.pem'), 0o640);
  await t.rejects(create().identity.start(abort()), { code: 'IDENTITY_STATE_BAD', message: /chmod 600/ });
  rmSync(join(dir, 'host.pem'));
  await t.rejects(create().identity.start(abort()), { code: 'NOT_JOINED', message: /mesh-agent join/ });
  const ca = createTestCa(TD);
  await saveSvid(join(dir, 'x.pem'), ca.host('a').privateKey, ca.host('a').chainPem);
  await t.rejects(loadSvid(join(dir, 'x.pem')), { code: 'IDENTITY_STATE_BAD', message: /do not belong together/ });
  t.match(readFileSync(join(dir, 'x.pem'), 'utf8'), /PRIVATE KEY/);
});

t.test('when to renew and when to alarm', async (t) => {
  const validity = (days: number) => ({ issuedAt: 0, notAfter: days * DAY });
  t.equal(
    renewAt(validity(14), () => 0.5),
    DAY,
  );
  t.equal(
    renewAt(validity(30), () => 0),
    0.9 * DAY,
  );
  t.equal(
    renewAt({ issuedAt: 0, notAfter: 60_000 }, () => 0.5),
    20_000,
  );
  t.equal(expiryProblem('x', validity(14), 8 * DAY), undefined);
  t.match(expiryProblem('x', validity(14), 11.5 * DAY), /ends in 60 h/);
  t.match(expiryProblem('x', validity(30), 25.5 * DAY), /ends in 108 h/);
});
