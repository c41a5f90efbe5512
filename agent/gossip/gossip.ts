/**
 * The gossip room. In: the own host's SVID, verified config's grants, what this host serves. Out: snapshots of the endpoint table, config
 * announcements and config from peers. Must never: put a record in the table that its host did not sign or config does not grant, take a
 * host out on another's word, or need a controller.
 */
import type { KeyObject } from 'node:crypto';
import type { Registry } from 'prom-client';
import { MeshError } from '../../api/errors.ts';
import { decodeAccusation, encodeAccusation } from '../../api/gossip/accusation.ts';
import { formatEndpoint, type IpEndpoint, isClaimable, parseEndpoint } from '../../api/gossip/address.ts';
import { MAX_ENVELOPE_BYTES, sealEnvelope } from '../../api/gossip/envelope.ts';
import type { EndpointSnapshot, Liveness } from '../../api/gossip/host-record.ts';
import type { PeerRow } from '../../api/http/admin-api.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Part } from '../../runtime/lifecycle.ts';
import type { Logger } from '../../runtime/log.ts';
import { createBuckets } from './budget.ts';
import { CONFIG_PROTOCOL, type ConfigExchange, createConfigExchange } from './config-exchange.ts';
import { createEndpointTable, type EndpointTable } from './endpoint-table.ts';
import { createIntake, type Intake, isHostile } from './intake.ts';
import { createLinker, type Linker, SYNC_LIMITS, SYNC_PROTOCOL } from './linker.ts';
import { createGossipMetrics, type GossipMetrics } from './metrics.ts';
import { createNode, type GossipNode, type TopicVerdict } from './node.ts';
import { OVERLAY_DEFAULTS } from './overlay.ts';
import { createOwnRecord, type OwnFields, type OwnRecord } from './own-record.ts';
import { createProber, type Prober } from './prober.ts';
import { gossipEndpoints } from './probes.ts';
import { answerSync, type SyncSource } from './sync.ts';
import { createCounterFile, createTableFile, type TableFile } from './table-file.ts';
import { leafOf } from './tls-link.ts';
import { createTrust, type Grants, type Signer, type Trust, type VerifiedRecord } from './trust.ts';

export interface GossipDeps {
  readonly host: string;
  readonly trustDomain: string;
  /** The host SVID, leaf first. Asked at each handshake and signature: it is renewed while the agent runs. Its key stays the same. */
  identity(): { readonly chainPem: string; readonly privateKey: KeyObject };
  /** From verified config; ask again after `onConfigChanged`. */
  grants(): Grants;
  /** Textual addresses to listen on, TCP and UDP, e.g. `0.0.0.0` and `::`. At least one. */
  readonly listenAddresses: readonly string[];
  /** Gossip's port, TCP and UDP (15300). */
  readonly port: number;
  /** Addresses that peers are told to dial and probe, without port; at most 8. */
  readonly advertiseAddresses: readonly string[];
  /** `IP:PORT` of peers whose host id is not known, from the join answer: dialled while there is no link. */
  seeds?(): readonly string[];
  /** False for addresses that no host may claim: VIPs and the like. Default: loopback, link-local, multicast and unspecified are refused. */
  addressAllowed?(address: string): boolean;
  readonly tablePath: string;
  readonly counterPath: string;
  readonly clock: Clock;
  /** In [0,1). */
  readonly random: () => number;
  readonly log: Logger;
  readonly registry: Registry;
}

/** `accept`: new and verified, forward it. `ignore`: known or older. `reject`: not signed by the mesh; the link that brought it is closed. */
export type AnnounceVerdict = 'accept' | 'ignore' | 'reject';

