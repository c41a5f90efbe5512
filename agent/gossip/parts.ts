import { MeshError } from '../../api/errors.ts';
import { formatEndpoint, type IpEndpoint, isClaimable } from '../../api/gossip/address.ts';
import { type Admission, createAdmission } from './admission.ts';
import { type ChangeNotice, createChangeNotice } from './change-notice.ts';
import { CONFIG_PROTOCOL, type ConfigExchange, createConfigExchange } from './config-exchange.ts';
import { createEndpointTable, type EndpointTable } from './endpoint-table.ts';
import type { GossipDeps } from './gossip-api.ts';
import { createIntake, type Intake } from './intake.ts';
import { storedRows } from './kept-table.ts';
import { createLinker, HOLD_OFF_MS, type Linker, SYNC_LIMITS, SYNC_PROTOCOL } from './linker.ts';
import { createGossipMetrics, type GossipMetrics } from './metrics.ts';
import { createNode, type GossipNode } from './node.ts';
import { createOwnRecord, type OwnRecord } from './own-record.ts';
import { createProber, type Prober } from './prober.ts';
import { createRefusals, type Refusals } from './refusals.ts';
import type { Channel } from './sync.ts';
import { createSyncService, type SyncService } from './sync-service.ts';
import { createCounterFile, createTableFile, type TableFile } from './table-file.ts';
import { leafOf } from './tls-link.ts';
import { createTopicJudge, TOPICS, type TopicJudge } from './topics.ts';
import { createTrust, type Trust, type VerifiedRecord } from './trust.ts';
import { createUpkeep, type Upkeep } from './upkeep.ts';
import { createVerdicts, type Verdicts } from './verdicts.ts';
import { createWhereabouts, type Whereabouts } from './whereabouts.ts';

/** What the room itself does when its parts have something for it. */
export interface RoomHooks {
  /** The table was compared with a member's. */
  synced(): boolean;
  linkCount(): number;
  publish(topic: string, data: Uint8Array): Promise<void>;
  publishRecord(verified: VerifiedRecord): Promise<void>;
  onMerged(verified: VerifiedRecord): void;
  /** Somebody holds a record of this host. */
  onOwnSeen(verified: VerifiedRecord): void;
  onLink(host: string, up: boolean): void;
  answerSync(peer: string, channel: Channel): Promise<void>;
  onSynced(result: 'equal' | 'repaired' | 'failed', records: number): void;
}

/** The parts of the gossip room, each given the others' functions that it needs: those made later by arrows only. Nothing is started. */
export class GossipParts {
  readonly metrics: GossipMetrics;
  readonly trust: Trust;
  readonly table: EndpointTable;
  readonly intake: Intake;
  readonly prober: Prober;
  readonly node: GossipNode;
  readonly linker: Linker;
  readonly own: OwnRecord;
  readonly file: TableFile;
  readonly config: ConfigExchange;
  readonly listen: readonly IpEndpoint[];
  readonly topics: TopicJudge;
  readonly sync: SyncService;
  readonly admission: Admission;
  readonly refusals: Refusals;
  readonly notice: ChangeNotice;
  readonly upkeep: Upkeep;
  readonly verdicts: Verdicts;
  readonly whereabouts: Whereabouts;
  readonly #deps: GossipDeps;
  readonly #hooks: RoomHooks;

  constructor(deps: GossipDeps, hooks: RoomHooks) {
    this.#deps = deps;
    this.#hooks = hooks;
    const { clock, log, host } = deps;
    this.metrics = createGossipMetrics(deps.registry);
    const allowed = deps.addressAllowed;
    const addressAllowed = (address: string) => (allowed === undefined ? isClaimable(address) : allowed(address));
    this.trust = createTrust({ trustDomain: deps.trustDomain, grants: deps.grants(), addressAllowed });
    this.table = createEndpointTable(host);
    this.listen = deps.listenAddresses.map((address) => ({ address, port: deps.port }));
    this.file = createTableFile(deps.tablePath, () => storedRows(this.table, host), { clock, log });
    this.refusals = createRefusals(clock.now);
    this.notice = this.#makeNotice();
    this.whereabouts = this.#makeWhereabouts();
    this.admission = this.#makeAdmission();
    this.config = createConfigExchange(clock.monotonic);
    this.intake = this.#makeIntake();
    this.sync = this.#makeSync();
    this.verdicts = this.#makeVerdicts();
    this.upkeep = this.#makeUpkeep();
    this.prober = this.#makeProber();
    this.own = this.#makeOwn();
    this.topics = this.#makeTopics();
    this.node = this.#makeNode();
    this.linker = this.#makeLinker();
  }

