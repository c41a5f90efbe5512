/**
 * The gossip room. In: the own host's SVID, verified config's grants, what this host serves. Out: snapshots of the endpoint table, config
 * announcements and config from peers. Must never: put a record in the table that its host did not sign or config does not grant, take a
 * host out on another's word, or need a controller.
 */
import { MeshError } from '../../api/errors.ts';
import type { EndpointSnapshot } from '../../api/gossip/host-record.ts';
import type { PeerRow } from '../../api/http/admin-api.ts';
import type { GossipRefusal } from '../../api/http/agent-api.ts';
import type { Logger } from '../../runtime/log.ts';
import type { AnnounceVerdict, Gossip, GossipDeps } from './gossip-api.ts';
import { restoreTable } from './kept-table.ts';
import type { OwnFields } from './own-record.ts';
import { GossipParts } from './parts.ts';
import { peerRows } from './peer-rows.ts';
import type { Channel } from './sync.ts';
import { MAX_ANNOUNCE_BYTES, TOPICS } from './topics.ts';
import type { VerifiedRecord } from './trust.ts';

const TICK_MS = 1000;
const SYNCED_AFTER_MS = 30_000;
const LEAVE_FLUSH_MS = 300;

/** Composes the room. Does no IO until `start`. */
export function createGossip(deps: GossipDeps): Gossip {
  return new GossipRoom(deps);
}

class GossipRoom implements Gossip {
  readonly name = 'gossip';
  readonly #deps: GossipDeps;
  readonly #log: Logger;
  readonly #parts: GossipParts;
  #signal: AbortSignal | undefined;
  #synced = false;
  #startedAt = 0;
  #linkCount = 0;
  #cancelTick: (() => void) | undefined;

