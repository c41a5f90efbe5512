import type { HostStatus } from './agent-api.ts';

/** The agent's admin API: HTTP with JSON over the unix socket `RUN_DIR/admin.sock` (0660 root:mesh). Never answers a private key. */
export const ADMIN_API = {
  /** GET -> AgentStatus */
  status: '/status',
  /** GET -> PeerRow[] */
  peers: '/peers',
  /** GET -> the ResourceSet now served, as JSON by type and name, secrets as names only */
  config: '/config',
  /** GET -> the verified DesiredConfig as JSON */
  desired: '/desired',
  /** GET -> the endpoint table as JSON */
  endpoints: '/endpoints',
  /** POST {"level": "debug"} -> 204 */
  logLevel: '/log-level',
  /** POST HostQuery (host-query.ts) -> HostAnswer: what a controller relays, without one */
  look: '/look',
  /** POST -> 204 after the host withdrew its endpoints and drained: called before an orderly stop */
  leave: '/leave',
} as const;

export interface AgentStatus extends HostStatus {
  readonly ready: boolean;
  readonly startedAt: string;
  readonly controllers: readonly { readonly url: string; readonly reachable: boolean; readonly lastError?: string }[];
  readonly configAgeSeconds: number;
}

export interface PeerRow {
  readonly host: string;
  readonly state: string;
  readonly epoch: number;
  readonly counter: number;
  readonly addresses: readonly string[];
  readonly workloads: readonly string[];
  readonly linked: boolean;
  readonly rttMs?: number;
  readonly lastSeenSecondsAgo?: number;
  /** Links and records that the peer says it holds, in its last answer to a probe. */
  readonly degree?: number;
  readonly records?: number;
}
