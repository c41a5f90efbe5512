/**
 * The life of one agent: what is started in which order, what follows a change, how it stops and leaves. In: agent.yaml, STATE_DIR. Out: a
 * host that serves. READY means: the last verified config and the kept endpoints are acknowledged by Envoy, and the rules stand.
 */
import { chmod, mkdir, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { AgentStatus } from '../api/http/admin-api.ts';
import { removeLeftovers, writeFileAtomic } from '../runtime/atomic-file.ts';
import type { Clock } from '../runtime/clock.ts';
import { type Part, startParts } from '../runtime/lifecycle.ts';
import { createAdmin } from './admin/admin-server.ts';
import { createMetricsServer } from './admin/metrics-server.ts';
import { type AgentDeps, connect, joinRooms, PROBE_FILE, type Rooms } from './agent.ts';
import { registerAgentMetrics } from './agent-metrics.ts';
import { type CaptureTimes, createCaptureTimes } from './capture-times.ts';
import type { AgentConfig } from './config.ts';
import { createQuestions } from './controlplane/questions.ts';
import { inheritedSockets } from './dns/listen-fds.ts';
import { bootstrap } from './envoy/bootstrap.ts';
import { mergeMetrics } from './envoy/merge-metrics.ts';
import { proxyPaths } from './envoy/paths.ts';
import { createFollowers } from './followers.ts';
import { createExec } from './host/exec.ts';
import { createSockets } from './host/sockets.ts';
import { createUsers } from './host/users.ts';
import { createHostFacts, type HostFacts } from './host-facts.ts';
import { captureRule, createLook, type Look } from './look.ts';
import { loadQuarantine, saveQuarantine } from './quarantine/quarantine-file.ts';
import type { Run } from './reconcile.ts';
import { createRedirectClient, type RedirectClient } from './redirect/client.ts';
import { neverPorts } from './redirect/policy.ts';
import { createRedirection, type Redirection } from './redirection.ts';
import { agentStatus, hostStatus } from './status.ts';
import { loadPortAssignment } from './workloads/port-store.ts';
import { loadProbeHealth } from './workloads/probes/probe-file.ts';

export interface Agent {
  status(): AgentStatus;
  /** Ends this process's parts. Envoy and the rules go on: an agent that restarts costs no traffic. */
  stop(): Promise<void>;
}

const STATUS_EVERY_MS = 10_000;
const STATUS_SOON_MS = 50;
/** Well before systemd loses patience: the journal then says what is missing. */
const SAY_WHY_AFTER_MS = 5000;
/** Starts an agent; resolves when the host serves. Rejects with what waiting does not mend. `signal` ends the start. */
export async function startAgent(config: AgentConfig, deps: AgentDeps, signal: AbortSignal): Promise<Agent> {
  const { log } = deps;
  const state = (name: string) => join(config.stateDir, name);
  const sockets = createSockets();
  const facts = createHostFacts(config, createUsers({ exec: createExec() }), deps.clock);
  await facts.start();
  await removeLeftovers(config.stateDir).catch((error) => log.warn('left-over files not removed', { error }));
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
      probed: await loadProbeHealth(join(config.runDir, PROBE_FILE)),
    },
    deps,
    {
      onRun: (run) => life.onRun(run),
      onQuarantine: (held) =>
        void saveQuarantine(state('quarantine.json'), held).catch((error) => log.error('not written', { error })),
    },
  );
  const client = createRedirectClient(join(config.runDir, 'redirect'));
  const left = await client.standing();
  const life = createLife(config, deps, rooms, { facts, client, left }, signal);
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
  // Packages make it so beforehand: a hardened unit (RestrictSUIDSGID=) may not set that bit itself.
  if (((await stat(paths.proxyDir)).mode & 0o7777) !== 0o2770) await chmod(paths.proxyDir, 0o2770);
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

/** What was found beside the rooms: facts, and the rules that an agent before this one left standing. */
interface Around {
  readonly facts: HostFacts;
  readonly client: RedirectClient;
  readonly left: Awaited<ReturnType<RedirectClient['standing']>>;
}