  constructor(deps: GossipDeps) {
    this.#deps = deps;
    this.#log = deps.log;
    this.#parts = new GossipParts(deps, {
      synced: () => this.#synced,
      linkCount: () => this.#linkCount,
      publish: (topic, data) => this.#publish(topic, data),
      publishRecord: (verified) => this.#publishRecord(verified),
      onMerged: (verified) => this.#onMerged(verified),
      onOwnSeen: (verified) => this.#onOwnSeen(verified),
      onLink: (host, up) => this.#onLink(host, up),
      answerSync: (peer, channel) => this.#answerSync(peer, channel),
      onSynced: (result, records) => this.#onSynced(result, records),
    });
  }

  async start(signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    this.#startedAt = this.#deps.clock.monotonic();
    this.#parts.trust.update(this.#deps.grants());
    const { file, node, own, prober, table, trust } = this.#parts;
    await restoreTable(file, { host: this.#deps.host, trust, table, prober, log: this.#log });
    await prober.start();
    await node.start();
    await own.reconsider();
    this.#tick();
    this.#parts.notice.changed();
  }

  async stop(): Promise<void> {
    this.#signal = undefined;
    this.#cancelTick?.();
    this.#parts.notice.stop();
    await this.#parts.prober.stop();
    await this.#parts.node.stop();
    await this.#parts.file.flush();
  }

  publishOwn(fields: OwnFields): Promise<void> {
    return this.#parts.own.set(fields);
  }

  async leave(): Promise<void> {
    const fields = this.#parts.own.fields() ?? { network: 'default', addresses: [], workloads: [] };
    await this.#parts.own.set({
      ...fields,
      workloads: fields.workloads.map((w) => ({ ...w, health: 'draining' })),
      leaving: true,
    });
    // The record is in the links' send buffers; give the sockets a moment before they are closed.
    await new Promise<void>((resolve) => void this.#deps.clock.after(LEAVE_FLUSH_MS, resolve));
  }

  snapshot(): EndpointSnapshot {
    return this.#parts.table.snapshot(this.#synced);
  }

  onChange(listener: () => void): void {
    this.#parts.notice.listen(listener);
  }

  links(): string[] {
    return this.#parts.node
      .links()
      .map((l) => l.host)
      .sort();
  }

  refusals(): readonly GossipRefusal[] {
    return this.#parts.refusals.list();
  }

  peers(): PeerRow[] {
    const { node, prober, table } = this.#parts;
    return peerRows(this.#deps.host, table, prober, node.links(), this.#deps.clock.monotonic());
  }

  onConfigChanged(): void {
    const { admission, intake, linker, notice, own, trust, upkeep } = this.#parts;
    trust.update(this.#deps.grants());
    upkeep.retain();
    admission.checkLinks();
    intake.retry(this.#deps.clock.now());
    void own.reconsider();
    linker.syncSoon();
    notice.changed();
  }

  onIdentityChanged(): void {
    void this.#parts.own.reconsider();
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
    this.#parts.topics.setAnnounceJudge(judge);
  }

  async fetchConfig(peer: string, request: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
    const running = this.#signal;
    if (running === undefined) throw new MeshError('STOPPING', 'gossip does not run');
    await this.#parts.linker.ensure(peer, signal === undefined ? running : AbortSignal.any([running, signal]));
    return this.#parts.config.fetch(this.#parts.node, peer, request, signal);
  }

  serveConfig(answer: (request: Uint8Array, peer: string) => Promise<Uint8Array>): void {
    this.#parts.config.serve(answer);
  }

  /** Once a second: links, proofs, and what has to be looked at now and then. */
  #tick(): void {
    const signal = this.#signal;
    if (signal === undefined || signal.aborted) return;
    const now = this.#deps.clock.monotonic();
    const { linker, metrics, node, prober, trust, upkeep, whereabouts } = this.#parts;
    linker.tick(signal);
    prober.prove();
    upkeep.tick();
    const alone = whereabouts.members().length === 0 && trust.grants().hosts.size > 0;
    if (!this.#synced && (alone || now - this.#startedAt >= SYNCED_AFTER_MS)) this.#setSynced();
    this.#linkCount = node.links().length;
    metrics.links(this.#linkCount);
    metrics.lag(prober.lagMs() / 1000);
    this.#cancelTick = this.#deps.clock.after(TICK_MS, () => this.#tick());
  }

  /** Never rejects: what did not go out by gossip goes by comparison of tables. */
  async #publish(topic: string, data: Uint8Array): Promise<void> {
    try {
      await this.#parts.node.publish(topic, data);
    } catch (error) {
      this.#log.debug('not published', { topic, error });
    }
  }

  async #publishRecord(verified: VerifiedRecord): Promise<void> {
    this.#parts.table.merge(verified);
    this.#parts.metrics.published();
    this.#parts.tableChanged();
    await this.#publish(TOPICS.records, verified.envelope.bytes);
  }

  #onMerged({ record }: VerifiedRecord): void {
    const { linker, prober, refusals, table } = this.#parts;
    const row = table.get(record.host);
    if (row === undefined) return;
    refusals.settle(record.host);
    // After a reboot an older link to the host may lead nowhere.
    if (prober.setHost(row)) linker.check(record.host);
    if (row.liveness === 'left') this.#log.info('host left', { host: record.host });
    this.#parts.tableChanged();
  }

  /** After a lost counter file, or a disk that refused: stay above what others hold, or they would ignore this host for good. */
  #onOwnSeen({ record }: VerifiedRecord): void {
    const own = this.#parts.own.current();
    if (own !== undefined && (record.epoch !== own.epoch || record.counter < own.counter)) return;
    void this.#parts.own.renew(record.counter);
  }

  #onLink(host: string, up: boolean): void {
    this.#log.debug(up ? 'gossip link up' : 'gossip link down', { host });
    this.#parts.linker.onLink(host, up);
    if (!up && this.#signal !== undefined) this.#parts.prober.probeSoon(host, 'its link went down');
  }

  async #answerSync(peer: string, channel: Channel): Promise<void> {
    const { equal, received } = await this.#parts.sync.answer(peer, channel);
    this.#onSynced(equal ? 'equal' : 'repaired', received);
  }

  #onSynced(result: 'equal' | 'repaired' | 'failed', records: number): void {
    this.#parts.metrics.sync(result, records);
    if (result === 'failed' || this.#synced) return;
    this.#parts.metrics.synced((this.#deps.clock.monotonic() - this.#startedAt) / 1000);
    this.#setSynced();
  }

  #setSynced(): void {
    this.#synced = true;
    this.#parts.notice.changed();
  }
}
