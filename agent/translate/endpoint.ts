import type { EndpointView } from '../mesh-view/view.ts';
import { type ClusterPlan, plannedEndpoints } from './cluster-plan.ts';
import { compact, type JsonObject, socketAddress } from './json.ts';
import { localityGroups } from './locality.ts';
import { alike, type XdsResource } from './resource-set.ts';
import { endpointMetadata } from './telemetry-labels.ts';

const ISTIO = alike({ tlsMode: 'istio' });
const HEALTH = { healthy: 'HEALTHY', unhealthy: 'UNHEALTHY', draining: 'DRAINING' } as const;

/** The ClusterLoadAssignment of an EDS cluster. Empty, never absent, when nobody serves. */
export function endpointResource(plan: ClusterPlan): XdsResource {
  return {
    type: 'endpoint',
    name: plan.name,
    body: loadAssignment(plan, plannedEndpoints(plan)),
    origins: [...new Set(plan.origins)].sort(),
  };
}

/** Endpoints grouped by locality and priority, as the client's own place and the localityLbSetting have it. */
export function loadAssignment(plan: ClusterPlan, endpoints: readonly EndpointView[]): JsonObject {
  const groups = localityGroups(endpoints, plan.locality, plan.failover, plan.site);
  return {
    cluster_name: plan.name,
    endpoints: groups.map(({ locality, priority, weight, members }) =>
      compact({
        locality: localityJson(locality),
        lb_endpoints: members.map((endpoint) => lbEndpoint(plan, endpoint)),
        load_balancing_weight: weight,
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
        'envoy.transport_socket_match': mtls ? ISTIO : undefined,
      }),
    },
  });
}

function localityJson(locality: string): JsonObject | undefined {
  if (locality === '') return undefined;
  const [region, zone, sub_zone] = locality.split('/');
  return compact({ region, zone, sub_zone });
}
