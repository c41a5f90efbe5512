import type { AgentStatus } from '../api/http/admin-api.ts';
import type { HostStatus } from '../api/http/agent-api.ts';
import { CAPABILITY, VERSION } from '../api/version.ts';
import type { ControlplaneStatus } from './controlplane/controlplane.ts';
import type { HostApi } from './controlplane/host-api.ts';
import type { Identity } from './identity/identity.ts';
import type { Reconciler } from './reconcile.ts';
import type { WatchedState } from './workloads/port-watcher.ts';
import type { XdsStatus } from './xds/server.ts';

/** What the parts of the agent say of themselves, at one moment. */
export interface StatusSources {
  readonly host: string;
  readonly startedAt: number;
  readonly ready: boolean;
  readonly controlplane: ControlplaneStatus;
  readonly xds: XdsStatus;
  readonly identity: ReturnType<Identity['status']>;
  readonly reconciler: Pick<Reconciler, 'last' | 'refused'>;
  readonly watched: ReadonlyMap<string, WatchedState>;
  readonly peers: HostStatus['peers'];
  readonly gossipRefused: NonNullable<HostStatus['gossipRefused']>;
  readonly contacts: ReturnType<HostApi['contacts']>;
  readonly controllers: readonly string[];
  /** Of the parts that have no status of their own. */
  readonly problems: readonly string[];
}

/** The status that `meshctl describe` and `meshctl status` show. Pure. */
export function agentStatus(from: StatusSources): AgentStatus {
  const run = from.reconciler.last();
  const svids = new Map(from.identity.svids.map((svid) => [svid.group, svid]));
  const gateways = (run?.bound.gateways ?? []).map((one) => ({ ...one, health: 'healthy' }));
  const workloads = [...(run?.bound.workloads ?? []), ...gateways].map((workload) => {
    const svid = svids.get(workload.group);
    return {
      group: workload.group,
      health: workload.health,
      spiffeId: workload.spiffeId,
      ...(svid === undefined ? {} : { svidNotAfter: new Date(svid.notAfter).toISOString() }),
    };
  });
  const problems = [
    ...from.controlplane.problems,
    ...lastRefusal(from.controlplane),
    ...from.identity.problems,
    ...(run?.bound.problems ?? []).map(({ group, message }) => `${group}: ${message}`),
    ...(run?.view.gatewayProblems ?? []),
    ...(run?.view.portProblems ?? []),
    ...unbound(from.xds),
    ...[...from.watched.values()].flatMap((state) => state.problems),
    ...(from.xds.connected ? [] : ['Envoy is not connected']),
    ...from.problems,
  ];
  return {
    host: from.host,
    agentVersion: VERSION,
    capability: CAPABILITY,
    generation: run?.desired.generation ?? 0,
    ackedGeneration: from.xds.ackedGeneration,
    envoyConnected: from.xds.connected,
    refused: from.reconciler.refused(),
    workloads,
    peers: from.peers,
    gossipRefused: from.gossipRefused,
    problems: [...new Set(problems)].slice(0, 50),
    ready: from.ready,
    startedAt: new Date(from.startedAt).toISOString(),
    controllers: from.controllers.map((url) => ({ url, ...contactOf(from, url) })),
    configAgeSeconds: from.controlplane.ageSeconds ?? -1,
  };
}

function contactOf({ contacts, controlplane }: StatusSources, url: string): { reachable: boolean; lastError?: string } {
  const known = contacts.get(url);
  if (known !== undefined) return known;
  return { reachable: controlplane.controller === url };
}

/** Gateway ports that Envoy could not bind, by its own words for the listener (1.40). */
function unbound({ refused }: XdsStatus): string[] {
  return refused.flatMap(({ resource, message }) => {
    const [, port] = /^gateway_(\d+)/.exec(resource) ?? [];
    if (port === undefined || !/cannot bind|Address already in use/.test(message)) return [];
    const why = /Permission denied/.test(message)
      ? 'the proxy may not (CAP_NET_BIND_SERVICE)'
      : /Cannot assign requested address/.test(message)
        ? 'this host has no such address'
        : 'another program listens there';
    return [`gateway port ${port} is not served: ${why}`];
  });
}

/** A refused config is named until a good one follows. */
function lastRefusal({ lastRefusal: refusal }: ControlplaneStatus): string[] {
  return refusal === undefined ? [] : [`config refused: ${refusal.code}: ${refusal.message} (from ${refusal.from})`];
}

/** The part of it that is sent to controllers. */
export function hostStatus(status: AgentStatus): HostStatus {
  const { ready: _ready, startedAt: _startedAt, controllers: _controllers, configAgeSeconds: _age, ...rest } = status;
  return rest;
}
