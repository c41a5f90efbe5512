import { chmodSync, existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { createGatewaySecrets } from '../../../../agent/identity/gateway-secrets.ts';
import type { SecretAnswer, SecretsRequest, SecretsResponse } from '../../../../api/http/agent-api.ts';
import { caSdsName, credentialSdsName } from '../../../../api/resources/secret-data.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';
import { until } from '../../../fakes/until.ts';

const NAME = 'edge/web';
const CERT = credentialSdsName('edge', 'web');
const CA = caSdsName('edge', 'web');

/** A controller that holds questions until something differs, as the real one does. */
function controller() {
  const secrets = new Map<string, SecretAnswer>();
  const asked: SecretsRequest[] = [];
  let down = false;
  const wakes = new Set<() => void>();
  const wake = () => {
    for (const one of [...wakes]) one();
  };
  const differing = (request: SecretsRequest): SecretAnswer[] =>
    request.secrets.flatMap(({ name, have }) => {
      const one = secrets.get(name) ?? { name, code: 'SECRET_UNKNOWN', message: `there is no Secret ${name}` };
      return have === ('version' in one ? one.version : one.code) ? [] : [one];
    });
  return {
    asked,
    put(name: string, version: string, parts: object) {
      secrets.set(name, { name, version, parts });
      wake();
    },
    remove(name: string) {
      secrets.delete(name);
      wake();
    },
    setDown(now: boolean) {
      down = now;
      wake();
    },
    async fetch(request: SecretsRequest, signal: AbortSignal): Promise<SecretsResponse> {
      asked.push(request);
      for (;;) {
        if (down) throw new Error('down');
        const found = differing(request);
        if (found.length > 0) return { secrets: found };
        await new Promise<void>((resolve, reject) => {
          const done = () => {
            wakes.delete(done);
            resolve();
          };
          wakes.add(done);
          signal.addEventListener('abort', () => reject(signal.reason), { once: true });
        });
      }
    },
  };
}

async function start(t: Test, dir: string, from: ReturnType<typeof controller>) {
  const clock = createFakeClock();
  const secrets = createGatewaySecrets({
    dir,
    fetch: (request, signal) => from.fetch(request, signal),
    clock,
    random: () => 0,
    log: silentLogger,
  });
  let changes = 0;
  secrets.onChange(() => {
    changes += 1;
  });
  await secrets.start(new AbortController().signal);
  t.teardown(() => secrets.stop());
  return { secrets, clock, changes: () => changes };
}

const pair = (n: number) => ({ certificate: `crt${n}`, privateKey: `key${n}` });

test('fetched, kept 0600, rotated, served on after a deletion, dropped when no listener refers to it', async (t) => {
  const dir = join(t.testdir(), 'secrets');
  const from = controller();
  from.put(NAME, 'v1', pair(1));
  const { secrets, clock, changes } = await start(t, dir, from);
  t.equal(secrets.get(CERT), undefined);
  secrets.want(['spiffe://mesh.test/ns/a/sa/b', 'ROOTCA', CERT]);
  await until(() => secrets.get(CERT) !== undefined, 'the Secret to come');
  t.same(secrets.get(CERT), { certificateChainPem: 'crt1', privateKeyPem: 'key1' });
  const file = join(dir, 'edge_web.json');
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.same(from.asked[0]?.secrets, [{ name: NAME, have: '' }], 'nothing else is asked for');
  from.put(NAME, 'v2', pair(2));
  await until(() => changes() === 2, 'the rotation');
  t.match(secrets.get(CERT), { privateKeyPem: 'key2' });
  t.same(secrets.problems(), []);
  from.remove(NAME);
  await until(() => secrets.problems().length === 1, 'the deletion to be told');
  t.match(secrets.get(CERT), { privateKeyPem: 'key2' });
  t.match(secrets.problems(), [/there is no Secret edge\/web; its last version is served on/]);
  await clock.advance(2000);
  secrets.want([]);
  t.equal(secrets.get(CERT), undefined);
  await until(() => !existsSync(file), 'the file to go');
});

test('what was kept serves at once after a start without a controller; the controller is asked again and again', async (t) => {
  const dir = join(t.testdir(), 'secrets');
  const from = controller();
  from.put(NAME, 'v1', pair(1));
  const first = await start(t, dir, from);
  first.secrets.want([CERT]);
  await until(() => first.secrets.get(CERT) !== undefined, 'the Secret to come');
  await first.secrets.stop();
  from.setDown(true);
  const { secrets, clock } = await start(t, dir, from);
  secrets.want([CERT]);
  t.match(secrets.get(CERT), { privateKeyPem: 'key1' });
  from.put(NAME, 'v3', pair(3));
  await clock.advance(1000);
  from.setDown(false);
  await clock.advance(60_000);
  await until(() => JSON.stringify(secrets.get(CERT))?.includes('key3'), 'the new one');
});

test('a file that others may read is dropped', async (t) => {
  const dir = join(t.testdir(), 'secrets');
  const from = controller();
  from.put(NAME, 'v1', pair(1));
  const first = await start(t, dir, from);
  first.secrets.want([CERT]);
  await until(() => first.secrets.get(CERT) !== undefined, 'the Secret to come');
  await first.secrets.stop();
  const file = join(dir, 'edge_web.json');
  t.match(readFileSync(file, 'utf8'), /key1/);
  chmodSync(file, 0o644);
  from.setDown(true);
  const { secrets } = await start(t, dir, from);
  secrets.want([CERT]);
  t.equal(secrets.get(CERT), undefined);
  t.notOk(existsSync(file));
  await until(() => secrets.problems().some((line) => line.includes('down')), 'the reason');
});

test('CAs: of NAME-cacert, else of NAME; with a revocation list', async (t) => {
  const from = controller();
  from.put(NAME, 'v1', { ...pair(1), ca: 'own' });
  const { secrets } = await start(t, join(t.testdir(), 'secrets'), from);
  secrets.want([CA, CERT]);
  await until(() => secrets.get(CA) !== undefined, 'the CA');
  t.same(secrets.get(CA), { trustedCaPem: 'own' });
  t.same(secrets.problems(), [], 'NAME-cacert need not be there');
  from.put(`${NAME}-cacert`, 'v1', { ca: 'apart', crl: 'list' });
  await until(() => JSON.stringify(secrets.get(CA)).includes('apart'), 'the other CA');
  t.same(secrets.get(CA), { trustedCaPem: 'apart', validation: { crl: { inline_string: 'list' } } });
});

test('a name that is none is not asked for, and said', async (t) => {
  const from = controller();
  from.put(NAME, 'v1', pair(1));
  const { secrets } = await start(t, join(t.testdir(), 'secrets'), from);
  secrets.want([CERT, credentialSdsName('edge', 'No_Name')]);
  await until(() => secrets.get(CERT) !== undefined, 'the Secret to come');
  t.same(
    from.asked.at(-1)?.secrets.map((one) => one.name),
    [NAME],
  );
  t.match(secrets.problems(), [/kubernetes:\/\/edge\/No_Name is not here/]);
});
