import { type Merged, mergeDelegates } from './delegates.ts';
import { hostMatches, isExportedTo, resolveHost } from './host-names.ts';
import type { ObjectIndex, Typed } from './object-index.ts';
import type { Recall } from './recall.ts';
import type { VirtualServiceSpec } from './specs/virtual-service.ts';
import type { VirtualServiceView } from './view.ts';

/** The gateway that is every workload's own proxy. Any other is `NAMESPACE/NAME`. */
export const MESH_GATEWAY = 'mesh';

/** All VirtualServices that have hosts, oldest first, with their delegates' rules in place. */
export function virtualServiceViews(objects: ObjectIndex, recall: Recall): VirtualServiceView[] {
  const all = objects<VirtualServiceSpec>('VirtualService');
  const isDelegate = ({ spec }: { readonly spec: VirtualServiceSpec }) => (spec.hosts ?? []).length === 0;
  const delegates = new Map(all.filter(isDelegate).map((one) => [`${one.namespace}/${one.name}`, one]));
  return all
    .filter((one) => !isDelegate(one))
    .map((one) => {
      const roots = (one.spec.http ?? []).some((rule) => rule.delegate !== undefined);
      return recall.part('view', one, roots ? [...delegates.values()] : [], () =>
        viewOf(one, roots ? mergeDelegates(one, (name) => delegates.get(name)) : undefined),
      );
    });
}

function viewOf({ key, namespace, spec }: Typed<VirtualServiceSpec>, merged: Merged | undefined): VirtualServiceView {
  return {
    key,
    namespace,
    hosts: (spec.hosts ?? []).map((host) => resolveHost(host, namespace)),
    gateways: gatewayNames(spec.gateways, namespace),
    spec: merged === undefined ? spec : { ...spec, http: merged.http },
    ...(merged === undefined ? {} : { written: merged.written }),
    origins: [key, ...(merged?.delegates ?? [])],
  };
}

/** The gateways that a VirtualService's list means: `mesh` without one. */
export function gatewayNames(list: readonly string[] | undefined, namespace: string): readonly string[] {
  if (list === undefined || list.length === 0) return [MESH_GATEWAY];
  return list.map((name) => gatewayName(name, namespace));
}

/** `mesh`, or `NAMESPACE/NAME`. Written NAME, ./NAME, NAMESPACE/NAME, or as a service's full name in the old way. */
export function gatewayName(written: string, namespace: string): string {
  if (written === MESH_GATEWAY) return MESH_GATEWAY;
  const [first = '', second] = written.split('/');
  if (second !== undefined) return `${first === '.' ? namespace : first}/${second}`;
  const [name = '', home] = written.split('.');
  return `${home ?? namespace}/${name}`;
}

/**
 * The VirtualServices for one gateway (`mesh`: workloads' own proxies) that a client's namespace sees, in Istio's order of precedence: its
 * own that it keeps to itself, then what others export to it by name, then what everyone sees; each oldest first.
 */
export function visibleVirtualServices(
  list: readonly VirtualServiceView[],
  namespace: string,
  gateway: string = MESH_GATEWAY,
): readonly VirtualServiceView[] {
  const ranks: VirtualServiceView[][] = [[], [], []];
  for (const vs of list) {
    const { exportTo } = vs.spec;
    if (!vs.gateways.includes(gateway) || !isExportedTo(exportTo, vs.namespace, namespace)) continue;
    const everyone = exportTo === undefined || exportTo.length === 0 || exportTo.includes('*');
    ranks[everyone ? 2 : vs.namespace === namespace ? 0 : 1]?.push(vs);
  }
  return ranks.flat();
}

/**
 * Looks up the VirtualServices of a host in `list` (in order of precedence): those that name it, else those of the longest wildcard that
 * covers it, in that order. Of several, the first counts (Istio: for workloads of the mesh VirtualServices of one host are not merged).
 */
export function virtualServiceIndex(
  list: readonly VirtualServiceView[],
): (host: string) => readonly VirtualServiceView[] {
  const byHost = new Map<string, VirtualServiceView[]>();
  for (const one of list) {
    for (const host of new Set(one.hosts)) {
      const known = byHost.get(host);
      if (known === undefined) byHost.set(host, [one]);
      else known.push(one);
    }
  }
  const wildcards = [...byHost.keys()].filter((host) => host.startsWith('*')).sort((a, b) => b.length - a.length);
  return (host) => byHost.get(host) ?? byHost.get(wildcards.find((wild) => hostMatches(wild, host)) ?? '') ?? [];
}
