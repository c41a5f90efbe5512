/**
 * mesh-controller, put together: the only file that knows every room. In: controller.yaml and STATE_DIR. Out: REST for operators, signed
 * config, enrolment and SVIDs for hosts. Must never: be needed for traffic to go on, or acknowledge what the store does not hold.
 */
import type { MeshStatus } from '../api/http/operator-api.ts';
import { OPERATOR_API } from '../api/http/operator-api.ts';
import type { MeshObject } from '../api/resources/object.ts';
import type { ReplicaAnchor } from '../api/signed-config/desired-config.ts';
import { VERSION } from '../api/version.ts';
import type { Clock } from '../runtime/clock.ts';
import { type Part, startParts } from '../runtime/lifecycle.ts';
import type { Logger } from '../runtime/log.ts';
import { type Authority, loadAuthority } from './ca/authority.ts';
import type { ControllerConfig } from './config.ts';
import { createHostDirectory, createReports, createTokenIssuer } from './hosts.ts';
import { registerConfigRoutes } from './publish/config-routes.ts';
import { registerIdentityRoutes } from './publish/identity-routes.ts';
import { createPublishServer } from './publish/server.ts';
import { createRest } from './rest/server.ts';
import { loadSigningKeys, rootKeysOnController } from './signing/init.ts';
import { createSigner, putAnchor, type Signer } from './signing/signer.ts';
import { ANCHOR_ROWS } from './signing/snapshot.ts';
import { loadFacts, statePaths } from './state-dir.ts';
import { createStoreRows } from './store/rows.ts';
import { openSqliteStore } from './store/sqlite.ts';
import { INTERNAL_PREFIX, type Store } from './store/store.ts';

export interface ControllerDeps {
  readonly clock: Clock;
  /** In [0,1). */
  readonly random: () => number;
  readonly log: Logger;
}

export interface Controller {
  readonly ports: { readonly rest: number; readonly agents: number };
  readonly generation: number;
  stop(): Promise<void>;
}

/** Certificates live 90 days; a new one is made when this much is left of that. Looked at daily. */
const SERVER_RENEW_AFTER_MS = 30 * 86_400_000;
const DAY_MS = 86_400_000;

/** Starts a replica; resolves when it serves. Throws NOT_INITIALISED, CONFIG_INVALID, STORE_*, CA_STATE_LOST, SIGNING_*. */
export async function startController(config: ControllerConfig, deps: ControllerDeps): Promise<Controller> {
  const { clock, random, log } = deps;
  const paths = statePaths(config.stateDir);
  const facts = await loadFacts(paths, config);
  const authority = await loadAuthority(paths.ca, config.trustDomain, config.replica);
  const keys = await loadSigningKeys(paths.keys, config.replica);
  const store = openSqliteStore({ path: paths.store });
  const startedAt = clock.now();
  const reports = createReports(clock);
  const rows = createStoreRows(store);
  const hosts = createHostDirectory({ store, reports, clock });
  const anchors = createAnchors(store);
  const signer = createSigner({
    store,
    keys,
    trustDomain: config.trustDomain,
    clock,
    random,
    log: log.child('signing'),
  });
  const tls = () => serverTls(authority, config, clock.now());
  const tokens = createTokenIssuer({
    rows,
    rootSha256: facts.rootSha256,
    agentUrls: async () => (await anchors.read()).flatMap((anchor) => anchor.agentUrls),
    clock,
  });
  const rest = createRest(
    {
      replica: config.replica,
      trustDomain: config.trustDomain,
      listen: { host: config.listen, port: config.ports.rest },
      tls: tls(),
      clientCa: [authority.rootPem, authority.intermediatePem],
      auditPath: paths.audit,
    },
    {
      store,
      clock,
      log,
      hosts,
      tokens,
      status: async () =>
        meshStatus({
          config,
          store,
          signer,
          startedAt,
          anchors: await anchors.read(),
          hosts: await hosts.list(),
          rootKeysHere: (await rootKeysOnController(paths.keys)).length > 0,
        }),
      onCommit: () => {}, // the signer watches the store
    },
  );
  const publish = createPublishServer({
    listen: { host: config.listen, port: config.ports.agents },
    tls: tls(),
    log: log.child('publish'),
    register(server) {
      registerConfigRoutes(server, { signer, clock });
      registerIdentityRoutes(server, {
        rows,
        authority,
        trustedIntermediates: () => anchors.known().map((anchor) => anchor.intermediatePem),
        getObject: async (key) => {
          const entry = await store.get(key);
          return entry === undefined ? undefined : (JSON.parse(entry.value) as MeshObject);
        },
        onStatus: reports.put,
        clock,
        log: log.child('publish'),
      });
    },
  });
  signer.onPublished(() => void anchors.read().catch(() => {}));
  const own: ReplicaAnchor = {
    replica: config.replica,
    intermediatePem: authority.intermediatePem,
    agentUrls: config.addresses.map((address) => urlOf(address, config.ports.agents)),
  };
  const renewal = createRenewal(clock, () => {
    const made = tls();
    rest.setTls(made);
    publish.setTls(made);
    log.info('server certificate renewed');
  });
  const parts: Part[] = [
    {
      name: 'store',
      async start() {
        await putAnchor(store, own);
        await anchors.read();
      },
      stop: () => store.close(),
    },
    signer,
    rest,
    publish,
    renewal,
  ];
  const stop = await startParts(parts, log);
  return {
    ports: { rest: rest.port(), agents: publish.port() },
    generation: signer.status().generation,
    stop,
  };
}

