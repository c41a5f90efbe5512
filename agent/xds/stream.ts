// In: one delta ADS stream's requests, and word that the snapshot or a secret changed. Out: the responses to send, in order.
// A state machine without IO or clock: times come in as numbers, responses go out by `send`. DESIGN 3.11 and docs/decisions/0004-xds.md
// say why each rule is there. Must never leave a subscribed name without an answer, nor change a cluster without its endpoints.
// Source: Envoy's xDS protocol, "Incremental xDS".
import type { ResourceType } from '../translate/resource-set.ts';
import type { Ledger, WildcardType } from './ledger.ts';
import type { Entry, ServedType, Snapshot } from './snapshot-cache.ts';
import { createTypeState, type InFlight, type TypeState } from './type-state.ts';
import { type DeltaRequest, type DeltaResponse, typeOfUrl } from './wire.ts';

/** Routes and listeners wait this long for Envoy to acknowledge (that is, to have warmed) the clusters they may refer to; no longer. */
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
  let nonces = 0;
  let gated = false;
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
    if (state.wildcard)
      ledger.sending(
        state.type as WildcardType,
        entries.map((entry) => entry.name),
      );
    deps.send({ type: state.type, nonce, entries, removed });
  };

  /** A cluster that Envoy is given again warms until its endpoints come again, and Envoy does not ask for a name it is subscribed to. */
  const oweEndpointsOf = (clusters: readonly Entry[]) => {
    for (const { edsName } of clusters)
      if (edsName !== undefined && types.endpoint.subscribed.has(edsName)) types.endpoint.owed.add(edsName);
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

  /** What Envoy is to have under a name: an entry; `keep` when what is wanted was refused and nothing good is known; undefined: not wanted. */
  const target = (type: ResourceType, name: string): Entry | 'keep' | undefined => {
    const wanted = type === 'secret' ? deps.secret(name) : seen?.entries[type].get(name);
    if (wanted === undefined) {
      const broken = type !== 'secret' && seen?.unencodable.some((u) => u.type === type && u.name === name);
      return broken ? (ledger.lastGood(type, name) ?? 'keep') : undefined;
    }
    return ledger.isRefused(wanted) ? (ledger.lastGood(type, name) ?? 'keep') : wanted;
  };

  const pushNamed = (type: Exclude<ResourceType, WildcardType>, now: number, owedOnly = false) => {
    const state = types[type];
    if (!state.started) return;
    const full = state.stale && !owedOnly && ordinaryInFlight(state) < MAX_IN_FLIGHT;
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
      else if (owed || state.latest.get(name) !== entry.version) entries.push(entry);
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
    if (!(state.stale && ordinaryInFlight(state) < MAX_IN_FLIGHT) && !state.owedAny) return;
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
      (name) => !wanted.has(name) && !removing.has(name),
    );
    if (removed.length > 0) respond(state, [], removed.sort(), now);
  };

  /** Everything that may be sent now. Policy and secrets wait for nothing; listeners and routes for clusters; removed clusters for both. */
  const advance = (now: number) => {
    const snapshot = deps.snapshot();
    if (snapshot === undefined) return;
    seen = snapshot;
    pushNamed('extension', now);
    pushNamed('secret', now);
    pushWildcard('cluster', now);
    pushNamed('endpoint', now);
    gated = !isOpen(types.cluster, now);
    pushNamed('route', now, gated); // a listener that warms on a new route table is not kept waiting
    if (gated) return;
    pushWildcard('listener', now);
    pushRemovals('listener', now);
    pushNamed('route', now);
    gated = types.cluster.removalsDue && !(isOpen(types.listener, now) && isOpen(types.route, now));
    if (!gated) pushRemovals('cluster', now);
  };

  const nack = (state: TypeState, response: InFlight, message: string, now: number) => {
    for (const entry of response.entries) state.forgetSent(entry);
    state.stale = true;
    const [only] = response.entries;
    if (response.entries.length === 1 && only !== undefined) {
      // An empty stand-in is never refused in practice; were it, nothing better could be sent.
      if (target(state.type, only.name) === only) ledger.refused(only, message, seen?.generation ?? 0);
      return;
    }
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
    }
    for (const name of response.removed) {
      state.held.delete(name);
      if (state.wildcard && !state.latest.has(name)) ledger.removed(state.type as WildcardType, name);
    }
  };

  const looked = (now: number) => {
    const before = seen;
    const snapshot = deps.snapshot();
    if (snapshot === undefined) return;
    for (const type of ALL_TYPES) {
      if (type === 'secret') continue;
      if (before?.entries[type as ServedType] !== snapshot.entries[type as ServedType]) types[type].stale = true;
    }
    if (before?.edsNames !== snapshot.edsNames) types.endpoint.stale = true;
    if (before?.unencodable.length !== 0 || snapshot.unencodable.length !== 0)
      for (const type of ALL_TYPES) types[type].stale = true;
    advance(now);
  };

  return {
    onRequest(request, now) {
      const type = typeOfUrl(request.typeUrl);
      if (type === undefined) return;
      const state = types[type];
      state.subscribe(request);
      if (request.nonce !== '') answer(state, request, now);
      advance(now);
    },
    onSnapshot: looked,
    onSecrets(now) {
      types.secret.stale = true;
      advance(now);
    },
    onTimer: advance,
    wakeAt() {
      if (!gated) return undefined;
      const sent = [types.cluster, types.listener, types.route].flatMap((state) =>
        [...state.inFlight.values()].map((response) => response.sentAt),
      );
      return sent.length === 0 ? undefined : Math.min(...sent) + GATE_MS;
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

function ordinaryInFlight(state: TypeState): number {
  return state.inFlight.size;
}

/** Nothing of this type is under way, or only what has had its time. */
function isOpen(state: TypeState, now: number): boolean {
  for (const response of state.inFlight.values()) if (now - response.sentAt < GATE_MS) return false;
  return true;
}

function groupsOf(entries: readonly Entry[]): Entry[][] {
  if (entries.length <= ISOLATE_ONE_BY_ONE) return entries.map((entry) => [entry]);
  const half = Math.ceil(entries.length / 2);
  return [entries.slice(0, half), entries.slice(half)];
}
