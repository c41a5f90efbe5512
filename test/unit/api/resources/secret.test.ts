import { generateKeyPairSync } from 'node:crypto';
import { test } from 'tap';
import { effectiveData, SECRET_MARKER, secretParts } from '../../../../api/resources/secret-data.ts';
import { validateObject } from '../../../../api/resources/validate.ts';
import { createWorldCa } from '../../../builders/server-certificate.ts';

const CA = createWorldCa();
const WEB = CA.issue({ dnsNames: ['web.example'] });
const OTHER = CA.issue({ dnsNames: ['other.example'] });
const NOW = Date.now();
const DAY_MS = 86_400_000;
const b64 = (text: string) => Buffer.from(text).toString('base64');
const pem = (type: 'rsa' | 'ed25519', bits = 1024) =>
  (type === 'rsa' ? generateKeyPairSync('rsa', { modulusLength: bits }) : generateKeyPairSync('ed25519')).privateKey
    .export({ format: 'pem', type: 'pkcs8' })
    .toString();

const secret = (fields: object) =>
  validateObject({ apiVersion: 'v1', kind: 'Secret', metadata: { name: 's' }, ...fields }, { now: NOW });
const tls = (crt: string, key: string, more: object = {}) =>
  secret({ type: 'kubernetes.io/tls', data: { 'tls.crt': b64(crt), 'tls.key': b64(key), ...more } });

const ACCEPTED: readonly [string, ReturnType<typeof secret>][] = [
  ['kubernetes.io/tls', tls(WEB.certPem, WEB.keyPem)],
  ['with a CA for clients', tls(WEB.certPem, WEB.keyPem, { 'ca.crt': b64(CA.caPem) })],
  ['a chain', tls(WEB.certPem + CA.caPem, WEB.keyPem)],
  ['Opaque, generic names', secret({ data: { cert: b64(WEB.certPem), key: b64(WEB.keyPem), cacert: b64(CA.caPem) } })],
  ['a CA alone', secret({ type: 'Opaque', data: { 'ca.crt': b64(CA.caPem) } })],
  ['stringData', secret({ stringData: { cert: WEB.certPem, key: WEB.keyPem } })],
];

for (const [name, result] of ACCEPTED)
  test(`taken: ${name}`, async (t) => {
    t.same(result.violations, []);
    t.same(result.warnings, []);
  });

const REFUSED: readonly [string, ReturnType<typeof secret>, string, RegExp][] = [
  ['another type', secret({ type: 'bootstrap.kubernetes.io/token', data: {} }), 'type', /not supported/],
  ['tls without its keys', secret({ type: 'kubernetes.io/tls', data: {} }), 'data[tls.crt]', /required/],
  ['nothing', secret({}), 'data', /needed/],
  ['a key nobody reads', secret({ stringData: { password: 'hunter2' } }), 'stringData.password', /no gateway reads/],
  ['a key that does not fit', tls(OTHER.certPem, WEB.keyPem), 'data[tls.crt]', /does not fit/],
  ['the leaf last', tls(CA.caPem + WEB.certPem, WEB.keyPem), 'data[tls.crt]', /must come first/],
  ['no certificate', tls('hello', WEB.keyPem), 'data[tls.crt]', /no certificate in PEM/],
  ['no key', tls(WEB.certPem, 'hello'), 'data[tls.key]', /no private key in PEM/],
  ['a certificate alone', secret({ data: { cert: b64(WEB.certPem) } }), 'data', /no private key beside/],
  ['a key alone', secret({ data: { key: b64(WEB.keyPem) } }), 'data', /no certificate beside/],
  ['a weak key', tls(WEB.certPem, pem('rsa')), 'data[tls.key]', /2048/],
  ['a curve that Envoy lacks', tls(WEB.certPem, pem('ed25519')), 'data[tls.key]', /P-256/],
  ['no base64', secret({ data: { cacert: '***' } }), 'data.cacert', /base64/],
  ['both names', secret({ data: { cacert: b64(CA.caPem), 'ca.crt': b64(CA.caPem) } }), 'data[ca.crt]', /both set/],
  ['the marker', tls(WEB.certPem, WEB.keyPem, { 'ca.crt': SECRET_MARKER }), 'data[ca.crt]', /what reads show/],
  ['a CRL that is none', tls(WEB.certPem, WEB.keyPem, { 'ca.crl': b64('x') }), 'data[ca.crl]', /revocation list/],
];

for (const [name, result, path, message] of REFUSED)
  test(`refused: ${name}`, async (t) => {
    t.notOk(result.object);
    t.ok(
      result.violations.some((one) => one.path === path && message.test(one.message)),
      JSON.stringify(result.violations),
    );
    t.notMatch(JSON.stringify(result.violations), /hunter2|BEGIN/, 'no value in a message');
  });

test('warnings of certificates that end', async (t) => {
  const ending = (notAfter: number) => CA.issue({ dnsNames: ['x'] }, { notAfter });
  const warningsOf = ({ certPem, keyPem }: typeof WEB) => tls(certPem, keyPem).warnings.map((one) => one.message);
  t.match(warningsOf(ending(NOW + 5.5 * DAY_MS)), [/ends in 6 days/]);
  t.match(warningsOf(CA.issue({ dnsNames: ['x'] }, { notBefore: NOW - 2 * DAY_MS, notAfter: NOW - DAY_MS })), [
    /expired/,
  ]);
  t.match(warningsOf(CA.issue({ dnsNames: ['x'] }, { notBefore: NOW + DAY_MS })), [/valid from/]);
  t.match(tls(WEB.certPem + OTHER.certPem, WEB.keyPem).warnings, [{ message: /did not issue/ }]);
});

test('parts, by either family of names; stringData over data', async (t) => {
  const data = effectiveData({ data: { 'tls.crt': b64('old') }, stringData: { 'tls.crt': 'new', 'ca.crl': 'list' } });
  t.same(secretParts(data), { certificate: 'new', crl: 'list' });
  t.same(secretParts({ cert: b64('c'), key: b64('k'), cacert: b64('a') }), {
    certificate: 'c',
    privateKey: 'k',
    ca: 'a',
  });
});
