import type { SecretParts } from '../resources/secret-data.ts';

import type { HostAnswer, HostQuery } from './host-query.ts';

/**
 * The controller's API for agents, port 15201 (DESIGN 7): TLS by the replica's intermediate; JSON bodies. Unauthenticated: config (it is
 * signed and every host reads it anyway) and enrolment. By host SVID (mTLS): SVID issue, status, questions.
 */
export const AGENT_API = {
  /** GET ?root=N&generation=G&wait=SECONDS -> SignedUpdate (api/signed-config) or 204 when nothing newer came within `wait` (at most 55 s). */
  config: '/mesh/v1/config',
  /** GET -> the signed TUF root version 1, byte for byte: what a join string's sha256 pins. */
  rootV1: '/mesh/v1/root/1',
  /** POST EnrolRequest -> EnrolResponse. One-shot by the secret. At most 16 KiB. */
  enrol: '/mesh/v1/enrol',
  /** POST SvidRequest -> SvidResponse. mTLS by host SVID (one expired up to 90 d is taken when its key is proved). */
  svid: '/mesh/v1/svid',
  /** POST SecretsRequest -> SecretsResponse, at once or when something differs from what the host has. mTLS by host SVID. At most 64 KiB. */
  secrets: '/mesh/v1/secrets',
  /** PUT HostStatus -> 204. mTLS by host SVID; a host writes its own status only. At most 256 KiB. */
  status: '/mesh/v1/status',
  /** GET ?wait=SECONDS (at most 55) -> HostQuestion, or 204 when nobody asked. mTLS by host SVID: what operators ask of this host (host-query.ts). */
  questions: '/mesh/v1/questions',
  /** PUT HostReply -> 204, or 404 when it is no longer waited for. mTLS by host SVID; questions of this host only. */
  reply: (id: string): string => `/mesh/v1/questions/${encodeURIComponent(id)}`,
} as const;

/** Header of a request for config: the asker's host id. It proves nothing and gives nothing; see controller/publish/config-routes.ts. */
export const HOST_HEADER = 'mesh-host';

/** A question that waits for the host's reply. */
export interface HostQuestion {
  readonly id: string;
  readonly query: HostQuery;
}

/** The answer, or why there is none. */
export type HostReply =
  | { readonly answer: HostAnswer }
  | { readonly error: { readonly code: string; readonly message: string } };

export interface EnrolRequest {
  /** Token id and one-shot secret out of the join string. */
  readonly token: string;
  readonly secret: string;
  /** PEM CSR; the CA takes its public key and nothing else. */
  readonly hostCsr: string;
  readonly gossipAddresses: readonly string[];
  /** The host's wall clock, ms since the epoch: off by more than 10 minutes is refused with cause CLOCK_SKEW. */
  readonly clock: number;
}

export interface EnrolResponse {
  readonly host: string;
  readonly epoch: number;
  /** PEM chain, leaf first, intermediate after it. */
  readonly hostSvid: string;
}

export interface SvidRequest {
  readonly requests: readonly { readonly kind: 'host' | 'workload'; readonly group?: string; readonly csr: string }[];
}

export interface SvidResponse {
  /** In the order of the requests: a PEM chain, or why not. */
  readonly results: readonly ({ readonly svid: string } | { readonly code: string; readonly message: string })[];
}

/** The Secrets of gateways that a host needs, `NAMESPACE/NAME`; at most 100. */
export interface SecretsRequest {
  /** What it has of each: `version`, or the `code` that it was told last; empty: nothing. */
  readonly secrets: readonly { readonly name: string; readonly have: string }[];
  /** Seconds to wait for a difference; at most 55. */
  readonly wait: number;
}

/** Only what differs from what the host has; values are PEM. Bounded in bytes: what is left out comes with the next request. */
export interface SecretsResponse {
  readonly secrets: readonly SecretAnswer[];
}

export type SecretAnswer =
  | { readonly name: string; readonly version: string; readonly parts: SecretParts }
  | { readonly name: string; readonly code: string; readonly message: string };

/** What a host reports of itself; kept in memory by controllers, shown by `meshctl describe` and `get hosts`. */
export interface HostStatus {
  readonly host: string;
  readonly agentVersion: string;
  readonly capability: number;
  /** Generation that the agent verified and translated; 0 before the first. */
  readonly generation: number;
  /** Latest generation that Envoy acknowledged whole (nothing pending, refused resources aside). */
  readonly ackedGeneration: number;
  readonly envoyConnected: boolean;
  /** Resources that Envoy refused; each keeps its last good version. At most 100 are reported. */
  readonly refused: readonly RefusedResource[];
  readonly workloads: readonly {
    readonly group: string;
    readonly health: string;
    readonly svidNotAfter?: string;
    readonly spiffeId?: string;
  }[];
  readonly peers: {
    readonly alive: number;
    readonly suspect: number;
    readonly dead: number;
    /** Hosts that this one's gossip is linked to; at most 64. Absent in reports of older agents. */
    readonly links?: readonly string[];
  };
  /** Problems in one line each: clock, disk, stale config, no SVID. */
  readonly problems: readonly string[];
  /** What gossip refused in the last hour, newest first; at most 20. Absent in reports of older agents. */
  readonly gossipRefused?: readonly GossipRefusal[];
}

/** One host whose records or links were refused, and why. */
export interface GossipRefusal {
  readonly host: string;
  /** A value of the metrics' `result` labels, e.g. `group-not-granted`, `signature`, `address-unproven`. */
  readonly reason: string;
  readonly count: number;
  /** RFC 3339. */
  readonly lastAt: string;
  readonly detail?: string;
}

export interface RefusedResource {
  readonly typeUrl: string;
  readonly resource: string;
  /** Operator objects that shaped it, `KIND/NS/NAME`. */
  readonly origins: readonly string[];
  /** Envoy's own words, at most 2 KiB. */
  readonly message: string;
  readonly generation: number;
}
