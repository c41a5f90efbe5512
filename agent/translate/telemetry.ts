import type { AccessLogSettings } from '../mesh-view/mesh-settings.ts';
import type { InboundPort, WorkloadView } from '../mesh-view/view.ts';
import { any, type JsonObject } from './json.ts';
import { canonical } from './telemetry-labels.ts';

/** Which side of a call a chain is on, and whether it speaks HTTP. */
export type Reporter =
  | { readonly side: 'source'; readonly workload: WorkloadView }
  | {
      readonly side: 'destination';
      readonly workload: WorkloadView;
      readonly port: InboundPort;
      readonly mtls: boolean;
    };

/** Filter state in which an inbound chain keeps what the caller's proxy said of its workload, once the headers are gone. */
export const PEER_STATE = {
  workload: 'hostmesh.peer.workload',
  app: 'hostmesh.peer.app',
  version: 'hostmesh.peer.version',
} as const;

type Labels = readonly (readonly [name: string, format: string])[];

/** A value that stands as it is: Envoy's formats begin with a percent sign. */
const literal = (text: string): string => text.replaceAll('%', '%%');

function ownLabels(prefix: 'source' | 'destination', workload: WorkloadView): Labels {
  const { app, version, service, revision } = canonical(workload.labels, workload.name);
  return [
    [`${prefix}_workload`, literal(workload.name)],
    [`${prefix}_workload_namespace`, literal(workload.namespace)],
    [`${prefix}_app`, literal(app)],
    [`${prefix}_version`, literal(version)],
    [`${prefix}_canonical_service`, literal(service)],
    [`${prefix}_canonical_revision`, literal(revision)],
  ];
}

/** Istio's standard labels that both HTTP and TCP metrics carry. Source: Istio, "Istio Standard Metrics". */
function peerLabels(reporter: Reporter): Labels {
  if (reporter.side === 'source') {
    const cluster = (key: string) => `%CLUSTER_METADATA(istio:${key})%`;
    const endpoint = (key: string) => `%UPSTREAM_METADATA(istio:${key})%`;
    return [
      ['reporter', 'source'],
      ...ownLabels('source', reporter.workload),
      ['source_principal', literal(reporter.workload.spiffeId)],
      ['destination_workload', endpoint('workload')],
      ['destination_workload_namespace', endpoint('namespace')],
      ['destination_app', endpoint('app')],
      ['destination_version', endpoint('version')],
      ['destination_canonical_service', endpoint('service')],
      ['destination_canonical_revision', endpoint('revision')],
      ['destination_principal', '%UPSTREAM_PEER_URI_SAN%'],
      ['destination_service', cluster('host')],
      ['destination_service_name', cluster('name')],
      ['destination_service_namespace', cluster('namespace')],
      ['connection_security_policy', 'unknown'],
    ];
  }
  const { workload, port, mtls } = reporter;
  const peer = (key: keyof typeof PEER_STATE) => (mtls ? `%FILTER_STATE(${PEER_STATE[key]}:PLAIN)%` : 'unknown');
  return [
    ['reporter', 'destination'],
    ['source_workload', peer('workload')],
    ['source_app', peer('app')],
    ['source_version', peer('version')],
    ['source_principal', mtls ? '%DOWNSTREAM_PEER_URI_SAN%' : 'unknown'],
    ...ownLabels('destination', workload),
    ['destination_principal', mtls ? literal(workload.spiffeId) : 'unknown'],
    ['destination_service', literal(port.service?.host ?? 'unknown')],
    ['destination_service_name', literal(port.service?.name ?? 'unknown')],
    ['destination_service_namespace', literal(port.service?.namespace ?? workload.namespace)],
    ['connection_security_policy', mtls ? 'mutual_tls' : 'none'],
  ];
}

function tags(labels: Labels): JsonObject[] {
  return labels.map(([name, value_format]) => ({ name, value_format }));
}

/** One scope for all loggers: a counter outlives the chain whose logger made it. */
const STATS_SCOPE: JsonObject = { prefix: 'istio', sharing_name: 'istio' };

function statsLogger(body: JsonObject, filter?: JsonObject): JsonObject {
  return {
    name: 'envoy.access_loggers.stats',
    ...(filter === undefined ? {} : { filter }),
    typed_config: any('envoy.extensions.access_loggers.stats.v3.Config', body),
  };
}

function counter(name: string, labels: Labels, value: JsonObject): JsonObject {
  return { stat: { name, tags: tags(labels) }, ...value };
}

function histogram(name: string, labels: Labels, unit: string, value_format: string): JsonObject {
  return { stat: { name, tags: tags(labels) }, unit, value_format };
}

/** Metrics and access log of an HTTP chain: istio_requests_total and the request's duration and sizes. */
export function httpAccessLogs(reporter: Reporter, log: AccessLogSettings | undefined): JsonObject[] {
  const labels = (grpc: boolean): Labels => [
    ...peerLabels(reporter),
    ['request_protocol', grpc ? 'grpc' : 'http'],
    ['response_code', '%RESPONSE_CODE%'],
    ...(grpc ? ([['grpc_response_status', '%GRPC_STATUS_NUMBER%']] as const) : []),
    ['response_flags', '%RESPONSE_FLAGS%'],
  ];
  const metrics = (grpc: boolean): JsonObject =>
    statsLogger(
      {
        stats_scope: STATS_SCOPE,
        counters: [counter('requests_total', labels(grpc), { value_fixed: 1 })],
        histograms: [
          histogram('request_duration_milliseconds', labels(grpc), 'Milliseconds', '%DURATION%'),
          histogram('request_bytes', labels(grpc), 'Bytes', '%BYTES_RECEIVED%'),
          histogram('response_bytes', labels(grpc), 'Bytes', '%BYTES_SENT%'),
        ],
      },
      isGrpc(grpc),
    );
  return [metrics(false), metrics(true), ...accessLog(log, HTTP_FIELDS)];
}

