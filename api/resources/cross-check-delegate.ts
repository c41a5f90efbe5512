import { perMesh } from './analysis/model.ts';
import type { MeshLookup } from './cross-check.ts';
import { type ExportDefaults, exportDefaults, exportToOf } from './export-to.ts';
import type { MeshObject } from './object.ts';
import type { Report } from './report.ts';

interface Rule {
  readonly delegate?: { readonly name?: string; readonly namespace?: string };
}

interface Spec {
  readonly hosts?: readonly string[];
  readonly http?: readonly Rule[];
}

const namespaceOf = (object: MeshObject): string => object.metadata.namespace ?? '';
const specOf = (object: MeshObject): Spec => (object.spec ?? {}) as Spec;
const isDelegate = (object: MeshObject): boolean => (specOf(object).hosts ?? []).length === 0;
const nameOf = (object: MeshObject): string => `${namespaceOf(object)}/${object.metadata.name}`;

/** `NAMESPACE/NAME` of the VirtualService that a rule of `object` delegates to. */
function delegateOf(rule: Rule, object: MeshObject): string | undefined {
  if (rule.delegate === undefined) return undefined;
  return `${rule.delegate.namespace || namespaceOf(object)}/${rule.delegate.name ?? ''}`;
}

/** Warnings about delegation: rules whose delegate is not there, has hosts or is not exported to their namespace; delegates that nobody uses. */
export function checkDelegation(object: MeshObject, lookup: MeshLookup, report: Report): void {
  const delegating = (specOf(object).http ?? []).some((rule) => rule.delegate !== undefined);
  if (!delegating && !isDelegate(object)) return;
  const { byName, delegated, defaults } = delegation(lookup);
  for (const [i, rule] of (specOf(object).http ?? []).entries()) {
    const name = delegateOf(rule, object);
    if (name === undefined) continue;
    lookup.step?.();
    const fault = unusable(name === nameOf(object) ? undefined : byName.get(name), namespaceOf(object), defaults);
    if (fault !== undefined)
      report.warn(`spec.http[${i}].delegate`, `VirtualService ${name} ${fault}: the rule has no effect`);
  }
  if (!isDelegate(object)) return;
  if (!delegated.has(nameOf(object)))
    report.warn('spec.hosts', 'is empty, which makes it a delegate, but no VirtualService delegates to it');
}

/** VirtualServices by name, and the names that rules of those with hosts delegate to. */
const delegation = perMesh((lookup: MeshLookup) => {
  const all = [...lookup.list('VirtualService')];
  const delegated = new Set<string>();
  for (const root of all) {
    const rules = isDelegate(root) ? [] : (specOf(root).http ?? []);
    lookup.step?.(rules.length);
    for (const rule of rules) {
      const name = delegateOf(rule, root);
      if (name !== undefined) delegated.add(name);
    }
  }
  const [meshConfig] = [...lookup.list('MeshConfig')];
  return { byName: new Map(all.map((one) => [nameOf(one), one])), delegated, defaults: exportDefaults(meshConfig) };
});

function unusable(delegate: MeshObject | undefined, namespace: string, defaults: ExportDefaults): string | undefined {
  if (delegate === undefined) return 'is not known';
  if (!isDelegate(delegate)) return 'has hosts, so it is no delegate';
  const exportTo = exportToOf(delegate, defaults);
  const own = namespaceOf(delegate) === namespace;
  const exported =
    exportTo.length === 0 || exportTo.some((to) => to === '*' || to === namespace || (to === '.' && own));
  return exported ? undefined : `is not exported to ${namespace}`;
}
