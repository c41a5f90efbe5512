/**
 * Secrets for gateways (docs/decisions/0009). In: names that a host asks for over mTLS. Out: their values, to a host that is granted them, at
 * once or as soon as they change. Must never: serve what the grant and a Gateway or DestinationRule do not name, or serve anything before its audit line is written.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { MeshError } from '../../api/errors.ts';
import { AGENT_API, type SecretAnswer, type SecretsRequest, type SecretsResponse } from '../../api/http/agent-api.ts';
import { type MeshObject, objectKey } from '../../api/resources/object.ts';
import { secretParts } from '../../api/resources/secret-data.ts';
import type { Logger } from '../../runtime/log.ts';
import { mayHaveSecret } from '../ca/policy.ts';
import { HOST_PREFIX, type HostRow } from '../store/internal-rows.ts';
import type { SecretVault } from '../store/secret-vault.ts';
import type { Store } from '../store/store.ts';
import { type CallerDeps, memberOf } from './identity-routes.ts';

export interface SecretRoutesDeps extends CallerDeps {
  readonly store: Store;
  readonly vault: SecretVault;
  /** One line in the audit log. Throws while it cannot be written. */
  record(event: {
    readonly principal: string;
    readonly source: string;
    readonly verb: string;
    readonly keys: readonly string[];
    readonly code: number;
  }): void;
  readonly log: Logger;
}

const MAX_NAMES = 100;
const MAX_WAIT_SECONDS = 55;
/** An answer holds at least one Secret, and no more once it is this large: a host asks again. */
const MAX_ANSWER_BYTES = 1 << 20;
/** Waiting requests of one host, whose agent has one, and in all. */
const MAX_WAITERS_A_HOST = 4;
const MAX_WAITERS = 4096;
/** Rows on which the answer depends. */
const PREFIXES = ['Secret/', 'Gateway/', 'DestinationRule/', 'WorkloadGroup/', HOST_PREFIX];

/** HTTP status of each code that this route alone throws. */
export const SECRET_STATUS: Readonly<Record<string, number>> = { TOO_MANY_WAITERS: 429, AUDIT_UNAVAILABLE: 503 };

/** Registers AGENT_API.secrets; watches the store until `server` closes. */
export function registerSecretRoutes(server: FastifyInstance, deps: SecretRoutesDeps): void {
  const changes = createChanges(deps);
  server.addHook('preClose', async () => changes.close());
  const waiting = new Map<string, number>();
  server.post(AGENT_API.secrets, { bodyLimit: 64 * 1024 }, async (request): Promise<SecretsResponse> => {
    const asked = parseRequest(request.body);
    const { host } = await memberOf(deps, request);
    const count = waiting.get(host) ?? 0;
    if (count >= MAX_WAITERS_A_HOST || waiting.size >= MAX_WAITERS)
      throw new MeshError('TOO_MANY_WAITERS', 'too many requests for Secrets wait; ask again in a minute');
    waiting.set(host, count + 1);
    try {
      return await answer(deps, changes, request, asked);
    } finally {
      const left = (waiting.get(host) ?? 1) - 1;
      if (left > 0) waiting.set(host, left);
      else waiting.delete(host);
    }
  });
}

async function answer(
  deps: SecretRoutesDeps,
  changes: Changes,
  request: FastifyRequest,
  asked: SecretsRequest,
): Promise<SecretsResponse> {
  const deadline = deps.clock.monotonic() + asked.wait * 1000;
  for (;;) {
    const seen = changes.count();
    // Looked up anew each time: a host that was revoked while it waited gets nothing.
    const member = await memberOf(deps, request);
    const secrets = await differing(deps, member, asked);
    const leftMs = deadline - deps.clock.monotonic();
    if (secrets.length > 0 || leftMs <= 0 || changes.closed() || request.raw.socket.destroyed) {
      const served = secrets.filter((one) => 'version' in one).map((one) => `Secret/${one.name}`);
      if (served.length > 0)
        deps.record({ principal: `host:${member.host}`, source: request.ip, verb: 'serve', keys: served, code: 200 });
      return { secrets };
    }
    await changes.wait(seen, leftMs, request);
  }
}

