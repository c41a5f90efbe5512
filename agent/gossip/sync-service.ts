/**
 * Anti-entropy on the own table: what a peer may read and how much, what comes in and where it goes on. In: sessions of peers. Out: rows of
 * the table; news passed on by gossip. Must never: take an unverified record, or let one peer's sessions cost more than their budget.
 */
import { MeshError } from '../../api/errors.ts';
import type { Clock } from '../../runtime/clock.ts';
import { createBuckets } from './budget.ts';
import type { EndpointTable } from './endpoint-table.ts';
import { type Intake, isHostile } from './intake.ts';
import { answerSync, type Channel, type SyncResult, type SyncSource } from './sync.ts';

/** What a peer may read by anti-entropy. */
const READ_BYTES = { perSecond: 128 * 1024, burst: 4 * 1024 * 1024 };
const SESSIONS = { perSecond: 1, burst: 10 };
/** Records of one batch that a host passes on by gossip; none before its own first comparison, when everything is news to it alone. */
const MAX_PASSED_ON = 64;
/** Verifying costs up to 0.3 ms a record: after this many, probes and streams have their turn. */
const VERIFY_AT_ONCE = 16;

export interface SyncServiceDeps {
  readonly table: EndpointTable;
  readonly intake: Intake;
  synced(): boolean;
  /** A record that came by comparison and was news: it goes on by gossip, or it would cross one link in ten seconds. */
  passOn(envelope: Uint8Array): void;
  onHostile(peer: string, reason: string): void;
  /** A record that gossip missed and comparison brought. */
  onRepaired(): void;
  readonly clock: Clock;
}

export interface SyncService {
  source(peer: string): SyncSource;
  answer(peer: string, channel: Channel): Promise<SyncResult>;
}

export function createSyncService(deps: SyncServiceDeps): SyncService {
  const { table, clock } = deps;
  const readable = createBuckets(READ_BYTES, clock.monotonic);
  const sessions = createBuckets(SESSIONS, clock.monotonic);

  const take = async (peer: string, envelopes: readonly Uint8Array[]): Promise<void> => {
    let left = deps.synced() ? MAX_PASSED_ON : 0;
    for (const [n, envelope] of envelopes.entries()) {
      if (n % VERIFY_AT_ONCE === VERIFY_AT_ONCE - 1) await new Promise((resolve) => setImmediate(resolve));
      const result = deps.intake.take(envelope, clock.now(), false);
      if (isHostile(result)) throw new MeshError('PEER_HOSTILE', `a record from ${peer}: ${result}`);
      if (result !== 'merged') continue;
      deps.onRepaired();
      if (left-- > 0) deps.passOn(envelope);
    }
  };
  const source = (peer: string): SyncSource => ({
    digest: () => table.digest(),
    bucketDigests: () => table.bucketDigests(),
    versions: (buckets) => table.versions(buckets),
    envelope: (host) => table.get(host)?.envelope.bytes,
    mayRead: (bytes) => readable.take(peer, bytes),
    take: (envelopes) => take(peer, envelopes),
  });
  return {
    source,
    async answer(peer, channel) {
      if (!sessions.take(peer, 1)) throw new MeshError('SYNC_BUSY', 'too many sessions');
      try {
        return await answerSync(channel, source(peer));
      } catch (error) {
        if (error instanceof MeshError && (error.code === 'PEER_HOSTILE' || error.code === 'SYNC_INVALID'))
          deps.onHostile(peer, error.code === 'PEER_HOSTILE' ? error.message : 'malformed comparison');
        throw error;
      }
    },
  };
}
