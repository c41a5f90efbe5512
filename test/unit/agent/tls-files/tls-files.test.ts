import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { createTlsFiles } from '../../../../agent/tls-files/tls-files.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { createWorldCa } from '../../../builders/server-certificate.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';

const world = createWorldCa();
const first = world.issue({ dnsNames: ['first'] });
const second = world.issue({ dnsNames: ['second'] });
const CRL = '-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n';
const RULE = ['DestinationRule/default/x'];
const AT = '/etc/mesh/tls';

/** A host's folder `tls` with good files, a folder beside it, and the room. `name` is asked for by RULE. */
function host(t: Test, options: { folder?: string; systemRoots?: string[] } = {}) {
  const dir = t.testdir({
    tls: { 'ca.pem': world.caPem, 'a.pem': first.certPem, 'a.key': first.keyPem, 'b.key': second.keyPem, shop: {} },
    outside: { 'secret.pem': world.caPem },
  });
  const clock = createFakeClock();
  const files = createTlsFiles({ folder: join(dir, 'tls'), clock, log: silentLogger, ...options });
  const ask = (name: string) => {
    files.want(new Map([[name, RULE]]));
    return files.get(name);
  };
  return { dir, tls: join(dir, 'tls'), clock, files, ask };
}

test('what is in the folder is served, by the path that objects have', async (t) => {
  const { ask, files, tls } = host(t);
  writeFileSync(join(tls, 'crl.pem'), CRL);
  mkdirSync(join(tls, 'shop/sub'), { recursive: true });
  writeFileSync(join(tls, 'shop/sub/ca.pem'), world.caPem);
  symlinkSync('ca.pem', join(tls, 'link.pem'));
  t.same(ask(`file-root:${AT}/ca.pem`), { trustedCaPem: world.caPem });
  t.same(ask(`file-root:${AT}/shop/sub/ca.pem`), { trustedCaPem: world.caPem });
  t.same(ask(`file-root:${AT}/link.pem`), { trustedCaPem: world.caPem }, 'a link within the folder');
  t.same(ask(`file-root:${AT}/ca.pem~${AT}/crl.pem`), {
    trustedCaPem: world.caPem,
    validation: { crl: { inline_string: CRL } },
  });
  t.same(ask(`file-cert:${AT}/a.pem~${AT}/a.key`), {
    certificateChainPem: first.certPem,
    privateKeyPem: first.keyPem,
  });
  t.same(files.problems(), []);
});

test('no file outside the folder, however it is named', async (t) => {
  const { ask, files, tls, dir } = host(t);
  symlinkSync('../outside/secret.pem', join(tls, 'out.pem'));
  symlinkSync('../outside', join(tls, 'way'));
  symlinkSync(join(dir, 'outside/secret.pem'), join(tls, 'absolute.pem'));
  mkdirSync(`${tls}-other`);
  writeFileSync(join(`${tls}-other`, 'x.pem'), world.caPem);
  symlinkSync('../tls-other/x.pem', join(tls, 'sibling.pem'));
  const rows: readonly (readonly [string, RegExp])[] = [
    [`${AT}/out.pem`, /out.pem: it is a link out of/],
    [`${AT}/way/secret.pem`, /it is a link out of/],
    [`${AT}/absolute.pem`, /it is a link out of/],
    [`${AT}/sibling.pem`, /it is a link out of/],
    [`${AT}/../outside/secret.pem`, /allows no such file/],
    [`${AT}//a.pem`, /allows no such file/],
    [`${AT}/./a.pem`, /allows no such file/],
    ['/etc/passwd', /allows no such file/],
    [join(dir, 'outside/secret.pem'), /allows no such file/],
    [`${AT}`, /allows no such file/],
  ];
  for (const [path, why] of rows) {
    const material = ask(`file-root:${path}`) as { trustedCaPem: string };
    t.not(material.trustedCaPem, world.caPem, path);
    t.match(material.trustedCaPem, /BEGIN CERTIFICATE/, `${path}: a CA of nobody stands in`);
    t.match(files.problems(), [why], path);
    t.match(files.problems(), [/^DestinationRule\/default\/x: /]);
  }
});

