import type { ClientView } from '../mesh-view/lookup.ts';
import type { MeshView, ServicePort, ServiceView, WorkloadView } from '../mesh-view/view.ts';
import { identityFilter, outboundHttp, tcpProxy, tcpProxyFilter } from './filters.ts';
import { cidr, type JsonObject, resource } from './json.ts';
import { type Chain, listenerBody } from './listener.ts';
import { CLUSTER, outboundListenerName, routeName, tcpRouteName } from './names.ts';
import type { XdsResource } from './resource-set.ts';
import { routeConfiguration } from './route.ts';
import { type TcpRoute, tcpRoutes } from './tcp-route.ts';

const DETECTED_HTTP = ['http/1.0', 'http/1.1', 'h2c'];

/** What one workload's outbound side is made of. */
export interface Outbound {
  readonly listener: XdsResource;
  readonly routes: readonly XdsResource[];
  readonly extensions: readonly XdsResource[];
}

interface Context {
  readonly view: MeshView;
  readonly client: ClientView;
  readonly workload: WorkloadView;
}

/**
 * A workload's outbound listener, on loopback only: chains by the destination that the connection had before the redirection (never by
 * Host alone), so that its set of chains changes with services, and not with routes, endpoints or policies.
 */
export function outbound(view: MeshView, client: ClientView, workload: WorkloadView): Outbound {
  const context: Context = { view, client, workload };
  const served = client.services.flatMap((service) => service.ports.map((port) => ({ service, port })));
  const tcp = served.flatMap(({ service, port }) => (hasBytes(port) ? tcpRoutes(context, service, port) : []));
  const defaultTcp = tcpRouteName(workload, 0, 'unknown');
  const ownTcp = tcpRouteName(workload, workload.outboundPort, 'own');
  const numbers = [...new Set(served.filter(({ port }) => isHttp(port)).map(({ port }) => port.number))];
  const scopes = numbers.flatMap((number) => httpScopes(context, number));
  const chains = [
    ownPorts(context, ownTcp),
    ...scopes
      .filter((scope) => scope.services.some(declaredHttp(scope.port)))
      .map((scope) => httpChain(context, scope)),
    ...served.flatMap(({ service, port }) => serviceHttpChains(context, service, port)),
    ...tcp.flatMap((route) => tcpChain(context, route)),
  ];
  const body = listenerBody({
    addresses: view.host.ipv6 ? ['127.0.0.1', '::1'] : ['127.0.0.1'],
    port: workload.outboundPort,
    direction: 'OUTBOUND',
    chains,
    defaultChain: { name: 'unknown', match: {}, filters: bytesFilters(workload, defaultTcp) },
  });
  const unknown = view.outboundPolicy === 'ALLOW_ANY' ? CLUSTER.passthrough : CLUSTER.blackHole;
  return {
    listener: resource(
      'listener',
      outboundListenerName(workload),
      body,
      client.services.flatMap((s) => s.origins),
    ),
    routes: scopes.map((scope) => routeConfiguration({ ...context, ...scope })),
    extensions: [
      tcpExtension(workload, defaultTcp, { cluster: unknown }, [], []),
      tcpExtension(workload, ownTcp, { cluster: CLUSTER.blackHole }, [], []),
      ...tcp.map((route) => tcpExtension(workload, route.name, route.target, route.hash, route.origins)),
    ],
  };
}

interface HttpScope {
  readonly port: number;
  readonly scope: 'vip' | 'any';
  readonly services: readonly ServiceView[];
}

/** Services with an HTTP port of that number: those with addresses, and those that live wherever the client goes. */
function httpScopes({ client }: Context, number: number): HttpScope[] {
  const services = client.services.filter((s) => s.ports.some((port) => port.number === number && isHttp(port)));
  const scopes: HttpScope[] = [
    { port: number, scope: 'vip', services: services.filter((service) => service.addresses.length > 0) },
    { port: number, scope: 'any', services: services.filter(anywhere) },
  ];
  return scopes.filter((scope) => scope.services.length > 0);
}

