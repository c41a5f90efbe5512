import type { MeshSettings } from '../mesh-view/mesh-settings.ts';
import type { WorkloadView } from '../mesh-view/view.ts';
import { introduced, MESH_HEADER } from './caller.ts';
import { ADS, any, compact, extension, type JsonObject } from './json.ts';
import { httpAccessLogs, PEER_STATE, type Reporter, tcpAccessLogs } from './telemetry.ts';
import { ALPN, IDENTITY_STATE } from './tls.ts';

const HTTP_RBAC = 'envoy.extensions.filters.http.rbac.v3.RBAC';
const NETWORK_RBAC = 'envoy.extensions.filters.network.rbac.v3.RBAC';
const TCP_PROXY = 'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy';

/** A connection lives this long without a byte; Istio's default for TCP. */
const TCP_IDLE = '3600s';

/** A filter whose config comes as an extension resource of that name: it changes without touching its chain (DESIGN 3.12). */
export function discovered(name: string, type: string): JsonObject {
  return { name, config_discovery: { config_source: ADS, type_urls: [`type.googleapis.com/${type}`] } };
}

/** Inbound policy of an HTTP chain, denials first. */
export function httpRbacFilter(name: string): JsonObject {
  return discovered(name, HTTP_RBAC);
}

/** Inbound policy of a TCP chain, for new connections. */
export function networkRbacFilter(name: string): JsonObject {
  return discovered(name, NETWORK_RBAC);
}

/** A TCP chain's last filter; `name` is that of the extension resource made by tcpProxy. */
export function tcpProxyFilter(name: string): JsonObject {
  return discovered(name, TCP_PROXY);
}

/** Config of a TCP proxy. `target`: `cluster` or `weighted_clusters`, and what else its destination asks for. */
export function tcpProxy(
  statPrefix: string,
  target: JsonObject,
  reporter: Reporter,
  mesh: MeshSettings,
  hash: readonly JsonObject[] = [],
): JsonObject {
  return any(TCP_PROXY, {
    stat_prefix: statPrefix,
    idle_timeout: TCP_IDLE,
    ...target,
    ...(hash.length === 0 ? {} : { hash_policy: hash }),
    access_log: tcpAccessLogs(reporter, mesh.accessLog),
    access_log_options: { flush_access_log_on_connected: true },
  });
}

/** Filter state in which an outbound connection keeps the address that it was made to, as text. */
export const ADDRESS_STATE = 'hostmesh.address';

/**
 * Gives the connection the identity that its upstream connections take (DESIGN 3.5): hashed into the pool's key, so that two identities
 * never share a connection. `bytes`: it will not be HTTP, whatever the cluster's ALPN says; `outside`: nor is the other end a proxy of the mesh,
 * and a server of TLS that knows nothing of the mesh's ALPN may refuse it (nginx, Node and Go do).
 */
export function identityFilter(workload: WorkloadView, bytes: boolean | 'outside'): JsonObject {
  const state = (object_key: string, factory_key: string, value: string): JsonObject => ({
    object_key,
    factory_key,
    format_string: { text_format_source: { inline_string: value } },
    shared_with_upstream: 'ONCE',
  });
  const protocols = 'envoy.network.application_protocols';
  const destinationAddress: JsonObject = {
    object_key: ADDRESS_STATE,
    factory_key: 'envoy.string',
    format_string: { text_format_source: { inline_string: '%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%' } },
  };
  return extension(
    'envoy.filters.network.set_filter_state',
    'envoy.extensions.filters.network.set_filter_state.v3.Config',
    {
      on_new_connection: [
        state(IDENTITY_STATE, 'envoy.hashable_string', workload.spiffeId),
        ...(bytes === 'outside' ? [] : [bytes ? state(protocols, protocols, ALPN.tcp) : destinationAddress]),
      ],
    },
  );
}

const FAULT = extension('envoy.filters.http.fault', 'envoy.extensions.filters.http.fault.v3.HTTPFault');
const CORS = extension('envoy.filters.http.cors', 'envoy.extensions.filters.http.cors.v3.Cors');
const ROUTER = extension('envoy.filters.http.router', 'envoy.extensions.filters.http.router.v3.Router');
/** What routes configure, and the end of every chain that leads on. */
export const ROUTE_FILTERS: readonly JsonObject[] = [CORS, FAULT, ROUTER];

