import { fileURLToPath } from 'node:url';
import type { Json, ResourceSet, ResourceType, XdsResource } from '../../agent/translate/resource-set.ts';
import { createLedger, type Ledger, type LedgerState } from '../../agent/xds/ledger.ts';
import { loadMessages } from '../../agent/xds/messages.ts';
import { type SecretMaterial, secretEntry } from '../../agent/xds/secrets.ts';
import { createEntry, createSnapshotCache, type Entry, type Snapshot } from '../../agent/xds/snapshot-cache.ts';
import { createStream, type Stream } from '../../agent/xds/stream.ts';
import type { DeltaResponse } from '../../agent/xds/wire.ts';
import type { OpenStream } from '../fakes/fake-envoy.ts';

export const messages = loadMessages(fileURLToPath(new URL('../../build/envoy/descriptors.pb', import.meta.url)));

const ADS = { ads: {}, resource_api_version: 'V3' };
const url = (name: string) => `type.googleapis.com/${name}`;

function resource(type: ResourceType, name: string, body: Json, origins: readonly string[] = []): XdsResource {
  return { type, name, body, origins };
}

/** An EDS cluster; another `timeout` is another version. */
export function cluster(name: string, timeout = '1s', secret?: string): XdsResource {
  const context = { common_tls_context: { tls_certificate_sds_secret_configs: [{ name: secret, sds_config: ADS }] } };
  const tls = {
    name: 'tls',
    typed_config: { '@type': url('envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext'), ...context },
  };
  return resource('cluster', name, {
    name,
    type: 'EDS',
    connect_timeout: timeout,
    eds_cluster_config: { eds_config: ADS },
    ...(secret === undefined ? {} : { transport_socket: tls }),
  });
}

export function endpoint(name: string, ...ports: readonly number[]): XdsResource {
  const at = (port_value: number) => ({
    endpoint: { address: { socket_address: { address: '127.0.0.1', port_value } } },
  });
  return resource('endpoint', name, { cluster_name: name, endpoints: [{ lb_endpoints: ports.map(at) }] });
}

export interface ListenerRefs {
  readonly route?: string;
  /** A policy by ECDS. */
  readonly policy?: string;
  /** A TCP proxy by ECDS. */
  readonly proxy?: string;
}

const HCM = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager';
const RBAC = url('envoy.extensions.filters.network.rbac.v3.RBAC');
const TCP_PROXY = url('envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy');
const discovered = (name: string, type: string) => ({
  name,
  config_discovery: { config_source: ADS, type_urls: [type] },
});

/** A listener on loopback whose chain refers to what is given. */
export function listener(name: string, port: number, refs: ListenerRefs = {}): XdsResource {
  const http = {
    name: 'http',
    typed_config: {
      '@type': url(HCM),
      stat_prefix: name,
      rds: { route_config_name: refs.route, config_source: ADS },
      http_filters: [
        { name: 'router', typed_config: { '@type': url('envoy.extensions.filters.http.router.v3.Router') } },
      ],
    },
  };
  const filters = [
    ...(refs.policy === undefined ? [] : [discovered(refs.policy, RBAC)]),
    ...(refs.route === undefined ? [] : [http]),
    ...(refs.proxy === undefined ? [] : [discovered(refs.proxy, TCP_PROXY)]),
  ];
  return resource('listener', name, {
    name,
    address: { socket_address: { address: '127.0.0.1', port_value: port } },
    filter_chains: [{ filters }],
  });
}

/** A route table that leads all to one cluster. */
export function route(name: string, to: string, origins: readonly string[] = []): XdsResource {
  const hosts = [{ name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster: to } }] }];
  return resource('route', name, { name, virtual_hosts: hosts }, origins);
}

export function policy(name: string, prefix: string): XdsResource {
  return resource('extension', name, { name, typed_config: { '@type': RBAC, stat_prefix: prefix } });
}

export function proxy(name: string, to: string): XdsResource {
  return resource('extension', name, { name, typed_config: { '@type': TCP_PROXY, stat_prefix: 'tcp', cluster: to } });
}