/** A service without an address of its own, whose clients go to addresses that they know themselves. */
export function anywhere(service: ServiceView): boolean {
  return service.resolution === 'NONE' && service.addresses.length === 0;
}

function declaredHttp(number: number): (service: ServiceView) => boolean {
  return (service) => service.ports.some((port) => port.number === number && isDeclaredHttp(port));
}

function isDeclaredHttp(port: ServicePort): boolean {
  return port.protocol === 'HTTP' || port.protocol === 'HTTP2';
}

function isHttp(port: ServicePort): boolean {
  return isDeclaredHttp(port) || port.protocol === 'AUTO';
}

function hasBytes(port: ServicePort): boolean {
  return !isDeclaredHttp(port);
}

/** A connection to the listener's own port would come back here for ever. */
function ownPorts({ workload }: Context, name: string): Chain {
  return {
    name: 'own_port',
    match: { destination_port: workload.outboundPort },
    filters: bytesFilters(workload, name),
  };
}

function httpFilters(workload: WorkloadView, route: string): readonly JsonObject[] {
  return [identityFilter(workload, false), outboundHttp(route, workload)];
}

function bytesFilters(workload: WorkloadView, name: string): readonly JsonObject[] {
  return [identityFilter(workload, true), tcpProxyFilter(name)];
}

/** The chain of all declared HTTP services of a port: any virtual address, so that a new service needs no new chain. */
function httpChain({ view, workload }: Context, { port, scope }: HttpScope): Chain {
  return {
    name: `${port}_http_${scope}`,
    match: { destination_port: port, ...(scope === 'vip' ? { prefix_ranges: view.vipRanges.map(cidr) } : {}) },
    filters: httpFilters(workload, routeName(workload, port, scope)),
  };
}

/** Chains of one service's own: where its protocol is to be found out, or its addresses are written and not virtual. */
function serviceHttpChains({ view, workload }: Context, service: ServiceView, port: ServicePort): readonly Chain[] {
  if (!isHttp(port)) return [];
  const scope = anywhere(service) ? 'any' : 'vip';
  const filters = httpFilters(workload, routeName(workload, port.number, scope));
  const name = `${port.number}_http_${service.host}`;
  const own = service.addresses.length === 0 ? {} : { prefix_ranges: service.addresses.map(cidr) };
  if (port.protocol === 'AUTO') {
    if (service.addresses.length === 0 && scope === 'vip') return [];
    return [{ name, match: { destination_port: port.number, ...own, application_protocols: DETECTED_HTTP }, filters }];
  }
  const written = service.addresses.filter((address) => !isVirtual(view, address));
  if (written.length === 0) return [];
  return [{ name, match: { destination_port: port.number, prefix_ranges: written.map(cidr) }, filters }];
}

/** True for an address in one of the VIP ranges (these are /16 and /48: whole groups of the text decide). */
function isVirtual({ vipRanges }: MeshView, address: string): boolean {
  if (address.includes('/')) return false;
  return vipRanges.some((range) => {
    const [network = ''] = range.split('/');
    return range.includes(':')
      ? address.toLowerCase().startsWith(network.replace(/:+$/, ':'))
      : address.startsWith(`${network.split('.').slice(0, 2).join('.')}.`);
  });
}

function tcpChain({ workload }: Context, route: TcpRoute): Chain {
  return { name: route.name, match: route.match, filters: bytesFilters(workload, route.name) };
}

function tcpExtension(
  workload: WorkloadView,
  name: string,
  target: JsonObject,
  hash: readonly JsonObject[],
  origins: readonly string[],
): XdsResource {
  const typed = tcpProxy('outbound_tcp', target, { side: 'source', workload }, hash);
  return resource('extension', name, { typed_config: typed }, origins);
}
