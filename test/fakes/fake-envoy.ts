import { type ResourceType, TYPE_URLS } from '../../agent/translate/resource-set.ts';
import type { Messages } from '../../agent/xds/messages.ts';
import type { Entry } from '../../agent/xds/snapshot-cache.ts';
import type { DeltaRequest, DeltaResponse } from '../../agent/xds/wire.ts';

/** A response that was delivered, and what became of it; `stalled`: no answer yet. `names`: of resources, in order. */
export interface Delivery {
  readonly type: ResourceType;
  readonly names: readonly string[];
  readonly removed: readonly string[];
  outcome: 'ack' | 'nack' | 'stalled';
}

/** The server's side of a stream: takes requests, gives responses to `receive`. */
export type OpenStream = (receive: (response: DeltaResponse) => void) => (request: DeltaRequest) => void;

export interface FakeEnvoyOptions {
  readonly messages: Messages;
  readonly open: OpenStream;
  /** Envoy's words for a resource that it refuses; undefined: it takes it. `body`: proto3 JSON. */
  refuse?(type: ResourceType, name: string, body: unknown): string | undefined;
}

/**
 * A delta ADS client in memory that behaves as Envoy was seen to (docs/decisions/0004-xds.md): subscribes to CDS and LDS as a whole, to
 * listeners only once its first clusters are warm, to everything else by name when something refers to it; asks no second time for a name it
 * is subscribed to; applies good parts of a response it refuses (of CDS and LDS all, of others those before the bad one), without recording
 * versions; acknowledges CDS only when no cluster warms; refused endpoints end the warming of all clusters, which then have none.
 */
export interface FakeEnvoy {
  connect(): void;
  /** The stream breaks; responses under way are lost. */
  disconnect(): void;
  /** Takes the next response; false when there is none. */
  deliver(): boolean;
  /** Takes responses until there are none, at most 1,000. */
  run(): void;
  readonly log: Delivery[];
  /** What it works with, whether or not it recorded a version: name -> JSON. */
  has(type: ResourceType): ReadonlyMap<string, unknown>;
  /** What it would list in initial_resource_versions. */
  recorded(type: ResourceType): ReadonlyMap<string, string>;
  subscribed(type: ResourceType): ReadonlySet<string>;
  /** Names it asked for and has no answer to. */
  unanswered(): readonly string[];
  /** Clusters whose endpoints did not come since they were given. */
  warming(): readonly string[];
}

const TYPES = Object.keys(TYPE_URLS) as ResourceType[];
const NAMED: readonly ResourceType[] = ['endpoint', 'route', 'extension', 'secret'];
type PerType<T> = Record<ResourceType, T>;
const perType = <T>(make: () => T) => Object.fromEntries(TYPES.map((type) => [type, make()])) as PerType<T>;

