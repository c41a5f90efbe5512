/**
 * Signed config on a host. In: updates from controllers, peers and disk. Out: DesiredConfig, immutable, after it was verified and persisted;
 * what was refused and why. Must never run anything that is not verified, forget what it knew, or stop working for want of a controller.
 */
import type { Registry } from 'prom-client';
import { hasCode, MeshError } from '../../api/errors.ts';
import type { DesiredConfig } from '../../api/signed-config/desired-config.ts';
import { createHistory } from '../../api/signed-config/history.ts';
import { LIMITS } from '../../api/signed-config/layout.ts';
import { parseJson, type UpdateRequest } from '../../api/signed-config/update.ts';
import { signedAt, versionsOf } from '../../api/signed-config/verifier.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Part } from '../../runtime/lifecycle.ts';
import type { Logger } from '../../runtime/log.ts';
import type { ConfigCache } from './cache.ts';
import type { ControllerClient } from './client.ts';
import { type ConfigMetrics, createConfigMetrics } from './metrics.ts';
import { createPeerFetch, type Member, type PeerFetch } from './peer-fetch.ts';
import { createSync } from './sync.ts';
import { createTrustedConfig, type Outcome, type TrustedConfig } from './trusted-config.ts';

/** A timestamp older than this is stale: alarm (DESIGN 6, Freshness). */
export const STALE_AFTER_MS = 15 * 60_000;
/** No controller answered for this long, or none had news for more than it re-signs at (5 min): other members are asked (DESIGN 6, Freshness). */
const ALONE_AFTER_MS = 60_000;
const OLD_AFTER_MS = 6 * 60_000;
/** How often that is looked at (half to one and a half of it), the first time soon: a host may boot when every controller is gone. */
const LOOK_EVERY_MS = 60_000;
const FIRST_LOOK_MS = 10_000;

export interface ControlplaneDeps {
  readonly cache: ConfigCache;
  readonly client: Pick<ControllerClient, 'config'>;
  /** Controllers of agent.yaml; those that signed config lists are added. */
  controllers(): readonly string[];
  /** Asks a peer by gossip for config; absent: only controllers are asked. */
  fetchFromPeer?(peer: string, request: Uint8Array, signal?: AbortSignal): Promise<Uint8Array>;
  /** Who may be asked beside the one that announced; default: nobody. */
  members?(): readonly Member[];
  readonly clock: Clock;
  /** In [0,1). */
  readonly random: () => number;
  readonly log: Logger;
  readonly registry?: Registry;
}

export interface Refusal {
  readonly code: string;
  readonly message: string;
  /** URL of a controller or name of a peer. */
  readonly from: string;
  /** ms since the epoch. */
  readonly at: number;
}

export interface ControlplaneStatus {
  readonly generation: number;
  readonly rootVersion: number;
  readonly rootExpires: string;
  readonly timestampVersion: number;
  /** Age of the newest timestamp in seconds; undefined before the first. */
  readonly ageSeconds: number | undefined;
  /** Older than 15 min: controllers are gone, or somebody holds back news. */
  readonly stale: boolean;
  readonly controller: string | undefined;
  readonly lastContactSecondsAgo: number | undefined;
  /** How often each code was the reason of a refusal. */
  readonly refusals: Readonly<Record<string, number>>;
  /** Since the last good timestamp or generation. */
  readonly lastRefusal: Refusal | undefined;
  /** One line each, for HostStatus.problems. */
  readonly problems: readonly string[];
}

export type OfferVerdict = 'accept' | 'ignore' | 'reject';

export interface Controlplane extends Part {
  /** What is verified and used; undefined before a new host's first. */
  current(): DesiredConfig | undefined;
  /** Called with the loaded config at start and with each accepted generation. Returns: no more calls. */
  onAccepted(listener: (desired: DesiredConfig) => void): () => void;
  /** Called with each newly accepted timestamp, to announce it by gossip. */
  onTimestamp(listener: (timestamp: Uint8Array) => void): () => void;
  /** An update from any carrier. `reject`: it was not signed by the mesh. */
  offer(update: Uint8Array, from: string): Promise<OfferVerdict>;
  /** Gossip's judge of announced timestamps; a newer one is fetched, from a controller or from the peer that told it. */
  judgeAnnouncement(timestamp: Uint8Array, from: string): OfferVerdict;
  /** Answers a peer's request (gossip's serveConfig). Throws CONFIG_NOTHING_NEW. */
  serve(request: Uint8Array): Promise<Uint8Array>;
  status(): ControlplaneStatus;
}

/** Codes that an honest carrier can cause by being late or by a wrong clock: no reason to cut it off. */
const HONEST = new Set([
  'CONFIG_ROLLBACK',
  'CONFIG_EXPIRED',
  'CONFIG_EQUIVOCATION',
  'CONFIG_BASE_MISMATCH',
  'CONFIG_INCOMPLETE',
  'CONFIG_NOT_PERSISTED',
  'CONFIG_NEEDS_UPGRADE',
]);
const ALARMS = new Set(['CONFIG_EQUIVOCATION', 'CONFIG_NOT_PERSISTED', 'CONFIG_NEEDS_UPGRADE', 'CONFIG_EXPIRED']);

