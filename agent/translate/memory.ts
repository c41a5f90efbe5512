/**
 * What was translated before. In: parts of a view whose objects stay the same as long as they say the same (mesh-view/share.ts). Out: what was
 * made of them last time, if nothing that making it looked at has changed. Must never change a result: translation without a memory gives
 * the same bytes.
 */
import type { ClientView } from '../mesh-view/lookup.ts';
import { share } from '../mesh-view/share.ts';

export interface Memory {
  /**
   * The value last made under `key`, if `inputs` are the same objects and whatever making it asked of `client` has the same answer now; else
   * `make` runs, with a client that writes down what is asked of it. The value is plain data, and a function of client and inputs alone.
   */
  remember<T>(key: string, client: ClientView, inputs: readonly unknown[], make: (client: ClientView) => T): T;
  /** `now`, with every part that equals what stood under `key` before being that very object. */
  keep<T>(key: string, now: T): T;
}

/** Makes everything anew. */
export const FORGETFUL: Memory = {
  remember: (_key, client, _inputs, make) => make(client),
  keep: (_key, now) => now,
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

/** A memory over the runs of one translator; `endOfRun` forgets what the run did not ask for. */
export function createMemory(): Memory & { endOfRun(): void } {
  let before = new Map<string, Made>();
  let now = new Map<string, Made>();

  const isStill = (made: Made, client: ClientView, inputs: readonly unknown[]): boolean =>
    same(made.inputs, inputs) && made.lookups.every(({ ask, answer }) => same(ask(client), answer));

  return {
    remember<T>(key: string, client: ClientView, inputs: readonly unknown[], make: (client: ClientView) => T): T {
      const known = now.get(key) ?? before.get(key);
      if (known !== undefined && isStill(known, client, inputs)) {
        now.set(key, known);
        return known.value as T;
      }
      const lookups: Lookup[] = [];
      const value = share(known?.value as T | undefined, make(noting(client, lookups)));
      now.set(key, { inputs, lookups, value });
      return value;
    },
    keep<T>(key: string, value: T): T {
      const kept = share((now.get(key) ?? before.get(key))?.value as T | undefined, value);
      now.set(key, { inputs: [], lookups: [], value: kept });
      return kept;
    },
    endOfRun() {
      before = now;
      now = new Map();
    },
  };
}

/** The same object, or lists of the same objects: a client makes new lists of what it has. */
function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((item, i) => Object.is(item, b[i]));
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

/** The client with DestinationRules that stay the same objects from run to run. `id`: what tells this client from others of the host. */
export function withSteadyRules(client: ClientView, id: string, memory: Memory): ClientView {
  const rules = new Map<unknown, ReturnType<ClientView['destinationRule']>>();
  const destinationRule: ClientView['destinationRule'] = (service) => {
    if (!rules.has(service))
      rules.set(
        service,
        memory.keep(`rule ${id} ${service.host} ${service.namespace}`, client.destinationRule(service)),
      );
    return rules.get(service);
  };
  return { ...client, destinationRule };
}
