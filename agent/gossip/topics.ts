/**
 * What comes in by gossipsub, judged before it is delivered or forwarded. In: a message and the link that brought it. Out: the verdict; rows
 * of the table, probes and announcements on the way. Must never: forward what it did not verify, or keep a link that delivers forgeries.
 */
import { type Accusation, decodeAccusation } from '../../api/gossip/accusation.ts';
import { MAX_ENVELOPE_BYTES } from '../../api/gossip/envelope.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { createBuckets } from './budget.ts';
import type { AccusationVerdict } from './detector.ts';
import type { AnnounceVerdict } from './gossip-api.ts';
import { type Intake, isHostile } from './intake.ts';
import type { GossipMetrics } from './metrics.ts';
import type { TopicVerdict } from './node.ts';
import type { Trust } from './trust.ts';

export const TOPICS = {
  records: 'hostmesh/records/1',
  health: 'hostmesh/health/1',
  config: 'hostmesh/config/1',
} as const;
export const MAX_ANNOUNCE_BYTES = 2048;

/** Before verification, by link: all hosts publishing at once must fit the burst. */
const LINK_MESSAGES = { perSecond: 400, burst: 3000 };
/** Accusations of this host that are passed on, by accuser. */
const OF_SELF = { perSecond: 1 / 30, burst: 2 };
const LINK_BYTES = { perSecond: 1024 * 1024, burst: 8 * 1024 * 1024 };

export interface TopicDeps {
  readonly host: string;
  readonly trust: Trust;
  readonly intake: Intake;
  /** The link delivered more than its budget, or what no member forwards. */
  closeLink(host: string, reason: 'flood' | 'hostile', why: string): void;
  onAccusation(accusation: Accusation): AccusationVerdict;
  onAccusedSelf(accuser: string, counter: number): void;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: GossipMetrics;
}

export interface TopicJudge {
  validate(topic: string, data: Uint8Array, from: string): TopicVerdict;
  setAnnounceJudge(judge: (timestamp: Uint8Array, from: string) => AnnounceVerdict): void;
}

export function createTopicJudge(deps: TopicDeps): TopicJudge {
  const { trust, metrics, clock } = deps;
  const messages = createBuckets(LINK_MESSAGES, clock.monotonic);
  const bytes = createBuckets(LINK_BYTES, clock.monotonic);
  const ofSelf = createBuckets(OF_SELF, clock.monotonic);
  let announceJudge: ((timestamp: Uint8Array, from: string) => AnnounceVerdict) | undefined;

  const hostile = (from: string, reason: string): 'reject' => {
    deps.log.warn('a link delivered what no member forwards', { host: from, reason });
    deps.closeLink(from, 'hostile', reason);
    return 'reject';
  };
  const onRecord = (data: Uint8Array, from: string): TopicVerdict => {
    if (data.length > MAX_ENVELOPE_BYTES) {
      metrics.record('oversize');
      return hostile(from, 'oversize');
    }
    const result = deps.intake.take(data, clock.now(), true);
    if (isHostile(result)) return hostile(from, result);
    return result === 'merged' ? 'accept' : 'ignore';
  };
  const onAccusation = (data: Uint8Array, from: string): TopicVerdict => {
    const opened = trust.open(data, 'accusation', clock.now());
    if (typeof opened === 'string') {
      metrics.accusation(opened);
      return isHostile(opened) ? hostile(from, opened) : 'ignore';
    }
    let accusation: Accusation;
    try {
      accusation = decodeAccusation(opened.envelope.payload);
    } catch {
      metrics.accusation('content');
      return 'ignore';
    }
    if (accusation.accuser !== opened.signer.host || !trust.isMember(accusation.accuser)) {
      metrics.accusation('signer');
      return 'ignore';
    }
    if (accusation.target === deps.host) {
      if (!ofSelf.take(accusation.accuser, 1)) {
        metrics.accusation('budget');
        return 'ignore';
      }
      metrics.accusation('of-self');
      deps.onAccusedSelf(accusation.accuser, accusation.counter);
      return 'accept';
    }
    const verdict = deps.onAccusation(accusation);
    metrics.accusation(verdict);
    if (verdict === 'probe')
      deps.log.info('a host is accused of being dead: probing it', {
        host: accusation.target,
        accuser: accusation.accuser,
      });
    return verdict === 'probe' || verdict === 'known' ? 'accept' : 'ignore';
  };
  const onAnnouncement = (data: Uint8Array, from: string): TopicVerdict => {
    if (data.length > MAX_ANNOUNCE_BYTES) return hostile(from, 'oversize');
    const verdict = announceJudge?.(data, from) ?? 'ignore';
    metrics.announcement(verdict);
    return verdict === 'reject' ? hostile(from, 'forged-announcement') : verdict;
  };
  return {
    validate(topic, data, from) {
      if (!messages.take(from, 1) || !bytes.take(from, data.length)) {
        metrics.record('link-budget');
        deps.closeLink(from, 'flood', 'more messages than all hosts together send');
        return 'reject';
      }
      if (topic === TOPICS.records) return onRecord(data, from);
      return topic === TOPICS.health ? onAccusation(data, from) : onAnnouncement(data, from);
    },
    setAnnounceJudge(judge) {
      announceJudge = judge;
    },
  };
}
