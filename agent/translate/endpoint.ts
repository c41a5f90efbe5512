import type { EndpointView } from '../mesh-view/view.ts';
import { type ClusterPlan, plannedEndpoints } from './cluster-plan.ts';
import { compact, type JsonObject, socketAddress } from './json.ts';
import type { XdsResource } from './resource-set.ts';
import { endpointMetadata } from './telemetry-labels.ts';

const HEALTH = { healthy: 'HEALTHY', unhealthy: 'UNHEALTHY', draining: 'DRAINING' } as const;

/** The ClusterLoadAssignment of an EDS cluster. Empty, never absent, when nobody serves. `locality`: the client's own. */
export function endpointResource(plan: ClusterPlan, locality: string): XdsResource {
  return {
    type: 'endpoint',
    name: plan.name,
    body: loadAssignment(plan, plannedEndpoints(plan), locality),
    origins: [...new Set(plan.service.origins)].sort(),
  };
}

/** Endpoints grouped by locality; localities in order of priority, then name. `client` is the client's own locality. */
export function loadAssignment(plan: ClusterPlan, endpoints: readonly EndpointView[], client: string): JsonObject {
  const failover = plan.policy.outlierDetection !== undefined && client !== '';
  const byLocality = new Map<string, EndpointView[]>();
  for (const endpoint of endpoints) {
    byLocality.set(endpoint.locality, [...(byLocality.get(endpoint.locality) ?? []), endpoint]);
  }
  const distances = [...byLocality.keys()].map((locality) => (failover ? distance(client, locality) : 0));
  const used = [...new Set(distances)].sort((a, b) => a - b);
  const groups = [...byLocality.entries()].map(([locality, members], index) => ({
    locality,
    priority: used.indexOf(distances[index] as number),
    members,
  }));
  groups.sort((a, b) => a.priority - b.priority || (a.locality < b.locality ? -1 : 1));
  return {
    cluster_name: plan.name,
    endpoints: groups.map(({ locality, priority, members }) =>
      compact({
        locality: localityJson(locality),
        lb_endpoints: members.map((endpoint) => lbEndpoint(plan, endpoint)),
        load_balancing_weight: members.reduce((sum, endpoint) => sum + endpoint.weight, 0),
        priority: priority === 0 ? undefined : priority,
      }),
    ),
  };
}

function lbEndpoint({ port }: ClusterPlan, endpoint: EndpointView): JsonObject {
  const { port: number, mtls } = endpoint.ports[port.number] as { port: number; mtls: boolean };
  const [first, ...others] = endpoint.addresses.map((address) => socketAddress(address, number));
  return compact({
    endpoint: compact({
      address: first as JsonObject,
      // The other family's address of the same host: Envoy tries it when the first does not connect (happy eyeballs).
      additional_addresses: others.length === 0 ? undefined : others.map((address) => ({ address })),
    }),
    health_status: HEALTH[endpoint.health],
    load_balancing_weight: endpoint.weight,
    metadata: {
      filter_metadata: compact({
        istio: endpointMetadata(endpoint),
        'envoy.transport_socket_match': mtls ? { tlsMode: 'istio' } : undefined,
      }),
    },
  });
}

function localityJson(locality: string): JsonObject | undefined {
  if (locality === '') return undefined;
  const [region, zone, sub_zone] = locality.split('/');
  return compact({ region, zone, sub_zone });
}

/** Istio's default failover: same sub-zone, zone, region, then the rest. */
function distance(client: string, locality: string): number {
  const ours = client.split('/');
  const theirs = locality.split('/');
  let same = 0;
  while (same < ours.length && ours[same] === theirs[same]) same++;
  return ours.length - same;
}
