/**
 * Parts of a view that were made before: a view of hundreds of services, of which one changed, is made by making that one. In: what a part is
 * made of. Out: the part as it was, if that is the same. Must never change a result: a view built without recalling is the same.
 */

export interface Recall {
  /**
   * The value last made as `what` of `of`, if `inputs` are one by one the same (objects: the very same), else what `make` makes now. `make`
   * has to be a function of `of` and the inputs alone. An object as `of` is found as cheaply as an object can be, and never when it is another.
   */
  part<T>(what: string, of: object | string, inputs: readonly unknown[], make: () => T): T;
  /** The same for something that is itself made of parts, which are only asked for when it is made: `make` gets a memory of their own. */
  whole<T>(what: string, inputs: readonly unknown[], make: (recall: Recall) => T): T;
}

/** Makes everything anew. */
export const RECALL_NOTHING: Recall = {
  part: (_what, _of, _inputs, make) => make(),
  whole: (_what, _inputs, make) => make(RECALL_NOTHING),
};

interface Made {
  readonly inputs: readonly unknown[];
  readonly value: unknown;
}

interface Memory extends Recall {
  /** Forgets what was not asked for since the last call. */
  endOfView(): void;
}

/** A memory from one view to the next. */
export function createRecall(): Memory {
  type Store = Map<string, Map<object | string, Made>>;
  let before: Store = new Map();
  let now: Store = new Map();
  const wholes = new Map<string, { readonly made: Made; readonly parts: Memory }>();
  return {
    part<T>(what: string, of: object | string, inputs: readonly unknown[], make: () => T): T {
      const known = before.get(what)?.get(of);
      const made = known !== undefined && same(known.inputs, inputs) ? known : { inputs, value: make() };
      const store = now.get(what);
      if (store === undefined) now.set(what, new Map([[of, made]]));
      else store.set(of, made);
      return made.value as T;
    },
    whole<T>(what: string, inputs: readonly unknown[], make: (recall: Recall) => T): T {
      const known = wholes.get(what);
      if (known !== undefined && same(known.made.inputs, inputs)) return known.made.value as T;
      const parts = known?.parts ?? createRecall();
      const value = make(parts);
      parts.endOfView();
      wholes.set(what, { made: { inputs, value }, parts });
      return value;
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
