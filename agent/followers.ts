/**
 * What follows a run of the reconciler, and a verdict of Envoy's. In: runs, results of the redirection. Out: the own record to gossip, wanted
 * SVIDs to identity, ports to the watcher, rules to the redirection. Must never: say that this host serves before Envoy and the rules do.
 */
import { join } from 'node:path';
import { delay } from '../runtime/clock.ts';
import type { Logger } from '../runtime/log.ts';
import type { Rooms } from './agent.ts';
import type { AgentConfig } from './config.ts';
import type { HostFacts } from './host-facts.ts';
import type { WorkloadView } from './mesh-view/view.ts';
import type { Run } from './reconcile.ts';
import { buildRedirectSpec } from './redirect/build-spec.ts';
import type { RedirectResult } from './redirect/result.ts';
import type { Redirection } from './redirection.ts';
import { savePortAssignment } from './workloads/port-store.ts';

export interface Followers {
  onRun(run: Run): void;
  /** Envoy has answered something: rules follow what it acknowledged, never run ahead of it. */
  onVerdict(): void;
  onRules(result: RedirectResult): void;
  /** This host's workloads can be reached as the mesh promises it: through the rules, by an Envoy that has its config. */
  setServing(serving: boolean): void;
  /** Withdraws this host's endpoints, then lets Envoy ask its clients to go. */
  leave(): Promise<void>;
}

/** Peers take a host that leaves out of load balancing in this time; then its Envoy asks its clients to go. */
const WITHDRAWN_MS = 500;
const DRAIN_MS = 1500;

export function createFollowers(
  config: AgentConfig,
  rooms: Rooms,
  facts: HostFacts,
  redirection: Redirection | undefined,
  log: Logger,
): Followers {
  const { gossip, identity, prober, reconciler, watcher, xds, envoy } = rooms;
  const identities = onChange(identity.setWorkloads);
  const watched = onChange(watcher.watch);
  const assigned = onChange((ports: Run['bound']['assigned']) =>
    savePortAssignment(join(config.stateDir, 'workload-ports.json'), ports).catch((error) =>
      log.error('port assignment not written', { error }),
    ),
  );
  let serving = false;
  let leaving = false;

  /** What this host tells its peers; before it serves it tells them so. */
  const publish = () => {
    const run = reconciler.last();
    if (run === undefined) return;
    // Who was not looked at yet is neither well nor ill: a new agent's first word must not take a host out of service for a moment.
    if (!leaving && run.bound.workloads.some(({ group }) => !watcher.states().has(group))) return;
    const gateways = run.bound.gateways.map(({ group }) => ({ group, health: 'healthy' as const }));
    const own = run.bound.workloads.map(({ group }) => ({ group, health: rooms.health(group) }));
    const workloads = [...own, ...gateways].map(({ group, health }) => ({
      group,
      health: leaving ? ('draining' as const) : serving ? health : ('unhealthy' as const),
    }));
    const fields = { network: config.network, addresses: run.view.host.addresses, workloads };
    gossip
      .publishOwn(leaving ? { ...fields, leaving } : fields)
      .catch((error) => log.warn('own record not published', { error }));
  };

  const ownersOf = (group: string): number[] => {
    const owners = config.workloads.find((binding) => binding.group === group)?.portOwners ?? [];
    return owners.map((name) => facts.uids().get(name)).filter((uid) => uid !== undefined);
  };

  return {
    onRun(run) {
      const { workloads } = run.bound;
      identities([...workloads, ...run.bound.gateways].map(({ group, spiffeId }) => ({ group, spiffeId })));
      rooms.gatewaySecrets.want(run.resources.secrets);
      rooms.tlsFiles.want(run.resources.secretOrigins);
      const applicationPorts = new Map(run.view.workloads.map((one) => [one.group, one.applicationPorts]));
      watched(
        workloads.map(({ group, ports, uid, probe }) => ({
          group,
          ports: applicationPorts.get(group) ?? ports.map((port) => port.number),
          ownerUids: new Set([uid, ...ownersOf(group)]),
          ...(probe === undefined || probe.call.kind === 'exec'
            ? {}
            : { probe: { port: probe.call.port, loopback: probe.call.loopback !== undefined } }),
        })),
      );
      prober.watch(workloads.map(({ group, probe }) => ({ group, plan: probe })));
      assigned(run.bound.assigned);
      void rooms.concurrency.want(run.view.concurrency);
      publish();
    },
    onVerdict() {
      void rooms.concurrency.look();
      const run = reconciler.last();
      if (redirection === undefined || run === undefined || leaving || !xds.status().settled) return;
      const views = new Map(run.view.workloads.map((workload) => [workload.group, workload]));
      redirection.want(
        buildRedirectSpec({
          proxyUid: facts.own.proxy,
          inboundPort: config.ports.inbound,
          workloads: run.bound.workloads.map(({ group, uid, outboundPort, dnsPort }) => ({
            uid,
            outboundPort,
            dnsPort,
            inboundPorts: views.get(group)?.inboundPorts ?? [],
            sockets: ownSockets(views.get(group)),
            portOwnerUids: ownersOf(group),
          })),
          dns: config.dns.enabled,
          vipRanges: run.view.vipRanges,
          proberUid: run.bound.workloads.some(({ probe }) => probe !== undefined && probe.call.kind !== 'exec')
            ? facts.own.agent
            : undefined,
          resolver: rooms.resolver(run.view),
        }),
      );
    },
    onRules(result) {
      this.setServing(true);
      if (result.rootSockets.length > 0) void watcher.addEvidence(result.rootSockets);
    },
    setServing(now) {
      if (serving === now) return;
      serving = now;
      publish();
    },
    async leave() {
      leaving = true;
      publish();
      await gossip.leave();
      await delay(WITHDRAWN_MS);
      await envoy.drain().catch((error) => log.warn('Envoy did not drain', { error }));
      await delay(DRAIN_MS);
    },
  };
}

/** Where the proxy itself listens for a workload's calls. */
function ownSockets(workload: WorkloadView | undefined): { readonly address: string; readonly port: number }[] {
  return (workload?.egress ?? []).flatMap(({ captured, bind, port }) =>
    captured || bind === undefined || port === undefined ? [] : [{ address: bind, port: port.number }],
  );
}

/** Calls `act` with a value only when it differs from the one before; sets count by their members. */
function onChange<T>(act: (value: T) => unknown): (value: T) => void {
  let before: string | undefined;
  return (value) => {
    const text = JSON.stringify(value, (_key, item: unknown) => (item instanceof Set ? [...item] : item));
    if (text === before) return;
    before = text;
    void act(value);
  };
}
