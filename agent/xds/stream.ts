// In: one delta ADS stream's requests, and word that the snapshot or a secret changed. Out: the responses to send, in order.
// A state machine without IO or clock: times come in as numbers, responses go out by `send`. DESIGN 3.11 and docs/decisions/0004-xds.md
// say why each rule is there. Must never leave a subscribed name without an answer, nor change a cluster without its endpoints.
// Source: Envoy's xDS protocol, "Incremental xDS".
import type { ResourceType } from '../translate/resource-set.ts';
import type { Ledger, WildcardType } from './ledger.ts';
import type { Entry, Snapshot } from './snapshot-cache.ts';
import { createTypeState, type InFlight, type TypeState } from './type-state.ts';
import { type DeltaRequest, type DeltaResponse, typeOfUrl } from './wire.ts';

/** What refers to clusters waits this long for Envoy to acknowledge (that is, to have warmed) them; no longer. */
export const GATE_MS = 1000;
/** Ordinary pushes of one type under way at most; what changes meanwhile is sent as one when one of them was answered. */
export const MAX_IN_FLIGHT = 8;
const MAX_RESPONSE_BYTES = 1 << 20;
/** A refused response of more resources than this is halved; of fewer, sent again one by one. */
const ISOLATE_ONE_BY_ONE = 8;

export interface StreamDeps {
  /** undefined before the first one: nothing is answered then, which leaves traffic alone. */
  snapshot(): Snapshot | undefined;
  secret(name: string): Entry | undefined;
  /** The resource that stands for one which does not exist: an assignment without endpoints, a route table without hosts. undefined: there is none of that type. */
  empty(type: ResourceType, name: string): Entry | undefined;
  readonly ledger: Ledger;
  send(response: DeltaResponse): void;
  /** For logs and counters. */
  answered(type: ResourceType, outcome: 'ack' | 'nack', names: readonly string[], message: string | undefined): void;
}

export interface Stream {
  /** `now`: monotonic ms, as everywhere here. */
  onRequest(request: DeltaRequest, now: number): void;
  /** The snapshot changed: every type whose Map is another one is looked through. */
  onSnapshot(now: number): void;
  onSecrets(now: number): void;
  onTimer(now: number): void;
  /** When onTimer is to be called; undefined: nothing waits. */
  wakeAt(): number | undefined;
  /** Envoy has acknowledged all of the snapshot that it wants and can have. */
  settled(): boolean;
  /** Responses without an answer. */
  pending(): number;
}

const ALL_TYPES: readonly ResourceType[] = ['cluster', 'endpoint', 'listener', 'route', 'extension', 'secret'];

