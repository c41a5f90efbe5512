import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { issueCertificate } from '../../api/identity/x509.ts';

/** A CA of the outside world, as gateways' certificates and their clients' have: not the mesh's. */
export interface WorldCa {
  readonly caPem: string;
  /** A leaf for DNS names or URIs; PEM. Valid for an hour around now unless told otherwise. */
  issue(
    names: { readonly dnsNames?: readonly string[]; readonly uris?: readonly string[] },
    validity?: { readonly notBefore?: number; readonly notAfter?: number },
  ): { readonly certPem: string; readonly keyPem: string };
}

const HOUR_MS = 3_600_000;

export function createWorldCa(commonName = 'world CA'): WorldCa {
  const ca = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issuer = { commonName, privateKey: ca.privateKey };
  const now = Date.now();
  const common = (publicKey: KeyObject) => ({ publicKey, issuer, serial: randomBytes(16) });
  const span = { notBefore: now - HOUR_MS, notAfter: now + 365 * 24 * HOUR_MS };
  return {
    caPem: issueCertificate({ ...common(ca.publicKey), ...span, commonName, ca: { pathLength: 0 } }),
    issue(names, validity = {}) {
      const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const subject = { commonName: names.dnsNames?.[0] ?? 'leaf' };
      const certPem = issueCertificate({ ...common(pair.publicKey), ...span, ...validity, ...subject, ...names });
      return { certPem, keyPem: pair.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString() };
    },
  };
}
