/**
 * Room agent/translate. In: a MeshView. Out: the ResourceSet that Envoy is to have: clusters, endpoints, listeners, routes, extension
 * configs, and the names of the secrets they refer to. Pure: same view, same bytes. Bodies are proto3 JSON as in Envoy's YAML.
 * Never: a private key; an endpoint in anything but an EDS resource (DNS clusters aside); a route or policy inside a listener.
 */
import { distinguishingLabels } from '../mesh-view/destination-rules.ts';
import { type ClientView, clientView } from '../mesh-view/lookup.ts';
import type { MeshView, WorkloadView } from '../mesh-view/view.ts';
import { clusterResource, fixedClusters, usesEds } from './cluster.ts';
import { clusterPlans } from './cluster-plan.ts';
import { endpointResource } from './endpoint.ts';
import { tcpProxy } from './filters.ts';
import { inboundListener, inboundTcpName } from './inbound-listener.ts';
import { resource } from './json.ts';
import { CLUSTER } from './names.ts';
import { outbound } from './outbound-listener.ts';
import { rbacResources } from './rbac.ts';
import type { ResourceSet, XdsResource } from './resource-set.ts';
import { ROOT_SECRET } from './tls.ts';

/** Translates a view. Never throws. */
export function translate(view: MeshView): ResourceSet {
  const clients = clientsOf(view);
  const all: XdsResource[] = [...fixedClusters(view.host.ipv6)];
  for (const client of new Set(clients.values())) {
    for (const plan of client.services.flatMap((service) => clusterPlans(client, service))) {
      all.push(clusterResource(plan));
      if (usesEds(plan)) all.push(endpointResource(plan, view.host.locality));
    }
  }
  for (const workload of view.workloads) {
    const { listener, routes, extensions } = outbound(view, clients.get(workload) as ClientView, workload);
    all.push(listener, ...routes, ...extensions, ...rbacResources(view, workload), ...inboundTcp(view));
  }
  const inbound = inboundListener(view);
  if (inbound !== undefined) all.push(inbound);
  return {
    generation: view.generation,
    resources: sorted(all),
    secrets: new Set(view.workloads.length === 0 ? [] : [ROOT_SECRET, ...view.workloads.map((w) => w.spiffeId).sort()]),
  };
}

/** What each workload sees. Workloads of a namespace share one view, unless rules tell them apart by their labels. */
function clientsOf(view: MeshView): ReadonlyMap<WorkloadView, ClientView> {
  const keys = distinguishingLabels(view.destinationRules);
  const known = new Map<string, ClientView>();
  return new Map(
    view.workloads.map((workload) => {
      const { namespace, labels } = workload;
      const id = JSON.stringify([namespace, ...keys.map((key) => labels[key] ?? null)]);
      const client = known.get(id) ?? clientView(view, namespace, labels);
      known.set(id, client);
      return [workload, client];
    }),
  );
}

/** TCP proxies of inbound ports: to the application, whatever the bytes. */
function inboundTcp(view: MeshView): XdsResource[] {
  return view.workloads.flatMap((workload) =>
    workload.inboundPorts.flatMap((port) =>
      [true, false].map((mtls) =>
        resource(
          'extension',
          inboundTcpName(workload, port, mtls),
          {
            typed_config: tcpProxy(
              'inbound_tcp',
              { cluster: CLUSTER.inboundTcp },
              { side: 'destination', workload, port, mtls },
            ),
          },
          workload.origins,
        ),
      ),
    ),
  );
}

/** By type, sorted by name; the first of a name stands (clients that see the same thing make the same resource). */
function sorted(all: readonly XdsResource[]): ResourceSet['resources'] {
  const of = (type: XdsResource['type']): ReadonlyMap<string, XdsResource> => {
    const byName = new Map<string, XdsResource>();
    for (const item of all) if (item.type === type && !byName.has(item.name)) byName.set(item.name, item);
    return new Map([...byName.entries()].sort(([a], [b]) => (a < b ? -1 : 1)));
  };
  return {
    cluster: of('cluster'),
    endpoint: of('endpoint'),
    listener: of('listener'),
    route: of('route'),
    extension: of('extension'),
  };
}