export function createFakeEnvoy(options: FakeEnvoyOptions): FakeEnvoy {
  const { messages } = options;
  const log: Delivery[] = [];
  const has = perType(() => new Map<string, unknown>());
  const bytes = new Map<string, Uint8Array>();
  const recorded = perType(() => new Map<string, string>());
  const subscribed = perType(() => new Set<string>());
  const unanswered = new Set<string>();
  const warming = new Set<string>();
  let ask: ((request: DeltaRequest) => void) | undefined;
  let asked = new Set<ResourceType>();
  let inbox: DeltaResponse[] = [];
  let stalled: { response: DeltaResponse; error: string | undefined; delivery: Delivery }[] = [];
  let started = false;

  const request = (type: ResourceType, part: Partial<DeltaRequest>) => {
    const first = !asked.has(type);
    asked.add(type);
    ask?.({
      typeUrl: TYPE_URLS[type],
      nodeId: asked.size === 1 && first ? 'fake' : '',
      subscribe: [],
      unsubscribe: [],
      initialVersions: first ? Object.fromEntries(recorded[type]) : {},
      nonce: '',
      error: undefined,
      ...part,
    });
  };

  /** Subscribes to what is referred to, unsubscribes from what no longer is. */
  const resubscribe = () => {
    const wanted = referredTo(has, started);
    for (const type of NAMED) {
      const subscribe = [...wanted[type]].filter((name) => !subscribed[type].has(name));
      const unsubscribe = [...subscribed[type]].filter((name) => !wanted[type].has(name));
      for (const name of unsubscribe) {
        subscribed[type].delete(name);
        for (const store of [has[type], recorded[type]]) store.delete(name);
        unanswered.delete(`${type} ${name}`);
      }
      for (const name of subscribe) {
        subscribed[type].add(name);
        unanswered.add(`${type} ${name}`);
      }
      if (subscribe.length + unsubscribe.length > 0) request(type, { subscribe, unsubscribe });
    }
  };

  const takeEntry = (type: ResourceType, entry: Entry): string | undefined => {
    const body = messages.decodeResource(TYPE_URLS[type], entry.bytes);
    const words = options.refuse?.(type, entry.name, body);
    unanswered.delete(`${type} ${entry.name}`);
    if (words !== undefined) return words;
    const key = `${type} ${entry.name}`;
    const same = has[type].has(entry.name) && Buffer.compare(bytes.get(key) ?? new Uint8Array(), entry.bytes) === 0;
    has[type].set(entry.name, body);
    bytes.set(key, entry.bytes);
    if (type === 'cluster' && !same && edsName(body) !== undefined) warming.add(entry.name);
    if (type === 'endpoint')
      for (const name of warming) if (edsName(has.cluster.get(name)) === entry.name) warming.delete(name);
    return undefined;
  };

  const answer = (response: DeltaResponse, error: string | undefined, delivery: Delivery) => {
    const { type, nonce, entries, removed } = response;
    delivery.outcome = error === undefined ? 'ack' : 'nack';
    if (error === undefined) for (const entry of entries) recorded[type].set(entry.name, entry.version);
    for (const name of removed) recorded[type].delete(name);
    request(type, { nonce, error });
    if (type === 'cluster' && !started && warming.size === 0) {
      started = true;
      request('listener', {});
    }
  };

  const take = (response: DeltaResponse) => {
    const { type, entries, removed } = response;
    const errors: string[] = [];
    for (const entry of entries) {
      const words = takeEntry(type, entry);
      if (words !== undefined) errors.push(words);
      if (words !== undefined && NAMED.includes(type)) break;
    }
    if (type === 'endpoint' && errors.length > 0) warming.clear();
    for (const name of removed) {
      has[type].delete(name);
      warming.delete(name);
      unanswered.delete(`${type} ${name}`);
    }
    resubscribe();
    const error = errors.length === 0 ? undefined : errors.join('; ');
    const stalls = type === 'cluster' && warming.size > 0;
    const names = entries.map((entry) => entry.name);
    const delivery: Delivery = { type, names, removed, outcome: 'stalled' };
    log.push(delivery);
    if (stalls) stalled.push({ response, error, delivery });
    else answer(response, error, delivery);
    if (warming.size > 0) return;
    for (const late of stalled.splice(0)) answer(late.response, late.error, late.delivery);
  };

  const deliver = () => {
    const response = inbox.shift();
    if (response === undefined) return false;
    take(response);
    return true;
  };

  return {
    connect() {
      asked = new Set();
      inbox = [];
      stalled = [];
      const mine = inbox;
      ask = options.open((response) => void mine.push(response));
      for (const type of TYPES) {
        if (type === 'cluster' || (type === 'listener' && started)) request(type, {});
        else if (subscribed[type].size > 0) {
          for (const name of subscribed[type]) if (!recorded[type].has(name)) unanswered.add(`${type} ${name}`);
          request(type, { subscribe: [...subscribed[type]] });
        }
      }
    },
    disconnect() {
      ask = undefined;
      inbox = [];
    },
    deliver,
    run() {
      for (let i = 0; i < 1000; i++) if (!deliver()) return;
      throw new Error('the server does not come to rest');
    },
    log,
    has: (type) => has[type],
    recorded: (type) => recorded[type],
    subscribed: (type) => subscribed[type],
    unanswered: () => [...unanswered],
    warming: () => [...warming],
  };
}

function edsName(cluster: unknown): string | undefined {
  const body = cluster as { name: string; type?: string; eds_cluster_config?: { service_name?: string } } | undefined;
  return body?.type === 'EDS' ? (body.eds_cluster_config?.service_name ?? body.name) : undefined;
}

/** Names by type that clusters and listeners refer to. */
function referredTo(has: PerType<ReadonlyMap<string, unknown>>, started: boolean): PerType<Set<string>> {
  const names = perType(() => new Set<string>());
  for (const cluster of has.cluster.values()) {
    const eds = edsName(cluster);
    if (eds !== undefined) names.endpoint.add(eds);
    walk(cluster, names);
  }
  if (started) for (const listener of has.listener.values()) walk(listener, names);
  return names;
}

function walk(json: unknown, names: PerType<Set<string>>): void {
  if (typeof json !== 'object' || json === null) return;
  const { rds, name, config_discovery, sds_config } = json as Record<string, unknown>;
  const table = (rds as { route_config_name?: string } | undefined)?.route_config_name;
  if (table !== undefined) names.route.add(table);
  if (typeof name === 'string' && config_discovery !== undefined) names.extension.add(name);
  if (typeof name === 'string' && sds_config !== undefined) names.secret.add(name);
  for (const value of Object.values(json)) walk(value, names);
}
