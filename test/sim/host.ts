/**
 * One simulated host: the agent's own detector, overlay and linker, endpoint table, intake, topic judge and anti-entropy, joined as
 * agent/gossip/parts.ts joins them. The prober's datagrams are modelled: one address a host.
 */
import { createDetector, type Detector, type DetectorAction } from '../../agent/gossip/detector.ts';
import { createEndpointTable, type EndpointTable } from '../../agent/gossip/endpoint-table.ts';
import { createIntake, type Intake } from '../../agent/gossip/intake.ts';
import { createLinker, type Linker } from '../../agent/gossip/linker.ts';
import type { GossipMetrics } from '../../agent/gossip/metrics.ts';
import type { Channel } from '../../agent/gossip/sync.ts';
import { createSyncService, type SyncService } from '../../agent/gossip/sync-service.ts';
import { createTopicJudge, TOPICS, type TopicJudge } from '../../agent/gossip/topics.ts';
import type { VerifiedRecord } from '../../agent/gossip/trust.ts';
import { encodeAccusation } from '../../api/gossip/accusation.ts';
import type { Liveness } from '../../api/gossip/host-record.ts';
import type { Clock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';
import type { Links } from './links.ts';
import type { Pubsub, Topic } from './pubsub.ts';
import { type Records, recordOf } from './records.ts';

const REFUTE_EVERY_MS = 30_000;
/** CPU to verify a record that came by comparison. */
const VERIFY_MS = 0.3;

const noMetrics = new Proxy({}, { get: () => () => {} }) as GossipMetrics;
const noEndpoints: never[] = [];

export interface HostDeps {
  readonly number: number;
  readonly names: readonly string[];
  readonly address: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly records: Records;
  readonly links: Links;
  readonly pubsub: Pubsub;
  probe(target: string, via: string | undefined): void;
  /** A record of another host was taken in. */
  onMerged(verified: VerifiedRecord, isNew: boolean): void;
  onVerdict(target: string, before: Liveness, after: Liveness): void;
  readonly counts: HostCounts;
}

/** Of all hosts together. `compared`: records that came by anti-entropy. */
export interface HostCounts {
  accusations: number;
  refutations: number;
  synced: number;
  syncFailed: number;
  compared: number;
}

export interface SimHost {
  readonly name: string;
  readonly address: string;
  readonly table: EndpointTable;
  readonly detector: Detector;
  readonly intake: Intake;
  readonly linker: Linker;
  /** Publishes a record with a higher counter; returns it. */
  publish(): VerifiedRecord;
  perform(actions: readonly DetectorAction[]): void;
  validate(topic: Topic, data: Uint8Array, from: number): ReturnType<TopicJudge['validate']>;
  answer(peer: number, channel: Channel): Promise<unknown>;
  /** Once a second. */
  tick(): void;
}

export function createSimHost(deps: HostDeps): SimHost {
  const { names, clock, random, links, pubsub } = deps;
  const name = names[deps.number] as string;
  const others = names.filter((other) => other !== name);
  const table = createEndpointTable(name);
  const detector = createDetector(clock.monotonic(), random);
  const never = new AbortController().signal;
  let counter = 0;
  let accusations = 0; // each is signed anew, so none is a copy of another
  let synced = false;
  let refutedAt = Number.NEGATIVE_INFINITY;

  const intake = createIntake({
    ownHost: name,
    trust: deps.records.trust,
    table,
    monotonic: clock.monotonic,
    onMerged({ record }) {
      const row = table.get(record.host);
      if (row === undefined) return;
      const isNew = detector.liveness(record.host) === undefined;
      detector.onRecord(record.host, record, row.liveness === 'left', clock.monotonic());
      deps.onMerged(row, isNew);
    },
    onOwn() {},
    onRefused() {},
    count() {},
  });
  const sync: SyncService = createSyncService({
    table,
    intake: {
      ...intake,
      take(bytes, now, metered) {
        deps.counts.compared += 1;
        pubsub.spend(deps.number, VERIFY_MS);
        return intake.take(bytes, now, metered);
      },
    },
    synced: () => synced,
    passOn: (envelope) => publishRecord(envelope),
    onHostile() {},
    onRepaired() {},
    clock,
  });
  const linker = createLinker({
    host: name,
    node: links.node(deps.number),
    candidates: () => others.map((host) => ({ host, alive: detector.liveness(host) === 'alive' })),
    endpoints: () => noEndpoints,
    dialSeeds: () => Promise.resolve(),
    syncSource: (peer) => sync.source(peer),
    onSynced(result) {
      deps.counts[result === 'failed' ? 'syncFailed' : 'synced'] += 1;
      if (result !== 'failed') synced = true;
    },
    onClosed() {},
    ban() {},
    clock,
    random,
    log: silentLogger,
  });
  const judge = createTopicJudge({
    host: name,
    trust: deps.records.trust,
    intake,
    closeLink: (peer, reason) => linker.close(peer, reason, 30_000),
    onAccusation: (accusation) => detector.onAccusation(accusation, clock.monotonic()),
    onAccusedSelf(_accuser, accused) {
      if (clock.monotonic() - refutedAt < REFUTE_EVERY_MS || accused !== counter) return;
      refutedAt = clock.monotonic();
      deps.counts.refutations += 1;
      publish();
    },
    clock,
    log: silentLogger,
    metrics: noMetrics,
  });
  const publishRecord = (envelope: Uint8Array) =>
    pubsub.publish(deps.number, 0, envelope, `record ${deps.records.numberOf(envelope)}`);
  const publish = (): VerifiedRecord => {
    counter += 1;
    const verified = deps.records.make(recordOf(name, deps.address, counter));
    table.merge(verified);
    publishRecord(verified.envelope.bytes);
    return verified;
  };
  const accuse = (target: string) => {
    const record = table.get(target)?.record;
    if (record === undefined) return;
    deps.counts.accusations += 1;
    const { epoch, counter: accused } = record;
    const payload = encodeAccusation({ accuser: name, target, epoch, counter: accused });
    const accusation = deps.records.accusation(payload, deps.number);
    pubsub.publish(deps.number, 1, accusation, `accusation ${name} ${++accusations}`);
  };
  const onVerdict = (target: string, liveness: Liveness) => {
    const before = table.get(target)?.liveness;
    if (before === undefined || !table.setLiveness(target, liveness)) return;
    if (liveness === 'dead') links.node(deps.number).drop(target, 'dead');
    if (liveness === 'alive' && before === 'dead') linker.reach(target, table.size);
    deps.onVerdict(target, before, liveness);
  };
  return {
    name,
    address: deps.address,
    table,
    detector,
    intake,
    linker,
    publish,
    perform(actions) {
      for (const action of actions) {
        if (action.type === 'ping') deps.probe(action.host, undefined);
        else if (action.type === 'ping-request') deps.probe(action.host, action.via);
        else if (action.type === 'accuse') accuse(action.host);
        else onVerdict(action.host, action.liveness);
      }
    },
    validate: (topic, data, from) =>
      judge.validate(topic === 0 ? TOPICS.records : TOPICS.health, data, names[from] as string),
    async answer(peer, channel) {
      await sync.answer(names[peer] as string, channel);
      synced = true;
    },
    tick: () => linker.tick(never),
  };
}
