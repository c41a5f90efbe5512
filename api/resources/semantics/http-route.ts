import { RE2JS } from 're2js';
import {
  checkDuration,
  checkHeaderName,
  checkInteger,
  checkPercent,
  checkPort,
  checkRegex,
  checkStringMatch,
  parseDuration,
} from '../formats.ts';
import { type Report, shown } from '../report.ts';
import { hasControls } from './header-values.ts';
import {
  authorities,
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
  readonly retryRemoteLocalities?: boolean;
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
  readonly delegate?: { readonly name?: string; readonly namespace?: string };
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
  const hosts = [...(actions.rewrite?.authority ? [actions.rewrite.authority] : []), ...authorities(actions.headers)];
  if (hosts.length > 1)
    report.add(path, `authority header cannot be set multiple times: have ${hosts.map(shown).join(' and ')}`);
}

function checkCombination(route: HttpRoute, actions: Actions, path: string, report: Report, delegate: boolean): void {
  const main = (['route', 'redirect', 'directResponse', 'delegate'] as const).filter((name) =>
    name === 'route' ? (route.route ?? []).length > 0 : actions[name] !== undefined,
  );
  if (main.length === 0) report.required(path, 'HTTP route, redirect or directResponse is required');
  if (main.length > 1) report.add(path, `HTTP route cannot contain both ${main.join(' and ')}`);
  if (actions.delegate !== undefined) {
    if (delegate) report.add(`${path}.delegate`, 'a delegate HTTP route cannot contain delegate');
    else if (!actions.delegate.name)
      report.required(`${path}.delegate.name`, 'a delegate needs the name of a VirtualService');
  }
  const [answer] = main.filter((name) => name === 'redirect' || name === 'directResponse');
  if (answer === undefined) return;
  for (const field of ['fault', 'rewrite'] as const) {
    if (actions[field] !== undefined)
      report.add(`${path}.${field}`, `HTTP route cannot contain both ${field} and ${answer}`);
  }
  for (const field of ['mirror', 'mirrors', 'retries', 'timeout', 'corsPolicy'] as const) {
    if (actions[field] !== undefined)
      report.warn(
        `${path}.${field}`,
        `has no effect: the rule's ${answer} answers by itself, no destination is called`,
      );
  }
}

function checkRedirect(redirect: Redirect | undefined, path: string, report: Report): void {
  if (redirect === undefined) return;
  const { uri, authority, scheme, port, derivePort, redirectCode } = redirect;
  if (!uri && !authority && !scheme && port === undefined && derivePort === undefined)
    report.required(path, 'redirect must specify URI, authority, scheme, or port');
  for (const [field, value] of Object.entries({ uri, authority })) {
    if (value !== undefined && hasControls(value)) report.add(`${path}.${field}`, 'must not hold control characters');
  }
  checkPort(port, `${path}.port`, report);
  if (scheme !== undefined && scheme !== '' && !['http', 'https'].includes(scheme))
    report.add(`${path}.scheme`, 'redirect scheme must be http or https');
  if (redirectCode !== undefined && redirectCode !== 0 && ![301, 302, 303, 307, 308].includes(redirectCode))
    report.add(`${path}.redirectCode`, `${redirectCode} is not one of 301, 302, 303, 307, 308`);
}

/** Envoy refuses inline bodies above this (max_direct_response_body_size_bytes of our route configurations), Istio too. */
const MAX_BODY_BYTES = 1_048_576;
/** Istio warns above this: every host gets the body with its configuration. */
const LARGE_BODY_BYTES = 102_400;

