/**
 * The xDS server: delta ADS with SDS on the same stream, over a unix socket, for the one Envoy of this host. In: ResourceSets, secrets.
 * Out: resources for Envoy; which generation it acknowledged, what it refused and in which words. The rules are in stream.ts and
 * docs/decisions/0004-xds.md. Must never: log or dump a secret's bytes, or let a broken request end the agent.
 */
import { chmod, rm } from 'node:fs/promises';
import { status as grpcStatus, Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { Counter, type Registry } from 'prom-client';
import { errorLine, MeshError } from '../../api/errors.ts';
import type { ObjectKey } from '../../api/resources/object.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Part } from '../../runtime/lifecycle.ts';
import type { Logger } from '../../runtime/log.ts';
import { readGauge } from '../../runtime/metrics.ts';
import { type ResourceSet, type ResourceType, TYPE_URLS } from '../translate/resource-set.ts';
import { envoyWords } from './envoy-words.ts';
import { createLedger, type Ledger } from './ledger.ts';
import { loadLedger, saveLedger } from './ledger-file.ts';
import type { Messages } from './messages.ts';
import { type SecretSource, secretEntry } from './secrets.ts';
import { createEntry, createSnapshotCache, type Entry, type Snapshot } from './snapshot-cache.ts';
import { createStream, type Stream } from './stream.ts';
import { type DeltaRequest, encodeResponse, parseRequest } from './wire.ts';

export interface XdsDeps {
  /** RUN_DIR/xds.sock: 0660, in a folder that only the proxy's group can enter: it carries keys. */
  readonly socketPath: string;
  readonly messages: Messages;
  readonly secrets: SecretSource;
  /** STATE_DIR/xds.json: names ever sent, last good versions of refused resources. */
  readonly persistPath: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: Registry;
}

/** A resource that Envoy refused, in its own words. */
export interface RefusedByEnvoy {
  readonly typeUrl: string;
  readonly resource: string;
  readonly origins: readonly ObjectKey[];
  readonly message: string;
  readonly generation: number;
}

export interface XdsStatus {
  readonly connected: boolean;
  /** Of the newest stream: the latest generation that Envoy acknowledged whole, refused resources aside; 0 before the first. */
  readonly ackedGeneration: number;
  /** True when Envoy has answered all that it was sent of the set given last. */
  readonly settled: boolean;
  readonly pending: number;
  readonly refused: readonly RefusedByEnvoy[];
}

export interface Xds extends Part {
  /** Only after start(): what an agent before this one sent is known then. */
  setResources(set: ResourceSet): void;
  status(): XdsStatus;
  /** Called after any change of `status()`, coalesced to one call a turn of the event loop. */
  onStatus(listener: () => void): void;
}

const METHOD = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';
/** initial_resource_versions of some 50,000 resources. */
const MAX_REQUEST_BYTES = 16 << 20;
/** Two epochs of one Envoy during a hot restart, and reconnections that overlap. */
const MAX_STREAMS = 4;

type Call = ServerDuplexStream<Buffer, Buffer>;

interface Session {
  readonly stream: Stream;
  readonly call: Call;
  acked: number;
  cancelTimer: () => void;
}

/** Ends a stream so that Envoy learns of it and comes again: `destroy` sends no status, and Envoy would wait on a silent stream for ever. */
function end(call: Call, code: grpcStatus, details: string): void {
  call.emit('error', { code, details });
}

export function createXds(deps: XdsDeps): Xds {
  const { messages, clock, log } = deps;
  const cache = createSnapshotCache(messages);
  const listeners: (() => void)[] = [];
  const sessions: Session[] = []; // the newest last
  const secrets = new Map<string, { material: unknown; entry: Entry }>();
  const metrics = createMetrics(deps.registry, () => sessions.length);
  let ledger: Ledger = createLedger(); // the persisted one from start() on
  let snapshot: Snapshot | undefined;
  let server: Server | undefined;
  let announcing = false;

  const announce = () => {
    if (announcing) return;
    announcing = true;
    setImmediate(() => {
      announcing = false;
      for (const listener of listeners) listener();
    });
  };

  /** Written before Envoy can know of it: an agent that dies right now must know later what Envoy may have. */
  const persist = () => {
    const state = ledger.takeChanged();
    if (state === undefined) return;
    try {
      saveLedger(deps.persistPath, state);
    } catch (error) {
      log.error('cannot write what was sent to Envoy', { path: deps.persistPath, error });
    }
  };

  const secret = (name: string): Entry | undefined => {
    const material = deps.secrets.get(name);
    if (material === undefined) return undefined;
    const known = secrets.get(name);
    const text = JSON.stringify(material);
    if (known?.material === text) return known.entry;
    try {
      const entry = secretEntry(messages, name, material);
      secrets.set(name, { material: text, entry });
      return entry;
    } catch (error) {
      log.error('cannot encode a secret', { secret: name, error }); // the last good one stays; the stream goes on
      return known?.entry;
    }
  };

  const empty = (type: ResourceType, name: string): Entry | undefined => {
    if (type === 'endpoint') return createEntry(messages, { type, name, body: { cluster_name: name }, origins: [] });
    if (type === 'route') return createEntry(messages, { type, name, body: { name }, origins: [] });
    return undefined;
  };

  /** Runs a step of a session's machine, then looks at what it left: a timer to set, a state to write, a generation acknowledged. */
  const step = (session: Session, run: (now: number) => void) => {
    try {
      run(clock.monotonic());
    } catch (error) {
      log.error('xds stream failed', { error });
      end(session.call, grpcStatus.INTERNAL, 'failed');
      return;
    }
    persist();
    session.cancelTimer();
    const wake = session.stream.wakeAt();
    session.cancelTimer =
      wake === undefined
        ? () => {}
        : clock.after(Math.max(1, wake - clock.monotonic()), () => step(session, session.stream.onTimer));
    if (snapshot !== undefined && session.stream.settled()) session.acked = snapshot.generation;
    announce();
  };

  const open = (call: Call) => {
    if (sessions.length >= MAX_STREAMS) {
      end(call, grpcStatus.RESOURCE_EXHAUSTED, `${MAX_STREAMS} streams are open already`);
      return;
    }
    const stream = createStream({
      snapshot: () => snapshot,
      secret,
      empty,
      ledger,
      send(response) {
        persist();
        metrics.sent.inc({ type: response.type }, response.entries.length + response.removed.length);
        call.write(Buffer.from(encodeResponse(response)));
      },
      answered(type, outcome, names, message) {
        metrics.answers.inc({ type, outcome });
        if (outcome === 'nack') log.warn('envoy refused', { type, names: names.slice(0, 10), reason: message });
      },
    });
    const session: Session = { stream, call, acked: 0, cancelTimer: () => {} };
    sessions.push(session);
    log.info('envoy connected', { streams: sessions.length });
    const close = () => {
      const index = sessions.indexOf(session);
      if (index < 0) return;
      sessions.splice(index, 1);
      session.cancelTimer();
      log.info('envoy disconnected', { streams: sessions.length });
      announce();
    };
    call.on('data', (bytes: Buffer) => {
      let request: DeltaRequest;
      try {
        request = parseRequest(messages, bytes);
      } catch (error) {
        log.warn('not a discovery request', { error });
        end(call, grpcStatus.INVALID_ARGUMENT, errorLine(error));
        return;
      }
      step(session, (now) => stream.onRequest(request, now));
    });
    call.on('end', () => {
      close();
      call.end();
    });
    call.on('error', close);
    call.on('close', close);
    call.on('cancelled', close);
    announce();
  };

  deps.secrets.onChange(() => {
    for (const session of [...sessions]) step(session, session.stream.onSecrets);
  });

  return {
    name: 'xds',
    async start() {
      ledger = createLedger(loadLedger(deps.persistPath, log));
      const created = new Server({
        'grpc.max_receive_message_length': MAX_REQUEST_BYTES,
        'grpc.max_send_message_length': -1,
      });
      created.addService(
        {
          delta: {
            path: METHOD,
            requestStream: true,
            responseStream: true,
            requestSerialize: (value: Buffer) => value,
            requestDeserialize: (bytes: Buffer) => bytes,
            responseSerialize: (value: Buffer) => value,
            responseDeserialize: (bytes: Buffer) => bytes,
          },
        },
        { delta: open },
      );
      await rm(deps.socketPath, { force: true });
      await new Promise<void>((resolve, reject) => {
        created.bindAsync(`unix:${deps.socketPath}`, ServerCredentials.createInsecure(), (error) => {
          if (error === null) resolve();
          else
            reject(
              new MeshError('XDS_LISTEN', `cannot listen on ${deps.socketPath}: ${errorLine(error)}`, { cause: error }),
            );
        });
      });
      await chmod(deps.socketPath, 0o660);
      server = created;
    },
    async stop() {
      const closing = server;
      server = undefined;
      closing?.forceShutdown();
      for (const session of sessions.splice(0)) session.cancelTimer();
    },
    setResources(set) {
      const before = snapshot;
      snapshot = cache.next(set);
      ledger.prune(snapshot);
      persist();
      for (const { type, name, message } of snapshot.unencodable)
        if (before?.unencodable.some((u) => u.type === type && u.name === name && u.message === message) !== true)
          log.warn('cannot encode a resource', { type, name, reason: message });
      for (const session of [...sessions]) step(session, session.stream.onSnapshot);
      announce();
    },
    status() {
      const newest = sessions.at(-1);
      const generation = snapshot?.generation ?? 0;
      return {
        connected: newest !== undefined,
        ackedGeneration: newest?.acked ?? 0,
        settled: newest?.stream.settled() ?? false,
        pending: newest?.stream.pending() ?? 0,
        refused: [
          ...ledger.refusals().map(({ entry, message, generation: at }) => ({
            typeUrl: TYPE_URLS[entry.type],
            resource: entry.name,
            origins: entry.origins,
            message,
            generation: at,
          })),
          ...(snapshot?.unencodable ?? []).map(({ type, name, origins, message }) => ({
            typeUrl: TYPE_URLS[type],
            resource: name,
            origins,
            message: envoyWords(message),
            generation,
          })),
        ],
      };
    },
    onStatus: (listener) => void listeners.push(listener),
  };
}

function createMetrics(registry: Registry, streams: () => number) {
  readGauge(registry, 'mesh_agent_xds_streams', 'Envoys connected to this agent.', streams);
  return {
    sent: new Counter({
      name: 'mesh_agent_xds_resources_sent_total',
      help: 'Resources and removals sent to Envoy.',
      labelNames: ['type'],
      registers: [registry],
    }),
    answers: new Counter({
      name: 'mesh_agent_xds_answers_total',
      help: 'Responses that Envoy acknowledged or refused.',
      labelNames: ['type', 'outcome'],
      registers: [registry],
    }),
  };
}
