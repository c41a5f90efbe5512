import { hostMatches, resolveHost } from '../mesh-view/host-names.ts';
import type { ClientView } from '../mesh-view/lookup.ts';
import { isDynamic } from '../mesh-view/reach.ts';
import type { Destination } from '../mesh-view/specs/common.ts';
import type { HeaderRules, HttpRetrySpec, HttpRoute } from '../mesh-view/specs/virtual-service.ts';
import type { ServiceView } from '../mesh-view/view.ts';
import { MESH_GATEWAY } from '../mesh-view/virtual-services.ts';
import type { Caller } from './caller.ts';
import { tcpSettings } from './connection-pool.ts';
import { dynamicPort } from './dynamic-dns.ts';
import { any, compact, duration, fractionalPercent, type JsonObject } from './json.ts';
import { hashPolicies } from './load-balancing.ts';
import { mirrorName } from './mirror-plan.ts';
import { CLUSTER, clusterName, sniName } from './names.ts';
import { alike } from './resource-set.ts';
import { perFilter } from './route-filters.ts';
import { headers, hostOf, merge, meshHeaders, some } from './route-headers.ts';
import { portPolicy, transportOf } from './traffic-policy.ts';

/** Where a rule is being translated: for whom, at which port, through what, as written in which namespace. */
export interface RouteContext {
  readonly client: ClientView;
  readonly workload: Caller;
  readonly port: number;
  readonly namespace: string;
  /** `mesh`, or the gateway that the request comes through as `NAMESPACE/NAME`. */
  readonly gateway: string;
  /** Whether the client spoke TLS to this proxy: a gateway that ends it. */
  readonly tls?: boolean;
  /** The mesh's retries for rules without any of their own; Istio's default when undefined. */
  readonly defaultRetries?: HttpRetrySpec | undefined;
  /** Names, perhaps wildcards, that calls which come here are for: a service of resolution DYNAMIC_DNS takes only its own. */
  readonly called?: readonly string[] | undefined;
}

/** A destination found: its cluster's name (of one that does not exist where service or subset is unknown: 503, as in Istio). */
export interface Target {
  readonly cluster: string;
  readonly hash: readonly JsonObject[];
  /** Whether a proxy of the mesh may be at the other end. */
  readonly meshed: boolean;
  /** What it is told to speak to its application: a workload's own version; from a gateway, whose clients say nothing of it, the declared one. */
  readonly speaks: '%PROTOCOL%' | 'HTTP/1.1' | 'HTTP/2';
  /** The name in the request is resolved: the port that it is reached by. */
  readonly dynamicPort?: number;
  /** Members of the TcpProxy through which bytes go there. */
  readonly tcp: JsonObject;
}

const NOWHERE: Target = { cluster: CLUSTER.blackHole, hash: [], meshed: false, speaks: '%PROTOCOL%', tcp: {} };

