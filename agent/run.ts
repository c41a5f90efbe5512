/**
 * The life of one agent: what is started in which order, what follows a change, how it stops and leaves. In: agent.yaml, STATE_DIR. Out: a
 * host that serves. READY means: the last verified config and the kept endpoints are acknowledged by Envoy, and the rules stand.
 */
import { chmod, mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { AgentStatus } from '../api/http/admin-api.ts';
import { writeFileAtomic } from '../runtime/atomic-file.ts';
import { delay } from '../runtime/clock.ts';
import { type Part, startParts } from '../runtime/lifecycle.ts';
import { createAdmin } from './admin/admin-server.ts';
import { createMetricsServer } from './admin/metrics-server.ts';
import { type AgentDeps, connect, joinRooms, type Rooms } from './agent.ts';
import { registerAgentMetrics } from './agent-metrics.ts';
import type { AgentConfig } from './config.ts';
import { inheritedSockets } from './dns/listen-fds.ts';
import { bootstrap } from './envoy/bootstrap.ts';
import { mergeMetrics } from './envoy/merge-metrics.ts';
import { proxyPaths } from './envoy/paths.ts';
import { createExec } from './host/exec.ts';
import { createSockets } from './host/sockets.ts';
import { createUsers } from './host/users.ts';
import { createHostFacts, type HostFacts } from './host-facts.ts';
import { loadQuarantine, saveQuarantine } from './quarantine/quarantine-file.ts';
import type { Run } from './reconcile.ts';
import { buildRedirectSpec } from './redirect/build-spec.ts';
import { createRedirectClient } from './redirect/client.ts';
import type { RedirectResult } from './redirect/result.ts';
import { createRedirection, type Redirection } from './redirection.ts';
import { agentStatus, hostStatus } from './status.ts';
import { loadPortAssignment, savePortAssignment } from './workloads/port-store.ts';

export interface Agent {
  status(): AgentStatus;
  /** Ends this process's parts. Envoy and the rules go on: an agent that restarts costs no traffic. */
  stop(): Promise<void>;
}

const STATUS_EVERY_MS = 10_000;
const STATUS_SOON_MS = 50;
/** Peers take a host that leaves out of load balancing in this time; then its Envoy asks its clients to go. */
const WITHDRAWN_MS = 500;
const DRAIN_MS = 1500;

/** Starts an agent; resolves when the host serves. Rejects with what waiting does not mend. `signal` ends the start. */
export async function startAgent(config: AgentConfig, deps: AgentDeps, signal: AbortSignal): Promise<Agent> {
  const { log } = deps;
  const state = (name: string) => join(config.stateDir, name);
  const sockets = createSockets();
  const facts = createHostFacts(config, createUsers({ exec: createExec() }), deps.clock);
  await facts.start();
  await prepareProxy(config);
  const rooms = joinRooms(
    config,
    {
      facts,
      sockets,
      inherited: await inheritedSockets(sockets),
      seeds: await loadSeeds(state('seeds.json')),
      quarantine: await loadQuarantine(state('quarantine.json'), log),
      assigned: await loadPortAssignment(state('workload-ports.json')),
    },
    deps,
    {
      onRun: (run) => life.onRun(run),
      onQuarantine: (held) =>
        void saveQuarantine(state('quarantine.json'), held).catch((error) => log.error('not written', { error })),
    },
  );
  const life = createLife(config, deps, rooms, facts, signal);
  connect(rooms, config);
  const stop = await startParts(life.parts, log);
  return {
    status: life.status,
    async stop() {
      life.end();
      facts.stop();
      await stop();
    },
  };
}

/** Envoy's bootstrap and the folder for its admin socket: the proxy's group reads the one and writes in the other. */
export async function prepareProxy(config: AgentConfig): Promise<void> {
  const paths = proxyPaths(config);
  await mkdir(dirname(paths.bootstrap), { recursive: true, mode: 0o750 });
  await mkdir(paths.proxyDir, { recursive: true });
  await chmod(paths.proxyDir, 0o2770);
  const { xdsSocket, adminSocket } = paths;
  const { host, trustDomain, locality, metricsAddress, ports } = config;
  const text = JSON.stringify(
    bootstrap({ host, trustDomain, locality, xdsSocket, adminSocket, metricsAddress, ports }),
    null,
    1,
  );
  const before = await readFile(paths.bootstrap, 'utf8').catch(() => undefined);
  if (before !== text) await writeFileAtomic(paths.bootstrap, text, 0o640);
}

interface Life {
  readonly parts: readonly Part[];
  onRun(run: Run): void;
  status(): AgentStatus;
  end(): void;
}

function createLife(config: AgentConfig, deps: AgentDeps, rooms: Rooms, facts: HostFacts, signal: AbortSignal): Life {
  const { clock, log } = deps;
  const { controlplane, gossip, hostApi, identity, reconciler, watcher, xds } = rooms;
  const startedAt = clock.now();
  const ending = new AbortController();
  const redirection: Redirection | undefined = config.redirect.enabled
    ? createRedirection({
        client: createRedirectClient(join(config.runDir, 'redirect')),
        clock,
        log: log.child('redirect'),
        signal: AbortSignal.any([signal, ending.signal]),
        onResult: onRules,
      })
    : undefined;
  let ready = false;
  /** This host's workloads can be reached as the mesh promises it: through the rules, by an Envoy that has its config. */
  let serving = false;
  let leaving = false;
  let wantedIdentities = '';
  let watched = '';
  let assigned = '';
  let cancelStatus = () => {};

  function onRules(result: RedirectResult): void {
    serving = true;
    publish();
    if (result.rootSockets.length > 0) void watcher.addEvidence(result.rootSockets);
  }

  /** What this host tells its peers. Before it can serve it tells them so, unless an agent before this one left all in place. */
  function publish(): void {
    const run = reconciler.last();
    if (run === undefined) return;
    const addresses = run.view.host.addresses;
    const workloads = run.bound.workloads.map(({ group, health }) => ({
      group,
      health: leaving ? ('draining' as const) : serving ? health : ('unhealthy' as const),
    }));
    gossip
      .publishOwn({ network: config.network, addresses, workloads, ...(leaving ? { leaving } : {}) })
      .catch((error) => log.warn('own record not published', { error }));
  }

  function onRun(run: Run): void {
    const { workloads } = run.bound;
    const identities = JSON.stringify(workloads.map(({ group, spiffeId }) => [group, spiffeId]));
    if (identities !== wantedIdentities)
      identity.setWorkloads(workloads.map(({ group, spiffeId }) => ({ group, spiffeId })));
    wantedIdentities = identities;
    const ports = workloads.map((w) => ({
      group: w.group,
      ports: w.ports.map((port) => port.number),
      ownerUids: new Set([w.uid, ...ownersOf(w.group)]),
    }));
    const portsText = JSON.stringify(ports.map((p) => [p.group, p.ports, [...p.ownerUids]]));
    if (portsText !== watched) void watcher.watch(ports);
    watched = portsText;
    const assignedText = JSON.stringify(run.bound.assigned);
    if (assignedText !== assigned)
      savePortAssignment(join(config.stateDir, 'workload-ports.json'), run.bound.assigned).catch((error) =>
        log.error('port assignment not written', { error }),
      );
    assigned = assignedText;
    publish();
    tellSoon();
  }

  function ownersOf(group: string): number[] {
    const owners = config.workloads.find((binding) => binding.group === group)?.portOwners ?? [];
    return owners.map((name) => facts.uids().get(name)).filter((uid) => uid !== undefined);
  }

  /** Rules follow what Envoy has acknowledged, never run ahead of it. */
  function wantRules(): void {
    const run = reconciler.last();
    if (redirection === undefined || run === undefined || !xds.status().settled || leaving) return;
    const ports = new Map(run.view.workloads.map((w) => [w.group, w.inboundPorts]));
    redirection.want(
      buildRedirectSpec({
        proxyUid: facts.own.proxy,
        inboundPort: config.ports.inbound,
        workloads: run.bound.workloads.map((w) => ({
          uid: w.uid,
          outboundPort: w.outboundPort,
          dnsPort: w.dnsPort,
          inboundPorts: (ports.get(w.group) ?? []).map(({ number, mode }) => ({ number, mode })),
          portOwnerUids: ownersOf(w.group),
        })),
        dns: config.dns.enabled,
        vipRanges: run.view.vipRanges,
      }),
    );
  }

  function status(): AgentStatus {
    const peers = { alive: 0, suspect: 0, dead: 0 };
    for (const { state } of gossip.peers()) {
      if (state === 'alive' || state === 'suspect') peers[state] += 1;
      else peers.dead += 1;
    }
    return agentStatus({
      host: config.host,
      startedAt,
      ready,
      controlplane: controlplane.status(),
      xds: xds.status(),
      identity: identity.status(),
      reconciler,
      watched: watcher.states(),
      peers,
      contacts: hostApi.contacts(),
      controllers: rooms.controllers(),
      problems: [...(rooms.dns?.problems() ?? []), ...(redirection?.problems() ?? []), ...uncaptured()],
    });
  }

  function uncaptured(): string[] {
    return (redirection?.last()?.uncaptured ?? []).map(({ port, reason }) => `port ${port} is not captured: ${reason}`);
  }

  /** Controllers hear of a change soon, and of no change now and then; one that does not answer is nobody's problem. */
  function tellSoon(): void {
    cancelStatus();
    cancelStatus = clock.after(STATUS_SOON_MS, tell);
  }
  function tell(): void {
    cancelStatus = clock.after(STATUS_EVERY_MS, tell);
    hostApi.status(hostStatus(status()), ending.signal).catch((error) => log.debug('status not told', { error }));
  }

  async function leave(): Promise<void> {
    leaving = true;
    publish();
    await gossip.leave();
    await delay(WITHDRAWN_MS);
    await rooms.envoy.drain().catch((error) => log.warn('Envoy did not drain', { error }));
    await delay(DRAIN_MS);
  }

  facts.onChange(() => reconciler.request());
  xds.onStatus(() => {
    wantRules();
    tellSoon();
  });
  watcher.onEvidenceNeeded(() => redirection?.again());
  watcher.onChange(() => uncaptured().length > 0 && redirection?.again());
  registerAgentMetrics(rooms.registry, status);

  const step = (name: string, start: () => Promise<void>): Part => ({ name, start, stop: async () => {} });
  const parts: readonly Part[] = [
    controlplane,
    identity,
    gossip,
    createAdmin({
      socketPath: join(config.runDir, 'admin.sock'),
      status,
      peers: () => gossip.peers(),
      config: () => plainResources(reconciler.last()),
      desired: () => plain(controlplane.current()),
      endpoints: () => plain(gossip.snapshot()),
      setLogLevel: deps.setLogLevel,
      leave,
      log: log.child('admin'),
    }),
    createMetricsServer({
      address: config.metricsAddress,
      port: config.ports.metrics,
      async metrics() {
        const envoy = await rooms.envoy.prometheus().catch(() => undefined);
        return mergeMetrics(await rooms.registry.metrics(), envoy);
      },
      ready: () => ready,
      log: log.child('admin'),
    }),
    watcher,
    xds,
    step('warm start', async () => {
      // What an agent before this one left standing goes on serving: its peers must not hear otherwise.
      serving = redirection === undefined || (await stillServing(rooms, config));
      reconciler.request();
    }),
    ...(rooms.dns === undefined ? [] : [rooms.dns]),
    step('serving', async () => {
      if (redirection === undefined) await settled(rooms, signal);
      else await Promise.race([redirection.firstApplied(), aborted(signal)]);
      ready = true;
      tellSoon();
    }),
  ];

  return {
    parts,
    onRun,
    status,
    end() {
      ready = false;
      ending.abort();
      cancelStatus();
      redirection?.stop();
      hostApi.close();
    },
  };
}

async function stillServing(rooms: Rooms, config: AgentConfig): Promise<boolean> {
  const last = await createRedirectClient(join(config.runDir, 'redirect'))
    .last()
    .catch(() => undefined);
  return last?.status === 'applied' && (await rooms.envoy.ready());
}

function settled(rooms: Rooms, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const look = () => rooms.xds.status().settled && resolve();
    rooms.xds.onStatus(look);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    look();
  });
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

/** Peers of the join string; none after a damaged file: grants name more. */
async function loadSeeds(path: string): Promise<readonly string[]> {
  try {
    const list: unknown = JSON.parse(await readFile(path, 'utf8'));
    return Array.isArray(list) ? list.map(String).slice(0, 16) : [];
  } catch {
    return [];
  }
}

/** Maps as objects, sets as lists: what JSON can say. */
function plain(value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]));
  if (value instanceof Set) return [...value].map(plain);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
  return value ?? null;
}

function plainResources(run: Run | undefined): unknown {
  if (run === undefined) return {};
  return {
    generation: run.resources.generation,
    resources: plain(run.resources.resources),
    secrets: [...run.resources.secrets],
  };
}
