/**
 * Parts of a view that were made before: a view of hundreds of services, of which one changed, is made by making that one. In: what a part is
 * made of. Out: the part as it was, if that is the same. Must never change a result: a view built without recalling is the same.
 */

/**
 * The value last made as `what` of `of`, if `inputs` are one by one the same (objects: the very same), else what `make` makes now. `make` has
 * to be a function of `of` and the inputs alone. An object as `of` is found as cheaply as an object can be, and never when it is another.
 */
export type Recall = <T>(what: string, of: object | string, inputs: readonly unknown[], make: () => T) => T;

/** Makes everything anew. */
export const RECALL_NOTHING: Recall = (_what, _of, _inputs, make) => make();

interface Made {
  readonly inputs: readonly unknown[];
  readonly value: unknown;
}

type Store = Map<string, Map<object | string, Made>>;

/** A memory from one view to the next; `endOfView` forgets what the view did not ask for. */
export function createRecall(): { readonly recall: Recall; endOfView(): void } {
  let before: Store = new Map();
  let now: Store = new Map();
  return {
    recall<T>(what: string, of: object | string, inputs: readonly unknown[], make: () => T): T {
      const known = before.get(what)?.get(of);
      const made = known !== undefined && same(known.inputs, inputs) ? known : { inputs, value: make() };
      let store = now.get(what);
      if (store === undefined) {
        store = new Map();
        now.set(what, store);
      }
      store.set(of, made);
      return made.value as T;
    },
    endOfView() {
      before = now;
      now = new Map();
    },
  };
}

function same(a: readonly unknown[], b: readonly unknown[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (!Object.is(a[i], b[i])) return false;
  return true;
}
