import type { ClientView, EffectiveRule } from '../mesh-view/lookup.ts';
import { selects } from '../mesh-view/object-index.ts';
import type { PortPolicy, SubsetSpec } from '../mesh-view/specs/destination-rule.ts';
import type { EndpointView, ServicePort, ServiceView, Transport } from '../mesh-view/view.ts';
import { clusterName, sniName } from './names.ts';
import { portPolicy } from './traffic-policy.ts';

/** One cluster to make: a port of a service, or of a subset of it, as one client's namespace sees it. */
export interface ClusterPlan {
  readonly name: string;
  readonly sni: string;
  readonly service: ServiceView;
  readonly port: ServicePort;
  readonly subset: SubsetSpec | undefined;
  readonly policy: PortPolicy;
  readonly transport: Transport;
  readonly origins: readonly string[];
}

/** Clusters of one service for one client: each port, whole and by subset. */
export function clusterPlans(client: ClientView, service: ServiceView): readonly ClusterPlan[] {
  const rule = client.destinationRule(service);
  return service.ports.flatMap((port) =>
    [undefined, ...(rule?.subsets ?? [])].map((subset) => plan(client, service, port, rule, subset)),
  );
}

function plan(
  client: ClientView,
  service: ServiceView,
  port: ServicePort,
  rule: EffectiveRule | undefined,
  subset: SubsetSpec | undefined,
): ClusterPlan {
  const policy = portPolicy(rule, subset, port.number);
  const mode = policy.tls?.mode;
  return {
    name: clusterName(client, service, port.number, subset?.name),
    sni: sniName(service.host, port.number, subset?.name),
    service,
    port,
    subset,
    policy,
    transport: mode === 'ISTIO_MUTUAL' ? 'mtls' : mode === 'DISABLE' ? 'plain' : port.transport,
    origins: [...service.origins, ...(rule?.origins ?? [])],
  };
}

/** Endpoints of a cluster: those that serve the port and carry the subset's labels. In the service's order. */
export function plannedEndpoints({ service, port, subset }: ClusterPlan): readonly EndpointView[] {
  return service.endpoints.filter(
    (endpoint) => endpoint.ports[port.number] !== undefined && selects(subset?.labels, endpoint.labels),
  );
}