  #makeNotice(): ChangeNotice {
    return createChangeNotice({
      state: () => `${this.table.version} ${this.#hooks.synced()}`,
      before: () => this.prober.prove(),
      clock: this.#deps.clock,
    });
  }

  #makeWhereabouts(): Whereabouts {
    const { host, log } = this.#deps;
    return createWhereabouts({
      host,
      trust: this.trust,
      table: this.table,
      listen: this.listen,
      seeds: () => this.#deps.seeds?.() ?? [],
      node: () => this.node,
      log,
    });
  }

  #makeVerdicts(): Verdicts {
    const { clock, log, host } = this.#deps;
    return createVerdicts({
      host,
      table: this.table,
      metrics: this.metrics,
      identity: () => this.#deps.identity(),
      lastAnswerAt: (peer) => this.prober.lastAnswer(peer)?.at,
      own: () => this.own,
      onDead: (peer) => this.node.drop(peer, 'dead'),
      onBack: (peer) => this.linker.reach(peer, this.table.size),
      publish: (accusation) => this.#hooks.publish(TOPICS.health, accusation),
      onChanged: () => this.notice.changed(),
      clock,
      log,
    });
  }

  #makeUpkeep(): Upkeep {
    const { clock, log } = this.#deps;
    return createUpkeep({
      table: this.table,
      admission: this.admission,
      metrics: this.metrics,
      refusals: this.refusals,
      own: () => this.own,
      parked: () => this.intake.parked,
      onDropped: (peer) => {
        this.prober.removeHost(peer);
        this.verdicts.forget(peer);
        this.node.drop(peer, 'no longer a member');
      },
      onChanged: () => this.tableChanged(),
      clock,
      log,
    });
  }

  #makeIntake(): Intake {
    const { clock, host } = this.#deps;
    return createIntake({
      ownHost: host,
      trust: this.trust,
      table: this.table,
      monotonic: clock.monotonic,
      onMerged: (verified) => this.#hooks.onMerged(verified),
      onOwn: (verified) => this.#hooks.onOwnSeen(verified),
      count: (result) => this.metrics.record(result),
      onRefused: (signer, reason, detail) => this.refusals.note(signer, reason, detail),
    });
  }

  #makeAdmission(): Admission {
    const { clock, random, host } = this.#deps;
    return createAdmission({
      host,
      trust: this.trust,
      table: this.table,
      links: () => this.node.links(),
      ownLeaf: () => leafOf(this.#deps.identity().chainPem),
      closeLink: (peer, reason) => this.linker.close(peer, reason, HOLD_OFF_MS),
      onRefused: (peer, reason) => this.refusals.note(peer, reason),
      now: clock.now,
      monotonic: clock.monotonic,
      random,
    });
  }

  #makeSync(): SyncService {
    const { clock } = this.#deps;
    return createSyncService({
      table: this.table,
      intake: this.intake,
      synced: () => this.#hooks.synced(),
      passOn: (envelope) => void this.#hooks.publish(TOPICS.records, envelope),
      onHostile: (peer, why) => this.#closeHostile(peer, 'hostile', why),
      onRepaired: () => this.metrics.repaired(),
      clock,
    });
  }

  #makeProber(): Prober {
    const { clock, log, random, host } = this.#deps;
    return createProber({
      host,
      listen: this.listen,
      table: this.table,
      onVerdict: (peer, liveness, reason) => this.verdicts.onVerdict(peer, liveness, reason),
      onProven: () => this.tableChanged(),
      accuse: (target) => void this.verdicts.accuse(target),
      onUnproven: (peer, address) => this.upkeep.onUnproven(peer, address),
      load: () => ({ links: this.#hooks.linkCount(), records: this.table.size }),
      onAnswer: (rttMs) => this.metrics.roundTrip(rttMs / 1000),
      onDrop: (reason) => this.metrics.probeDropped(reason),
      onBytes: (direction, bytes) => this.metrics.probeBytes(direction, bytes),
      clock,
      random,
      log,
    });
  }

  #makeOwn(): OwnRecord {
    const { log, host } = this.#deps;
    return createOwnRecord({
      host,
      probeKey: this.prober.probeKey,
      gossipAddresses: this.#deps.advertiseAddresses.map((address) =>
        formatEndpoint({ address, port: this.#deps.port }),
      ),
      identity: () => this.#deps.identity(),
      grant: () => this.trust.grants().hosts.get(host),
      counter: createCounterFile(this.#deps.counterPath, log),
      publish: (verified) => this.#hooks.publishRecord(verified),
      log,
    });
  }

  #makeTopics(): TopicJudge {
    const { clock, log, host } = this.#deps;
    return createTopicJudge({
      host,
      trust: this.trust,
      intake: this.intake,
      closeLink: (peer, reason, why) => this.#closeHostile(peer, reason, why),
      onAccusation: (accusation) => this.prober.onAccusation(accusation),
      onAccusedSelf: (accuser, counter) => this.verdicts.refute(accuser, counter),
      clock,
      log,
      metrics: this.metrics,
    });
  }

  #makeNode(): GossipNode {
    const { clock, log, host } = this.#deps;
    return createNode({
      host,
      trustDomain: this.#deps.trustDomain,
      listen: this.listen,
      identity: () => this.#deps.identity(),
      admit: (leaf) => this.admission.admit(leaf),
      topics: Object.values(TOPICS),
      validate: (topic, data, from) => this.topics.validate(topic, data, from),
      protocols: new Map([
        [SYNC_PROTOCOL, { ...SYNC_LIMITS, answer: (peer, channel) => this.#hooks.answerSync(peer, channel) }],
        [CONFIG_PROTOCOL, this.config.handler],
      ]),
      mayHandshake: (address) => this.#mayHandshake(address),
      makeRoom: (peer) => this.#makeRoom(peer),
      onBytes: (direction, bytes) => this.metrics.linkBytes(direction, bytes),
      onLink: (peer, up) => this.#hooks.onLink(peer, up),
      onCrossed: (peer) => this.linker.onCrossed(peer),
      onRefused: (error) => {
        const code = error instanceof MeshError ? error.code : 'TLS';
        this.metrics.refused(code);
        log.debug('gossip handshake refused', { code, error });
      },
      monotonic: clock.monotonic,
      log,
    });
  }

  #makeLinker(): Linker {
    const { clock, log, random, host } = this.#deps;
    return createLinker({
      host,
      node: this.node,
      candidates: () =>
        this.whereabouts
          .members()
          .filter((peer) => this.whereabouts.endpoints(peer).length > 0)
          .map((peer) => ({ host: peer, alive: this.prober.liveness(peer) === 'alive' })),
      endpoints: (peer) => this.whereabouts.endpoints(peer),
      dialSeeds: (signal) => this.whereabouts.dialSeeds(signal),
      syncSource: (peer) => this.sync.source(peer),
      onSynced: (result, records) => this.#hooks.onSynced(result, records),
      onClosed: (reason) => this.metrics.linkClosed(reason),
      ban: (peer, ms) => this.admission.ban(peer, ms),
      clock,
      random,
      log,
    });
  }

  /** A link delivered what no member forwards. */
  #closeHostile(peer: string, reason: 'hostile' | 'flood', why: string): void {
    this.refusals.note(peer, reason, why);
    this.linker.close(peer, reason, HOLD_OFF_MS);
  }

  #mayHandshake(address: string): boolean {
    const may = this.admission.mayHandshake(address);
    if (!may) this.metrics.refused('LINK_RATE');
    return may;
  }

  #makeRoom(host: string): boolean {
    const made = this.admission.makeRoom(host);
    if (!made) this.metrics.refused('LINK_FULL');
    return made;
  }

  /** The table is otherwise: kept on disk soon, and told. */
  tableChanged(): void {
    this.file.touch();
    this.notice.changed();
  }
}
