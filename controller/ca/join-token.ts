import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { MeshError } from '../../api/errors.ts';
import { JOIN_TOKEN_TTL_SECONDS as TTL } from '../../api/http/operator-api.ts';
import { LABEL } from '../../api/identity/spiffe-id.ts';
import { type HostRow, hostKeyOf, type TokenRow, tokenKeyOf } from '../store/internal-rows.ts';
import { LIFETIMES_MS } from './authority.ts';

/** The rows that tokens and grants live in; a write names the revision it saw (0: the row must be absent) and is refused otherwise. */
export interface Rows {
  get<T>(key: string): Promise<{ readonly row: T; readonly revision: number } | undefined>;
  /** All or none; false when one of the revisions is not the current one. */
  commit(
    writes: readonly { readonly key: string; readonly row: unknown; readonly ifRevision: number }[],
  ): Promise<boolean>;
}

/** Makes a token for one host; the secret is returned once and only its hash is kept. Throws TOKEN_INVALID with the field at fault. */
export async function createToken(
  rows: Rows,
  request: { readonly host: string; readonly workloadGroups: readonly string[]; readonly ttlSeconds?: number },
  now: number,
): Promise<{ readonly id: string; readonly secret: string; readonly expiresAt: string }> {
  const ttl = request.ttlSeconds ?? TTL.default;
  if (!LABEL.test(request.host))
    throw invalid('host', 'a DNS label: lower-case letters, digits and hyphens, at most 63');
  if (!Number.isInteger(ttl) || ttl < TTL.min || ttl > TTL.max)
    throw invalid('ttlSeconds', `a whole number from ${TTL.min} to ${TTL.max}`);
  if (request.workloadGroups.length > 100) throw invalid('workloadGroups', 'at most 100');
  for (const group of request.workloadGroups) {
    if (!/^[-a-z0-9]{1,63}\/[-.a-z0-9]{1,253}$/.test(group)) throw invalid('workloadGroups', 'each is NAMESPACE/NAME');
  }
  const id = randomBytes(8).toString('hex');
  const secret = randomBytes(24).toString('base64url');
  const expiresAt = new Date(now + ttl * 1000).toISOString();
  const row: TokenRow = {
    id,
    secretHash: sha256(secret),
    host: request.host,
    workloadGroups: [...new Set(request.workloadGroups)].sort(),
    expiresAt,
  };
  if (!(await rows.commit([{ key: tokenKeyOf(id), row, ifRevision: 0 }])))
    throw invalid('id', 'a fresh one; try again');
  return { id, secret, expiresAt };
}

/** What a spent token gives: the host's new grant, its epoch one above the last. */
export interface Enrolment {
  readonly host: HostRow;
}

/**
 * Spends a token by compare-and-set, together with the host's grant: a second use, also at the same instant on another replica, is
 * refused. An unknown id and a wrong secret look the same to the caller. Throws TOKEN_REFUSED, TOKEN_EXPIRED, TOKEN_SPENT, HOST_REVOKED.
 */
export async function spendToken(
  rows: Rows,
  use: {
    readonly id: string;
    readonly secret: string;
    readonly keySha256: string;
    readonly gossipAddresses: readonly string[];
  },
  now: number,
): Promise<Enrolment> {
  const found = /^[0-9a-f]{16}$/.test(use.id) ? await rows.get<TokenRow>(tokenKeyOf(use.id)) : undefined;
  const expected = Buffer.from(found?.row.secretHash ?? sha256('no such token'), 'hex');
  const given = Buffer.from(sha256(use.secret), 'hex');
  if (!timingSafeEqual(expected, given) || found === undefined) {
    throw new MeshError('TOKEN_REFUSED', 'the join secret is wrong');
  }
  const token = found.row;
  if (token.spentAt !== undefined)
    throw new MeshError('TOKEN_SPENT', `the join string was already used at ${token.spentAt}`);
  if (now > Date.parse(token.expiresAt))
    throw new MeshError('TOKEN_EXPIRED', `the join string expired at ${token.expiresAt}`);
  const before = await rows.get<HostRow>(hostKeyOf(token.host));
  // The token may have been made at the moment of the revocation, which takes back only those that it finds.
  if (before !== undefined && now < revokedUntil(before.row))
    throw new MeshError('HOST_REVOKED', `host ${token.host} was revoked at ${before.row.revokedAt}`);
  const host: HostRow = {
    host: token.host,
    epoch: (before?.row.epoch ?? 0) + 1,
    workloadGroups: token.workloadGroups,
    gossipAddresses: use.gossipAddresses,
    enrolledAt: new Date(now).toISOString(),
    hostKey: use.keySha256,
    serials: [],
  };
  const spent = await rows.commit([
    { key: tokenKeyOf(use.id), row: { ...token, spentAt: new Date(now).toISOString() }, ifRevision: found.revision },
    { key: hostKeyOf(token.host), row: host, ifRevision: before?.revision ?? 0 },
  ]);
  if (!spent) throw new MeshError('TOKEN_SPENT', 'the join string was used by another host at this moment');
  return { host };
}

/**
 * When what a revoked host held has expired (ms since the epoch; 0: it is not revoked). A host is revoked by its name, which its SVIDs carry:
 * let back in before, whoever holds the stolen ones would be back too.
 */
export function revokedUntil({ revokedAt }: Pick<HostRow, 'revokedAt'>): number {
  return revokedAt === undefined ? 0 : Date.parse(revokedAt) + LIFETIMES_MS.hostSvid;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function invalid(field: string, expected: string): MeshError {
  return new MeshError('TOKEN_INVALID', `spec.${field}: expected ${expected}`, { details: { field: `spec.${field}` } });
}
