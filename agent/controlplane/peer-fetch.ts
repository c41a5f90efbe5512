/**
 * News from peers (DESIGN 6, Freshness). In: which peer announced which timestamp. Out: their answers, offered to be judged. Asks few at a
 * time: the next one as soon as one refuses or is slow, so that a peer which announces and does not deliver costs one short wait. Must never
 * trust an answer, ask in a hurry without end, or hold more than a few answers at once.
 */
import { errorLine, MeshError } from '../../api/errors.ts';
import type { UpdateRequest } from '../../api/signed-config/update.ts';
import { backoffMs } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { pause } from './sync.ts';
import { needsFullCopy, type Outcome } from './trusted-config.ts';

/** Where a controller serves this host itself, its answer is here by then (half to one and a half of it). */
const FIRST_AFTER_MS = 40;
/** A peer that has not delivered by then is slow: the next one is asked beside it. */
const SLOW_MS = 700;
/** Asked in one round, the one that announced among them; answers on the way at one time. */
const PEERS = 4;
const ASKED_AROUND = 3;
const AT_ONCE = 3;
/** Then a peer is given up: what one answer may take on a slow link (16 MiB at most, mostly some KB). */
const DEADLINE_MS = 10_000;
/** Between rounds, as long as what was announced is missing: it is signed, so it exists. */
const AGAIN = { baseMs: 500, maxMs: 10_000 };
/** Announcers that are remembered, the latest first. */
const MAX_ANNOUNCERS = 4;
/** A peer that asks for what is on its way here waits for it so long. */
const SERVE_WAIT_MS = 1000;
const MAX_SERVE_WAITS = 256;

/** A member that may be asked: alive, and not this host. */
export interface Member {
  readonly host: string;
  /** A neighbour: cheap to ask, and the one that could hold back news. */
  readonly linked: boolean;
}

