import { setImmediate } from 'node:timers/promises';
import { createBudget, isOverBudget, type Step, UNBOUNDED } from '../../api/resources/analysis/budget.ts';
import type { Finding } from '../../api/resources/analysis/finding.ts';
import { admittedBy } from '../../api/resources/cross-check-gateway.ts';
import { type ExportDefaults, exportToOf } from '../../api/resources/export-to.ts';
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

export type Look = (object: MeshObject) => readonly Finding[];

/**
 * Looks at one object after the other within ADVICE_LIMITS; others get their turn after each slice. `prepare` makes the look, within the same
 * time; both call `step` before what they do (budget.ts), so that neither a mesh nor an object holds up everybody, and throw nothing else.
 */
export async function adviseWithin(
  objects: readonly MeshObject[],
  prepare: (step: Step) => Look,
  clock: Pick<Clock, 'monotonic'>,
): Promise<Advice> {
  const warnings = new Map<string, readonly Warning[]>();
  const begun = clock.monotonic();
  const expired = () => clock.monotonic() - begun >= ADVICE_LIMITS.totalMs;
  const budget = createBudget(expired);
  const note = (count: number, ...more: string[]) => {
    const said = count === 0 ? more : [`${count} of ${objects.length} objects were ${UNSEEN}`, ...more];
    return said.length === 0 ? undefined : [...said, ALL].join('; ');
  };
  const unseen = (count: number): Advice => (count === 0 ? { warnings } : { warnings, note: note(count) });
  const look = bounded(() => prepare(budget.step));
  if (look === undefined) return unseen(objects.length);
  let resumed = begun;
  let left: number = ADVICE_LIMITS.warnings;
  let skipped = 0;
  for (const [i, object] of objects.entries()) {
    if (expired()) return unseen(skipped + objects.length - i);
    if (clock.monotonic() - resumed >= ADVICE_LIMITS.sliceMs) {
      await setImmediate();
      resumed = clock.monotonic();
    }
    budget.renew();
    const found = bounded(() => look(object).map(({ path, message, code }) => ({ path, message, code })));
    if (found === undefined) {
      skipped += 1;
      continue;
    }
    if (found.length > 0) warnings.set(keyOf(object), found.slice(0, left));
    left -= found.length;
    if (left < 0) return { warnings, note: note(skipped, MANY) };
  }
  return unseen(skipped);
}

/** Undefined: over budget. */
function bounded<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (isOverBudget(error)) return undefined;
    throw error;
  }
}

/** Whether a principal may know of objects that it does not push: it could read them by the same API. */
export function mayRead({ verbs }: Pick<Principal, 'verbs'>): boolean {
  return verbs === undefined || (verbs.includes('get') && verbs.includes('list'));
}

/** Whether a principal may know which Secrets a namespace has. The root namespace's are nobody else's. */
export function mayKnowSecretsOf(
  principal: Pick<Principal, 'role' | 'namespaces' | 'verbs'>,
  namespace: string,
): boolean {
  return mayRead(principal) && (principal.role === 'admin' || principal.namespaces.includes(namespace));
}

/** Kinds that others may know of: what they export. */
const EXPORTED = ['Service', 'ServiceEntry', 'VirtualService', 'DestinationRule'];

/**
 * What a principal may be told of: everything to an admin, else its own namespaces' objects, the root namespace's, and what others export
 * or share: a Gateway with those whose VirtualServices it takes. `defaults`: MeshConfig's. Findings name objects, and nobody is to learn by a push what it may not read; what is left out is as if it were not there.
 */
export function mayHearOf(
  { role, namespaces }: Pick<Principal, 'role' | 'namespaces'>,
  defaults: ExportDefaults,
  step: Step = UNBOUNDED,
): (object: MeshObject) => boolean {
  const own = new Set(namespaces);
  return (object) => {
    const { kind, metadata } = object;
    const namespace = metadata.namespace ?? '';
    if (role === 'admin' || own.has(namespace)) return true;
    if (kind === 'Secret') return false;
    if (kind === 'Gateway') return takesFrom(object, own, step);
    if (namespace === ROOT_NAMESPACE || namespace === '') return true;
    if (kind === 'WorkloadGroup') return metadata.annotations?.[GATEWAY_ANNOTATION] !== undefined;
    if (!EXPORTED.includes(kind)) return false;
    const exportTo = exportToOf(object, defaults);
    step(exportTo.length);
    return exportTo.length === 0 || exportTo.some((to) => to === '*' || own.has(to));
  };
}

/** Whether a server of the Gateway takes VirtualServices of one of the namespaces. */
function takesFrom({ metadata, spec }: MeshObject, namespaces: ReadonlySet<string>, step: Step): boolean {
  const { servers = [] } = (spec ?? {}) as { readonly servers?: readonly { readonly hosts?: readonly string[] }[] };
  return servers.some(({ hosts = [] }) =>
    hosts.some((host) => {
      step();
      const from = admittedBy(host, metadata.namespace ?? '');
      return from === undefined || namespaces.has(from);
    }),
  );
}

const UNSEEN = 'stored without a look at what they do beside the rest of the mesh';
const MANY = `more than ${ADVICE_LIMITS.warnings} warnings: the rest is left out`;
const ALL = 'meshctl analyze tells all';
