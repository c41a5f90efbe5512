import { execFileSync } from 'node:child_process';
import { createPublicKey, generateKeyPairSync, type X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parseSpiffeId } from '../../../../api/identity/spiffe-id.ts';
import { createCsr, parseChain, parseCsr, subjectAltNames, verifySvid } from '../../../../api/identity/x509.ts';
import { createTestCa } from '../../../builders/test-ca.ts';

const DAY = 86_400_000;

t.test('a CSR carries its key and proves it', async (t) => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const csr = createCsr(privateKey);
  t.ok(parseCsr(csr).equals(publicKey));
  t.match(
    execFileSync('openssl', ['req', '-verify', '-noout', '-text'], { input: csr, stdio: 'pipe' }).toString(),
    /prime256v1/,
  );

  const other = createCsr(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
  const bytes = Buffer.from(csr.replace(/-----[A-Z ]+-----/g, ''), 'base64');
  bytes[bytes.length - 3] = (bytes.at(-3) ?? 0) ^ 1;
  const forged = `-----BEGIN CERTIFICATE REQUEST-----\n${bytes.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
  const p384 = createCsr(generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey);
  for (const [name, pem] of Object.entries({
    forged,
    p384,
    two: csr + other,
    empty: '',
    junk: 'x'.repeat(100),
    long: csr + ' '.repeat(5000),
  })) {
    t.throws(() => parseCsr(pem), { code: 'CSR_INVALID' }, name);
  }
});

t.test('certificates satisfy openssl with the root, and Node with the intermediate alone', async (t) => {
  const ca = createTestCa();
  const svid = ca.workload('default', 'reviews', 'host-b');
  const folder = mkdtempSync(join(tmpdir(), 'x509-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  for (const [file, text] of Object.entries({
    root: ca.rootPem,
    middle: ca.intermediatePem,
    leaf: svid.leaf.toString(),
  })) {
    writeFileSync(join(folder, file), text);
  }
  const args = [
    'verify',
    '-x509_strict',
    '-CAfile',
    join(folder, 'root'),
    '-untrusted',
    join(folder, 'middle'),
    join(folder, 'leaf'),
  ];
  t.match(execFileSync('openssl', args).toString(), /: OK/);
  const text = execFileSync('openssl', ['x509', '-noout', '-text', '-in', join(folder, 'leaf')]).toString();
  t.match(
    text,
    /Subject Alternative Name: critical\s+URI:spiffe:\/\/mesh.test\/ns\/default\/sa\/reviews, DNS:host-b.hosts.mesh.test/,
  );
  t.match(text, /Key Usage: critical\s+Digital Signature\n/);
  t.same(subjectAltNames(svid.leaf.raw), {
    uris: ['spiffe://mesh.test/ns/default/sa/reviews'],
    dnsNames: ['host-b.hosts.mesh.test'],
  });
  const seen = verifySvid(svid.leaf, { trusted: [ca.intermediate], trustDomain: 'mesh.test', now: Date.now() });
  t.equal(seen.hostId, 'host-b');
  t.same(seen.id, parseSpiffeId('spiffe://mesh.test/ns/default/sa/reviews'));
  t.equal(parseChain(svid.chainPem).length, 2);
  t.ok(createPublicKey(svid.privateKey).equals(seen.publicKey));
  const server = ca.server(['ctl'], ['10.0.0.1', 'fd00::1:2', '::1']);
  t.match(server.leaf.subjectAltName, /IP Address:10.0.0.1, IP Address:FD00:0:0:0:0:0:1:2, IP Address:0:0:0:0:0:0:0:1/);
});

t.test('what is refused', async (t) => {
  const ca = createTestCa();
  const foreign = createTestCa();
  const elsewhere = createTestCa('other.test');
  const now = Date.now();
  const cases: [string, X509Certificate, string][] = [
    ['another CA', foreign.host('a').leaf, 'SVID_UNTRUSTED'],
    ['expired', ca.host('a', { notBefore: now - 2 * DAY, notAfter: now - DAY }).leaf, 'SVID_EXPIRED'],
    ['not yet valid', ca.host('a', { notBefore: now + DAY }).leaf, 'SVID_NOT_YET_VALID'],
    ['no URI', ca.server(['a.hosts.mesh.test'], []).leaf, 'SVID_INVALID'],
    ['a CA', ca.intermediate, 'SVID_UNTRUSTED'],
  ];
  for (const [name, leaf, code] of cases) {
    t.throws(() => verifySvid(leaf, { trusted: [ca.intermediate], trustDomain: 'mesh.test', now }), { code }, name);
  }
  const other = elsewhere.host('a').leaf;
  t.throws(
    () => verifySvid(other, { trusted: [elsewhere.intermediate], trustDomain: 'mesh.test', now }),
    { code: 'SVID_UNTRUSTED' },
    'trust domain',
  );
  const late = ca.host('a', { notBefore: now - 2 * DAY, notAfter: now - DAY }).leaf;
  t.equal(
    verifySvid(late, { trusted: [ca.intermediate], trustDomain: 'mesh.test', now, expiryGraceMs: 2 * DAY }).hostId,
    'a',
    'within the grace',
  );
  t.throws(() => parseChain('junk'), { code: 'SVID_INVALID' });
});

t.test('SPIFFE IDs of the mesh, and others', async (t) => {
  t.same(parseSpiffeId('spiffe://td.x/host/h1'), { kind: 'host', trustDomain: 'td.x', hostId: 'h1' });
  t.same(parseSpiffeId('spiffe://td/controller/c0'), { kind: 'controller', trustDomain: 'td', replica: 'c0' });
  for (const bad of [
    '',
    'spiffe://td',
    'http://td/host/a',
    'spiffe://td/host/A',
    'spiffe://td/host/a/b',
    'spiffe://td/ns/a/sa/',
    'spiffe://td/ns/a/sa/b/../c',
    'spiffe://T/host/a',
  ]) {
    t.throws(() => parseSpiffeId(bad), { code: 'SPIFFE_ID_INVALID' }, bad);
  }
});
