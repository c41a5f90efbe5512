import { createHash } from 'node:crypto';
import { type Server as GrpcServer, Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { type ResourceSet, TYPE_URLS } from '../../agent/translate/resource-set.ts';
import type { Messages } from '../../agent/xds/messages.ts';

/** Secrets by name, as bodies of Envoy's Secret. */
export type Secrets = ReadonlyMap<string, object>;

/** A small delta ADS server: enough to show what Envoy makes of a ResourceSet. It keeps refusals, and never answers for a secret it lacks. */
export interface TestAds {
  set(resources: ResourceSet): void;
  setSecrets(secrets: Secrets): void;
  /** Envoy's words for what it refused. */
  readonly refusals: string[];
  /** Responses sent so far, by short type name and resource names. */
  readonly pushes: { readonly type: string; readonly names: readonly string[] }[];
  /** True when every response was acknowledged or refused. */
  idle(): boolean;
  /** True once Envoy has asked for that type. Before it does, nothing is pending, and nothing is there. */
  asked(type: 'cluster' | 'listener'): boolean;
  close(): Promise<void>;
}

interface Request {
  type_url: string;
  response_nonce?: string;
  error_detail?: { message?: string };
  resource_names_subscribe?: string[];
  resource_names_unsubscribe?: string[];
}

const ORDER = ['cluster', 'endpoint', 'listener', 'route', 'extension', 'secret'] as const;
type TypeName = (typeof ORDER)[number];
const PACKAGE = 'envoy.service.discovery.v3';

export async function startAds(path: string, messages: Messages): Promise<TestAds> {
  const resources = new Map<TypeName, Map<string, { body: object; version: string }>>();
  for (const type of ORDER) resources.set(type, new Map());
  const streams = new Set<Stream>();
  const refusals: string[] = [];
  const pushes: TestAds['pushes'] = [];
  const pending = new Set<string>();
  const put = (type: TypeName, bodies: Iterable<readonly [string, object]>) => {
    const next = new Map<string, { body: object; version: string }>();
    for (const [name, body] of bodies) {
      next.set(name, { body, version: createHash('sha256').update(JSON.stringify(body)).digest('hex').slice(0, 12) });
    }
    resources.set(type, next);
  };
  const server: GrpcServer = new Server();
  server.addService(
    {
      delta: {
        path: `/${PACKAGE}.AggregatedDiscoveryService/DeltaAggregatedResources`,
        requestStream: true,
        responseStream: true,
        requestSerialize: (value: unknown) => value as Buffer,
        requestDeserialize: (bytes: Buffer) => messages.decodeResource(`${PACKAGE}.DeltaDiscoveryRequest`, bytes),
        responseSerialize: (value: unknown) =>
          Buffer.from(messages.encodeResource(`${PACKAGE}.DeltaDiscoveryResponse`, value)),
        responseDeserialize: (bytes: Buffer) => bytes,
      },
    },
    {
      delta: (call: ServerDuplexStream<Request, object>) => {
        const stream = new Stream(call, resources, { refusals, pushes, pending });
        streams.add(stream);
        call.on('end', () => {
          streams.delete(stream);
          call.end();
        });
        call.on('error', () => streams.delete(stream));
      },
    },
  );
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    ),
  );
  const pushAll = () => {
    for (const stream of streams) for (const type of ORDER) stream.push(type);
  };
  return {
    refusals,
    pushes,
    idle: () => pending.size === 0,
    asked: (type) => [...streams].some((stream) => stream.asked(type)),
    set(next) {
      for (const [type, map] of Object.entries(next.resources)) {
        put(
          type as TypeName,
          [...map.values()].map((item) => [item.name, item.body as object] as const),
        );
      }
      pushAll();
    },
    setSecrets(secrets) {
      put('secret', secrets);
      pushAll();
    },
    close: async () => server.forceShutdown(),
  };
}

interface Journal {
  readonly refusals: string[];
  readonly pushes: TestAds['pushes'];
  readonly pending: Set<string>;
}

class Stream {
  readonly #call: ServerDuplexStream<Request, object>;
  readonly #resources: Map<TypeName, Map<string, { body: object; version: string }>>;
  readonly #journal: Journal;
  readonly #types = new Map<TypeName, { wildcard: boolean; names: Set<string>; sent: Map<string, string> }>();
  #nonce = 0;

  constructor(
    call: ServerDuplexStream<Request, object>,
    resources: Map<TypeName, Map<string, { body: object; version: string }>>,
    journal: Journal,
  ) {
    this.#call = call;
    this.#resources = resources;
    this.#journal = journal;
    call.on('data', (request: Request) => this.#receive(request));
  }

  #receive(request: Request): void {
    const type = ORDER.find((name) => TYPE_URLS[name] === request.type_url);
    if (type === undefined) return;
    if (request.response_nonce) this.#journal.pending.delete(request.response_nonce);
    if (request.error_detail?.message) this.#journal.refusals.push(`${type}: ${request.error_detail.message}`);
    const known = this.#types.get(type);
    const state = known ?? { wildcard: type === 'cluster' || type === 'listener', names: new Set(), sent: new Map() };
    this.#types.set(type, state);
    for (const name of request.resource_names_unsubscribe ?? []) {
      state.names.delete(name);
      state.sent.delete(name);
    }
    for (const name of request.resource_names_subscribe ?? []) {
      state.names.add(name);
      state.sent.delete(name);
    }
    if (known === undefined || (request.resource_names_subscribe ?? []).length > 0) this.push(type);
  }

  asked(type: TypeName): boolean {
    return this.#types.has(type);
  }

  push(type: TypeName): void {
    const state = this.#types.get(type);
    if (state === undefined) return;
    const have = this.#resources.get(type) as Map<string, { body: object; version: string }>;
    const wanted = state.wildcard ? [...have.keys()] : [...state.names];
    const changed = wanted.filter((name) => have.has(name) && state.sent.get(name) !== have.get(name)?.version);
    const removed = [...state.sent.keys()].filter((name) => !have.has(name));
    const absent = type === 'secret' ? [] : wanted.filter((name) => !have.has(name) && !state.sent.has(name));
    if (changed.length + removed.length + absent.length === 0) return;
    const nonce = `${type}-${++this.#nonce}`;
    for (const name of changed) state.sent.set(name, have.get(name)?.version as string);
    for (const name of removed) state.sent.delete(name);
    this.#journal.pending.add(nonce);
    this.#journal.pushes.push({ type, names: changed });
    this.#call.write({
      type_url: TYPE_URLS[type],
      nonce,
      resources: changed.map((name) => ({
        name,
        version: have.get(name)?.version,
        resource: { '@type': TYPE_URLS[type], ...have.get(name)?.body },
      })),
      removed_resources: [...removed, ...absent],
    });
    // A changed cluster warms until its endpoints come again (findings A5).
    if (type === 'cluster') {
      const endpoints = this.#types.get('endpoint');
      for (const name of changed) endpoints?.sent.delete(name);
    }
  }
}
