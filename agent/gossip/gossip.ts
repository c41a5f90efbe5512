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
import type { Logger } from '../../runtime/log.ts';
import { CONFIG_PROTOCOL, type ConfigExchange, createConfigExchange } from './config-exchange.ts';
import { createEndpointTable, type EndpointTable } from './endpoint-table.ts';
import type { AnnounceVerdict, Gossip, GossipDeps } from './gossip-api.ts';
import { createIntake, type Intake } from './intake.ts';
import { createLinker, type Linker, SYNC_LIMITS, SYNC_PROTOCOL } from './linker.ts';
import { createGossipMetrics, type GossipMetrics } from './metrics.ts';
import { createNode, type GossipNode } from './node.ts';
import { OVERLAY_DEFAULTS } from './overlay.ts';
import { createOwnRecord, type OwnFields, type OwnRecord } from './own-record.ts';
import { peerRows } from './peer-rows.ts';
import { createProber, type Prober } from './prober.ts';
import { gossipEndpoints } from './probes.ts';
import type { Channel } from './sync.ts';
import { createSyncService, type SyncService } from './sync-service.ts';
import { createCounterFile, createTableFile, type TableFile } from './table-file.ts';
import { leafOf } from './tls-link.ts';
import { createTopicJudge, MAX_ANNOUNCE_BYTES, TOPICS, type TopicJudge } from './topics.ts';
import { createTrust, type Signer, type Trust, type VerifiedRecord } from './trust.ts';

const TICK_MS = 1000;
const SWEEP_MS = 60_000;
const SYNCED_AFTER_MS = 30_000;
const COALESCE_MS = 10;
const REFUTE_EVERY_MS = 30_000;
/** A link closed for what it delivered is left alone this long. */
const HOLD_OFF_MS = 30_000;
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
  #signal: AbortSignal | undefined;
  #synced = false;
  #startedAt = 0;
  #sweepAt = 0;
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

  peers(): PeerRow[] {
    return peerRows(this.#deps.host, this.#table, this.#prober, this.#node.links(), this.#deps.clock.monotonic());
  }

  onConfigChanged(): void {
    this.#trust.update(this.#deps.grants());
    this.#retain();
    for (const { host, leaf } of this.#node.links()) this.#checkLink(host, leaf);
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
    return this.#config.fetch(this.#node, peer, request);
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
    });
  }

  #makeSync(): SyncService {
    const { clock } = this.#deps;
    return createSyncService({
      table: this.#table,
      intake: this.#intake,
      synced: () => this.#synced,
      passOn: (envelope) => void this.#publish(TOPICS.records, envelope),
      onHostile: (peer) => this.#linker.close(peer, 'hostile', HOLD_OFF_MS),
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
      closeLink: (peer, reason) => this.#linker.close(peer, reason, HOLD_OFF_MS),
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
      admit: (leaf) => this.#admit(leaf),
      topics: Object.values(TOPICS),
      validate: (topic, data, from) => this.#topics.validate(topic, data, from),
      protocols: new Map([
        [SYNC_PROTOCOL, { ...SYNC_LIMITS, answer: (peer, channel) => this.#answerSync(peer, channel) }],
        [CONFIG_PROTOCOL, this.#config.handler],
      ]),
      full: () => this.#node.links().length >= OVERLAY_DEFAULTS.refuseLinks,
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
    if (now >= this.#sweepAt) {
      this.#sweepAt = now + SWEEP_MS;
      this.#sweep();
    }
    const alone = this.#members().length === 0 && this.#trust.grants().hosts.size > 0;
    if (!this.#synced && (alone || now - this.#startedAt >= SYNCED_AFTER_MS)) this.#setSynced();
    this.#metrics.links(this.#node.links().length);
    this.#metrics.lag(this.#prober.lagMs() / 1000);
    const counts: Record<Liveness, number> = { alive: 0, suspect: 0, dead: 0, left: 0 };
    for (const row of this.#table.rows()) counts[row.liveness] += 1;
    this.#metrics.hosts(counts);
    this.#cancelTick = this.#deps.clock.after(TICK_MS, () => this.#tick());
  }

  /** Each minute: certificates that ended, own SVID renewed without a word. */
  #sweep(): void {
    for (const { host, leaf } of this.#node.links()) this.#checkLink(host, leaf);
    this.#retain();
    void this.#own.reconsider();
  }

  /** Drops what config no longer lets in. An ended certificate alone drops only hosts that do not answer: a wrong clock empties no table. */
  #retain(): void {
    const now = this.#deps.clock.now();
    const dropped = this.#table.retain(({ record, envelope, notAfter, liveness }) => {
      if (record.host === this.#deps.host) return true;
      if (this.#trust.refuse(record, record.host) !== undefined) return false;
      if (typeof this.#trust.signer(envelope.leaf, undefined) === 'string') return false;
      return now <= notAfter || (liveness !== 'dead' && liveness !== 'left');
    });
    for (const host of dropped) {
      this.#log.info('host dropped from the endpoint table', { host });
      this.#prober.removeHost(host);
      this.#node.drop(host, 'no longer a member');
    }
    if (dropped.length > 0) {
      this.#file.touch();
      this.#changed();
    }
  }

  #checkLink(host: string, leaf: Uint8Array): void {
    const signer = this.#trust.signer(leaf, this.#deps.clock.now());
    if (typeof signer === 'string' || !this.#trust.isMember(host))
      this.#linker.close(host, 'not-admitted', HOLD_OFF_MS);
  }

  #admit(leaf: Uint8Array): Signer {
    const signer = this.#trust.signer(leaf, this.#deps.clock.now());
    if (typeof signer === 'string') throw new MeshError('LINK_REFUSED', `the peer's host SVID is refused: ${signer}`);
    if (!this.#trust.isMember(signer.host))
      throw new MeshError('LINK_NOT_MEMBER', `${signer.host} is not granted or is revoked`);
    return signer;
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
    this.#prober.setHost(row);
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
    if (liveness === 'dead') this.#node.drop(host, 'dead');
    if (liveness === 'alive' && before === 'dead') this.#linker.reach(host);
    this.#changed();
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
    if (result !== 'failed' && !this.#synced) this.#setSynced();
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
