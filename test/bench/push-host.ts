/**
 * One agent of the push bench: the agent's own rooms from signed config to translation, joined as agent.ts joins them; with a real Envoy at
 * the end of the xDS server, or without both. Left out: redirection, DNS, ports, probes, enrolment.
 */
import { createPrivateKey } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import { parseAgentConfig } from '../../agent/config.ts';
import { createConfigCache } from '../../agent/controlplane/cache.ts';
import { createControllerClient, type ServerTrust } from '../../agent/controlplane/client.ts';
import { type Controlplane, createControlplane } from '../../agent/controlplane/controlplane.ts';
import { createHostApi } from '../../agent/controlplane/host-api.ts';
import { replicasOf } from '../../agent/controlplane/replicas.ts';
import { createDampedEndpoints } from '../../agent/endpoints/damped-endpoints.ts';
import { createGossip } from '../../agent/gossip/gossip.ts';
import type { Gossip } from '../../agent/gossip/gossip-api.ts';
import { EMPTY } from '../../agent/quarantine/quarantine.ts';
import { createReconciler, type Reconciler } from '../../agent/reconcile.ts';
import { agentStatus, hostStatus } from '../../agent/status.ts';
import type { Xds } from '../../agent/xds/server.ts';
import type { EndpointSnapshot } from '../../api/gossip/host-record.ts';
import type { DesiredConfig } from '../../api/signed-config/desired-config.ts';
import { systemClock as clock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';
import { openLab, type XdsLab } from '../integration/xds-lab.ts';
import { TRUST_DOMAIN } from '../unit/agent/mesh-view/build-mesh.ts';
import { now } from './gossip/protocol.ts';
import type { ConfigSide } from './push-gossip.ts';
import { CLIENT, GOSSIP_PORT, type HostSpec } from './push-world.ts';

export interface HostOptions {
  readonly spec: HostSpec;
  readonly dir: string;
  readonly rootText: string;
  readonly rootPem: string;
  /** What gossip would say of the hosts that have no gossip room here. */
  readonly endpoints: EndpointSnapshot;
  /** A real Envoy and the xDS server. */
  readonly envoy: boolean;
  /** The agent's gossip room, for host records; what it says of itself. */
  readonly groups?: readonly string[];
  /** Config by gossip; absent: over the controller alone. */
  readonly configSide?: ConfigSide;
  /** Whether each new config is translated at once; without: when `translate` is called. */
  readonly translates: boolean;
}

/** What came in over the network, payloads in bytes. */
export interface Traffic {
  fromController: number;
  fromPeers: number;
  announced: number;
  /** Answers of the controller with config in them. */
  bodies: number;
}

/** On the wire, TLS included. */
export interface LinkBytes {
  readonly received: number;
  readonly sent: number;
}

export interface PushHost {
  readonly host: string;
  generation(): number;
  /** When each generation was verified and on disk, and when Envoy had acknowledged it: `now()` of gossip/protocol.ts. */
  readonly verified: ReadonlyMap<number, number>;
  readonly acked: ReadonlyMap<number, number>;
  /** When Envoy had acknowledged a weight that another host published; `HOST WEIGHT` is the key. */
  readonly weights: ReadonlyMap<string, number>;
  readonly traffic: Traffic;
  readonly fromController: ReadonlySet<number>;
  readonly gossip: Gossip | undefined;
  readonly lab: XdsLab | undefined;
  readonly envoyPid: number | undefined;
  /** Begins to ask for config. */
  start(): Promise<void>;
  translate(): void;
  publish(weight: number): Promise<void>;
  /** Bytes of gossip's links so far. */
  linkBytes(): Promise<LinkBytes>;
  stop(): Promise<void>;
}

const STATUS_SOON_MS = 50;
const CLIENT_UID = 2000;

export async function createPushHost(options: HostOptions): Promise<PushHost> {
  const { spec, dir } = options;
  await mkdir(dir, { recursive: true });
  const undo: (() => unknown)[] = [];
  const registry = new Registry();
  const lab = options.envoy ? await openLab((fn) => undo.push(fn)) : undefined;
  let envoyPid: number | undefined;
  if (lab !== undefined) {
    lab.secrets.set('ROOTCA', { trustedCaPem: options.rootPem });
    const { spiffeId, chainPem, keyPem } = spec.workload;
    lab.secrets.set(spiffeId, { certificateChainPem: chainPem, privateKeyPem: keyPem });
    await lab.startAgent();
    envoyPid = lab.startEnvoy();
  }
  const xds = lab?.xds() ?? noEnvoy;
  const marks = createMarks(xds, () => gossip?.snapshot());
  const config = await createConfig(options, registry, (generation) => {
    marks.verified.set(generation, now());
    gossip?.onConfigChanged();
    if (options.translates) reconciler.request();
    tell();
  });
  const { plane } = config;
  const gossip = options.groups === undefined ? undefined : createRecords(options, plane, registry);
  const reconciler = createTranslation(options, plane, gossip, registry, xds, () => {
    marks.onRun(reconciler.last()?.desired.generation ?? 0);
    tell();
  });
  if (options.translates) gossip?.onChange(() => reconciler.request());
  if (lab !== undefined)
    lab.xds().onStatus(() => {
      reconciler.onVerdict();
      marks.look();
      tell();
    });
  const tell = createTeller(() => plane.current() !== undefined && config.tell(reconciler, xds));
  return {
    host: spec.host,
    generation: () => plane.current()?.generation ?? 0,
    ...marks,
    traffic: config.traffic,
    fromController: config.fromController,
    gossip,
    lab,
    envoyPid,
    async start() {
      await plane.start(new AbortController().signal);
    },
    translate: () => reconciler.request(),
    async publish(weight) {
      await gossip?.publishOwn(fieldsOf(options, weight));
    },
    async linkBytes() {
      const metric = await registry.getSingleMetric('mesh_agent_gossip_link_bytes_total')?.get();
      const of = (direction: string) => metric?.values.find(({ labels }) => labels.direction === direction)?.value ?? 0;
      return { received: of('received'), sent: of('sent') };
    },
    async stop() {
      await plane.stop();
      await gossip?.stop();
      config.close();
      for (const fn of undo.reverse()) await fn();
    },
  };
}

const noEnvoy: Pick<Xds, 'setResources' | 'status'> = {
  setResources: () => {},
  status: () => ({ connected: false, ackedGeneration: 0, settled: true, pending: 0, refused: [] }),
};

/** When what was reached. */
function createMarks(xds: Pick<Xds, 'status'>, records: () => EndpointSnapshot | undefined) {
  const verified = new Map<number, number>();
  const acked = new Map<number, number>();
  const weights = new Map<string, number>();
  let open: { readonly generation: number; readonly weights: readonly string[] } | undefined;
  const look = () => {
    const { connected, settled, refused } = xds.status();
    if (refused.length > 0) throw new Error(`Envoy refused ${refused[0]?.resource}: ${refused[0]?.message}`);
    if (open === undefined || !connected || !settled) return;
    const at = now();
    if (!acked.has(open.generation)) acked.set(open.generation, at);
    for (const key of open.weights) if (!weights.has(key)) weights.set(key, at);
    open = undefined;
  };
  return {
    verified,
    acked,
    weights,
    look,
    onRun(generation: number) {
      const seen = [...(records()?.hosts ?? [])].map(
        ([host, { record }]) => `${host} ${record.workloads[0]?.weight ?? 0}`,
      );
      open = { generation, weights: seen };
      look();
    },
  };
}

/** Fetching, verifying and keeping signed config, and telling the controller how it went. */
async function createConfig(options: HostOptions, registry: Registry, onGeneration: (generation: number) => void) {
  const { spec, configSide } = options;
  const traffic: Traffic = { fromController: 0, fromPeers: 0, announced: 0, bodies: 0 };
  const fromController = new Set<number>();
  let carrier = '';
  const cache = createConfigCache(join(options.dir, 'config'));
  await cache.initialise(options.rootText);
  const anchors = () => [...(plane.current()?.anchors.values() ?? [])];
  const trust = (): ServerTrust | undefined =>
    plane.current() === undefined
      ? undefined
      : { intermediates: anchors().map((anchor) => anchor.intermediatePem), trustDomain: TRUST_DOMAIN };
  const client = createControllerClient({ trust, now: clock.now, host: spec.host });
  const plane: Controlplane = createControlplane({
    cache,
    client: {
      async config(...args) {
        const body = await client.config(...args);
        traffic.fromController += body?.length ?? 0;
        traffic.bodies += body === undefined ? 0 : 1;
        return body;
      },
    },
    controllers: () => [spec.controller],
    ...(configSide === undefined
      ? {}
      : {
          async fetchFromPeer(peer: string, request: Uint8Array, signal?: AbortSignal) {
            const answer = await configSide.fetchConfig(peer, request, signal);
            traffic.fromPeers += answer.length;
            return answer;
          },
          members: () => configSide.peers(),
        }),
    clock,
    random: Math.random,
    log: {
      ...silentLogger,
      info(message, fields) {
        if (message === 'config accepted') carrier = String(fields?.from);
      },
    },
    registry,
  });
  plane.onAccepted(({ generation }) => {
    if (carrier.includes('://')) fromController.add(generation);
    onGeneration(generation);
  });
  if (configSide !== undefined) {
    plane.onTimestamp((timestamp) => void configSide.announce(timestamp).catch(() => {}));
    configSide.onAnnounce((timestamp, from) => {
      traffic.announced += timestamp.length;
      return plane.judgeAnnouncement(timestamp, from);
    });
    configSide.serveConfig((request) => plane.serve(request));
  }
  const identity = { chainPem: spec.chainPem, privateKey: createPrivateKey(spec.keyPem) };
  const api = createHostApi({
    replicas: () => replicasOf([spec.controller], anchors()),
    trust,
    identity: () => identity,
    now: clock.now,
  });
  const startedAt = Date.now();
  return {
    plane,
    traffic,
    fromController,
    tell(reconciler: Reconciler, xds: Pick<Xds, 'status'>) {
      const status = agentStatus({
        host: spec.host,
        startedAt,
        ready: true,
        controlplane: plane.status(),
        xds: xds.status(),
        identity: { svids: [], problems: [] },
        reconciler,
        watched: new Map(),
        peers: { alive: configSide?.peers().length ?? 0, suspect: 0, dead: 0, links: [] },
        gossipRefused: [],
        contacts: api.contacts(),
        controllers: [spec.controller],
        problems: [],
      });
      // Also by a host that does not translate here.
      const generation = plane.current()?.generation ?? 0;
      api.status({ ...hostStatus(status), generation }).catch(() => {});
    },
    close() {
      client.close();
      api.close();
    },
  };
}

/** Once, 50 ms after the first of the changes that come together, as run.ts does. */
function createTeller(tell: () => unknown): () => void {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    clock.after(STATUS_SOON_MS, () => {
      due = false;
      tell();
    });
  };
}

