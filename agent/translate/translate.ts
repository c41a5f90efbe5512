/**
 * Room agent/translate. In: a MeshView. Out: the ResourceSet that Envoy is to have: clusters, endpoints, listeners, routes, extension
 * configs, and the names of the secrets they refer to. Pure: same view, same bytes. Bodies are proto3 JSON as in Envoy's YAML.
 * Never: a private key; an endpoint in anything but an EDS resource (DNS clusters aside); a route or policy inside a listener.
 */
import { distinguishingLabels } from '../mesh-view/destination-rules.ts';
import { type ClientView, clientView } from '../mesh-view/lookup.ts';
import type { MeshView, ServiceView, WorkloadView } from '../mesh-view/view.ts';
import { clusterResource, fixedClusters, planSecrets, usesEds } from './cluster.ts';
import { type ClusterContext, type ClusterPlan, clusterContext, clusterPlans } from './cluster-plan.ts';
import { endpointResource } from './endpoint.ts';
import { tcpProxy } from './filters.ts';
import { gatewayParts } from './gateway-listener.ts';
import { directPlan } from './headless.ts';
import { legClusters, legName } from './inbound-leg.ts';
import { inboundListeners, inboundSecrets, inboundTcpName } from './inbound-listener.ts';
import { compact, duration, resource } from './json.ts';
import { createMemory, FORGETFUL, type Memory, ruleStore, serviceKey, withSteadyRules } from './memory.ts';
import { mirrorPlans } from './mirror-plan.ts';
import { routeName } from './names.ts';
import { outbound } from './outbound-listener.ts';
import { rbacResources } from './rbac.ts';
import type { ResourceSet, XdsResource } from './resource-set.ts';
import { type RouteScope, routeConfiguration } from './route.ts';
import { ROOT_SECRET } from './tls.ts';

/**
 * Translates one view after the other. What is as it was is made neither anew nor another object, so that it is not encoded again either:
 * for that, each view has to share with the one before what they have in common (mesh-view/share.ts). The results are those of `translate`.
 */
export function createTranslator(): (view: MeshView) => ResourceSet {
  const memory = createMemory();
  return (view) => {
    const { resources, ...rest } = translate(view, memory);
    const kept = Object.entries(resources).map(([type, items]) => [
      type,
      new Map([...items].map(([name, item]) => [name, memory.keep(type, name, item)])),
    ]);
    memory.endOfRun();
    return { ...rest, resources: Object.fromEntries(kept) as ResourceSet['resources'] };
  };
}

/** Translates a view. Never throws. */
export function translate(view: MeshView, memory: Memory = FORGETFUL): ResourceSet {
  const clients = clientsOf(view, memory);
  const all: XdsResource[] = [...fixedClusters()];
  const files = new Map<string, string[]>();
  const plans = new Map<string, ClusterPlan>();
  for (const { client, id } of new Set(clients.values())) {
    // Where a workload shares the view, and so the clusters, it is the callers' version for both.
    const forGateways = view.workloads.every((one) => one.gateway === true || clients.get(one)?.client !== client);
    const defaults = {
      ...view.mesh,
      localityLbSetting: view.localityLb,
      ...(forGateways ? { undeclared: 'http1' as const } : {}),
    };
    const { client: _, ...settings } = clusterContext(view, client, defaults);
    const kept = memory.keep('settings', id, settings);
    const what = `clusters ${id}`;
    // What a client knows of a service besides the service itself comes of these lists.
    const inputs = [kept, view.services, view.destinationRules, view.localityLb, ...client.destinations];
    const made = memory.whole([what, ruleStore(id)], inputs, () =>
      client.destinations.map((service) =>
        memory.remember(what, serviceKey(service), client, [service, kept], (noted) =>
          serviceClusters({ client: noted, ...kept }, service),
        ),
      ),
    );
    for (const { resources, plans: own, secrets } of made) {
      all.push(...resources);
      for (const plan of own) plans.set(plan.name, plan);
      for (const [name, origins] of secrets) files.set(name, [...(files.get(name) ?? []), ...origins]);
    }
  }
  for (const workload of view.workloads.filter((one) => one.gateway === true)) {
    const { resources, secrets } = gatewayParts(view, clientOf(clients, workload), workload);
    all.push(...resources, ...rbacResources(view, workload));
    for (const [name, origins] of secrets) files.set(name, [...(files.get(name) ?? []), ...origins]);
  }
  const tables = new Map<string, [RouteScope, ...RouteScope[]]>();
  for (const workload of view.workloads.filter((one) => one.gateway !== true)) {
    const client = clients.get(workload) as Client;
    const { listeners, routes, scopes, extensions } = outbound(view, client, workload, memory);
    for (const scope of scopes) addScope(tables, scope);
    all.push(...listeners, ...routes, ...extensions, ...rbacResources(view, workload));
    all.push(...workload.inboundPorts.flatMap((port) => legClusters(view.host, workload, port)));
    for (const name of workload.inboundPorts.flatMap((port) => inboundSecrets(workload, port)))
      files.set(name, [...(files.get(name) ?? []), ...workload.origins]);
  }
  all.push(...[...tables.values()].map(routeConfiguration));
  for (const plan of mirrorPlans(all, plans)) {
    all.push(clusterResource(plan));
    if (usesEds(plan)) all.push(endpointResource(plan));
  }
  all.push(...inboundTcp(view), ...inboundListeners(view));
  return {
    generation: view.generation,
    resources: sorted(all),
    secrets: new Set([
      ...(view.workloads.length === 0 ? [] : [ROOT_SECRET, ...view.workloads.map((w) => w.spiffeId).sort()]),
      ...[...files.keys()].sort(),
    ]),
    secretOrigins: new Map([...files].map(([name, origins]) => [name, [...new Set(origins)].sort()])),
  };
}

