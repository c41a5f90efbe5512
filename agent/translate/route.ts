import type { ObjectKey } from '../../api/resources/object.ts';
import { CLUSTER_DOMAIN } from '../mesh-view/host-names.ts';
import { admitsSource, type ClientView } from '../mesh-view/lookup.ts';
import type { HttpMatch, HttpRoute } from '../mesh-view/specs/virtual-service.ts';
import type { MeshView, ServiceView, VirtualServiceView, WorkloadView } from '../mesh-view/view.ts';
import { type JsonObject, resource } from './json.ts';
import { CLUSTER, routeName } from './names.ts';
import type { XdsResource } from './resource-set.ts';
import { defaultAction, type RouteContext, routeAction } from './route-action.ts';
import { routeMatch } from './route-match.ts';

/** The services that one route configuration stands for. */
export interface RouteScope {
  readonly view: MeshView;
  readonly client: ClientView;
  readonly workload: WorkloadView;
  readonly port: number;
  readonly scope: 'vip' | 'any';
  readonly services: readonly ServiceView[];
}

/** RouteConfiguration of one workload and port: a virtual host a service, by all the names and addresses that mean it. */
export function routeConfiguration(scope: RouteScope): XdsResource {
  const { client, workload, port, services } = scope;
  const taken = new Set<string>();
  const origins: string[] = [];
  const hosts = services.map((service): JsonObject => {
    const vs = client.virtualService(service.host);
    origins.push(...service.origins, ...(vs === undefined ? [] : [vs.key]));
    const rule = client.destinationRule(service);
    origins.push(...(rule?.origins ?? []));
    return {
      name: `${service.host}:${port}`,
      domains: domains(service, client.namespace),
      routes: serviceRoutes({ client, workload, port, namespace: '' }, service, vs),
    };
  });
  const unregistered = scope.scope === 'vip' && port === 80 ? unregisteredHosts(scope, origins) : [];
  const virtualHosts = [...hosts, ...unregistered]
    .map((host) => ({ ...host, domains: claim(host.domains as readonly string[], taken) }))
    .filter((host) => host.domains.length > 0);
  const body: JsonObject = {
    virtual_hosts: [...virtualHosts, fallback(scope)],
    ignore_port_in_host_matching: true,
    validate_clusters: false,
    max_direct_response_body_size_bytes: 1_048_576,
  };
  return resource('route', routeName(workload, port, scope.scope), body, origins);
}

/** Domains not taken by an earlier virtual host: Envoy refuses a second. */
function claim(names: readonly string[], taken: Set<string>): readonly string[] {
  const free = [...new Set(names)].filter((name) => !taken.has(name));
  for (const name of free) taken.add(name);
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
  return [...names, ...addresses.map((address) => (address.includes(':') ? `[${address}]` : address))];
}

function serviceRoutes(context: RouteContext, service: ServiceView, vs: VirtualServiceView | undefined): JsonObject[] {
  if (vs?.spec.http === undefined || vs.spec.http.length === 0) {
    return [{ name: 'default', match: { prefix: '/' }, ...defaultAction(context, service) }];
  }
  return ruleRoutes({ ...context, namespace: vs.namespace }, vs.key, vs.spec.http);
}

/** Routes of a VirtualService's http rules for this workload and port, in order; after one that takes everything, none. */
function ruleRoutes(context: RouteContext, origin: ObjectKey, rules: readonly HttpRoute[]): JsonObject[] {
  const routes: JsonObject[] = [];
  for (const [index, rule] of rules.entries()) {
    for (const match of admitted(context, rule.match)) {
      routes.push({
        ...routeNamed(rule, match),
        match: routeMatch(match),
        metadata: writtenAt(
          origin,
          `spec.http[${index}]`,
          match === undefined ? -1 : (rule.match ?? []).indexOf(match),
        ),
        ...routeAction(context, rule),
      });
      if (match === undefined || isCatchAll(match)) return routes;
    }
  }
  return routes;
}

/** Which object and field a route was written in: `meshctl why` and `proxy-config routes` read it out of Envoy's own config. */
function writtenAt(origin: ObjectKey, rule: string, match: number): JsonObject {
  const path = match < 0 ? rule : `${rule}.match[${match}]`;
  return { filter_metadata: { hostmesh: { origin, path } } };
}

/** Istio: the rule's name, and its match's after a dot; nothing without a rule's name. */
function routeNamed(rule: HttpRoute, match: HttpMatch | undefined): JsonObject {
  if (rule.name === undefined || rule.name === '') return {};
  return { name: match?.name === undefined || match.name === '' ? rule.name : `${rule.name}.${match.name}` };
}

/** Matches that this client, at this port, can meet; one `undefined` for a rule without matches. */
function admitted(
  context: RouteContext,
  matches: readonly HttpMatch[] | undefined,
): readonly (HttpMatch | undefined)[] {
  if (matches === undefined || matches.length === 0) return [undefined];
  return matches.filter((match) => admitsCall(match, context));
}

/** The parts of a match that do not depend on what is sent: gateways, port, source. Shared by http, tcp and tls rules. */
export function admitsCall(
  match: {
    readonly gateways?: readonly string[];
    readonly port?: number;
    readonly sourceLabels?: Readonly<Record<string, string>>;
    readonly sourceNamespace?: string;
  },
  context: { readonly workload: WorkloadView; readonly port: number },
): boolean {
  const { gateways, port } = match;
  if (gateways !== undefined && gateways.length > 0 && !gateways.includes('mesh')) return false;
  if (port !== undefined && port !== 0 && port !== context.port) return false;
  return admitsSource(match, context.workload);
}

function isCatchAll(match: HttpMatch): boolean {
  const { uri, scheme, method, authority, headers, withoutHeaders, queryParams } = match;
  const free = (record: object | undefined) => record === undefined || Object.keys(record).length === 0;
  return (
    (uri === undefined || uri.prefix === '/') &&
    [scheme, method, authority].every((part) => part === undefined) &&
    [headers, withoutHeaders, queryParams].every(free)
  );
}

/** Hosts of VirtualServices that no service defines: Istio answers for them at port 80. */
function unregisteredHosts({ client, workload, port }: RouteScope, origins: string[]): JsonObject[] {
  const result: JsonObject[] = [];
  for (const vs of client.virtualServices) {
    const hosts = vs.hosts.filter((host) => host !== '*' && client.service(host) === undefined);
    if (hosts.length === 0 || vs.spec.http === undefined) continue;
    origins.push(vs.key);
    for (const host of hosts) {
      const routes = ruleRoutes({ client, workload, port, namespace: vs.namespace }, vs.key, vs.spec.http);
      result.push({ name: `${host}:${port}`, domains: [host], routes });
    }
  }
  return result;
}

/** Nobody of that name. At a virtual address nothing else can answer; elsewhere the client goes where it was going, if it may. */
function fallback({ view, scope }: RouteScope): JsonObject {
  const answer: JsonObject =
    scope === 'any' && view.outboundPolicy === 'ALLOW_ANY'
      ? { route: { cluster: CLUSTER.passthrough, timeout: '0s' } }
      : { direct_response: { status: 502, body: { inline_string: 'no service of the mesh has this name\n' } } };
  return { name: 'unknown', domains: ['*'], routes: [{ name: 'unknown', match: { prefix: '/' }, ...answer }] };
}
