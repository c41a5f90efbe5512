import type { ObjectKey } from '../../api/resources/object.ts';
import { ROOT_NAMESPACE } from '../../api/resources/registry.ts';
import { type ObjectIndex, selects, type Typed } from './object-index.ts';
import type { PeerAuthenticationSpec } from './specs/security.ts';
import type { MtlsMode } from './view.ts';

/** Which mTLS mode holds for each port of a workload, and the policies that say so. */
export interface EffectiveMtls {
  modeOf(port: number): MtlsMode;
  readonly origins: readonly ObjectKey[];
}

/** Effective modes by workload: asked once for each WorkloadGroup and for each local workload. */
export type MtlsLookup = (namespace: string, labels: Readonly<Record<string, string>>) => EffectiveMtls;

/**
 * PeerAuthentication as Istio has it: the workload's own policy, else the namespace's, else the mesh's (root namespace), each level's
 * oldest; UNSET inherits from the level above; PERMISSIVE when nothing says. portLevelMtls counts in workload policies only.
 */
export function mtlsLookup(objects: ObjectIndex): MtlsLookup {
  const all = objects<PeerAuthenticationSpec>('PeerAuthentication');
  const hasSelector = (policy: Typed<PeerAuthenticationSpec>) =>
    Object.keys(policy.spec.selector?.matchLabels ?? {}).length > 0;
  const whole = (namespace: string) => all.find((policy) => policy.namespace === namespace && !hasSelector(policy));
  const mesh = whole(ROOT_NAMESPACE);
  return (namespace, labels) => {
    const own = namespace === ROOT_NAMESPACE ? undefined : whole(namespace);
    const workload =
      namespace === ROOT_NAMESPACE
        ? undefined
        : all.find(
            (policy) =>
              policy.namespace === namespace &&
              hasSelector(policy) &&
              selects(policy.spec.selector?.matchLabels, labels),
          );
    const base = [mesh, own, workload].reduce<MtlsMode>(
      (mode, policy) => set(policy?.spec.mtls?.mode) ?? mode,
      'PERMISSIVE',
    );
    const ports = workload?.spec.portLevelMtls ?? {};
    return {
      modeOf: (port) => set(ports[String(port)]?.mode) ?? base,
      origins: [mesh, own, workload].flatMap((policy) => (policy === undefined ? [] : [policy.key])).sort(),
    };
  };
}

function set(mode: string | undefined): MtlsMode | undefined {
  return mode === 'DISABLE' || mode === 'PERMISSIVE' || mode === 'STRICT' ? mode : undefined;
}
