/**
 * libp2p peer ids of hosts. A peer id here is a name for a host id, not a proof: it is an Ed25519 key made from the host's SPIFFE ID, which
 * anyone can make. The proof is the TLS link (tls-link.ts), which takes the host id out of a verified host SVID. So a host known from
 * signed config alone, whose key nobody has seen, can be dialled by name, and meeting another host there is refused by libp2p itself.
 */
import { createHash, createPrivateKey, createPublicKey } from 'node:crypto';
import { privateKeyFromRaw } from '@libp2p/crypto/keys';
import type { PeerId, PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { hostSpiffeId } from '../../api/identity/spiffe-id.ts';

export interface PeerNames {
  keyOf(host: string): PrivateKey;
  peerIdOf(host: string): PeerId;
}

/** RFC 8410: the PKCS#8 head of an Ed25519 private key, before the 32 bytes of its seed. */
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');
const MAX_CACHED = 4096;

export function createPeerNames(trustDomain: string): PeerNames {
  const ids = new Map<string, PeerId>();
  const keyOf = (host: string): PrivateKey => {
    const seed = createHash('sha256')
      .update(`hostmesh peer name 1\0${hostSpiffeId(trustDomain, host)}`)
      .digest();
    const key = createPrivateKey({ key: Buffer.concat([PKCS8_HEAD, seed]), format: 'der', type: 'pkcs8' });
    const raw = Buffer.from(createPublicKey(key).export({ format: 'jwk' }).x as string, 'base64url');
    return privateKeyFromRaw(Buffer.concat([seed, raw]));
  };
  return {
    keyOf,
    peerIdOf(host) {
      const known = ids.get(host);
      if (known !== undefined) return known;
      const id = peerIdFromPrivateKey(keyOf(host));
      if (ids.size >= MAX_CACHED) ids.clear();
      ids.set(host, id);
      return id;
    },
  };
}
