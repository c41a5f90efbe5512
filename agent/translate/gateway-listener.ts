/**
 * Sockets of a gateway (docs/decisions/0009): a listener a port and bind, a chain a server by SNI. HTTP routes come by RDS, one resource a
 * server port; bytes by ECDS; certificates by SDS: routes and rotations drain nothing. A server whose names are taken adds no chain.
 */

import type { GatewayListener, GatewayServer } from '../mesh-view/gateway-view.ts';
import { isHttpServer } from '../mesh-view/gateways.ts';
import { hostMatches } from '../mesh-view/host-names.ts';
import type { ClientView } from '../mesh-view/lookup.ts';
import type { L4Match, L4Route } from '../mesh-view/specs/virtual-service.ts';
import type { MeshView, WorkloadView } from '../mesh-view/view.ts';
import { earlyHeaders, MESH_HEADER } from './caller.ts';
import { sniFilter } from './dynamic-dns.ts';
import {
  common,
  httpRbacFilter,
  identityFilter,
  networkRbacFilter,
  ROUTE_FILTERS,
  tcpProxy,
  tcpProxyFilter,
} from './filters.ts';
import { passthroughTargets } from './gateway-passthrough.ts';
import { boundTo, type GatewayContext, gatewayRoutes, intersection, serverContext } from './gateway-route.ts';
import { serverTls } from './gateway-tls.ts';
import { revocations } from './inbound-listener.ts';
import { ADS, cidr, compact, extension, type JsonObject, resource, socketAddress } from './json.ts';
import { type Chain, chainBodies } from './listener.ts';
import { CLUSTER, rbacName } from './names.ts';
import type { XdsResource } from './resource-set.ts';
import { admitsCall } from './route.ts';
import { l4Target } from './tcp-route.ts';
import { httpAccessLogs } from './telemetry.ts';
import { ALPN } from './tls.ts';

/** Everything that one gateway workload adds. */
export interface GatewayParts {
  readonly resources: readonly XdsResource[];
  /** SDS names with the objects that name them. */
  readonly secrets: ReadonlyMap<string, readonly string[]>;
}

interface Builder extends GatewayContext {
  readonly listener: GatewayListener;
  readonly add: (...resources: readonly XdsResource[]) => void;
  readonly secret: (name: string, origin: string) => void;
}

export function gatewayParts(view: MeshView, client: ClientView, workload: WorkloadView): GatewayParts {
  const resources: XdsResource[] = [];
  const secrets = new Map<string, string[]>();
  for (const listener of view.gateways.filter((one) => one.group === workload.group)) {
    const builder: Builder = {
      view,
      client,
      workload,
      listener,
      add: (...made) => void resources.push(...made),
      secret: (name, origin) => void secrets.set(name, [...(secrets.get(name) ?? []), origin]),
    };
    // Without a chain (passthrough to nowhere) Envoy would refuse it; Istio opens no socket either.
    const chains = chainsOf(builder);
    if (chains.length > 0) resources.push(listenerOf(builder, chains));
  }
  return { resources, secrets };
}

function listenerOf(builder: Builder, chains: readonly OwnedChain[]): XdsResource {
  const { view, workload, listener } = builder;
  const { port, bind, servers, kind } = listener;
  const addresses = bind !== undefined ? [bind] : view.host.ipv6 ? ['0.0.0.0', '::'] : ['0.0.0.0'];
  const [first, ...others] = addresses.map((address) => socketAddress(address, port));
  const body = compact({
    address: first,
    additional_addresses: others.length === 0 ? undefined : others.map((address) => ({ address })),
    traffic_direction: 'OUTBOUND',
    listener_filters: kind === 'tls' ? [TLS_INSPECTOR] : undefined,
    filter_chains: chainBodies(chains),
  });
  const origins = [...workload.origins, ...servers.map((server) => server.key), ...chains.flatMap((c) => c.origins)];
  return resource('listener', `gateway_${placeOf(listener)}`, body, origins);
}

/** `PORT`, or `PORT_BIND`: what tells a host's gateway sockets apart. */
function placeOf({ port, bind }: GatewayListener): string {
  return bind === undefined ? String(port) : `${port}_${bind}`;
}

const TLS_INSPECTOR = extension(
  'envoy.filters.listener.tls_inspector',
  'envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector',
);

interface OwnedChain extends Chain {
  readonly origins: readonly string[];
}

