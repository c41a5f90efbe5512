import { perMesh } from './analysis/model.ts';
import type { MeshLookup } from './cross-check.ts';
import { HostSet } from './host-set.ts';
import type { MeshObject } from './object.ts';
import { ROOT_NAMESPACE } from './registry.ts';
import type { Report } from './report.ts';
import type { SidecarSpec } from './semantics/sidecar.ts';

interface Labelled {
  readonly metadata?: { readonly labels?: Readonly<Record<string, string>> };
  readonly template?: { readonly labels?: Readonly<Record<string, string>> };
}

const namespaceOf = (object: MeshObject): string => object.metadata.namespace ?? '';
const labelsOf = (object: MeshObject): readonly (readonly [string, string])[] =>
  Object.entries((object.spec as SidecarSpec | undefined)?.workloadSelector?.labels ?? {});

/** Warnings about a Sidecar beside the rest of the mesh: imports of nothing, labels of nobody, a second one for the same workloads. */
export function checkSidecarBeside(object: MeshObject, lookup: MeshLookup, report: Report): void {
  const spec = (object.spec ?? {}) as SidecarSpec;
  const known = hostsKnown(lookup);
  for (const [i, listener] of (spec.egress ?? []).entries()) {
    for (const [k, text] of (listener.hosts ?? []).entries()) {
      const [where = '', pattern = ''] = text.split('/');
      if (where === '~') continue;
      const namespace = where === '.' ? namespaceOf(object) : where;
      lookup.step?.();
      if (known.get(namespace)?.hasWithin(pattern) !== true)
        report.warn(`spec.egress[${i}].hosts[${k}]`, `${text} imports nothing: no service there has such a host`);
    }
  }
  for (const [i, { port, tls }] of (spec.ingress ?? []).entries()) {
    if (tls === undefined || tls.mode === 'PASSTHROUGH' || withoutMtls(port?.number ?? 0, namespaceOf(object), lookup))
      continue;
    const why = `counts only where a PeerAuthentication says DISABLE for the port; none does for ${port?.number}`;
    report.warn(`spec.ingress[${i}].tls`, why);
  }
  checkSelected(object, lookup, report);
}

/** Whether any PeerAuthentication that may concern the port switches mTLS off for it. */
function withoutMtls(port: number, namespace: string, lookup: MeshLookup): boolean {
  for (const policy of lookup.list('PeerAuthentication')) {
    const spec = (policy.spec ?? {}) as {
      readonly mtls?: { readonly mode?: string };
      readonly portLevelMtls?: Readonly<Record<string, { readonly mode?: string }>>;
    };
    if (![namespace, ROOT_NAMESPACE].includes(namespaceOf(policy))) continue;
    if ((spec.portLevelMtls?.[String(port)]?.mode ?? spec.mtls?.mode) === 'DISABLE') return true;
  }
  return false;
}

function checkSelected(object: MeshObject, lookup: MeshLookup, report: Report): void {
  const labels = labelsOf(object);
  if (labels.length === 0) {
    for (const other of lookup.list('Sidecar')) {
      const same = namespaceOf(other) === namespaceOf(object) && other.metadata.name !== object.metadata.name;
      if (same && labelsOf(other).length === 0)
        report.warn('spec', `Sidecar ${other.metadata.name} is for the whole namespace too: only the older one counts`);
    }
    return;
  }
  for (const group of lookup.list('WorkloadGroup')) {
    const spec = group.spec as Labelled | undefined;
    lookup.step?.(1 + labels.length);
    const own: Readonly<Record<string, string>> = { ...spec?.metadata?.labels, ...spec?.template?.labels };
    if (namespaceOf(group) === namespaceOf(object) && labels.every(([key, value]) => own[key] === value)) return;
  }
  report.warn('spec.workloadSelector.labels', 'no WorkloadGroup of the namespace has these labels');
}

/** By namespace, and those of all as `*`. */
const hostsKnown = perMesh((lookup: MeshLookup) => {
  const all = [...knownHosts(lookup)];
  lookup.step?.(all.length);
  const found = new Map<string, HostSet>();
  for (const [namespace, hosts] of Map.groupBy(all, (one) => one.namespace))
    found.set(namespace, new HostSet(hosts.map(({ host }) => host)));
  return found.set('*', new HostSet(all.map(({ host }) => host)));
});

function* knownHosts(lookup: MeshLookup): Generator<{ readonly namespace: string; readonly host: string }> {
  for (const service of lookup.list('Service')) {
    const namespace = namespaceOf(service);
    yield { namespace, host: `${service.metadata.name}.${namespace}.svc.cluster.local` };
  }
  for (const entry of lookup.list('ServiceEntry')) {
    const spec = entry.spec as { readonly hosts?: readonly string[] } | undefined;
    for (const host of spec?.hosts ?? []) yield { namespace: namespaceOf(entry), host: host.toLowerCase() };
  }
}