function isGrpc(grpc: boolean): JsonObject {
  const header = {
    name: 'content-type',
    string_match: { prefix: 'application/grpc' },
    treat_missing_header_as_empty: true,
    ...(grpc ? {} : { invert_match: true }),
  };
  return { header_filter: { header } };
}

/** Metrics and access log of a TCP chain; opened connections count when they open, the rest when they close. */
export function tcpAccessLogs(reporter: Reporter, log: AccessLogSettings | undefined): JsonObject[] {
  const labels: Labels = [...peerLabels(reporter), ['request_protocol', 'tcp'], ['response_flags', '%RESPONSE_FLAGS%']];
  const logType = (type: string): JsonObject => ({ log_type_filter: { types: [type] } });
  return [
    statsLogger(
      {
        stats_scope: STATS_SCOPE,
        counters: [counter('tcp_connections_opened_total', labels, { value_fixed: 1 })],
      },
      logType('TcpUpstreamConnected'),
    ),
    statsLogger(
      {
        stats_scope: STATS_SCOPE,
        counters: [
          counter('tcp_connections_closed_total', labels, { value_fixed: 1 }),
          counter('tcp_sent_bytes_total', labels, { value_format: '%BYTES_SENT%' }),
          counter('tcp_received_bytes_total', labels, { value_format: '%BYTES_RECEIVED%' }),
        ],
      },
      logType('TcpConnectionEnd'),
    ),
    ...accessLog(log, TCP_FIELDS).map((logger) => ({ ...logger, filter: logType('TcpConnectionEnd') })),
  ];
}

const TCP_FIELDS: JsonObject = {
  start_time: '%START_TIME%',
  bytes_received: '%BYTES_RECEIVED%',
  bytes_sent: '%BYTES_SENT%',
  connection_termination_details: '%CONNECTION_TERMINATION_DETAILS%',
  downstream_local_address: '%DOWNSTREAM_LOCAL_ADDRESS%',
  downstream_peer: '%DOWNSTREAM_PEER_URI_SAN%',
  downstream_remote_address: '%DOWNSTREAM_REMOTE_ADDRESS%',
  duration: '%DURATION%',
  requested_server_name: '%REQUESTED_SERVER_NAME%',
  response_code_details: '%RESPONSE_CODE_DETAILS%',
  response_flags: '%RESPONSE_FLAGS%',
  upstream_cluster: '%UPSTREAM_CLUSTER_RAW%',
  upstream_host: '%UPSTREAM_HOST%',
  upstream_local_address: '%UPSTREAM_LOCAL_ADDRESS%',
  upstream_peer: '%UPSTREAM_PEER_URI_SAN%',
  upstream_transport_failure_reason: '%UPSTREAM_TRANSPORT_FAILURE_REASON%',
};

/** Istio's default JSON fields, and the peers' identities. */
const HTTP_FIELDS: JsonObject = {
  ...TCP_FIELDS,
  authority: '%REQ(:AUTHORITY)%',
  method: '%REQ(:METHOD)%',
  path: '%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%',
  protocol: '%PROTOCOL%',
  request_id: '%REQ(X-REQUEST-ID)%',
  response_code: '%RESPONSE_CODE%',
  route_name: '%ROUTE_NAME%',
  upstream_service_time: '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%',
  user_agent: '%REQ(USER-AGENT)%',
  x_forwarded_for: '%REQ(X-FORWARDED-FOR)%',
};

/** Istio's default text format, so that tools made for it read these logs. */
const TEXT_FORMAT = `${[
  '[%START_TIME%]',
  '"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%"',
  '%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS%',
  '"%UPSTREAM_TRANSPORT_FAILURE_REASON%"',
  '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%',
  '"%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%"',
  '"%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS%',
  '%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%',
].join(' ')}\n`;

/** To Envoy's standard output, and so to the journal; nowhere when it is off. A JSON format of the operator's replaces `fields`. */
function accessLog(log: AccessLogSettings | undefined, fields: JsonObject): JsonObject[] {
  if (log === undefined) return [];
  const log_format =
    log.encoding === 'JSON'
      ? { json_format: jsonFormat(log.format) ?? fields }
      : { text_format_source: { inline_string: withNewline(log.format ?? TEXT_FORMAT) } };
  return [
    {
      name: 'envoy.access_loggers.stdout',
      typed_config: any('envoy.extensions.access_loggers.stream.v3.StdoutAccessLog', { log_format }),
    },
  ];
}

function withNewline(format: string): string {
  return format.endsWith('\n') ? format : `${format}\n`;
}

/** The controller saw that it is a JSON object. */
function jsonFormat(format: string | undefined): JsonObject | undefined {
  return format === undefined ? undefined : (JSON.parse(format) as JsonObject);
}
