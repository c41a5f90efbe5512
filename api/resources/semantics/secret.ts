import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import type { MeshObject } from '../object.ts';
import { childPath, type Report, shown } from '../report.ts';
import { effectiveData, SECRET_KEYS, SECRET_MARKER, type SecretPart, secretParts } from '../secret-data.ts';
import type { SemanticContext } from './context.ts';

/** A CA bundle of a system has about 250 KiB. */
const MAX_BYTES = 512 * 1024;
const MAX_CERTIFICATES = 1000;
const DAY_MS = 86_400_000;
const SOON_MS = 30 * DAY_MS;
const KEY_NAMES: readonly string[] = Object.values(SECRET_KEYS).flat();

/**
 * Secret (core v1) as gateways use it: kubernetes.io/tls, or Opaque with Istio's key names. What no gateway could serve is refused here, not
 * on a host: keys that do not fit, PEM that is none. No message ever holds a value.
 */
export function checkSecret(object: MeshObject, report: Report, context: SemanticContext): void {
  const type = (object.type as string | undefined) || 'Opaque';
  if (type !== 'kubernetes.io/tls' && type !== 'Opaque') {
    const why = `secret type ${shown(type)} is not supported: kubernetes.io/tls and Opaque are`;
    report.add('type', why, 'FieldValueNotSupported');
    return;
  }
  const data = effectiveData(object as { data?: Record<string, string>; stringData?: Record<string, string> });
  if (!checkKeys(object, data, report)) return;
  const parts = secretParts(data);
  const at = (part: SecretPart) => pathOf(object, SECRET_KEYS[part].find((key) => Object.hasOwn(data, key)) ?? '');
  if (type === 'kubernetes.io/tls')
    for (const key of ['tls.crt', 'tls.key']) if (!data[key]) report.required(childPath('data', key), 'is required');
  if (parts.certificate === undefined && parts.privateKey === undefined && parts.ca === undefined) {
    report.required('data', 'a certificate with its key (tls.crt, tls.key), or a CA (ca.crt), is needed');
    return;
  }
  if (parts.certificate === undefined && parts.privateKey !== undefined)
    report.required('data', 'the private key has no certificate beside it (tls.crt, cert)');
  if (parts.certificate !== undefined && parts.privateKey === undefined)
    report.required('data', 'the certificate has no private key beside it (tls.key, key)');
  const key = parts.privateKey === undefined ? undefined : readKey(parts.privateKey, at('privateKey'), report);
  if (parts.certificate !== undefined)
    checkChain(parts.certificate, key, { path: at('certificate'), now: context.now }, report);
  if (parts.ca !== undefined) readCertificates(parts.ca, at('ca'), report);
  if (parts.crl !== undefined && !/^-----BEGIN X509 CRL-----$/m.test(parts.crl))
    report.add(at('crl'), 'is no certificate revocation list in PEM');
}

function pathOf(object: MeshObject, key: string): string {
  return childPath(Object.hasOwn((object.stringData ?? {}) as object, key) ? 'stringData' : 'data', key);
}

/** False when the values cannot be read. */
function checkKeys(object: MeshObject, data: Readonly<Record<string, string>>, report: Report): boolean {
  let bytes = 0;
  let readable = true;
  const fault = (key: string, message: string, reason?: 'FieldValueNotSupported') => {
    report.add(pathOf(object, key), message, reason);
    readable = false;
  };
  for (const [key, value] of Object.entries(data)) {
    bytes += value.length * 0.75;
    if (!KEY_NAMES.includes(key))
      fault(
        key,
        `not supported: no gateway reads this key; ${KEY_NAMES.join(', ')} are read`,
        'FieldValueNotSupported',
      );
    else if (value === SECRET_MARKER) fault(key, 'is what reads show in place of the value: give the value itself');
    else if (!isBase64(value)) fault(key, 'is not valid base64');
  }
  for (const [part, [generic, tls]] of Object.entries(SECRET_KEYS))
    if (Object.hasOwn(data, generic) && Object.hasOwn(data, tls))
      fault(tls, `${generic} and ${tls} are both set: which ${part} is meant?`);
  if (bytes > MAX_BYTES) {
    report.add('data', `is larger than ${MAX_BYTES} bytes`, 'FieldValueTooLong');
    readable = false;
  }
  return readable;
}

function isBase64(text: string): boolean {
  return Buffer.from(text, 'base64').toString('base64') === text;
}

function readKey(pem: string, path: string, report: Report): KeyObject | undefined {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    const locked = pem.includes('ENCRYPTED');
    report.add(path, locked ? 'is encrypted: hosts could not use it' : 'is no private key in PEM');
    return undefined;
  }
  const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  const usable =
    (key.asymmetricKeyType === 'ec' && ['prime256v1', 'secp384r1', 'secp521r1'].includes(namedCurve ?? '')) ||
    (key.asymmetricKeyType === 'rsa' && modulusLength >= 2048);
  if (usable) return key;
  report.add(path, 'the proxy takes RSA keys of 2048 bits or more and EC keys on P-256, P-384 or P-521');
  return undefined;
}

function checkChain(
  pem: string,
  key: KeyObject | undefined,
  { path, now }: { readonly path: string; readonly now: number | undefined },
  report: Report,
): void {
  const chain = readCertificates(pem, path, report);
  const [leaf] = chain;
  if (leaf === undefined) return;
  if (key !== undefined && !leaf.checkPrivateKey(key)) {
    const later = chain.some((certificate) => certificate.checkPrivateKey(key));
    report.add(
      path,
      later ? 'the certificate of the private key must come first' : 'does not fit the private key beside it',
    );
  }
  for (const [i, certificate] of chain.entries()) {
    const issuer = chain[i + 1];
    if (issuer !== undefined && !certificate.checkIssued(issuer))
      report.warn(
        path,
        `certificate ${i + 2} did not issue certificate ${i + 1}: clients may not find the way to a root`,
      );
  }
  if (now === undefined) return;
  const left = leaf.validToDate.getTime() - now;
  const end = leaf.validToDate.toISOString();
  if (left <= 0) report.warn(path, `expired at ${end}`);
  else if (left < SOON_MS) report.warn(path, `ends in ${Math.ceil(left / DAY_MS)} days, at ${end}`);
  else if (leaf.validFromDate.getTime() > now)
    report.warn(path, `is valid from ${leaf.validFromDate.toISOString()} on`);
}

const PEM_BLOCK = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

/** The certificates of a PEM text, in order; what is between them is left alone. */
function readCertificates(pem: string, path: string, report: Report): X509Certificate[] {
  const blocks = pem.match(PEM_BLOCK) ?? [];
  if (blocks.length === 0) report.add(path, 'holds no certificate in PEM');
  if (blocks.length > MAX_CERTIFICATES) {
    report.add(path, `has more than ${MAX_CERTIFICATES} certificates`, 'FieldValueTooLong');
    return [];
  }
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch {
    report.add(path, 'holds a certificate that cannot be read');
    return [];
  }
}
