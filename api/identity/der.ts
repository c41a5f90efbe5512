import asn1 from 'node-forge/lib/asn1.js';
import { MeshError } from '../errors.ts';

/** A DER value: node-forge's ASN.1 node (ITU-T X.690). Strings inside are binary ("latin1") strings. */
export type Der = ReturnType<typeof asn1.create>;

const { UNIVERSAL, CONTEXT_SPECIFIC } = asn1.Class;
const T = asn1.Type;

export const sequence = (...items: Der[]): Der => asn1.create(UNIVERSAL, T.SEQUENCE, true, items);
export const set = (...items: Der[]): Der => asn1.create(UNIVERSAL, T.SET, true, items);
export const oid = (dotted: string): Der => asn1.create(UNIVERSAL, T.OID, false, asn1.oidToDer(dotted).getBytes());
export const octets = (bytes: string): Der => asn1.create(UNIVERSAL, T.OCTETSTRING, false, bytes);
export const utf8 = (text: string): Der =>
  asn1.create(UNIVERSAL, T.UTF8, false, Buffer.from(text, 'utf8').toString('latin1'));
export const boolean = (value: boolean): Der => asn1.create(UNIVERSAL, T.BOOLEAN, false, value ? '\xff' : '\x00');
export const bits = (bytes: string, unused = 0): Der =>
  asn1.create(UNIVERSAL, T.BITSTRING, false, String.fromCharCode(unused) + bytes);
/** [number] context tag: constructed around items, or primitive around bytes. */
export const tagged = (number: number, content: Der[] | string): Der =>
  asn1.create(CONTEXT_SPECIFIC, number, typeof content !== 'string', content as never);
/** A non-negative INTEGER out of big-endian bytes: leading zeros dropped, one added where the sign bit would be set. */
export function integer(bytes: Uint8Array): Der {
  let text = Buffer.from(bytes)
    .toString('latin1')
    .replace(/^\0+(?=[\s\S])/, '');
  if (text.charCodeAt(0) >= 0x80) text = `\0${text}`;
  return asn1.create(UNIVERSAL, T.INTEGER, false, text);
}
/** UTCTime up to 2049, GeneralizedTime from 2050 (RFC 5280 4.1.2.5). */
export function time(ms: number): Der {
  const date = new Date(ms);
  return date.getUTCFullYear() < 2050
    ? asn1.create(UNIVERSAL, T.UTCTIME, false, asn1.dateToUtcTime(date))
    : asn1.create(UNIVERSAL, T.GENERALIZEDTIME, false, asn1.dateToGeneralizedTime(date));
}

export function encode(value: Der): Buffer {
  return Buffer.from(asn1.toDer(value).getBytes(), 'latin1');
}

/** Parses DER from an untrusted source; the caller bounds the size. Throws MeshError DER_INVALID. */
export function decode(der: Uint8Array): Der {
  try {
    return asn1.fromDer(Buffer.from(der).toString('latin1'), {
      strict: true,
      parseAllBytes: true,
      decodeBitStrings: false,
    } as never);
  } catch (cause) {
    throw new MeshError('DER_INVALID', 'not valid DER', { cause });
  }
}

/** The children of a constructed value, or [] for a primitive one. */
export function children(value: Der | undefined): Der[] {
  return Array.isArray(value?.value) ? (value.value as Der[]) : [];
}

/** The bytes of a primitive value, or undefined for a constructed one. */
export function bytesOf(value: Der | undefined): Buffer | undefined {
  return typeof value?.value === 'string' ? Buffer.from(value.value, 'latin1') : undefined;
}

export function oidOf(value: Der | undefined): string | undefined {
  const bytes = bytesOf(value);
  if (value?.type !== T.OID || bytes === undefined || bytes.length === 0) return undefined;
  return asn1.derToOid(bytes.toString('latin1') as never);
}

/** True for a context-specific tag `[number]`. */
export function isTagged(value: Der | undefined, number: number): value is Der {
  return value !== undefined && value.tagClass === CONTEXT_SPECIFIC && (value.type as number) === number;
}

export function toPem(label: 'CERTIFICATE' | 'CERTIFICATE REQUEST', der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

/** The DER bodies of all blocks with this label, in order; other text is passed over. At most `max` blocks of 16 KiB; throws PEM_INVALID. */
export function fromPem(label: 'CERTIFICATE' | 'CERTIFICATE REQUEST', pem: string, max = 8): Buffer[] {
  if (pem.length > max * 24_000) throw new MeshError('PEM_INVALID', 'PEM text is too long');
  const blocks = [
    ...pem.matchAll(new RegExp(`-----BEGIN ${label}-----\\s+([A-Za-z0-9+/=\\s]{1,24000})-----END ${label}-----`, 'g')),
  ];
  if (blocks.length > max) throw new MeshError('PEM_INVALID', `more than ${max} PEM blocks`);
  return blocks.map((block) => Buffer.from(block[1] as string, 'base64'));
}
