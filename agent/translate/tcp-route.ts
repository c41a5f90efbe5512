import type { ClientView } from '../mesh-view/lookup.ts';
import type { L4Match, L4Route } from '../mesh-view/specs/virtual-service.ts';
import type { MeshView, ServicePort, ServiceView, VirtualServiceView, WorkloadView } from '../mesh-view/view.ts';
import { MESH_GATEWAY } from '../mesh-view/virtual-services.ts';
import { cidr, type JsonObject } from './json.ts';
import { CLUSTER, clusterName, tcpRouteName } from './names.ts';
import { admitsCall } from './route.ts';
import { resolveDestination } from './route-action.ts';

/** One chain of a service port that carries bytes, and where they go. */
export interface TcpRoute {
  readonly name: string;
  readonly match: JsonObject;
  /** `cluster` or `weighted_clusters` of a TcpProxy. */
  readonly target: JsonObject;
  readonly hash: readonly JsonObject[];
  readonly origins: readonly string[];
}

interface Context {
  readonly view: MeshView;
  readonly client: ClientView;
  readonly workload: WorkloadView;
}

/**
 * Chains of one service port: its addresses (any, where it lives wherever clients go), by SNI where a VirtualService's tls rules or a
 * name without an address ask for it; the first tcp rule that admits the workload decides the rest. No rule: the service itself.
 */
export function tcpRoutes(context: Context, service: ServiceView, port: ServicePort): readonly TcpRoute[] {
  const anywhere = service.resolution === 'NONE' && service.addresses.length === 0;
  if (service.addresses.length === 0 && !anywhere) return [];
  if (service.host.startsWith('*') && port.protocol !== 'TLS') return [];
  const [vs] = context.client.virtualServicesFor(service.host);
  const base: JsonObject = {
    destination_port: port.number,
    ...(anywhere ? {} : { prefix_ranges: service.addresses.map(cidr) }),
  };
  const builder: Builder = { ...context, service, port, vs, base };
  return [
    ...(port.protocol === 'TCP' ? [] : sniRoutes(builder)),
    ...plainRoutes(builder, anywhere && port.protocol === 'TLS' ? { server_names: [service.host] } : {}),
  ];
}

interface Builder extends Context {
  readonly service: ServiceView;
  readonly port: ServicePort;
  readonly vs: VirtualServiceView | undefined;
  readonly base: JsonObject;
}

function sniRoutes(builder: Builder): TcpRoute[] {
  const { vs } = builder;
  return (vs?.spec.tls ?? []).flatMap((rule, index) =>
    (rule.match ?? [])
      .filter((match) => admits(builder, match))
      .map((match, position) =>
        routeOf(builder, rule, `tls${index}.${position}`, {
          ...builder.base,
          ...subnets(match),
          server_names: match.sniHosts ?? [],
        }),
      ),
  );
}

function plainRoutes(builder: Builder, extra: JsonObject): TcpRoute[] {
  const routes: TcpRoute[] = [];
  for (const [index, rule] of (builder.vs?.spec.tcp ?? []).entries()) {
    const matches = rule.match === undefined || rule.match.length === 0 ? [{}] : rule.match;
    for (const [position, match] of matches.entries()) {
      if (!admits(builder, match)) continue;
      const whole = (match.destinationSubnets ?? []).length === 0;
      const name = whole ? '' : `tcp${index}.${position}`;
      routes.push(routeOf(builder, rule, name, { ...builder.base, ...subnets(match), ...extra }));
      if (whole) return routes;
    }
  }
  const { client, service, port, base } = builder;
  return [
    ...routes,
    {
      name: nameOf(builder, ''),
      match: { ...base, ...extra },
      target: { cluster: clusterName(client, service, port.number) },
      hash: resolve(builder, { host: service.host, port: { number: port.number } })
        .hash.filter(sourceIpOnly)
        .map(tcpHash),
      origins: service.origins,
    },
  ];
}

function admits(builder: Builder, match: L4Match): boolean {
  const { workload, port, vs, service } = builder;
  return admitsCall(match, {
    workload,
    port: port.number,
    gateway: MESH_GATEWAY,
    namespace: vs?.namespace ?? service.namespace,
  });
}

function subnets(match: L4Match): JsonObject {
  const list = match.destinationSubnets ?? [];
  return list.length === 0 ? {} : { prefix_ranges: list.map(cidr) };
}

function nameOf({ workload, port, service, client }: Builder, match: string): string {
  return tcpRouteName(workload, port.number, `${service.host}${client.variant(service)}`, match);
}

function resolve(builder: Builder, destination: Parameters<typeof resolveDestination>[1]) {
  const { client, workload, port, vs, service } = builder;
  return resolveDestination(
    { client, workload, port: port.number, namespace: vs?.namespace ?? service.namespace, gateway: MESH_GATEWAY },
    destination,
  );
}

function routeOf(builder: Builder, rule: L4Route, name: string, match: JsonObject): TcpRoute {
  const targets = (rule.route ?? []).map((entry) => ({
    weight: entry.weight ?? 0,
    ...resolve(builder, entry.destination),
  }));
  const [first, ...others] = targets;
  const weighted = targets.filter((target) => target.weight > 0);
  const target: JsonObject =
    first === undefined || (others.length > 0 && weighted.length === 0)
      ? { cluster: CLUSTER.blackHole }
      : others.length === 0
        ? { cluster: first.cluster }
        : { weighted_clusters: { clusters: weighted.map(({ cluster, weight }) => ({ name: cluster, weight })) } };
  return {
    name: nameOf(builder, name),
    match,
    target,
    hash: targets
      .flatMap((entry) => entry.hash)
      .filter(sourceIpOnly)
      .slice(0, 1)
      .map(tcpHash),
    origins: [...builder.service.origins, ...(builder.vs?.origins ?? [])],
  };
}

/** Of consistentHash, bytes know the source address only. */
function sourceIpOnly(policy: JsonObject): boolean {
  return 'connection_properties' in policy;
}

function tcpHash(): JsonObject {
  return { source_ip: {} };
}
