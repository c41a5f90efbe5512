/** Effective options of mesh-agent, after agent.yaml, defaults and flags (parsed and validated in this file by parseAgentConfig). */
export interface AgentConfig {
  /** This host's id; written by `mesh-agent join`. */
  readonly host: string;
  readonly trustDomain: string;
  /** Keys, SVIDs, generations, endpoint table, bootstrap. Default /var/lib/mesh. */
  readonly stateDir: string;
  /** xds.sock, admin.sock, redirect spec and result. Default /run/mesh. */
  readonly runDir: string;
  /** Addresses that workloads are served on and peers are told; default: every global unicast address of the host. */
  readonly addresses: readonly string[];
  readonly network: string;
  readonly locality: string;
  readonly workloads: readonly WorkloadBinding[];
  /** Namespace in which short names are answered for users that run no workload. Default `default`. */
  readonly defaultNamespace: string;
  readonly controllers: readonly string[];
  readonly ports: {
    readonly outbound: number;
    readonly inbound: number;
    readonly metrics: number;
    readonly readiness: number;
    readonly dns: number;
    readonly envoyMetrics: number;
    readonly gossip: number;
  };
  readonly metricsAddress: string;
  readonly redirect: {
    readonly enabled: boolean;
    readonly onProxyFailure: 'closed' | 'bypass';
    /** Users that may talk to workloads' ports over loopback, besides root, the proxy and the workload. */
    readonly loopbackAllow: readonly string[];
    /** Destinations never captured: CIDRs and ports, besides the built-in ones (22, 169.254.0.0/16, gossip, controller). */
    readonly excludeCidrs: readonly string[];
    readonly excludePorts: readonly number[];
  };
  readonly dns: { readonly enabled: boolean; readonly upstreams: readonly string[] };
  readonly proxyUser: string;
  readonly agentUser: string;
  readonly logLevel: 'error' | 'warn' | 'info' | 'debug';
}

/** Which unix user serves a WorkloadGroup on this host. */
export interface WorkloadBinding {
  /** `NAMESPACE/NAME` of the WorkloadGroup. */
  readonly group: string;
  readonly user: string;
  /** Further users that may own the listening sockets (DESIGN 3.5). */
  readonly portOwners: readonly string[];
}
