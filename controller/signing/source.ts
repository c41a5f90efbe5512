/** The store's rows, kept as the two maps that are signed. In: rows and changes. Out: `policy`, `state` and address changes. No IO. */
import { errorLine } from '../../api/errors.ts';
import type { MeshObject } from '../../api/resources/object.ts';
import { applyDelta, type Content, emptyContent } from '../../api/signed-config/content.ts';
import type { Vip } from '../../api/signed-config/desired-config.ts';
import { CONTENT_ROLES, type ContentRole, MESH_KEY, type MeshRow, VIP_PREFIX } from '../../api/signed-config/layout.ts';
import { INTERNAL_PREFIX } from '../store/store.ts';
import { entriesOf, ROOT_ROWS, TARGETS_ROW, VIP_ROWS, vipNamesOf } from './snapshot.ts';
import { allocateVips, createVips, type VipRow } from './vips.ts';

/** One row of the store; `value` undefined: deleted. */
export interface SourceRow {
  readonly key: string;
  readonly value: string | undefined;
}

export interface Draft {
  readonly contents: Readonly<Record<ContentRole, Content>>;
  /** Address rows to write together with the generation that shows them. */
  readonly vipChanges: ReadonlyMap<string, VipRow | undefined>;
  /** One line each: rows that cannot be signed, names without an address. */
  readonly problems: readonly string[];
}

export interface Source {
  /** True when something that is signed may have changed. */
  apply(rows: readonly SourceRow[]): boolean;
  /** What to sign now; `now` in ms decides which released addresses are free again. */
  draft(now: number): Draft;
  /** Texts of the roots by version, and of targets. */
  roots(): readonly string[];
  targets(): string | undefined;
}

export function createSource(mesh: MeshRow): Source {
  const contents: Record<ContentRole, Content> = {
    policy: applyDelta('policy', emptyContent, { set: { [MESH_KEY]: mesh }, delete: [] }),
    state: emptyContent,
  };
  const vipRows = new Map<string, VipRow>();
  const vipNames = new Map<string, readonly string[]>();
  const vipOf = createVips(mesh.trustDomain);
  const roots = new Map<number, string>();
  const broken = new Map<string, string>();
  let targets: string | undefined;

  const applySigning = (row: SourceRow): boolean => {
    const text = row.value === undefined ? undefined : (JSON.parse(row.value) as { text: string }).text;
    if (row.key === TARGETS_ROW) targets = text;
    else if (text !== undefined) roots.set(Number(row.key.slice(ROOT_ROWS.length)), text);
    return true;
  };
  const applyVip = (row: SourceRow): boolean => {
    const name = row.key.slice(VIP_ROWS.length);
    if (row.value === undefined) vipRows.delete(name);
    else vipRows.set(name, JSON.parse(row.value) as VipRow);
    return false;
  };
  const collect = (row: SourceRow, deltas: Deltas): boolean => {
    broken.delete(row.key);
    try {
      const entries = entriesOf(row.key, row.value);
      for (const { role, key, value } of entries) {
        delete deltas[role].set[key];
        deltas[role].delete.delete(key);
        if (value === undefined) deltas[role].delete.add(key);
        else deltas[role].set[key] = value;
      }
      if (!row.key.startsWith(INTERNAL_PREFIX)) {
        if (row.value === undefined) vipNames.delete(row.key);
        else vipNames.set(row.key, vipNamesOf(JSON.parse(row.value) as MeshObject));
      }
      return entries.length > 0;
    } catch (error) {
      // One row that cannot be signed must not hold up the others; what was signed of it before stays.
      broken.set(row.key, `${row.key} cannot be signed: ${errorLine(error)}`);
      return false;
    }
  };
  return {
    apply(rows) {
      const deltas: Deltas = { policy: { set: {}, delete: new Set() }, state: { set: {}, delete: new Set() } };
      let changed = false;
      for (const row of rows) {
        if (row.key === TARGETS_ROW || row.key.startsWith(ROOT_ROWS)) changed = applySigning(row) || changed;
        else if (row.key.startsWith(VIP_ROWS)) changed = applyVip(row) || changed;
        else changed = collect(row, deltas) || changed;
      }
      for (const role of CONTENT_ROLES) {
        const delta = { set: deltas[role].set, delete: [...deltas[role].delete] };
        contents[role] = applyDelta(role, contents[role], delta);
      }
      return changed;
    },
    draft(now) {
      const wanted = new Set([...vipNames.values()].flat());
      const { changes, refused } = allocateVips(vipRows, wanted, now);
      const after = new Map(vipRows);
      for (const [name, row] of changes) row === undefined ? after.delete(name) : after.set(name, row);
      const state = withVips(contents.state, after, vipOf);
      contents.state = state;
      return {
        contents: { policy: contents.policy, state },
        vipChanges: changes,
        problems: [...broken.values(), ...refused.map((name) => `${name}: no address is left in 240.240.0.0/16`)],
      };
    },
    roots: () => [...roots.entries()].sort(([a], [b]) => a - b).map(([, text]) => text),
    targets: () => targets,
  };
}

type Deltas = Record<ContentRole, { set: Record<string, unknown>; delete: Set<string> }>;

/** `state` with exactly the addresses of the rows that are in use. */
function withVips(state: Content, rows: ReadonlyMap<string, VipRow>, vipOf: (index: number) => Vip): Content {
  const set: Record<string, unknown> = {};
  const gone = new Set([...state.values.keys()].filter((key) => key.startsWith(VIP_PREFIX)));
  for (const [name, row] of rows) {
    if (row.releasedAt !== undefined) continue;
    const key = `${VIP_PREFIX}${name}`;
    const vip = vipOf(row.index);
    gone.delete(key);
    if ((state.values.get(key) as { v4?: string } | undefined)?.v4 !== vip.v4) set[key] = vip;
  }
  return applyDelta('state', state, { set, delete: [...gone] });
}
