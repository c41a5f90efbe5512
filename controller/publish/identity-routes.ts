/**
 * Enrolment, SVIDs and status: the part of the API for agents that knows who asks. In: one-shot secrets, CSRs, host SVIDs over mTLS.
 * Out: certificates, grants in the store, what hosts report. Must never: trust a name in a CSR, tell an unknown token from a wrong secret,
 * let a host ask or report for another.
 */
import { createHash, type KeyObject, X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { hasCode, MeshError } from '../../api/errors.ts';
import {
  AGENT_API,
  type EnrolRequest,
  type EnrolResponse,
  type HostStatus,
  type SvidRequest,
  type SvidResponse,
} from '../../api/http/agent-api.ts';
import { parseCsr, type VerifiedSvid, verifySvid } from '../../api/identity/x509.ts';
import { type MeshObject, objectKey } from '../../api/resources/object.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Authority } from '../ca/authority.ts';
import { type Rows, spendToken } from '../ca/join-token.ts';
import { mayIssueWorkload, mayRenewHost } from '../ca/policy.ts';
import { type HostRow, hostKeyOf } from '../store/internal-rows.ts';
import { createRateLimit } from './rate-limit.ts';

const DAY_MS = 86_400_000;
/** An expired host SVID renews for this long by proof of the same key (DESIGN 3.4). */
const RENEWAL_GRACE_MS = 90 * DAY_MS;
const MAX_CLOCK_SKEW_MS = 10 * 60_000;

export interface IdentityRoutesDeps {
  readonly rows: Rows;
  readonly authority: Authority;
  /** Intermediates that signed config lists now (PEM): whose host SVIDs count. */
  trustedIntermediates(): readonly string[];
  getObject(key: string): Promise<MeshObject | undefined>;
  /** Hears what a member says of itself; only `host` was checked. Throws BODY_INVALID for what is no status. */
  onStatus(status: HostStatus): void;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Registers the routes on a fastify server whose TLS asks for client certificates without requiring them. */
export function registerIdentityRoutes(server: FastifyInstance, deps: IdentityRoutesDeps): void {
  const limit = createRateLimit({ perSecond: 5, totalPerSecond: 50 });
  // A host asks once a day and when it gets a workload; a stolen one must not keep the CA and the store busy.
  const members = createRateLimit({ perSecond: 2, totalPerSecond: 500 });
  server.post(AGENT_API.enrol, { bodyLimit: 16 * 1024 }, async (request) => {
    if (!limit.take(request.ip, deps.clock.monotonic())) {
      throw new MeshError('RATE_LIMITED', 'too many enrolment attempts; wait a second and try again');
    }
    return await enrol(deps, parseEnrol(request.body), request.ip);
  });
  server.post(AGENT_API.svid, { bodyLimit: 64 * 1024 }, async (request) => {
    const caller = callerOf(deps, request, RENEWAL_GRACE_MS);
    if (!members.take(caller.hostId, deps.clock.monotonic()))
      throw new MeshError('RATE_LIMITED', 'too many requests for SVIDs; wait a second and try again');
    return await issueAll(deps, caller, parseSvidRequest(request.body));
  });
  server.put(AGENT_API.status, { bodyLimit: 256 * 1024 }, async (request, reply) => {
    const { host } = await memberOf(deps, request);
    const status = request.body as HostStatus;
    if (typeof status !== 'object' || status === null || status.host !== host) {
      throw new MeshError('STATUS_INVALID', 'a host reports its own status only');
    }
    deps.onStatus(status);
    return reply.code(204).send();
  });
}

async function enrol(deps: IdentityRoutesDeps, request: EnrolRequest, address: string): Promise<EnrolResponse> {
  const now = deps.clock.now();
  const skew = request.clock - now;
  if (Math.abs(skew) > MAX_CLOCK_SKEW_MS) {
    throw new MeshError(
      'CLOCK_SKEW',
      `the host's clock is ${Math.round(Math.abs(skew) / 1000)} s ${skew > 0 ? 'ahead of' : 'behind'} the controller's; set it (chrony or timedatectl) and join again`,
    );
  }
  const publicKey = parseCsr(request.hostCsr);
  const keySha256 = keyHash(publicKey);
  const use = { id: request.token, secret: request.secret, keySha256, gossipAddresses: request.gossipAddresses };
  let enrolled: HostRow;
  try {
    enrolled = (await spendToken(deps.rows, use, now)).host;
  } catch (error) {
    deps.log.warn('enrolment refused', { address, token: request.token, error });
    throw error;
  }
  const hostSvid = deps.authority.issueHost(enrolled.host, publicKey, now);
  await rememberSerial(deps, enrolled.host, hostSvid);
  deps.log.info('host enrolled', { host: enrolled.host, epoch: enrolled.epoch, address });
  return { host: enrolled.host, epoch: enrolled.epoch, hostSvid };
}

async function issueAll(deps: IdentityRoutesDeps, caller: Caller, request: SvidRequest): Promise<SvidResponse> {
  const now = deps.clock.now();
  const host = (await deps.rows.get<HostRow>(hostKeyOf(caller.hostId)))?.row;
  const renewal = mayRenewHost(host, {
    serial: caller.serial,
    keySha256: caller.keySha256,
    expired: caller.notAfter < now,
  });
  if (!renewal.allowed) {
    deps.log.warn('SVID refused', { host: caller.hostId, code: renewal.code, reason: renewal.message });
    throw new MeshError(renewal.code, renewal.message);
  }
  const results: SvidResponse['results'][number][] = [];
  for (const item of request.requests) results.push(await issueOne(deps, caller, host, item, now));
  return { results };
}

async function issueOne(
  deps: IdentityRoutesDeps,
  caller: Caller,
  host: HostRow | undefined,
  item: SvidRequest['requests'][number],
  now: number,
): Promise<SvidResponse['results'][number]> {
  let publicKey: KeyObject;
  try {
    publicKey = parseCsr(item.csr);
  } catch (error) {
    if (hasCode(error, 'CSR_INVALID')) return { code: error.code, message: error.message };
    throw error;
  }
  if (item.kind === 'host') {
    if (keyHash(publicKey) !== host?.hostKey)
      return { code: 'HOST_KEY_CHANGED', message: 'a host SVID renews with the enrolled key only' };
    const svid = deps.authority.issueHost(caller.hostId, publicKey, now);
    await rememberSerial(deps, caller.hostId, svid);
    return { svid };
  }
  const group = item.group ?? '';
  const slash = group.indexOf('/');
  const object = await deps.getObject(objectKey('WorkloadGroup', group.slice(0, slash), group.slice(slash + 1)));
  const verdict = mayIssueWorkload(host, group, object, deps.authority.trustDomain);
  if (!verdict.allowed) {
    deps.log.warn('SVID refused', { host: caller.hostId, group, code: verdict.code });
    return { code: verdict.code, message: verdict.message };
  }
  return { svid: deps.authority.issueWorkload(verdict.spiffeId, caller.hostId, publicKey, now) };
}

/** Keeps the last two serials; a lost race with another replica is tried again. */
async function rememberSerial(deps: IdentityRoutesDeps, host: string, svid: string): Promise<void> {
  const serial = new X509Certificate(svid).serialNumber;
  for (let attempt = 0; attempt < 5; attempt++) {
    const found = await deps.rows.get<HostRow>(hostKeyOf(host));
    if (found === undefined) return;
    const row: HostRow = { ...found.row, serials: [...(found.row.serials ?? []), serial].slice(-2) };
    if (await deps.rows.commit([{ key: hostKeyOf(host), row, ifRevision: found.revision }])) return;
  }
  throw new MeshError('STORE_CONTENTION', 'the store is too busy; try again');
}

/** `keySha256`: of the host's public key, as its row has it. */
export type Caller = VerifiedSvid & { readonly hostId: string; readonly keySha256: string };

/** What telling who asks takes. */
export type CallerDeps = Pick<IdentityRoutesDeps, 'rows' | 'authority' | 'trustedIntermediates' | 'clock'>;

/** The member behind the connection and its row. Throws UNAUTHENTICATED, HOST_UNKNOWN, HOST_REVOKED, HOST_KEY_CHANGED. */
export async function memberOf(deps: CallerDeps, request: FastifyRequest): Promise<HostRow> {
  const caller = callerOf(deps, request, 0);
  const row = (await deps.rows.get<HostRow>(hostKeyOf(caller.hostId)))?.row;
  // Also not one that was replaced: its name belongs to another machine now.
  const member = mayRenewHost(row, { serial: caller.serial, keySha256: caller.keySha256, expired: false });
  if (!member.allowed) throw new MeshError(member.code, member.message);
  return row as HostRow;
}

/** A connection has one certificate for its life (TLS 1.3), so its signature is verified once: hosts report often. */
const known = new WeakMap<object, { readonly caller: Caller; readonly trusted: string; readonly at: number }>();
/** Then it is verified again, with its issuer's times. */
const KNOWN_FOR_MS = 60_000;

/** The host behind the connection: its certificate is verified here, since the TLS layer only asked for it. Throws UNAUTHENTICATED, SVID_*. */
function callerOf(deps: CallerDeps, request: FastifyRequest, expiryGraceMs: number): Caller {
  const socket = request.raw.socket as TLSSocket;
  const intermediates = deps.trustedIntermediates();
  const trusted = intermediates.join('');
  const now = deps.clock.now();
  const before = known.get(socket);
  if (
    before?.trusted === trusted &&
    now >= before.at &&
    now < before.at + KNOWN_FOR_MS &&
    now <= before.caller.notAfter
  )
    return before.caller;
  const leaf = socket.getPeerX509Certificate?.();
  if (leaf === undefined) throw new MeshError('UNAUTHENTICATED', 'present the host SVID as client certificate');
  const svid = verifySvid(leaf, {
    trusted: intermediates.map((pem) => new X509Certificate(pem)),
    trustDomain: deps.authority.trustDomain,
    now,
    expiryGraceMs,
  });
  if (svid.id.kind !== 'host' || svid.hostId === undefined)
    throw new MeshError('UNAUTHENTICATED', 'only a host SVID is taken here');
  const caller = { ...svid, hostId: svid.hostId, keySha256: keyHash(svid.publicKey) };
  known.set(socket, { caller, trusted, at: now });
  return caller;
}

function keyHash(key: KeyObject): string {
  return createHash('sha256')
    .update(key.export({ format: 'der', type: 'spki' }))
    .digest('hex');
}

function parseEnrol(body: unknown): EnrolRequest {
  const b = body as Partial<EnrolRequest> | null;
  const addresses = b?.gossipAddresses;
  if (
    typeof b !== 'object' ||
    typeof b?.token !== 'string' ||
    typeof b.secret !== 'string' ||
    typeof b.hostCsr !== 'string' ||
    typeof b.clock !== 'number' ||
    !Array.isArray(addresses) ||
    addresses.length > 8 ||
    !addresses.every((a) => typeof a === 'string' && /^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:]{2,39}\]):\d{1,5}$/i.test(a))
  ) {
    throw new MeshError('BODY_INVALID', 'expected {token, secret, hostCsr, gossipAddresses, clock}');
  }
  return {
    token: b.token,
    secret: b.secret.slice(0, 100),
    hostCsr: b.hostCsr,
    gossipAddresses: addresses,
    clock: b.clock,
  };
}

