/**
 * What one host says of itself (DESIGN 3.7). One record a host, signed by the host SVID; accepted only where the host's grant in signed
 * config names each group. Labels and ports come from the WorkloadGroup, never from here.
 */
export interface HostRecord {
  readonly host: string;
  /** From the grant: a re-enrolled host starts a new epoch. */
  readonly epoch: number;
  /** Persisted by the host, grows with each change; (epoch, counter) orders the records of one host. No clock. */
  readonly counter: number;
  readonly capability: number;
  readonly network: string;
  /** Addresses on which workloads are served, textual IPv4 or IPv6; at most 8. */
  readonly addresses: readonly string[];
  /** Where gossip listens: `IP:PORT` or `[IP6]:PORT`; at most 8. */
  readonly gossipAddresses: readonly string[];
  /** X25519 public key of this boot, base64, for the failure detector's pair keys. */
  readonly probeKey: string;
  readonly workloads: readonly WorkloadRecord[];
  /** True in the last record of a host that leaves in order. */
  readonly leaving?: boolean;
}

/** One WorkloadGroup that the host serves now. */
export interface WorkloadRecord {
  /** `NAMESPACE/NAME` of the WorkloadGroup. */
  readonly group: string;
  readonly health: 'healthy' | 'unhealthy' | 'draining';
  /** Relative load-balancing weight, 1 to 1000; absent: the WorkloadGroup's. */
  readonly weight?: number;
}

/** What the observing host thinks of a peer: its own probes decide (DESIGN 6). */
export type Liveness = 'alive' | 'suspect' | 'dead' | 'left';

/** One host in the endpoint table of an observer. */
export interface HostEntry {
  readonly record: HostRecord;
  readonly liveness: Liveness;
  /** Those of record.addresses that answered a probe with the host's key, or were persisted as such. */
  readonly provenAddresses: readonly string[];
}

/** An immutable snapshot of the endpoint table. `synced`: compared with a neighbour, or 30 s passed, since the start (DESIGN 2, warm start). */
export interface EndpointSnapshot {
  readonly version: number;
  readonly synced: boolean;
  /** By host id; own host included. */
  readonly hosts: ReadonlyMap<string, HostEntry>;
}
