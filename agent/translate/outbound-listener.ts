import type { ClientView } from '../mesh-view/lookup.ts';
import { isAnywhere, isDynamic } from '../mesh-view/reach.ts';
import type { MeshView, ServicePort, ServiceView, WorkloadView } from '../mesh-view/view.ts';
import { dynamicPortFilter, sniFilter } from './dynamic-dns.ts';
import { type BoundEgress, boundScopes, capturedScopes, type EgressScope, type Served } from './egress.ts';
import { identityFilter, outboundHttp, tcpProxy, tcpProxyFilter } from './filters.ts';
import { headlessHttp, headlessTcp } from './headless.ts';
import { cidr, type JsonObject, resource } from './json.ts';
import { type Chain, listenerBody } from './listener.ts';
import { type Memory, serviceKey } from './memory.ts';
import { CLUSTER, outboundListenerName, routeName, tcpRouteName } from './names.ts';
import type { XdsResource } from './resource-set.ts';
import { type RouteScope, routeConfiguration } from './route.ts';
import { type TcpRoute, tcpRoutes } from './tcp-route.ts';
import { unknownCluster } from './unknown-host.ts';
import { isVirtual } from './virtual.ts';

const DETECTED_HTTP = ['http/1.0', 'http/1.1', 'h2c'];

/** What one workload's outbound side is made of. */
export interface Outbound {
  /** The listener that its captured connections come to, and the Sidecar's own sockets. */
  readonly listeners: readonly XdsResource[];
  /** Routes of its own. */
  readonly routes: readonly XdsResource[];
  /** What it needs of the tables that it shares with others of its namespace: one for each. */
  readonly scopes: readonly RouteScope[];
  readonly extensions: readonly XdsResource[];
}

interface Context {
  readonly view: MeshView;
  readonly client: ClientView;
  readonly id: string;
  readonly workload: WorkloadView;
  readonly memory: Memory;
}

/** Chains of a listener with the routes and TCP proxies that they name. */
interface Part {
  readonly chains: readonly Chain[];
  readonly routes: readonly XdsResource[];
  readonly scopes: readonly RouteScope[];
  readonly tcp: readonly TcpRoute[];
}

/**
 * A workload's outbound listener, on loopback only: chains by the destination that the connection had before the redirection (never by
 * Host alone), so that its set of chains changes with services, and not with routes, endpoints or policies. Its Sidecar says which services
 * there are at which port, and adds sockets of its own. `client.id`: what tells it from others of the host.
 */
export function outbound(
  view: MeshView,
  { client, id }: { readonly client: ClientView; readonly id: string },
  workload: WorkloadView,
  memory: Memory,
): Outbound {
  const context: Context = { view, client, id, workload, memory };
  const bound = boundScopes(client, workload).map((scope) => ({ scope, part: boundPart(context, scope) }));
  const parts = [
    ...bound.filter(({ scope }) => scope.listener.captured).map(({ part }) => part),
    ...capturedScopes(client, workload).map((scope) => capturedPart({ ...context, client: scope.client }, scope)),
  ];
  const own = bound.filter(({ scope }) => !scope.listener.captured);
  const [unknown, ownPort, nobody] = FIXED.map((name) => tcpRouteName(workload, 0, name)) as [string, string, string];
  const chains = parts.flatMap((part) => part.chains);
  const body = listenerBody({
    addresses: view.host.ipv6 ? ['127.0.0.1', '::1'] : ['127.0.0.1'],
    port: workload.outboundPort,
    direction: 'OUTBOUND',
    detectionTimeout: view.mesh.protocolDetectionTimeout,
    chains: [ownPorts(context, ownPort), ...chains, ...virtualChains(context, chains, nobody)],
    defaultChain: { name: 'unknown', match: {}, filters: bytesFilters(workload, unknown) },
  });
  const everything = [...parts, ...own.map(({ part }) => part)];
  const origins = [...client.services.flatMap((s) => s.origins), ...view.mesh.origins];
  return {
    listeners: [
      resource('listener', outboundListenerName(workload), body, origins),
      ...own.map(({ scope, part }) => ownListener(context, scope, part)),
    ],
    routes: everything.flatMap((part) => part.routes),
    scopes: everything.flatMap((part) => part.scopes),
    extensions: [
      tcpExtension(context, unknown, { cluster: unknownCluster(context) }, [], workload.origins),
      tcpExtension(context, ownPort, { cluster: CLUSTER.blackHole }, [], []),
      tcpExtension(context, nobody, { cluster: CLUSTER.blackHole }, [], []),
      ...everything.flatMap(({ tcp }) =>
        tcp.map((route) => tcpExtension(context, route.name, route.target, route.hash, route.origins)),
      ),
    ],
  };
}

/** TCP proxies that every workload has: for connections that no service is meant by, its own port, and virtual addresses of nobody. */
const FIXED = ['unknown', 'own', 'virtual'] as const;

