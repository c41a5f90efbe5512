import type { HostStatus } from './agent-api.ts';

/**
 * The operators' REST API beyond Kubernetes' own conventions: paths and bodies that `meshctl` and the controller agree on. Errors are
 * Status objects (status-errors.ts). Every path needs a credential (bearer token or client certificate).
 */
export const OPERATOR_API = {
  /** The group of the kinds that are ours. */
  group: 'hostmesh.io',
  version: 'v1',
  groupVersion: 'hostmesh.io/v1',
  /** POST ApplyRequest (JSON) or YAML documents (application/yaml); ?dryRun=All -> ApplyResponse. All or none, one revision, one generation. */
  apply: '/apis/hostmesh.io/v1/apply',
  /** POST JoinToken -> 201 JoinToken with status.joinString: the only time it is shown. No get, no list. */
  joinTokens: '/apis/hostmesh.io/v1/jointokens',
  /** GET -> HostList (or Table); GET .../NAME -> Host. Read only. */
  hosts: '/apis/hostmesh.io/v1/hosts',
  /** POST {} -> 200 Host with spec.revoked true: takes effect by signed config, within seconds. */
  revokeHost: (name: string): string => `/apis/hostmesh.io/v1/hosts/${encodeURIComponent(name)}/revoke`,
  /**
   * POST HostQuery (host-query.ts, at most 16 KiB) -> HostAnswer, relayed to the host's agent. Needs `get` (`update` for a change) and, but for
   * admins, that every WorkloadGroup of the host is in one's namespaces. 503 while the host is not connected, 429 above 5 a second.
   */
  lookIntoHost: (name: string): string => `/apis/hostmesh.io/v1/hosts/${encodeURIComponent(name)}/look`,
  /** GET -> {items: PrincipalShown[]}; POST PrincipalRequest -> 201 PrincipalMade; PUT (replaces, with a new credential) and DELETE .../NAME. Admins only. */
  principals: '/apis/hostmesh.io/v1/principals',
  /** GET -> MeshStatus */
  status: '/apis/hostmesh.io/v1/status',
} as const;

/** Bounds of the API, in bytes and counts; beyond them 413 or 422. */
export const OPERATOR_LIMITS = {
  maxObjectBytes: 1024 * 1024,
  maxTransactionBytes: 8 * 1024 * 1024,
  maxTransactionObjects: 5000,
} as const;

/** Media types that the transaction takes as YAML. */
export const YAML_MEDIA_TYPES: readonly string[] = [
  'application/yaml',
  'application/x-yaml',
  'text/yaml',
  'text/x-yaml',
];

export interface ApplyRequest {
  /** Objects as an operator wrote them; `kind: List` is not taken here (the client flattens it). */
  readonly objects: readonly unknown[];
}

/** Something legal and probably not meant. `path` is empty where the whole object is meant. */
export interface ApiWarning {
  readonly path: string;
  readonly message: string;
  /** Kind of finding, as `meshctl analyze` has it, e.g. IST0173. */
  readonly code?: string;
}

export type ApplyAction = 'created' | 'configured' | 'unchanged';

export interface ApplyResponse {
  readonly apiVersion: 'hostmesh.io/v1';
  readonly kind: 'ApplyResult';
  /** Store revision after the transaction; the current one for a dry run or when nothing changed. */
  readonly revision: number;
  readonly dryRun: boolean;
  /** In the order of the request. */
  readonly results: readonly ApplyResult[];
  /** What is left out of the results' warnings, one line each. */
  readonly notes?: readonly string[];
}

export interface ApplyResult {
  /** `KIND/NAMESPACE/NAME` (api/resources/object.ts). */
  readonly key: string;
  readonly action: ApplyAction;
  readonly warnings: readonly ApiWarning[];
}

