/**
 * The operators' REST API, port 15200: Istio's kinds by Kubernetes' conventions over TLS. In: requests with a bearer token or a client
 * certificate. Out: answers; transactions in the store; one audit line a write. It must never answer an unauthenticated request (but
 * /livez and /readyz), answer bad input with 500, or store what was not validated and allowed.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { type MeshStatus, OPERATOR_API, OPERATOR_LIMITS } from '../../api/http/operator-api.ts';
import { type Status, tooLarge, tooManyRequests, unauthorized, unknownPath } from '../../api/http/status-errors.ts';
import { objectKey } from '../../api/resources/object.ts';
import { DEFAULT_NAMESPACE, ROOT_NAMESPACE } from '../../api/resources/registry.ts';
import { type ValidateOptions, validateObject } from '../../api/resources/validate.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Part } from '../../runtime/lifecycle.ts';
import type { Logger } from '../../runtime/log.ts';
import type { SecretVault } from '../store/secret-vault.ts';
import type { Store } from '../store/store.ts';
import { type AuditEvent, createAudit } from './audit.ts';
import type { Answer, Call } from './call.ts';
import { refuse, statusOf } from './errors.ts';
import { createFailureLimit } from './failure-limit.ts';
import { createJournal, type Quota } from './journal.ts';
import type { HostRelay } from './look.ts';
import { createNeighbours } from './neighbours.ts';
import { created, storedText } from './objects.ts';
import type { HostDirectory, TokenIssuer } from './operator.ts';
import type { PrincipalDeps } from './principal-routes.ts';
import { byCertificate, byToken, type Principal } from './principals.ts';
import { type Routed, type RouterDeps, route } from './router.ts';
import type { Watch } from './watch.ts';

export interface RestOptions {
  /** Name of this replica: its audit rows are its own. */
  readonly replica: string;
  readonly trustDomain: string;
  readonly listen: { readonly host: string; readonly port: number };
  /** PEM chain and key of the server. */
  readonly tls: { readonly cert: string; readonly key: string };
  /** PEM of the CAs whose client certificates count; without it only tokens do. */
  readonly clientCa?: readonly string[];
  /** File of the audit log. */
  readonly auditPath: string;
  /** CIDRs of virtual addresses (validateObject). */
  readonly vipRanges?: readonly string[];
  /** What the agents enforce; default enforced-fields.ts. */
  readonly enforced?: ValidateOptions['enforced'];
  /** Default 50,000 objects, 5,000 of a kind in a namespace; 20,000 clusters, 5,000 of a namespace. */
  readonly quota?: Partial<Quota>;
  /** Watches at a time; default 1,000. */
  readonly maxWatches?: number;
}

export interface RestDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly hosts: HostDirectory;
  readonly tokens: TokenIssuer;
  readonly questions: HostRelay;
  readonly authority: PrincipalDeps['authority'];
  readonly vault: SecretVault;
  status(): Promise<MeshStatus>;
  /** Hears the revision of every commit, before the client is answered. */
  onCommit(revision: number): void;
}

export interface Rest extends Part {
  readonly server: FastifyInstance;
  /** Port that was bound; after start. */
  port(): number;
  /** A new certificate for new connections. */
  setTls(tls: { readonly cert: string; readonly key: string }): void;
  /** A line in the audit log for what agents were given. Throws AUDIT_UNAVAILABLE while it cannot be written. */
  record(event: AuditEvent): void;
}

/** Measured: hosts make 5,000 clusters in 5 s, 10,000 in 10 s. */
const DEFAULT_QUOTA: Quota = {
  objects: 50_000,
  perKindAndNamespace: 5_000,
  clustersPerNamespace: 5_000,
  clusters: 20_000,
};