function createLife(config: AgentConfig, deps: AgentDeps, rooms: Rooms, around: Around, signal: AbortSignal): Life {
  const { facts, client, left } = around;
  const { clock, log } = deps;
  const { gossip, hostApi, reconciler, watcher, xds } = rooms;
  const ending = new AbortController();
  const redirection: Redirection | undefined = config.redirect.enabled
    ? createRedirection({
        client,
        left,
        clock,
        log: log.child('redirect'),
        signal: AbortSignal.any([signal, ending.signal]),
        onResult: (result) => {
          followers.onRules(result);
          captures.captured((reconciler.last()?.bound.workloads ?? []).map((workload) => workload.uid));
        },
      })
    : undefined;
  const captures = createCaptureTimes({
    runDir: config.runDir,
    standing: (left?.spec.workloads ?? []).map((workload) => workload.uid),
    clock,
    log: log.child('redirect'),
  });
  const followers = createFollowers(config, rooms, facts, redirection, log);
  let ready = false;
  const status = createStatus(config, rooms, { redirection, captures }, clock, () => ready);
  const teller = createTeller(clock, () =>
    hostApi
      .status(hostStatus(status()), ending.signal)
      .catch((error) => log.debug('status not told to controllers', { error })),
  );
  facts.onChange(() => reconciler.request());
  xds.onStatus(() => {
    followers.onVerdict();
    teller.soon();
  });
  watcher.onEvidenceNeeded(() => redirection?.again());
  // A port that was left to another user's service may be the workload's own by now.
  watcher.onChange(() => (redirection?.last()?.uncaptured.length ?? 0) > 0 && redirection?.again());
  registerAgentMetrics(rooms.registry, status);

  const step = (name: string, start: () => Promise<void>): Part => ({ name, start, stop: async () => {} });
  const warmStart = step('warm start', async () => {
    // What an agent before this one left standing goes on serving: its peers must not hear otherwise.
    followers.setServing(redirection === undefined || (left !== undefined && (await rooms.envoy.ready())));
    reconciler.request();
    // The run comes first in the next turn: DNS must know the mesh's names before it answers what has waited for it.
    await new Promise((resolve) => setImmediate(resolve));
  });
  const serving = step('serving', async () => {
    const done = redirection === undefined ? settled(rooms) : redirection.firstApplied();
    const cancel = clock.after(SAY_WHY_AFTER_MS, () => log.warn('not serving yet', { problems: status().problems }));
    await Promise.race([done, aborted(signal)]).finally(cancel);
    ready = true;
    teller.soon();
  });
  const { controlplane, identity, dns } = rooms;
  const look = createLook({
    host: config.host,
    envoy: rooms.envoy,
    last: () => reconciler.last(),
    refused: () => reconciler.refused(),
    ackedGeneration: () => xds.status().ackedGeneration,
    dnsEnabled: config.dns.enabled,
    uncaptured: captureRule(config.redirect, neverPorts(config)),
    now: () => clock.now(),
  });
  const local = localServers(config, deps, rooms, { status, look, leave: () => followers.leave(), ready: () => ready });
  const questions = createQuestions({
    api: hostApi,
    replicas: rooms.replicas,
    answer: (query) => look.answer(query),
    clock,
    random: deps.random,
    log: log.child('questions'),
  });
  return {
    parts: [
      identity, // first: what config brings is signed and asked for with it
      rooms.gatewaySecrets,
      rooms.tlsFiles,
      controlplane,
      gossip,
      ...local,
      questions,
      watcher,
      rooms.prober,
      xds,
      warmStart,
      ...(dns === undefined ? [] : [dns]),
      serving,
    ],
    onRun(run) {
      followers.onRun(run);
      teller.soon();
    },
    status,
    end() {
      ready = false;
      ending.abort();
      teller.stop();
      redirection?.stop();
      captures.stop();
      hostApi.close();
    },
  };
}

/** The admin socket and the metrics port. */
function localServers(
  config: AgentConfig,
  deps: AgentDeps,
  rooms: Rooms,
  life: { readonly look: Look; status(): AgentStatus; leave(): Promise<void>; ready(): boolean },
): readonly Part[] {
  const log = deps.log.child('admin');
  const admin = createAdmin({
    socketPath: join(config.runDir, 'admin.sock'),
    status: life.status,
    peers: () => rooms.gossip.peers(),
    config: () => plainResources(rooms.reconciler.last()),
    desired: () => plain(rooms.controlplane.current()),
    endpoints: () => plain(rooms.gossip.snapshot()),
    setLogLevel: deps.setLogLevel,
    look: (query) => life.look.answer(query),
    leave: life.leave,
    log,
  });
  const metrics = createMetricsServer({
    address: config.metricsAddress,
    port: config.ports.metrics,
    async metrics() {
      const envoy = await rooms.envoy.prometheus().catch(() => undefined);
      return mergeMetrics(await rooms.registry.metrics(), envoy);
    },
    ready: life.ready,
    log,
  });
  return [admin, metrics];
}

function createStatus(
  config: AgentConfig,
  rooms: Rooms,
  rules: { readonly redirection: Redirection | undefined; readonly captures: CaptureTimes },
  clock: Clock,
  ready: () => boolean,
): () => AgentStatus {
  const { redirection, captures } = rules;
  const startedAt = clock.now();
  const { controlplane, gossip, hostApi, identity, reconciler, watcher, xds, dns } = rooms;
  return () => {
    const peers = { alive: 0, suspect: 0, dead: 0, links: gossip.links() };
    for (const { state } of gossip.peers()) {
      if (state === 'alive' || state === 'suspect') peers[state] += 1;
      else peers.dead += 1;
    }
    const uncaptured = redirection?.last()?.uncaptured ?? [];
    return agentStatus({
      host: config.host,
      startedAt,
      ready: ready(),
      controlplane: controlplane.status(),
      xds: xds.status(),
      identity: identity.status(),
      reconciler,
      watched: watcher.states(),
      peers,
      gossipRefused: gossip.refusals(),
      contacts: hostApi.contacts(),
      controllers: rooms.replicas().flat(),
      problems: [
        ...(dns?.problems() ?? []),
        ...rooms.endpoints.problems(),
        ...rooms.prober.problems(),
        ...rooms.concurrency.problems(),
        ...(redirection?.problems() ?? []),
        ...rooms.gatewaySecrets.problems(),
        ...rooms.tlsFiles.problems(),
        ...captures.problems(),
        ...uncaptured.map(({ port, reason }) => `port ${port} is not captured: ${reason}`),
      ],
    });
  };
}

/** Controllers hear of a change soon, and of no change now and then; one that does not answer is nobody's problem. */
function createTeller(clock: Clock, tell: () => void): { soon(): void; stop(): void } {
  let cancel = () => {};
  let due: 'soon' | 'later' | 'never' = 'later';
  const after = (ms: number) => {
    cancel();
    cancel = clock.after(ms, () => {
      due = 'later';
      after(STATUS_EVERY_MS);
      tell();
    });
  };
  return {
    // A change that follows another does not put off what is due.
    soon() {
      if (due !== 'later') return;
      due = 'soon';
      after(STATUS_SOON_MS);
    },
    stop() {
      due = 'never';
      cancel();
    },
  };
}

function settled(rooms: Rooms): Promise<void> {
  return new Promise((resolve) => {
    const look = () => rooms.xds.status().settled && resolve();
    rooms.xds.onStatus(look);
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
