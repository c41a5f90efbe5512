import { CLUSTER_DOMAIN, hostMatches } from '../mesh-view/host-names.ts';
import { admitsSource, type ClientView } from '../mesh-view/lookup.ts';
import { isDynamic } from '../mesh-view/reach.ts';
import type { HttpMatch, HttpRoute } from '../mesh-view/specs/virtual-service.ts';
import type { MeshView, ServiceView, VirtualServiceView, WorkloadView } from '../mesh-view/view.ts';
import { gatewayNames, MESH_GATEWAY } from '../mesh-view/virtual-services.ts';
import type { Caller } from './caller.ts';
import { dynamicRoutes } from './dynamic-dns.ts';
import { compact, type JsonObject, resource } from './json.ts';
import { FORGETFUL, type Memory, serviceKey } from './memory.ts';
import { routeName } from './names.ts';
import type { XdsResource } from './resource-set.ts';
import { defaultAction, type RouteContext, routeAction } from './route-action.ts';
import { routeMatch } from './route-match.ts';
import { type Column, mergeColumns } from './route-table.ts';
import { unknownCluster, unknownHost } from './unknown-host.ts';

/** The services that one workload's route configuration stands for. */
export interface RouteScope {
  readonly view: MeshView;
  readonly client: ClientView;
  readonly workload: WorkloadView;
  readonly port: number;
  /** `own`: of a Sidecar's listener for the address `bind`. */
  readonly scope: 'vip' | 'any' | 'own';
  readonly bind?: string;
  readonly services: readonly ServiceView[];
  /** What tells `client` from other clients of its namespace on this host, from view to view. */
  readonly id: string;
  /** Default: everything is made anew. */
  readonly memory?: Memory;
}

/** Whose requests routes are made for. */
interface CallScope extends RouteScope {
  readonly caller: Caller;
}

/**
 * RouteConfiguration of one port for workloads of one namespace, each with its scope (of the same name): a virtual host a service, by all the
 * names and addresses that mean it.
 */
export function routeConfiguration(scopes: readonly [RouteScope, ...RouteScope[]]): XdsResource {
  const [{ workload, port, scope, bind }] = scopes;
  const name = routeName(workload, port, scope, bind);
  const columns = columnsOf(scopes, name);
  const body: JsonObject = {
    virtual_hosts: mergeColumns(columns),
    ignore_port_in_host_matching: true,
    validate_clusters: false,
    max_direct_response_body_size_bytes: 1_048_576,
  };
  return resource(
    'route',
    name,
    body,
    columns.flatMap(({ origins }) => origins),
  );
}

type Hosts = { readonly hosts: readonly JsonObject[]; readonly origins: readonly string[] };

/** The hosts of each scope. Workloads of which no rule asks who they are have the same ones but for the last resort: made once. */
function columnsOf(scopes: readonly RouteScope[], name: string): readonly (Column & Hosts)[] {
  const common = new Map<ClientView, Hosts>();
  return scopes.map((scope): Column & Hosts => {
    const { client, workload } = scope;
    const asked = client.virtualServices.some(asksForCaller);
    const made = common.get(client) ?? hostsOf({ ...scope, caller: asked ? workload : anyone(workload) }, name);
    if (!asked) common.set(client, made);
    return { caller: workload.name, hosts: [...made.hosts, lastResort(scope, name)], origins: made.origins };
  });
}

function hostsOf(scope: CallScope, name: string): Hosts {
  const { view, client, services, caller, workload, id, memory = FORGETFUL } = scope;
  const taken = new Set<string>();
  const what = `host ${name} ${id}`;
  const nobody = anyone(workload);
  const made = services.map((service) => {
    const asked = client.virtualServicesFor(service.host).some(asksForCaller);
    const [whose, who, inputs] = asked ? [`${what} ${caller.name}`, caller, [workload]] : [what, nobody, []];
    return memory.remember(whose, serviceKey(service), client, [service, view.defaultRetries, ...inputs], (noted) =>
      serviceHost({ ...scope, client: noted, caller: who }, service),
    );
  });
  const origins = made.flatMap((host) => host.origins);
  const hosts = [...made.map(({ host }) => host), ...unregisteredHosts(scope, origins)]
    .map((host) => withDomains(host, claim(host.domains as readonly string[], taken)))
    .filter((host) => (host.domains as readonly string[]).length > 0);
  return { hosts, origins };
}

/** A caller of whom no more is known than its namespace, for routes that do not ask for more. */
function anyone({ namespace }: WorkloadView): Caller {
  return { namespace, name: '', labels: {}, spiffeId: '' };
}

/** Whether a rule's routes are not the same for all workloads of a namespace: a copy goes out under its caller's identity. */
function asksForCaller({ spec }: VirtualServiceView): boolean {
  return (spec.http ?? []).some(
    ({ match = [], mirror, mirrors = [] }) =>
      mirror !== undefined ||
      mirrors.length > 0 ||
      match.some(({ sourceLabels }) => Object.keys(sourceLabels ?? {}).length > 0),
  );
}

