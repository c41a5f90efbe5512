/**
 * The failure detector on the wire (DESIGN 6): one UDP datagram, AES-256-GCM under a key of the pair of hosts and the direction.
 * Layout: version (1) | tag of the pair and direction (8) | nonce (12, random) | ciphertext | GCM tag (16). The header is authenticated.
 * Keys: HKDF-SHA256 over X25519 of both hosts' probe keys, which are new at each boot and come in signed host records.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPublicKey,
  createSecretKey,
  diffieHellman,
  hkdfSync,
  type KeyObject,
} from 'node:crypto';
import { MeshError } from '../errors.ts';
import { LABEL } from '../identity/spiffe-id.ts';

/**
 * `id`: 16 hex digits, random; an answer repeats it. `sequence` grows with each packet of a sender to one receiver since its boot.
 * ping-request asks the receiver to probe `target` for the sender; ping-for is that probe, `target` names who asked; ack-for is its answer,
 * with a proof that only `target`'s pair key with the asker makes, so that the host in between can lose an answer and not make one up.
 */
export type SwimPacket =
  | { readonly type: 'ping'; readonly sequence: number; readonly id: string }
  | { readonly type: 'ack'; readonly sequence: number; readonly id: string; readonly load?: PeerLoad }
  | {
      readonly type: 'ping-request' | 'ping-for';
      readonly sequence: number;
      readonly id: string;
      readonly target: string;
    }
  | { readonly type: 'ack-for'; readonly sequence: number; readonly id: string; readonly proof: string };

/** What a host says of its own gossip in an answer, for people to look at; nothing is decided by it. */
export interface PeerLoad {
  /** Links that it holds; at most 255. */
  readonly links: number;
  /** Records in its table; at most 65,535. */
  readonly records: number;
}

/** Keys of one direction between two hosts. */
export interface DirectionKeys {
  readonly key: KeyObject;
  /** 16 hex digits: which pair and direction a datagram belongs to; changes when either host reboots. */
  readonly tag: string;
}

export interface PairKeys {
  readonly send: DirectionKeys;
  readonly receive: DirectionKeys;
}

const VERSION = 1;
const HEADER_BYTES = 9;
const NONCE_BYTES = 12;
const GCM_TAG_BYTES = 16;
const TYPES = ['ping', 'ack', 'ping-request', 'ping-for', 'ack-for'] as const;
const PROOF_BYTES = 16;
const LOAD_BYTES = 3;
const BODY_BYTES = 1 + 6 + 8;
/** The largest datagram: a ping request for a host id of 63 characters. */
export const MAX_PACKET_BYTES = HEADER_BYTES + NONCE_BYTES + BODY_BYTES + 63 + GCM_TAG_BYTES;

/** The raw X25519 public key as base64, for HostRecord.probeKey. */
export function probeKeyText(key: KeyObject): string {
  return Buffer.from(key.export({ format: 'jwk' }).x as string, 'base64url').toString('base64');
}

/** One end of a direction: who, and with which key of this boot. */
export interface ProbeEnd {
  readonly host: string;
  readonly probeKey: string;
}

/** Tag of the datagrams from one host to another: needs no key agreement, so it can be made for each record at once. Names are part of it, so that a host which copies another's public key takes nothing over. */
export function directionTag(from: ProbeEnd, to: ProbeEnd): string {
  const text = `hostmesh swim tag 1\0${from.host}\0${from.probeKey}\0${to.host}\0${to.probeKey}`;
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** Keys between this host (`own`) and a peer. Throws KEY_INVALID for a peer key of small order (RFC 7748 6.1). */
export function pairKeys(own: ProbeEnd & { readonly privateKey: KeyObject }, peer: ProbeEnd): PairKeys {
  let secret: Buffer;
  try {
    const x = Buffer.from(peer.probeKey, 'base64').toString('base64url');
    const publicKey = createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x }, format: 'jwk' });
    secret = diffieHellman({ privateKey: own.privateKey, publicKey });
  } catch (cause) {
    throw new MeshError('KEY_INVALID', `the probe key of ${peer.host} cannot be used`, { cause });
  }
  const direction = (
    from: { host: string; probeKey: string },
    to: { host: string; probeKey: string },
  ): DirectionKeys => ({
    // a KeyObject: Node takes 10 µs longer over a Buffer, at each datagram
    key: createSecretKey(
      Buffer.from(
        hkdfSync(
          'sha256',
          secret,
          `${from.probeKey}${to.probeKey}`,
          `hostmesh swim key 1\0${from.host}\0${to.host}`,
          32,
        ),
      ),
    ),
    tag: directionTag(from, to),
  });
  return { send: direction(own, peer), receive: direction(peer, own) };
}

