import type { ClientView } from '../mesh-view/lookup.ts';
import type { MeshView, ServiceView } from '../mesh-view/view.ts';
import { clusterResource, usesEds } from './cluster.ts';
import { type ClusterPlan, clusterContext, clusterPlans } from './cluster-plan.ts';
import { endpointResource } from './endpoint.ts';
import { sniName } from './names.ts';
import type { XdsResource } from './resource-set.ts';

/** A port of a service, or of a subset of it, as an SNI of the mesh's own mTLS names it. */
export interface PassthroughTarget {
  readonly service: ServiceView;
  readonly sni: string;
  readonly cluster: string;
  readonly resources: readonly XdsResource[];
}

/**
 * Where an AUTO_PASSTHROUGH server leads: clusters beside those of the mesh that add no TLS, since the caller's goes on to the workload.
 * Endpoints of this network only (Istio): those behind another network's gateway (`ID@GATEWAY`) would travel for ever.
 */
export function passthroughTargets(view: MeshView, client: ClientView): readonly PassthroughTarget[] {
  const context = clusterContext(view, client, view.mesh);
  return client.services
    .filter((service) => !service.external && !service.host.startsWith('*'))
    .flatMap((service) => clusterPlans(context, service))
    .map(asBytes)
    .filter(usesEds)
    .map((plan) => ({
      service: plan.service,
      sni: sniName(plan.service.host, plan.port.number, plan.subset?.name),
      cluster: plan.name,
      resources: [clusterResource(plan), endpointResource(plan)],
    }));
}

function asBytes(plan: ClusterPlan): ClusterPlan {
  const near = plan.service.endpoints.filter((endpoint) => !endpoint.id.includes('@'));
  const { grpcWeb: _, ...port } = plan.port;
  return {
    ...plan,
    name: `sni_${plan.name}`,
    service: { ...plan.service, endpoints: near },
    port: { ...port, protocol: 'TCP', transport: 'plain' },
    policy: {},
    transport: 'plain',
    tls: undefined,
  };
}