/** It names every service's address: with hundreds of them, the dearest of all virtual hosts. */
function lastResort(scope: RouteScope, name: string): JsonObject {
  const { view, client, workload, services, id, memory = FORGETFUL } = scope;
  const { outboundPolicy, egressProxy } = workload;
  const key = `${name} ${id} ${outboundPolicy} ${JSON.stringify(egressProxy)}`;
  // All that it asks of a service: an endpoint that comes or goes does not change it.
  const inputs = services.flatMap((service) => [service.addresses, service.host, client.variant(service)]);
  return memory.remember('unknown', key, client, [view.vipRanges, ...inputs], (noted) =>
    unknownHost(scope, unknownCluster({ workload, client: noted })),
  );
}

/** The virtual host of a service, and the objects that shaped it. */
function serviceHost(scope: CallScope, service: ServiceView): { host: JsonObject; origins: readonly string[] } {
  const { client, port } = scope;
  const origins = [...service.origins, ...(client.destinationRule(service)?.origins ?? [])];
  const routes = serviceRoutes(scope, service, origins);
  const host = { name: `${service.host}:${port}`, domains: domains(service, client.namespace), routes };
  return { host, origins };
}

/** The very same object where nothing is taken away: what it is encoded to is then known. */
function withDomains(host: JsonObject, free: readonly string[]): JsonObject {
  return free.length === (host.domains as readonly string[]).length ? host : { ...host, domains: free };
}

/** Domains not taken by an earlier virtual host: Envoy refuses a second. */
function claim(names: readonly string[], taken: Set<string>): readonly string[] {
  const free: string[] = [];
  for (const name of names) {
    if (taken.has(name)) continue;
    taken.add(name);
    free.push(name);
  }
  return free;
}

/** Full name, the short names that mean it in the client's namespace, and its addresses. */
function domains(service: ServiceView, namespace: string): readonly string[] {
  const names = [service.host];
  const suffix = `.${service.namespace}.${CLUSTER_DOMAIN}`;
  if (service.host.endsWith(suffix)) {
    const name = service.host.slice(0, -suffix.length);
    if (service.namespace === namespace) names.push(name);
    names.push(`${name}.${service.namespace}`, `${name}.${service.namespace}.svc`);
  }
  const addresses = service.addresses.filter((address) => !address.includes('/'));
  return [...names, ...addresses.map(domain)];
}