/** `start` loads and verifies what is on disk (throws CONFIG_STATE_LOST) and begins to ask; it waits for nobody. */
export function createControlplane(deps: ControlplaneDeps): Controlplane {
  const history = createHistory();
  const accepted = new Set<(desired: DesiredConfig) => void>();
  const timestamps = new Set<(timestamp: Uint8Array) => void>();
  const refusals = createRefusals(deps.clock);
  let trusted: TrustedConfig | undefined;
  let sync: ReturnType<typeof createSync> | undefined;
  let running: Promise<void> = Promise.resolve();
  let stop = new AbortController();
  let loadProblems: readonly string[] = [];
  let announced: string | undefined;
  let peers: PeerFetch | undefined;
  const metrics: ConfigMetrics | undefined = deps.registry && createConfigMetrics(deps.registry);

  const onOutcome = (outcome: Outcome, from: string): void => {
    const state = trusted?.state();
    if (outcome.kind === 'refused') {
      refusals.add(outcome.error, from);
      deps.log.warn('config refused', { code: outcome.error.code, reason: outcome.error.message, from });
    }
    if (state === undefined) return;
    if (history.latest() !== state) history.push(state);
    if (outcome.kind === 'generation') {
      loadProblems = [];
      deps.log.info('config accepted', { generation: outcome.desired.generation, from });
      for (const listener of accepted) listener(outcome.desired);
    }
    if (outcome.kind === 'generation' || outcome.kind === 'timestamp') {
      refusals.clear();
      metrics?.accepted(outcome.kind, from);
    }
    const text = state.timestamp?.text;
    if (text !== undefined && text !== announced && outcome.kind !== 'refused') {
      announced = text;
      for (const listener of timestamps) listener(Buffer.from(text));
    }
    peers?.progressed();
  };
  const ready = (): TrustedConfig => {
    if (trusted === undefined) throw new MeshError('CONFIG_NOT_LOADED', 'the config is not loaded yet');
    return trusted;
  };
  const offer = async (data: Uint8Array, from: string): Promise<Outcome> => {
    const outcome = await ready().offer(data);
    onOutcome(outcome, from);
    return outcome;
  };
  const startPeers = () => {
    const { clock, random, log, fetchFromPeer } = deps;
    if (fetchFromPeer === undefined) return;
    peers = createPeerFetch({
      fetch: (peer, request, signal) => fetchFromPeer(peer, request, signal),
      members: () => deps.members?.() ?? [],
      held: () => versionsOf(ready().state()),
      offer,
      clock,
      random,
      log,
    });
    lookAfter(FIRST_LOOK_MS, stop.signal);
  };
  const lookAfter = (ms: number, signal: AbortSignal) => {
    const cancel = deps.clock.after(ms, () => {
      signal.removeEventListener('abort', cancel);
      const contact = sync?.status().lastContact;
      const { timestamp } = ready().state();
      const isAlone = contact === undefined || deps.clock.monotonic() - contact > ALONE_AFTER_MS;
      const isOld = timestamp === undefined || deps.clock.now() - signedAt(timestamp) > OLD_AFTER_MS;
      if (isAlone || isOld) peers?.askAround();
      lookAfter(LOOK_EVERY_MS * (0.5 + deps.random()), signal);
    });
    signal.addEventListener('abort', cancel, { once: true });
  };

  return {
    name: 'controlplane',
    async start() {
      stop = new AbortController();
      const loaded = await deps.cache.load();
      loadProblems = loaded.problems;
      for (const problem of loaded.problems) deps.log.error('signed config on disk is damaged', { problem });
      trusted = createTrustedConfig(loaded, { cache: deps.cache, now: () => deps.clock.now() });
      history.push(loaded.state);
      const { clock, random, log, client } = deps;
      sync = createSync({ client, controllers: urls, trusted, onOutcome, clock, random, log });
      if (loaded.desired !== undefined) for (const listener of accepted) listener(loaded.desired);
      running = sync.run(stop.signal);
      startPeers();
    },
    async stop() {
      stop.abort();
      await Promise.all([running, peers?.stop()]);
    },
    current: () => trusted?.desired(),
    onAccepted: (listener) => subscribe(accepted, listener),
    onTimestamp: (listener) => subscribe(timestamps, listener),
    async offer(update, from) {
      return verdictOf(await offer(update, from));
    },
    judgeAnnouncement(timestamp, from) {
      if (timestamp.length > LIMITS.timestampBytes) return 'reject';
      try {
        const version = ready().newer(Buffer.from(timestamp).toString('utf8'));
        if (version === undefined) return 'ignore';
        peers?.announced(version, from);
        return 'accept';
      } catch (error) {
        if (!(error instanceof MeshError)) return 'reject';
        // Old news is what gossip is full of after a heal; the rest is worth telling.
        if (!hasCode(error, 'CONFIG_ROLLBACK') && !hasCode(error, 'CONFIG_NOT_LOADED')) refusals.add(error, from);
        return HONEST.has(error.code) || error.code === 'CONFIG_NOT_LOADED' ? 'ignore' : 'reject';
      }
    },
    async serve(request) {
      const held = parseRequest(request);
      let text = history.updateFor(held);
      if (text === undefined) {
        // Announcements run ahead of what they announce: it may be on its way here.
        await peers?.arrival();
        text = history.updateFor(held);
      }
      if (text === undefined) throw new MeshError('CONFIG_NOTHING_NEW', 'this host has nothing newer');
      const answer = Buffer.from(text);
      metrics?.served(answer.length);
      return answer;
    },
    status,
  };

  function urls(): readonly string[] {
    const listed = [...(trusted?.desired()?.anchors.values() ?? [])].flatMap((anchor) => anchor.agentUrls);
    return [...new Set([...deps.controllers(), ...listed])];
  }

  function status(): ControlplaneStatus {
    const state = ready().state();
    const { root, timestamp, generation } = versionsOf(state);
    const rootExpires = state.root.metadata.signed.expires;
    const now = deps.clock.now();
    const age = state.timestamp === undefined ? undefined : Math.max(0, now - signedAt(state.timestamp));
    const stale = age === undefined || age > STALE_AFTER_MS;
    const contact = sync?.status();
    const problems = [...loadProblems, ...refusals.alarms()];
    if (stale) problems.push(staleLine(age, contact?.lastError));
    const behindMs = state.timestamp === undefined ? 0 : signedAt(state.timestamp) - now;
    if (behindMs > CLOCK_BEHIND_MS)
      problems.push(
        `this host's clock is ${Math.round(behindMs / 60_000)} min behind the signed config's; set it, e.g. with chrony`,
      );
    if (Date.parse(rootExpires) - now < 90 * 86_400_000)
      problems.push(`the TUF root expires at ${rootExpires}: sign a new one, or no config is accepted afterwards`);
    return {
      generation,
      rootVersion: root,
      rootExpires,
      timestampVersion: timestamp,
      ageSeconds: age === undefined ? undefined : Math.round(age / 1000),
      stale,
      controller: contact?.controller,
      lastContactSecondsAgo:
        contact?.lastContact === undefined
          ? undefined
          : Math.round((deps.clock.monotonic() - contact.lastContact) / 1000),
      refusals: refusals.counts(),
      lastRefusal: refusals.last(),
      problems,
    };
  }
}