export function createRest(options: RestOptions, deps: RestDeps): Rest {
  const { store, clock } = deps;
  const log = deps.log.child('rest');
  const audit = createAudit({ path: options.auditPath, replica: options.replica }, { store, clock, log });
  const neighbours = createNeighbours(store, clock);
  const { trustDomain, vipRanges, enforced } = options;
  const validation = {
    trustDomain,
    vipRanges,
    enforced,
    get now() {
      return clock.now();
    },
  };
  const quota = { ...DEFAULT_QUOTA, ...options.quota };
  const journal = createJournal({ store, audit, quota, neighbours, onCommit: deps.onCommit });
  const { hosts, tokens, questions, authority, vault } = deps;
  const router: RouterDeps = {
    store,
    clock,
    log,
    journal,
    neighbours,
    validation,
    hosts,
    tokens,
    questions,
    authority,
    questionLimit: createFailureLimit({ perSecond: 5, burst: 20 }),
    vault,
    status: () => deps.status(),
  };
  const stopping = new AbortController();
  const server = createServer(options, { ...deps, log }, router, stopping.signal);
  return {
    name: 'rest',
    server,
    async start() {
      await audit.open();
      await seedNamespaces(deps);
      await server.listen(options.listen);
      log.info('serving operators', { port: this.port() });
    },
    async stop() {
      stopping.abort();
      await server.close();
      audit.close();
    },
    record(event) {
      audit.assertReady();
      audit.append(event);
    },
    port: () => (server.server.address() as AddressInfo | null)?.port ?? 0,
    // Node forgets what is not named again, the CA of clients among it.
    setTls: (tls) =>
      (server.server as unknown as { setSecureContext(tls: object): void }).setSecureContext({
        ...tls,
        ...secureContext(options),
      }),
  };
}

