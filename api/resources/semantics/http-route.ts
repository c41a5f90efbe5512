import {
  checkDuration,
  checkHeaderName,
  checkInteger,
  checkPercent,
  checkPort,
  checkRegex,
  checkStringMatch,
} from '../formats.ts';
import { type Report, shown } from '../report.ts';
import {
  checkDestination,
  checkHeaderOperations,
  type Destination,
  type HeaderOperations,
  type WeightedRoute,
} from './route-parts.ts';

/** One HTTP rule; its matches are virtual-service.ts's concern. */
export interface HttpRoute {
  readonly route?: readonly WeightedRoute[];
  readonly [action: string]: unknown;
}

interface Percent {
  readonly value?: number;
}

interface Fault {
  readonly delay?: { percent?: number; percentage?: Percent; fixedDelay?: string; exponentialDelay?: string };
  readonly abort?: { percentage?: Percent; httpStatus?: number; grpcStatus?: string; http2Error?: string };
}

interface Retries {
  readonly attempts?: number;
  readonly perTryTimeout?: string;
  readonly retryOn?: string;
  readonly backoff?: string;
}

interface Rewrite {
  readonly uri?: string;
  readonly authority?: string;
  readonly uriRegexRewrite?: { readonly match?: string; readonly rewrite?: string };
}

interface Redirect {
  readonly uri?: string;
  readonly authority?: string;
  readonly port?: number;
  readonly derivePort?: string;
  readonly scheme?: string;
  readonly redirectCode?: number;
}

interface Cors {
  readonly allowOrigins?: readonly Readonly<Record<string, unknown>>[];
  readonly allowMethods?: readonly string[];
  readonly allowHeaders?: readonly string[];
  readonly exposeHeaders?: readonly string[];
  readonly maxAge?: string;
}

interface Actions {
  readonly redirect?: Redirect;
  readonly directResponse?: {
    readonly status?: number;
    readonly body?: { readonly string?: string; readonly bytes?: string };
  };
  readonly delegate?: unknown;
  readonly rewrite?: Rewrite;
  readonly fault?: Fault;
  readonly retries?: Retries;
  readonly timeout?: string;
  readonly mirror?: Destination;
  readonly mirrors?: readonly { readonly destination?: Destination; readonly percentage?: Percent }[];
  readonly mirrorPercent?: number;
  readonly mirror_percent?: number;
  readonly mirrorPercentage?: Percent;
  readonly corsPolicy?: Cors;
  readonly headers?: HeaderOperations;
}

/** What one HTTP rule does with a request that matched: which actions go together, and the values of each (Istio's validateHTTPRoute). */
export function checkHttpAction(route: HttpRoute, path: string, report: Report, delegate: boolean): void {
  const actions = route as Actions;
  checkCombination(route, actions, path, report, delegate);
  checkRedirect(actions.redirect, `${path}.redirect`, report);
  checkDirectResponse(actions, `${path}.directResponse`, report);
  checkRewrite(actions.rewrite, `${path}.rewrite`, report);
  checkFault(actions.fault, `${path}.fault`, report);
  checkRetries(actions.retries, `${path}.retries`, report);
  checkDuration(actions.timeout, `${path}.timeout`, report);
  checkMirrors(actions, path, report);
  checkCors(actions.corsPolicy, `${path}.corsPolicy`, report);
  checkHeaderOperations(actions.headers, `${path}.headers`, report);
}

function checkCombination(route: HttpRoute, actions: Actions, path: string, report: Report, delegate: boolean): void {
  const routed = (route.route ?? []).length > 0;
  const main = [
    routed ? 'route' : undefined,
    actions.redirect === undefined ? undefined : 'redirect',
    actions.directResponse === undefined ? undefined : 'directResponse',
    actions.delegate === undefined ? undefined : 'delegate',
  ].filter((name) => name !== undefined);
  if (main.length === 0) report.required(path, 'HTTP route, redirect or directResponse is required');
  if (main.length > 1) report.add(path, `HTTP route cannot contain both ${main.join(' and ')}`);
  if (delegate && actions.delegate !== undefined) report.add(`${path}.delegate`, 'a delegate cannot delegate again');
  const blocked =
    actions.redirect !== undefined ? 'redirect' : actions.directResponse !== undefined ? 'directResponse' : undefined;
  if (blocked === undefined) return;
  const excluded =
    blocked === 'redirect'
      ? (['fault', 'rewrite'] as const)
      : (['fault', 'rewrite', 'mirror', 'mirrors', 'retries'] as const);
  for (const field of excluded) {
    if (actions[field] !== undefined)
      report.add(`${path}.${field}`, `HTTP route cannot contain both ${field} and ${blocked}`);
  }
}