export interface PeerFetchDeps {
  fetch(peer: string, request: Uint8Array, signal: AbortSignal): Promise<Uint8Array>;
  members(): readonly Member[];
  held(): UpdateRequest;
  /** Judges and takes over. Never rejects. */
  offer(data: Uint8Array, from: string): Promise<Outcome>;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

export interface PeerFetch {
  /** `peer` announced a verified timestamp of that version, newer than what is held. */
  announced(version: number, peer: string): void;
  /** Asks a few members, not neighbours first, whether they have anything newer. */
  askAround(): void;
  /** Something newer was taken over, from whomever: whoever waits for it may look again. */
  progressed(): void;
  /** Resolves when what is on its way has come, or after a second; at once when nothing is on its way. */
  arrival(): Promise<void>;
  stop(): Promise<void>;
}

export function createPeerFetch(deps: PeerFetchDeps): PeerFetch {
  const { clock, random, log } = deps;
  const waiting = new Set<() => void>();
  const asking = new Map<string, Promise<void>>();
  let announcers: string[] = [];
  let wanted = 0;
  let isNew = false; // announced since the last round
  let running: Promise<void> | undefined;
  let stopped = false;
  let cancelRun = () => {};
  let cancelPause = () => {};

  const missing = () => wanted > deps.held().timestamp;

  const askOne = async (peer: string, signal: AbortSignal): Promise<void> => {
    const ask = async (held: UpdateRequest) =>
      deps.offer(await deps.fetch(peer, Buffer.from(JSON.stringify(held)), signal), peer);
    const held = deps.held();
    let outcome = await ask(held);
    if (needsFullCopy(outcome) && deps.held().generation !== held.generation) outcome = await ask(deps.held());
    if (needsFullCopy(outcome)) outcome = await ask({ ...deps.held(), generation: 0 });
    if (outcome.kind === 'refused') throw outcome.error;
  };
  /** Asks `peers` in their order, each next one when the one before has failed or is slow. Who is slow goes on being waited for. */
  const round = async (peers: readonly string[], enough: () => boolean, signal: AbortSignal): Promise<void> => {
    const done = () => enough() || signal.aborted;
    for (const peer of peers.filter((name) => !asking.has(name))) {
      while (asking.size >= AT_ONCE && !done()) await Promise.race([...asking.values(), over(signal)]);
      if (done()) return;
      const one = askOne(peer, withDeadline(signal))
        .catch((error: unknown) => log.debug('a peer gave no config', { peer, reason: errorLine(error) }))
        .finally(() => asking.delete(peer));
      asking.set(peer, one);
      await Promise.race([one, pause(SLOW_MS, clock, signal)]);
    }
  };
  const withDeadline = (signal: AbortSignal): AbortSignal => {
    const late = new AbortController();
    const cancel = clock.after(DEADLINE_MS, () =>
      late.abort(new MeshError('FETCH_TIMEOUT', 'a peer did not answer in time')),
    );
    signal.addEventListener('abort', cancel, { once: true });
    return AbortSignal.any([signal, late.signal]);
  };

  const fetchWanted = async (signal: AbortSignal) => {
    await pause(FIRST_AFTER_MS * (0.5 + random()), clock, signal);
    for (let tries = 0; missing() && !signal.aborted; tries++) {
      if (isNew) tries = 0;
      isNew = false;
      await round(candidates(), () => !missing(), signal);
      if (!missing() || isNew) continue;
      const over = new AbortController();
      cancelPause = () => over.abort();
      await pause(backoffMs(tries, AGAIN, random), clock, AbortSignal.any([over.signal, signal]));
    }
  };
  const lookAround = async (peers: readonly string[], signal: AbortSignal) => {
    const before = deps.held().timestamp;
    const enough = () => deps.held().timestamp > before;
    await round(peers, enough, signal);
    while (asking.size > 0 && !enough() && !signal.aborted) await Promise.race([...asking.values(), over(signal)]);
  };
  /** Who announced last, one neighbour, then others: all neighbours may lie together. */
  const candidates = (): string[] => {
    const members = shuffled(deps.members(), random);
    const [neighbour, ...neighbours] = members.filter(({ linked }) => linked);
    const others = members.filter(({ linked }) => !linked);
    const order = [...(neighbour === undefined ? [] : [neighbour]), ...others, ...neighbours].map(({ host }) => host);
    return [...new Set([...announcers.slice(0, 2), ...order])].slice(0, PEERS);
  };
  const run = (work: (signal: AbortSignal) => Promise<void>) => {
    if (running !== undefined || stopped) return;
    const abort = new AbortController();
    cancelRun = () => abort.abort(new MeshError('NOT_NEEDED', 'it came from elsewhere, or the agent stops'));
    running = work(abort.signal)
      .catch((error: unknown) => log.warn('asking peers for config failed', { error }))
      .finally(() => {
        cancelRun();
        running = undefined;
        for (const wake of waiting) wake();
        if (isNew && missing()) run(fetchWanted);
      });
  };

  return {
    announced(version, peer) {
      // Whom no announcement brought here before does not wait for an answer of those asked around.
      if (!missing()) cancelRun();
      if (version > wanted) announcers = [];
      wanted = Math.max(wanted, version);
      announcers = [peer, ...announcers.filter((other) => other !== peer)].slice(0, MAX_ANNOUNCERS);
      isNew = true;
      cancelPause();
      run(fetchWanted);
    },
    askAround() {
      const members = shuffled(deps.members(), random);
      const order = [...members.filter(({ linked }) => !linked), ...members.filter(({ linked }) => linked)];
      const peers = order.slice(0, ASKED_AROUND).map(({ host }) => host);
      if (peers.length > 0) run((signal) => lookAround(peers, signal));
    },
    progressed() {
      if (missing()) return;
      cancelRun();
      for (const wake of waiting) wake();
    },
    arrival() {
      if (!missing() || running === undefined || waiting.size >= MAX_SERVE_WAITS) return Promise.resolve();
      return new Promise((resolve) => {
        const wake = () => {
          cancel();
          waiting.delete(wake);
          resolve();
        };
        const cancel = clock.after(SERVE_WAIT_MS, wake);
        waiting.add(wake);
      });
    },
    async stop() {
      stopped = true;
      cancelRun();
      await running;
    },
  };
}

function over(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const all = [...items];
  for (let i = all.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [all[i], all[j]] = [all[j] as T, all[i] as T];
  }
  return all;
}