/** What differs from what the host has, in the order asked. */
async function differing(deps: SecretRoutesDeps, member: HostRow, asked: SecretsRequest): Promise<SecretAnswer[]> {
  const { store } = deps;
  const groups = await granted(store, member);
  const gateways = await objects(store, 'Gateway/');
  const answers: SecretAnswer[] = [];
  let bytes = 0;
  for (const { name, have } of asked.secrets) {
    const [namespace = '', short = ''] = name.split('/');
    const secret = { namespace, name: short };
    const byGateway = mayHaveSecret(member, secret, groups, gateways);
    const rules = byGateway.allowed ? [] : await objects(store, `DestinationRule/${namespace}/`);
    const verdict = byGateway.allowed ? byGateway : mayHaveSecret(member, secret, groups, gateways, rules);
    const one = verdict.allowed ? await read(deps, name) : { name, code: verdict.code, message: verdict.message };
    if (have === ('version' in one ? one.version : one.code)) continue;
    if (!('version' in one)) deps.log.info('secret not served', { host: member.host, secret: name, code: one.code });
    bytes += JSON.stringify(one).length;
    if (answers.length > 0 && bytes > MAX_ANSWER_BYTES) break;
    answers.push(one);
  }
  return answers;
}

async function objects(store: Store, prefix: string): Promise<MeshObject[]> {
  return (await store.list(prefix)).entries.map((entry) => JSON.parse(entry.value) as MeshObject);
}

async function granted(store: Store, member: HostRow): Promise<MeshObject[]> {
  const entries = await Promise.all(
    member.workloadGroups.map((id) => {
      const slash = id.indexOf('/');
      return store.get(objectKey('WorkloadGroup', id.slice(0, slash), id.slice(slash + 1)));
    }),
  );
  return entries.flatMap((entry) => (entry === undefined ? [] : [JSON.parse(entry.value) as MeshObject]));
}

async function read({ store, vault, log }: SecretRoutesDeps, name: string): Promise<SecretAnswer> {
  const entry = await store.get(`Secret/${name}`);
  if (entry === undefined) return { name, code: 'SECRET_UNKNOWN', message: `there is no Secret ${name}` };
  const stored = JSON.parse(entry.value) as MeshObject;
  try {
    return { name, version: vault.versionOf(stored), parts: secretParts(vault.open(stored)) };
  } catch (error) {
    log.error('a Secret cannot be served', { secret: name, error });
    return { name, code: 'SECRET_UNREADABLE', message: `Secret ${name} cannot be decrypted by this controller` };
  }
}

interface Changes {
  /** Grows with each change; taken before what is judged is read, so that none is missed. */
  count(): number;
  /** Resolves at the first change after `seen`, after `ms`, or when the client goes. */
  wait(seen: number, ms: number, request: FastifyRequest): Promise<void>;
  closed(): boolean;
  close(): void;
}

function createChanges({ store, clock, log }: SecretRoutesDeps): Changes {
  const ended = new AbortController();
  const wakes = new Set<() => void>();
  let count = 0;
  const wake = () => {
    count += 1;
    for (const one of [...wakes]) one();
  };
  const follow = async () => {
    while (!ended.signal.aborted) {
      try {
        for await (const { changes } of store.watch('', await store.revision(), ended.signal))
          if (changes.some(({ key }) => PREFIXES.some((prefix) => key.startsWith(prefix)))) wake();
      } catch (error) {
        // Too slow for the history: whatever was missed, everybody looks again.
        if (!ended.signal.aborted) log.warn('the watch for Secrets starts again', { error });
        wake();
        await new Promise<void>((resolve) => void clock.after(1000, resolve));
      }
    }
  };
  void follow();
  return {
    count: () => count,
    closed: () => ended.signal.aborted,
    close() {
      ended.abort();
      wake();
    },
    wait(seen, ms, request) {
      if (seen !== count) return Promise.resolve();
      return new Promise((resolve) => {
        const done = () => {
          if (!wakes.delete(done)) return;
          cancel();
          request.raw.socket.off('close', done);
          resolve();
        };
        wakes.add(done);
        const cancel = clock.after(ms, done);
        request.raw.socket.once('close', done);
      });
    },
  };
}

const NAME = /^[-a-z0-9]{1,63}\/[-.a-z0-9]{1,253}$/;

/** Of a host, which may be stolen: bounded, and nothing else than names. */
function parseRequest(body: unknown): SecretsRequest {
  const { secrets, wait } = (body ?? {}) as Partial<SecretsRequest>;
  const ok =
    Array.isArray(secrets) &&
    secrets.length <= MAX_NAMES &&
    secrets.every(
      (one) =>
        typeof one?.name === 'string' && NAME.test(one.name) && typeof one.have === 'string' && one.have.length < 200,
    ) &&
    typeof wait === 'number' &&
    wait >= 0 &&
    wait <= MAX_WAIT_SECONDS;
  if (!ok) throw new MeshError('BODY_INVALID', `expected {secrets: [{name, have}], wait}, at most ${MAX_NAMES}`);
  return { secrets, wait };
}
