import type { ConnectionPoolSpec, PortPolicy, TcpKeepaliveSpec } from '../mesh-view/specs/destination-rule.ts';
import type { ClusterPlan } from './cluster-plan.ts';
import { any, compact, duration, type JsonObject } from './json.ts';
import { alike } from './resource-set.ts';

/** No limit: Envoy's own default of 1,024 would be an undeclared connection pool. Source: Istio, "connectionPool" defaults. */
const NO_LIMIT = 4_294_967_295;
/** Where nobody says how long a connection may be idle. */
export const IDLE = '3600s';
/**
 * A kept connection to a local application is given up before the application does so (gunicorn after 2 s, Node and uvicorn after 5 s): a
 * request that meets the application's close is lost (seen: 5 of 94,000, UC at the inbound leg). A new one costs next to nothing here.
 */
export const LOCAL_IDLE = '1.500s';
/** Istio's default. */
export const CONNECT_TIMEOUT = '10s';
/** A mesh connection lives an hour at most, jittered, so that renewed identities and new endpoints get their share (DESIGN 3.12). */
const MESH_CONNECTION = { max_connection_duration: '3600s', max_connection_duration_jitter: { value: 10 } } as const;
/** Istio's API reference: retryBudget's defaults. */
const RETRY_BUDGET = { percent: 20, minRetryConcurrency: 3 } as const;

/** What a cluster speaks: `same` is what its caller speaks. */
export type HttpVersion = 'http1' | 'http2' | 'same';

/** Limits of a cluster. 0 and absent: none. */
export function circuitBreakers(pool?: ConnectionPoolSpec, budget?: PortPolicy['retryBudget']): JsonObject {
  const limit = (value: number | undefined) => (value === undefined || value === 0 ? NO_LIMIT : value);
  return alike({
    thresholds: [
      compact({
        max_connections: limit(pool?.tcp?.maxConnections),
        max_pending_requests: limit(pool?.http?.http1MaxPendingRequests),
        max_requests: limit(pool?.http?.http2MaxRequests),
        max_retries: limit(pool?.http?.maxRetries),
        retry_budget:
          budget === undefined
            ? undefined
            : {
                budget_percent: { value: budget.percent ?? RETRY_BUDGET.percent },
                min_retry_concurrency: budget.minRetryConcurrency || RETRY_BUDGET.minRetryConcurrency,
              },
      }),
    ],
  });
}

/** SO_KEEPALIVE, where anybody asks for it; what is left out is the kernel's. */
export function keepalive(settings: TcpKeepaliveSpec | undefined): JsonObject {
  if (settings === undefined) return {};
  const seconds = (text: string | undefined) => {
    const value = duration(text);
    return value === undefined ? undefined : Math.max(1, Math.round(Number(value.slice(0, -1))));
  };
  return {
    upstream_connection_options: {
      tcp_keepalive: compact({
        keepalive_probes: settings.probes || undefined,
        keepalive_time: seconds(settings.time),
        keepalive_interval: seconds(settings.interval),
      }),
    },
  };
}

/** Whether HTTP may travel on a port; on one that is not declared, bytes may too. */
export function speaksHttp({ port }: ClusterPlan): boolean {
  return port.protocol === 'HTTP' || port.protocol === 'HTTP2' || port.protocol === 'AUTO';
}

/**
 * DESIGN 3.13: HTTP/2 between proxies, unless the pool counts connections or requests of HTTP/1.1, or says not to. To a forward proxy,
 * which a tunnel goes through, the version is that of its port.
 */
export function httpVersion({ port, transport, policy, defaults }: ClusterPlan): HttpVersion {
  const { tcp, http } = policy.connectionPool ?? {};
  if (http?.useClientProtocol === true) return 'same';
  if (port.protocol === 'HTTP2') return 'http2';
  if (http?.h2UpgradePolicy === 'UPGRADE') return 'http2';
  const countsHttp1 =
    (tcp?.maxConnections ?? 0) > 0 ||
    (http?.http1MaxPendingRequests ?? 0) > 0 ||
    (http?.maxRequestsPerConnection ?? 0) > 0;
  const meshwide = http?.h2UpgradePolicy === 'DO_NOT_UPGRADE' ? 'DO_NOT_UPGRADE' : defaults.h2UpgradePolicy;
  if (meshwide === 'UPGRADE' && port.protocol === 'HTTP' && policy.tunnel === undefined) return 'http2';
  const may = meshwide !== 'DO_NOT_UPGRADE' && !countsHttp1 && policy.tunnel === undefined;
  if (transport === 'mtls' && may) return 'http2';
  return port.protocol === 'AUTO' ? (defaults.undeclared ?? 'same') : 'http1';
}

/** typed_extension_protocol_options of a cluster that carries HTTP. `upstream`: members of upstream_http_protocol_options. */
export function httpOptions(plan: ClusterPlan, upstream: JsonObject): JsonObject | undefined {
  if (!speaksHttp(plan)) return undefined;
  const { tcp, http } = plan.policy.connectionPool ?? {};
  const longest = duration(tcp?.maxConnectionDuration);
  const common = compact({
    idle_timeout: duration(http?.idleTimeout) ?? duration(tcp?.idleTimeout) ?? IDLE,
    max_requests_per_connection: http?.maxRequestsPerConnection || undefined,
    ...(longest !== undefined
      ? { max_connection_duration: longest }
      : plan.transport === 'plain'
        ? {}
        : MESH_CONNECTION),
  });
  const maxStreams = http?.maxConcurrentStreams || undefined;
  return httpProtocolOptions(httpVersion(plan), common, { maxStreams, upstream });
}

/** HttpProtocolOptions. `common`, `upstream`: members of common_http_protocol_options and upstream_http_protocol_options. */
export function httpProtocolOptions(
  version: HttpVersion,
  common: JsonObject,
  more: { readonly maxStreams?: number | undefined; readonly upstream?: JsonObject } = {},
): JsonObject {
  // allow_connect: WebSocket and other upgrades travel as extended CONNECT (RFC 8441) where the connection is HTTP/2.
  const http2 = compact({ allow_connect: true, max_concurrent_streams: more.maxStreams });
  const config =
    version === 'same'
      ? { use_downstream_protocol_config: { http_protocol_options: {}, http2_protocol_options: http2 } }
      : {
          explicit_http_config: version === 'http2' ? { http2_protocol_options: http2 } : { http_protocol_options: {} },
        };
  const filled = (body: JsonObject | undefined) =>
    body === undefined || Object.keys(body).length === 0 ? undefined : body;
  return {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': alike(
      any(
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        compact({
          common_http_protocol_options: filled(common),
          upstream_http_protocol_options: filled(more.upstream),
          ...config,
        }),
      ),
    ),
  };
}

/** What a DestinationRule adds to the TcpProxy through which bytes reach its host: the policy of the first destination counts (Istio). */
export function tcpSettings({ connectionPool, tunnel }: PortPolicy): JsonObject {
  const { idleTimeout, maxConnectionDuration } = connectionPool?.tcp ?? {};
  return compact({
    idle_timeout: duration(idleTimeout),
    max_downstream_connection_duration: duration(maxConnectionDuration),
    tunneling_config:
      tunnel === undefined
        ? undefined
        : compact({
            hostname: `${tunnel.targetHost.includes(':') ? `[${tunnel.targetHost}]` : tunnel.targetHost}:${tunnel.targetPort}`,
            use_post: tunnel.protocol === 'POST' || undefined,
          }),
  });
}
