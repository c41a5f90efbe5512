/**
 * The overlay (DESIGN 6): a few links to random members, never a full mesh. In: who is linked, who exists, what was tried. Out: whom to dial
 * now and which links to drop. Pure. Settings: 4 outbound links, no dial at 14 links (seen: degrees of 4 to 14).
 */
import { shuffle } from './detector.ts';

export interface OverlayOptions {
  readonly outbound: number;
  readonly maxLinks: number;
  /** Inbound links beyond this are refused: mean degree is 8, so only a flood or a very unlucky host gets here. */
  readonly refuseLinks: number;
  readonly maxDialsAtOnce: number;
  readonly retryBaseMs: number;
  readonly retryMaxMs: number;
  /** One outbound link is replaced this often, so that halves that healed grow together and no clique stays. */
  readonly churnMs: number;
}

export const OVERLAY_DEFAULTS: OverlayOptions = {
  outbound: 4,
  maxLinks: 14,
  refuseLinks: 32,
  maxDialsAtOnce: 4,
  retryBaseMs: 1000,
  retryMaxMs: 5000,
  churnMs: 300_000,
};

export interface LinkView {
  readonly host: string;
  readonly direction: 'inbound' | 'outbound';
}

export interface Candidate {
  readonly host: string;
  /** False: probes say that it is dead, or it has never been heard of; tried only when too few others are left. */
  readonly alive: boolean;
}

export interface Overlay {
  /** Called each second and at each change of links. `candidates` is asked only when there is something to decide: it costs O(hosts). */
  plan(
    links: readonly LinkView[],
    dialing: ReadonlySet<string>,
    candidates: () => readonly Candidate[],
    now: number,
  ): {
    readonly dial: readonly string[];
    readonly drop: readonly string[];
  };
  /** A dial failed: the host is left alone for longer and longer. */
  failed(host: string, now: number): void;
  succeeded(host: string): void;
  /** Do not dial the host before `at`: after two crossed connections were both closed, one side goes first. */
  holdOff(host: string, at: number): void;
}

export function createOverlay(random: () => number, options: OverlayOptions = OVERLAY_DEFAULTS): Overlay {
  const backoff = new Map<string, { failures: number; notBefore: number }>();
  let churnAt: number | undefined;

  /** Candidates that may be dialled now. Forgets failures of hosts that are candidates no more. */
  const openTo = (
    candidates: readonly Candidate[],
    links: readonly LinkView[],
    dialing: ReadonlySet<string>,
    now: number,
  ): { live: Candidate[]; rest: Candidate[] } => {
    const known = new Set(candidates.map((c) => c.host));
    for (const host of backoff.keys()) if (!known.has(host)) backoff.delete(host);
    const linked = new Set(links.map((l) => l.host));
    const open = candidates.filter(
      (c) => !linked.has(c.host) && !dialing.has(c.host) && now >= (backoff.get(c.host)?.notBefore ?? 0),
    );
    return { live: open.filter((c) => c.alive), rest: open.filter((c) => !c.alive) };
  };

  return {
    plan(links, dialing, candidates, now) {
      churnAt ??= now + options.churnMs * (0.5 + random());
      const outbound = links.filter((l) => l.direction === 'outbound');
      const room = Math.min(
        options.outbound - outbound.length - dialing.size,
        options.maxLinks - new Set(links.map((l) => l.host)).size - dialing.size,
        options.maxDialsAtOnce - dialing.size,
      );
      const churn = now >= churnAt;
      if (churn) churnAt = now + options.churnMs * (0.5 + random());
      if (room <= 0 && !churn) return { dial: [], drop: [] };
      const { live, rest } = openTo(candidates(), links, dialing, now);
      const dial = [...shuffle(live, random), ...shuffle(rest, random)].slice(0, Math.max(0, room)).map((c) => c.host);
      const victim = outbound[Math.floor(random() * outbound.length)];
      const spare = churn && live.length > 0 && outbound.length >= options.outbound;
      return { dial, drop: spare && victim !== undefined ? [victim.host] : [] };
    },
    failed(host, now) {
      const failures = (backoff.get(host)?.failures ?? 0) + 1;
      const wait = Math.min(options.retryMaxMs, options.retryBaseMs * 2 ** Math.min(failures - 1, 10));
      backoff.set(host, { failures, notBefore: now + wait * (0.5 + random() / 2) });
    },
    succeeded: (host) => void backoff.delete(host),
    holdOff(host, at) {
      backoff.set(host, { failures: backoff.get(host)?.failures ?? 0, notBefore: at });
    },
  };
}
