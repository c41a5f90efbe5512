import type { ClientView } from '../mesh-view/lookup.ts';
import type { ServiceView, WorkloadView } from '../mesh-view/view.ts';

/** Clusters that every host has. */
export const CLUSTER = {
  /** To wherever the application was going. */
  passthrough: 'PassthroughCluster',
  /** Nowhere: REGISTRY_ONLY, and what must not be let through. */
  blackHole: 'BlackHoleCluster',
} as const;

/** SNI of a connection to one port and subset, as Istio's gateways between networks read it. */
export function sniName(host: string, port: number, subset?: string): string {
  return `outbound_.${port}_.${subset ?? ''}_.${host}`;
}

/** Name of the cluster by which a client reaches a port and subset: the SNI, and a suffix where this client's namespace has its own. */
export function clusterName(client: ClientView, service: ServiceView, port: number, subset?: string): string {
  return `${sniName(service.host, port, subset)}${client.variant(service)}`;
}

/**
 * Name of a cluster in Envoy's statistics, `outbound|9080|v1|reviews_default_svc_cluster_local`. Envoy takes what follows the first dot for a
 * part of the metric: with the cluster's own name Prometheus would get hundreds of metrics a cluster instead of one label.
 */
export function statName(cluster: string): string {
  return cluster.replaceAll('_.', '|').replaceAll('.', '_');
}

/**
 * Route configuration of one port: `vip` for virtual and written addresses, `any` for services that live wherever clients go; both are one for
 * all of the host's workloads of a namespace, whatever sets them apart (route-table.ts): the name is in filter chains and must not follow
 * config. `own`, for the address `bind` of a Sidecar's listener, is a workload's own.
 */
export function routeName(workload: WorkloadView, port: number, scope: 'vip' | 'any' | 'own', bind = ''): string {
  return scope === 'own'
    ? `outbound_.${port}_.${workload.group}_.own${bind}`
    : `outbound_.${port}_.${workload.namespace}${scope === 'vip' ? '' : `_.${scope}`}`;
}

export function outboundListenerName(workload: WorkloadView): string {
  return `outbound_${workload.outboundPort}`;
}

export const INBOUND_LISTENER = 'inbound';

/** The TCP proxy of one chain, as an extension config: its route can change without touching the chain. */
export function tcpRouteName(workload: WorkloadView, port: number, host: string, match = ''): string {
  return `tcp_.${port}_.${host}${match === '' ? '' : `_.${match}`}@${workload.group}`;
}

/** Policy of a workload's inbound chains, as extension configs. */
export function rbacName(workload: WorkloadView, kind: 'http' | 'tcp', action: 'deny' | 'allow'): string {
  return `rbac_.${kind}_.${action}@${workload.group}`;
}
