import type { ResourceType } from '../translate/resource-set.ts';
import type { Entry, Snapshot } from './snapshot-cache.ts';
import { SERVED_TYPES } from './snapshot-cache.ts';

/** Types that Envoy subscribes to as a whole, so that it must be told what to remove. */
export type WildcardType = 'cluster' | 'listener';

/** A resource version that Envoy refused. */
export interface Refusal {
  readonly entry: Entry;
  /** Envoy's own words, at most 2 KiB. */
  readonly message: string;
  readonly generation: number;
}

/** What outlives a stream and, but for `refused`, the agent: written to disk before a name is first sent. */
export interface LedgerState {
  /** Names ever sent whose removal Envoy did not acknowledge. After a NACK Envoy has resources it does not list (DESIGN 3.11). */
  readonly everSent: Readonly<Record<WildcardType, readonly string[]>>;
  /** Last good versions of resources that are refused now: a new Envoy is given these. Never secrets. */
  readonly lastGood: readonly Entry[];
}

/** Memory shared by the streams of one agent: what was ever sent, what was last taken, what was refused. */
export interface Ledger {
  /** Records names about to be sent. */
  sending(type: WildcardType, names: Iterable<string>): void;
  removed(type: WildcardType, name: string): void;
  everSent(type: WildcardType): ReadonlySet<string>;
  accepted(entry: Entry): void;
  refused(entry: Entry, message: string, generation: number): void;
  isRefused(entry: Entry): boolean;
  lastGood(type: ResourceType, name: string): Entry | undefined;
  refusals(): readonly Refusal[];
  /** Forgets what the snapshot no longer wants. */
  prune(snapshot: Snapshot): void;
  /** The state to write when it changed since the last call. */
  takeChanged(): LedgerState | undefined;
}

const MAX_MESSAGE = 2048;

export function createLedger(state?: LedgerState): Ledger {
  const ever: Record<WildcardType, Set<string>> = {
    cluster: new Set(state?.everSent.cluster),
    listener: new Set(state?.everSent.listener),
  };
  const good = new Map<string, Entry>((state?.lastGood ?? []).map((entry) => [key(entry.type, entry.name), entry]));
  const refusals = new Map<string, Refusal>();
  let changed = false;

  return {
    sending(type, names) {
      for (const name of names) {
        if (ever[type].has(name)) continue;
        ever[type].add(name);
        changed = true;
      }
    },
    removed(type, name) {
      if (ever[type].delete(name)) changed = true;
    },
    everSent: (type) => ever[type],
    accepted(entry) {
      good.set(key(entry.type, entry.name), entry);
      if (refusals.get(key(entry.type, entry.name))?.entry.version === entry.version)
        refusals.delete(key(entry.type, entry.name));
    },
    refused(entry, message, generation) {
      refusals.set(key(entry.type, entry.name), { entry, message: message.slice(0, MAX_MESSAGE), generation });
      changed = true;
    },
    isRefused: (entry) => refusals.get(key(entry.type, entry.name))?.entry.version === entry.version,
    lastGood: (type, name) => good.get(key(type, name)),
    refusals: () => [...refusals.values()],
    prune(snapshot) {
      const wanted = new Set<string>();
      for (const type of SERVED_TYPES) for (const name of snapshot.entries[type].keys()) wanted.add(key(type, name));
      for (const { type, name } of snapshot.unencodable) wanted.add(key(type, name));
      for (const [k, entry] of good) if (entry.type !== 'secret' && !wanted.has(k)) good.delete(k);
      for (const [k, { entry }] of refusals) {
        if (entry.type === 'secret') continue;
        if (snapshot.entries[entry.type].get(entry.name)?.version === entry.version) continue;
        refusals.delete(k);
        changed = true;
      }
    },
    takeChanged() {
      if (!changed) return undefined;
      changed = false;
      const kept = [...refusals.keys()].map((k) => good.get(k)).filter((entry) => entry !== undefined);
      return {
        everSent: { cluster: [...ever.cluster].sort(), listener: [...ever.listener].sort() },
        lastGood: kept.filter((entry) => entry.type !== 'secret'),
      };
    },
  };
}

function key(type: ResourceType, name: string): string {
  return `${type} ${name}`;
}
