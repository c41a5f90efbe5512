/**
 * Headless services: DNS answers with their endpoints' addresses, and clients connect to one of these by themselves. In: the service and its
 * endpoints. Out: chains that know connections to such an address for the service's, and a cluster that goes where the client went, as the
 * service's peers are to be spoken to. One chain an address: an endpoint that comes or goes drains nobody else's connections.
 */
import { ROOT_NAMESPACE } from '../../api/resources/registry.ts';
import type { ClientView } from '../mesh-view/lookup.ts';
import type { EndpointView, ServicePort, ServiceView } from '../mesh-view/view.ts';
import type { ClusterPlan } from './cluster-plan.ts';
import { cidr, type JsonObject } from './json.ts';
import { clusterName } from './names.ts';
import type { XdsResource } from './resource-set.ts';
import { type RouteScope, routeConfiguration } from './route.ts';
import { type TcpRoute, tcpRoutes } from './tcp-route.ts';

const DIRECT = '~direct';

type Context = Parameters<typeof tcpRoutes>[0];

/** The plan of the cluster that goes where the client went; undefined where the service is not headless, and for subsets. */
export function directPlan(plan: ClusterPlan): ClusterPlan | undefined {
  const { service, port, subset } = plan;
  if (service.headless !== true || subset !== undefined) return undefined;
  const target = commonTarget(service, port);
  const { targetPort: _none, ...own } = port;
  return {
    ...plan,
    name: `${plan.name}${DIRECT}`,
    service: { ...service, resolution: 'NONE' },
    port: target === undefined || target === port.number ? own : { ...own, targetPort: target },
  };
}

/** One way to reach a service's port directly: an endpoint's address, and a port that the client may have connected to. */
interface Door {
  readonly address: string;
  readonly port: number;
}

/** Addresses of all endpoints, at the port where they serve; and at the service's own port where they all serve at one. */
function doors(client: ClientView, service: ServiceView, port: ServicePort): readonly Door[] {
  const same = commonTarget(service, port) !== undefined;
  const found = new Map<string, Door>();
  for (const endpoint of direct(service, port).filter((one) => isKnown(client, service, one)))
    for (const address of endpoint.addresses)
      for (const number of [endpoint.ports[port.number]?.port as number, ...(same ? [port.number] : [])])
        found.set(`${address} ${number}`, { address, port: number });
  return [...found.values()];
}

/**
 * An address that an object alone names (WorkloadEntry) may be anybody's: what other namespaces send there is not the service's to lead.
 * Only its own namespace's clients, and everyone's for the root namespace, take its word.
 */
function isKnown(client: ClientView, { namespace }: ServiceView, endpoint: EndpointView): boolean {
  return endpoint.host !== undefined || client.namespace === namespace || namespace === ROOT_NAMESPACE;
}

/** The one port at which every endpoint serves, if there is one. */
function commonTarget(service: ServiceView, port: ServicePort): number | undefined {
  const targets = new Set(direct(service, port).map((endpoint) => endpoint.ports[port.number]?.port));
  return targets.size === 1 ? [...targets][0] : undefined;
}

function direct(service: ServiceView, port: ServicePort): readonly EndpointView[] {
  return service.endpoints.filter(
    (endpoint) => endpoint.viaGateway !== true && endpoint.ports[port.number] !== undefined,
  );
}

/** Chains of bytes: VirtualServices' rules as for any service; without one, to the address that the client chose. */
export function headlessTcp(context: Context, service: ServiceView, port: ServicePort): readonly TcpRoute[] {
  const whole = clusterName(context.client, service, port.number);
  return doors(context.client, service, port).flatMap(({ address, port: number }) =>
    tcpRoutes(context, service, port, [address]).map((route) => ({
      ...route,
      name: `${route.name}_.${address}_.${number}`,
      match: { ...route.match, destination_port: number },
      target: route.target.cluster === whole ? { cluster: `${whole}${DIRECT}` } : route.target,
    })),
  );
}

/** Matches of HTTP chains with a name for each, and the routes that they lead to. Undefined without endpoints. */
export function headlessHttp(
  scope: Omit<RouteScope, 'scope' | 'services' | 'port'>,
  service: ServiceView,
  port: ServicePort,
):
  | { readonly route: XdsResource; readonly matches: readonly { readonly name: string; readonly match: JsonObject }[] }
  | undefined {
  const matches = doors(scope.client, service, port).map(({ address, port: number }) => ({
    name: `${number}_http_${service.host}_${address}`,
    match: { destination_port: number, prefix_ranges: [cidr(address)] },
  }));
  if (matches.length === 0) return undefined;
  const bind = `_.headless_.${service.host}`;
  const made = routeConfiguration([{ ...scope, port: port.number, scope: 'own', bind, services: [service] }]);
  const [own] = (made.body as { readonly virtual_hosts: readonly JsonObject[] }).virtual_hosts;
  const whole = clusterName(scope.client, service, port.number);
  const routes = ((own?.routes ?? []) as readonly JsonObject[]).map((route) => toDoor(route, whole));
  return {
    matches,
    route: { ...made, body: { ...(made.body as JsonObject), virtual_hosts: [{ ...own, domains: ['*'], routes }] } },
  };
}

/** Only the service's own default goes where the client went: a rule that names a destination means any of its endpoints. */
function toDoor(route: JsonObject, whole: string): JsonObject {
  const action = route.route as JsonObject | undefined;
  if (route.metadata !== undefined || action?.cluster !== whole) return route;
  return { ...route, route: { ...action, cluster: `${whole}${DIRECT}` } };
}