function serverTls(authority: Authority, config: ControllerConfig, now: number): { cert: string; key: string } {
  const ipAddresses = [...new Set([...config.addresses, '127.0.0.1', '::1'])];
  const dnsNames = [...new Set([...config.dnsNames, 'localhost'])];
  const { chainPem, keyPem } = authority.issueServer({ ipAddresses, dnsNames }, now);
  return { cert: chainPem, key: keyPem };
}

function urlOf(address: string, port: number): string {
  return address.includes(':') ? `https://[${address}]:${port}` : `https://${address}:${port}`;
}

/** Replicas that signed config lists, as last read. */
function createAnchors(store: Store) {
  let known: readonly ReplicaAnchor[] = [];
  return {
    known: () => known,
    async read(): Promise<readonly ReplicaAnchor[]> {
      const { entries } = await store.list(ANCHOR_ROWS);
      known = entries.map((entry) => JSON.parse(entry.value) as ReplicaAnchor);
      return known;
    },
  };
}

function createRenewal(clock: Clock, renew: () => void): Part {
  let cancel = () => {};
  let madeAt = 0;
  const look = () => {
    if (clock.now() - madeAt >= SERVER_RENEW_AFTER_MS) {
      renew();
      madeAt = clock.now();
    }
    cancel = clock.after(DAY_MS, look);
  };
  return {
    name: 'server-certificate',
    async start() {
      madeAt = clock.now();
      cancel = clock.after(DAY_MS, look);
    },
    async stop() {
      cancel();
    },
  };
}

async function meshStatus(from: {
  config: ControllerConfig;
  store: Store;
  signer: Signer;
  startedAt: number;
  anchors: readonly ReplicaAnchor[];
  hosts: Awaited<ReturnType<ReturnType<typeof createHostDirectory>['list']>>;
  rootKeysHere: boolean;
}): Promise<MeshStatus> {
  const { config, store, signer, hosts } = from;
  const { generation, problems } = signer.status();
  const { entries, revision } = await store.list('');
  const members = hosts.filter((host) => !host.spec.revoked);
  const state = signer.latest();
  const root = state?.root.metadata.signed.roles.root;
  const expires = state?.timestamp?.metadata.signed.expires;
  return {
    apiVersion: OPERATOR_API.groupVersion,
    kind: 'MeshStatus',
    version: VERSION,
    trustDomain: config.trustDomain,
    revision,
    generation,
    controllers: from.anchors.map(({ replica, agentUrls }) => {
      const self = replica === config.replica;
      return {
        name: replica,
        url: agentUrls[0] ?? '',
        self,
        reachable: self,
        ...(self ? { startedAt: new Date(from.startedAt).toISOString() } : {}),
      };
    }),
    hosts: {
      total: members.length,
      reporting: members.filter((host) => host.status !== undefined).length,
      current: members.filter((host) => host.status?.ackedGeneration === generation).length,
      revoked: hosts.length - members.length,
    },
    objects: entries.filter((entry) => !entry.key.startsWith(INTERNAL_PREFIX)).length,
    rootKeys: {
      total: root?.keyIDs.length ?? 0,
      threshold: root?.threshold ?? 0,
      keptOnController: from.rootKeysHere,
    },
    ...(expires === undefined ? {} : { timestampExpires: expires }),
    problems: [...problems],
  };
}
