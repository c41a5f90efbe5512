import { keyOf, type MeshObject, type ObjectKey } from '../../api/resources/object.ts';
import { RECALL_NOTHING, type Recall } from './recall.ts';

/** One operator object with its spec typed, its namespace filled in and its key. */
export interface Typed<Spec> {
  readonly key: ObjectKey;
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly spec: Spec;
}

/** Objects of a kind, oldest first: where two objects contradict each other, Istio lets the older win (then by namespace and name). */
export type ObjectIndex = <Spec>(kind: string) => readonly Typed<Spec>[];

/** Sorts the objects of a config by kind once. Objects without a spec count as an empty spec. The same objects of a kind: the same list. */
export function indexObjects(
  objects: ReadonlyMap<ObjectKey, MeshObject>,
  recall: Recall = RECALL_NOTHING,
): ObjectIndex {
  const byKind = new Map<string, MeshObject[]>();
  for (const object of objects.values()) {
    const list = byKind.get(object.kind);
    if (list === undefined) byKind.set(object.kind, [object]);
    else list.push(object);
  }
  const sorted = new Map<string, readonly Typed<unknown>[]>();
  for (const [kind, list] of byKind)
    sorted.set(
      kind,
      recall.part('objects', kind, list, () => list.toSorted(older).map(typed)),
    );
  return <Spec>(kind: string) => (sorted.get(kind) ?? NONE) as readonly Typed<Spec>[];
}

const NONE: readonly Typed<unknown>[] = [];

/** By the object itself, which nobody changes: an unchanged one stays the same from config to config. */
const TYPED = new WeakMap<MeshObject, Typed<unknown>>();

function typed(object: MeshObject): Typed<unknown> {
  const known = TYPED.get(object);
  if (known !== undefined) return known;
  const made = {
    key: keyOf(object),
    name: object.metadata.name,
    namespace: object.metadata.namespace ?? '',
    labels: object.metadata.labels ?? {},
    annotations: object.metadata.annotations ?? {},
    spec: object.spec ?? {},
  };
  TYPED.set(object, made);
  return made;
}

function older(a: MeshObject, b: MeshObject): number {
  return (
    compare(a.metadata.creationTimestamp ?? '', b.metadata.creationTimestamp ?? '') ||
    compare(a.metadata.namespace ?? '', b.metadata.namespace ?? '') ||
    compare(a.metadata.name, b.metadata.name)
  );
}

/** Order of strings by code unit: the same on every machine, whatever its locale. */
export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** True when `labels` has every pair of `selector`. An empty selector selects everything. */
export function selects(
  selector: Readonly<Record<string, string>> | undefined,
  labels: Readonly<Record<string, string>>,
): boolean {
  return Object.entries(selector ?? {}).every(([key, value]) => labels[key] === value);
}