function checkRedirect(redirect: Redirect | undefined, path: string, report: Report): void {
  if (redirect === undefined) return;
  const { uri, authority, scheme, port, derivePort, redirectCode } = redirect;
  if (!uri && !authority && !scheme && port === undefined && derivePort === undefined)
    report.required(path, 'redirect must specify URI, authority, scheme, or port');
  checkPort(port, `${path}.port`, report);
  if (scheme !== undefined && !['http', 'https'].includes(scheme))
    report.add(`${path}.scheme`, 'redirect scheme must be http or https');
  if (redirectCode !== undefined && ![301, 302, 303, 307, 308].includes(redirectCode))
    report.add(`${path}.redirectCode`, `${redirectCode} is not one of 301, 302, 303, 307, 308`);
}

/** Envoy refuses inline bodies above this (max_direct_response_body_size_bytes). */
const MAX_BODY_BYTES = 4096;

function checkDirectResponse(actions: Actions, path: string, report: Report): void {
  const response = actions.directResponse;
  if (response === undefined) return;
  checkHttpStatus(response.status, `${path}.status`, report);
  const { string, bytes } = response.body ?? {};
  if (bytes !== undefined && !/^[A-Za-z0-9+/]*={0,2}$/.test(bytes)) report.add(`${path}.body.bytes`, 'is not base64');
  const size = string !== undefined ? Buffer.byteLength(string) : Buffer.byteLength(bytes ?? '', 'base64');
  if (size > MAX_BODY_BYTES)
    report.add(`${path}.body`, `a direct response's body is at most ${MAX_BODY_BYTES} bytes`, 'FieldValueTooLong');
}

function checkHttpStatus(status: unknown, path: string, report: Report): void {
  if (status === undefined) return;
  if (!Number.isInteger(status) || (status as number) < 200 || (status as number) > 599)
    report.add(path, `HTTP status ${shown(status)} is not in range 200-599`);
}

function checkRewrite(rewrite: Rewrite | undefined, path: string, report: Report): void {
  if (rewrite === undefined) return;
  const { uri, authority, uriRegexRewrite } = rewrite;
  if (!uri && !authority && uriRegexRewrite === undefined)
    report.required(path, 'rewrite must specify at least one of URI, UriRegexRewrite or authority');
  if (uri && uriRegexRewrite !== undefined) report.add(path, 'rewrite may only contain one of URI or UriRegexRewrite');
  if (uriRegexRewrite === undefined) return;
  if (!uriRegexRewrite.match || !uriRegexRewrite.rewrite)
    report.required(`${path}.uriRegexRewrite`, 'UriRegexRewrite requires that both Rewrite and Match be specified');
  else checkRegex(uriRegexRewrite.match, `${path}.uriRegexRewrite.match`, report);
}

const GRPC_STATUSES = new Set(
  (
    'OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED ' +
    'FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED'
  ).split(' '),
);

