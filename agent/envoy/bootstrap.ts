/**
 * Envoy's bootstrap, pure. In: who this host is, paths, ports. Out: the bootstrap as proto3 JSON: xDS over the agent's unix socket, admin on
 * another one, metrics and readiness on the ports Istio has them on. Must never: hold a secret, listen beyond what agent.yaml says.
 */
export interface BootstrapInput {
  readonly host: string;
  readonly trustDomain: string;
  /** REGION[/ZONE[/SUBZONE]], or empty. */
  readonly locality: string;
  readonly xdsSocket: string;
  readonly adminSocket: string;
  /** IP address of the metrics and readiness listeners. */
  readonly metricsAddress: string;
  readonly ports: { readonly envoyMetrics: number; readonly readiness: number };
}

/** The static cluster that leads to the agent. */
export const XDS_CLUSTER = 'xds-agent';
const ADMIN_CLUSTER = 'admin';
/** Connections that Envoy holds at most: an overload of one service must not eat every descriptor of the host. */
const MAX_DOWNSTREAM_CONNECTIONS = 50_000;

/** proto3 JSON, the proto's own names. */
type JsonObject = { readonly [key: string]: unknown };

/** The bootstrap of a host's Envoy. Source: envoy.config.bootstrap.v3.Bootstrap. */
export function bootstrap(input: BootstrapInput): JsonObject {
  const [region, zone, subZone] = input.locality.split('/');
  return {
    node: {
      id: `sidecar~${input.host}~${input.trustDomain}`,
      cluster: input.host,
      ...(region === undefined || region === ''
        ? {}
        : { locality: { region, ...(zone && { zone }), ...(subZone && { sub_zone: subZone }) } }),
    },
    admin: { address: { pipe: { path: input.adminSocket, mode: 0o660 } } },
    dynamic_resources: {
      ads_config: {
        api_type: 'DELTA_GRPC',
        transport_api_version: 'V3',
        set_node_on_first_message_only: true,
        grpc_services: [
          {
            envoy_grpc: {
              cluster_name: XDS_CLUSTER,
              retry_policy: { retry_back_off: { base_interval: '0.1s', max_interval: '1s' } },
            },
          },
        ],
      },
      cds_config: { ads: {}, resource_api_version: 'V3' },
      lds_config: { ads: {}, resource_api_version: 'V3' },
    },
    static_resources: {
      clusters: [xdsCluster(input.xdsSocket), pipeCluster(ADMIN_CLUSTER, input.adminSocket)],
      listeners: [
        adminListener('metrics', input.metricsAddress, input.ports.envoyMetrics, '/stats/prometheus'),
        adminListener('readiness', input.metricsAddress, input.ports.readiness, '/healthz/ready', '/ready'),
      ],
    },
    ...FRUGAL,
    layered_runtime: { layers: [{ name: 'static', static_layer: RUNTIME }] },
    overload_manager: {
      resource_monitors: [
        {
          name: 'envoy.resource_monitors.global_downstream_max_connections',
          typed_config: {
            '@type':
              'type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig',
            max_active_downstream_connections: MAX_DOWNSTREAM_CONNECTIONS,
          },
        },
      ],
    },
  };
}

/**
 * A cluster's numbers that nobody asks a host for, 60 of the 90 that Envoy makes for each cluster at once: how its endpoints came (the agent
 * says that of all), locality and subset balancing, ways of ejection one by one, OCSP, limits of a priority that no route has.
 */
const UNASKED = [
  'assignment_.*|init_fetch_timeout|update_(attempt|duration|empty|failure|no_rebuild|rejected|time)|version|version_text|warming_state',
  'lb_.*|max_host_weight|membership_(change|degraded|excluded)|default\\.total_match_count',
  'circuit_breakers\\.(high\\..*|default\\.remaining_.*)',
  'outlier_detection\\.ejections_(consecutive|detected|success|enforced_(consecutive|failure|local|success)).*',
  'client_ssl_socket_factory\\..*|on_demand_secret\\..*|ssl\\.(certificate|ocsp).*',
];

/**
 * What makes a cluster cheap that is not used, at nobody's cost (docs/decisions/0018): its counters and its place in each worker thread are
 * made at the first request, by Envoy alone. With 1,200 clusters: 35 MB, 5 MB (two threads) and 13 MB.
 */
export const FRUGAL: JsonObject = {
  deferred_stat_options: { enable_deferred_creation_stats: true },
  cluster_manager: { enable_deferred_cluster_creation: true },
  stats_config: {
    use_all_default_tags: true,
    stats_matcher: {
      exclusion_list: { patterns: [{ safe_regex: { regex: `cluster\\.outbound.*\\.(${UNASKED.join('|')})` } }] },
    },
  },
};

/** Sizes of regular expressions: api/resources takes those that RE2 compiles to at most this much, so Envoy must not refuse them. */
const RUNTIME: JsonObject = { 're2.max_program_size.error_level': 32_768 };

function xdsCluster(socket: string): JsonObject {
  return {
    ...pipeCluster(XDS_CLUSTER, socket),
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        explicit_http_config: {
          // an agent that hangs is left after 45 s, and a new one found
          http2_protocol_options: { connection_keepalive: { interval: '30s', timeout: '15s' } },
        },
      },
    },
  };
}

function pipeCluster(name: string, path: string): JsonObject {
  return {
    name,
    type: 'STATIC',
    connect_timeout: '1s',
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path } } } }] }],
    },
  };
}

/** One GET path of the admin API on a port, nothing else of it. */
function adminListener(name: string, address: string, port: number, path: string, rewrite = path): JsonObject {
  return {
    name,
    address: { socket_address: { address, port_value: port } },
    ignore_global_conn_limit: true,
    filter_chains: [
      {
        filters: [
          {
            name: 'envoy.filters.network.http_connection_manager',
            typed_config: {
              '@type':
                'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
              stat_prefix: name,
              route_config: {
                name,
                virtual_hosts: [
                  {
                    name,
                    domains: ['*'],
                    routes: [
                      {
                        match: { path, headers: [{ name: ':method', string_match: { exact: 'GET' } }] },
                        route: { cluster: ADMIN_CLUSTER, ...(rewrite === path ? {} : { prefix_rewrite: rewrite }) },
                      },
                    ],
                  },
                ],
              },
              http_filters: [
                {
                  name: 'envoy.filters.http.router',
                  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' },
                },
              ],
            },
          },
        ],
      },
    ],
  };
}
