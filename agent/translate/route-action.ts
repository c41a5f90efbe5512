import { resolveHost } from '../mesh-view/host-names.ts';
import type { ClientView } from '../mesh-view/lookup.ts';
import type { Destination } from '../mesh-view/specs/common.ts';
import type { CorsSpec, HeaderRules, HttpRetrySpec, HttpRoute } from '../mesh-view/specs/virtual-service.ts';
import type { ServiceView, WorkloadView } from '../mesh-view/view.ts';
import { MESH_HEADER } from './filters.ts';
import { any, compact, duration, fractionalPercent, type JsonObject } from './json.ts';
import { hashPolicies } from './load-balancing.ts';
import { CLUSTER, clusterName, sniName } from './names.ts';
import { stringMatch } from './route-match.ts';
import { canonical } from './telemetry-labels.ts';
import { portPolicy } from './traffic-policy.ts';

/** Where a rule is being translated: for whom, at which port, through what, as written in which namespace. */
export interface RouteContext {
  readonly client: ClientView;
  readonly workload: WorkloadView;
  readonly port: number;
  readonly namespace: string;
  /** `mesh`, or the gateway that the request comes through as `NAMESPACE/NAME`. */
  readonly gateway: string;
  /** Whether the client spoke TLS to this proxy: a gateway that ends it. */
  readonly tls?: boolean;
  /** The mesh's retries for rules without any of their own; Istio's default when undefined. */
  readonly defaultRetries?: HttpRetrySpec | undefined;
}

/** A destination found: its cluster's name (of one that does not exist where service or subset is unknown: 503, as in Istio). */
export interface Target {
  readonly cluster: string;
  readonly hash: readonly JsonObject[];
  /** Whether a proxy of the mesh may be at the other end. */
  readonly meshed: boolean;
}

/** Resolves a destination: short names in the rule's namespace; without a port, the service's only one or the port being called. */
export function resolveDestination(context: RouteContext, destination: Destination): Target {
  const host = resolveHost(destination.host, context.namespace);
  const service = context.client.service(host);
  const port =
    destination.port?.number ?? (service?.ports.length === 1 ? service.ports[0]?.number : undefined) ?? context.port;
  if (service === undefined) return { cluster: sniName(host, port, destination.subset), hash: [], meshed: false };
  const rule = context.client.destinationRule(service);
  const subset = rule?.subsets.find((candidate) => candidate.name === destination.subset);
  const policy = portPolicy(rule, subset, port);
  const mode = policy.tls?.mode;
  const transport = service.ports.find((candidate) => candidate.number === port)?.transport;
  return {
    cluster: clusterName(context.client, service, port, destination.subset),
    hash: hashPolicies(policy.loadBalancer),
    meshed: mode === 'ISTIO_MUTUAL' || (mode !== 'DISABLE' && transport !== undefined && transport !== 'plain'),
  };
}

/** Istio's retries of a route that says nothing: only what is safe to repeat. */
const DEFAULT_RETRY_ON = 'connect-failure,refused-stream,unavailable,cancelled';

/** Everything of an Envoy route but its name and match. */
export function routeAction(context: RouteContext, rule: HttpRoute): JsonObject {
  if (rule.redirect !== undefined) return { redirect: redirect(context, rule.redirect), ...headers(rule.headers) };
  if (rule.directResponse !== undefined) {
    return { direct_response: directResponse(rule.directResponse), ...perFilter(rule), ...headers(rule.headers) };
  }
  const targets = (rule.route ?? []).map((entry) => ({ ...entry, ...resolveDestination(context, entry.destination) }));
  const single = targets.length === 1 ? targets[0] : undefined;
  return merge(
    {
      route: compact({
        ...split(context, targets),
        ...rewrite(rule),
        ...hostOf(rule.headers),
        timeout: duration(rule.timeout) ?? '0s',
        retry_policy: retryPolicy(rule.retries ?? context.defaultRetries),
        hash_policy: some(unique(targets.flatMap((target) => target.hash))),
        request_mirror_policies: some(mirrors(context, rule)),
      }),
      ...perFilter(rule),
    },
    headers(rule.headers),
    single === undefined ? {} : headers(single.headers),
    single === undefined ? {} : meshHeaders(context.workload, single),
  );
}

/** The route of a service that no VirtualService speaks of. */
export function defaultAction(context: RouteContext, service: ServiceView): JsonObject {
  return routeAction(context, { route: [{ destination: { host: service.host, port: { number: context.port } } }] });
}

interface Weighted extends Target {
  readonly weight?: number;
  readonly headers?: HeaderRules;
}

