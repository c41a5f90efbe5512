import type { Store } from './store.ts';

/** The controller's own rows (internal-rows.ts) on a store; the shape that ca/ and publish/ take. */
export interface StoreRows {
  get<T>(key: string): Promise<{ readonly row: T; readonly revision: number } | undefined>;
  /** All or none; false when one of the revisions is not the current one (0: absent). `row` undefined deletes. */
  commit(
    writes: readonly { readonly key: string; readonly row: unknown; readonly ifRevision: number }[],
  ): Promise<boolean>;
}

/** `onCommit` hears the revision of every write, as REST's does: grants and revocations are signed like objects. */
export function createStoreRows(store: Store, onCommit: (revision: number) => void = () => {}): StoreRows {
  return {
    async get<T>(key: string) {
      const entry = await store.get(key);
      return entry === undefined ? undefined : { row: JSON.parse(entry.value) as T, revision: entry.revision };
    },
    async commit(writes) {
      const result = await store.commit(
        writes.map(({ key, row, ifRevision }) => ({
          key,
          value: row === undefined ? null : JSON.stringify(row),
          ifRevision,
        })),
      );
      if (result.ok) onCommit(result.revision);
      return result.ok;
    },
  };
}
