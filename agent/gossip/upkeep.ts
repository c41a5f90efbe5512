import type { Liveness } from '../../api/gossip/host-record.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Admission } from './admission.ts';
import type { EndpointTable } from './endpoint-table.ts';
import type { GossipMetrics } from './metrics.ts';
import type { OwnRecord } from './own-record.ts';
import type { Refusals } from './refusals.ts';

const SWEEP_MS = 60_000;
/** Certificates that end: links are closed and hosts dropped this often (issue 6: within 10 s everywhere). */
const EXPIRY_MS = 5000;

export interface UpkeepDeps {
  readonly table: EndpointTable;
  readonly admission: Pick<Admission, 'checkLinks' | 'anyExpired' | 'keeps'>;
  readonly metrics: GossipMetrics;
  readonly refusals: Refusals;
  own(): Pick<OwnRecord, 'reconsider' | 'fields'>;
  /** Records that wait for config. */
  parked(): number;
  /** A host left the table. */
  onDropped(host: string): void;
  /** After some were dropped. */
  onChanged(): void;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What has to be looked at now and then, whoever says something or not. */
export interface Upkeep {
  /** Once a second. */
  tick(): void;
  /** Drops what config no longer lets in, and whose certificate has ended. */
  retain(): void;
  /** An address that a host claims does not answer with its key. */
  onUnproven(host: string, address: string): void;
}

export function createUpkeep(deps: UpkeepDeps): Upkeep {
  const { table, admission, metrics, refusals, clock, log } = deps;
  const unproven = new Set<string>();
  let sweepAt = 0;
  let expiryAt = 0;

  const retain = () => {
    const dropped = table.retain((row) => admission.keeps(row));
    for (const host of dropped) {
      log.info('host dropped from the endpoint table', { host });
      deps.onDropped(host);
    }
    if (dropped.length > 0) deps.onChanged();
  };

  /** Each minute: what config dropped without a word, own SVID renewed without a word. */
  const sweep = () => {
    unproven.clear();
    retain();
    void deps.own().reconsider();
  };

  return {
    tick() {
      const now = clock.monotonic();
      if (now >= expiryAt) {
        expiryAt = now + EXPIRY_MS;
        admission.checkLinks();
        if (admission.anyExpired()) retain();
      }
      if (now >= sweepAt) {
        sweepAt = now + SWEEP_MS;
        sweep();
      }
      metrics.table({ records: table.size, parked: deps.parked(), unproven: unproven.size });
      const counts: Record<Liveness, number> = { alive: 0, suspect: 0, dead: 0, left: 0 };
      for (const row of table.rows()) counts[row.liveness] += 1;
      metrics.hosts(counts);
    },
    retain,
    /** Where networks differ, an address may be out of reach in good faith; in the own network it is a claim that does not hold. */
    onUnproven(host, address) {
      const record = table.get(host)?.record;
      if (record === undefined || record.network !== (deps.own().fields()?.network ?? 'default')) return;
      unproven.add(`${host} ${address}`);
      metrics.record('address-unproven');
      refusals.note(host, 'address-unproven', `${address} does not answer with its key`);
    },
  };
}