function capturedPart(context: Context, { served }: EgressScope): Part {
  const tcp = served.flatMap(({ service, port }) => {
    if (!hasBytes(port)) return [];
    return service.headless === true ? headlessTcp(context, service, port) : tcpRoutes(context, service, port);
  });
  const headless = served.map(({ service, port }) => headlessPart(context, service, port));
  const numbers = [...new Set(served.filter(({ port }) => isHttp(port)).map(({ port }) => port.number))];
  const scopes = numbers.flatMap((number) => httpScopes(served, number));
  return {
    chains: [
      ...scopes.filter((scope) => scope.declared).map((scope) => httpChain(context, scope)),
      ...served.flatMap(({ service, port }) => {
        const { view, client, workload, memory } = context;
        const what = `chains ${workload.outboundPort} ${port.number}`;
        const inputs = [service, port, workload, view.vipRanges, view.mesh];
        return memory.remember(what, serviceKey(service), client, inputs, (noted) =>
          serviceHttpChains({ ...context, client: noted }, service, port),
        );
      }),
      ...headless.flatMap(({ chains }) => chains),
      ...tcp.map((route) => tcpChain(context, route)),
    ],
    routes: headless.flatMap(({ routes }) => routes),
    scopes: scopes.map(({ port, scope, services }) => ({ ...context, port, scope, services })),
    tcp,
  };
}

/** HTTP to the addresses of a headless service's endpoints. */
function headlessPart(context: Context, service: ServiceView, port: ServicePort): Pick<Part, 'chains' | 'routes'> {
  const made = service.headless === true && isHttp(port) ? headlessHttp(context, service, port) : undefined;
  if (made === undefined) return { chains: [], routes: [] };
  const detected = port.protocol === 'AUTO' ? { application_protocols: DETECTED_HTTP } : {};
  const filters = httpFilters(context, made.route.name, port.number);
  return {
    chains: made.matches.map(({ name, match }) => ({ name, match: { ...match, ...detected }, filters })),
    routes: [made.route],
  };
}

/**
 * Chains of a Sidecar's listener that is for one address: HTTP to its services by Host; bytes by server name where the services speak TLS, the
 * rest to the first service (Istio: of several that want one socket the first has it).
 */
function boundPart(outer: Context, { client, served, listener }: BoundEgress): Part {
  const context: Context = { ...outer, client };
  const { number, protocol } = listener.port;
  const match: JsonObject = listener.captured ? { destination_port: number, prefix_ranges: [cidr(listener.bind)] } : {};
  const kind = protocol ?? served[0]?.port.protocol ?? 'AUTO';
  const http = kind === 'HTTP' || kind === 'HTTP2' || kind === 'AUTO';
  const name = `${number}_${listener.bind}`;
  const target: RouteScope = {
    ...context,
    port: number,
    scope: 'own',
    bind: listener.bind,
    services: served.map(({ service }) => service),
  };
  const tcp = http && kind !== 'AUTO' ? [] : boundBytes(context, served, match, listener.bind);
  return {
    chains: [
      ...(http
        ? [
            {
              name: `${name}_http`,
              match: kind === 'AUTO' ? { ...match, application_protocols: DETECTED_HTTP } : match,
              filters: httpFilters(context, routeName(context.workload, number, 'own', listener.bind), number),
            },
          ]
        : []),
      ...tcp.map((route) => tcpChain(context, route)),
    ],
    routes: http ? [routeConfiguration([target])] : [],
    scopes: [],
    tcp,
  };
}

function boundBytes(context: Context, served: readonly Served[], match: JsonObject, bind: string): readonly TcpRoute[] {
  const all = served.flatMap(({ service, port }) => tcpRoutes(context, service, port));
  const bySni = all.filter((route) => route.match.server_names !== undefined);
  const plain = all.filter((route) => route.match.server_names === undefined).slice(0, 1);
  return [...bySni, ...plain].map((route) => ({
    ...route,
    name: `${route.name}_.${bind}`,
    match: { ...match, ...(route.match.server_names === undefined ? {} : { server_names: route.match.server_names }) },
  }));
}

/** A socket of the Sidecar's own, to which the application speaks by itself (captureMode NONE). */
function ownListener({ view, workload }: Context, { listener }: BoundEgress, { chains }: Part): XdsResource {
  const { bind, port } = listener;
  const body = listenerBody({
    addresses: [bind],
    port: port.number,
    direction: 'OUTBOUND',
    captured: false,
    detectionTimeout: view.mesh.protocolDetectionTimeout,
    chains,
  });
  return resource('listener', `${outboundListenerName(workload)}_${bind}_${port.number}`, body, workload.origins);
}

interface HttpScope {
  readonly port: number;
  readonly scope: 'vip' | 'any';
  readonly services: readonly ServiceView[];
  /** Some service of it says that it speaks HTTP; for the others it is found out, by chains of their own. */
  readonly declared: boolean;
}

