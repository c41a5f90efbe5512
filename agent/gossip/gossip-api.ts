/** What the gossip room takes and gives: the shapes that the composition root joins. */
import type { KeyObject } from 'node:crypto';
import type { Registry } from 'prom-client';
import type { EndpointSnapshot } from '../../api/gossip/host-record.ts';
import type { PeerRow } from '../../api/http/admin-api.ts';
import type { GossipRefusal } from '../../api/http/agent-api.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Part } from '../../runtime/lifecycle.ts';
import type { Logger } from '../../runtime/log.ts';
import type { OwnFields } from './own-record.ts';
import type { Grants } from './trust.ts';

export interface GossipDeps {
  readonly host: string;
  readonly trustDomain: string;
  /** The host SVID, leaf first. Asked at each handshake and signature: it is renewed while the agent runs. Its key stays the same. */
  identity(): { readonly chainPem: string; readonly privateKey: KeyObject };
  /** From verified config; ask again after `onConfigChanged`. */
  grants(): Grants;
  /** Textual addresses to listen on, TCP and UDP, e.g. `0.0.0.0` and `::`. At least one. */
  readonly listenAddresses: readonly string[];
  /** Gossip's port, TCP and UDP (15300). */
  readonly port: number;
  /** Addresses that peers are told to dial and probe, without port; at most 8. */
  readonly advertiseAddresses: readonly string[];
  /** `IP:PORT` of peers whose host id is not known, from the join answer: dialled while there is no link. */
  seeds?(): readonly string[];
  /** False for addresses that no host may claim: VIPs and the like. Default: loopback, link-local, multicast and unspecified are refused. */
  addressAllowed?(address: string): boolean;
  readonly tablePath: string;
  readonly counterPath: string;
  readonly clock: Clock;
  /** In [0,1). */
  readonly random: () => number;
  readonly log: Logger;
  readonly registry: Registry;
}

/** `accept`: new and verified, forward it. `ignore`: known or older. `reject`: not signed by the mesh; the link that brought it is closed. */
export type AnnounceVerdict = 'accept' | 'ignore' | 'reject';

export interface Gossip extends Part {
  /** Signs and publishes the own record if anything in it changed. Resolves when it is in the own table and handed to the links. */
  publishOwn(fields: OwnFields): Promise<void>;
  /** Tells all that this host leaves: they take it out of load balancing at once. Call before an orderly stop for good. */
  leave(): Promise<void>;
  snapshot(): EndpointSnapshot;
  /** Called after the snapshot changed, at most once in 10 ms. */
  onChange(listener: () => void): void;
  /** All hosts known but this one, by host id. */
  peers(): PeerRow[];
  /** Hosts linked now, sorted. */
  links(): string[];
  /** What was refused in the last hour, newest first, for people. */
  refusals(): readonly GossipRefusal[];
  /** Verified config changed (grants, revocations, intermediates). */
  onConfigChanged(): void;
  /** The host SVID was renewed: the record is signed anew. */
  onIdentityChanged(): void;
  /** Publishes a signed TUF timestamp, opaque here; at most 2 KiB. Throws ANNOUNCE_TOO_LARGE. */
  announce(timestamp: Uint8Array): Promise<void>;
  /** The one judge of announcements; it must verify before it accepts. Without one they are ignored. */
  onAnnounce(judge: (timestamp: Uint8Array, from: string) => AnnounceVerdict): void;
  /** Asks a peer (linked or not) for config. Request at most 64 KiB, answer at most 16 MiB. Throws NOT_LINKED, FETCH_REFUSED, timeouts. */
  fetchConfig(peer: string, request: Uint8Array, signal?: AbortSignal): Promise<Uint8Array>;
  /** What answers peers' requests for config; a rejection is told to the peer as a refusal without its text. */
  serveConfig(answer: (request: Uint8Array, peer: string) => Promise<Uint8Array>): void;
}