/** The two namespaces that always are: clients look them up before anything else. */
async function seedNamespaces({ store, clock, onCommit }: RestDeps): Promise<void> {
  for (const name of [DEFAULT_NAMESPACE, ROOT_NAMESPACE]) {
    const key = objectKey('Namespace', undefined, name);
    if ((await store.get(key)) !== undefined) continue;
    const { object } = validateObject({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
    if (object === undefined) continue;
    const uid = crypto.randomUUID();
    const value = storedText(created(object, { uid, now: clock.now() }));
    const result = await store.commit([{ key, value, ifRevision: 0 }]);
    if (result.ok) onCommit(result.revision);
  }
}

function createServer(
  options: RestOptions,
  deps: RestDeps,
  router: RouterDeps,
  stopping: AbortSignal,
): FastifyInstance {
  const server = Fastify({
    https: {
      ...options.tls,
      ...secureContext(options),
      requestCert: options.clientCa !== undefined,
      rejectUnauthorized: false, // a token may come without a certificate; `authenticate` looks at the verdict
    },
    logger: false,
    bodyLimit: OPERATOR_LIMITS.maxObjectBytes,
    requestTimeout: 60_000,
    forceCloseConnections: true,
    routerOptions: { ignoreTrailingSlash: false },
    frameworkErrors: (_error, _request, reply) => void sendStatus(reply, unknownPath()),
  }) as unknown as FastifyInstance;
  const principals = new WeakMap<IncomingMessage, Principal>();
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  server.addHook('onRequest', createAuthentication(options, deps, principals));
  server.setErrorHandler((error, request, reply) => {
    const { status, internal } = statusOf(error);
    if (internal)
      deps.log.error('a request failed', {
        method: request.method,
        path: pathOf(request),
        error,
        stack: (error as Error).stack,
      });
    const limit = request.routeOptions.bodyLimit ?? OPERATOR_LIMITS.maxObjectBytes;
    return sendStatus(reply, status.code === 413 && status.details === undefined ? tooLarge(limit) : status);
  });
  server.get('/livez', async () => 'ok');
  server.get('/readyz', async () => ((await deps.store.revision()) > 0 ? 'ok' : 'not ready'));
  const handler = createHandler(deps.log, router, principals, { stopping, maxWatches: options.maxWatches ?? 1000 });
  server.route({ method: 'POST', url: OPERATOR_API.apply, bodyLimit: OPERATOR_LIMITS.maxTransactionBytes, handler });
  server.route({ method: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'], url: '*', exposeHeadRoute: false, handler });
  server.setNotFoundHandler((_request, reply) => sendStatus(reply, unknownPath()));
  return server;
}

function secureContext({ clientCa }: RestOptions): object {
  return { minVersion: 'TLSv1.2', ca: clientCa === undefined ? undefined : [...clientCa] };
}

const OPEN_PATHS = ['/livez', '/readyz'];

/** Sets the principal, or ends the request with 401 or 429 before its body is read. */
function createAuthentication(options: RestOptions, deps: RestDeps, principals: WeakMap<IncomingMessage, Principal>) {
  const limit = createFailureLimit({ perSecond: 5, burst: 20 });
  return async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
    if (OPEN_PATHS.includes(pathOf(request))) return undefined;
    const principal = await authenticate(options, deps.store, request);
    if (principal !== undefined) {
      principals.set(request.raw, principal);
      return undefined;
    }
    // A right credential is never held up: others behind the same address may be guessing.
    if (limit.failed(request.ip, deps.clock.monotonic())) {
      return sendStatus(reply.header('retry-after', '1'), tooManyRequests(1));
    }
    deps.log.warn('authentication failed', { source: request.ip, method: request.method });
    return sendStatus(reply.header('www-authenticate', 'Bearer'), unauthorized());
  };
}

async function authenticate(
  options: RestOptions,
  store: Store,
  request: FastifyRequest,
): Promise<Principal | undefined> {
  const [, token] = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '') ?? [];
  if (request.headers.authorization !== undefined) return token === undefined ? undefined : await byToken(store, token);
  const socket = request.raw.socket as TLSSocket;
  const certificate = socket.authorized ? socket.getPeerX509Certificate() : undefined;
  return certificate === undefined ? undefined : await byCertificate(store, certificate.raw, options.trustDomain);
}

function createHandler(
  log: Logger,
  router: RouterDeps,
  principals: WeakMap<IncomingMessage, Principal>,
  bounds: { readonly stopping: AbortSignal; readonly maxWatches: number },
) {
  let watches = 0;
  return async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
    const principal = principals.get(request.raw);
    if (principal === undefined) return refuse(unauthorized());
    const routed: Routed = await route(router, callOf(request, principal));
    if ('answer' in routed) return sendAnswer(reply, routed.answer);
    if (watches >= bounds.maxWatches) return refuse(tooManyRequests(10));
    watches += 1;
    reply.hijack();
    try {
      await runWatch(routed.watch, reply.raw, bounds.stopping);
    } catch (error) {
      log.error('a watch failed', { error });
    } finally {
      watches -= 1;
    }
    return reply;
  };
}

function callOf(request: FastifyRequest, principal: Principal): Call {
  const header = (name: string): string => {
    const value = request.headers[name];
    return Array.isArray(value) ? value.join(',') : (value ?? '');
  };
  return {
    principal,
    method: request.method,
    path: pathOf(request),
    query: new URLSearchParams((request.raw.url ?? '').split('?', 2)[1] ?? ''),
    accept: header('accept'),
    contentType: header('content-type'),
    ifNoneMatch: header('if-none-match'),
    body: Buffer.isBuffer(request.body) ? request.body : new Uint8Array(),
    source: request.ip,
  };
}

function pathOf(request: FastifyRequest): string {
  return (request.raw.url ?? '').split('?', 1)[0] ?? '';
}

/** Streams a watch until it ends, the client leaves, or the server stops. */
async function runWatch(watch: Watch, raw: ServerResponse, stopping: AbortSignal): Promise<void> {
  const gone = new AbortController();
  raw.once('close', () => gone.abort());
  raw.on('error', () => gone.abort());
  raw.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' });
  raw.flushHeaders();
  const signal = AbortSignal.any([gone.signal, stopping]);
  const send = async (line: string): Promise<void> => {
    if (signal.aborted) throw signal.reason;
    if (!raw.write(line)) await drained(raw, signal);
  };
  try {
    await watch.run(send, signal);
  } finally {
    raw.end();
  }
}

function drained(raw: ServerResponse, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onDrain = () => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    };
    const onAbort = () => {
      raw.removeListener('drain', onDrain);
      reject(signal.reason);
    };
    raw.once('drain', onDrain);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

const MAX_WARNINGS = 50;

function sendAnswer(reply: FastifyReply, answer: Answer): FastifyReply {
  reply.code(answer.code).headers({ 'cache-control': 'no-cache, private', ...answer.headers });
  const warnings = (answer.warnings ?? []).slice(0, MAX_WARNINGS).map(warningHeader);
  if (warnings.length > 0) reply.header('warning', warnings);
  if (answer.body === undefined) return reply.send();
  // As bytes: for a text fastify would rewrite the content type.
  const bytes = Buffer.from(JSON.stringify(answer.body));
  return reply.header('content-type', answer.contentType ?? 'application/json').send(bytes);
}

function sendStatus(reply: FastifyReply, status: Status): FastifyReply {
  return reply.code(status.code).header('content-type', 'application/json').send(JSON.stringify(status));
}

/** RFC 7234 5.5, code 299. The text may hold what a client wrote: quoted, printable ASCII only, bounded. */
function warningHeader(text: string): string {
  const safe = text
    .slice(0, 500)
    .replace(/[^\x20-\x7e]/g, '?')
    .replace(/["\\]/g, '\\$&');
  return `299 - "${safe}"`;
}