export interface Gossip extends Part {
  /** Signs and publishes the own record if anything in it changed. Resolves when it is in the own table and handed to the links. */
  publishOwn(fields: OwnFields): Promise<void>;
  /** Tells all that this host leaves: they take it out of load balancing at once. Call before an orderly stop for good. */
  leave(): Promise<void>;
  snapshot(): EndpointSnapshot;
  /** Called after the snapshot changed, at most once in 10 ms. */
  onChange(listener: () => void): void;
  /** All hosts known but this one, by host id. */
  peers(): PeerRow[];
  /** Verified config changed (grants, revocations, intermediates). */
  onConfigChanged(): void;
  /** The host SVID was renewed: the record is signed anew. */
  onIdentityChanged(): void;
  /** Publishes a signed TUF timestamp, opaque here; at most 2 KiB. Throws ANNOUNCE_TOO_LARGE. */
  announce(timestamp: Uint8Array): Promise<void>;
  /** The one judge of announcements; it must verify before it accepts. Without one they are ignored. */
  onAnnounce(judge: (timestamp: Uint8Array, from: string) => AnnounceVerdict): void;
  /** Asks a peer (linked or not) for config. Request at most 64 KiB, answer at most 16 MiB. Throws NOT_LINKED, FETCH_REFUSED, timeouts. */
  fetchConfig(peer: string, request: Uint8Array, signal?: AbortSignal): Promise<Uint8Array>;
  /** What answers peers' requests for config; a rejection is told to the peer as a refusal without its text. */
  serveConfig(answer: (request: Uint8Array, peer: string) => Promise<Uint8Array>): void;
}

