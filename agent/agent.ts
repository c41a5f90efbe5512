/**
 * mesh-agent, put together: the only file that knows every room. In: agent.yaml and what lies in STATE_DIR. Out: a running host of the mesh.
 * Data flows one way (docs/architecture.md); a part that needs another's output is given a function here. Must never: wait for a controller
 * or a peer before serving what was verified before, or lead traffic to an Envoy that did not acknowledge its config.
 */
import { join } from 'node:path';
import { Registry } from 'prom-client';
import { isWithin } from '../api/cidr.ts';
import { isClaimable } from '../api/gossip/address.ts';
import { hostSpiffeId } from '../api/identity/spiffe-id.ts';
import type { DesiredConfig } from '../api/signed-config/desired-config.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Logger, LogLevel } from '../runtime/log.ts';
import type { AgentConfig } from './config.ts';
import { createConfigCache } from './controlplane/cache.ts';
import { createControllerClient, type ServerTrust } from './controlplane/client.ts';
import { type Controlplane, createControlplane } from './controlplane/controlplane.ts';
import { createHostApi, type HostApi } from './controlplane/host-api.ts';
import { replicasOf } from './controlplane/replicas.ts';
import type { InheritedSocket } from './dns/listen-fds.ts';
import { CLUSTER_DOMAIN, createNames, isBelow } from './dns/resolve.ts';
import { createDns, type Dns } from './dns/server.ts';
import { findResolvers } from './dns/upstreams.ts';
import { createDampedEndpoints, type DampedEndpoints } from './endpoints/damped-endpoints.ts';
import { createEnvoyAdmin, type EnvoyAdmin } from './envoy/admin.ts';
import { createProxyConcurrency, type ProxyConcurrency } from './envoy/concurrency.ts';
import { proxyPaths } from './envoy/paths.ts';
import { createGossip } from './gossip/gossip.ts';
import type { Gossip } from './gossip/gossip-api.ts';
import type { Sockets } from './host/sockets.ts';
import type { HostFacts } from './host-facts.ts';
import { createGatewaySecrets, type GatewaySecrets } from './identity/gateway-secrets.ts';
import { createIdentity, type Identity } from './identity/identity.ts';
import { dnsHosts } from './mesh-view/dns-hosts.ts';
import type { MeshView } from './mesh-view/view.ts';
import type { Quarantine } from './quarantine/quarantine.ts';
import { createReconciler, type Reconciler, type Run } from './reconcile.ts';
import { meshResolver } from './redirect/build-spec.ts';
import type { MeshResolver } from './redirect/spec.ts';
import { createTlsFiles, type TlsFiles } from './tls-files/tls-files.ts';
import { dnsNamespaces, type PortAssignment } from './workloads/bind.ts';
import type { LocalWorkload } from './workloads/local-workload.ts';
import { createPortWatcher, type PortWatcher } from './workloads/port-watcher.ts';
import { look } from './workloads/probes/calls.ts';
import { type KnownHealth, saveProbeHealth } from './workloads/probes/probe-file.ts';
import { createProber, type Prober } from './workloads/probes/prober.ts';
import { loadMessages } from './xds/messages.ts';
import { createXds, type Xds } from './xds/server.ts';

/** What the process gives: time, randomness, log, files outside STATE_DIR. */
export interface AgentDeps {
  readonly clock: Clock;
  /** In [0,1). */
  readonly random: () => number;
  readonly log: Logger;
  setLogLevel(level: LogLevel): void;
  /** The pinned Envoy's descriptor set. */
  readonly descriptors: string;
  readonly resolvConf: string;
}

/** What was read before anything is put together. */
export interface Found {
  readonly facts: HostFacts;
  readonly sockets: Sockets;
  readonly inherited: readonly InheritedSocket[];
  /** `IP:PORT` of peers, from the join string. */
  readonly seeds: readonly string[];
  readonly quarantine: Quarantine;
  readonly assigned: PortAssignment;
  /** Of an agent before this one. */
  readonly probed: KnownHealth;
}