/** Clusters of one service for one client, their endpoints, and the secrets that they name with the objects that name them. */
function serviceClusters(
  context: ClusterContext,
  service: ServiceView,
): { plans: readonly ClusterPlan[]; resources: XdsResource[]; secrets: [string, readonly string[]][] } {
  const plans = clusterPlans(context, service);
  return {
    plans,
    resources: plans.flatMap((plan) => {
      const direct = directPlan(plan);
      return [
        clusterResource(plan),
        ...(direct === undefined ? [] : [clusterResource(direct)]),
        ...(usesEds(plan) ? [endpointResource(plan)] : []),
      ];
    }),
    secrets: plans.flatMap((plan) =>
      planSecrets(plan).map((name): [string, readonly string[]] => [name, plan.origins]),
    ),
  };
}

/** `id`: what tells this client from others of the host. */
interface Client {
  readonly client: ClientView;
  readonly id: string;
}

/** What each workload sees. Workloads of a namespace share one view, unless rules or Sidecars tell them apart. */
function clientsOf(view: MeshView, memory: Memory): ReadonlyMap<WorkloadView, Client> {
  const keys = distinguishingLabels(view.destinationRules, view.localityLb);
  const known = new Map<string, Client>();
  return new Map(
    view.workloads.map((workload) => {
      const { namespace, labels, egress, egressProxy } = workload;
      const id = JSON.stringify([namespace, keys.map((key) => labels[key] ?? null), egress, egressProxy?.host]);
      const made = () =>
        withSteadyRules(
          clientView(view, namespace, labels, egress, egressProxy?.host),
          id,
          view.destinationRules,
          memory,
        );
      const client = known.get(id) ?? { client: made(), id };
      known.set(id, client);
      return [workload, client];
    }),
  );
}

function clientOf(clients: ReadonlyMap<WorkloadView, Client>, workload: WorkloadView): ClientView {
  return (clients.get(workload) as Client).client;
}

/** To the table of its name; of two that one workload has for a name the first stands. */
function addScope(tables: Map<string, [RouteScope, ...RouteScope[]]>, scope: RouteScope): void {
  const name = routeName(scope.workload, scope.port, scope.scope);
  const known = tables.get(name);
  if (known === undefined) tables.set(name, [scope]);
  else if (known.every(({ workload }) => workload !== scope.workload)) known.push(scope);
}

/** TCP proxies of inbound ports: to the application, whatever the bytes. */
function inboundTcp(view: MeshView): XdsResource[] {
  return view.workloads.flatMap((workload) =>
    workload.inboundPorts.flatMap((port) =>
      [true, false].map((mtls) => {
        const target = compact({
          cluster: legName(workload, port, 'tcp'),
          idle_timeout: duration(port.pool?.tcp?.idleTimeout),
          max_downstream_connection_duration: duration(port.pool?.tcp?.maxConnectionDuration),
        });
        const reporter = { side: 'destination', workload, port, mtls } as const;
        const typed_config = tcpProxy('inbound_tcp', target, reporter, view.mesh);
        const origins = [...workload.origins, ...view.mesh.origins];
        return resource('extension', inboundTcpName(workload, port, mtls), { typed_config }, origins);
      }),
    ),
  );
}

/** By type, sorted by name; the first of a name stands (clients that see the same thing make the same resource). */
function sorted(all: readonly XdsResource[]): ResourceSet['resources'] {
  const found = {
    cluster: new Map<string, XdsResource>(),
    endpoint: new Map<string, XdsResource>(),
    listener: new Map<string, XdsResource>(),
    route: new Map<string, XdsResource>(),
    extension: new Map<string, XdsResource>(),
  };
  for (const item of all) {
    const named = item.type === 'secret' ? undefined : found[item.type];
    if (named?.has(item.name) === false) named.set(item.name, item);
  }
  const inOrder = (named: ReadonlyMap<string, XdsResource>) => new Map([...named].sort(([a], [b]) => (a < b ? -1 : 1)));
  return {
    cluster: inOrder(found.cluster),
    endpoint: inOrder(found.endpoint),
    listener: inOrder(found.listener),
    route: inOrder(found.route),
    extension: inOrder(found.extension),
  };
}
