import { type KeyObject, sign, verify } from 'node:crypto';
import { MeshError } from '../errors.ts';

/**
 * Something that a host signed with the key of its host SVID (DESIGN 3.7): payload, signature, the leaf certificate. Layout, big-endian:
 * version (1 byte, 1) | kind (1) | payload length (2) | payload | signature (64, P1363) | leaf length (2) | leaf (DER).
 * The issuer is not carried: hosts trust the intermediates that signed config lists and no other.
 */
export interface Envelope {
  readonly kind: EnvelopeKind;
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;
  /** DER of the signer's host SVID. */
  readonly leaf: Uint8Array;
  /** The whole envelope as received: what is forwarded and stored. */
  readonly bytes: Uint8Array;
}

/** Kinds are part of what is signed, so that a signature for one purpose is none for another. */
export type EnvelopeKind = 'record' | 'accusation';

const VERSION = 1;
const KINDS: readonly EnvelopeKind[] = ['record', 'accusation'];
const SIGNATURE_BYTES = 64;
const OVERHEAD = 4 + SIGNATURE_BYTES + 2;

/** A host's own record, encoded, at most. */
export const MAX_PAYLOAD_BYTES = 8 * 1024;
/** A host SVID in DER, at most (usual: 560 bytes). */
export const MAX_LEAF_BYTES = 2 * 1024;
export const MAX_ENVELOPE_BYTES = MAX_PAYLOAD_BYTES + MAX_LEAF_BYTES + OVERHEAD;

/** Signs `payload`. `privateKey` is the P-256 key of `leaf`. Throws ENVELOPE_TOO_LARGE. */
export function sealEnvelope(
  kind: EnvelopeKind,
  payload: Uint8Array,
  privateKey: KeyObject,
  leaf: Uint8Array,
): Envelope {
  if (payload.length > MAX_PAYLOAD_BYTES || leaf.length > MAX_LEAF_BYTES) {
    throw new MeshError(
      'ENVELOPE_TOO_LARGE',
      `payload of ${payload.length} bytes or certificate of ${leaf.length} bytes is too large to sign`,
    );
  }
  const signature = sign('sha256', signedBytes(kind, payload), { key: privateKey, dsaEncoding: 'ieee-p1363' });
  const head = Buffer.alloc(4);
  head.writeUInt8(VERSION, 0);
  head.writeUInt8(KINDS.indexOf(kind), 1);
  head.writeUInt16BE(payload.length, 2);
  const leafLength = Buffer.alloc(2);
  leafLength.writeUInt16BE(leaf.length, 0);
  const bytes = Buffer.concat([head, payload, signature, leafLength, leaf]);
  return { kind, payload, signature, leaf, bytes };
}

/**
 * Takes an envelope apart without trusting any of it; bounds come first. `bytes` is copied, never kept as a view. Throws ENVELOPE_INVALID, or
 * ENVELOPE_VERSION for one that a newer agent made: the peer that forwards it is not to blame.
 */
export function openEnvelope(bytes: Uint8Array, kind: EnvelopeKind): Envelope {
  if (bytes.length < OVERHEAD || bytes.length > MAX_ENVELOPE_BYTES) throw invalid(`${bytes.length} bytes`);
  const own = Buffer.from(bytes);
  if (own.readUInt8(0) > VERSION) throw new MeshError('ENVELOPE_VERSION', `envelope version ${own.readUInt8(0)}`);
  if (own.readUInt8(0) !== VERSION) throw invalid('version 0');
  if (KINDS[own.readUInt8(1)] !== kind) throw invalid('another kind');
  const payloadEnd = 4 + own.readUInt16BE(2);
  const signatureEnd = payloadEnd + SIGNATURE_BYTES;
  if (payloadEnd - 4 > MAX_PAYLOAD_BYTES || signatureEnd + 2 > own.length) throw invalid('lengths');
  const leafEnd = signatureEnd + 2 + own.readUInt16BE(signatureEnd);
  if (leafEnd !== own.length || leafEnd - signatureEnd - 2 > MAX_LEAF_BYTES) throw invalid('lengths');
  return {
    kind,
    payload: own.subarray(4, payloadEnd),
    signature: own.subarray(payloadEnd, signatureEnd),
    leaf: own.subarray(signatureEnd + 2, leafEnd),
    bytes: own,
  };
}

/** True when the signature is by `publicKey` (the verified leaf's). Never throws. */
export function verifyEnvelope(envelope: Envelope, publicKey: KeyObject): boolean {
  try {
    // Node takes 20 µs longer where a key comes with the name of the signature's form, so the signature is put into the form it expects.
    return verify('sha256', signedBytes(envelope.kind, envelope.payload), publicKey, derSignature(envelope.signature));
  } catch {
    return false;
  }
}

/** ECDSA-Sig-Value (RFC 3279 2.2.3) of r and s, 32 bytes each: a SEQUENCE of two INTEGERs, positive and as short as they can be. */
function derSignature(raw: Uint8Array): Buffer {
  const integer = (from: number): Buffer => {
    let at = from;
    while (at < from + 31 && raw[at] === 0) at++;
    const value = raw.subarray(at, from + 32);
    const sign = (value[0] as number) >= 0x80 ? [0] : [];
    return Buffer.from([0x02, sign.length + value.length, ...sign, ...value]);
  };
  const body = [integer(0), integer(32)];
  return Buffer.concat([Buffer.of(0x30, body[0]!.length + body[1]!.length), ...body]);
}

function signedBytes(kind: EnvelopeKind, payload: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`hostmesh gossip ${VERSION} ${kind}\0`), payload]);
}

function invalid(what: string): MeshError {
  return new MeshError('ENVELOPE_INVALID', `not a signed gossip envelope: ${what}`);
}