/** The rooms of one agent, joined; nothing is started. */
export interface Rooms {
  readonly registry: Registry;
  readonly controlplane: Controlplane;
  readonly hostApi: HostApi;
  readonly identity: Identity;
  readonly gatewaySecrets: GatewaySecrets;
  readonly tlsFiles: TlsFiles;
  readonly gossip: Gossip;
  readonly endpoints: DampedEndpoints;
  readonly watcher: PortWatcher;
  readonly prober: Prober;
  /** Of a local workload: by who holds its ports, and by its probe. */
  health(group: string): LocalWorkload['health'];
  readonly xds: Xds;
  readonly envoy: EnvoyAdmin;
  readonly concurrency: ProxyConcurrency;
  readonly dns: Dns | undefined;
  readonly reconciler: Reconciler;
  /** What systemd-resolved is told of the mesh's names, where it answers on this host; undefined when DNS is off. */
  resolver(view: MeshView | undefined): MeshResolver | undefined;
  /** Base URLs of each controller: those that signed config lists, then agent.yaml's others. */
  replicas(): readonly (readonly string[])[];
}

/** Called as things change; run.ts decides what follows. */
export interface Handlers {
  onRun(run: Run): void;
  onQuarantine(state: Quarantine): void;
}

/** In RUN_DIR: which workloads were healthy by their probes. */
export const PROBE_FILE = 'probes.json';

const NO_NAMES = createNames(() => new Map());

export function joinRooms(config: AgentConfig, found: Found, deps: AgentDeps, handlers: Handlers): Rooms {
  const { clock, random } = deps;
  const room = (name: string) => deps.log.child(name);
  const state = (name: string) => join(config.stateDir, name);
  const paths = proxyPaths(config);
  const registry = new Registry();
  const now = () => clock.now();

  const desired = (): DesiredConfig | undefined => controlplane.current();
  const anchors = () => [...(desired()?.anchors.values() ?? [])];
  const intermediates = () => anchors().map((anchor) => anchor.intermediatePem);
  const replicas = () => replicasOf(config.controllers, anchors());
  const trust = (): ServerTrust | undefined =>
    desired() === undefined ? undefined : { intermediates: intermediates(), trustDomain: config.trustDomain };

  const controlplane: Controlplane = createControlplane({
    cache: createConfigCache(state('config')),
    client: createControllerClient({ trust, now, host: config.host }),
    controllers: () => config.controllers,
    fetchFromPeer: (peer, request, signal) => gossip.fetchConfig(peer, request, signal),
    members: () => gossip.peers().filter(({ state }) => state === 'alive'),
    clock,
    random,
    log: room('controlplane'),
    registry,
  });
  const hostApi = createHostApi({ replicas, trust, identity: () => identity.hostIdentity(), now });
  const identity: Identity = createIdentity({
    dir: state('identity'),
    host: config.host,
    trustDomain: config.trustDomain,
    requestSvids: (request, signal) => hostApi.svids(request, signal),
    trusted: intermediates,
    clock,
    random,
    log: room('identity'),
  });
  const gatewaySecrets = createGatewaySecrets({
    dir: state('identity/secrets'),
    fetch: (request, signal) => hostApi.secrets(request, signal),
    clock,
    random,
    log: room('secrets'),
  });
  const gossip: Gossip = createGossip({
    host: config.host,
    trustDomain: config.trustDomain,
    identity: () => identity.hostIdentity(),
    grants: () => ({
      hosts: desired()?.hosts ?? new Map(),
      revokedHosts: desired()?.revokedHosts ?? new Set(),
      intermediates: intermediates(),
    }),
    listenAddresses: found.facts.view().ipv6 ? ['0.0.0.0', '::'] : ['0.0.0.0'],
    port: config.ports.gossip,
    advertiseAddresses: found.facts.view().addresses,
    seeds: () => found.seeds,
    addressAllowed: (address) => isClaimable(address) && !isWithin(address, reconciler.last()?.view.vipRanges ?? []),
    tablePath: state('endpoints.json'),
    counterPath: state('counter.json'),
    clock,
    random,
    log: room('gossip'),
    registry,
  });
  const tlsFiles = createTlsFiles({ folder: config.tlsFiles, clock, log: room('tls-files') });
  const watcher = createPortWatcher({ sockets: found.sockets, clock, log: room('workloads') });
  const prober = createProber({
    look,
    ownership: (group) => watcher.states().get(group)?.probe,
    address: () => found.facts.view().addresses[0],
    known: found.probed,
    save: (known) => saveProbeHealth(join(config.runDir, PROBE_FILE), known),
    clock,
    log: room('probes'),
    registry,
  });
  const health: Rooms['health'] = (group) => (prober.health(group) === 'healthy' ? watcher.health(group) : 'unhealthy');
  const envoy = createEnvoyAdmin(paths.adminSocket);
  const xds = createXds({
    socketPath: paths.xdsSocket,
    messages: loadMessages(deps.descriptors),
    secrets: {
      get: (name) => identity.secret(name) ?? gatewaySecrets.get(name) ?? tlsFiles.get(name),
      onChange(changed) {
        identity.onChange(changed);
        gatewaySecrets.onChange(changed);
        tlsFiles.onChange(changed);
      },
    },
    persistPath: state('xds.json'),
    clock,
    log: room('xds'),
    registry,
  });
  const endpoints = createDampedEndpoints({
    host: config.host,
    snapshot: () => gossip.snapshot(),
    onDue: () => reconciler.request(),
    clock,
    log: room('endpoints'),
    registry,
  });
  const reconciler: Reconciler = createReconciler({
    config,
    desired,
    endpoints: () => endpoints.snapshot(),
    host: () => found.facts.view(),
    uids: () => found.facts.uids(),
    unresolved: () => found.facts.unresolved(),
    ownUids: new Set([found.facts.own.proxy, found.facts.own.agent]),
    health,
    assigned: found.assigned,
    quarantine: found.quarantine,
    xds,
    ...handlers,
    log: room('reconcile'),
  });
  const namespaces = dnsNamespaces(config.workloads, config.defaultNamespace);
  const resolver = perView<MeshResolver | undefined>((view) => {
    const hosts = dnsHosts(view)(namespaces[0] ?? config.defaultNamespace).keys();
    return config.dns.enabled ? meshResolver(config.ports.dns, namespaces, hosts, CLUSTER_DOMAIN) : undefined;
  }, undefined);
  const dns = config.dns.enabled ? makeDns() : undefined;
  return {
    registry,
    controlplane,
    hostApi,
    identity,
    gatewaySecrets,
    tlsFiles,
    gossip,
    endpoints,
    watcher,
    prober,
    health,
    xds,
    envoy,
    concurrency: createProxyConcurrency({ file: paths.concurrency, running: envoy.concurrency, log: room('envoy') }),
    dns,
    reconciler,
    resolver,
    replicas,
  };

  function makeDns(): Dns {
    const names = perView((view) => createNames(dnsHosts(view)), NO_NAMES);
    const routed = perView((view) => new Set(resolver(view)?.route), new Set<string>());
    return createDns({
      names: () => names(reconciler.last()?.view),
      namespaces,
      routed: (name) => isBelow(name, routed(reconciler.last()?.view)),
      basePort: config.ports.dns,
      findResolvers: () =>
        findResolvers({
          configured: config.dns.upstreams,
          resolvConf: deps.resolvConf,
          persistPath: state('resolvers.json'),
          uplinkConf: '/run/systemd/resolve/resolv.conf',
        }),
      inherited: found.inherited,
      clock,
      log: room('dns'),
      registry,
    });
  }
}