/** Real gossip on loopback: for host records, not for config. */
function createRecords({ spec, dir }: HostOptions, plane: Controlplane, registry: Registry): Gossip {
  const identity = { chainPem: spec.chainPem, privateKey: createPrivateKey(spec.keyPem) };
  const current = (): Partial<DesiredConfig> => plane.current() ?? {};
  return createGossip({
    host: spec.host,
    trustDomain: TRUST_DOMAIN,
    identity: () => identity,
    grants: () => ({
      hosts: current().hosts ?? new Map(),
      revokedHosts: current().revokedHosts ?? new Set(),
      intermediates: [...(current().anchors?.values() ?? [])].map((anchor) => anchor.intermediatePem),
    }),
    listenAddresses: [spec.address],
    port: GOSSIP_PORT,
    advertiseAddresses: [spec.address],
    addressAllowed: () => true,
    tablePath: join(dir, 'endpoints.json'),
    counterPath: join(dir, 'counter.json'),
    clock,
    random: Math.random,
    log: silentLogger,
    registry,
  });
}

/** The first group's weight is what changes: one endpoint of one service. */
function fieldsOf({ spec, groups = [] }: HostOptions, weight: number) {
  return {
    network: 'default',
    addresses: [spec.address],
    workloads: groups.map((group, i) => ({ group, health: 'healthy' as const, ...(i === 0 ? { weight } : {}) })),
  };
}