test('a file that is missing, broken or not its certificate’s key is said with object and path; no connection comes of it', async (t) => {
  const { ask, files, tls } = host(t);
  writeFileSync(join(tls, 'junk.pem'), 'junk');
  writeFileSync(join(tls, 'big.pem'), Buffer.alloc(5 << 20));
  execFileSync('mkfifo', [join(tls, 'pipe.pem')]);
  const rows: readonly (readonly [string, RegExp, boolean])[] = [
    [`file-root:${AT}/none.pem`, /none.pem: there is no such file/, true],
    [`file-root:${AT}/junk.pem`, /junk.pem: no certificate in PEM/, true],
    [`file-root:${AT}/big.pem`, /more than 4 MiB/, true],
    [`file-root:${AT}/pipe.pem`, /not a regular file/, true],
    [`file-root:${AT}/shop`, /not a regular file/, true],
    [`file-root:${AT}/ca.pem~${AT}/junk.pem`, /no revocation list/, true],
    [`file-cert:${AT}/a.pem~${AT}/none.key`, /none.key: there is no such file/, false],
    [`file-cert:${AT}/a.pem~${AT}/b.key`, /b.key: not the key of the certificate/, false],
    [`file-cert:${AT}/a.pem~${AT}/ca.pem`, /no private key/, false],
    [`file-cert:${AT}/junk.pem~${AT}/a.key`, /no certificate in PEM/, false],
  ];
  for (const [name, why, standIn] of rows) {
    const material = ask(name);
    t.equal(material !== undefined, standIn, name);
    if (material !== undefined && 'trustedCaPem' in material) t.not(material.trustedCaPem, world.caPem);
    t.match(files.problems(), [why], name);
  }
  const lines = JSON.stringify(files.problems());
  t.notMatch(lines, /PRIVATE KEY/, 'no line shows a key');
});

test('a change is noticed; a pair that is half replaced keeps the old one; a file that appears later comes into use', async (t) => {
  const { files, tls, clock } = host(t);
  const pair = `file-cert:${AT}/a.pem~${AT}/a.key`;
  const late = `file-root:${AT}/late.pem`;
  files.want(
    new Map([
      [pair, RULE],
      [late, ['DestinationRule/default/y']],
    ]),
  );
  let changes = 0;
  files.onChange(() => changes++);
  await files.start(new AbortController().signal);
  t.teardown(() => files.stop());
  await clock.advance(20_000);
  t.equal(changes, 0, 'nothing changed, nothing is said');
  writeFileSync(join(tls, 'new.pem'), second.certPem);
  renameSync(join(tls, 'new.pem'), join(tls, 'a.pem'));
  await clock.advance(5000);
  t.match(files.get(pair), { certificateChainPem: first.certPem }, 'its key is not there yet');
  t.match(files.problems()[0], /not the key/);
  writeFileSync(join(tls, 'a.key'), second.keyPem);
  writeFileSync(join(tls, 'late.pem'), world.caPem);
  await clock.advance(5000);
  t.same(files.get(pair), { certificateChainPem: second.certPem, privateKeyPem: second.keyPem });
  t.same(files.get(late), { trustedCaPem: world.caPem });
  t.same(files.problems(), []);
  t.equal(changes, 2);
  rmSync(join(tls, 'late.pem'));
  await clock.advance(5000);
  t.match(files.problems(), [/late.pem: there is no such file/]);
  t.same(files.get(late), { trustedCaPem: world.caPem }, 'what Envoy holds goes on');
  files.want(new Map());
  t.equal(files.get(pair), undefined, 'what nobody names is not served');
  t.same(files.problems(), []);
});

test('the system’s CA bundle: the first that exists; none: nobody is trusted', async (t) => {
  const { dir } = host(t);
  const bundle = join(dir, 'tls', 'ca.pem');
  const some = host(t, { systemRoots: ['/nowhere/a', bundle] });
  writeFileSync(bundle, world.caPem);
  t.same(some.ask('file-root:system'), { trustedCaPem: world.caPem });
  const none = host(t, { systemRoots: ['/nowhere/a'] });
  t.not((none.ask('file-root:system') as { trustedCaPem: string }).trustedCaPem, world.caPem);
  t.match(none.files.problems(), [/the system’s CA bundle \(\/nowhere\/a\): there is no such file/]);
});

test('a host whose agent.yaml allows no folder reads nothing', async (t) => {
  const { ask, files } = host(t, { folder: '' });
  t.not((ask(`file-root:${AT}/ca.pem`) as { trustedCaPem: string }).trustedCaPem, world.caPem);
  t.match(files.problems(), [/agent.yaml allows no such file/]);
});

test('names of other sources are not for this room', async (t) => {
  const { ask, files } = host(t);
  for (const name of ['ROOTCA', 'spiffe://x/ns/a/sa/b', 'kubernetes://a/b']) t.equal(ask(name), undefined);
  t.same(files.problems(), []);
});

test('until a Secret is here, and where a client may have none, a CA of nobody stands in for its CA', async (t) => {
  const { ask, files } = host(t);
  for (const name of ['kubernetes://shop/client-cacert', 'file-root:nobody'])
    t.match((ask(name) as { trustedCaPem: string }).trustedCaPem, /BEGIN CERTIFICATE/, name);
  t.equal(ask('kubernetes://shop/client'), undefined, 'but not for a certificate');
  t.same(files.problems(), []);
});
