/**
 * Keeps the links: the bounded overlay, the watchdog, anti-entropy's rhythm. In: who exists, which links stand. Out: dials, closed links,
 * sync sessions. Must never: leave a link that carries nothing (DESIGN 6, hazards 1 to 3), or hold more links than the bound.
 */

import { hasCode } from '../../api/errors.ts';
import type { IpEndpoint } from '../../api/gossip/address.ts';
import { MAX_SYNC_MESSAGE_BYTES } from '../../api/gossip/sync-message.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { shuffle } from './detector.ts';
import type { GossipNode } from './node.ts';
import { type Candidate, createOverlay, OVERLAY_DEFAULTS } from './overlay.ts';
import { openSync, type SyncSource } from './sync.ts';

export const SYNC_PROTOCOL = '/hostmesh/sync/1';
export const SYNC_LIMITS = { timeoutMs: 10_000, maxFrameBytes: MAX_SYNC_MESSAGE_BYTES };

/** A link younger than this is still being set up: identify, then a gossip stream each way, take two round trips and more on a busy machine. */
const SETUP_MS = 4000;
const SYNC_EVERY_MS = 10_000;
/** A comparison that gets no answer at all, twice: nothing passes this link any more, though its connection looks open (half-open TCP). */
const STALLS = 2;
/** A link closed for what it delivered is left alone, and refused, this long. */
export const HOLD_OFF_MS = 30_000;
/** Hosts that came back are compared with directly, this many at a time; gossip does the rest once some of them are linked. */
const MAX_REACHES = 4;
/** Of all that see a host come back, about so many link to it: a thousand dials would keep it busy, and a network that heals would get links without end. */
const REACHED_BY = 4;

