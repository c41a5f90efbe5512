import { type Report, shown } from '../report.ts';

/**
 * What Envoy may put into a header in place of `%NAME%`. Known and harmless only: of an unknown one Envoy refuses the whole route
 * configuration, and some (ENVIRONMENT, FILE_CONTENT, SECRET) read from the host, which is not the operator's of a namespace to see.
 * Source: Envoy, access log command operators.
 */
const COMMANDS = new Set(
  (
    'REQ RESP TRAILER START_TIME PROTOCOL HOSTNAME ROUTE_NAME VIRTUAL_CLUSTER_NAME REQUESTED_SERVER_NAME CONNECTION_ID STREAM_ID ' +
    'RESPONSE_CODE RESPONSE_CODE_DETAILS RESPONSE_FLAGS RESPONSE_FLAGS_LONG CONNECTION_TERMINATION_DETAILS GRPC_STATUS GRPC_STATUS_NUMBER ' +
    'BYTES_RECEIVED BYTES_SENT DURATION REQUEST_DURATION RESPONSE_DURATION RESPONSE_TX_DURATION TRACE_ID UNIQUE_ID ' +
    'DYNAMIC_METADATA UPSTREAM_METADATA CLUSTER_METADATA METADATA FILTER_STATE PER_REQUEST_STATE QUERY_PARAM ' +
    'UPSTREAM_CLUSTER UPSTREAM_HOST UPSTREAM_TRANSPORT_FAILURE_REASON UPSTREAM_REQUEST_ATTEMPT_COUNT UPSTREAM_TLS_VERSION UPSTREAM_TLS_CIPHER ' +
    'UPSTREAM_PEER_SUBJECT UPSTREAM_PEER_ISSUER UPSTREAM_PEER_URI_SAN UPSTREAM_PEER_DNS_SAN ' +
    'DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_PEER_DNS_SAN DOWNSTREAM_PEER_IP_SAN DOWNSTREAM_PEER_EMAIL_SAN DOWNSTREAM_PEER_OTHERNAME_SAN ' +
    'DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_ISSUER DOWNSTREAM_PEER_FINGERPRINT_1 DOWNSTREAM_PEER_FINGERPRINT_256 DOWNSTREAM_PEER_SERIAL ' +
    'DOWNSTREAM_PEER_CERT DOWNSTREAM_PEER_CERT_V_START DOWNSTREAM_PEER_CERT_V_END DOWNSTREAM_LOCAL_URI_SAN DOWNSTREAM_LOCAL_DNS_SAN ' +
    'DOWNSTREAM_LOCAL_SUBJECT DOWNSTREAM_TLS_SESSION_ID DOWNSTREAM_TLS_CIPHER DOWNSTREAM_TLS_VERSION DOWNSTREAM_TRANSPORT_FAILURE_REASON ' +
    'DOWNSTREAM_REMOTE_ADDRESS DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT DOWNSTREAM_REMOTE_PORT DOWNSTREAM_DIRECT_REMOTE_ADDRESS ' +
    'DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT DOWNSTREAM_DIRECT_REMOTE_PORT DOWNSTREAM_LOCAL_ADDRESS ' +
    'DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_LOCAL_PORT UPSTREAM_REMOTE_ADDRESS UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT ' +
    'UPSTREAM_REMOTE_PORT UPSTREAM_LOCAL_ADDRESS UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT UPSTREAM_LOCAL_PORT'
  ).split(' '),
);

/** `%%`, or `%NAME%`, `%NAME(arguments)%`, `%NAME:length%`; arguments may hold single percent signs (START_TIME). */
const COMMAND = /%%|%([A-Z0-9_]+)(\([^)]*\))?(:\d+)?%/g;