/** Keeps the peer's labels for the metrics; the router removes the headers before the application sees them. */
const PEER_LABELS = extension(
  'envoy.filters.http.set_filter_state',
  'envoy.extensions.filters.http.set_filter_state.v3.Config',
  {
    on_request_headers: (['workload', 'app', 'version'] as const).map((key) => ({
      object_key: PEER_STATE[key],
      factory_key: 'envoy.string',
      format_string: { text_format_source: { inline_string: `%REQ(${MESH_HEADER[key]})%` } },
      skip_if_empty: true,
    })),
  },
);

/**
 * What every HTTP chain has in common: nothing is buffered, no stream is timed, nothing that the application said is replaced. Paths are
 * normalized as MeshConfig says (Istio's four ways), so that policy and application see one path.
 */
export function common({ pathNormalization }: MeshSettings): JsonObject {
  const merge = pathNormalization === 'MERGE_SLASHES' || pathNormalization === 'DECODE_AND_MERGE_SLASHES';
  return compact({
    codec_type: 'AUTO',
    stream_idle_timeout: '0s',
    normalize_path: pathNormalization !== 'NONE',
    merge_slashes: merge,
    path_with_escaped_slashes_action:
      pathNormalization === 'DECODE_AND_MERGE_SLASHES' ? 'UNESCAPE_AND_FORWARD' : undefined,
    use_remote_address: false,
    server_header_transformation: 'PASS_THROUGH',
    // The application itself says whether it wants the body (RFC 9110, 10.1.1).
    proxy_100_continue: true,
    max_request_headers_kb: MAX_HEADERS_KB,
    upgrade_configs: [{ upgrade_type: 'websocket' }, { upgrade_type: 'CONNECT' }],
    http_protocol_options: { accept_http_10: true },
    http2_protocol_options: { allow_connect: true },
  });
}

/** Envoy's default of 60 is less than some applications take. */
const MAX_HEADERS_KB = 96;

/** Clients that speak gRPC-Web get a gRPC server; everyone else passes as they are. */
const GRPC_WEB = extension('envoy.filters.http.grpc_web', 'envoy.extensions.filters.http.grpc_web.v3.GrpcWeb');

/** HCM of an outbound chain; routes by RDS. */
export function outboundHttp(route: string, workload: WorkloadView, mesh: MeshSettings, grpcWeb: boolean): JsonObject {
  return extension(
    'envoy.filters.network.http_connection_manager',
    'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
    {
      ...common(mesh),
      ...introduced(workload),
      stat_prefix: 'outbound',
      rds: { route_config_name: route, config_source: ADS },
      http_filters: [...(grpcWeb ? [GRPC_WEB] : []), ...ROUTE_FILTERS],
      access_log: httpAccessLogs({ side: 'source', workload }, mesh.accessLog),
    },
  );
}

/** HCM of an inbound chain: policy, then to the application. `routes` is inline: it never changes. */
export function inboundHttp(options: {
  readonly reporter: Reporter & { readonly side: 'destination' };
  readonly policies: readonly string[];
  readonly routes: JsonObject;
  readonly mesh: MeshSettings;
  readonly grpcWeb: boolean;
}): JsonObject {
  const { reporter, policies, routes, mesh, grpcWeb } = options;
  return extension(
    'envoy.filters.network.http_connection_manager',
    'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
    {
      ...common(mesh),
      stat_prefix: 'inbound',
      route_config: routes,
      forward_client_cert_details: reporter.mtls ? 'SANITIZE_SET' : 'SANITIZE',
      ...(reporter.mtls ? { set_current_client_cert_details: { uri: true } } : {}),
      http_filters: [
        ...policies.map(httpRbacFilter),
        ...(reporter.mtls ? [PEER_LABELS] : []),
        ...(grpcWeb ? [GRPC_WEB] : []),
        ROUTER,
      ],
      access_log: httpAccessLogs(reporter, mesh.accessLog),
    },
  );
}