function checkDirectResponse(actions: Actions, path: string, report: Report): void {
  const response = actions.directResponse;
  if (response === undefined) return;
  checkHttpStatus(response.status, `${path}.status`, report);
  const { string, bytes } = response.body ?? {};
  if (bytes !== undefined && !/^[A-Za-z0-9+/]*={0,2}$/.test(bytes)) report.add(`${path}.body.bytes`, 'is not base64');
  const size = string !== undefined ? Buffer.byteLength(string) : Buffer.byteLength(bytes ?? '', 'base64');
  if (size > MAX_BODY_BYTES)
    report.add(`${path}.body`, `a direct response's body is at most ${MAX_BODY_BYTES} bytes`, 'FieldValueTooLong');
  else if (size > LARGE_BODY_BYTES)
    report.warn(`${path}.body`, 'a body so large travels to every host with its configuration');
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
  for (const [field, value] of Object.entries({ uri, authority })) {
    if (value !== undefined && hasControls(value)) report.add(`${path}.${field}`, 'must not hold control characters');
  }
  if (uri && uriRegexRewrite !== undefined) report.add(path, 'rewrite may only contain one of URI or UriRegexRewrite');
  if (uriRegexRewrite === undefined) return;
  if (!uriRegexRewrite.match || !uriRegexRewrite.rewrite)
    report.required(`${path}.uriRegexRewrite`, 'UriRegexRewrite requires that both Rewrite and Match be specified');
  else {
    checkRegex(uriRegexRewrite.match, `${path}.uriRegexRewrite.match`, report);
    checkSubstitution(uriRegexRewrite.match, uriRegexRewrite.rewrite, `${path}.uriRegexRewrite.rewrite`, report);
  }
}

/** `\\1` to `\\9` stand for groups of the pattern, `\\0` for all of it, `\\\\` for a backslash; Envoy refuses groups that are not there. */
function checkSubstitution(pattern: string, rewrite: string, path: string, report: Report): void {
  const groups = groupsOf(pattern);
  for (const [whole, digit] of rewrite.matchAll(/\\(\d|\\|.?)/gs)) {
    if (digit === '\\') continue;
    if (digit === undefined || !/^\d$/.test(digit))
      report.add(path, `${shown(whole)}: after a backslash a digit or a backslash is expected`);
    else if (groups !== undefined && Number(digit) > groups)
      report.add(path, `refers to group ${digit}, but the pattern has ${groups}`);
  }
  if (hasControls(rewrite)) report.add(path, 'must not hold control characters');
}

/** Capturing groups of an RE2 pattern; undefined when it is none. */
function groupsOf(pattern: string): number | undefined {
  try {
    return RE2JS.compile(pattern).groupCount();
  } catch {
    return undefined;
  }
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
  if (delay !== undefined) checkDelay(delay, `${path}.delay`, report);
  if (abort !== undefined) checkAbort(abort, `${path}.abort`, report);
}

function checkDelay(delay: NonNullable<Fault['delay']>, path: string, report: Report): void {
  const { percent, percentage, fixedDelay, exponentialDelay } = delay;
  checkInteger(percent, `${path}.percent`, report, 0, 100);
  checkFraction(percentage, `${path}.percentage.value`, report);
  if (exponentialDelay !== undefined)
    report.add(`${path}.exponentialDelay`, 'exponentialDelay not supported yet', 'FieldValueNotSupported');
  else if (fixedDelay === undefined) report.warn(path, 'without fixedDelay it delays nothing');
  checkDuration(fixedDelay, `${path}.fixedDelay`, report);
  if (percent !== undefined && percentage === undefined)
    report.warn(`${path}.percent`, 'using deprecated setting percent, use percentage instead');
  if (percent === undefined && percentage === undefined)
    report.warn(path, 'without a percentage no request is delayed');
}

function checkAbort(abort: NonNullable<Fault['abort']>, path: string, report: Report): void {
  const { percentage, httpStatus, grpcStatus, http2Error } = abort;
  checkFraction(percentage, `${path}.percentage.value`, report);
  checkHttpStatus(httpStatus, `${path}.httpStatus`, report);
  if (grpcStatus !== undefined && !GRPC_STATUSES.has(grpcStatus))
    report.add(`${path}.grpcStatus`, `gRPC status ${shown(grpcStatus)} is not supported`);
  if (http2Error !== undefined)
    report.add(`${path}.http2Error`, 'HTTP/2 abort fault injection not supported yet', 'FieldValueNotSupported');
  else if (httpStatus === undefined && grpcStatus === undefined)
    report.warn(path, 'abort configured, but error type not set: it aborts nothing');
  if (percentage === undefined) report.warn(path, 'without a percentage no request is aborted');
}

/** A share of the requests: 0, or what Envoy can still count, a millionth of all, up to all. */
function checkFraction(percentage: Percent | undefined, path: string, report: Report): void {
  const value = percentage?.value;
  checkPercent(value, path, report);
  if (value !== undefined && value > 0 && value < 0.0001)
    report.add(path, `percentage ${value} is neither 0.0, nor in range [0.0001, 100.0]`);
}

