import type { Rows } from '../../controller/ca/join-token.ts';

/** Rows in memory with revisions, and a hook that runs before each commit to provoke lost races. */
export function createMemoryRows(): Rows & {
  readonly all: Map<string, { row: unknown; revision: number }>;
  beforeCommit: () => void;
} {
  const all = new Map<string, { row: unknown; revision: number }>();
  let revision = 0;
  const rows = {
    all,
    beforeCommit: () => {},
    async get<T>(key: string) {
      return all.get(key) as { row: T; revision: number } | undefined;
    },
    async commit(writes: readonly { key: string; row: unknown; ifRevision: number }[]) {
      rows.beforeCommit();
      if (writes.some((w) => (all.get(w.key)?.revision ?? 0) !== w.ifRevision)) return false;
      revision += 1;
      for (const w of writes) all.set(w.key, { row: structuredClone(w.row), revision });
      return true;
    },
  };
  return rows;
}