function split(context: RouteContext, targets: readonly Weighted[]): JsonObject {
  const [first, ...others] = targets;
  if (first === undefined) return { cluster: CLUSTER.blackHole };
  if (others.length === 0) return { cluster: first.cluster, ...hostOf(first.headers) };
  const total = targets.reduce((sum, target) => sum + (target.weight ?? 0), 0);
  if (total === 0) return { cluster: CLUSTER.blackHole };
  const clusters = targets
    .filter((target) => (target.weight ?? 0) > 0)
    .map((target) =>
      merge(
        { name: target.cluster, weight: target.weight, ...hostOf(target.headers) },
        headers(target.headers),
        meshHeaders(context.workload, target),
      ),
    );
  return { weighted_clusters: { clusters } };
}

/** What the other proxy is told, where the destination may be one of the mesh's. */
function meshHeaders(workload: WorkloadView, target: Target): JsonObject {
  if (!target.meshed) return {};
  const { app, version } = canonical(workload.labels, workload.name);
  const set = (key: string, value: string) => ({
    header: { key, value },
    append_action: 'OVERWRITE_IF_EXISTS_OR_ADD',
  });
  return {
    request_headers_to_add: [
      set(MESH_HEADER.protocol, '%PROTOCOL%'),
      set(MESH_HEADER.workload, workload.name),
      set(MESH_HEADER.app, app.replaceAll('%', '%%')),
      set(MESH_HEADER.version, version.replaceAll('%', '%%')),
    ],
  };
}

