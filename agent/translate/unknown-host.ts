import { MESH_HEADER, OUT_OF_MESH } from './caller.ts';
import { ADDRESS_STATE } from './filters.ts';
import { any, extension, type JsonObject } from './json.ts';
import { CLUSTER, clusterName } from './names.ts';
import type { RouteScope } from './route.ts';
import { resolveDestination } from './route-action.ts';
import { isVirtual } from './virtual.ts';

/** Retries of a call by address: only what is safe to repeat. */
const RETRIES: JsonObject = { num_retries: 2, retry_on: 'connect-failure,refused-stream,unavailable,cancelled' };

/**
 * The virtual host of last resort: the Host names no service that this client sees. Istio lets such a request go where its connection was
 * going, if it may go anywhere: at a service's virtual address that is this service (there is nobody else behind the address), at any other
 * address the address itself, or the Sidecar's egressProxy. `elsewhere`: cluster of what no service is meant by.
 */
export function unknownHost(scope: RouteScope, elsewhere: string): JsonObject {
  const route = (action: JsonObject): JsonObject => ({
    name: 'unknown',
    domains: ['*'],
    // CONNECT has no path, and as its authority the place to be connected to.
    routes: [{ prefix: '/' }, { connect_matcher: {} }].map((match) => ({ name: 'unknown', match, ...action })),
  });
  if (scope.workload.outboundPolicy === 'REGISTRY_ONLY' || scope.scope === 'own') return route(NOBODY);
  if (scope.scope === 'any') return route({ route: { cluster: elsewhere, timeout: '0s' }, ...OUT_OF_MESH });
  return route({
    // Perhaps to a service of the mesh, perhaps to a stranger, who is told nothing of the caller.
    request_headers_to_remove: [MESH_HEADER.workload, MESH_HEADER.app, MESH_HEADER.version],
    route: {
      inline_cluster_specifier_plugin: {
        extension: extension(
          'envoy.router.cluster_specifier_plugin.matcher',
          'envoy.extensions.router.cluster_specifiers.matcher.v3.MatcherClusterSpecifier',
          { cluster_matcher: byAddress(scope, elsewhere) },
        ),
      },
      timeout: '0s',
      retry_policy: RETRIES,
    },
  });
}

const NOBODY: JsonObject = {
  direct_response: { status: 502, body: { inline_string: 'no service of the mesh has this name\n' } },
};

/** Cluster of what no service is meant by: straight out, through the Sidecar's egress proxy, or nowhere. */
export function unknownCluster(scope: Pick<RouteScope, 'client' | 'workload'>): string {
  const { workload, client } = scope;
  if (workload.outboundPolicy === 'REGISTRY_ONLY') return CLUSTER.blackHole;
  if (workload.egressProxy === undefined) return CLUSTER.passthrough;
  const context = { client, workload, port: 0, namespace: workload.namespace, gateway: 'mesh' };
  return resolveDestination(context, workload.egressProxy).cluster;
}

/**
 * Services by their virtual addresses, which the connection carries as text; the rest of the virtual ranges is nobody's. A map: as many
 * services as there may be. (Envoy 1.40's own matcher of destination addresses ends the process here: seen.)
 */
function byAddress(scope: RouteScope, elsewhere: string): JsonObject {
  const { view, client, port, services } = scope;
  const map: Record<string, JsonObject> = {};
  for (const service of services) {
    const on = to(clusterName(client, service, port));
    for (const address of service.addresses) if (isVirtual(address, view.vipRanges)) map[address] = on;
  }
  const nobody = Object.fromEntries(view.vipRanges.map((range) => [textOf(range), to(CLUSTER.blackHole)]));
  return {
    ...(Object.keys(map).length === 0 ? {} : { matcher_tree: { input: ADDRESS, exact_match_map: { map } } }),
    on_no_match: {
      matcher: {
        matcher_tree: { input: ADDRESS, prefix_match_map: { map: nobody } },
        on_no_match: to(elsewhere),
      },
    },
  };
}

const ADDRESS = extension(
  'envoy.matching.inputs.filter_state',
  'envoy.extensions.matching.common_inputs.network.v3.FilterStateInput',
  { key: ADDRESS_STATE },
);

function to(cluster: string): JsonObject {
  return {
    action: {
      name: 'cluster',
      typed_config: any('envoy.extensions.router.cluster_specifiers.matcher.v3.ClusterAction', { cluster }),
    },
  };
}

/** What the text of every address in a virtual range begins with: these are /16 and /48, whole groups. */
function textOf(range: string): string {
  const [network = ''] = range.split('/');
  return network.includes(':') ? network.replace(/:+$/, ':') : `${network.split('.').slice(0, 2).join('.')}.`;
}
