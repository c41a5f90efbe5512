import { diffContent } from './content.ts';
import { CONTENT_ROLES, type ContentRole } from './layout.ts';
import { type ChangeToWrite, encodeUpdateWith, type UpdateRequest } from './update.ts';
import { type Accepted, type TrustedState, versionsOf } from './verifier.ts';

/** Deltas start at most this many generations back; older askers get a full copy. */
export const HISTORY_GENERATIONS = 64;

/** The generations that a controller or an agent can serve deltas from. */
export interface History {
  /** The newest state; its predecessors stay as starting points. */
  push(state: TrustedState): void;
  latest(): TrustedState | undefined;
  /** Text of what the asker lacks; undefined when it has everything. The same text is made once for all who ask from the same point. */
  updateFor(request: UpdateRequest): string | undefined;
}

export function createHistory(): History {
  const generations = new Map<number, Accepted>();
  let newest: TrustedState | undefined;
  let made = new Map<string, string>();
  return {
    push(state) {
      newest = state;
      made = new Map();
      if (state.accepted === undefined) return;
      // Insertion order is age; a generation that comes again after keys were changed is the later one.
      generations.delete(state.accepted.generation);
      generations.set(state.accepted.generation, state.accepted);
      for (const old of [...generations.keys()].slice(0, -HISTORY_GENERATIONS)) generations.delete(old);
    },
    latest: () => newest,
    updateFor(request) {
      if (newest?.accepted === undefined || newest.timestamp === undefined) return undefined;
      const has = versionsOf(newest);
      // An asker that is ahead (of a replica that lags) is told nothing rather than something it must refuse.
      const ahead = request.timestamp > has.timestamp && request.generation !== 0;
      const same = request.generation === has.generation && request.timestamp === has.timestamp;
      if (request.root >= has.root && (ahead || same)) return undefined;
      const base = generations.get(request.generation);
      const key = `${Math.min(request.root, has.root)}/${base?.generation ?? 0}`;
      const text = made.get(key) ?? textOf(newest, newest.accepted, request.root, base);
      if (made.size < 2 * HISTORY_GENERATIONS) made.set(key, text);
      return text;
    },
  };
}

/** Text of `state` as one update that needs nothing else: for a new host, and for the disk. */
export function fullUpdate(state: TrustedState): string | undefined {
  return state.accepted === undefined ? undefined : textOf(state, state.accepted, 0, undefined);
}

function textOf(state: TrustedState, accepted: Accepted, rootVersion: number, base: Accepted | undefined): string {
  const changed = (role: ContentRole) => base?.roles[role].metadata.text !== accepted.roles[role].metadata.text;
  const roles = CONTENT_ROLES.filter(changed);
  const heads: Partial<Record<ContentRole, string>> = {};
  const content: Partial<Record<ContentRole, ChangeToWrite>> = {};
  for (const role of roles) {
    const { head, headText, content: to } = accepted.roles[role];
    const from = base?.roles[role];
    heads[role] = headText;
    if (from === undefined) content[role] = { kind: 'full', set: to.values, delete: [] };
    else if (from.head.root !== head.root) {
      const { set, delete: gone } = diffContent(from.content, to);
      const start = { generation: from.head.generation, root: from.head.root };
      content[role] = { kind: 'delta', from: start, set: Object.entries(set), delete: gone };
    }
  }
  const file = (name: ContentRole) => (changed(name) ? { [name]: accepted.roles[name].metadata.text } : {});
  const update = {
    format: 1 as const,
    roots: state.roots.slice(Math.max(0, rootVersion)),
    ...(state.timestamp === undefined ? {} : { timestamp: state.timestamp.text }),
    ...(base?.snapshot.text === accepted.snapshot.text ? {} : { snapshot: accepted.snapshot.text }),
    ...(base?.targets.text === accepted.targets.text ? {} : { targets: accepted.targets.text }),
    ...file('policy'),
    ...file('state'),
    ...(roles.length === 0 ? {} : { heads }),
  };
  return encodeUpdateWith(update, content);
}