function checkFault(fault: Fault | undefined, path: string, report: Report): void {
  if (fault === undefined) return;
  const { delay, abort } = fault;
  if (delay === undefined && abort === undefined)
    report.required(path, 'HTTP fault injection must have an abort and/or a delay');
  if (delay !== undefined) {
    checkInteger(delay.percent, `${path}.delay.percent`, report, 0, 100);
    checkPercent(delay.percentage?.value, `${path}.delay.percentage.value`, report);
    if (delay.exponentialDelay !== undefined)
      report.add(`${path}.delay.exponentialDelay`, 'exponentialDelay not supported yet', 'FieldValueNotSupported');
    else if (delay.fixedDelay === undefined) report.required(`${path}.delay.fixedDelay`, 'a delay needs fixedDelay');
    checkDuration(delay.fixedDelay, `${path}.delay.fixedDelay`, report);
  }
  if (abort !== undefined) {
    checkPercent(abort.percentage?.value, `${path}.abort.percentage.value`, report);
    checkHttpStatus(abort.httpStatus, `${path}.abort.httpStatus`, report);
    if (abort.grpcStatus !== undefined && !GRPC_STATUSES.has(abort.grpcStatus))
      report.add(`${path}.abort.grpcStatus`, `gRPC status ${shown(abort.grpcStatus)} is not supported`);
    if (abort.http2Error !== undefined)
      report.add(
        `${path}.abort.http2Error`,
        'HTTP/2 abort fault injection not supported yet',
        'FieldValueNotSupported',
      );
    else if (abort.httpStatus === undefined && abort.grpcStatus === undefined)
      report.required(`${path}.abort`, 'an abort needs httpStatus or grpcStatus');
  }
}

/** Envoy's x-envoy-retry-on and x-envoy-retry-grpc-on values (config.route.v3.RetryPolicy.retry_on). */
const RETRY_ON = new Set(
  (
    '5xx gateway-error reset reset-before-request connect-failure envoy-ratelimited retriable-4xx refused-stream retriable-status-codes ' +
    'retriable-headers http3-post-connect-failure cancelled deadline-exceeded internal resource-exhausted unavailable'
  ).split(' '),
);

function checkRetries(retries: Retries | undefined, path: string, report: Report): void {
  if (retries === undefined) return;
  checkInteger(retries.attempts, `${path}.attempts`, report, 0);
  const more = retries.perTryTimeout !== undefined || retries.retryOn !== undefined || retries.backoff !== undefined;
  if (more && retries.attempts === 0)
    report.add(`${path}.attempts`, 'http retry policy configured when attempts are set to 0 (disabled)');
  checkDuration(retries.perTryTimeout, `${path}.perTryTimeout`, report);
  checkDuration(retries.backoff, `${path}.backoff`, report);
  for (const token of (retries.retryOn ?? '').split(',').map((one) => one.trim())) {
    if (token === '' || RETRY_ON.has(token) || (/^\d{3}$/.test(token) && Number(token) >= 100 && Number(token) < 600))
      continue;
    report.add(`${path}.retryOn`, `${shown(token)} is not a valid retryOn policy`);
  }
}

function checkMirrors(actions: Actions, path: string, report: Report): void {
  if (actions.mirror !== undefined && actions.mirrors !== undefined)
    report.add(path, 'HTTP route cannot contain both mirror and mirrors');
  if (actions.mirror !== undefined) checkDestination(actions.mirror, `${path}.mirror`, report);
  for (const field of ['mirrorPercent', 'mirror_percent'] as const)
    checkInteger(actions[field], `${path}.${field}`, report, 0, 100);
  checkPercent(actions.mirrorPercentage?.value, `${path}.mirrorPercentage.value`, report);
  for (const [i, mirror] of (actions.mirrors ?? []).entries()) {
    checkDestination(mirror.destination, `${path}.mirrors[${i}].destination`, report);
    checkPercent(mirror.percentage?.value, `${path}.mirrors[${i}].percentage.value`, report);
  }
}

const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', '*']);

function checkCors(cors: Cors | undefined, path: string, report: Report): void {
  if (cors === undefined) return;
  for (const [i, origin] of (cors.allowOrigins ?? []).entries())
    checkStringMatch(origin, `${path}.allowOrigins[${i}]`, report);
  for (const [i, method] of (cors.allowMethods ?? []).entries()) {
    if (!METHODS.has(method))
      report.add(`${path}.allowMethods[${i}]`, `${shown(method)} is not a supported HTTP method`);
  }
  for (const field of ['allowHeaders', 'exposeHeaders'] as const) {
    for (const [i, name] of (cors[field] ?? []).entries()) checkHeaderName(name, `${path}.${field}[${i}]`, report);
  }
  checkDuration(cors.maxAge, `${path}.maxAge`, report, 0);
}
