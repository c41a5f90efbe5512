import { cidrsOverlap, parseCidr } from '../../api/cidr.ts';
import { hostMatches } from '../mesh-view/host-names.ts';
import type { ClientView } from '../mesh-view/lookup.ts';
import { isAnywhere, isDynamic } from '../mesh-view/reach.ts';
import type { Destination } from '../mesh-view/specs/common.ts';
import type { L4Match, L4Route } from '../mesh-view/specs/virtual-service.ts';
import type { MeshView, ServicePort, ServiceView, VirtualServiceView, WorkloadView } from '../mesh-view/view.ts';
import { MESH_GATEWAY } from '../mesh-view/virtual-services.ts';
import { dynamicPort } from './dynamic-dns.ts';
import { cidr, type JsonObject } from './json.ts';
import { CLUSTER, clusterName, tcpRouteName } from './names.ts';
import { admitsCall } from './route.ts';
import { type RouteContext, resolveDestination } from './route-action.ts';

/** One chain of a service port that carries bytes, and where they go. */
export interface TcpRoute {
  readonly name: string;
  readonly match: JsonObject;
  /** `cluster` or `weighted_clusters` of a TcpProxy, and what the first destination's DestinationRule adds to it (Istio: of several, the first). */
  readonly target: JsonObject;
  readonly hash: readonly JsonObject[];
  readonly origins: readonly string[];
  /** Where the name in the TLS handshake is resolved: the port that it is reached by. */
  readonly dynamicPort?: number;
  /** The service is no part of the mesh: by its config alone, so that no rule changes a chain. */
  readonly outside?: true;
}

interface Context {
  readonly view: MeshView;
  readonly client: ClientView;
  readonly workload: WorkloadView;
}

/**
 * Chains of one service port: its addresses (any, where it lives wherever clients go), by SNI where VirtualServices' tls rules or a name
 * without an address ask for it; then, unless the port is declared TLS, the tcp rules: those for some subnets, and the first of them for
 * any. No rule: the service itself. `addresses` in place of the service's own. Rules of all VirtualServices of the host count, the oldest's first.
 */
export function tcpRoutes(
  context: Context,
  service: ServiceView,
  port: ServicePort,
  addresses = service.addresses,
): readonly TcpRoute[] {
  const anywhere = isAnywhere(service);
  if (addresses.length === 0 && !anywhere) return [];
  if (isDynamic(service) && port.protocol !== 'TLS') return [];
  const list = virtualServicesOf(context.client, service);
  const base: JsonObject = {
    destination_port: port.number,
    ...(anywhere ? {} : { prefix_ranges: addresses.map(cidr) }),
  };
  const builder: Builder = { ...context, service, port, list, base };
  return [
    ...(port.protocol === 'TCP' ? [] : sniRoutes(builder)),
    ...plainRoutes(
      builder,
      (anywhere || isDynamic(service)) && port.protocol === 'TLS' ? { server_names: [service.host] } : {},
    ),
  ];
}

/** Those of the service's host, and for a wildcard those of hosts that it covers and no other service defines: their SNI tells them apart. */
function virtualServicesOf(client: ClientView, service: ServiceView): readonly VirtualServiceView[] {
  const own = client.virtualServicesFor(service.host);
  if (!service.host.startsWith('*')) return own;
  const within = (host: string) => hostMatches(service.host, host) && client.service(host) === service;
  return [...own, ...client.virtualServices.filter((vs) => !own.includes(vs) && vs.hosts.some(within))];
}

interface Builder extends Context {
  readonly service: ServiceView;
  readonly port: ServicePort;
  readonly list: readonly VirtualServiceView[];
  readonly base: JsonObject;
}

/** The rules of one field with the VirtualService of each and a name that is its own in the host's list. */
function rulesOf({ list }: Builder, field: 'tls' | 'tcp'): { vs: VirtualServiceView; rule: L4Route; name: string }[] {
  return list
    .flatMap((vs) => (vs.spec[field] ?? []).map((rule) => ({ vs, rule })))
    .map((entry, index) => ({ ...entry, name: `${field}${index}` }));
}

function sniRoutes(builder: Builder): TcpRoute[] {
  return rulesOf(builder, 'tls').flatMap(({ vs, rule, name }) =>
    (rule.match ?? []).flatMap((match, position) => {
      const where = ranges(builder, match, []);
      if (where === undefined || !admits(builder, vs, match)) return [];
      const names = (match.sniHosts ?? []).map((host) => host.toLowerCase());
      const chain = { ...builder.base, ...where, server_names: names };
      return [routeOf(builder, vs, rule, `${name}.${position}`, chain)];
    }),
  );
}

