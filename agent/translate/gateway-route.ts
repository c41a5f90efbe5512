import type { GatewayServer } from '../mesh-view/gateway-view.ts';
import { isPassthrough } from '../mesh-view/gateways.ts';
import { hostMatches, isExportedTo } from '../mesh-view/host-names.ts';
import type { ClientView } from '../mesh-view/lookup.ts';
import type { MeshView, VirtualServiceView, WorkloadView } from '../mesh-view/view.ts';
import { dynamicGatewayRoutes } from './dynamic-dns.ts';
import { compact, type JsonObject, resource } from './json.ts';
import type { XdsResource } from './resource-set.ts';
import { mergeVirtualServices } from './route.ts';
import type { RouteContext } from './route-action.ts';

/** For which gateway workload routes are made. */
export interface GatewayContext {
  readonly view: MeshView;
  readonly client: ClientView;
  readonly workload: WorkloadView;
}

/** VirtualServices that are bound to the server's Gateway and that the workload's namespace sees, oldest first. */
export function boundTo({ view, client }: GatewayContext, server: GatewayServer): readonly VirtualServiceView[] {
  return view.virtualServices.filter(
    (vs) => vs.gateways.includes(server.gateway) && isExportedTo(vs.spec.exportTo, vs.namespace, client.namespace),
  );
}

/** What a name of a VirtualService and one of a server have in common, the narrower one; for VirtualServices of that namespace only. */
export function intersection(server: GatewayServer, vs: VirtualServiceView, hosts = vs.hosts): readonly string[] {
  const common = new Set<string>();
  for (const { namespace, host } of server.hosts) {
    if (namespace !== undefined && namespace !== vs.namespace) continue;
    for (const own of hosts) {
      if (hostMatches(host, own)) common.add(own);
      else if (hostMatches(own, host)) common.add(host);
    }
  }
  return [...common];
}

/** The context in which a VirtualService's rules are read for a server; `called`: the names that come here. */
export function serverContext(
  context: GatewayContext,
  server: GatewayServer,
  vs: VirtualServiceView,
  called: readonly string[],
): RouteContext {
  const { view, client, workload } = context;
  return {
    client,
    workload,
    port: server.number,
    namespace: vs.namespace,
    gateway: server.gateway,
    tls: server.tls !== undefined && !isPassthrough(server.tls),
    defaultRetries: view.defaultRetries,
    called,
  };
}

/**
 * RouteConfiguration of the HTTP servers of one chain: a virtual host for each name that servers and VirtualServices share; VirtualServices of
 * one name are merged. A name that no route is for is 404; with httpsRedirect each name of the server is sent to https first.
 */
export function gatewayRoutes(context: GatewayContext, servers: readonly GatewayServer[], name: string): XdsResource {
  const bound = new Map<string, Map<string, { readonly vs: VirtualServiceView; readonly server: GatewayServer }>>();
  const redirected = new Set<string>();
  const origins = servers.map((server) => server.key);
  for (const server of servers) {
    const redirects = server.tls?.httpsRedirect === true;
    for (const { host } of redirects ? server.hosts : []) redirected.add(host);
    for (const vs of boundTo(context, server)) {
      if ((vs.spec.http ?? []).length === 0) continue;
      for (const host of intersection(server, vs)) {
        if (redirects) redirected.add(host);
        const here = bound.get(host) ?? new Map();
        bound.set(host, here);
        // Two servers of one Gateway that share a host lead the same way.
        const id = `${vs.key} ${server.gateway}`;
        if (!here.has(id)) here.set(id, { vs: { ...vs }, server });
        origins.push(...vs.origins);
      }
    }
  }
  /** The servers that take a name, for whoever asks why. */
  const serversOf = (host: string): readonly string[] => {
    const own = [...(bound.get(host)?.values() ?? [])].map((entry) => entry.server);
    const takers = servers.filter((server) => own.includes(server) || server.hosts.some((one) => one.host === host));
    return takers.map((server) => `${server.gateway}:${server.name}`);
  };
  const hosts = [...new Set([...bound.keys(), ...redirected])].sort().map((host) => {
    const entries = [...(bound.get(host)?.values() ?? [])].sort((a, b) => age(context, a.vs) - age(context, b.vs));
    const servedBy = new Map(entries.map(({ vs, server }) => [vs, server]));
    const routes = mergeVirtualServices([...servedBy.keys()], (vs) =>
      serverContext(context, servedBy.get(vs) as GatewayServer, vs, [host]),
    );
    return compact({
      name: `${host}:${servers[0]?.number}`,
      domains: [host.includes(':') ? `[${host}]` : host],
      routes: dynamicGatewayRoutes(context.client, host, routes),
      metadata: { filter_metadata: { hostmesh: { servers: serversOf(host) } } },
      require_tls: redirected.has(host) ? 'ALL' : undefined,
    });
  });
  const body: JsonObject = {
    virtual_hosts: hosts.filter((host) => host.require_tls !== undefined || (host.routes as JsonObject[]).length > 0),
    ignore_port_in_host_matching: true,
    validate_clusters: false,
    max_direct_response_body_size_bytes: 1_048_576,
  };
  return resource('route', name, body, origins);
}

/** Place of a VirtualService among all, oldest first. */
function age({ view }: GatewayContext, vs: VirtualServiceView): number {
  return view.virtualServices.findIndex((one) => one.key === vs.key);
}
