import type { ConnectionPoolSpec } from '../mesh-view/specs/destination-rule.ts';
import { type ClusterPlan, plannedEndpoints } from './cluster-plan.ts';
import { loadAssignment } from './endpoint.ts';
import { ADS, any, compact, duration, type JsonObject, resource } from './json.ts';
import { loadBalancing, outlierDetection } from './load-balancing.ts';
import { CLUSTER, statName } from './names.ts';
import type { XdsResource } from './resource-set.ts';
import { serviceMetadata } from './telemetry-labels.ts';
import { ALPN, RAW, upstreamMtls } from './tls.ts';

/** No limit: Envoy's own default of 1,024 would be an undeclared connection pool. Source: Istio, "connectionPool" defaults. */
const NO_LIMIT = 4_294_967_295;
const CONNECT_TIMEOUT = '10s';
/** A mesh connection lives an hour at most, jittered, so that renewed identities and new endpoints get their share (DESIGN 3.12). */
const MESH_CONNECTION = { max_connection_duration: '3600s', max_connection_duration_jitter: { value: 10 } } as const;

/**
 * A kept connection to a local application is given up before the application does so (gunicorn after 2 s, Node and uvicorn after 5 s): a
 * request that meets the application's close is lost (seen: 5 of 94,000, UC at the inbound leg). A new one costs next to nothing here.
 */
const LOCAL_IDLE = '1.500s';
const IDLE = '3600s';

/** What a cluster speaks: `same` is what its caller speaks. */
type HttpVersion = 'http1' | 'http2' | 'same';

/** The Cluster of a plan. */
export function clusterResource(plan: ClusterPlan): XdsResource {
  const { service, policy } = plan;
  const pool = policy.connectionPool;
  const body: JsonObject = {
    ...discovery(plan),
    alt_stat_name: statName(plan.name),
    connect_timeout: duration(pool?.tcp?.connectTimeout) ?? CONNECT_TIMEOUT,
    circuit_breakers: circuitBreakers(pool),
    ...keepalive(pool),
    ...loadBalancing(plan),
    ...outlierDetection(plan),
    ...transportSocket(plan),
    typed_extension_protocol_options: httpOptions(plan),
    metadata: { filter_metadata: { istio: serviceMetadata(service) } },
  };
  return resource('cluster', plan.name, compact(body), plan.origins);
}

/** True when the cluster's endpoints come by EDS: everything but DNS names and original destinations. */
export function usesEds({ service, policy }: ClusterPlan): boolean {
  return service.resolution === 'STATIC' && policy.loadBalancer?.simple !== 'PASSTHROUGH';
}

function discovery(plan: ClusterPlan): JsonObject {
  const { service, policy, name } = plan;
  if (service.resolution === 'NONE' || policy.loadBalancer?.simple === 'PASSTHROUGH') return { type: 'ORIGINAL_DST' };
  if (service.resolution === 'STATIC')
    return { type: 'EDS', eds_cluster_config: { eds_config: ADS, service_name: name } };
  return {
    type: service.resolution === 'DNS' ? 'STRICT_DNS' : 'LOGICAL_DNS',
    dns_lookup_family: 'ALL',
    respect_dns_ttl: true,
    dns_refresh_rate: '60s',
    load_assignment: loadAssignment(plan, plannedEndpoints(plan), ''),
  };
}

function circuitBreakers(pool: ConnectionPoolSpec | undefined): JsonObject {
  const limit = (value: number | undefined) => (value === undefined || value === 0 ? NO_LIMIT : value);
  return {
    thresholds: [
      {
        max_connections: limit(pool?.tcp?.maxConnections),
        max_pending_requests: limit(pool?.http?.http1MaxPendingRequests),
        max_requests: limit(pool?.http?.http2MaxRequests),
        max_retries: limit(pool?.http?.maxRetries),
        track_remaining: true,
      },
    ],
  };
}

function keepalive(pool: ConnectionPoolSpec | undefined): JsonObject {
  const settings = pool?.tcp?.tcpKeepalive;
  if (settings === undefined) return {};
  const seconds = (text: string | undefined) => {
    const value = duration(text);
    return value === undefined ? undefined : Math.round(Number(value.slice(0, -1)));
  };
  return {
    upstream_connection_options: {
      tcp_keepalive: compact({
        keepalive_probes: settings.probes,
        keepalive_time: seconds(settings.time),
        keepalive_interval: seconds(settings.interval),
      }),
    },
  };
}