function plainRoutes(builder: Builder, extra: JsonObject): TcpRoute[] {
  const routes: TcpRoute[] = [];
  const claimed: string[] = [];
  // Istio: tcp rules are for ports that are neither HTTP nor TLS.
  for (const { vs, rule, name } of builder.port.protocol === 'TLS' ? [] : rulesOf(builder, 'tcp')) {
    const matches = rule.match === undefined || rule.match.length === 0 ? [{}] : rule.match;
    for (const [position, match] of matches.entries()) {
      const where = admits(builder, vs, match) ? ranges(builder, match, claimed) : undefined;
      if (where === undefined) continue;
      const whole = (match.destinationSubnets ?? []).length === 0;
      const at = whole ? '' : `${name}.${position}`;
      routes.push(routeOf(builder, vs, rule, at, { ...builder.base, ...where, ...extra }));
      if (whole) return routes;
    }
  }
  const { client, service, port, base } = builder;
  const { hash, tcp } = resolve(builder, service.namespace, { host: service.host, port: { number: port.number } });
  return [
    ...routes,
    {
      name: nameOf(builder, ''),
      match: { ...base, ...extra },
      target: { cluster: clusterName(client, service, port.number), ...tcp },
      hash: hash.filter(sourceIpOnly).map(tcpHash),
      origins: service.origins,
      ...(isDynamic(service) ? { dynamicPort: dynamicPort(port) } : {}),
      ...outsideOf(builder),
    },
  ];
}

function admits({ workload, port }: Builder, vs: VirtualServiceView, match: L4Match): boolean {
  return admitsCall(match, { workload, port: port.number, gateway: MESH_GATEWAY, namespace: vs.namespace });
}

/**
 * The part of the service's addresses that a match is for; undefined where there is none, or where earlier matches have it all already
 * (`claimed`, which grows): Envoy prefers the longest prefix, rules the first that matches. Never more than the service's own addresses: a
 * rule is for its hosts, and must not catch what is sent to others.
 */
function ranges({ service }: Builder, match: L4Match, claimed: string[]): JsonObject | undefined {
  const subnets = match.destinationSubnets ?? [];
  if (subnets.length === 0) return {};
  const own = isAnywhere(service) ? subnets : subnets.flatMap((subnet) => service.addresses.flatMap(common(subnet)));
  const free = [...new Set(own)].filter((range) => !claimed.some((earlier) => contains(earlier, range)));
  claimed.push(...free);
  return free.length === 0 ? undefined : { prefix_ranges: free.map(cidr) };
}

/** What two CIDRs have in common: the narrower of them, or nothing. */
function common(subnet: string): (address: string) => string[] {
  return (address) => (contains(subnet, address) ? [address] : contains(address, subnet) ? [subnet] : []);
}

function contains(outer: string, inner: string): boolean {
  const [wide, narrow] = [parseCidr(outer), parseCidr(inner)];
  return wide !== undefined && narrow !== undefined && wide.prefix <= narrow.prefix && cidrsOverlap(wide, narrow);
}

function nameOf({ workload, port, service, client }: Builder, match: string): string {
  return tcpRouteName(workload, port.number, `${service.host}${client.variant(service)}`, match);
}

function resolve({ client, workload, port }: Builder, namespace: string, destination: Destination) {
  return resolveDestination({ client, workload, port: port.number, namespace, gateway: MESH_GATEWAY }, destination);
}

function routeOf(builder: Builder, vs: VirtualServiceView, rule: L4Route, name: string, match: JsonObject): TcpRoute {
  const { client, workload, port } = builder;
  // The name that is resolved is the client's to say: only one that the chain's server names let by.
  const called = match.server_names as readonly string[] | undefined;
  const context = { client, workload, port: port.number, namespace: vs.namespace, gateway: MESH_GATEWAY, called };
  return {
    name: nameOf(builder, name),
    match,
    ...l4Target(context, rule),
    origins: [...builder.service.origins, ...vs.origins],
    ...outsideOf(builder),
  };
}

function outsideOf({ service, port }: Builder): Pick<TcpRoute, 'outside'> {
  return service.external && port.transport === 'plain' ? { outside: true } : {};
}

/** Where a tcp or tls rule leads: `cluster` or `weighted_clusters` of a TcpProxy, and its hash policy. */
export function l4Target(context: RouteContext, rule: L4Route): Pick<TcpRoute, 'target' | 'hash' | 'dynamicPort'> {
  const targets = (rule.route ?? []).map((entry) => ({
    weight: entry.weight ?? 0,
    ...resolveDestination(context, entry.destination),
  }));
  const [first, ...others] = targets;
  const port = targets.find((entry) => entry.dynamicPort !== undefined)?.dynamicPort;
  const weighted = targets.filter((target) => target.weight > 0);
  const target: JsonObject =
    first === undefined || (others.length > 0 && weighted.length === 0)
      ? { cluster: CLUSTER.blackHole }
      : others.length === 0
        ? { cluster: first.cluster, ...first.tcp }
        : {
            ...first.tcp,
            weighted_clusters: { clusters: weighted.map(({ cluster, weight }) => ({ name: cluster, weight })) },
          };
  return {
    target,
    ...(port === undefined ? {} : { dynamicPort: port }),
    hash: targets
      .flatMap((entry) => entry.hash)
      .filter(sourceIpOnly)
      .slice(0, 1)
      .map(tcpHash),
  };
}

/** Of consistentHash, bytes know the source address only. */
function sourceIpOnly(policy: JsonObject): boolean {
  return 'connection_properties' in policy;
}

function tcpHash(): JsonObject {
  return { source_ip: {} };
}
