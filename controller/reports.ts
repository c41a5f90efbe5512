/**
 * What hosts report of themselves, in memory: a controller that starts knows nothing and hears it within seconds. In: bodies of
 * authenticated hosts, who may still send anything. Out: statuses of known shape and bounded size. Must never: keep a field that the
 * contract does not have, or more than MAX_TOTAL_BYTES in all.
 */
import { MeshError } from '../api/errors.ts';
import type { GossipRefusal, HostStatus, RefusedResource } from '../api/http/agent-api.ts';
import type { Clock } from '../runtime/clock.ts';

export interface Report {
  readonly status: HostStatus;
  /** ms since the epoch, our clock. */
  readonly at: number;
}

export interface Reports {
  put(status: HostStatus): void;
  get(host: string): Report | undefined;
  /** A host that is no member any more. */
  forget(host: string): void;
}

/** Agents report at each change and every 10 s. One that is silent for longer than this does not count as reporting. */
export const SILENT_AFTER_MS = 60_000;
/** An honest report has about 1 KB. Above this in all, the ones that were not renewed for the longest time go. */
const MAX_TOTAL_BYTES = 64 * 1024 * 1024;

export function createReports(clock: Clock, maxTotalBytes = MAX_TOTAL_BYTES): Reports {
  const reports = new Map<string, Report & { readonly bytes: number }>();
  let total = 0;
  const forget = (host: string) => {
    total -= reports.get(host)?.bytes ?? 0;
    reports.delete(host);
  };
  return {
    put(status) {
      forget(status.host);
      const bytes = JSON.stringify(status).length;
      reports.set(status.host, { status, at: clock.now(), bytes });
      total += bytes;
      while (total > maxTotalBytes && reports.size > 1) forget(reports.keys().next().value as string);
    },
    get: (host) => reports.get(host),
    forget,
  };
}

/** Counts of what one host may report; more is cut off, as are texts: an honest host's report is never lost for its length. */
const MAX = {
  links: 64,
  gossipRefused: 20,
  refused: 100,
  workloads: 200,
  problems: 50,
  origins: 100,
  text: 512,
  envoyWords: 2048,
} as const;

/** The status in a body that a host sent (attacker-controlled). Fields of newer agents are dropped. Throws BODY_INVALID, naming the field. */
export function parseHostStatus(body: unknown): HostStatus {
  const from = record(body, 'status');
  const peers = record(from.peers, 'peers');
  return {
    host: text(from.host, 'host'),
    agentVersion: text(from.agentVersion, 'agentVersion'),
    capability: count(from.capability, 'capability'),
    generation: count(from.generation, 'generation'),
    ackedGeneration: count(from.ackedGeneration, 'ackedGeneration'),
    envoyConnected: flag(from.envoyConnected, 'envoyConnected'),
    refused: list(from.refused, 'refused', MAX.refused).map(refusedOf),
    workloads: list(from.workloads, 'workloads', MAX.workloads).map(workloadOf),
    peers: {
      alive: count(peers.alive, 'peers.alive'),
      suspect: count(peers.suspect, 'peers.suspect'),
      dead: count(peers.dead, 'peers.dead'),
      ...(peers.links === undefined
        ? {}
        : { links: list(peers.links, 'peers.links', MAX.links).map((one) => text(one, 'peers.links', 63)) }),
    },
    problems: list(from.problems, 'problems', MAX.problems).map((line) => text(line, 'problems')),
    ...(from.gossipRefused === undefined
      ? {}
      : { gossipRefused: list(from.gossipRefused, 'gossipRefused', MAX.gossipRefused).map(gossipRefusalOf) }),
  };
}

function gossipRefusalOf(value: unknown): GossipRefusal {
  const from = record(value, 'gossipRefused');
  return {
    host: text(from.host, 'gossipRefused.host', 63),
    reason: text(from.reason, 'gossipRefused.reason', 64),
    count: count(from.count, 'gossipRefused.count'),
    lastAt: text(from.lastAt, 'gossipRefused.lastAt', 40),
    ...(from.detail === undefined ? {} : { detail: text(from.detail, 'gossipRefused.detail') }),
  };
}

function refusedOf(value: unknown): RefusedResource {
  const from = record(value, 'refused');
  return {
    typeUrl: text(from.typeUrl, 'refused.typeUrl'),
    resource: text(from.resource, 'refused.resource'),
    origins: list(from.origins, 'refused.origins', MAX.origins).map((one) => text(one, 'refused.origins')),
    message: text(from.message, 'refused.message', MAX.envoyWords),
    generation: count(from.generation, 'refused.generation'),
  };
}

function workloadOf(value: unknown): HostStatus['workloads'][number] {
  const from = record(value, 'workloads');
  return {
    group: text(from.group, 'workloads.group'),
    health: text(from.health, 'workloads.health'),
    ...(from.svidNotAfter === undefined ? {} : { svidNotAfter: text(from.svidNotAfter, 'workloads.svidNotAfter') }),
    ...(from.spiffeId === undefined ? {} : { spiffeId: text(from.spiffeId, 'workloads.spiffeId') }),
  };
}

function record(value: unknown, field: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed(field, 'an object');
  return value as Record<string, unknown>;
}

function list(value: unknown, field: string, max: number): readonly unknown[] {
  if (!Array.isArray(value)) throw malformed(field, 'a list');
  return value.slice(0, max);
}

function text(value: unknown, field: string, max: number = MAX.text): string {
  if (typeof value !== 'string') throw malformed(field, 'a text');
  return value.slice(0, max);
}

function count(value: unknown, field: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw malformed(field, 'a whole number');
  return value;
}

function flag(value: unknown, field: string): boolean {
  if (typeof value !== 'boolean') throw malformed(field, 'true or false');
  return value;
}

function malformed(field: string, expected: string): MeshError {
  return new MeshError('BODY_INVALID', `${field}: expected ${expected}`);
}
