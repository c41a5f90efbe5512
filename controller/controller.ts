/**
 * mesh-controller, put together: the only file that knows every room. In: controller.yaml and STATE_DIR. Out: REST for operators, signed
 * config, enrolment and SVIDs for hosts. Must never: be needed for traffic to go on, or acknowledge what the store does not hold.
 */
import type { MeshObject } from '../api/resources/object.ts';
import type { ReplicaAnchor } from '../api/signed-config/desired-config.ts';
import type { Clock } from '../runtime/clock.ts';
import { type Part, startParts } from '../runtime/lifecycle.ts';
import type { Logger } from '../runtime/log.ts';
import { loadAuthority } from './ca/authority.ts';
import type { ControllerConfig } from './config.ts';
import { createHostDirectory, createTokenIssuer } from './hosts.ts';
import { meshStatus } from './mesh-status.ts';
import { registerConfigRoutes } from './publish/config-routes.ts';
import { registerIdentityRoutes } from './publish/identity-routes.ts';
import { registerQuestionRoutes } from './publish/question-routes.ts';
import { registerSecretRoutes } from './publish/secret-routes.ts';
import { createPublishServer, type PublishServer } from './publish/server.ts';
import { createQuestions } from './questions.ts';
import { createReports, parseHostStatus } from './reports.ts';
import { createRest, type Rest } from './rest/server.ts';
import { createRenewal, issueServerTls, type ServerTls } from './server-certificate.ts';
import { loadSigningKeys, rootKeysOnController } from './signing/init.ts';
import { createSigner, putAnchor, type Signer } from './signing/signer.ts';
import { ANCHOR_ROWS } from './signing/snapshot.ts';
import { loadFacts, statePaths } from './state-dir.ts';
import { createStoreRows } from './store/rows.ts';
import { createSecretVault, loadVaultKey } from './store/secret-vault.ts';
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
  /** One line for systemctl status. */
  statusLine(): string;
  stop(): Promise<void>;
}

/**
 * Starts a replica; resolves when it serves. Throws NOT_INITIALISED, CONFIG_INVALID, STATE_*, STORE_*, CA_STATE_LOST, SIGNING_*, AUDIT_BROKEN,
 * or the system's error for an address that cannot be listened on; then nothing is left running.
 */
export async function startController(config: ControllerConfig, deps: ControllerDeps): Promise<Controller> {
  const { clock, log } = deps;
  const state = await openState(config);
  const { store, authority } = state;
  const tls = () => issueServerTls(authority, config, clock.now());
  const rooms = createRooms(config, state, deps);
  const { signer, anchors } = rooms;
  const rest = createRestOf(config, state, rooms, { ...deps, tls: tls() });
  const publish = createPublishOf(config, state, rooms, rest, { ...deps, tls: tls() });
  signer.onPublished(() => void anchors.read().catch(() => {}));
  const own: ReplicaAnchor = {
    replica: config.replica,
    intermediatePem: authority.intermediatePem,
    agentUrls: config.addresses.map((address) => urlOf(address, config.ports.agents)),
  };
  const renewal = createRenewal({
    clock,
    log,
    renew() {
      const made = tls();
      rest.setTls(made);
      publish.setTls(made);
    },
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
    statusLine: () => `serving generation ${signer.status().generation}${problemsOf(signer)}`,
    stop,
  };
}

/** What lies in STATE_DIR. The store is opened last, but for what only it can tell: whatever else is wrong leaves it alone. */
async function openState(config: ControllerConfig) {
  const paths = statePaths(config.stateDir);
  const facts = await loadFacts(paths, config);
  const authority = await loadAuthority(paths.ca, config.trustDomain, config.replica);
  const keys = await loadSigningKeys(paths.keys, config.replica);
  const store = openSqliteStore({ path: paths.store });
  try {
    const vaultKey = await loadVaultKey(paths.vaultKey, async () => (await store.count('Secret/')) > 0);
    return { paths, facts, authority, keys, store, vault: createSecretVault(vaultKey) };
  } catch (error) {
    await store.close();
    throw error;
  }
}

type State = Awaited<ReturnType<typeof openState>>;

function createRooms(config: ControllerConfig, { store, keys, facts }: State, { clock, random, log }: ControllerDeps) {
  const reports = createReports(clock);
  const rows = createStoreRows(store);
  const anchors = createAnchors(store);
  const agentUrls = async () => (await anchors.read()).flatMap((anchor) => anchor.agentUrls);
  return {
    startedAt: clock.now(),
    reports,
    questions: createQuestions(clock, (host) => reports.get(host)?.at),
    rows,
    anchors,
    hosts: createHostDirectory({ store, reports, clock }),
    tokens: createTokenIssuer({ rows, rootSha256: facts.rootSha256, agentUrls, clock }),
    signer: createSigner({
      store,
      keys,
      trustDomain: config.trustDomain,
      clock,
      random,
      log: log.child('signing'),
    }),
  };
}

type Rooms = ReturnType<typeof createRooms>;

function createRestOf(
  config: ControllerConfig,
  { store, authority, paths, vault }: State,
  { signer, anchors, hosts, tokens, questions, startedAt }: Rooms,
  { clock, log, tls }: ControllerDeps & { readonly tls: ServerTls },
): Rest {
  const { replica, trustDomain } = config;
  const options = {
    replica,
    trustDomain,
    listen: { host: config.listen, port: config.ports.rest },
    tls,
    clientCa: [authority.rootPem, authority.intermediatePem],
    auditPath: paths.audit,
  };
  const status = async () =>
    meshStatus({
      replica,
      trustDomain,
      startedAt,
      now: clock.now(),
      revision: await store.revision(),
      objects: (await store.count('')) - (await store.count(INTERNAL_PREFIX)),
      signed: signer.latest(),
      signingProblems: signer.status().problems,
      anchors: await anchors.read(),
      hosts: await hosts.list(),
      rootKeysHere: (await rootKeysOnController(paths.keys)).length > 0,
    });
  // The signer watches the store: it needs no word of a commit.
  return createRest(options, {
    store,
    clock,
    log,
    hosts,
    tokens,
    questions,
    authority,
    vault,
    status,
    onCommit: () => {},
  });
}

function createPublishOf(
  config: ControllerConfig,
  { store, authority, vault }: State,
  { signer, anchors, rows, reports, questions }: Rooms,
  rest: Pick<Rest, 'record'>,
  { clock, log, tls }: ControllerDeps & { readonly tls: ServerTls },
): PublishServer {
  return createPublishServer({
    listen: { host: config.listen, port: config.ports.agents },
    tls,
    log: log.child('publish'),
    register(server) {
      registerConfigRoutes(server, { signer, clock, reported: (host) => reports.get(host)?.status.generation });
      const known = {
        rows,
        authority,
        trustedIntermediates: () => anchors.known().map((anchor) => anchor.intermediatePem),
        clock,
        log: log.child('publish'),
      };
      registerQuestionRoutes(server, { ...known, questions });
      registerSecretRoutes(server, { ...known, store, vault, record: (event) => rest.record(event) });
      registerIdentityRoutes(server, {
        ...known,
        getObject: async (key) => {
          const entry = await store.get(key);
          return entry === undefined ? undefined : (JSON.parse(entry.value) as MeshObject);
        },
        onStatus: (status) => reports.put(parseHostStatus(status)),
      });
    },
  });
}

function problemsOf(signer: Signer): string {
  const [first, ...more] = signer.status().problems;
  return first === undefined ? '' : `; ${first}${more.length === 0 ? '' : ` (and ${more.length} more)`}`;
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
