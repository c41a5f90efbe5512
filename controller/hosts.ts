/**
 * Hosts and join tokens as operators see them. In: the controller's own rows, what hosts report. Out: Host objects, join strings, revocations.
 * Must never: keep a join secret, or list what a host that is no member reports.
 */
import { MeshError } from '../api/errors.ts';
import type { HostStatus } from '../api/http/agent-api.ts';
import { formatJoinString } from '../api/http/join-string.ts';
import { type Host, type JoinToken, OPERATOR_API } from '../api/http/operator-api.ts';
import type { Clock } from '../runtime/clock.ts';
import { createToken, type Rows } from './ca/join-token.ts';
import type { HostDirectory, TokenIssuer } from './rest/operator.ts';
import { HOST_PREFIX, type HostRow, hostKeyOf, TOKEN_PREFIX, type TokenRow } from './store/internal-rows.ts';
import type { Store, Write } from './store/store.ts';

/** What hosts reported last, in memory: a controller that starts knows nothing and hears it within seconds. */
export interface Reports {
  put(status: HostStatus): void;
  get(host: string): { readonly status: HostStatus; readonly at: number } | undefined;
}

export function createReports(clock: Clock): Reports {
  const reports = new Map<string, { status: HostStatus; at: number }>();
  return {
    put: (status) => void reports.set(status.host, { status, at: clock.now() }),
    get: (host) => reports.get(host),
  };
}

type Directory = HostDirectory & { rows(): Promise<readonly HostRow[]> };

export function createHostDirectory(deps: {
  readonly store: Store;
  readonly reports: Reports;
  readonly clock: Clock;
}): Directory {
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
    rows,
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
        if (result.ok) return hostObject(revoked, reports);
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
    metadata: { name: row.host },
    spec: {
      workloadGroups: row.workloadGroups,
      gossipAddresses: row.gossipAddresses,
      epoch: row.epoch,
      ...(row.gateway === undefined ? {} : { gateway: row.gateway }),
      revoked: row.revokedAt !== undefined,
    },
    ...(report === undefined ? {} : { status: { ...report.status, reportedAt: new Date(report.at).toISOString() } }),
  };
}

export function createTokenIssuer(deps: {
  readonly rows: Rows;
  readonly rootSha256: string;
  /** Base URLs of the API for agents, of every replica. */
  agentUrls(): Promise<readonly string[]>;
  readonly clock: Clock;
}): TokenIssuer {
  return {
    async create(spec: JoinToken['spec']) {
      if (spec.gateway === true)
        throw new MeshError('TOKEN_INVALID', 'spec.gateway: this version has no gateways', {
          details: { field: 'spec.gateway' },
        });
      const { host, workloadGroups, ttlSeconds } = spec;
      const made = await createToken(
        deps.rows,
        { host, workloadGroups, ...(ttlSeconds === undefined ? {} : { ttlSeconds }) },
        deps.clock.now(),
      );
      const joinString = formatJoinString({
        controllers: (await deps.agentUrls()).slice(0, 9),
        rootSha256: deps.rootSha256,
        token: made.id,
        secret: made.secret,
        host,
        workloadGroups: [...new Set(workloadGroups)].sort(),
        peers: spec.peers ?? [],
      });
      return { id: made.id, joinString, expires: made.expiresAt };
    },
  };
}