/** Why a transaction was refused: a Status whose details.causes have `field` = `objects[INDEX].PATH`, INDEX being the object's place in the request. */
export const APPLY_CAUSE_FIELD = /^objects\[(\d+)\]\.?(.*)$/;

/** How long a join string may be good, in whole seconds; 7 days at most. */
export const JOIN_TOKEN_TTL_SECONDS = { min: 1, max: 7 * 86_400, default: 3600 } as const;

/** `POST jointokens`. Metadata may be empty: tokens have no name that an operator chooses. */
export interface JoinToken {
  readonly apiVersion: 'hostmesh.io/v1';
  readonly kind: 'JoinToken';
  readonly spec: {
    readonly host: string;
    /** `NAMESPACE/NAME` each; at most 100. */
    readonly workloadGroups: readonly string[];
    /** Within JOIN_TOKEN_TTL_SECONDS. */
    readonly ttlSeconds?: number;
    /** Gossip addresses for the host to dial first, `IP:PORT`; at most 16. */
    readonly peers?: readonly string[];
  };
  readonly status?: {
    readonly id: string;
    /** A secret (api/http/join-string.ts). */
    readonly joinString: string;
    /** RFC 3339. */
    readonly expires: string;
  };
}

/** Who may call, as an admin wants it. */
export interface PrincipalRequest {
  /** A DNS label. */
  readonly name: string;
  readonly role: 'admin' | 'namespace';
  /** Of role `namespace` only, at least one. */
  readonly namespaces?: readonly string[];
  /** Only these; absent: all. */
  readonly verbs?: readonly string[];
  /** PEM certificate request of the operator's own key: a client certificate is made instead of a token. */
  readonly csr?: string;
}

export interface PrincipalShown {
  readonly name: string;
  readonly role: 'admin' | 'namespace';
  readonly namespaces: readonly string[];
  readonly verbs?: readonly string[];
  readonly credential: 'token' | 'certificate';
}

/** The one answer that carries the credential. */
export interface PrincipalMade extends PrincipalShown {
  readonly token?: string;
  /** PEM chain, good for a year, and for as long as the principal is not taken away. */
  readonly certificate?: string;
}

/** One host that signed config grants something: the grant as spec, what the host reported last as status. */
export interface Host {
  readonly apiVersion: 'hostmesh.io/v1';
  readonly kind: 'Host';
  readonly metadata: { readonly name: string; readonly creationTimestamp?: string };
  readonly spec: {
    readonly workloadGroups: readonly string[];
    readonly gossipAddresses: readonly string[];
    readonly epoch: number;
    readonly revoked: boolean;
  };
  /** Absent: the host has not reported to this controller since it started. */
  readonly status?: HostStatus & {
    /** RFC 3339, the controller's clock. */
    readonly reportedAt: string;
  };
}

/** `GET status`: the mesh as this controller sees it. */
export interface MeshStatus {
  readonly apiVersion: 'hostmesh.io/v1';
  readonly kind: 'MeshStatus';
  readonly version: string;
  readonly trustDomain: string;
  /** Latest store revision and latest signed generation; they differ only while a signature is under way. */
  readonly revision: number;
  readonly generation: number;
  readonly controllers: readonly {
    readonly name: string;
    readonly url: string;
    /** True for the one that answered. */
    readonly self: boolean;
    readonly reachable: boolean;
    readonly startedAt?: string;
  }[];
  readonly hosts: {
    readonly total: number;
    readonly reporting: number;
    /** Hosts whose Envoy acknowledged `generation`. */
    readonly current: number;
    readonly revoked: number;
  };
  readonly objects: number;
  readonly rootKeys: {
    readonly total: number;
    readonly threshold: number;
    /** True when root keys are kept on the controller: right for a demo, never in production (DESIGN 3.3). */
    readonly keptOnController: boolean;
  };
  /** When the signed timestamp runs out, RFC 3339. */
  readonly timestampExpires?: string;
  /** One line each. */
  readonly problems: readonly string[];
}
