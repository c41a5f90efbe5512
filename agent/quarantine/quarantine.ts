/**
 * Which of the operators' objects this host holds back because Envoy refused what they became. In: verified config, Envoy's verdicts.
 * Out: the config to translate, with each held object at its last good version (or absent). One bad object must not stop the others, also
 * where several share a resource: suspects are tried one by one. Pure; the caller pushes, waits and reports. Must never: hold back an object
 * that Envoy was not shown to refuse.
 */
import type { MeshObject, ObjectKey } from '../../api/resources/object.ts';
import type { DesiredConfig } from '../../api/signed-config/desired-config.ts';

/** One object that Envoy refused in this very form; a changed object is tried again. */
export interface HeldObject {
  readonly key: ObjectKey;
  /** JSON text of the refused object. */
  readonly refused: string;
  /** What is translated in its place; null: nothing. */
  readonly lastGood: MeshObject | null;
  /** Resource and Envoy's words, for `describe`. */
  readonly typeUrl: string;
  readonly resource: string;
  readonly message: string;
}

export interface Refusal {
  readonly typeUrl: string;
  readonly resource: string;
  readonly origins: readonly ObjectKey[];
  readonly message: string;
}

export interface Quarantine {
  readonly held: ReadonlyMap<ObjectKey, HeldObject>;
  /** Suspects held back for now; the first is the next to be tried. */
  readonly suspects: readonly ObjectKey[];
  /** The suspect that is in the pushed config now. */
  readonly trying: ObjectKey | undefined;
}

export const EMPTY: Quarantine = { held: new Map(), suspects: [], trying: undefined };

/** The config to translate: held objects and waiting suspects at their last good version. `good` is the last config that Envoy took whole. */
export function effective(desired: DesiredConfig, state: Quarantine, good: DesiredConfig | undefined): DesiredConfig {
  const held = [...state.held.values()].filter((h) => textOf(desired, h.key) === h.refused);
  const waiting = state.suspects.filter((key) => key !== state.trying);
  if (held.length === 0 && waiting.length === 0) return desired;
  const objects = new Map(desired.objects);
  const replace = (key: ObjectKey, object: MeshObject | null | undefined) => {
    if (object === null || object === undefined) objects.delete(key);
    else objects.set(key, object);
  };
  for (const { key, lastGood } of held) replace(key, lastGood);
  for (const key of waiting) replace(key, good?.objects.get(key));
  return { ...desired, objects };
}

/**
 * Envoy's verdict on the config that `effective` gave: what it refused, or nothing. Returns the next state; when it differs from the old one
 * the caller translates and pushes again. New suspects are the changed objects behind a refused resource; one alone is held at once.
 */
export function judge(
  desired: DesiredConfig,
  state: Quarantine,
  good: DesiredConfig | undefined,
  refusals: readonly Refusal[],
): Quarantine {
  const held = new Map([...state.held].filter(([key, h]) => textOf(desired, key) === h.refused));
  const hold = (key: ObjectKey, refusal: Refusal) => {
    const refused = textOf(desired, key);
    if (refused === undefined) return;
    held.set(key, {
      key,
      refused,
      lastGood: good?.objects.get(key) ?? null,
      typeUrl: refusal.typeUrl,
      resource: refusal.resource,
      message: refusal.message,
    });
  };
  if (state.trying !== undefined) {
    const refusal = refusals.find((r) => r.origins.includes(state.trying as ObjectKey));
    if (refusal !== undefined) hold(state.trying, refusal);
    const rest = state.suspects.filter((key) => key !== state.trying && desired.objects.has(key));
    return { held, suspects: rest, trying: rest[0] };
  }
  const suspects = new Set<ObjectKey>();
  for (const refusal of refusals) {
    const changed = refusal.origins.filter((key) => !held.has(key) && isChanged(desired, good, key));
    if (changed.length === 1) hold(changed[0] as ObjectKey, refusal);
    else for (const key of changed) suspects.add(key);
  }
  const waiting = [...suspects].filter((key) => !held.has(key)).sort();
  return { held, suspects: waiting, trying: waiting[0] };
}

/** True when both states lead to the same pushed config. */
export function sameQuarantine(a: Quarantine, b: Quarantine): boolean {
  const text = (q: Quarantine) =>
    JSON.stringify([[...q.held].map(([key, h]) => [key, h.refused]).sort(), q.suspects, q.trying]);
  return text(a) === text(b);
}

function textOf(config: DesiredConfig | undefined, key: ObjectKey): string | undefined {
  const object = config?.objects.get(key);
  return object === undefined ? undefined : JSON.stringify(object);
}

function isChanged(desired: DesiredConfig, good: DesiredConfig | undefined, key: ObjectKey): boolean {
  const now = textOf(desired, key);
  return now !== undefined && now !== textOf(good, key);
}