export function createStream(deps: StreamDeps): Stream {
  const { ledger } = deps;
  const types = Object.fromEntries(ALL_TYPES.map((type) => [type, createTypeState(type)])) as Record<
    ResourceType,
    TypeState
  >;
  /** EDS names of clusters that were sent before Envoy asked for endpoints on this stream. */
  const owedAtStart = new Set<string>();
  let nonces = 0;
  let opensAt: number | undefined;
  let seen: Snapshot | undefined;

  const respond = (state: TypeState, entries: readonly Entry[], removed: readonly string[], now: number) => {
    const nonce = String(++nonces);
    state.inFlight.set(nonce, { entries, removed, sentAt: now });
    for (const entry of entries) {
      state.latest.set(entry.name, entry.version);
      state.owed.delete(entry.name);
    }
    for (const name of removed) {
      state.latest.delete(name);
      state.owed.delete(name);
    }
    state.owedAny = false;
    if (state.type === 'cluster') oweEndpointsOf(entries);
    ledger.sending(entries);
    deps.send({ type: state.type, nonce, entries, removed });
  };

  /**
   * A cluster that Envoy is given again warms until its endpoints come again, and Envoy does not ask for a name it is subscribed to. A new
   * stream's first request for clusters comes before that for endpoints, whose versions would otherwise say that nothing is to be sent.
   */
  const oweEndpointsOf = (clusters: readonly Entry[]) => {
    for (const { edsName } of clusters) {
      if (edsName === undefined) continue;
      if (!types.endpoint.started) owedAtStart.add(edsName);
      else if (types.endpoint.subscribed.has(edsName)) types.endpoint.owed.add(edsName);
    }
  };

  const respondInChunks = (state: TypeState, entries: readonly Entry[], now: number) => {
    let chunk: Entry[] = [];
    let bytes = 0;
    for (const entry of entries) {
      if (chunk.length > 0 && bytes + entry.bytes.length > MAX_RESPONSE_BYTES) {
        respond(state, chunk, [], now);
        chunk = [];
        bytes = 0;
      }
      chunk.push(entry);
      bytes += entry.bytes.length;
    }
    if (chunk.length > 0 || state.owedAny) respond(state, chunk, [], now);
  };

  const wantedOf = (type: ResourceType, name: string): Entry | undefined =>
    type === 'secret' ? deps.secret(name) : seen?.entries[type].get(name);

  /** What Envoy is to have under a name: an entry; `keep` when what is wanted was refused and nothing good is known; undefined: not wanted. */
  const target = (type: ResourceType, name: string): Entry | 'keep' | undefined => {
    const wanted = wantedOf(type, name);
    if (wanted === undefined) {
      const broken = type !== 'secret' && seen?.unencodable.some((u) => u.type === type && u.name === name);
      return broken ? (ledger.lastGood(type, name) ?? 'keep') : undefined;
    }
    return ledger.isRefused(wanted) ? (ledger.lastGood(type, name) ?? 'keep') : wanted;
  };

  /** `only` owed: answers what Envoy asked for; `free`: also what changed and needs no cluster. */
  const pushNamed = (type: Exclude<ResourceType, WildcardType>, now: number, only?: 'owed' | 'free') => {
    const state = types[type];
    if (!state.started) return;
    const full = state.stale && only !== 'owed' && state.inFlight.size < MAX_IN_FLIGHT;
    if (!full && state.owed.size === 0) return;
    if (full) state.stale = false;
    const entries: Entry[] = [];
    const removed: string[] = [];
    for (const name of full ? state.subscribed : [...state.owed]) {
      const owed = state.owed.has(name);
      const wanted = target(type, name);
      const entry = wanted === undefined || wanted === 'keep' ? substitute(state, name, owed) : wanted;
      if (entry === 'none') state.owed.delete(name);
      else if (entry === 'gone') removed.push(name);
      else if (!owed && state.latest.get(name) === entry.version) continue;
      else if (!owed && only === 'free' && entry.needsClusters === true) state.stale = true;
      else entries.push(entry);
    }
    if (entries.length > 0) respondInChunks(state, entries, now);
    if (removed.length > 0) respond(state, [], removed, now);
  };

  /** The answer for a name that has no resource. What Envoy holds stays (its user is about to go), but for endpoints of a cluster that stays. */
  const substitute = (state: TypeState, name: string, owed: boolean): Entry | 'gone' | 'none' => {
    const holds = state.latest.has(name);
    const blanked =
      state.type === 'endpoint' && seen?.edsNames.has(name) === true && target('endpoint', name) === undefined;
    if (!owed && !(holds && blanked)) return 'none';
    if (owed && holds && !blanked && state.held.has(name)) return 'none';
    return deps.empty(state.type, name) ?? 'gone';
  };

  const pushWildcard = (type: WildcardType, now: number) => {
    const state = types[type];
    if (!state.started || seen === undefined) return;
    if (!(state.stale && state.inFlight.size < MAX_IN_FLIGHT) && !state.owedAny) return;
    state.stale = false;
    state.removalsDue = true;
    const entries: Entry[] = [];
    for (const name of wantedNames(type, seen)) {
      const wanted = target(type, name);
      if (wanted !== undefined && wanted !== 'keep' && state.latest.get(name) !== wanted.version) entries.push(wanted);
    }
    respondInChunks(state, entries, now);
  };

  const pushRemovals = (type: WildcardType, now: number) => {
    const state = types[type];
    if (!state.started || !state.removalsDue || seen === undefined) return;
    state.removalsDue = false;
    const wanted = wantedNames(type, seen);
    const removing = new Set([...state.inFlight.values()].flatMap((response) => response.removed));
    const removed = [...new Set([...state.latest.keys(), ...ledger.everSent(type)])].filter(
      (name) => !wanted.has(name) && (state.latest.has(name) || !removing.has(name)),
    );
    if (removed.length > 0) respond(state, [], removed.sort(), now);
  };

  /** Marks what has to be looked through since the snapshot before. */
  const look = (snapshot: Snapshot) => {
    const before = seen;
    seen = snapshot;
    if (before === snapshot) return;
    const broken = snapshot.unencodable.length > 0 || (before?.unencodable.length ?? 0) > 0;
    for (const type of ALL_TYPES) {
      if (type === 'secret') continue;
      if (broken || before?.entries[type] !== snapshot.entries[type]) types[type].stale = true;
    }
    if (before?.edsNames !== snapshot.edsNames) types.endpoint.stale = true;
  };

  /**
   * Everything that may be sent now. Policy and secrets wait for nothing; listeners, routes and TCP proxies for clusters; removed clusters
   * for all of these. What Envoy asks for is answered at once: a listener that warms on a new route table is not kept waiting.
   */
  const advance = (now: number) => {
    const snapshot = deps.snapshot();
    if (snapshot === undefined) return;
    look(snapshot);
    pushNamed('extension', now, 'free');
    pushNamed('secret', now);
    pushWildcard('cluster', now);
    pushNamed('endpoint', now);
    pushNamed('route', now, 'owed');
    opensAt = gate([types.cluster], now);
    if (opensAt !== undefined) return;
    pushWildcard('listener', now);
    pushRemovals('listener', now);
    pushNamed('route', now);
    pushNamed('extension', now);
    if (types.cluster.removalsDue) opensAt = gate([types.listener, types.route, types.extension], now);
    if (opensAt === undefined) pushRemovals('cluster', now);
  };

  const nack = (state: TypeState, response: InFlight, message: string, now: number) => {
    const [only] = response.entries;
    if (only === undefined) return; // refused removals: nothing better could be sent
    for (const entry of response.entries) state.forgetSent(entry);
    state.stale = true;
    if (response.entries.length === 1) {
      // A stand-in for what does not exist, or a version that was replaced meanwhile, is neither.
      const wanted = wantedOf(state.type, only.name);
      if (state.latest.get(only.name) === state.held.get(only.name)) ledger.sure(state.type, only.name);
      if (wanted?.version !== only.version) return ledger.notGood(only);
      ledger.refused(wanted, message, seen?.generation ?? 0, now);
      // Its cluster may have been sent again just before, and would go on without any endpoint.
      if (state.type === 'endpoint' && state.subscribed.has(only.name)) state.owed.add(only.name);
      return;
    }
    ledger.refusedTogether(response.entries);
    for (const group of groupsOf(response.entries)) {
      const entries = group.map((entry) => currentOf(state, entry)).filter((entry) => entry !== undefined);
      if (entries.length > 0) respond(state, entries, [], now);
    }
  };

  /** What to send in the place of an entry of a refused response: its present form, unless that was refused already or is not wanted. */
  const currentOf = (state: TypeState, entry: Entry): Entry | undefined => {
    const wanted = target(state.type, entry.name);
    if (wanted === 'keep') return undefined;
    return wanted ?? (state.subscribed.has(entry.name) ? entry : undefined);
  };

  const answer = (state: TypeState, request: DeltaRequest, now: number) => {
    const response = state.inFlight.get(request.nonce);
    if (response === undefined) return;
    state.inFlight.delete(request.nonce);
    const names = response.entries.map((entry) => entry.name);
    deps.answered(state.type, request.error === undefined ? 'ack' : 'nack', names, request.error);
    if (request.error !== undefined) return nack(state, response, request.error, now);
    for (const entry of response.entries) {
      state.accepted(entry);
      ledger.accepted(entry);
      if ((state.latest.get(entry.name) ?? entry.version) === entry.version) ledger.sure(state.type, entry.name);
    }
    for (const name of response.removed) {
      state.held.delete(name);
      if (state.wildcard && !state.latest.has(name)) ledger.removed(state.type as WildcardType, name);
    }
  };

  return {
    onRequest(request, now) {
      const type = typeOfUrl(request.typeUrl);
      if (type === undefined) return;
      const state = types[type];
      state.subscribe(request, (name) => ledger.isSure(type, name));
      if (type === 'endpoint' && owedAtStart.size > 0) {
        for (const name of owedAtStart) if (state.subscribed.has(name)) state.owed.add(name);
        owedAtStart.clear();
      }
      if (request.nonce !== '') answer(state, request, now);
      advance(now);
    },
    onSnapshot: advance,
    onSecrets(now) {
      types.secret.stale = true;
      advance(now);
    },
    onTimer(now) {
      for (const type of ledger.retry(now)) types[type].stale = true;
      advance(now);
    },
    wakeAt() {
      const retryAt = ledger.retryAt();
      return opensAt === undefined || retryAt === undefined ? (opensAt ?? retryAt) : Math.min(opensAt, retryAt);
    },
    settled: () =>
      seen !== undefined &&
      seen === deps.snapshot() &&
      types.cluster.started &&
      types.listener.started &&
      ALL_TYPES.every((type) => types[type].settled()),
    pending: () => ALL_TYPES.reduce((sum, type) => sum + types[type].inFlight.size, 0),
  };
}

/** Names that are wanted, those included that cannot be encoded: what Envoy has of them is not removed. */
function wantedNames(type: WildcardType, snapshot: Snapshot): ReadonlySet<string> {
  const broken = snapshot.unencodable.filter((u) => u.type === type).map((u) => u.name);
  return new Set([...snapshot.entries[type].keys(), ...broken]);
}

/** undefined when nothing of these types is under way, or only what has had its time; else when it will have. */
function gate(states: readonly TypeState[], now: number): number | undefined {
  const sent = states.flatMap((state) => [...state.inFlight.values()].map((response) => response.sentAt));
  const opensAt = Math.max(-1, ...sent) + GATE_MS;
  return sent.length > 0 && now < opensAt ? opensAt : undefined;
}

function groupsOf(entries: readonly Entry[]): Entry[][] {
  if (entries.length <= ISOLATE_ONE_BY_ONE) return entries.map((entry) => [entry]);
  const half = Math.ceil(entries.length / 2);
  return [entries.slice(0, half), entries.slice(half)];
}
