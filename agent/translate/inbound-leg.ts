import type { HostView, InboundPort, WorkloadView } from '../mesh-view/view.ts';
import { inboundBind } from './cluster.ts';
import {
  CONNECT_TIMEOUT,
  circuitBreakers,
  httpProtocolOptions,
  IDLE,
  keepalive,
  LOCAL_IDLE,
} from './connection-pool.ts';
import { compact, duration, type JsonObject, resource, socketAddress } from './json.ts';
import { statName } from './names.ts';
import type { XdsResource } from './resource-set.ts';

/** How the proxy speaks to its application: HTTP/1.1, HTTP/2, as the caller does, or bytes. */
export type LegKind = 'http1' | 'http2' | 'same' | 'tcp';

/**
 * Cluster of one leg. Each port has its own, whether a Sidecar speaks of it or not: what it says then changes clusters, and no listener, whose
 * open connections would have to be drained (DESIGN 3.12).
 */
export function legName(workload: WorkloadView, port: InboundPort, kind: LegKind): string {
  return `inbound_.${port.number}_.${kind}_.${workload.group}`;
}

/** Legs that the chains of a port lead to: from peers by HTTP of either version, from strangers as they speak, and bytes. */
function kindsOf({ mode, protocol }: InboundPort): readonly LegKind[] {
  const http = protocol !== 'TCP' && protocol !== 'TLS';
  return [
    ...(mode === 'DISABLE' ? [] : (['http1', 'http2'] as const)),
    ...(mode === 'STRICT' || !http ? [] : (['same'] as const)),
    'tcp',
  ];
}

/** Clusters of a port. */
export function legClusters(host: HostView, workload: WorkloadView, port: InboundPort): readonly XdsResource[] {
  return kindsOf(port).map((kind) => {
    const name = legName(workload, port, kind);
    const body = compact({
      ...destination(host, name, port),
      alt_stat_name: statName(name),
      connect_timeout: duration(port.pool?.tcp?.connectTimeout) ?? CONNECT_TIMEOUT,
      circuit_breakers: circuitBreakers(port.pool),
      ...keepalive(port.pool?.tcp?.tcpKeepalive),
      upstream_bind_config: inboundBind(host.ipv6),
      typed_extension_protocol_options: kind === 'tcp' ? undefined : httpOptions(port, kind),
    });
    return resource('cluster', name, body, workload.origins);
  });
}

/** Where the connection went, at the port of defaultEndpoint; or that address, by itself. */
function destination(host: HostView, name: string, { endpoint, bind, number }: InboundPort): JsonObject {
  const unspecified = endpoint === undefined || ['', '0.0.0.0', '::'].includes(endpoint.address);
  const port = endpoint?.port ?? number;
  if (unspecified && bind === undefined) {
    return {
      type: 'ORIGINAL_DST',
      lb_policy: 'CLUSTER_PROVIDED',
      original_dst_lb_config: port === number ? undefined : { upstream_port_override: port },
    };
  }
  const address = unspecified ? (host.addresses[0] ?? '127.0.0.1') : endpoint.address;
  return {
    type: 'STATIC',
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(address, port) } }] }],
    },
  };
}

function httpOptions({ pool }: InboundPort, kind: Exclude<LegKind, 'tcp'>): JsonObject {
  const common = compact({
    idle_timeout: duration(pool?.http?.idleTimeout) ?? (kind === 'http2' ? IDLE : LOCAL_IDLE),
    max_requests_per_connection: pool?.http?.maxRequestsPerConnection || undefined,
    max_connection_duration: duration(pool?.tcp?.maxConnectionDuration),
  });
  return httpProtocolOptions(kind, common, { maxStreams: pool?.http?.maxConcurrentStreams || undefined });
}
