/**
 * X.509 for SVIDs and CAs of the mesh: CSRs and certificates built as DER, chains verified. Keys and signatures are node:crypto's,
 * DER is node-forge's ASN.1 layer (forge.pki refuses EC). P-256 with SHA-256 only. Reads no clock: times are arguments, in ms.
 */
import { createHash, createPublicKey, type KeyObject, sign, verify, X509Certificate } from 'node:crypto';
import { MeshError } from '../errors.ts';
import {
  bits,
  boolean,
  bytesOf,
  children,
  type Der,
  decode,
  encode,
  fromPem,
  integer,
  isTagged,
  octets,
  oid,
  oidOf,
  sequence,
  set,
  tagged,
  time,
  toPem,
  utf8,
} from './der.ts';
import { hostDnsName, type ParsedSpiffeId, parseSpiffeId } from './spiffe-id.ts';

const OID = {
  ecdsaSha256: '1.2.840.10045.4.3.2',
  commonName: '2.5.4.3',
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyId: '2.5.29.35',
  extKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const;

const MAX_CSR_BYTES = 4096;

export interface CertificateSpec {
  /** Empty for SVIDs: the SPIFFE ID is the identity and the SAN is critical then (RFC 5280 4.2.1.6). */
  readonly commonName: string;
  readonly publicKey: KeyObject;
  /** The issuer's subject and key; for a self-signed root its own. */
  readonly issuer: { readonly commonName: string; readonly privateKey: KeyObject };
  /** 16 random bytes. */
  readonly serial: Uint8Array;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly uris?: readonly string[];
  readonly dnsNames?: readonly string[];
  /** Textual IPv4 or IPv6. */
  readonly ipAddresses?: readonly string[];
  /** Present for CA certificates; `pathLength` 0 issues leaves only. */
  readonly ca?: { readonly pathLength: number };
}

/** A PEM PKCS#10 request with an empty subject: it proves possession of the key and carries nothing else (DESIGN 3.4). */
export function createCsr(privateKey: KeyObject): string {
  const publicKey = createPublicKey(privateKey);
  const info = sequence(integer(Uint8Array.of(0)), sequence(), spki(publicKey), tagged(0, []));
  return toPem('CERTIFICATE REQUEST', signed(info, privateKey));
}

/** The public key of a PEM CSR (untrusted, at most 4 KiB), once its own signature is verified. Throws CSR_INVALID. Names in it are ignored. */
export function parseCsr(pem: string): KeyObject {
  const [der, ...more] = fromPem('CERTIFICATE REQUEST', pem.slice(0, MAX_CSR_BYTES + 1));
  if (der === undefined || more.length > 0 || pem.length > MAX_CSR_BYTES) {
    throw new MeshError('CSR_INVALID', 'expected one PEM certificate request of at most 4 KiB');
  }
  try {
    const [info, , signature] = children(decode(der));
    const key = createPublicKey({ key: encode(children(info)[2] as Der), format: 'der', type: 'spki' });
    requireP256(key);
    const value = bytesOf(signature)?.subarray(1);
    if (value !== undefined && verify('sha256', encode(info as Der), key, value)) return key;
  } catch (cause) {
    throw new MeshError('CSR_INVALID', 'the certificate request cannot be read', { cause });
  }
  throw new MeshError('CSR_INVALID', 'the signature of the certificate request does not verify');
}

/** Issues a certificate (PEM). Leaves get digitalSignature with server and client auth, CAs keyCertSign and cRLSign. */
export function issueCertificate(spec: CertificateSpec): string {
  requireP256(spec.publicKey);
  const tbs = sequence(
    tagged(0, [integer(Uint8Array.of(2))]),
    integer(spec.serial),
    sequence(oid(OID.ecdsaSha256)),
    name(spec.issuer.commonName),
    sequence(time(spec.notBefore), time(spec.notAfter)),
    name(spec.commonName),
    spki(spec.publicKey),
    tagged(3, [sequence(...extensions(spec))]),
  );
  return toPem('CERTIFICATE', signed(tbs, spec.issuer.privateKey));
}

/** What a verified SVID says. */
export interface VerifiedSvid {
  readonly spiffeId: string;
  readonly id: ParsedSpiffeId;
  /** Host id out of the DNS SAN HOST-ID.hosts.TD; undefined for controllers. */
  readonly hostId: string | undefined;
  readonly notAfter: number;
  readonly serial: string;
  readonly publicKey: KeyObject;
}

export interface VerifyOptions {
  /** Intermediates listed in signed config: the only issuers trusted (partial chain; DESIGN 3.4). */
  readonly trusted: readonly X509Certificate[];
  readonly trustDomain: string;
  readonly now: number;
  /** A leaf expired by at most this is taken (renewal by proof of key). Default 0. */
  readonly expiryGraceMs?: number;
}

/**
 * Verifies a leaf against the trusted intermediates and reads its identity (SPIFFE X509-SVID 4 and 5). The issuer is matched by name and
 * signature, both certificates by time; exactly one URI SAN, of this trust domain; no CA leaf. Throws SVID_EXPIRED, SVID_NOT_YET_VALID,
 * SVID_UNTRUSTED or SVID_INVALID.
 */
export function verifySvid(leaf: X509Certificate, options: VerifyOptions): VerifiedSvid {
  const issuer = options.trusted.find((ca) => ca.ca && leaf.checkIssued(ca) && leaf.verify(ca.publicKey));
  if (issuer === undefined)
    throw new MeshError('SVID_UNTRUSTED', 'the certificate is not issued by an intermediate that signed config lists');
  checkTime(issuer, options.now, 0, 'the issuer');
  checkTime(leaf, options.now, options.expiryGraceMs ?? 0, 'the certificate');
  if (leaf.ca) throw new MeshError('SVID_INVALID', 'a CA certificate is not an SVID');
  const names = subjectAltNames(leaf.raw);
  const [uri] = names.uris;
  if (uri === undefined || names.uris.length !== 1)
    throw new MeshError('SVID_INVALID', 'an SVID has exactly one URI SAN');
  const id = parseSpiffeId(uri);
  if (id.trustDomain !== options.trustDomain) {
    throw new MeshError('SVID_UNTRUSTED', `trust domain ${id.trustDomain} is not ${options.trustDomain}`);
  }
  requireP256(leaf.publicKey);
  return {
    spiffeId: uri,
    id,
    hostId: hostIdOf(names.dnsNames, id),
    notAfter: leaf.validToDate.getTime(),
    serial: leaf.serialNumber,
    publicKey: leaf.publicKey,
  };
}

/** URI and DNS names of a certificate (DER), read from the extension itself rather than from a printed form. */
export function subjectAltNames(der: Uint8Array): { uris: string[]; dnsNames: string[] } {
  const tbs = children(children(decode(der))[0]);
  const list = children(children(tbs.find((item) => isTagged(item, 3)))[0]);
  const found = list.find((extension) => oidOf(children(extension)[0]) === OID.subjectAltName);
  const uris: string[] = [];
  const dnsNames: string[] = [];
  const value = bytesOf(children(found).at(-1));
  if (value !== undefined) {
    for (const entry of children(decode(value))) {
      const text = bytesOf(entry)?.toString('latin1') ?? '';
      if (isTagged(entry, 6)) uris.push(text);
      if (isTagged(entry, 2)) dnsNames.push(text);
    }
  }
  return { uris, dnsNames };
}

/** The certificates of a PEM chain, leaf first; at most 4. Throws SVID_INVALID. */
export function parseChain(pem: string): X509Certificate[] {
  try {
    const chain = fromPem('CERTIFICATE', pem, 4).map((der) => new X509Certificate(der));
    if (chain.length > 0) return chain;
  } catch (cause) {
    throw new MeshError('SVID_INVALID', 'the certificate chain cannot be read', { cause });
  }
  throw new MeshError('SVID_INVALID', 'no certificate in the PEM text');
}

function hostIdOf(dnsNames: readonly string[], id: ParsedSpiffeId): string | undefined {
  if (id.kind === 'controller') return undefined;
  const suffix = hostDnsName(id.trustDomain, '');
  const hosts = dnsNames.filter((dns) => dns.endsWith(suffix)).map((dns) => dns.slice(0, -suffix.length));
  if (hosts.length !== 1)
    throw new MeshError('SVID_INVALID', 'an SVID of a host carries exactly one DNS SAN HOST.hosts.TD');
  if (id.kind === 'host' && hosts[0] !== id.hostId)
    throw new MeshError('SVID_INVALID', 'DNS SAN and SPIFFE ID name different hosts');
  return hosts[0];
}

function checkTime(cert: X509Certificate, now: number, graceMs: number, what: string): void {
  if (now < cert.validFromDate.getTime()) {
    throw new MeshError(
      'SVID_NOT_YET_VALID',
      `${what} is valid from ${cert.validFromDate.toISOString()}: is this host's clock right?`,
    );
  }
  if (now > cert.validToDate.getTime() + graceMs) {
    throw new MeshError('SVID_EXPIRED', `${what} expired at ${cert.validToDate.toISOString()}`);
  }
}

function requireP256(key: KeyObject): void {
  if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
    throw new MeshError('KEY_UNSUPPORTED', 'only P-256 keys are taken');
  }
}