export interface LinkerDeps {
  readonly host: string;
  readonly node: Pick<GossipNode, 'links' | 'dial' | 'drop' | 'withStream'>;
  candidates(): readonly Candidate[];
  endpoints(host: string): readonly IpEndpoint[];
  /** Addresses of hosts whose id is not known yet; dialled while there is no link. */
  dialSeeds(signal: AbortSignal): Promise<void>;
  syncSource(peer: string): SyncSource;
  onSynced(result: 'equal' | 'repaired' | 'failed', records: number): void;
  onClosed(reason: string): void;
  /** Refuse the host's handshakes for a while. */
  ban(host: string, ms: number): void;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

export interface Linker {
  /** Once a second. */
  tick(signal: AbortSignal): void;
  onLink(host: string, up: boolean): void;
  onCrossed(host: string): void;
  /** Compares tables with a random linked host soon. */
  syncSoon(): void;
  /** The host rebooted: an older link to it may be half open. */
  check(host: string): void;
  /** A host was away and is back: links to it if need be and compares tables, if this is one of the few that do, of `hosts`. */
  reach(host: string, hosts: number): void;
  close(host: string, reason: string, holdOffMs: number): void;
  /** Links if need be. Rejects when the host cannot be dialled. */
  ensure(host: string, signal: AbortSignal): Promise<void>;
}

export function createLinker(deps: LinkerDeps): Linker {
  const { clock, node } = deps;
  const overlay = createOverlay(deps.random);
  const dialing = new Map<string, Promise<void>>();
  const syncing = new Set<string>();
  const toReach = new Set<string>();
  const carrying = new Set<string>(); // links that were seen healthy
  const compared = new Map<string, number>(); // when each link's tables were compared last
  const stalls = new Map<string, number>(); // comparisons in a row that nothing answered
  let reaching = 0;
  let syncAt = 0;
  let seedAt = 0;
  let seeding = false;
  let stopped: AbortSignal | undefined;

  const dial = (host: string, signal: AbortSignal): Promise<void> => {
    const running = dialing.get(host);
    if (running !== undefined) return running;
    const started = node
      .dial(host, deps.endpoints(host), signal)
      .then(
        () => overlay.succeeded(host),
        (error: unknown) => {
          overlay.failed(host, clock.monotonic());
          deps.log.debug('dial failed', { host, error });
          throw error;
        },
      )
      .finally(() => dialing.delete(host));
    dialing.set(host, started);
    return started;
  };
  const sync = async (host: string): Promise<void> => {
    if (syncing.has(host)) return;
    syncing.add(host);
    compared.set(host, clock.monotonic());
    try {
      const result = await node.withStream(host, SYNC_PROTOCOL, SYNC_LIMITS, (channel) =>
        openSync(channel, deps.syncSource(host)),
      );
      stalls.delete(host);
      deps.onSynced(result.equal ? 'equal' : 'repaired', result.received);
    } catch (error) {
      deps.onSynced('failed', 0);
      deps.log.debug('tables not compared', { host, error });
      if (hasCode(error, 'PEER_HOSTILE')) close(host, 'hostile', HOLD_OFF_MS);
      if (isTimeout(error)) stalled(host);
    } finally {
      syncing.delete(host);
    }
  };
  const stalled = (host: string) => {
    if (!isLinked(host)) return;
    const times = (stalls.get(host) ?? 0) + 1;
    stalls.set(host, times);
    if (times >= STALLS) close(host, 'stalled', jitter(500, 2000));
    else {
      compared.delete(host); // it is the next that is asked, and soon
      syncAt = clock.monotonic();
    }
  };
  /** The link whose tables were compared longest ago: a stalled one is found in a round. */
  const nextToCompare = (hosts: readonly string[]): string | undefined => {
    const at = (host: string) => compared.get(host) ?? 0;
    return shuffle([...hosts], deps.random).reduce<string | undefined>(
      (best, host) => (best === undefined || at(host) < at(best) ? host : best),
      undefined,
    );
  };
  const close = (host: string, reason: string, holdOffMs: number) => {
    if (reason === 'hostile' || reason === 'flood') deps.ban(host, holdOffMs);
    deps.onClosed(reason);
    deps.log.info('gossip link closed', { host, reason });
    overlay.holdOff(host, clock.monotonic() + holdOffMs);
    node.drop(host, reason);
  };
  const isLinked = (host: string) => node.links().some((l) => l.host === host);
  const ensure = async (host: string, signal: AbortSignal) => {
    if (!isLinked(host)) await dial(host, signal);
  };
  const reachNext = () => {
    const signal = stopped;
    for (const host of toReach) {
      if (reaching >= MAX_REACHES || signal === undefined || signal.aborted) return;
      toReach.delete(host);
      reaching += 1;
      ensure(host, signal)
        .then(() => sync(host))
        .catch(() => {})
        .finally(() => {
          reaching -= 1;
          reachNext();
        });
    }
  };
  const watch = () => {
    for (const { host, healthy, ageMs, direction } of node.links()) {
      if (!healthy && ageMs > SETUP_MS) close(host, 'no-stream', jitter(200, 800));
      // What was published between the first comparison and the streams is compared once more.
      if (healthy && !carrying.has(host) && direction === 'outbound') void sync(host);
      if (healthy) carrying.add(host);
    }
  };
  const jitter = (from: number, to: number) => from + deps.random() * (to - from);

  return {
    tick(signal) {
      stopped = signal;
      const now = clock.monotonic();
      watch();
      const links = node.links();
      const { dial: hosts, drop } = overlay.plan(links, new Set(dialing.keys()), deps.candidates, now);
      for (const host of hosts) dial(host, signal).catch(() => {});
      for (const host of drop) close(host, 'churn', jitter(5000, 10_000));
      if (links.length === 0 && now >= seedAt && !seeding) {
        seedAt = now + 3000;
        seeding = true;
        deps
          .dialSeeds(signal)
          .catch(() => {})
          .finally(() => {
            seeding = false;
          });
      }
      if (now >= syncAt && links.length > 0) {
        syncAt = now + SYNC_EVERY_MS * jitter(0.8, 1.2);
        const next = nextToCompare(links.map((l) => l.host));
        if (next !== undefined) void sync(next);
      }
      reachNext();
    },
    onLink(host, up) {
      if (!up) {
        carrying.delete(host);
        compared.delete(host);
        stalls.delete(host);
        return;
      }
      overlay.succeeded(host);
      // The side that dialled compares; the other would find the session open already.
      if (node.links().find((l) => l.host === host)?.direction === 'outbound') void sync(host);
    },
    onCrossed(host) {
      deps.onClosed('crossed');
      // One side goes first, so that they do not cross again.
      const first = deps.host < host;
      overlay.holdOff(host, clock.monotonic() + (first ? jitter(50, 250) : jitter(1500, 2500)));
    },
    syncSoon() {
      syncAt = Math.min(syncAt, clock.monotonic() + jitter(0, 300));
    },
    check(host) {
      if (isLinked(host)) void sync(host);
    },
    reach(host, hosts) {
      overlay.succeeded(host);
      if (deps.random() * hosts >= REACHED_BY) return;
      if (toReach.size < OVERLAY_DEFAULTS.refuseLinks) toReach.add(host);
      reachNext();
    },
    close,
    ensure,
  };
}

/** Nothing came in time, as opposed to a refusal or a closed link. */
function isTimeout(error: unknown): boolean {
  return error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError');
}