function chainsOf(builder: Builder): readonly OwnedChain[] {
  const { listener } = builder;
  const [first] = listener.servers;
  if (first === undefined) return [];
  if (listener.kind === 'plain') {
    const name = `http.${placeOf(listener)}`;
    builder.add(gatewayRoutes(builder, listener.servers, name));
    return [{ name, match: {}, filters: httpFilters(builder, name, listener.servers), origins: [] }];
  }
  if (listener.kind === 'tcp') return tcpChains(builder, first, {}, {});
  return listener.servers.flatMap((server) => tlsChains(builder, server));
}

function tlsChains(builder: Builder, server: GatewayServer): readonly OwnedChain[] {
  const { view, workload, listener, secret, add } = builder;
  if (server.tls?.mode === 'AUTO_PASSTHROUGH') return autoChains(builder, server);
  const tls = serverTls(view, workload, server);
  if (tls === undefined) return passthroughChains(builder, server);
  for (const name of tls.secrets) secret(name, server.key);
  const match = serverNames(server.hosts.map(({ host }) => host));
  // A revocation, and nothing else, changes this: it drains what a revoked peer has open.
  const metadata = server.tls?.mode === 'ISTIO_MUTUAL' ? revocations(view) : undefined;
  const socket = { transportSocket: tls.socket, ...(metadata === undefined ? {} : { metadata }) };
  if (!isHttpServer(server)) return tcpChains(builder, server, match, socket);
  const [namespace, gateway] = server.gateway.split('/');
  const name = `https.${placeOf(listener)}.${server.name}.${gateway}.${namespace}`;
  add(gatewayRoutes(builder, [server], name));
  return [{ name, match, filters: httpFilters(builder, name, [server]), ...socket, origins: [] }];
}

/** `*` among the names takes every client, also one that names nobody. */
function serverNames(hosts: readonly string[]): JsonObject {
  return hosts.includes('*') || hosts.length === 0 ? {} : { server_names: [...new Set(hosts)] };
}

/** Bytes to where the first tcp rule that admits the server leads; to nobody without one, so that a rule that comes changes no chain. */
function tcpChains(
  builder: Builder,
  server: GatewayServer,
  match: JsonObject,
  socket: Pick<Chain, 'transportSocket' | 'metadata'>,
): readonly OwnedChain[] {
  const chains: OwnedChain[] = [];
  for (const vs of boundTo(builder, server)) {
    const called = intersection(server, vs);
    if (called.length === 0) continue;
    const context = serverContext(builder, server, vs, called);
    for (const [index, rule] of (vs.spec.tcp ?? []).entries()) {
      const matches: readonly L4Match[] = (rule.match ?? []).length === 0 ? [{}] : (rule.match ?? []);
      for (const [position, one] of matches.entries()) {
        if (!admitsCall(one, context)) continue;
        const whole = (one.destinationSubnets ?? []).length === 0;
        const name = chainName(
          builder,
          server,
          whole ? '' : `tcp${index}.${position}.${vs.namespace}/${vs.key.split('/')[2]}`,
        );
        const to = l4Target(context, rule);
        bytes(builder, server, name, to, vs.origins);
        const chain = {
          name,
          match: { ...match, ...subnets(one) },
          filters: byteFilters(builder, name, to.dynamicPort),
        };
        chains.push({ ...chain, ...socket, origins: whole ? [] : vs.origins });
        if (whole) return chains;
      }
    }
  }
  const name = chainName(builder, server, '');
  bytes(builder, server, name, { target: { cluster: CLUSTER.blackHole }, hash: [] }, []);
  return [...chains, { name, match, filters: byteFilters(builder, name), ...socket, origins: [] }];
}

/** TLS that is led on as it is: a chain for the names of each tls rule, as far as the server has them. */
function passthroughChains(builder: Builder, server: GatewayServer): readonly OwnedChain[] {
  return boundTo(builder, server).flatMap((vs) => {
    return (vs.spec.tls ?? []).flatMap((rule: L4Route, index) =>
      (rule.match ?? []).flatMap((one, position): OwnedChain[] => {
        const sni = (one.sniHosts ?? []).map((host) => host.toLowerCase());
        const names = intersection(server, vs, sni);
        const context = serverContext(builder, server, vs, names);
        if (names.length === 0 || !admitsCall(one, context)) return [];
        const name = chainName(builder, server, `tls${index}.${position}.${vs.namespace}/${vs.key.split('/')[2]}`);
        const to = l4Target(context, rule);
        bytes(builder, server, name, to, vs.origins);
        const match = { ...serverNames(names), ...subnets(one) };
        return [{ name, match, filters: byteFilters(builder, name, to.dynamicPort), origins: vs.origins }];
      }),
    );
  });
}

