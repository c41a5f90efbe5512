/**
 * The gossip room. In: the own host's SVID, verified config's grants, what this host serves. Out: snapshots of the endpoint table, config
 * announcements and config from peers. Must never: put a record in the table that its host did not sign or config does not grant, take a
 * host out on another's word, or need a controller.
 */
import { MeshError } from '../../api/errors.ts';
import { encodeAccusation } from '../../api/gossip/accusation.ts';
import { formatEndpoint, type IpEndpoint, isClaimable, parseEndpoint } from '../../api/gossip/address.ts';
import { sealEnvelope } from '../../api/gossip/envelope.ts';
import type { EndpointSnapshot, Liveness } from '../../api/gossip/host-record.ts';
import type { PeerRow } from '../../api/http/admin-api.ts';
import type { GossipRefusal } from '../../api/http/agent-api.ts';
import type { Logger } from '../../runtime/log.ts';
import { type Admission, createAdmission } from './admission.ts';
import { CONFIG_PROTOCOL, type ConfigExchange, createConfigExchange } from './config-exchange.ts';
import { createEndpointTable, type EndpointTable } from './endpoint-table.ts';
import type { AnnounceVerdict, Gossip, GossipDeps } from './gossip-api.ts';
import { createIntake, type Intake } from './intake.ts';
import { createLinker, HOLD_OFF_MS, type Linker, SYNC_LIMITS, SYNC_PROTOCOL } from './linker.ts';
import { createGossipMetrics, type GossipMetrics } from './metrics.ts';
import { createNode, type GossipNode } from './node.ts';
import { createOwnRecord, type OwnFields, type OwnRecord } from './own-record.ts';
import { peerRows } from './peer-rows.ts';
import { createProber, type Prober } from './prober.ts';
import { gossipEndpoints } from './probes.ts';
import { createRefusals, type Refusals } from './refusals.ts';
import type { Channel } from './sync.ts';
import { createSyncService, type SyncService } from './sync-service.ts';
import { createCounterFile, createTableFile, type TableFile } from './table-file.ts';
import { leafOf } from './tls-link.ts';
import { createTopicJudge, MAX_ANNOUNCE_BYTES, TOPICS, type TopicJudge } from './topics.ts';
import { createTrust, type Trust, type VerifiedRecord } from './trust.ts';

const TICK_MS = 1000;
const SWEEP_MS = 60_000;
/** Certificates that end: links are closed and hosts dropped this often (issue 6: within 10 s everywhere). */
const EXPIRY_MS = 5000;
const SYNCED_AFTER_MS = 30_000;
const COALESCE_MS = 10;
const REFUTE_EVERY_MS = 30_000;
const LEAVE_FLUSH_MS = 300;

/** Composes the room. Does no IO until `start`. */
export function createGossip(deps: GossipDeps): Gossip {
  return new GossipRoom(deps);
}

class GossipRoom implements Gossip {
  readonly name = 'gossip';
  readonly #deps: GossipDeps;
  readonly #log: Logger;
  readonly #metrics: GossipMetrics;
  readonly #trust: Trust;
  readonly #table: EndpointTable;
  readonly #intake: Intake;
  readonly #prober: Prober;
  readonly #node: GossipNode;
  readonly #linker: Linker;
  readonly #own: OwnRecord;
  readonly #file: TableFile;
  readonly #config: ConfigExchange;
  readonly #listen: readonly IpEndpoint[];
  readonly #listeners: (() => void)[] = [];
  readonly #topics: TopicJudge;
  readonly #sync: SyncService;
  readonly #admission: Admission;
  readonly #refusals: Refusals;
  /** The incarnation in which a host was found dead here. */
  readonly #diedAs = new Map<string, string>();
  #signal: AbortSignal | undefined;
  #synced = false;
  #startedAt = 0;
  #linkCount = 0;
  #sweepAt = 0;
  #expiryAt = 0;
  #unproven = new Set<string>();
  #refutedAt = Number.NEGATIVE_INFINITY;
  #told = '';
  #cancelTick: (() => void) | undefined;
  #cancelNotify: (() => void) | undefined;

