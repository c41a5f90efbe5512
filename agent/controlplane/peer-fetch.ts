/**
 * News from peers (DESIGN 6, Freshness). In: which peer announced which timestamp. Out: their answers, offered to be judged. Asks few at a
 * time: the next one as soon as one refuses or is slow, so that a peer which announces and does not deliver costs one short wait. Must never
 * trust an answer, ask without end, or hold more than a few answers at once.
 */
import { errorLine, MeshError } from '../../api/errors.ts';
import type { UpdateRequest } from '../../api/signed-config/update.ts';
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
const AT_ONCE = 3;
const ROUNDS = 3;
const BETWEEN_ROUNDS_MS = 500;
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
  const stopping = new AbortController();
  const waiting = new Set<() => void>();
  let announcers: string[] = [];
  let wanted = 0;
  let isNew = false; // announced since the last look
  let running: Promise<void> | undefined;
  let cancelRound = () => {};

  const missing = () => !stopping.signal.aborted && wanted > deps.held().timestamp;

  const askOne = async (peer: string, signal: AbortSignal): Promise<void> => {
    const ask = async (held: UpdateRequest) =>
      deps.offer(await deps.fetch(peer, Buffer.from(JSON.stringify(held)), signal), peer);
    let outcome = await ask(deps.held());
    if (needsFullCopy(outcome)) outcome = await ask({ ...deps.held(), generation: 0 });
    if (outcome.kind === 'refused') throw outcome.error;
    if (missing()) throw new MeshError('CONFIG_NOTHING_NEW', `${peer} gave an older generation than was announced`);
  };

  /** Asks `peers` in their order until `enough`; settles when that is so, or when all have failed. */
  const round = async (peers: readonly string[], enough: () => boolean): Promise<void> => {
    const abort = new AbortController();
    const signal = AbortSignal.any([abort.signal, stopping.signal]);
    cancelRound = () => abort.abort();
    const ended = over(signal);
    const inFlight = new Set<Promise<void>>();
    const done = () => enough() || signal.aborted;
    for (const peer of peers) {
      while (inFlight.size >= AT_ONCE && !done()) await Promise.race([...inFlight, ended]);
      if (done()) break;
      const one = askOne(peer, signal)
        .catch((error: unknown) => log.debug('a peer gave no config', { peer, reason: errorLine(error) }))
        .finally(() => inFlight.delete(one));
      inFlight.add(one);
      await Promise.race([one, pause(SLOW_MS, clock, signal)]);
    }
    while (inFlight.size > 0 && !done()) await Promise.race([...inFlight, ended]);
    abort.abort();
  };

  const fetchWanted = async () => {
    isNew = false;
    await pause(FIRST_AFTER_MS * (0.5 + random()), clock, stopping.signal);
    for (let tries = 0; tries < ROUNDS && missing(); tries++) {
      if (tries > 0) await pause(BETWEEN_ROUNDS_MS * 2 ** (tries - 1) * (0.5 + random()), clock, stopping.signal);
      await round(candidates(), () => !missing());
    }
  };
  /** Who announced last, one neighbour, then others: all neighbours may lie together. */
  const candidates = (): string[] => {
    const members = shuffled(deps.members(), random);
    const [neighbour, ...neighbours] = members.filter(({ linked }) => linked);
    const others = members.filter(({ linked }) => !linked);
    const order = [...(neighbour === undefined ? [] : [neighbour]), ...others, ...neighbours].map(({ host }) => host);
    return [...new Set([...announcers.slice(0, 2), ...order])].slice(0, PEERS);
  };
  const run = (work: () => Promise<void>) => {
    if (running !== undefined || stopping.signal.aborted) return;
    running = work()
      .catch((error: unknown) => log.warn('asking peers for config failed', { error }))
      .finally(() => {
        running = undefined;
        for (const wake of waiting) wake();
        if (isNew && missing()) run(fetchWanted);
      });
  };

  return {
    announced(version, peer) {
      if (version > wanted) announcers = [];
      wanted = Math.max(wanted, version);
      announcers = [peer, ...announcers.filter((other) => other !== peer)].slice(0, MAX_ANNOUNCERS);
      isNew = true;
      run(fetchWanted);
    },
    askAround() {
      const members = shuffled(deps.members(), random);
      const order = [...members.filter(({ linked }) => !linked), ...members.filter(({ linked }) => linked)];
      const before = deps.held().timestamp;
      const peers = order.slice(0, 3).map(({ host }) => host);
      if (peers.length > 0) run(() => round(peers, () => deps.held().timestamp > before));
    },
    progressed() {
      if (missing()) return;
      cancelRound();
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
      stopping.abort();
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
