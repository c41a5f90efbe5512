import type { MeshObject, ObjectKey } from '../resources/object.ts';

/** Which host may hold which WorkloadGroups (DESIGN 3.4). Made by a join token, carried in the `state` role. */
export interface HostGrant {
  readonly host: string;
  /** Grows by one with each enrolment of the host: orders records of a re-installed host above its older ones. */
  readonly epoch: number;
  /** `NAMESPACE/NAME` of each WorkloadGroup that the host may serve and have an SVID for; sorted. */
  readonly workloadGroups: readonly string[];
  /** Gossip addresses that the host named when it enrolled, `IP:PORT` or `[IP6]:PORT`: where to dial first; hints, nothing trusts them. */
  readonly gossipAddresses: readonly string[];
}

/** Addresses of one service host, allocated once by the controller (DESIGN 7). */
export interface Vip {
  readonly v4: string;
  readonly v6: string;
}

/** One controller replica: hosts trust the SVIDs of the intermediates listed here and of no other issuer. */
export interface ReplicaAnchor {
  readonly replica: string;
  /** PEM of the replica's intermediate CA certificate. */
  readonly intermediatePem: string;
  /** Base URLs of the API for agents, e.g. `https://10.0.0.2:15201`. */
  readonly agentUrls: readonly string[];
}

/**
 * What a host has verified and runs (DESIGN 2): immutable, replaced whole by the next generation. Everything in it was covered by a
 * valid signature when it was accepted.
 */
export interface DesiredConfig {
  readonly generation: number;
  readonly trustDomain: string;
  /** Every object that operators wrote, Secrets excepted. */
  readonly objects: ReadonlyMap<ObjectKey, MeshObject>;
  /** By host id. */
  readonly hosts: ReadonlyMap<string, HostGrant>;
  readonly revokedHosts: ReadonlySet<string>;
  /** By service host name, e.g. `reviews.default.svc.cluster.local`. */
  readonly vips: ReadonlyMap<string, Vip>;
  /** By replica name. */
  readonly anchors: ReadonlyMap<string, ReplicaAnchor>;
  /** The least CAPABILITY that this generation's objects need (api/version.ts). */
  readonly minCapability: number;
}