/** Commands that mean nothing without arguments; those that may be cut to a length; those beside the first that take arguments at all. */
const NEED_ARGUMENTS = new Set(
  'REQ RESP TRAILER DYNAMIC_METADATA UPSTREAM_METADATA CLUSTER_METADATA METADATA FILTER_STATE PER_REQUEST_STATE QUERY_PARAM'.split(
    ' ',
  ),
);
const TAKE_LENGTH = new Set('REQ RESP TRAILER DYNAMIC_METADATA METADATA FILTER_STATE QUERY_PARAM'.split(' '));
const TAKE_ARGUMENTS = /^(START_TIME|RESPONSE_CODE_DETAILS|DOWNSTREAM_PEER_CERT_V_.*|.*_WITHOUT_PORT)$/;

/** Why Envoy would not take a known command as it is written. */
function misused(name: string, parameters: string | undefined, length: string | undefined): string | undefined {
  const needs = NEED_ARGUMENTS.has(name);
  if (needs && (parameters === undefined || parameters === '()')) return `%${name}% needs arguments in brackets`;
  if (!needs && parameters !== undefined && !TAKE_ARGUMENTS.test(name)) return `%${name}% takes no arguments`;
  return length !== undefined && !TAKE_LENGTH.has(name) ? `%${name}% takes no length` : undefined;
}

/** A value that Envoy puts into a header: no control characters; a percent sign doubled, or one of Envoy's commands between two of them. */
export function checkHeaderValue(value: string, path: string, report: Report): void {
  if (hasControls(value)) {
    report.add(path, 'a header value must not hold control characters');
    return;
  }
  const rest = value.replace(COMMAND, (_, name?: string, parameters?: string, length?: string) => {
    if (name === undefined) return '';
    if (!COMMANDS.has(name)) report.add(path, `not supported: %${name}% in a header value`, 'FieldValueNotSupported');
    const fault = misused(name, parameters, length);
    if (fault !== undefined) report.add(path, fault);
    return '';
  });
  if (rest.includes('%'))
    report.add(path, `${shown(value)}: a single % is not allowed; double it, or put a variable of Envoy's between two`);
}

/** Beside those, what an access log may show. */
const LOG_COMMANDS = new Set(
  (
    'UPSTREAM_CLUSTER_RAW ACCESS_LOG_TYPE COMMON_DURATION EMIT_TIME UPSTREAM_CONNECTION_ID UPSTREAM_PROTOCOL UPSTREAM_HOST_NAME ' +
    'UPSTREAM_WIRE_BYTES_SENT UPSTREAM_WIRE_BYTES_RECEIVED UPSTREAM_HEADER_BYTES_SENT UPSTREAM_HEADER_BYTES_RECEIVED ' +
    'DOWNSTREAM_WIRE_BYTES_SENT DOWNSTREAM_WIRE_BYTES_RECEIVED DOWNSTREAM_HEADER_BYTES_SENT DOWNSTREAM_HEADER_BYTES_RECEIVED ' +
    'DOWNSTREAM_HANDSHAKE_DURATION ROUNDTRIP_DURATION CONNECTION_POOL_READY_DURATION REQUEST_TX_DURATION FILTER_CHAIN_NAME ' +
    'LISTENER_METADATA VIRTUAL_HOST_METADATA LOCAL_REPLY_BODY REQUEST_HEADERS_BYTES RESPONSE_HEADERS_BYTES RESPONSE_TRAILERS_BYTES'
  ).split(' '),
);

/** A format of access logs: Envoy's commands between percent signs. What reads from the host, and what Envoy does not know, is refused. */
export function checkLogFormat(format: string, path: string, report: Report): void {
  const rest = format.replace(COMMAND, (_, name: string | undefined) => {
    if (name !== undefined && !COMMANDS.has(name) && !LOG_COMMANDS.has(name))
      report.add(path, `not supported: %${name}% in an access log`, 'FieldValueNotSupported');
    return '';
  });
  if (rest.includes('%'))
    report.add(path, 'a single % is not allowed; double it, or put a command of Envoy between two');
}

/** Characters that neither a header nor a part of a URL can hold; a tab is fine. */
export function hasControls(value: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  return /[\x00-\x08\x0a-\x1f\x7f]/.test(value);
}