function parseSvidRequest(body: unknown): SvidRequest {
  const requests = (body as Partial<SvidRequest> | null)?.requests;
  const ok =
    Array.isArray(requests) &&
    requests.length <= 101 &&
    requests.every(
      (r) =>
        typeof r?.csr === 'string' && (r.kind === 'host' || (r.kind === 'workload' && typeof r.group === 'string')),
    );
  if (!ok) throw new MeshError('BODY_INVALID', 'expected {requests: [{kind, group, csr}]}, at most 101');
  // Each of them is a write to the store.
  if (requests.filter((r) => r.kind === 'host').length > 1)
    throw new MeshError('BODY_INVALID', 'a host has one SVID of its own: ask for it once');
  return { requests };
}

/** HTTP status of each code that these routes throw; anything else is 500 and logged. */
export const IDENTITY_STATUS: Readonly<Record<string, number>> = {
  RATE_LIMITED: 429,
  BODY_INVALID: 400,
  STATUS_INVALID: 403,
  CSR_INVALID: 400,
  CLOCK_SKEW: 403,
  TOKEN_REFUSED: 403,
  TOKEN_EXPIRED: 403,
  TOKEN_SPENT: 403,
  UNAUTHENTICATED: 401,
  SVID_UNTRUSTED: 401,
  SVID_EXPIRED: 401,
  SVID_INVALID: 401,
  SVID_NOT_YET_VALID: 401,
  SPIFFE_ID_INVALID: 401,
  HOST_UNKNOWN: 403,
  HOST_REVOKED: 403,
  HOST_KEY_CHANGED: 403,
  HOST_CLONED: 403,
  STORE_CONTENTION: 503,
};