/** Header operations of a rule or destination; `Host` is not among them, see hostOf. */
function headers(rules: HeaderRules | undefined): JsonObject {
  const add = (operations: HeaderRules['request']) => [
    ...Object.entries(operations?.set ?? {})
      .filter(([key]) => !isHost(key))
      .map(([key, value]) => ({ header: { key, value }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' })),
    ...Object.entries(operations?.add ?? {}).map(([key, value]) => ({
      header: { key, value },
      append_action: 'APPEND_IF_EXISTS_OR_ADD',
    })),
  ];
  return compact({
    request_headers_to_add: some(add(rules?.request)),
    request_headers_to_remove: some(rules?.request?.remove ?? []),
    response_headers_to_add: some(add(rules?.response)),
    response_headers_to_remove: some(rules?.response?.remove ?? []),
  });
}

const isHost = (header: string) => /^(host|:authority)$/i.test(header);

/** Setting `Host` is rewriting the authority: Envoy refuses to do it as a header. */
function hostOf(rules: HeaderRules | undefined): JsonObject {
  const host = Object.entries(rules?.request?.set ?? {}).find(([key]) => isHost(key));
  return host === undefined ? {} : { host_rewrite_literal: host[1] };
}

/** Concatenates the lists of several objects; other keys must not repeat. */
function merge(...parts: readonly JsonObject[]): JsonObject {
  const merged: Record<string, JsonObject[string]> = {};
  for (const [key, value] of parts.flatMap((part) => Object.entries(part))) {
    const known = merged[key];
    merged[key] = Array.isArray(known) && Array.isArray(value) ? [...known, ...value] : value;
  }
  return merged;
}

function some<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length === 0 ? undefined : list;
}

function unique(list: readonly JsonObject[]): readonly JsonObject[] {
  return [...new Map(list.map((item) => [JSON.stringify(item), item])).values()];
}

function rewrite({ rewrite: spec }: HttpRoute): JsonObject {
  if (spec === undefined) return {};
  const regex = spec.uriRegexRewrite;
  return compact({
    prefix_rewrite: spec.uri,
    regex_rewrite:
      regex === undefined ? undefined : { pattern: { regex: regex.match ?? '' }, substitution: regex.rewrite ?? '' },
    host_rewrite_literal: spec.authority,
  });
}

function retryPolicy(spec: HttpRetrySpec | undefined): JsonObject | undefined {
  if (spec?.attempts === 0) return undefined;
  const written = spec?.retryOn === undefined || spec.retryOn === '' ? DEFAULT_RETRY_ON : spec.retryOn;
  const conditions = written.split(',').map((condition) => condition.trim());
  const codes = conditions.filter((condition) => /^\d+$/.test(condition)).map(Number);
  const names = conditions.filter((condition) => condition !== '' && !/^\d+$/.test(condition));
  if (codes.length > 0 && !names.includes('retriable-status-codes')) names.push('retriable-status-codes');
  return compact({
    retry_on: names.join(','),
    num_retries: spec?.attempts ?? 2,
    retriable_status_codes: some(codes),
    per_try_timeout: duration(spec?.perTryTimeout),
    retry_back_off: spec?.backoff === undefined ? undefined : { base_interval: duration(spec.backoff) },
    retry_host_predicate: spec?.retryIgnorePreviousHosts === false ? undefined : [PREVIOUS_HOSTS],
    host_selection_retry_max_attempts: spec?.retryIgnorePreviousHosts === false ? undefined : 5,
    retry_priority: spec?.retryRemoteLocalities === true ? PREVIOUS_PRIORITIES : undefined,
  });
}

const PREVIOUS_HOSTS: JsonObject = {
  name: 'envoy.retry_host_predicates.previous_hosts',
  typed_config: any('envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate'),
};
const PREVIOUS_PRIORITIES: JsonObject = {
  name: 'envoy.retry_priorities.previous_priorities',
  typed_config: any('envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig', {
    update_frequency: 2,
  }),
};

function mirrors(context: RouteContext, rule: HttpRoute): JsonObject[] {
  const percent = rule.mirrorPercentage?.value ?? rule.mirrorPercent ?? rule.mirror_percent ?? 100;
  const list = [
    ...(rule.mirror === undefined ? [] : [{ destination: rule.mirror, percent }]),
    ...(rule.mirrors ?? []).map((mirror) => ({
      destination: mirror.destination,
      percent: mirror.percentage?.value ?? 100,
    })),
  ];
  return list
    .filter((mirror) => mirror.percent > 0)
    .map((mirror) => ({
      cluster: resolveDestination(context, mirror.destination).cluster,
      runtime_fraction: { default_value: fractionalPercent(mirror.percent) },
      trace_sampled: false,
    }));
}

const REDIRECT_CODES: Readonly<Record<number, string>> = {
  301: 'MOVED_PERMANENTLY',
  302: 'FOUND',
  303: 'SEE_OTHER',
  307: 'TEMPORARY_REDIRECT',
  308: 'PERMANENT_REDIRECT',
};

function redirect(context: RouteContext, spec: NonNullable<HttpRoute['redirect']>): JsonObject {
  return compact({
    host_redirect: spec.authority,
    path_redirect: spec.uri,
    scheme_redirect: spec.scheme,
    port_redirect: spec.port ?? (spec.derivePort === 'FROM_REQUEST_PORT' ? context.port : undefined),
    response_code: REDIRECT_CODES[spec.redirectCode ?? 301] ?? 'MOVED_PERMANENTLY',
  });
}

function directResponse({ status, body }: NonNullable<HttpRoute['directResponse']>): JsonObject {
  if (body?.string !== undefined) return { status, body: { inline_string: body.string } };
  if (body?.bytes !== undefined) return { status, body: { inline_bytes: body.bytes } };
  return { status };
}

function perFilter(rule: HttpRoute): JsonObject {
  const config = compact({
    'envoy.filters.http.fault': fault(rule.fault),
    'envoy.filters.http.cors': rule.corsPolicy === undefined ? undefined : cors(rule.corsPolicy),
  });
  return Object.keys(config).length === 0 ? {} : { typed_per_filter_config: config };
}

const GRPC_CODES = [
  ...['OK', 'CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS'],
  ...['PERMISSION_DENIED', 'RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE', 'UNIMPLEMENTED'],
  ...['INTERNAL', 'UNAVAILABLE', 'DATA_LOSS', 'UNAUTHENTICATED'],
];

function fault(spec: HttpRoute['fault']): JsonObject | undefined {
  if (spec === undefined) return undefined;
  const { delay, abort } = spec;
  const grpc = GRPC_CODES.indexOf(abort?.grpcStatus ?? '');
  return any(
    'envoy.extensions.filters.http.fault.v3.HTTPFault',
    compact({
      delay:
        delay?.fixedDelay === undefined
          ? undefined
          : {
              fixed_delay: duration(delay.fixedDelay),
              percentage: fractionalPercent(delay.percentage?.value ?? delay.percent ?? 100),
            },
      abort:
        abort === undefined
          ? undefined
          : {
              ...(grpc >= 0 ? { grpc_status: grpc } : { http_status: abort.httpStatus }),
              percentage: fractionalPercent(abort.percentage?.value ?? 100),
            },
    }),
  );
}

function cors(spec: CorsSpec): JsonObject {
  const origins = [
    ...(spec.allowOrigins ?? []).map((origin) => stringMatch(origin) ?? { prefix: '' }),
    ...(spec.allowOrigin ?? []).map((origin) => (origin === '*' ? { safe_regex: { regex: '.*' } } : { exact: origin })),
  ];
  const list = (values: readonly string[] | undefined) =>
    values === undefined || values.length === 0 ? undefined : values.join(',');
  const age = duration(spec.maxAge);
  return any(
    'envoy.extensions.filters.http.cors.v3.CorsPolicy',
    compact({
      allow_origin_string_match: some(origins),
      allow_methods: list(spec.allowMethods),
      allow_headers: list(spec.allowHeaders),
      expose_headers: list(spec.exposeHeaders),
      max_age: age === undefined ? undefined : String(Math.floor(Number(age.slice(0, -1)))),
      allow_credentials: spec.allowCredentials,
      forward_not_matching_preflights: spec.unmatchedPreflights === 'IGNORE' ? false : undefined,
      filter_enabled: { default_value: { numerator: 100, denominator: 'HUNDRED' } },
    }),
  );
}