/** Resolves a destination: short names in the rule's namespace; without a port, the service's only one or the port being called. */
export function resolveDestination(context: RouteContext, destination: Destination): Target {
  const host = resolveHost(destination.host, context.namespace);
  const service = context.client.service(host);
  const port =
    destination.port?.number ?? (service?.ports.length === 1 ? service.ports[0]?.number : undefined) ?? context.port;
  if (service === undefined) return { ...NOWHERE, cluster: sniName(host, port, destination.subset) };
  if (isDynamic(service) && context.called?.every((name) => hostMatches(service.host, name)) !== true) return NOWHERE;
  const rule = context.client.destinationRule(service);
  const subset = rule?.subsets.find((candidate) => candidate.name === destination.subset);
  const policy = portPolicy(rule, subset, port);
  const found = service.ports.find((candidate) => candidate.number === port);
  const declared = found?.protocol === 'HTTP2' ? 'HTTP/2' : 'HTTP/1.1';
  return {
    cluster: clusterName(context.client, service, port, destination.subset),
    hash: hashPolicies(policy.loadBalancer),
    meshed: found !== undefined && transportOf(policy, found) !== 'plain',
    tcp: tcpSettings(policy),
    speaks: context.gateway === MESH_GATEWAY ? '%PROTOCOL%' : declared,
    ...(isDynamic(service) && found !== undefined ? { dynamicPort: dynamicPort(found) } : {}),
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
  const authority = rule.rewrite?.authority;
  const there = authority ? { ...context, called: [authority.replace(/:\d+$/, '')] } : context;
  const targets = (rule.route ?? []).map((entry) => ({ ...entry, ...resolveDestination(there, entry.destination) }));
  const single = targets.length === 1 ? targets[0] : undefined;
  const timeout = duration(rule.timeout) ?? '0s';
  const hash = unique(targets.flatMap((target) => target.hash));
  return merge(
    {
      route: compact({
        ...split(context, targets),
        ...rewrite(rule),
        ...hostOf(single?.headers),
        ...hostOf(rule.headers),
        ...(rule.rewrite?.authority ? { host_rewrite_literal: rule.rewrite.authority } : {}),
        timeout,
        // A gRPC client's deadline, in its grpc-timeout, holds here too. Envoy minds one or the other; a shorter one the client minds itself.
        max_stream_duration: timeout === '0s' ? { grpc_timeout_header_max: '0s' } : undefined,
        retry_policy: retryPolicy(rule.retries ?? context.defaultRetries, single !== undefined && hash.length > 0),
        hash_policy: some(hash),
        request_mirror_policies: some(mirrors(context, rule)),
      }),
      ...perFilter(rule),
    },
    headers(rule.headers),
    single === undefined ? {} : headers(single.headers),
    single === undefined ? {} : meshHeaders(context, single),
  );
}

/** The route of a service that no VirtualService speaks of. */
export function defaultAction(context: RouteContext, service: ServiceView): JsonObject {
  const here = { ...context, called: [service.host] };
  return routeAction(here, { route: [{ destination: { host: service.host, port: { number: context.port } } }] });
}

interface Weighted extends Target {
  readonly weight?: number;
  readonly headers?: HeaderRules;
}

function split(context: RouteContext, targets: readonly Weighted[]): JsonObject {
  const [first, ...others] = targets;
  if (first === undefined) return { cluster: CLUSTER.blackHole };
  if (others.length === 0) return { cluster: first.cluster };
  const total = targets.reduce((sum, target) => sum + (target.weight ?? 0), 0);
  if (total === 0) return { cluster: CLUSTER.blackHole };
  const clusters = targets
    .filter((target) => (target.weight ?? 0) > 0)
    .map((target) =>
      merge(
        { name: target.cluster, weight: target.weight, ...hostOf(target.headers) },
        headers(target.headers),
        meshHeaders(context, target),
      ),
    );
  return { weighted_clusters: { clusters } };
}

function unique(list: readonly JsonObject[]): readonly JsonObject[] {
  return [...new Map(list.map((item) => [JSON.stringify(item), item])).values()];
}

function rewrite({ rewrite: spec }: HttpRoute): JsonObject {
  const regex = spec?.uriRegexRewrite;
  if (regex !== undefined)
    return { regex_rewrite: { pattern: { regex: regex.match ?? '' }, substitution: regex.rewrite ?? '' } };
  return spec?.uri ? { prefix_rewrite: spec.uri } : {};
}

/**
 * Istio's HTTPRetry; without one, its default: twice, where that is safe. Attempts of 0, or none written, are no retries. A request whose
 * server is chosen by consistent hash stays with it (`hashed`), unless the rule says to avoid servers that failed.
 */
function retryPolicy(spec: HttpRetrySpec | undefined, hashed: boolean): JsonObject | undefined {
  const attempts = spec === undefined ? 2 : (spec.attempts ?? 0);
  if (attempts === 0) return undefined;
  const written = spec?.retryOn === undefined || spec.retryOn === '' ? DEFAULT_RETRY_ON : spec.retryOn;
  const conditions = written.split(',').map((condition) => condition.trim());
  const codes = conditions.filter((condition) => /^\d+$/.test(condition)).map(Number);
  const names = conditions.filter((condition) => condition !== '' && !/^\d+$/.test(condition));
  if (codes.length > 0 && !names.includes('retriable-status-codes')) names.push('retriable-status-codes');
  const elsewhere = spec?.retryIgnorePreviousHosts ?? !hashed;
  return alike(
    compact({
      retry_on: names.join(','),
      num_retries: attempts,
      retriable_status_codes: some(codes),
      per_try_timeout: duration(spec?.perTryTimeout),
      retry_back_off: spec?.backoff === undefined ? undefined : { base_interval: duration(spec.backoff) },
      retry_host_predicate: elsewhere ? [PREVIOUS_HOSTS] : undefined,
      host_selection_retry_max_attempts: elsewhere ? 5 : undefined,
      retry_priority: spec?.retryRemoteLocalities === true ? PREVIOUS_PRIORITIES : undefined,
    }),
  );
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

/** Copies of the request, with `-shadow` after their host, as Envoy has it: all of them unless a percentage says otherwise, 0 none. */
function mirrors(context: RouteContext, rule: HttpRoute): JsonObject[] {
  const single =
    rule.mirrorPercentage === undefined
      ? (rule.mirrorPercent ?? rule.mirror_percent ?? 100)
      : (rule.mirrorPercentage.value ?? 0);
  const list = [
    ...(rule.mirror === undefined ? [] : [{ destination: rule.mirror, percent: single }]),
    ...(rule.mirrors ?? []).map(({ destination, percentage }) => ({
      destination,
      percent: percentage === undefined ? 100 : (percentage.value ?? 0),
    })),
  ];
  return list
    .filter((mirror) => mirror.percent > 0)
    .map(({ destination, percent }) => {
      const { cluster, meshed } = resolveDestination(context, destination);
      return {
        cluster: meshed ? mirrorName(cluster, context.workload) : cluster,
        runtime_fraction: { default_value: fractionalPercent(percent) },
        trace_sampled: false,
      };
    });
}

const REDIRECT_CODES: Readonly<Record<number, string>> = {
  301: 'MOVED_PERMANENTLY',
  302: 'FOUND',
  303: 'SEE_OTHER',
  307: 'TEMPORARY_REDIRECT',
  308: 'PERMANENT_REDIRECT',
};

/** Stands in a redirect's uri for what the rule matched by prefix: the rest of the path stays. */
const MATCHED_PREFIX = '%PREFIX()%';

function redirect(context: RouteContext, spec: NonNullable<HttpRoute['redirect']>): JsonObject {
  const { uri = '' } = spec;
  const port = spec.port ?? (spec.derivePort === 'FROM_REQUEST_PORT' ? context.port : undefined);
  const usual = (spec.scheme || (context.tls === true ? 'https' : 'http')) === 'https' ? 443 : 80;
  const path = uri.startsWith(MATCHED_PREFIX)
    ? { prefix_rewrite: uri.slice(MATCHED_PREFIX.length) }
    : { path_redirect: uri === '' ? undefined : uri };
  return compact({
    host_redirect: spec.authority || undefined,
    ...path,
    scheme_redirect: spec.scheme || undefined,
    port_redirect: port === usual ? undefined : port,
    response_code: REDIRECT_CODES[spec.redirectCode ?? 301] ?? 'MOVED_PERMANENTLY',
  });
}

function directResponse({ status, body }: NonNullable<HttpRoute['directResponse']>): JsonObject {
  if (body?.string !== undefined) return { status, body: { inline_string: body.string } };
  if (body?.bytes !== undefined) return { status, body: { inline_bytes: body.bytes } };
  return { status };
}