/** One generation of resources, in the order given. */
export function resourceSet(generation: number, resources: readonly XdsResource[]): ResourceSet {
  const of = (type: ResourceType) => new Map(resources.filter((r) => r.type === type).map((r) => [r.name, r]));
  const [cluster, endpoint, listener, route, extension] = (
    ['cluster', 'endpoint', 'listener', 'route', 'extension'] as const
  ).map(of) as [Map<string, XdsResource>, ...Map<string, XdsResource>[]];
  return {
    generation,
    resources: { cluster, endpoint, listener, route, extension } as ResourceSet['resources'],
    secrets: new Set(),
    secretOrigins: new Map(),
  };
}

/** The machine of agent/xds without its server: snapshots, ledger, secrets and a clock that stands still. */
export interface XdsWorld {
  readonly open: OpenStream;
  set(...resources: readonly XdsResource[]): void;
  secret(name: string, material: SecretMaterial | undefined): void;
  /** Moves the clock and calls onTimer where it is due. */
  elapse(ms: number): void;
  /** The server noticed that its streams ended. */
  close(): void;
  /** A new agent over what this one persisted; nothing set, no stream. */
  restart(): void;
  /** Of the newest stream. */
  stream(): Stream;
  ledger(): Ledger;
  persisted(): LedgerState | undefined;
  readonly sent: DeltaResponse[];
  readonly answers: { readonly type: ResourceType; readonly outcome: string; readonly message: string | undefined }[];
}

export function createXdsWorld(): XdsWorld {
  let cache = createSnapshotCache(messages);
  let ledger = createLedger();
  let state: LedgerState | undefined;
  let snapshot: Snapshot | undefined;
  let streams: Stream[] = [];
  let generation = 0;
  let now = 1000;
  const secrets = new Map<string, Entry>();
  const sent: DeltaResponse[] = [];
  const answers: XdsWorld['answers'] = [];

  const persist = () => {
    const changed = ledger.takeChanged();
    if (changed !== undefined) state = structuredClone(changed);
  };
  const step = (stream: Stream, run: (now: number) => void) => {
    run(now);
    persist();
    const wake = stream.wakeAt();
    if (wake !== undefined && wake <= now) throw new Error(`a timer that is due at once would spin: ${wake - now} ms`);
  };
  return {
    open(receive) {
      const stream = createStream({
        snapshot: () => snapshot,
        secret: (name) => secrets.get(name),
        empty(type, name) {
          if (type === 'endpoint') return createEntry(messages, resource(type, name, { cluster_name: name }));
          return type === 'route' ? createEntry(messages, resource(type, name, { name })) : undefined;
        },
        ledger,
        send(response) {
          persist();
          const known = state?.everSent;
          const names = response.entries.map((entry) => entry.name);
          if (response.type === 'cluster' || response.type === 'listener')
            for (const name of names)
              if (known?.[response.type].includes(name) !== true) throw new Error(`${name} was sent, not persisted`);
          sent.push(response);
          receive(response);
        },
        answered: (type, outcome, _names, message) => void answers.push({ type, outcome, message }),
      });
      streams.push(stream);
      return (request) => step(stream, (at) => stream.onRequest(request, at));
    },
    set(...resources) {
      snapshot = cache.next(resourceSet(++generation, resources));
      ledger.prune(snapshot);
      for (const stream of streams) step(stream, stream.onSnapshot);
    },
    secret(name, material) {
      if (material === undefined) secrets.delete(name);
      else secrets.set(name, secretEntry(messages, name, material));
      for (const stream of streams) step(stream, stream.onSecrets);
    },
    elapse(ms) {
      now += ms;
      for (const stream of streams) {
        const wake = stream.wakeAt();
        if (wake !== undefined && wake <= now) step(stream, stream.onTimer);
      }
    },
    close() {
      streams = [];
    },
    restart() {
      cache = createSnapshotCache(messages);
      ledger = createLedger(state);
      snapshot = undefined;
      streams = [];
      generation = 0;
    },
    stream: () => streams.at(-1) as Stream,
    ledger: () => ledger,
    persisted: () => state,
    sent,
    answers,
  };
}