const TOPICS = { records: 'hostmesh/records/1', health: 'hostmesh/health/1', config: 'hostmesh/config/1' } as const;
const MAX_ANNOUNCE_BYTES = 2048;
const TICK_MS = 1000;
const SWEEP_MS = 60_000;
const SYNCED_AFTER_MS = 30_000;
const COALESCE_MS = 10;
const REFUTE_EVERY_MS = 30_000;
/** Before verification, by link: all hosts publishing at once must fit the burst. */
const LINK_MESSAGES = { perSecond: 400, burst: 3000 };
const LINK_BYTES = { perSecond: 1024 * 1024, burst: 8 * 1024 * 1024 };
/** What a peer may read by anti-entropy. */
const SYNC_BYTES = { perSecond: 128 * 1024, burst: 4 * 1024 * 1024 };
const SYNC_SESSIONS = { perSecond: 1, burst: 10 };
/** A flooding link is closed and left alone this long. */
const FLOOD_HOLD_OFF_MS = 30_000;
const LEAVE_FLUSH_MS = 300;
/** Records of one batch that a host passes on by gossip; none before its own first comparison, when everything is news to it alone. */
const MAX_PASSED_ON = 64;

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
  readonly #linkMessages;
  readonly #linkBytes;
  readonly #syncBytes;
  readonly #syncSessions;
  #judge: ((timestamp: Uint8Array, from: string) => AnnounceVerdict) | undefined;
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
    const { clock, log, random, host } = deps;
    this.#log = log;
    this.#metrics = createGossipMetrics(deps.registry);
    const allowed = deps.addressAllowed;
    const addressAllowed = (address: string) => (allowed === undefined ? isClaimable(address) : allowed(address));
    this.#trust = createTrust({ trustDomain: deps.trustDomain, grants: deps.grants(), addressAllowed });
    this.#table = createEndpointTable(host);
    this.#listen = deps.listenAddresses.map((address) => ({ address, port: deps.port }));
    this.#linkMessages = createBuckets(LINK_MESSAGES, clock.monotonic);
    this.#linkBytes = createBuckets(LINK_BYTES, clock.monotonic);
    this.#syncBytes = createBuckets(SYNC_BYTES, clock.monotonic);
    this.#syncSessions = createBuckets(SYNC_SESSIONS, clock.monotonic);
    this.#file = createTableFile(deps.tablePath, () => this.#storedRows(), { clock, log });
    this.#intake = createIntake({
      ownHost: host,
      trust: this.#trust,
      table: this.#table,
      monotonic: clock.monotonic,
      onMerged: (verified) => this.#onMerged(verified),
      onOwn: (verified) => this.#onOwnSeen(verified),
      count: (result) => this.#metrics.record(result),
    });
    this.#prober = createProber({
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
    this.#own = createOwnRecord({
      host,
      probeKey: this.#prober.probeKey,
      gossipAddresses: deps.advertiseAddresses.map((address) => formatEndpoint({ address, port: deps.port })),
      identity: () => deps.identity(),
      grant: () => this.#trust.grants().hosts.get(host),
      counter: createCounterFile(deps.counterPath, log),
      publish: (verified) => this.#publishRecord(verified),
      log,
    });
    this.#config = createConfigExchange(clock.monotonic);
    this.#node = createNode({
      host,
      trustDomain: deps.trustDomain,
      listen: this.#listen,
      identity: () => deps.identity(),
      admit: (leaf) => this.#admit(leaf),
      topics: Object.values(TOPICS),
      validate: (topic, data, from) => this.#validate(topic, data, from),
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
    this.#linker = createLinker({
      host,
      node: this.#node,
      candidates: () => this.#members().map((peer) => ({ host: peer, alive: this.#prober.liveness(peer) === 'alive' })),
      endpoints: (peer) => this.#endpoints(peer),
      dialSeeds: (signal) => this.#dialSeeds(signal),
      syncSource: (peer) => this.#syncSource(peer),
      onSynced: (result, records) => this.#onSynced(result, records),
      onClosed: (reason) => this.#metrics.linkClosed(reason),
      clock,
      random,
      log,
    });
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
    const linked = new Set(this.#node.links().map((l) => l.host));
    const now = this.#deps.clock.monotonic();
    const rows: PeerRow[] = [];
    for (const { record, liveness } of this.#table.rows()) {
      if (record.host === this.#deps.host) continue;
      const answer = this.#prober.lastAnswer(record.host);
      rows.push({
        host: record.host,
        state: liveness,
        epoch: record.epoch,
        counter: record.counter,
        addresses: record.addresses,
        workloads: record.workloads.map((w) => `${w.group} ${w.health}`),
        linked: linked.has(record.host),
        ...(answer === undefined
          ? {}
          : { rttMs: Math.round(answer.rttMs * 100) / 100, lastSeenSecondsAgo: Math.round((now - answer.at) / 1000) }),
      });
    }
    return rows.sort((a, b) => (a.host < b.host ? -1 : 1));
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
    await this.#node.publish(TOPICS.config, timestamp);
  }

  onAnnounce(judge: (timestamp: Uint8Array, from: string) => AnnounceVerdict): void {
    this.#judge = judge;
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
      this.#linker.close(host, 'not-admitted', FLOOD_HOLD_OFF_MS);
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

  #validate(topic: string, data: Uint8Array, from: string): TopicVerdict {
    if (!this.#linkMessages.take(from, 1) || !this.#linkBytes.take(from, data.length)) {
      this.#metrics.record('link-budget');
      this.#linker.close(from, 'flood', FLOOD_HOLD_OFF_MS);
      return 'reject';
    }
    if (topic === TOPICS.records) return this.#onRecord(data, from);
    if (topic === TOPICS.health) return this.#onAccusation(data, from);
    if (data.length > MAX_ANNOUNCE_BYTES) return this.#hostile(from, 'oversize');
    const verdict = this.#judge?.(data, from) ?? 'ignore';
    return verdict === 'reject' ? this.#hostile(from, 'forged-announcement') : verdict;
  }

  #hostile(from: string, reason: string): 'reject' {
    this.#log.warn('a link delivered what no member forwards', { host: from, reason });
    this.#linker.close(from, 'hostile', FLOOD_HOLD_OFF_MS);
    return 'reject';
  }

  #onRecord(data: Uint8Array, from: string): TopicVerdict {
    if (data.length > MAX_ENVELOPE_BYTES) {
      this.#metrics.record('oversize');
      return this.#hostile(from, 'oversize');
    }
    const result = this.#intake.take(data, this.#deps.clock.now(), true);
    if (isHostile(result)) return this.#hostile(from, result);
    return result === 'merged' ? 'accept' : 'ignore';
  }

  #onAccusation(data: Uint8Array, from: string): TopicVerdict {
    const opened = this.#trust.open(data, 'accusation', this.#deps.clock.now());
    if (typeof opened === 'string') {
      this.#metrics.accusation(opened);
      return isHostile(opened) ? this.#hostile(from, opened) : 'ignore';
    }
    try {
      const accusation = decodeAccusation(opened.envelope.payload);
      if (accusation.accuser !== opened.signer.host || !this.#trust.isMember(accusation.accuser)) {
        this.#metrics.accusation('signer');
        return 'ignore';
      }
      if (accusation.target === this.#deps.host) return this.#refute(accusation.accuser, accusation.counter);
      const verdict = this.#prober.onAccusation(accusation);
      this.#metrics.accusation(verdict);
      if (verdict === 'probe') this.#log.debug('accusation', { accuser: accusation.accuser, host: accusation.target });
      return verdict === 'probe' || verdict === 'known' ? 'accept' : 'ignore';
    } catch {
      this.#metrics.accusation('content');
      return 'ignore';
    }
  }

  /** SWIM's refutation: a higher incarnation. At most once in 30 s, so that a liar does not make this host a publisher. */
  #refute(accuser: string, counter: number): TopicVerdict {
    const now = this.#deps.clock.monotonic();
    this.#metrics.accusation('of-self');
    if (now - this.#refutedAt >= REFUTE_EVERY_MS && counter === this.#own.current()?.counter) {
      this.#refutedAt = now;
      this.#log.info('accused of being dead; refuting', { accuser });
      void this.#own.renew(counter);
    }
    return 'accept';
  }

  async #accuse(target: string): Promise<void> {
    const row = this.#table.get(target);
    if (row === undefined) return;
    const { chainPem, privateKey } = this.#deps.identity();
    const { epoch, counter } = row.record;
    const payload = encodeAccusation({ accuser: this.#deps.host, target, epoch, counter });
    await this.#node
      .publish(TOPICS.health, sealEnvelope('accusation', payload, privateKey, leafOf(chainPem)).bytes)
      .catch((error: unknown) => {
        this.#log.debug('accusation not published', { host: target, error });
      });
  }

  async #publishRecord(verified: VerifiedRecord): Promise<void> {
    this.#table.merge(verified);
    this.#metrics.published();
    this.#file.touch();
    this.#changed();
    await this.#node.publish(TOPICS.records, verified.envelope.bytes);
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

  #syncSource(peer: string): SyncSource {
    return {
      digest: () => this.#table.digest(),
      bucketDigests: () => this.#table.bucketDigests(),
      versions: (buckets) => this.#table.versions(buckets),
      envelope: (host) => this.#table.get(host)?.envelope.bytes,
      mayRead: (bytes) => this.#syncBytes.take(peer, bytes),
      take: async (envelopes) => {
        let n = 0;
        let passOn = this.#synced ? MAX_PASSED_ON : 0;
        for (const envelope of envelopes) {
          // Verifying costs 0.3 ms a new signer: let probes and streams have their turn in between.
          if (++n % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
          const result = this.#intake.take(envelope, this.#deps.clock.now(), false);
          if (isHostile(result)) throw new MeshError('PEER_HOSTILE', `a record from ${peer}: ${result}`);
          // News that came by comparison goes on by gossip, or it would cross one link in ten seconds.
          if (result === 'merged' && passOn-- > 0) void this.#node.publish(TOPICS.records, envelope);
        }
      },
    };
  }

  async #answerSync(peer: string, channel: Parameters<typeof answerSync>[0]): Promise<void> {
    if (!this.#syncSessions.take(peer, 1)) throw new MeshError('SYNC_BUSY', 'too many sessions');
    try {
      const result = await answerSync(channel, this.#syncSource(peer));
      this.#onSynced(result.equal ? 'equal' : 'repaired', result.received);
    } catch (error) {
      if (error instanceof MeshError && (error.code === 'PEER_HOSTILE' || error.code === 'SYNC_INVALID')) {
        this.#linker.close(peer, 'hostile', FLOOD_HOLD_OFF_MS);
      }
      throw error;
    }
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