/** `nonce` is 12 random bytes, never used twice with one key: random, so that a restart cannot repeat a counter. */
export function sealPacket(packet: SwimPacket, keys: DirectionKeys, nonce: Uint8Array): Uint8Array {
  const tail = tailOf(packet);
  const body = Buffer.alloc(BODY_BYTES);
  body.writeUInt8(TYPES.indexOf(packet.type), 0);
  body.writeUIntBE(packet.sequence, 1, 6);
  body.write(packet.id, 7, 'hex');
  const header = Buffer.concat([Buffer.of(VERSION), Buffer.from(keys.tag, 'hex')]);
  const cipher = createCipheriv('aes-256-gcm', keys.key, nonce);
  cipher.setAAD(header);
  const sealed = Buffer.concat([cipher.update(body), cipher.update(tail), cipher.final()]);
  return Buffer.concat([header, nonce, sealed, cipher.getAuthTag()]);
}

/** The pair tag of a datagram, or undefined when it cannot be one of ours. */
export function packetTag(datagram: Uint8Array): string | undefined {
  const least = HEADER_BYTES + NONCE_BYTES + BODY_BYTES + GCM_TAG_BYTES;
  if (datagram.length < least || datagram.length > MAX_PACKET_BYTES || datagram[0] !== VERSION) return undefined;
  return Buffer.from(datagram.subarray(1, HEADER_BYTES)).toString('hex');
}

/** Decrypts a datagram whose tag is `keys.tag`. Undefined when it was not made with that key or is malformed. Never throws. */
export function unsealPacket(datagram: Uint8Array, keys: DirectionKeys): SwimPacket | undefined {
  if (packetTag(datagram) !== keys.tag) return undefined;
  const body = decrypt(datagram, keys.key);
  const type = body === undefined ? undefined : TYPES[body.readUInt8(0)];
  if (body === undefined || type === undefined) return undefined;
  const common = { sequence: body.readUIntBE(1, 6), id: body.toString('hex', 7, BODY_BYTES) };
  const tail = body.subarray(BODY_BYTES);
  if (type === 'ping') return tail.length === 0 ? { type, ...common } : undefined;
  if (type === 'ack') return tail.length === 0 ? { type, ...common } : ackOf(tail, common);
  if (type === 'ack-for')
    return tail.length === PROOF_BYTES ? { type, ...common, proof: tail.toString('hex') } : undefined;
  const target = tail.toString('latin1');
  return LABEL.test(target) ? { type, ...common, target } : undefined;
}

/** What a probed host adds to its answer for the host that asked through another: `keys` are those from the probed host to the asker. */
export function answerProof(keys: DirectionKeys, id: string): string {
  return createHmac('sha256', keys.key)
    .update(`hostmesh swim proof 1\0${id}`)
    .digest('hex')
    .slice(0, 2 * PROOF_BYTES);
}

function ackOf(tail: Buffer, common: { sequence: number; id: string }): SwimPacket | undefined {
  if (tail.length !== LOAD_BYTES) return undefined;
  return { type: 'ack', ...common, load: { links: tail.readUInt8(0), records: tail.readUInt16BE(1) } };
}

function tailOf(packet: SwimPacket): Buffer {
  if (packet.type === 'ack') {
    if (packet.load === undefined) return Buffer.alloc(0);
    const load = Buffer.alloc(LOAD_BYTES);
    load.writeUInt8(Math.min(packet.load.links, 0xff), 0);
    load.writeUInt16BE(Math.min(packet.load.records, 0xffff), 1);
    return load;
  }
  if (packet.type === 'ack-for') return Buffer.from(packet.proof, 'hex');
  return packet.type === 'ping-request' || packet.type === 'ping-for' ? Buffer.from(packet.target) : Buffer.alloc(0);
}

function decrypt(datagram: Uint8Array, key: KeyObject): Buffer | undefined {
  try {
    const end = datagram.length - GCM_TAG_BYTES;
    const nonce = datagram.subarray(HEADER_BYTES, HEADER_BYTES + NONCE_BYTES);
    const decipher = createDecipheriv('aes-256-gcm', key, nonce);
    decipher.setAAD(datagram.subarray(0, HEADER_BYTES));
    decipher.setAuthTag(datagram.subarray(end));
    return Buffer.concat([decipher.update(datagram.subarray(HEADER_BYTES + NONCE_BYTES, end)), decipher.final()]);
  } catch {
    return undefined;
  }
}
