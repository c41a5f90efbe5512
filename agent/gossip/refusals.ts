/**
 * Who was refused and why, for people (`meshctl describe`): the last refusals by host and reason. In: refusals as they happen. Out: a short
 * list. Bounded: the pair not seen for longest goes. A host is named by its certificate or as the link that delivered, never by a claim.
 */
import type { GossipRefusal } from '../../api/http/agent-api.ts';

export interface Refusals {
  /** `host`: whose certificate signed it, or whose link brought it. `reason` from a closed list. `detail`: one short line, may be empty. */
  note(host: string, reason: string, detail?: string): void;
  /** A good record of the host came in: what config was late for is no news any more. */
  settle(host: string): void;
  /** Newest first. */
  list(): readonly GossipRefusal[];
}

/** Reasons that follow from config on its way, or from a certificate that was renewed since. */
const PASSING = ['no-grant', 'epoch', 'certificate'];
const MAX = 64;
const MAX_LISTED = 20;
/** Older than this is of no use to anybody. */
const FORGET_MS = 3_600_000;

export function createRefusals(now: () => number): Refusals {
  const known = new Map<string, { host: string; reason: string; count: number; detail: string; at: number }>();
  return {
    note(host, reason, detail = '') {
      const key = `${host} ${reason}`;
      const count = (known.get(key)?.count ?? 0) + 1;
      known.delete(key); // newest last
      known.set(key, { host, reason, count, detail: detail.slice(0, 200), at: now() });
      if (known.size > MAX) known.delete(known.keys().next().value as string);
    },
    settle(host) {
      for (const reason of PASSING) known.delete(`${host} ${reason}`);
    },
    list() {
      const since = now() - FORGET_MS;
      return [...known.values()]
        .filter((one) => one.at >= since)
        .reverse()
        .slice(0, MAX_LISTED)
        .map(({ host, reason, count, detail, at }) => ({
          host,
          reason,
          count,
          lastAt: new Date(at).toISOString(),
          ...(detail === '' ? {} : { detail }),
        }));
    },
  };
}