  constructor(deps: GossipDeps) {
    this.#deps = deps;
    const { clock, log, host } = deps;
    this.#log = log;
    this.#metrics = createGossipMetrics(deps.registry);
    const allowed = deps.addressAllowed;
    const addressAllowed = (address: string) => (allowed === undefined ? isClaimable(address) : allowed(address));
    this.#trust = createTrust({ trustDomain: deps.trustDomain, grants: deps.grants(), addressAllowed });
    this.#table = createEndpointTable(host);
    this.#listen = deps.listenAddresses.map((address) => ({ address, port: deps.port }));
    this.#file = createTableFile(deps.tablePath, () => this.#storedRows(), { clock, log });
    this.#refusals = createRefusals(clock.now);
    this.#admission = this.#makeAdmission();
    this.#config = createConfigExchange(clock.monotonic);
    this.#intake = this.#makeIntake();
    this.#sync = this.#makeSync();
    this.#prober = this.#makeProber();
    this.#own = this.#makeOwn();
    this.#topics = this.#makeTopics();
    this.#node = this.#makeNode();
    this.#linker = this.#makeLinker();
  }

  async start(signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    this.#startedAt = this.#deps.clock.monotonic();
    this.#trust.update(this.#deps.grants());
    await this.#restore();
    await this.#prober.start();
    await this.#node.start();
    await this.#own.reconsider();
    this.#tick();
    this.#changed();
  }

  async stop(): Promise<void> {
    this.#signal = undefined;
    this.#cancelTick?.();
    this.#cancelNotify?.();
    await this.#prober.stop();
    await this.#node.stop();
    await this.#file.flush();
  }

  publishOwn(fields: OwnFields): Promise<void> {
    return this.#own.set(fields);
  }

