import type { ResourceType } from '../translate/resource-set.ts';
import { envoyWords } from './envoy-words.ts';
import type { Entry, Snapshot } from './snapshot-cache.ts';

/** Types that Envoy subscribes to as a whole, so that it must be told what to remove. */
export type WildcardType = 'cluster' | 'listener';

/** A resource version that Envoy refused. */
export interface Refusal {
  readonly entry: Entry;
  /** Envoy's own words, at most 2 KiB. */
  readonly message: string;
  readonly generation: number;
  /** How often it was refused. */
  readonly times: number;
}

/** What outlives a stream and, but for `refused`, the agent: written to disk before a name is first sent. */
export interface LedgerState {
  /** Names ever sent whose removal Envoy did not acknowledge. After a NACK Envoy has resources it does not list (DESIGN 3.11). */
  readonly everSent: Readonly<Record<WildcardType, readonly string[]>>;
  /** Last good versions of resources whose newest Envoy has not taken, or cannot be encoded: a new Envoy is given these. Never secrets. */
  readonly lastGood: readonly Entry[];
  /** `TYPE NAME` of resources of refused responses that were not answered one by one since: Envoy may have others than it lists. */
  readonly unsure: readonly string[];
}

/** Memory shared by the streams of one agent: what was ever sent, what was last taken, what was refused. */
export interface Ledger {
  /** Records resources about to be sent. */
  sending(entries: readonly Entry[]): void;
  /** They were refused together: Envoy has applied some, and goes on listing the versions before. */
  refusedTogether(entries: readonly Entry[]): void;
  /** Envoy has answered the newest version that it was sent of a resource: what it lists is what it has. */
  sure(type: ResourceType, name: string): void;
  isSure(type: ResourceType, name: string): boolean;
  removed(type: WildcardType, name: string): void;
  everSent(type: WildcardType): ReadonlySet<string>;
  accepted(entry: Entry): void;
  /** `now`: monotonic ms. The same version is refused again no sooner than RETRY_MS later, doubling up to MAX_RETRY_MS. */
  refused(entry: Entry, message: string, generation: number, now: number): void;
  /** False again while it is tried anew: Envoy also refuses for reasons that pass (a port that was taken). */
  isRefused(entry: Entry): boolean;
  lastGood(type: ResourceType, name: string): Entry | undefined;
  /** A last good version was refused as well: it is good no more. */
  notGood(entry: Entry): void;
  /** When the next refused resource is due to be tried again, monotonic ms; undefined when nothing is refused. */
  retryAt(): number | undefined;
  /** The types of what is due; it counts as being tried from now on. */
  retry(now: number): ReadonlySet<ResourceType>;
  refusals(): readonly Refusal[];
  /** Forgets what the snapshot no longer wants. */
  prune(snapshot: Snapshot): void;
  /** The state to write when it changed since the last call. */
  takeChanged(): LedgerState | undefined;
}

/** After the first refusal; long after the quarantine of objects (decision 0006) had its turn. */
export const RETRY_MS = 2000;
export const MAX_RETRY_MS = 60_000;

interface Kept extends Refusal {
  retryAt: number;
  trying: boolean;
}