/** Lets rooms hear of one another. Called once, before anything is started. */
export function connect(rooms: Rooms, config: AgentConfig): void {
  const { controlplane, gossip, identity, prober, reconciler, watcher, xds } = rooms;
  let trusted = '';
  controlplane.onAccepted((desired) => {
    gossip.onConfigChanged();
    const anchors = JSON.stringify([...desired.anchors.values()].map((anchor) => anchor.intermediatePem));
    if (anchors !== trusted) identity.trustChanged();
    trusted = anchors;
    reconciler.request();
  });
  controlplane.onTimestamp((timestamp) => void gossip.announce(timestamp).catch(() => {}));
  gossip.onAnnounce((timestamp, from) => controlplane.judgeAnnouncement(timestamp, from));
  gossip.serveConfig((request) => controlplane.serve(request));
  gossip.onChange(() => reconciler.request());
  const host = hostSpiffeId(config.trustDomain, config.host);
  identity.onChange((names) => names.includes(host) && gossip.onIdentityChanged());
  watcher.onChange(() => reconciler.request());
  prober.onChange(() => reconciler.request());
  xds.onStatus(() => reconciler.onVerdict());
}

/** `make(view)`, made once a view. */
function perView<T>(make: (view: MeshView) => T, none: T): (view: MeshView | undefined) => T {
  let of: MeshView | undefined;
  let made = none;
  return (view) => {
    if (view !== undefined && view !== of) {
      made = make(view);
      of = view;
    }
    return made;
  };
}