function transportSocket(plan: ClusterPlan): JsonObject {
  if (plan.transport === 'plain') return {};
  const http = speaksHttp(plan);
  const alpn = http ? (httpVersion(plan) === 'http2' ? ALPN.http2 : ALPN.http) : ALPN.tcp;
  const mtls = upstreamMtls({ identities: plan.service.identities, sni: plan.sni, alpn });
  if (plan.transport === 'mtls') return { transport_socket: mtls };
  return {
    transport_socket_matches: [
      { name: 'tlsMode-istio', match: { tlsMode: 'istio' }, transport_socket: mtls },
      { name: 'tlsMode-disabled', match: {}, transport_socket: RAW },
    ],
  };
}

function speaksHttp({ port }: ClusterPlan): boolean {
  return port.protocol === 'HTTP' || port.protocol === 'HTTP2' || port.protocol === 'AUTO';
}

/** DESIGN 3.13: HTTP/2 between proxies, unless the pool counts connections or requests of HTTP/1.1, or says not to. */
function httpVersion({ port, transport, policy }: ClusterPlan): HttpVersion {
  const { tcp, http } = policy.connectionPool ?? {};
  if (port.protocol === 'HTTP2') return 'http2';
  if (http?.useClientProtocol === true) return 'same';
  const countsHttp1 =
    (tcp?.maxConnections ?? 0) > 0 ||
    (http?.http1MaxPendingRequests ?? 0) > 0 ||
    (http?.maxRequestsPerConnection ?? 0) > 0;
  if (http?.h2UpgradePolicy === 'UPGRADE') return 'http2';
  if (transport === 'mtls' && http?.h2UpgradePolicy !== 'DO_NOT_UPGRADE' && !countsHttp1) return 'http2';
  return port.protocol === 'AUTO' ? 'same' : 'http1';
}

function httpOptions(plan: ClusterPlan): JsonObject | undefined {
  if (!speaksHttp(plan)) return undefined;
  const http = plan.policy.connectionPool?.http;
  const common = compact({
    idle_timeout: duration(http?.idleTimeout) ?? IDLE,
    max_requests_per_connection: http?.maxRequestsPerConnection,
    ...(plan.transport === 'plain' ? {} : MESH_CONNECTION),
  });
  return httpProtocolOptions(httpVersion(plan), common, http?.maxConcurrentStreams);
}

function httpProtocolOptions(version: HttpVersion, common: JsonObject, maxStreams?: number): JsonObject {
  // allow_connect: WebSocket and other upgrades travel as extended CONNECT (RFC 8441) where the connection is HTTP/2.
  const http2 = compact({ allow_connect: true, max_concurrent_streams: maxStreams });
  const config =
    version === 'same'
      ? { use_downstream_protocol_config: { http_protocol_options: {}, http2_protocol_options: http2 } }
      : {
          explicit_http_config: version === 'http2' ? { http2_protocol_options: http2 } : { http_protocol_options: {} },
        };
  return {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': any(
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      compact({ common_http_protocol_options: Object.keys(common).length === 0 ? undefined : common, ...config }),
    ),
  };
}

/** Clusters that every host has, whatever the config: passthrough, black hole and the legs to local applications. */
export function fixedClusters(ipv6: boolean): readonly XdsResource[] {
  const originalDst: JsonObject = {
    type: 'ORIGINAL_DST',
    lb_policy: 'CLUSTER_PROVIDED',
    connect_timeout: CONNECT_TIMEOUT,
    circuit_breakers: circuitBreakers(undefined),
  };
  // The source address by which the redirection knows the inbound leg (DESIGN 4).
  const bind: JsonObject = {
    source_address: { address: '127.0.0.6', port_value: 0 },
    ...(ipv6 ? { extra_source_addresses: [{ address: { address: '::6', port_value: 0 } }] } : {}),
  };
  const leg = (name: string, version: HttpVersion | undefined): XdsResource =>
    resource(
      'cluster',
      name,
      compact({
        ...originalDst,
        upstream_bind_config: bind,
        typed_extension_protocol_options:
          version === undefined
            ? undefined
            : httpProtocolOptions(version, { idle_timeout: version === 'http2' ? IDLE : LOCAL_IDLE }),
      }),
      [],
    );
  return [
    resource(
      'cluster',
      CLUSTER.passthrough,
      { ...originalDst, typed_extension_protocol_options: httpProtocolOptions('same', {}) },
      [],
    ),
    resource('cluster', CLUSTER.blackHole, { type: 'STATIC', connect_timeout: CONNECT_TIMEOUT }, []),
    leg(CLUSTER.inboundHttp1, 'http1'),
    leg(CLUSTER.inboundHttp2, 'http2'),
    leg(CLUSTER.inboundSame, 'same'),
    leg(CLUSTER.inboundTcp, undefined),
  ];
}