/** Envoy's x-envoy-retry-on and x-envoy-retry-grpc-on values (config.route.v3.RetryPolicy.retry_on). */
const RETRY_ON = new Set(
  (
    '5xx gateway-error reset reset-before-request connect-failure envoy-ratelimited retriable-4xx refused-stream retriable-status-codes ' +
    'retriable-headers http3-post-connect-failure cancelled deadline-exceeded internal resource-exhausted unavailable'
  ).split(' '),
);

/** Status codes that have a name (Go's net/http, which Istio asks). */
const CODES: readonly (readonly [number, number])[] = [
  [100, 103],
  [200, 208],
  [226, 226],
  [300, 305],
  [307, 308],
  [400, 418],
  [421, 426],
  [428, 429],
  [431, 431],
  [451, 451],
  [500, 508],
  [510, 511],
];

export function checkRetries(retries: Retries | undefined, path: string, report: Report): void {
  if (retries === undefined) return;
  const { attempts = 0, perTryTimeout, retryOn = '', retryRemoteLocalities, backoff } = retries;
  checkInteger(retries.attempts, `${path}.attempts`, report, 0);
  const more = perTryTimeout !== undefined || retryOn !== '' || retryRemoteLocalities !== undefined;
  if (more && attempts === 0)
    report.add(`${path}.attempts`, 'http retry policy configured when attempts are set to 0 (disabled)');
  checkDuration(perTryTimeout, `${path}.perTryTimeout`, report);
  checkDuration(backoff, `${path}.backoff`, report);
  if (attempts === 0 && !more) report.warn(path, 'attempts are 0: nothing is retried');
  for (const token of retryOn === '' ? [] : retryOn.split(',')) {
    const code = /^\d{3}$/.test(token) ? Number(token) : undefined;
    if (RETRY_ON.has(token) || CODES.some(([from, to]) => code !== undefined && code >= from && code <= to)) continue;
    report.add(`${path}.retryOn`, `${shown(token)} is not a valid retryOn policy`);
  }
}

function checkMirrors(actions: Actions, path: string, report: Report): void {
  if (actions.mirror !== undefined && actions.mirrors !== undefined)
    report.add(path, 'HTTP route cannot contain both mirror and mirrors');
  if (actions.mirror !== undefined) checkDestination(actions.mirror, `${path}.mirror`, report);
  for (const field of ['mirrorPercent', 'mirror_percent'] as const) {
    checkInteger(actions[field], `${path}.${field}`, report, 0, 100);
    if (actions[field] !== undefined)
      report.warn(`${path}.${field}`, `using deprecated setting ${field}, use mirrorPercentage instead`);
  }
  checkPercent(actions.mirrorPercentage?.value, `${path}.mirrorPercentage.value`, report);
  for (const [i, mirror] of (actions.mirrors ?? []).entries()) {
    checkDestination(mirror.destination, `${path}.mirrors[${i}].destination`, report);
    checkPercent(mirror.percentage?.value, `${path}.mirrors[${i}].percentage.value`, report);
  }
}

const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', '*']);

function checkCors(cors: Cors | undefined, path: string, report: Report): void {
  if (cors === undefined) return;
  for (const [i, origin] of (cors.allowOrigins ?? []).entries()) {
    if ([origin.exact, origin.prefix, origin.regex].every((value) => value === undefined || value === ''))
      report.required(`${path}.allowOrigins[${i}]`, "'' is not a valid match type for CORS allow origins");
    else checkStringMatch(origin, `${path}.allowOrigins[${i}]`, report);
  }
  for (const [i, method] of (cors.allowMethods ?? []).entries()) {
    if (!METHODS.has(method))
      report.add(`${path}.allowMethods[${i}]`, `${shown(method)} is not a supported HTTP method`);
  }
  for (const field of ['allowHeaders', 'exposeHeaders'] as const) {
    for (const [i, name] of (cors[field] ?? []).entries()) checkHeaderName(name, `${path}.${field}[${i}]`, report);
  }
  checkDuration(cors.maxAge, `${path}.maxAge`, report);
  const age = cors.maxAge === undefined ? 0 : (parseDuration(cors.maxAge) ?? 0);
  if (age % 1000 !== 0) report.add(`${path}.maxAge`, 'max_age duration is accurate only to seconds precision');
}