/** Binding, view and translation of a host that runs one workload. */
function createTranslation(
  { spec, dir, endpoints }: HostOptions,
  plane: Controlplane,
  gossip: Gossip | undefined,
  registry: Registry,
  xds: Pick<Xds, 'setResources' | 'status'>,
  onRun: () => void,
): Reconciler {
  const lines = [
    `host: ${spec.host}`,
    `trustDomain: ${TRUST_DOMAIN}`,
    `stateDir: ${dir}`,
    `workloads: [{group: ${CLIENT.namespace}/${CLIENT.serviceAccount}, user: client}]`,
    '',
  ];
  const config = parseAgentConfig(lines.join('\n'), 'agent.yaml');
  const damped = createDampedEndpoints({
    host: spec.host,
    snapshot: gossip === undefined ? () => endpoints : joined(endpoints, gossip),
    onDue: () => reconciler.request(),
    clock,
    log: silentLogger,
    registry,
  });
  const reconciler: Reconciler = createReconciler({
    config,
    desired: () => plane.current(),
    endpoints: () => damped.snapshot(),
    host: () => ({ id: spec.host, addresses: [spec.address], locality: '', network: 'default', ipv6: true }),
    uids: () => new Map([['client', CLIENT_UID]]),
    unresolved: () => new Map(),
    ownUids: new Set([CLIENT_UID + 1, CLIENT_UID + 2]),
    health: () => 'healthy',
    assigned: {},
    quarantine: EMPTY,
    xds,
    onRun,
    onQuarantine(state) {
      throw new Error(`Envoy refused something: ${[...state.held.values()][0]?.message}`);
    },
    log: {
      ...silentLogger,
      error(message, fields) {
        throw new Error(`${message}: ${String(fields?.error)}`);
      },
    },
  });
  return reconciler;
}

/** What the gossip room knows, over what is known of the hosts that have none. */
function joined(known: EndpointSnapshot, gossip: Gossip): () => EndpointSnapshot {
  let of: EndpointSnapshot | undefined;
  let made = known;
  return () => {
    const records = gossip.snapshot();
    if (records !== of) {
      of = records;
      made = { ...records, hosts: new Map([...known.hosts, ...records.hosts]) };
    }
    return made;
  };
}
