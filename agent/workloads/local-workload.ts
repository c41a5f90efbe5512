import type { ProbePlan } from './probes/plan.ts';

/** What every bound WorkloadGroup has, with a user or as a gateway. */
export interface LocalIdentity {
  /** `NAMESPACE/NAME` of the WorkloadGroup. */
  readonly group: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly spiffeId: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** One workload bound on this host: agent.yaml's binding joined with its WorkloadGroup from verified config. */
export interface LocalWorkload extends LocalIdentity {
  readonly user: string;
  readonly uid: number;
  /** 15001 for the first binding of agent.yaml, 15100-15199 for the others; persisted (DESIGN 7). */
  readonly outboundPort: number;
  /** 15053 + index of the workload's namespace among the namespaces of this host's workloads. */
  readonly dnsPort: number;
  /** Ports of the WorkloadGroup's template, sorted by number. */
  readonly ports: readonly { readonly name: string; readonly number: number }[];
  /** How its health is found out, besides by who listens on its ports. */
  readonly probe?: ProbePlan;
  readonly health: 'healthy' | 'unhealthy' | 'draining';
}
