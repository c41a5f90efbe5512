import { setImmediate } from 'node:timers/promises';
import type { Finding } from '../../api/resources/analysis/finding.ts';
import { keyOf, type MeshObject } from '../../api/resources/object.ts';
import type { Warning } from '../../api/resources/validate.ts';
import type { Clock } from '../../runtime/clock.ts';

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

const UNSEEN = 'stored without a look at what they do beside the rest of the mesh';
const ALL = 'meshctl analyze tells all';