/** The mesh's own mTLS from other networks, led on to the service, port and subset that its SNI names; nothing but mTLS of the mesh. */
function autoChains(builder: Builder, server: GatewayServer): readonly OwnedChain[] {
  const { client, view, add } = builder;
  const takes = (host: string, namespace: string) =>
    server.hosts.some((one) => hostMatches(one.host, host) && (one.namespace ?? namespace) === namespace);
  return passthroughTargets(view, client).flatMap(({ service, sni, cluster, resources }) => {
    if (!takes(service.host, service.namespace)) return [];
    add(...resources);
    const name = chainName(builder, server, sni);
    bytes(builder, server, name, { target: { cluster }, hash: [] }, service.origins);
    const match = { server_names: [sni], application_protocols: [ALPN.http, ALPN.http2, ALPN.tcp] };
    return [{ name, match, filters: byteFilters(builder, name), origins: service.origins }];
  });
}

function subnets({ destinationSubnets = [] }: L4Match): JsonObject {
  return destinationSubnets.length === 0 ? {} : { prefix_ranges: destinationSubnets.map(cidr) };
}

function chainName({ listener, workload }: Builder, { gateway, name }: GatewayServer, what: string): string {
  return `gateway_.${placeOf(listener)}_.${gateway}_.${name}${what === '' ? '' : `_.${what}`}@${workload.group}`;
}

function bytes(
  { view, workload, add }: Builder,
  server: GatewayServer,
  name: string,
  { target, hash }: Pick<ReturnType<typeof l4Target>, 'target' | 'hash'>,
  origins: readonly string[],
): void {
  const typed_config = tcpProxy(statPrefix([server]), target, { side: 'source', workload }, view.mesh, hash);
  add(resource('extension', name, { typed_config }, [...workload.origins, ...view.mesh.origins, ...origins]));
}

function byteFilters({ view, workload }: Builder, name: string, dynamicPort?: number): readonly JsonObject[] {
  return [
    networkRbacFilter(rbacName(workload, 'tcp', 'deny')),
    networkRbacFilter(rbacName(workload, 'tcp', 'allow')),
    identityFilter(workload, true),
    ...(dynamicPort === undefined ? [] : [sniFilter(view, dynamicPort)]),
    tcpProxyFilter(name),
  ];
}

/** A server's own name is what its statistics begin with (Istio); of servers that share a chain the first one's. */
function statPrefix(servers: readonly GatewayServer[]): string {
  return servers.find((server) => server.label !== undefined)?.label ?? 'gateway';
}

function httpFilters(
  { view, workload }: Builder,
  routes: string,
  servers: readonly GatewayServer[],
): readonly JsonObject[] {
  const manager = extension(
    'envoy.filters.network.http_connection_manager',
    'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
    {
      ...common(view.mesh),
      ...EDGE,
      stat_prefix: statPrefix(servers),
      rds: { route_config_name: routes, config_source: ADS },
      http_filters: [
        httpRbacFilter(rbacName(workload, 'http', 'deny')),
        httpRbacFilter(rbacName(workload, 'http', 'allow')),
        ...ROUTE_FILTERS,
      ],
      access_log: httpAccessLogs({ side: 'source', workload }, view.mesh.accessLog),
    },
  );
  return [identityFilter(workload, false), manager];
}

/**
 * Whoever comes to a gateway is a stranger: its address is the peer's own, nobody before us is trusted, nobody is internal (else `x-envoy-*`
 * would steer retries and timeouts), and what only a proxy of the mesh may say of a caller is dropped before anything looks at it.
 */
const EDGE: JsonObject = {
  use_remote_address: true,
  xff_num_trusted_hops: 0,
  internal_address_config: {},
  forward_client_cert_details: 'SANITIZE_SET',
  set_current_client_cert_details: { subject: true, cert: true, dns: true, uri: true },
  ...earlyHeaders(Object.values(MESH_HEADER).map((remove) => ({ remove }))),
};
