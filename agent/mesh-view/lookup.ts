import { type EffectiveRule, effectiveRule, ruleVariant } from './destination-rules.ts';
import { isExportedTo, mostSpecific } from './host-names.ts';
import { selects } from './object-index.ts';
import type { MeshView, ServiceView, VirtualServiceView } from './view.ts';
import { MESH_GATEWAY, virtualServiceIndex } from './virtual-services.ts';

export type { EffectiveRule } from './destination-rules.ts';

/** What a client in `namespace` sees of the mesh. Lookups are memoised: make one for each namespace and view. */
export interface ClientView {
  readonly namespace: string;
  /** Visible services, one for each host: the client's own namespace's where several define it, else the first by namespace. By host. */
  readonly services: readonly ServiceView[];
  /** The service of a host, exact name first, then the longest wildcard. */
  service(host: string): ServiceView | undefined;
  /** VirtualServices of this host for the mesh: those of the most specific host that covers it, oldest first; the oldest counts. */
  virtualServicesFor(host: string): readonly VirtualServiceView[];
  /** All of them for the mesh that this client sees, oldest first. */
  readonly virtualServices: readonly VirtualServiceView[];
  /** Effective DestinationRule of a service. */
  destinationRule(service: ServiceView): EffectiveRule | undefined;
  /**
   * Empty where this client sees the service as its own namespace does; else a suffix that keeps the names of what is made for this
   * client's namespace alone apart (a private DestinationRule, a second definition of a host).
   */
  variant(service: ServiceView): string;
}

/** `labels`: the calling workload's, for rules with a workloadSelector; without them none of these applies. */
export function clientView(view: MeshView, namespace: string, labels?: Readonly<Record<string, string>>): ClientView {
  const services = visibleServices(view, namespace);
  const byHost = new Map(services.map((service) => [service.host, service]));
  const wildcards = services.map((service) => service.host).filter((host) => host.startsWith('*'));
  const visible = view.virtualServices.filter(
    (vs) => vs.gateways.includes(MESH_GATEWAY) && isExportedTo(vs.spec.exportTo, vs.namespace, namespace),
  );
  const rules = new Map<ServiceView, EffectiveRule | undefined>();
  const variants = new Map<ServiceView, string>();
  const first = new Map<string, ServiceView>();
  for (const service of view.services) if (!first.has(service.host)) first.set(service.host, service);
  return {
    namespace,
    services,
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
      const suffix = `${same ? '' : `~${namespace}`}${ruleVariant(rule, { namespace, labels })}`;
      variants.set(service, suffix);
      return suffix;
    },
  };
}

function visibleServices(view: MeshView, namespace: string): ServiceView[] {
  const byHost = new Map<string, ServiceView>();
  for (const service of view.services) {
    if (!isExportedTo(service.exportTo, service.namespace, namespace)) continue;
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
