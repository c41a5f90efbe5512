/**
 * Parts of a view that were made before: a view of hundreds of services, of which one changed, is made by making that one. In: what a part is
 * made of. Out: the part as it was, if that is the same. Must never change a result: a view built without recalling is the same.
 */

/**
 * The value last made under `key`, if `inputs` are one by one the same (objects: the very same), else what `make` makes now. `make` has to be
 * a function of the inputs alone. Strings serve for what is made anew each time and mostly says the same.
 */
export type Recall = <T>(key: string, inputs: readonly unknown[], make: () => T) => T;

/** Makes everything anew. */
export const RECALL_NOTHING: Recall = (_key, _inputs, make) => make();

/** A memory from one view to the next; `endOfView` forgets what the view did not ask for. */
export function createRecall(): { readonly recall: Recall; endOfView(): void } {
  type Made = { readonly inputs: readonly unknown[]; readonly value: unknown };
  let before = new Map<string, Made>();
  let now = new Map<string, Made>();
  return {
    recall<T>(key: string, inputs: readonly unknown[], make: () => T): T {
      const known = before.get(key);
      const same =
        known !== undefined &&
        known.inputs.length === inputs.length &&
        inputs.every((input, i) => Object.is(input, known.inputs[i]));
      const made = same ? known : { inputs, value: make() };
      now.set(key, made);
      return made.value as T;
    },
    endOfView() {
      before = now;
      now = new Map();
    },
  };
}
