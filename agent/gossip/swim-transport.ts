/**
 * SWIM datagrams over UDP. In: who has which probe key, packets to send. Out: packets that were made with the key of a known host, once each.
 * Must never: answer a stranger, send a plaintext byte, or let a datagram be played back.
 */

import { generateKeyPairSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { errorLine, MeshError } from '../../api/errors.ts';
import type { IpEndpoint } from '../../api/gossip/address.ts';
import {
  answerProof,
  directionTag,
  type PairKeys,
  packetTag,
  pairKeys,
  probeKeyText,
  type SwimPacket,
  sealPacket,
  unsealPacket,
} from '../../api/gossip/swim-packet.ts';
import type { Logger } from '../../runtime/log.ts';
import { createBucket } from './budget.ts';

export type SwimDrop = 'stranger' | 'forged' | 'replay' | 'budget' | 'malformed';

export interface SwimTransportDeps {
  readonly host: string;
  readonly listen: readonly IpEndpoint[];
  onPacket(host: string, packet: SwimPacket, from: IpEndpoint): void;
  onDrop(reason: SwimDrop): void;
  onBytes(direction: 'sent' | 'received', bytes: number): void;
  readonly monotonic: () => number;
  readonly log: Logger;
}

type WithoutSequence<P> = P extends unknown ? Omit<P, 'sequence'> : never;
/** A packet to send; its sequence number is the transport's. */
export type OutgoingPacket = WithoutSequence<SwimPacket>;

export interface SwimTransport {
  /** X25519 public key of this boot, for the own record. */
  readonly probeKey: string;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** The probe key of a host, from its record; undefined forgets the host. True: it had another key before. */
  setPeer(host: string, probeKey: string | undefined): boolean;
  /** False when the host is unknown or no socket of the address's family is open. Never throws. */
  send(host: string, packet: OutgoingPacket, to: IpEndpoint): boolean;
  /** Proof for `asker` that this host saw its probe `id`, which came through another. Undefined when the asker is unknown. */
  prove(asker: string, id: string): string | undefined;
  /** True when `proof` is `target`'s for this host's probe `id`. */
  isProof(target: string, id: string, proof: string): boolean;
}

interface Peer {
  readonly host: string;
  readonly probeKey: string;
  readonly tag: string;
  /** Made at the first datagram: key agreement costs 0.1 ms a peer. 'unusable': its key is of small order. */
  keys: PairKeys | 'unusable' | undefined;
  sequence: number;
  readonly window: ReplayWindow;
}

/** All datagrams that carry a known tag, a second: each costs 15 us to decrypt. */
const MAX_DATAGRAMS = 3000;
const BURST = 6000;

export function createSwimTransport(deps: SwimTransportDeps): SwimTransport {
  const pair = generateKeyPairSync('x25519');
  const own = { host: deps.host, privateKey: pair.privateKey, probeKey: probeKeyText(pair.publicKey) };
  const peers = new Map<string, Peer>();
  const byTag = new Map<string, Peer>();
  const sockets = new Map<4 | 6, Socket>();
  const all: Socket[] = [];
  const budget = createBucket({ perSecond: MAX_DATAGRAMS, burst: BURST }, deps.monotonic);

  const keysOf = (peer: Peer): PairKeys | undefined => {
    if (peer.keys === undefined) {
      try {
        peer.keys = pairKeys(own, peer);
      } catch (error) {
        peer.keys = 'unusable';
        deps.log.warn('a host has an unusable probe key', { host: peer.host, error: errorLine(error) });
      }
    }
    return peer.keys === 'unusable' ? undefined : peer.keys;
  };
  const receive = (datagram: Buffer, from: IpEndpoint) => {
    deps.onBytes('received', datagram.length);
    const tag = packetTag(datagram);
    if (tag === undefined) return deps.onDrop('malformed');
    const peer = byTag.get(tag);
    if (peer === undefined) return deps.onDrop('stranger');
    if (!budget.take(1)) return deps.onDrop('budget');
    const keys = keysOf(peer);
    const packet = keys && unsealPacket(datagram, keys.receive);
    if (packet === undefined) return deps.onDrop('forged');
    if (!peer.window.accept(packet.sequence)) return deps.onDrop('replay');
    deps.onPacket(peer.host, packet, from);
  };

  return {
    probeKey: own.probeKey,
    async start() {
      try {
        for (const endpoint of deps.listen) {
          const socket = await bind(endpoint, receive);
          socket.on('error', (error) => deps.log.warn('probe socket failed', { error }));
          all.push(socket);
          const family = endpoint.address.includes(':') ? 6 : 4;
          if (!sockets.has(family)) sockets.set(family, socket);
        }
      } catch (error) {
        await this.stop();
        throw error;
      }
    },
    async stop() {
      sockets.clear();
      await Promise.all(all.splice(0).map((socket) => new Promise<void>((resolve) => socket.close(() => resolve()))));
    },
    setPeer(host, probeKey) {
      const old = peers.get(host);
      if (old?.probeKey === probeKey) return false;
      if (old !== undefined) {
        byTag.delete(old.tag);
        peers.delete(host);
      }
      if (probeKey === undefined || host === deps.host) return false;
      const tag = directionTag({ host, probeKey }, own);
      const peer: Peer = { host, probeKey, tag, keys: undefined, sequence: 0, window: createReplayWindow() };
      peers.set(host, peer);
      byTag.set(tag, peer);
      return old !== undefined;
    },
    send(host, packet, to) {
      const peer = peers.get(host);
      const keys = peer && keysOf(peer);
      const socket = sockets.get(to.address.includes(':') ? 6 : 4);
      if (peer === undefined || keys === undefined || socket === undefined) return false;
      peer.sequence += 1;
      const bytes = sealPacket({ ...packet, sequence: peer.sequence } as SwimPacket, keys.send, randomBytes(12));
      deps.onBytes('sent', bytes.length);
      // Unreachable networks answer with an error here; to the detector that is silence.
      socket.send(bytes, to.port, to.address, () => {});
      return true;
    },
    prove(asker, id) {
      const peer = peers.get(asker);
      const keys = peer && keysOf(peer);
      return keys && answerProof(keys.send, id);
    },
    isProof(target, id, proof) {
      const peer = peers.get(target);
      const keys = peer && keysOf(peer);
      return keys !== undefined && timingSafeEqual(Buffer.from(answerProof(keys.receive, id)), Buffer.from(proof));
    },
  };
}

interface ReplayWindow {
  /** True once for each number, in any order within 64 of the highest seen. */
  accept(sequence: number): boolean;
}

/** RFC 4303 3.4.3: the highest number seen and a bitmap of the 64 below it. */
export function createReplayWindow(): ReplayWindow {
  let highest = 0;
  let seen = 0n;
  return {
    accept(sequence) {
      if (sequence > highest) {
        const shift = sequence - highest;
        seen = shift >= 64 ? 1n : ((seen << BigInt(shift)) | 1n) & 0xffff_ffff_ffff_ffffn;
        highest = sequence;
        return true;
      }
      const behind = highest - sequence;
      const bit = 1n << BigInt(Math.min(behind, 64));
      if (behind >= 64 || (seen & bit) !== 0n) return false;
      seen |= bit;
      return true;
    },
  };
}

function bind(endpoint: IpEndpoint, receive: (datagram: Buffer, from: IpEndpoint) => void): Promise<Socket> {
  const v6 = endpoint.address.includes(':');
  const socket = createSocket({ type: v6 ? 'udp6' : 'udp4', ipv6Only: v6 });
  socket.on('message', (datagram, from) => receive(datagram, { address: from.address, port: from.port }));
  return new Promise((resolve, reject) => {
    socket.once('error', (cause) => {
      const where = `${endpoint.address} port ${endpoint.port}`;
      reject(new MeshError('LISTEN_FAILED', `gossip cannot listen on UDP ${where}: ${errorLine(cause)}`, { cause }));
    });
    socket.bind(endpoint.port, endpoint.address, () => {
      socket.removeAllListeners('error');
      socket.unref();
      resolve(socket);
    });
  });
}
