/**
 * What was translated before. In: parts of a view whose objects stay the same as long as they say the same (mesh-view/share.ts). Out: what was
 * made of them last time, if nothing that making it looked at has changed. Must never change a result: translation without a memory gives
 * the same bytes.
 */
import type { ClientView } from '../mesh-view/lookup.ts';
import { share } from '../mesh-view/share.ts';
import type { DestinationRuleView, ServiceView } from '../mesh-view/view.ts';

export interface Memory {
  /**
   * The value last made as `what` of `key`, if `inputs` are the same objects and whatever making it asked of `client` has the same answer now; else
   * `make` runs, with a client that writes down what is asked of it. The value is plain data, and a function of client and inputs alone.
   */
  remember<T>(
    what: string,
    key: string,
    client: ClientView,
    inputs: readonly unknown[],
    make: (client: ClientView) => T,
  ): T;
  /**
   * The value last made as the whole of `whats`, with all that was remembered and kept under these, if `inputs` are the same objects: none of
   * it is looked at. `make` is a function of the inputs alone.
   */
  whole<T>(whats: readonly [string, ...string[]], inputs: readonly unknown[], make: () => T): T;
  /** `now`, with every part that equals what was kept as `what` of `key` before being that very object. */
  keep<T>(what: string, key: string, now: T): T;
}

/** Makes everything anew. */
export const FORGETFUL: Memory = {
  remember: (_what, _key, client, _inputs, make) => make(client),
  whole: (_whats, _inputs, make) => make(),
  keep: (_what, _key, now) => now,
};

/** One question to a client, and its answer. */
interface Lookup {
  ask(client: ClientView): unknown;
  readonly answer: unknown;
}

interface Made {
  readonly inputs: readonly unknown[];
  readonly lookups: readonly Lookup[];
  readonly value: unknown;
}

type Store = Map<string, Map<string, Made>>;

/** A memory over the runs of one translator; `endOfRun` forgets what the run did not ask for. */
export function createMemory(): Memory & { endOfRun(): void } {
  let before: Store = new Map();
  let now: Store = new Map();

  const known = (what: string, key: string): Made | undefined => now.get(what)?.get(key) ?? before.get(what)?.get(key);
  const put = (what: string, key: string, made: Made): void => {
    const store = now.get(what);
    if (store === undefined) now.set(what, new Map([[key, made]]));
    else store.set(key, made);
  };
  return {
    remember<T>(
      what: string,
      key: string,
      client: ClientView,
      inputs: readonly unknown[],
      make: (client: ClientView) => T,
    ): T {
      const last = known(what, key);
      if (last !== undefined && isStill(last, client, inputs)) {
        put(what, key, last);
        return last.value as T;
      }
      const lookups: Lookup[] = [];
      const value = share(last?.value as T | undefined, make(noting(client, lookups)));
      put(what, key, { inputs, lookups, value });
      return value;
    },
    whole<T>(whats: readonly [string, ...string[]], inputs: readonly unknown[], make: () => T): T {
      const last = known('whole', whats[0]);
      if (last === undefined || !same(last.inputs, inputs)) {
        const made = { inputs, lookups: [], value: make() };
        put('whole', whats[0], made);
        return made.value;
      }
      put('whole', whats[0], last);
      for (const what of whats) {
        const parts = before.get(what);
        const asked = now.get(what);
        if (parts === undefined || parts === asked) continue;
        if (asked !== undefined) for (const [key, made] of asked) parts.set(key, made);
        now.set(what, parts);
      }
      return last.value as T;
    },
    keep<T>(what: string, key: string, value: T): T {
      const last = known(what, key);
      const kept = share(last?.value as T | undefined, value);
      put(
        what,
        key,
        last !== undefined && Object.is(last.value, kept) ? last : { inputs: [], lookups: [], value: kept },
      );
      return kept;
    },
    endOfRun() {
      before = now;
      now = new Map();
    },
  };
}

function isStill(made: Made, client: ClientView, inputs: readonly unknown[]): boolean {
  if (!same(made.inputs, inputs)) return false;
  for (const { ask, answer } of made.lookups) if (!same(ask(client), answer)) return false;
  return true;
}

/** The same object, or lists of the same objects: a client makes new lists of what it has. */
function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (!Object.is(a[i], b[i])) return false;
  return true;
}

/** A client that writes down what is asked of it. */
function noting(client: ClientView, lookups: Lookup[]): ClientView {
  const note = <T>(ask: (client: ClientView) => T): T => {
    const answer = ask(client);
    lookups.push({ ask, answer });
    return answer;
  };
  return {
    get namespace() {
      return note((c) => c.namespace);
    },
    get labels() {
      return note((c) => c.labels);
    },
    get services() {
      return note((c) => c.services);
    },
    get destinations() {
      return note((c) => c.destinations);
    },
    get virtualServices() {
      return note((c) => c.virtualServices);
    },
    ports: (service) => note((c) => c.ports(service)),
    service: (host) => note((c) => c.service(host)),
    virtualServicesFor: (host) => note((c) => c.virtualServicesFor(host)),
    destinationRule: (service) => note((c) => c.destinationRule(service)),
    variant: (service) => note((c) => c.variant(service)),
  };
}

const KEYS = new WeakMap<ServiceView, string>();

/** What a service is known by in a memory. Its text is made once. */
export function serviceKey(service: ServiceView): string {
  let key = KEYS.get(service);
  if (key === undefined) {
    key = `${service.host} ${service.namespace}`;
    KEYS.set(service, key);
  }
  return key;
}

/** What DestinationRules of a client are kept as. */
export function ruleStore(id: string): string {
  return `rule ${id}`;
}

/**
 * The client with DestinationRules that stay the same objects from run to run. `id`: what tells this client from others of the host; `rules`:
 * those that it follows are found among.
 */
export function withSteadyRules(
  client: ClientView,
  id: string,
  rules: readonly DestinationRuleView[],
  memory: Memory,
): ClientView {
  type Found = { readonly rule: ReturnType<ClientView['destinationRule']> };
  const what = ruleStore(id);
  const known = memory.whole([`rules ${id}`, what], [rules], () => new WeakMap<ServiceView, Found>());
  const destinationRule: ClientView['destinationRule'] = (service) => {
    let found = known.get(service);
    if (found === undefined) {
      found = { rule: memory.keep(what, serviceKey(service), client.destinationRule(service)) };
      known.set(service, found);
    }
    return found.rule;
  };
  return { ...client, destinationRule };
}