function spki(key: KeyObject): Der {
  return decode(key.export({ format: 'der', type: 'spki' }));
}

function signed(body: Der, privateKey: KeyObject): Buffer {
  const signature = sign('sha256', encode(body), privateKey).toString('latin1');
  return encode(sequence(body, sequence(oid(OID.ecdsaSha256)), bits(signature)));
}

function name(commonName: string): Der {
  return commonName === '' ? sequence() : sequence(set(sequence(oid(OID.commonName), utf8(commonName))));
}

/** RFC 5280 4.2.1.2 method (1): SHA-1 of the key's bit string; an identifier, not a security measure. */
function keyId(key: KeyObject): string {
  const bitString = bytesOf(children(spki(key))[1]) as Buffer;
  return createHash('sha1').update(bitString.subarray(1)).digest().toString('latin1');
}

function extension(id: string, critical: boolean, value: Der): Der {
  const body = octets(encode(value).toString('latin1'));
  return critical ? sequence(oid(id), boolean(true), body) : sequence(oid(id), body);
}

function extensions(spec: CertificateSpec): Der[] {
  const names = [
    ...(spec.uris ?? []).map((uri) => tagged(6, uri)),
    ...(spec.dnsNames ?? []).map((dns) => tagged(2, dns)),
    ...(spec.ipAddresses ?? []).map((ip) => tagged(7, addressBytes(ip))),
  ];
  const list = [
    extension(OID.subjectKeyId, false, octets(keyId(spec.publicKey))),
    extension(OID.authorityKeyId, false, sequence(tagged(0, keyId(createPublicKey(spec.issuer.privateKey))))),
  ];
  if (spec.ca !== undefined) {
    list.push(
      extension(OID.basicConstraints, true, sequence(boolean(true), integer(Uint8Array.of(spec.ca.pathLength)))),
    );
    list.push(extension(OID.keyUsage, true, bits('\x06', 1))); // keyCertSign, cRLSign
  } else {
    list.push(extension(OID.basicConstraints, true, sequence()));
    list.push(extension(OID.keyUsage, true, bits('\x80', 7))); // digitalSignature
    list.push(extension(OID.extKeyUsage, false, sequence(oid(OID.serverAuth), oid(OID.clientAuth))));
  }
  if (names.length > 0) list.push(extension(OID.subjectAltName, spec.commonName === '', sequence(...names)));
  return list;
}

function addressBytes(address: string): string {
  if (address.includes('.')) return String.fromCharCode(...address.split('.').map(Number));
  const [head = '', tail] = address.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const middle = tail === undefined ? [] : Array<string>(8 - left.length - right.length).fill('0');
  return [...left, ...middle, ...right]
    .map((group) => Number.parseInt(group, 16))
    .map((n) => String.fromCharCode(n >> 8, n & 255))
    .join('');
}