/** Services with an HTTP port of that number: those with addresses, and those that live wherever the client goes. */
function httpScopes(served: readonly Served[], number: number): HttpScope[] {
  const here = served.filter(({ port }) => port.number === number && isHttp(port));
  const scope = (name: HttpScope['scope'], of: readonly Served[]): HttpScope => ({
    port: number,
    scope: name,
    services: of.map(({ service }) => service),
    declared: of.some(({ port }) => isDeclaredHttp(port)),
  });
  const scopes = [
    scope(
      'vip',
      here.filter(({ service }) => service.addresses.length > 0),
    ),
    scope(
      'any',
      here.filter(({ service }) => isAnywhere(service)),
    ),
  ];
  return scopes.filter(({ services }) => services.length > 0);
}

/**
 * Virtual addresses at which nobody serves the port: closed at once, where going there would hang. Envoy looks at the port first and does not
 * come back: each port that has chains needs one of its own.
 */
function virtualChains({ view, workload }: Context, chains: readonly Chain[], name: string): readonly Chain[] {
  const ports = new Set(
    chains.flatMap(({ match }) => (match.destination_port === undefined ? [] : [match.destination_port])),
  );
  const match: JsonObject = { prefix_ranges: view.vipRanges.map(cidr) };
  const filters = bytesFilters(workload, name);
  return [
    { name: 'virtual', match, filters },
    ...[...ports].map((port) => ({ name: `${port}_virtual`, match: { destination_port: port, ...match }, filters })),
  ];
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

function httpFilters({ view, client, workload }: Context, route: string, port: number): readonly JsonObject[] {
  const special = specialPorts(client);
  const named = special.dynamic.has(port) ? [dynamicPortFilter(port)] : [];
  const http = outboundHttp(route, workload, view.mesh, special.grpcWeb.has(port));
  return [identityFilter(workload, false), ...named, http];
}

interface SpecialPorts {
  readonly dynamic: ReadonlySet<number>;
  readonly grpcWeb: ReadonlySet<number>;
}

const SPECIAL = new WeakMap<ClientView, SpecialPorts>();

/** Port numbers at which some service is resolved at request time or takes gRPC-Web: found once a client, not once a chain. */
function specialPorts(client: ClientView): SpecialPorts {
  const known = SPECIAL.get(client);
  if (known !== undefined) return known;
  const numbers = (services: readonly ServiceView[], of: (port: ServicePort) => boolean = () => true) =>
    new Set(services.flatMap(({ ports }) => ports.filter(of).map(({ number }) => number)));
  const made = {
    dynamic: numbers(client.services.filter(isDynamic)),
    grpcWeb: numbers(client.services, (port) => port.grpcWeb === true),
  };
  SPECIAL.set(client, made);
  return made;
}

function bytesFilters(
  workload: WorkloadView,
  name: string,
  before: readonly JsonObject[] = [],
  bytes: true | 'outside' = true,
): readonly JsonObject[] {
  return [identityFilter(workload, bytes), ...before, tcpProxyFilter(name)];
}

/** The chain of all declared HTTP services of a port: any virtual address, so that a new service needs no new chain. */
function httpChain(context: Context, { port, scope }: HttpScope): Chain {
  const { view, workload } = context;
  return {
    name: `${port}_http_${scope}`,
    match: { destination_port: port, ...(scope === 'vip' ? { prefix_ranges: view.vipRanges.map(cidr) } : {}) },
    filters: httpFilters(context, routeName(workload, port, scope), port),
  };
}

/** Chains of one service's own: where its protocol is to be found out, or its addresses are written and not virtual. */
function serviceHttpChains(context: Context, service: ServiceView, port: ServicePort): readonly Chain[] {
  const { view, workload } = context;
  if (!isHttp(port)) return [];
  const scope = isAnywhere(service) ? 'any' : 'vip';
  const chain = (match: JsonObject): Chain => ({
    name: `${port.number}_http_${service.host}`,
    match: { destination_port: port.number, ...match },
    filters: httpFilters(context, routeName(workload, port.number, scope), port.number),
  });
  if (port.protocol === 'AUTO') {
    if (service.addresses.length === 0 && scope === 'vip') return [];
    const own = service.addresses.length === 0 ? {} : { prefix_ranges: service.addresses.map(cidr) };
    return [chain({ ...own, application_protocols: DETECTED_HTTP })];
  }
  const written = service.addresses.filter((address) => !isVirtual(address, view.vipRanges));
  return written.length === 0 ? [] : [chain({ prefix_ranges: written.map(cidr) })];
}

function tcpChain({ view, workload }: Context, route: TcpRoute): Chain {
  const resolving = route.dynamicPort === undefined ? [] : [sniFilter(view, route.dynamicPort)];
  const bytes = route.outside === true ? 'outside' : true;
  return { name: route.name, match: route.match, filters: bytesFilters(workload, route.name, resolving, bytes) };
}

function tcpExtension(
  { view, workload }: Context,
  name: string,
  target: JsonObject,
  hash: readonly JsonObject[],
  origins: readonly string[],
): XdsResource {
  const typed = tcpProxy('outbound_tcp', target, { side: 'source', workload }, view.mesh, hash);
  return resource('extension', name, { typed_config: typed }, [...origins, ...view.mesh.origins]);
}