function domain(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

/** Routes of the first VirtualService that has any for this call; without one, the service itself. */
function serviceRoutes(scope: CallScope, service: ServiceView, origins: string[]): JsonObject[] {
  for (const vs of scope.client.virtualServicesFor(service.host)) {
    origins.push(...vs.origins);
    const routes = ruleRoutes(contextOf(scope, vs.namespace, service.host), vs);
    if (routes.length > 0) return atServicePort(scope, service, routes);
  }
  const context = contextOf(scope, service.namespace, service.host);
  const all = { name: 'default', match: { prefix: '/' }, ...defaultAction(context, service) };
  return atServicePort(scope, service, [all]);
}

/** Of a service whose names are resolved at request time no other port than its own may be asked for. */
function atServicePort(scope: Pick<RouteScope, 'port'>, service: ServiceView, routes: JsonObject[]): JsonObject[] {
  const port = service.ports.find(({ number }) => number === scope.port);
  return isDynamic(service) && port !== undefined ? dynamicRoutes(port, routes) : routes;
}

function contextOf({ view, client, caller, port }: CallScope, namespace: string, called: string): RouteContext {
  const { defaultRetries } = view;
  return { client, workload: caller, port, namespace, gateway: MESH_GATEWAY, defaultRetries, called: [called] };
}

/**
 * Routes of one VirtualService's http rules for a call, in order; after one that takes everything, none. Empty where no rule is for this
 * call: the VirtualService then does not count. `context.gateway` says on whose behalf: `mesh`, or a gateway.
 */
export function ruleRoutes(context: RouteContext, vs: VirtualServiceView): JsonObject[] {
  const routes: JsonObject[] = [];
  for (const [index, rule] of (vs.spec.http ?? []).entries()) {
    const all: readonly (HttpMatch | undefined)[] = (rule.match ?? []).length === 0 ? [undefined] : (rule.match ?? []);
    for (const [position, match] of all.entries()) {
      if (match !== undefined && !admitsCall(match, context)) continue;
      const route = compact({
        name: routeNamed(rule, match),
        match: routeMatch(match),
        stat_prefix: match?.statPrefix === '' ? undefined : match?.statPrefix,
        metadata: writtenAt(vs, index, match === undefined ? undefined : position),
        ...routeAction(context, rule),
      });
      routes.push(route);
      if (isCatchAll(route)) return routes;
    }
  }
  return routes;
}

/**
 * Which object and field a route was written in: `meshctl why` and `proxy-config routes` read it out of Envoy's own config. A delegate's
 * rule is named without its match, which may be half the root's.
 */
function writtenAt(vs: VirtualServiceView, rule: number, match: number | undefined): JsonObject {
  const { origin, path } = vs.written?.[rule] ?? { origin: vs.key, path: `spec.http[${rule}]` };
  const whole = match === undefined || vs.written !== undefined ? path : `${path}.match[${match}]`;
  return { filter_metadata: { hostmesh: { origin, path: whole } } };
}

/**
 * Routes of several VirtualServices for one host of a gateway, oldest first: each one's in its own order, then those that take everything
 * last, so that no object hides another's. Pure; for the mesh they are not merged. `contextOf` gives the context of a VirtualService's rules.
 */
export function mergeVirtualServices(
  list: readonly VirtualServiceView[],
  contextOf: (vs: VirtualServiceView) => RouteContext,
): JsonObject[] {
  const routes = list.flatMap((vs) => ruleRoutes(contextOf(vs), vs));
  const all = routes.find(isCatchAll);
  return [...routes.filter((route) => !isCatchAll(route)), ...(all === undefined ? [] : [all])];
}

/** Istio: the rule's name, and its match's after a dot. */
function routeNamed(rule: HttpRoute, match: HttpMatch | undefined): string | undefined {
  const name = rule.name ?? '';
  if (match?.name !== undefined && match.name !== '') return `${name}.${match.name}`;
  return name === '' ? undefined : name;
}

/** Whose call it is, and through what: the parts of a match that are known before a request comes. */
export interface CallContext {
  readonly workload: Caller;
  readonly port: number;
  /** `mesh`, or the gateway as `NAMESPACE/NAME`. */
  readonly gateway: string;
  /** Of the VirtualService: where gateways written without one are. */
  readonly namespace: string;
}

/**
 * The parts of a match that do not depend on what is sent: gateways (without them, those of the VirtualService, which was chosen by them),
 * port, source. Shared by http, tcp and tls rules. A gateway that a match names takes everyone's calls: no source is compared.
 */
export function admitsCall(
  match: {
    readonly gateways?: readonly string[];
    readonly port?: number;
    readonly sourceLabels?: Readonly<Record<string, string>>;
    readonly sourceNamespace?: string;
  },
  context: CallContext,
): boolean {
  const { gateways = [], port } = match;
  if (port !== undefined && port !== 0 && port !== context.port) return false;
  if (gateways.length > 0) {
    if (!gatewayNames(gateways, context.namespace).includes(context.gateway)) return false;
    if (context.gateway !== MESH_GATEWAY) return true;
  }
  return admitsSource(match, context.workload);
}

function isCatchAll({ match }: JsonObject): boolean {
  const { prefix, safe_regex, headers, query_parameters } = match as JsonObject;
  const anywhere = prefix === '/' || (safe_regex as JsonObject | undefined)?.regex === '.*';
  return anywhere && headers === undefined && query_parameters === undefined;
}

/**
 * Hosts of VirtualServices that no service defines: Istio answers for them wherever it answers for a service of the same VirtualService, and
 * at port 80 where there is none. So it is here, and also wherever a wildcard service of this scope covers the host.
 */
function unregisteredHosts(scope: CallScope, origins: string[]): JsonObject[] {
  const { client, port, services } = scope;
  const hosts = new Set(client.services.map((service) => service.host));
  const result: JsonObject[] = [];
  for (const vs of client.virtualServices) {
    const unknown = vs.hosts.filter((host) => host !== '*' && !coversService(host, hosts));
    if (unknown.length === 0 || (vs.spec.http ?? []).length === 0) continue;
    const own = vs.hosts.flatMap((host) => client.services.filter((s) => hostMatches(host, s.host) && hasHttp(s)));
    const beside = own.length === 0 ? port === 80 : own.some((service) => services.includes(service));
    const here = unknown.filter((host) => beside || services.some((service) => hostMatches(service.host, host)));
    if (here.length === 0) continue;
    // One virtual host for all of them: copies of an object's rules for each of its hosts could be made to fill the memory.
    const groups = client.destinations.some(isDynamic) ? here.map((host) => [host]) : [here];
    for (const group of groups) {
      const [host = ''] = group;
      const routes = ruleRoutes(contextOf(scope, vs.namespace, host), vs);
      if (routes.length === 0) break;
      origins.push(...vs.origins);
      const cover = services.find((service) => isDynamic(service) && hostMatches(service.host, host));
      const guarded = cover === undefined ? routes : atServicePort(scope, cover, routes);
      const name = `${groups.length === 1 ? vs.key : `${vs.key}/${host}`}:${port}`;
      result.push({ name, domains: group.map(domain), routes: guarded });
    }
  }
  return result;
}

/** Whether a VirtualService's host names a service, or as a wildcard covers one. */
function coversService(host: string, services: ReadonlySet<string>): boolean {
  if (!host.startsWith('*')) return services.has(host);
  return [...services].some((service) => hostMatches(host, service));
}

function hasHttp(service: ServiceView): boolean {
  return service.ports.some(({ protocol }) => protocol === 'HTTP' || protocol === 'HTTP2' || protocol === 'AUTO');
}