function verdictOf(outcome: Outcome): OfferVerdict {
  if (outcome.kind === 'known') return 'ignore';
  if (outcome.kind !== 'refused') return 'accept';
  return HONEST.has(outcome.error.code) ? 'ignore' : 'reject';
}

/** More than clocks of a working host differ. */
const CLOCK_BEHIND_MS = 5 * 60_000;

function staleLine(ageMs: number | undefined, lastError: string | undefined): string {
  const since =
    ageMs === undefined
      ? 'no signed timestamp yet'
      : `config is stale: last timestamp ${Math.round(ageMs / 60_000)} min ago by this host's clock`;
  // a controller that answers signs anew every few minutes
  return `${since}; ${lastError ?? 'is the clock right? Set it, e.g. with chrony'}`;
}

function createRefusals(clock: Clock) {
  const counts = new Map<string, number>();
  const alarms = new Map<string, string>();
  let last: Refusal | undefined;
  return {
    add(error: MeshError, from: string) {
      last = { code: error.code, message: error.message, from, at: clock.now() };
      if (counts.size < 100 || counts.has(error.code)) counts.set(error.code, (counts.get(error.code) ?? 0) + 1);
      if (ALARMS.has(error.code)) alarms.set(error.code, `${error.code}: ${error.message} (from ${from})`);
    },
    /** A good answer ends what was passing; that two signers contradicted each other stays. */
    clear() {
      for (const code of [...alarms.keys()]) if (code !== 'CONFIG_EQUIVOCATION') alarms.delete(code);
      if (last?.code !== 'CONFIG_EQUIVOCATION') last = undefined;
    },
    alarms: () => [...alarms.values()],
    counts: () => Object.fromEntries(counts),
    last: () => last,
  };
}

function parseRequest(data: Uint8Array): UpdateRequest {
  if (data.length > 1024) throw new MeshError('CONFIG_MALFORMED', 'a request has at most 1024 bytes');
  const given = parseJson(Buffer.from(data).toString('utf8')) as Partial<Record<string, unknown>> | null;
  const number = (name: string): number => {
    const value = given?.[name];
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
      throw new MeshError('CONFIG_MALFORMED', 'a request is {root, generation, timestamp}');
    return value;
  };
  return { root: number('root'), generation: number('generation'), timestamp: number('timestamp') };
}

function subscribe<T>(set: Set<(value: T) => void>, listener: (value: T) => void): () => void {
  set.add(listener);
  return () => set.delete(listener);
}
