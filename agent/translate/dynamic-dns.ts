/**
 * Resolution DYNAMIC_DNS: names below a wildcard host, resolved when they are asked for: HTTP by its Host, TLS by the name in its handshake.
 * In: the service, the host's own addresses. Out: the cluster that resolves, what its routes and chains need. Never: an address that is this
 * host's own, loopback, link-local or virtual (a name is the client's or a stranger's DNS to choose); another port than the service's.
 */
import { createHash } from 'node:crypto';
import { REFUSED_RANGES } from '../../api/resources/formats.ts';
import { hostMatches } from '../mesh-view/host-names.ts';
import type { ClientView } from '../mesh-view/lookup.ts';
import { isDynamic } from '../mesh-view/reach.ts';
import type { MeshView, ServicePort } from '../mesh-view/view.ts';
import { cidr, duration, extension, type JsonObject } from './json.ts';
import { clusterName } from './names.ts';

/** IPv4 in IPv6's clothes: mapped, and what NAT64 (RFC 6052) or the host itself would take for loopback, nobody or the metadata service. */
const DISGUISED = ['::ffff:0:0/96', '64:ff9b::/104', '64:ff9b::7f00:0/104', '64:ff9b::a9fe:0/112'];

/** Addresses that no name may lead to: those that no endpoint may have (DESIGN 3.2), IPv4 in IPv6's clothes, and the host's own. Sorted. */
export function refusedRanges({ host, vipRanges }: MeshView): readonly string[] {
  return [...new Set([...REFUSED_RANGES, ...DISGUISED, ...vipRanges, ...host.addresses])].sort();
}

/** Names that one proxy keeps at once, and for how long after their last use. */
const MAX_NAMES = 1024;
const NAME_TTL = '300s';

/** The cache of names. Whoever has the same settings shares one: Envoy wants a cache's name to mean the same everywhere, so it has them in it. */
function cache(refused: readonly string[], refreshRate: string): JsonObject {
  const settings = {
    dns_lookup_family: 'ALL',
    dns_refresh_rate: refreshRate,
    host_ttl: NAME_TTL,
    max_hosts: MAX_NAMES,
    resolved_address_filter: { ranges: refused.map(cidr) },
  };
  const digest = createHash('sha256').update(JSON.stringify(settings)).digest('hex').slice(0, 8);
  return { name: `dynamic_dns_${digest}`, ...settings };
}

/** The discovery part of the cluster. TLS without a name to verify is DestinationRule's to allow or not, as for any other cluster. */
export function dynamicDiscovery(refused: readonly string[], refreshRate: string): JsonObject {
  return {
    cluster_type: extension(
      'envoy.clusters.dynamic_forward_proxy',
      'envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig',
      { dns_cache_config: cache(refused, refreshRate), allow_insecure_cluster_options: true },
    ),
  };
}

/** How often names are looked up again, unless they say so themselves. */
export const REFRESH_RATE = '60s';

/** On a chain of bytes: resolves the name in the TLS handshake before the TCP proxy asks the cluster, which could not wait for it. */
export function sniFilter(view: MeshView, port: number): JsonObject {
  const refreshRate = duration(view.mesh.dnsRefreshRate) ?? REFRESH_RATE;
  return extension(
    'envoy.filters.network.sni_dynamic_forward_proxy',
    'envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig',
    { dns_cache_config: cache(refusedRanges(view), refreshRate), port_value: port },
  );
}

/** Port by which a service's servers are reached. */
export function dynamicPort(port: ServicePort): number {
  return port.targetPort ?? port.number;
}

/** On an HTTP chain: the port of names that say none. Without it Envoy takes 80, or 443 where it begins TLS. */
export function dynamicPortFilter(port: number): JsonObject {
  return extension(
    'envoy.filters.network.set_filter_state',
    'envoy.extensions.filters.network.set_filter_state.v3.Config',
    {
      on_new_connection: [
        {
          object_key: 'envoy.upstream.dynamic_port',
          format_string: { text_format_source: { inline_string: String(port) } },
        },
      ],
    },
  );
}

const AUTHORITY = ':authority';
/** Misdirected Request: RFC 9110, 15.5.20. */
const MISDIRECTED = 421;

/**
 * Routes of a virtual host whose names are resolved at request time. A Host header may say a port, and Envoy would go there: only the
 * service's own is let by, and where its servers have another (targetPort), none at all.
 */
export function dynamicRoutes(port: ServicePort, routes: readonly JsonObject[]): JsonObject[] {
  const target = dynamicPort(port);
  if (target !== port.number) return [guard(), ...routes.map((route) => atPort(route, target))];
  return [guard({ name: AUTHORITY, string_match: { suffix: `:${target}` }, invert_match: true }), ...routes];
}

/**
 * The same for one host of a gateway, whose own port says nothing about the servers': a Host header with a port is refused, and the servers'
 * is put after it unless it is the one that a Host without one means.
 */
export function dynamicGatewayRoutes(client: ClientView, host: string, routes: readonly JsonObject[]): JsonObject[] {
  const service = client.services.find((one) => isDynamic(one) && hostMatches(one.host, host));
  if (service === undefined) return [...routes];
  const ports = new Map(service.ports.map((port) => [clusterName(client, service, port.number), dynamicPort(port)]));
  const placed = routes.map((route) => {
    const target = ports.get(String((route.route as JsonObject | undefined)?.cluster));
    return target === undefined || target === 80 ? route : atPort(route, target);
  });
  return [guard(), ...placed];
}

/** Refuses requests whose Host has a port, but for those that `unless` lets by. */
function guard(...unless: readonly JsonObject[]): JsonObject {
  return {
    name: 'other_port',
    match: {
      prefix: '/',
      headers: [{ name: AUTHORITY, string_match: { safe_regex: { regex: '.*:[0-9]*' } } }, ...unless],
    },
    direct_response: {
      status: MISDIRECTED,
      body: { inline_string: 'no service of the mesh has this name and port\n' },
    },
  };
}

/** A request's Host, or the one that the rule gives it, with the servers' port after it; a port that the rule writes stays. */
function atPort(route: JsonObject, port: number): JsonObject {
  const action = route.route as JsonObject | undefined;
  if (action === undefined) return route;
  const written = action.host_rewrite_literal as string | undefined;
  if (written === undefined) return { ...route, route: { ...action, host_rewrite: `%REQ(${AUTHORITY})%:${port}` } };
  const host_rewrite_literal = /:\d+$/.test(written) ? written : `${written}:${port}`;
  return { ...route, route: { ...action, host_rewrite_literal } };
}
