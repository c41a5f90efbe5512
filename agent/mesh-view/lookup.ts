import { type EffectiveRule, effectiveRule, ruleVariant } from './destination-rules.ts';
import { isExportedTo, mostSpecific, resolveHost } from './host-names.ts';
import { compare, selects } from './object-index.ts';
import { importsRules, importsService } from './sidecars.ts';
import type { EgressView, MeshView, ServicePort, ServiceView, VirtualServiceView } from './view.ts';
import { virtualServiceIndex, visibleVirtualServices } from './virtual-services.ts';

export type { EffectiveRule } from './destination-rules.ts';

/** What a client in `namespace` sees of the mesh. Lookups are memoised: make one for each namespace and view. */
export interface ClientView {
  readonly namespace: string;
  /** Of the workload that asks; empty where it is the namespace at large. */
  readonly labels: Readonly<Record<string, string>>;
  /** Visible services, one for each host: the client's own namespace's where several define it, else the first by namespace. By host. */
  readonly services: readonly ServiceView[];
  /** These, and those that its VirtualServices lead to: what it needs clusters for, and what DNS answers it with. */
  readonly destinations: readonly ServiceView[];
  /** The ports of a service that it may call it at. */
  ports(service: ServiceView): readonly ServicePort[];
  /** The service of a host, exact name first, then the longest wildcard. */
  service(host: string): ServiceView | undefined;
  /** VirtualServices of this host for the mesh: those of the most specific host that covers it, the first counts. */
  virtualServicesFor(host: string): readonly VirtualServiceView[];
  /** All of them for the mesh that this client sees, in order of precedence. */
  readonly virtualServices: readonly VirtualServiceView[];
  /** Effective DestinationRule of a service. */
  destinationRule(service: ServiceView): EffectiveRule | undefined;
  /**
   * Empty where this client sees the service as its own namespace does; else a suffix that keeps the names of what is made for this
   * client's namespace alone apart (a private DestinationRule, a second definition of a host).
   */
  variant(service: ServiceView): string;
}

/**
 * `labels`: the calling workload's, for rules with a workloadSelector; without them none of these applies. `egress`: what its Sidecar
 * imports; without it, everything that is exported to its namespace. `egressProxy`: host of a service that it needs besides.
 */
export function clientView(
  view: MeshView,
  namespace: string,
  labels?: Readonly<Record<string, string>>,
  egress?: readonly EgressView[],
  egressProxy?: string,
): ClientView {
  const exported = exportedServices(view, namespace);
  const imported = (service: ServiceView) => egress?.some((listener) => importsService(listener, service)) ?? true;
  const services = onePerHost(exported.filter(imported), namespace);
  const visible = visibleVirtualServices(view.virtualServices, namespace).filter(
    (vs) => egress?.some((listener) => importsRules(listener, vs)) ?? true,
  );
  const proxy = egressProxy === undefined ? [] : [resolveHost(egressProxy, namespace)];
  const destinations =
    egress === undefined
      ? services
      : withDestinations(services, [...visible.flatMap(destinationHosts), ...proxy], exported, namespace);
  const byHost = new Map(destinations.map((service) => [service.host, service]));
  const wildcards = destinations.map((service) => service.host).filter((host) => host.startsWith('*'));
  const usual = new Set(egress === undefined ? services : onePerHost(exported, namespace));
  const rules = new Map<ServiceView, EffectiveRule | undefined>();
  const variants = new Map<ServiceView, string>();
  const first = new Map<string, ServiceView>();
  for (const service of view.services) if (!first.has(service.host)) first.set(service.host, service);
  return {
    namespace,
    labels: labels ?? {},
    services,
    destinations,
    ports: (service) => service.ports,
    virtualServices: visible,
    service(host) {
      return byHost.get(host) ?? byHost.get(mostSpecific(wildcards, host) ?? '');
    },
    virtualServicesFor: virtualServiceIndex(visible),
    destinationRule(service) {
      if (!rules.has(service)) rules.set(service, effectiveRule(view.destinationRules, { namespace, labels }, service));
      return rules.get(service);
    },
    variant(service) {
      const known = variants.get(service);
      if (known !== undefined) return known;
      const rule = this.destinationRule(service);
      const owner = { namespace: service.namespace, labels: undefined };
      const own = effectiveRule(view.destinationRules, owner, service)?.origins.join();
      const same = first.get(service.host) === service && rule?.origins.join() === own;
      // A Sidecar can choose another definition of a host than its neighbours see.
      const chosen = usual.has(service) ? '' : `~${service.namespace}`;
      const suffix = `${same ? '' : `~${namespace}`}${chosen}${ruleVariant(rule, { namespace, labels }, view.localityLb)}`;
      variants.set(service, suffix);
      return suffix;
    },
  };
}