export function createLedger(state?: LedgerState): Ledger {
  const ever: Record<WildcardType, Set<string>> = {
    cluster: new Set(state?.everSent.cluster),
    listener: new Set(state?.everSent.listener),
  };
  const good = new Map<string, Entry>((state?.lastGood ?? []).map((entry) => [key(entry.type, entry.name), entry]));
  const refusals = new Map<string, Kept>();
  /** Sent and not answered; true: refused with others, which is persisted. */
  const unsure = new Map<string, boolean>((state?.unsure ?? []).map((k) => [k, true]));
  /** Whose last good version has to be on disk: something newer is wanted that Envoy has not taken. */
  const keep = new Set(good.keys());
  /** What the snapshot has in a form that cannot be encoded. */
  let broken: ReadonlySet<string> = new Set();
  let changed = false;
  const refusalOf = (entry: Entry): Kept | undefined => {
    const refusal = refusals.get(key(entry.type, entry.name));
    return refusal?.entry.version === entry.version ? refusal : undefined;
  };
  const put = (k: string) => {
    if (!keep.has(k)) changed = true;
    keep.add(k);
  };
  const drop = (k: string) => {
    if (keep.delete(k)) changed = true;
  };

  return {
    sending(entries) {
      for (const { type, name } of entries) {
        const k = key(type, name);
        if (!unsure.has(k)) unsure.set(k, false);
        if ((type !== 'cluster' && type !== 'listener') || ever[type].has(name)) continue;
        ever[type].add(name);
        changed = true;
      }
    },
    refusedTogether(entries) {
      for (const { type, name } of entries) unsure.set(key(type, name), true);
      changed = true;
    },
    sure(type, name) {
      const k = key(type, name);
      if (unsure.get(k) === true) changed = true;
      unsure.delete(k);
    },
    isSure: (type, name) => !unsure.has(key(type, name)),
    removed(type, name) {
      if (ever[type].delete(name)) changed = true;
    },
    everSent: (type) => ever[type],
    accepted(entry) {
      const k = key(entry.type, entry.name);
      const before = good.get(k);
      good.set(k, entry);
      // A secret's refusal ends with the next one that is taken; other types' with the next snapshot (prune).
      const rotated = entry.type === 'secret' && before?.version !== entry.version;
      if (rotated || refusalOf(entry) !== undefined) refusals.delete(k);
      if (!refusals.has(k) && !broken.has(k)) drop(k);
    },
    refused(entry, message, generation, now) {
      const k = key(entry.type, entry.name);
      if (good.get(k)?.version === entry.version && good.delete(k)) changed = true;
      const times = (refusalOf(entry)?.times ?? 0) + 1;
      const retryAt = now + Math.min(MAX_RETRY_MS, RETRY_MS * 2 ** (times - 1));
      refusals.set(k, { entry, message: envoyWords(message), generation, times, retryAt, trying: false });
      put(k);
    },
    isRefused: (entry) => refusalOf(entry)?.trying === false,
    lastGood: (type, name) => good.get(key(type, name)),
    notGood(entry) {
      const k = key(entry.type, entry.name);
      if (good.get(k)?.version === entry.version && good.delete(k)) changed = true;
    },
    retryAt() {
      const times = [...refusals.values()].map((refusal) => refusal.retryAt);
      return times.length === 0 ? undefined : Math.min(...times);
    },
    retry(now) {
      const due = [...refusals.values()].filter((refusal) => refusal.retryAt <= now);
      for (const refusal of due) {
        refusal.trying = true;
        refusal.retryAt = now + MAX_RETRY_MS;
      }
      return new Set(due.map((refusal) => refusal.entry.type));
    },
    refusals: () => [...refusals.values()],
    prune(snapshot) {
      broken = new Set(snapshot.unencodable.map(({ type, name }) => key(type, name)));
      for (const k of broken) put(k);
      for (const [k, { type, name }] of good)
        if (type !== 'secret' && !snapshot.entries[type].has(name) && !broken.has(k)) {
          good.delete(k);
          drop(k);
        }
      for (const [k, refusal] of refusals) {
        const { type, name, version } = refusal.entry;
        if (type === 'secret') continue;
        const now = snapshot.entries[type].get(name);
        if (now?.version !== version) refusals.delete(k);
        else refusals.set(k, { ...refusal, entry: now }); // its origins may be others
      }
    },
    takeChanged() {
      if (!changed) return undefined;
      changed = false;
      const kept = [...keep]
        .sort()
        .map((k) => good.get(k))
        .filter((entry) => entry !== undefined);
      return {
        everSent: { cluster: [...ever.cluster].sort(), listener: [...ever.listener].sort() },
        lastGood: kept.filter((entry) => entry.type !== 'secret'),
        unsure: [...unsure].flatMap(([k, together]) => (together ? [k] : [])).sort(),
      };
    },
  };
}

function key(type: ResourceType, name: string): string {
  return `${type} ${name}`;
}
