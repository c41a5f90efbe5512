import type { ResourceType } from '../translate/resource-set.ts';
import type { Entry } from './snapshot-cache.ts';
import type { DeltaRequest } from './wire.ts';

/** A response that Envoy has not answered yet. `sentAt`: monotonic ms. */
export interface InFlight {
  readonly entries: readonly Entry[];
  readonly removed: readonly string[];
  readonly sentAt: number;
}

/** What one stream knows of one type: subscriptions, and versions by name that Envoy recorded (`held`) or was last sent (`latest`). */
export interface TypeState {
  readonly type: ResourceType;
  /** Envoy gets all there is, and is told what to remove. */
  readonly wildcard: boolean;
  readonly subscribed: Set<string>;
  readonly held: Map<string, string>;
  readonly latest: Map<string, string>;
  /** Names that must be answered, whatever version Envoy has. */
  readonly owed: Set<string>;
  readonly inFlight: Map<string, InFlight>;
  /** Envoy asked for this type on this stream. */
  started: boolean;
  /** The first wildcard request is answered even when there is nothing to send. */
  owedAny: boolean;
  /** All names have to be compared with what is wanted. */
  stale: boolean;
  removalsDue: boolean;
  /** Takes the subscriptions out of a request; the first of a stream also brings what Envoy already has, believed where `isSure`. */
  subscribe(request: DeltaRequest, isSure: (name: string) => boolean): void;
  accepted(entry: Entry): void;
  /** Envoy refused this version: what it holds is what it had before. */
  forgetSent(entry: Entry): void;
  settled(): boolean;
}

export function createTypeState(type: ResourceType): TypeState {
  const wildcard = type === 'cluster' || type === 'listener';
  const state: TypeState = {
    type,
    wildcard,
    subscribed: new Set(),
    held: new Map(),
    latest: new Map(),
    owed: new Set(),
    inFlight: new Map(),
    started: false,
    owedAny: false,
    stale: false,
    removalsDue: false,
    subscribe(request, isSure) {
      const first = !state.started;
      if (first) start(state, request, isSure);
      for (const name of request.unsubscribe) {
        for (const store of [state.subscribed, state.owed]) store.delete(name);
        for (const store of [state.held, state.latest]) if (!wildcard) store.delete(name);
      }
      for (const name of request.subscribe) {
        if (wildcard) continue; // "*", or nothing, is all that Envoy asks for without on-demand discovery
        state.subscribed.add(name);
        // Who asks again has it no more: Envoy says "removed, then added" within one turn as a mere subscription.
        if (!first) for (const store of [state.held, state.latest]) store.delete(name);
        if (!state.held.has(name)) state.owed.add(name);
      }
    },
    accepted(entry) {
      if (wildcard || state.subscribed.has(entry.name)) state.held.set(entry.name, entry.version);
    },
    forgetSent(entry) {
      if (state.latest.get(entry.name) !== entry.version) return;
      const before = state.held.get(entry.name);
      if (before === undefined) state.latest.delete(entry.name);
      else state.latest.set(entry.name, before);
    },
    settled: () =>
      !state.started ||
      (state.inFlight.size === 0 && state.owed.size === 0 && !state.owedAny && !state.stale && !state.removalsDue),
  };
  return state;
}

function start(state: TypeState, request: DeltaRequest, isSure: (name: string) => boolean): void {
  state.started = true;
  state.stale = true;
  state.owedAny = state.wildcard;
  for (const [name, version] of Object.entries(request.initialVersions)) {
    if (!isSure(name)) continue;
    state.held.set(name, version);
    state.latest.set(name, version);
  }
}
