/**
 * Hosts and join tokens as operators see them. In: the controller's own rows, what hosts report. Out: Host objects, join strings, revocations.
 * Must never: keep a join secret, or list what a host that is no member reports.
 */
import { MeshError } from '../api/errors.ts';
import { parseEndpoint } from '../api/gossip/address.ts';
import { formatJoinString, MAX_JOIN_STRING } from '../api/http/join-string.ts';
import { type Host, type JoinToken, OPERATOR_API } from '../api/http/operator-api.ts';
import type { Clock } from '../runtime/clock.ts';
import { createToken, type Rows, revokedUntil } from './ca/join-token.ts';
import type { Reports } from './reports.ts';
import type { HostDirectory, TokenIssuer } from './rest/operator.ts';
import { HOST_PREFIX, type HostRow, hostKeyOf, TOKEN_PREFIX, type TokenRow } from './store/internal-rows.ts';
import type { Store, Write } from './store/store.ts';

/** Grants out of the store joined with what hosts report. Revoking marks the grant, and signed config carries it at once. */
export function createHostDirectory(deps: {
  readonly store: Store;
  readonly reports: Reports;
  readonly clock: Clock;
}): HostDirectory {
  const { store, reports, clock } = deps;
  const rows = async (): Promise<HostRow[]> => {
    const { entries } = await store.list(HOST_PREFIX);
    return entries.map((entry) => JSON.parse(entry.value) as HostRow);
  };
  /** Tokens that would let the host back in at once. */
  const unspent = async (host: string): Promise<Write[]> => {
    const { entries } = await store.list(TOKEN_PREFIX);
    return entries
      .filter((entry) => {
        const token = JSON.parse(entry.value) as TokenRow;
        return token.host === host && token.spentAt === undefined;
      })
      .map(({ key, revision }) => ({ key, value: null, ifRevision: revision }));
  };
  return {
    async list() {
      return (await rows()).map((row) => hostObject(row, reports));
    },
    async revoke(name) {
      for (let tries = 0; tries < 5; tries++) {
        const entry = await store.get(hostKeyOf(name));
        if (entry === undefined) return undefined;
        const row = JSON.parse(entry.value) as HostRow;
        if (row.revokedAt !== undefined) return hostObject(row, reports);
        const revoked: HostRow = { ...row, revokedAt: new Date(clock.now()).toISOString() };
        const write = { key: entry.key, value: JSON.stringify(revoked), ifRevision: entry.revision };
        const result = await store.commit([write, ...(await unspent(name))]);
        if (!result.ok) continue;
        reports.forget(name); // what it said last would look like news
        return hostObject(revoked, reports);
      }
      throw new MeshError('STORE_CONTENTION', `host ${name} is being changed by others; try again`);
    },
  };
}

function hostObject(row: HostRow, reports: Reports): Host {
  const report = reports.get(row.host);
  return {
    apiVersion: OPERATOR_API.groupVersion,
    kind: 'Host',
    metadata: {
      name: row.host,
      ...(row.enrolledAt === undefined ? {} : { creationTimestamp: row.enrolledAt }),
    },
    spec: {
      workloadGroups: row.workloadGroups,
      gossipAddresses: row.gossipAddresses,
      epoch: row.epoch,
      revoked: row.revokedAt !== undefined,
    },
    ...(report === undefined ? {} : { status: { ...report.status, reportedAt: new Date(report.at).toISOString() } }),
  };
}

/** Makes join strings. `create` throws TOKEN_INVALID with the field at fault, before anything is stored. */
export function createTokenIssuer(deps: {
  readonly rows: Rows;
  readonly rootSha256: string;
  /** Base URLs of the API for agents, of every replica. */
  agentUrls(): Promise<readonly string[]>;
  readonly clock: Clock;
}): TokenIssuer {
  return {
    async create(spec: JoinToken['spec']) {
      const { host, workloadGroups, ttlSeconds, peers = [] } = spec;
      if (peers.length > MAX_PEERS) throw invalid('peers', `at most ${MAX_PEERS}`);
      for (const peer of peers)
        if (parseEndpoint(peer) === undefined)
          throw invalid('peers', `expected IP:PORT, found ${JSON.stringify(peer)}`);
      await refuseRevoked(deps, host);
      const controllers = (await deps.agentUrls()).slice(0, MAX_CONTROLLERS);
      const groups = [...new Set(workloadGroups)].sort();
      const join = { controllers, rootSha256: deps.rootSha256, host, workloadGroups: groups, peers };
      const sized = formatJoinString({ ...join, token: '0'.repeat(16), secret: '0'.repeat(32) });
      if (sized.length > MAX_JOIN_STRING)
        throw invalid('workloadGroups', `too many or too long for one join string (${MAX_JOIN_STRING} characters)`);
      const made = await createToken(
        deps.rows,
        { host, workloadGroups, ...(ttlSeconds === undefined ? {} : { ttlSeconds }) },
        deps.clock.now(),
      );
      const joinString = formatJoinString({ ...join, token: made.id, secret: made.secret });
      return { id: made.id, joinString, expires: made.expiresAt };
    },
  };
}

/** Bounds of a join string (api/http/join-string.ts). */
const MAX_PEERS = 16;
const MAX_CONTROLLERS = 9;

/** Throws TOKEN_INVALID for a host that was revoked not long ago (revokedUntil). */
async function refuseRevoked({ rows, clock }: { rows: Rows; clock: Clock }, host: string): Promise<void> {
  const row = (await rows.get<HostRow>(hostKeyOf(host)))?.row;
  const until = row === undefined ? 0 : revokedUntil(row);
  if (clock.now() < until)
    throw invalid(
      'host',
      `${host} was revoked at ${row?.revokedAt} and what it held is valid until ${new Date(until).toISOString()}: join the machine under another id`,
    );
}

function invalid(field: string, message: string): MeshError {
  return new MeshError('TOKEN_INVALID', `spec.${field}: ${message}`, { details: { field: `spec.${field}` } });
}