  async leave(): Promise<void> {
    const fields = this.#own.fields() ?? { network: 'default', addresses: [], workloads: [] };
    await this.#own.set({
      ...fields,
      workloads: fields.workloads.map((w) => ({ ...w, health: 'draining' })),
      leaving: true,
    });
    // The record is in the links' send buffers; give the sockets a moment before they are closed.
    await new Promise<void>((resolve) => void this.#deps.clock.after(LEAVE_FLUSH_MS, resolve));
  }

  snapshot(): EndpointSnapshot {
    return this.#table.snapshot(this.#synced);
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  links(): string[] {
    return this.#node
      .links()
      .map((l) => l.host)
      .sort();
  }

  refusals(): readonly GossipRefusal[] {
    return this.#refusals.list();
  }

  peers(): PeerRow[] {
    return peerRows(this.#deps.host, this.#table, this.#prober, this.#node.links(), this.#deps.clock.monotonic());
  }

  onConfigChanged(): void {
    this.#trust.update(this.#deps.grants());
    this.#retain();
    this.#admission.checkLinks();
    this.#intake.retry(this.#deps.clock.now());
    void this.#own.reconsider();
    this.#linker.syncSoon();
    this.#changed();
  }

  onIdentityChanged(): void {
    void this.#own.reconsider();
  }

  async announce(timestamp: Uint8Array): Promise<void> {
    if (timestamp.length > MAX_ANNOUNCE_BYTES) {
      throw new MeshError(
        'ANNOUNCE_TOO_LARGE',
        `an announcement has at most ${MAX_ANNOUNCE_BYTES} bytes, not ${timestamp.length}`,
      );
    }
    await this.#publish(TOPICS.config, timestamp);
  }

  onAnnounce(judge: (timestamp: Uint8Array, from: string) => AnnounceVerdict): void {
    this.#topics.setAnnounceJudge(judge);
  }

  async fetchConfig(peer: string, request: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
    const running = this.#signal;
    if (running === undefined) throw new MeshError('STOPPING', 'gossip does not run');
    await this.#linker.ensure(peer, signal === undefined ? running : AbortSignal.any([running, signal]));
    return this.#config.fetch(this.#node, peer, request, signal);
  }

  serveConfig(answer: (request: Uint8Array, peer: string) => Promise<Uint8Array>): void {
    this.#config.serve(answer);
  }

  #makeIntake(): Intake {
    const { clock, host } = this.#deps;
    return createIntake({
      ownHost: host,
      trust: this.#trust,
      table: this.#table,
      monotonic: clock.monotonic,
      onMerged: (verified) => this.#onMerged(verified),
      onOwn: (verified) => this.#onOwnSeen(verified),
      count: (result) => this.#metrics.record(result),
      onRefused: (signer, reason, detail) => this.#refusals.note(signer, reason, detail),
    });
  }

  #makeAdmission(): Admission {
    const { clock, random, host } = this.#deps;
    return createAdmission({
      host,
      trust: this.#trust,
      table: this.#table,
      links: () => this.#node.links(),
      ownLeaf: () => leafOf(this.#deps.identity().chainPem),
      closeLink: (peer, reason) => this.#linker.close(peer, reason, HOLD_OFF_MS),
      onRefused: (peer, reason) => this.#refusals.note(peer, reason),
      now: clock.now,
      monotonic: clock.monotonic,
      random,
    });
  }

  /** A link delivered what no member forwards. */
  #closeHostile(peer: string, reason: 'hostile' | 'flood', why: string): void {
    this.#refusals.note(peer, reason, why);
    this.#linker.close(peer, reason, HOLD_OFF_MS);
  }

  #makeSync(): SyncService {
    const { clock } = this.#deps;
    return createSyncService({
      table: this.#table,
      intake: this.#intake,
      synced: () => this.#synced,
      passOn: (envelope) => void this.#publish(TOPICS.records, envelope),
      onHostile: (peer, why) => this.#closeHostile(peer, 'hostile', why),
      onRepaired: () => this.#metrics.repaired(),
      clock,
    });
  }

  #makeProber(): Prober {
    const { clock, log, random, host } = this.#deps;
    return createProber({
      host,
      listen: this.#listen,
      table: this.#table,
      onVerdict: (peer, liveness, reason) => this.#onVerdict(peer, liveness, reason),
      onProven: () => {
        this.#file.touch();
        this.#changed();
      },
      accuse: (target) => void this.#accuse(target),
      onUnproven: (peer, address) => this.#onUnproven(peer, address),
      load: () => ({ links: this.#linkCount, records: this.#table.size }),
      onAnswer: (rttMs) => this.#metrics.roundTrip(rttMs / 1000),
      onDrop: (reason) => this.#metrics.probeDropped(reason),
      onBytes: (direction, bytes) => this.#metrics.probeBytes(direction, bytes),
      clock,
      random,
      log,
    });
  }

  #makeOwn(): OwnRecord {
    const { log, host } = this.#deps;
    return createOwnRecord({
      host,
      probeKey: this.#prober.probeKey,
      gossipAddresses: this.#deps.advertiseAddresses.map((address) =>
        formatEndpoint({ address, port: this.#deps.port }),
      ),
      identity: () => this.#deps.identity(),
      grant: () => this.#trust.grants().hosts.get(host),
      counter: createCounterFile(this.#deps.counterPath, log),
      publish: (verified) => this.#publishRecord(verified),
      log,
    });
  }

  #makeTopics(): TopicJudge {
    const { clock, log, host } = this.#deps;
    return createTopicJudge({
      host,
      trust: this.#trust,
      intake: this.#intake,
      closeLink: (peer, reason, why) => this.#closeHostile(peer, reason, why),
      onAccusation: (accusation) => this.#prober.onAccusation(accusation),
      onAccusedSelf: (accuser, counter) => this.#refute(accuser, counter),
      clock,
      log,
      metrics: this.#metrics,
    });
  }

  #makeNode(): GossipNode {
    const { clock, log, host } = this.#deps;
    return createNode({
      host,
      trustDomain: this.#deps.trustDomain,
      listen: this.#listen,
      identity: () => this.#deps.identity(),
      admit: (leaf) => this.#admission.admit(leaf),
      topics: Object.values(TOPICS),
      validate: (topic, data, from) => this.#topics.validate(topic, data, from),
      protocols: new Map([
        [SYNC_PROTOCOL, { ...SYNC_LIMITS, answer: (peer, channel) => this.#answerSync(peer, channel) }],
        [CONFIG_PROTOCOL, this.#config.handler],
      ]),
      mayHandshake: (address) => this.#mayHandshake(address),
      makeRoom: (peer) => this.#makeRoom(peer),
      onBytes: (direction, bytes) => this.#metrics.linkBytes(direction, bytes),
      onLink: (peer, up) => this.#onLink(peer, up),
      onCrossed: (peer) => this.#linker.onCrossed(peer),
      onRefused: (error) => {
        const code = error instanceof MeshError ? error.code : 'TLS';
        this.#metrics.refused(code);
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
      node: this.#node,
      candidates: () =>
        this.#members()
          .filter((peer) => this.#endpoints(peer).length > 0)
          .map((peer) => ({ host: peer, alive: this.#prober.liveness(peer) === 'alive' })),
      endpoints: (peer) => this.#endpoints(peer),
      dialSeeds: (signal) => this.#dialSeeds(signal),
      syncSource: (peer) => this.#sync.source(peer),
      onSynced: (result, records) => this.#onSynced(result, records),
      onClosed: (reason) => this.#metrics.linkClosed(reason),
      ban: (peer, ms) => this.#admission.ban(peer, ms),
      clock,
      random,
      log,
    });
  }

  /** Once a second: links, proofs, and what has to be looked at now and then. */
  #tick(): void {
    const signal = this.#signal;
    if (signal === undefined || signal.aborted) return;
    const now = this.#deps.clock.monotonic();
    this.#linker.tick(signal);
    this.#prober.prove();
    if (now >= this.#expiryAt) {
      this.#expiryAt = now + EXPIRY_MS;
      this.#admission.checkLinks();
      if (this.#admission.anyExpired()) this.#retain();
    }
    if (now >= this.#sweepAt) {
      this.#sweepAt = now + SWEEP_MS;
      this.#sweep();
    }
    const alone = this.#members().length === 0 && this.#trust.grants().hosts.size > 0;
    if (!this.#synced && (alone || now - this.#startedAt >= SYNCED_AFTER_MS)) this.#setSynced();
    this.#linkCount = this.#node.links().length;
    this.#metrics.links(this.#linkCount);
    this.#metrics.table({ records: this.#table.size, parked: this.#intake.parked, unproven: this.#unproven.size });
    this.#metrics.lag(this.#prober.lagMs() / 1000);
    const counts: Record<Liveness, number> = { alive: 0, suspect: 0, dead: 0, left: 0 };
    for (const row of this.#table.rows()) counts[row.liveness] += 1;
    this.#metrics.hosts(counts);
    this.#cancelTick = this.#deps.clock.after(TICK_MS, () => this.#tick());
  }

  /** Each minute: what config dropped without a word, own SVID renewed without a word. */
  #sweep(): void {
    this.#unproven.clear();
    this.#retain();
    void this.#own.reconsider();
  }

  /** Drops what config no longer lets in, and whose certificate has ended. */
  #retain(): void {
    const dropped = this.#table.retain((row) => this.#admission.keeps(row));
    for (const host of dropped) {
      this.#log.info('host dropped from the endpoint table', { host });
      this.#prober.removeHost(host);
      this.#diedAs.delete(host);
      this.#node.drop(host, 'no longer a member');
    }
    if (dropped.length > 0) {
      this.#file.touch();
      this.#changed();
    }
  }

  /** Hosts that signed config grants, this one left out. */
  #members(): string[] {
    return [...this.#trust.grants().hosts.keys()].filter(
      (host) => host !== this.#deps.host && this.#trust.isMember(host),
    );
  }

  #endpoints(host: string): readonly IpEndpoint[] {
    const row = this.#table.get(host);
    const own = row === undefined ? [] : gossipEndpoints(row.record);
    const granted = this.#trust.grants().hosts.get(host)?.gossipAddresses ?? [];
    const texts = new Set([...own.map(formatEndpoint), ...granted]);
    return [...texts].flatMap((text) => parseEndpoint(text) ?? []);
  }

  async #dialSeeds(signal: AbortSignal): Promise<void> {
    for (const text of this.#deps.seeds?.() ?? []) {
      const endpoint = parseEndpoint(text);
      if (endpoint === undefined || this.#listen.some((l) => formatEndpoint(l) === text)) continue;
      await this.#node
        .dial(undefined, [endpoint], signal)
        .catch((error: unknown) => this.#log.debug('seed not reached', { endpoint: text, error }));
      if (this.#node.links().length > 0) return;
    }
  }

  /** SWIM's refutation: a higher incarnation. At most once in 30 s, so that a liar does not make this host a publisher. */
  #refute(accuser: string, counter: number): void {
    const now = this.#deps.clock.monotonic();
    if (now - this.#refutedAt < REFUTE_EVERY_MS || counter !== this.#own.current()?.counter) return;
    this.#refutedAt = now;
    this.#metrics.refuted();
    this.#log.info('accused of being dead; refuting', { accuser });
    void this.#own.renew(counter);
  }

  async #accuse(target: string): Promise<void> {
    const row = this.#table.get(target);
    if (row === undefined) return;
    const { chainPem, privateKey } = this.#deps.identity();
    const { epoch, counter } = row.record;
    const payload = encodeAccusation({ accuser: this.#deps.host, target, epoch, counter });
    await this.#publish(TOPICS.health, sealEnvelope('accusation', payload, privateKey, leafOf(chainPem)).bytes);
  }

  /** Never rejects: what did not go out by gossip goes by comparison of tables. */
  async #publish(topic: string, data: Uint8Array): Promise<void> {
    try {
      await this.#node.publish(topic, data);
    } catch (error) {
      this.#log.debug('not published', { topic, error });
    }
  }

  async #publishRecord(verified: VerifiedRecord): Promise<void> {
    this.#table.merge(verified);
    this.#metrics.published();
    this.#file.touch();
    this.#changed();
    await this.#publish(TOPICS.records, verified.envelope.bytes);
  }

  #onMerged({ record }: VerifiedRecord): void {
    const row = this.#table.get(record.host);
    if (row === undefined) return;
    this.#refusals.settle(record.host);
    // After a reboot an older link to the host may lead nowhere.
    if (this.#prober.setHost(row)) this.#linker.check(record.host);
    if (row.liveness === 'left') this.#log.info('host left', { host: record.host });
    this.#file.touch();
    this.#changed();
  }

  /** After a lost counter file, or a disk that refused: stay above what others hold, or they would ignore this host for good. */
  #onOwnSeen({ record }: VerifiedRecord): void {
    const own = this.#own.current();
    if (own !== undefined && (record.epoch !== own.epoch || record.counter < own.counter)) return;
    void this.#own.renew(record.counter);
  }

  #onVerdict(host: string, liveness: Liveness, reason: string): void {
    const before = this.#table.get(host)?.liveness;
    if (!this.#table.setLiveness(host, liveness)) return;
    this.#metrics.verdict(liveness);
    this.#log.info(`host ${liveness}`, { host, reason, before });
    this.#countDeath(host, liveness, before);
    if (liveness === 'dead') this.#node.drop(host, 'dead');
    if (liveness === 'alive' && before === 'dead') this.#linker.reach(host, this.#table.size);
    this.#changed();
  }

  #countDeath(host: string, liveness: Liveness, before: Liveness | undefined): void {
    const record = this.#table.get(host)?.record;
    const incarnation = `${record?.epoch}.${record?.probeKey}`;
    if (liveness === 'dead') {
      const last = this.#prober.lastAnswer(host);
      if (last !== undefined) this.#metrics.detected((this.#deps.clock.monotonic() - last.at) / 1000);
      this.#diedAs.set(host, incarnation);
    } else if (before === 'dead' && this.#diedAs.get(host) === incarnation) this.#metrics.falseDeath();
  }

  /** Where networks differ, an address may be out of reach in good faith; in the own network it is a claim that does not hold. */
  #onUnproven(host: string, address: string): void {
    const record = this.#table.get(host)?.record;
    if (record === undefined || record.network !== (this.#own.fields()?.network ?? 'default')) return;
    this.#unproven.add(`${host} ${address}`);
    this.#metrics.record('address-unproven');
    this.#refusals.note(host, 'address-unproven', `${address} does not answer with its key`);
  }

  #mayHandshake(address: string): boolean {
    const may = this.#admission.mayHandshake(address);
    if (!may) this.#metrics.refused('LINK_RATE');
    return may;
  }

  #makeRoom(host: string): boolean {
    const made = this.#admission.makeRoom(host);
    if (!made) this.#metrics.refused('LINK_FULL');
    return made;
  }

  #onLink(host: string, up: boolean): void {
    this.#log.debug(up ? 'gossip link up' : 'gossip link down', { host });
    this.#linker.onLink(host, up);
    if (!up && this.#signal !== undefined) this.#prober.probeSoon(host, 'its link went down');
  }

  async #answerSync(peer: string, channel: Channel): Promise<void> {
    const { equal, received } = await this.#sync.answer(peer, channel);
    this.#onSynced(equal ? 'equal' : 'repaired', received);
  }

  #onSynced(result: 'equal' | 'repaired' | 'failed', records: number): void {
    this.#metrics.sync(result, records);
    if (result === 'failed' || this.#synced) return;
    this.#metrics.synced((this.#deps.clock.monotonic() - this.#startedAt) / 1000);
    this.#setSynced();
  }

  #setSynced(): void {
    this.#synced = true;
    this.#changed();
  }

  /** Listeners are told once for all that happens within 10 ms. */
  #changed(): void {
    this.#cancelNotify ??= this.#deps.clock.after(COALESCE_MS, () => {
      this.#cancelNotify = undefined;
      this.#prober.prove();
      const state = `${this.#table.version} ${this.#synced}`;
      if (state === this.#told) return;
      this.#told = state;
      for (const listener of this.#listeners) listener();
    });
  }

  *#storedRows(): Generator<{ envelope: Uint8Array; proven: readonly string[] }> {
    for (const row of this.#table.rows()) {
      if (row.record.host !== this.#deps.host) yield { envelope: row.envelope.bytes, proven: row.proven };
    }
  }

  async #restore(): Promise<void> {
    let restored = 0;
    for (const { envelope, proven } of await this.#file.load()) {
      const verified = this.#trust.record(envelope, undefined);
      if (typeof verified === 'string' || verified.record.host === this.#deps.host) continue;
      if (this.#trust.refuse(verified.record, verified.record.host) !== undefined) continue;
      this.#table.restore(verified, proven);
      const row = this.#table.get(verified.record.host);
      if (row !== undefined) this.#prober.setHost(row);
      restored += 1;
    }
    this.#log.info('endpoint table restored', { hosts: restored });
  }
}