/**
 * What such a client sees through one listener of its Sidecar: its services (at the listener's port, where it has one) and rules. Clusters,
 * and what a rule's destinations mean, stay those of the whole client.
 */
export function throughListener(client: ClientView, listener: EgressView): ClientView {
  const number = listener.port?.number;
  const ports = (service: ServiceView) =>
    number === undefined ? service.ports : service.ports.filter((port) => port.number === number);
  const virtualServices = client.virtualServices.filter((vs) => importsRules(listener, vs));
  return {
    ...client,
    services: client.services.filter((service) => importsService(listener, service) && ports(service).length > 0),
    ports,
    virtualServices,
    virtualServicesFor: virtualServiceIndex(virtualServices),
  };
}

/**
 * What a host's workloads of a namespace reach, taken together: the names that its DNS answers for them, which is asked by namespace. Without
 * a workload there, or with one that has no Sidecar, what the namespace sees.
 */
export function reachedFrom(view: MeshView, namespace: string): readonly ServiceView[] {
  const here = view.workloads.filter((workload) => workload.namespace === namespace);
  const whole = here.length === 0 || here.some(({ egress }) => egress === undefined);
  if (whole) return clientView(view, namespace).destinations;
  const reached = here.flatMap(
    ({ labels, egress, egressProxy }) => clientView(view, namespace, labels, egress, egressProxy?.host).destinations,
  );
  return [...new Set(reached)];
}

function exportedServices(view: MeshView, namespace: string): ServiceView[] {
  return view.services.filter((service) => isExportedTo(service.exportTo, service.namespace, namespace));
}

/**
 * Istio: what a VirtualService leads to need not be imported, its destinations are known all the same: the client's own namespace's service
 * of that host, else the first by namespace.
 */
function withDestinations(
  services: readonly ServiceView[],
  hosts: readonly string[],
  exported: readonly ServiceView[],
  namespace: string,
): readonly ServiceView[] {
  const known = new Set(services.map((service) => service.host));
  const wanted = new Set(hosts.filter((host) => !known.has(host)));
  if (wanted.size === 0) return services;
  const more = onePerHost(
    exported.filter((service) => wanted.has(service.host)),
    namespace,
  );
  return [...services, ...more].sort((a, b) => compare(a.host, b.host));
}

/** Hosts that a VirtualService's routes and mirrors lead to, as full names. */
function destinationHosts({ spec, namespace }: VirtualServiceView): string[] {
  const routes = [...(spec.http ?? []), ...(spec.tcp ?? []), ...(spec.tls ?? [])];
  const mirrors = (spec.http ?? []).flatMap(({ mirror, mirrors = [] }) => [
    ...(mirror === undefined ? [] : [mirror]),
    ...mirrors.map((one) => one.destination),
  ]);
  const destinations = [...routes.flatMap(({ route = [] }) => route.map((one) => one.destination)), ...mirrors];
  return destinations.map(({ host }) => resolveHost(host, namespace));
}

function onePerHost(services: readonly ServiceView[], namespace: string): ServiceView[] {
  const byHost = new Map<string, ServiceView>();
  for (const service of services) {
    const known = byHost.get(service.host);
    if (known === undefined || (service.namespace === namespace && known.namespace !== namespace)) {
      byHost.set(service.host, service);
    }
  }
  return [...byHost.values()];
}

/** True when an object's sourceLabels and sourceNamespace admit the client. */
export function admitsSource(
  match: { readonly sourceLabels?: Readonly<Record<string, string>>; readonly sourceNamespace?: string },
  client: { readonly namespace: string; readonly labels: Readonly<Record<string, string>> },
): boolean {
  if (match.sourceNamespace !== undefined && match.sourceNamespace !== '' && match.sourceNamespace !== client.namespace)
    return false;
  return selects(match.sourceLabels, client.labels);
}
