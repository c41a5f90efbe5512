/**
 * What follows from the failure detector's word on a host, and from others' word on this one. In: verdicts, accusations of this host. Out:
 * liveness in the table, signed accusations, a renewed own record. Must never take a host out on another's word: detector.ts alone judges.
 */
import type { KeyObject } from 'node:crypto';
import { encodeAccusation } from '../../api/gossip/accusation.ts';
import { sealEnvelope } from '../../api/gossip/envelope.ts';
import type { Liveness } from '../../api/gossip/host-record.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { EndpointTable } from './endpoint-table.ts';
import type { GossipMetrics } from './metrics.ts';
import type { OwnRecord } from './own-record.ts';
import { leafOf } from './tls-link.ts';

const REFUTE_EVERY_MS = 30_000;

export interface VerdictsDeps {
  readonly host: string;
  readonly table: EndpointTable;
  readonly metrics: GossipMetrics;
  identity(): { readonly chainPem: string; readonly privateKey: KeyObject };
  /** Monotonic ms; undefined: it never answered. */
  lastAnswerAt(host: string): number | undefined;
  own(): Pick<OwnRecord, 'current' | 'renew'>;
  /** A host was found dead: its link leads nowhere. */
  onDead(host: string): void;
  /** A host that was dead answers. */
  onBack(host: string): void;
  /** Sends a sealed accusation to all. */
  publish(accusation: Uint8Array): Promise<void>;
  /** The table is otherwise. */
  onChanged(): void;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface Verdicts {
  onVerdict(host: string, liveness: Liveness, reason: string): void;
  /** Tells the others that this host cannot reach `target`. */
  accuse(target: string): Promise<void>;
  /** SWIM's refutation: a higher incarnation. At most once in 30 s, so that a liar does not make this host a publisher. */
  refute(accuser: string, counter: number): void;
  /** The host is no member any more. */
  forget(host: string): void;
}

export function createVerdicts(deps: VerdictsDeps): Verdicts {
  const { table, metrics, clock, log } = deps;
  /** The incarnation in which a host was found dead here. */
  const diedAs = new Map<string, string>();
  let refutedAt = Number.NEGATIVE_INFINITY;

  const countDeath = (host: string, liveness: Liveness, before: Liveness | undefined) => {
    const record = table.get(host)?.record;
    const incarnation = `${record?.epoch}.${record?.probeKey}`;
    if (liveness === 'dead') {
      const last = deps.lastAnswerAt(host);
      if (last !== undefined) metrics.detected((clock.monotonic() - last) / 1000);
      diedAs.set(host, incarnation);
    } else if (before === 'dead' && diedAs.get(host) === incarnation) metrics.falseDeath();
  };

  return {
    onVerdict(host, liveness, reason) {
      const before = table.get(host)?.liveness;
      if (!table.setLiveness(host, liveness)) return;
      metrics.verdict(liveness);
      log.info(`host ${liveness}`, { host, reason, before });
      countDeath(host, liveness, before);
      if (liveness === 'dead') deps.onDead(host);
      if (liveness === 'alive' && before === 'dead') deps.onBack(host);
      deps.onChanged();
    },
    async accuse(target) {
      const row = table.get(target);
      if (row === undefined) return;
      const { chainPem, privateKey } = deps.identity();
      const { epoch, counter } = row.record;
      const payload = encodeAccusation({ accuser: deps.host, target, epoch, counter });
      await deps.publish(sealEnvelope('accusation', payload, privateKey, leafOf(chainPem)).bytes);
    },
    refute(accuser, counter) {
      const now = clock.monotonic();
      if (now - refutedAt < REFUTE_EVERY_MS || counter !== deps.own().current()?.counter) return;
      refutedAt = now;
      metrics.refuted();
      log.info('accused of being dead; refuting', { accuser });
      void deps.own().renew(counter);
    },
    forget: (host) => void diedAs.delete(host),
  };
}
