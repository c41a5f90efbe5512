import { setImmediate } from 'node:timers/promises';
import type { Finding } from '../../api/resources/analysis/finding.ts';
import { isVisible } from '../../api/resources/analysis/model.ts';
import { GATEWAY_ANNOTATION } from '../../api/resources/gateway-binding.ts';
import { keyOf, type MeshObject } from '../../api/resources/object.ts';
import { ROOT_NAMESPACE } from '../../api/resources/registry.ts';
import type { Warning } from '../../api/resources/validate.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Principal } from './principals.ts';

/** What is odd about pushed objects beside the rest of the mesh. */
export interface Advice {
  /** By object key; objects that nothing warns of are absent. */
  readonly warnings: ReadonlyMap<string, readonly Warning[]>;
  /** What is missing in `warnings`, one line. */
  readonly note?: string;
}

/** A push is stored already when this begins: its answer must not wait long for it, nor everybody else. */
export const ADVICE_LIMITS = { totalMs: 250, sliceMs: 25, warnings: 200 } as const;

/** Looks at one object after the other within ADVICE_LIMITS; others get their turn after each slice. `look` must not throw. */
export async function adviseWithin(
  objects: readonly MeshObject[],
  look: (object: MeshObject) => readonly Finding[],
  clock: Pick<Clock, 'monotonic'>,
): Promise<Advice> {
  const warnings = new Map<string, readonly Warning[]>();
  const begun = clock.monotonic();
  let resumed = begun;
  let left: number = ADVICE_LIMITS.warnings;
  for (const [i, object] of objects.entries()) {
    const now = clock.monotonic();
    if (now - begun >= ADVICE_LIMITS.totalMs)
      return { warnings, note: `${objects.length - i} of ${objects.length} objects were ${UNSEEN}; ${ALL}` };
    if (now - resumed >= ADVICE_LIMITS.sliceMs) {
      await setImmediate();
      resumed = clock.monotonic();
    }
    const found = look(object).map(({ path, message, code }) => ({ path, message, code }));
    if (found.length > 0) warnings.set(keyOf(object), found.slice(0, left));
    left -= found.length;
    if (left < 0)
      return { warnings, note: `more than ${ADVICE_LIMITS.warnings} warnings: the rest is left out; ${ALL}` };
  }
  return { warnings };
}

/** Kinds that others may know of: what they export, and the gateways that VirtualServices of all namespaces are bound to. */
const EXPORTED = ['Service', 'ServiceEntry', 'VirtualService', 'DestinationRule'];

/**
 * What a principal may be told of: everything to an admin, else its own namespaces' objects, the root namespace's, and what others export
 * or share. Findings name objects, and nobody is to learn by a push what it may not read; what is left out is as if it were not there.
 */
export function mayHearOf({
  role,
  namespaces,
}: Pick<Principal, 'role' | 'namespaces'>): (object: MeshObject) => boolean {
  return ({ kind, metadata, spec }) => {
    const namespace = metadata.namespace ?? '';
    if (role === 'admin' || [...namespaces, ROOT_NAMESPACE, ''].includes(namespace) || kind === 'Gateway') return true;
    if (kind === 'WorkloadGroup') return metadata.annotations?.[GATEWAY_ANNOTATION] !== undefined;
    if (!EXPORTED.includes(kind)) return false;
    const written = metadata.annotations?.['networking.istio.io/exportTo']?.split(',').map((one) => one.trim());
    const exportTo =
      (kind === 'Service' ? written : (spec as { exportTo?: readonly string[] } | undefined)?.exportTo) ?? [];
    return namespaces.some((to) => isVisible({ namespace, exportTo }, to));
  };
}

const UNSEEN = 'stored without a look at what they do beside the rest of the mesh';
const ALL = 'meshctl analyze tells all';
