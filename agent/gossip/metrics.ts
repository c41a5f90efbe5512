import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { Liveness } from '../../api/gossip/host-record.ts';

/** Metrics of the gossip room over the agent's registry. Labels are closed lists; no host is ever a label. */
export interface GossipMetrics {
  links(count: number): void;
  hosts(counts: Readonly<Record<Liveness, number>>): void;
  lag(seconds: number): void;
  /** A record was looked at: merged, known, or dropped with the reason. */
  record(result: string): void;
  accusation(result: string): void;
  verdict(liveness: Liveness): void;
  probeDropped(reason: string): void;
  probeBytes(direction: 'sent' | 'received', bytes: number): void;
  sync(result: 'equal' | 'repaired' | 'failed', records: number): void;
  /** Why a link was closed by this side. */
  linkClosed(reason: string): void;
  refused(code: string): void;
  published(): void;
  linkBytes(direction: 'sent' | 'received', bytes: number): void;
  /** Size of the table, records that wait for config, addresses claimed and not proven. */
  table(counts: { readonly records: number; readonly parked: number; readonly unproven: number }): void;
  /** Seconds from the start to the first comparison with a neighbour. */
  synced(seconds: number): void;
  roundTrip(seconds: number): void;
  /** From the last answer of a host to the verdict that it is dead. */
  detected(seconds: number): void;
  /** A dead host answered, and had not rebooted: a false death, or a partition that healed. */
  falseDeath(): void;
  refuted(): void;
  /** Anti-entropy brought a record that gossip missed. */
  repaired(): void;
  announcement(verdict: string): void;
}

export function createGossipMetrics(registry: Registry): GossipMetrics {
  const registers = [registry];
  const counter = (name: string, help: string, label?: string) =>
    new Counter({ name: `mesh_agent_gossip_${name}`, help, registers, labelNames: label === undefined ? [] : [label] });
  const gauge = (name: string, help: string, label?: string) =>
    new Gauge({ name: `mesh_agent_gossip_${name}`, help, registers, labelNames: label === undefined ? [] : [label] });
  const links = gauge('links', 'Open gossip links to other hosts.');
  const hosts = gauge('hosts', 'Hosts in the endpoint table by what own probes say.', 'liveness');
  const lag = gauge('event_loop_lag_seconds', 'Own event-loop lag that probe timeouts are widened by.');
  const records = counter('records_total', 'Host records looked at, by result or reason of refusal.', 'result');
  const accusations = counter('accusations_total', 'Accusations received, by how they were taken.', 'result');
  const verdicts = counter('verdicts_total', 'Changes of liveness decided by own probes.', 'liveness');
  const probeDrops = counter('probe_datagrams_dropped_total', 'Probe datagrams dropped, by reason.', 'reason');
  const probeBytes = counter('probe_bytes_total', 'Bytes of probe datagrams.', 'direction');
  const syncs = counter('syncs_total', 'Anti-entropy sessions, by result.', 'result');
  const syncRecords = counter('sync_records_total', 'Records received by anti-entropy.');
  const closed = counter('links_closed_total', 'Links closed by this host, by reason.', 'reason');
  const refused = counter('links_refused_total', 'Handshakes refused, by error code.', 'code');
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name: `mesh_agent_gossip_${name}`, help, registers, buckets });
  const linkBytes = counter('link_bytes_total', 'Bytes of links on the wire, TLS included.', 'direction');
  const tableRecords = gauge('table_records', 'Records in the endpoint table, the own one included.');
  const parked = gauge('parked_records', 'Records that wait for config which may admit them.');
  const unproven = gauge('unproven_addresses', 'Addresses that live hosts claim and have not answered on.');
  const synced = gauge('synced_after_seconds', 'Time from the start to the first comparison; -1 before.');
  synced.set(-1);
  const roundTrip = histogram('round_trip_seconds', 'Answered probes.', [0.001, 0.005, 0.02, 0.1, 0.3, 1]);
  const detection = histogram(
    'detection_seconds',
    'From a host’s last answer to its death here.',
    [2, 3, 4, 5, 7, 10, 30, 120],
  );
  const falseDeaths = counter(
    'false_deaths_total',
    'Hosts found dead that answered again and had not rebooted: false deaths, and partitions that healed.',
  );
  const refutations = counter('refutations_total', 'Own records published anew because this host was accused.');
  const repaired = counter('repaired_records_total', 'Records that gossip missed and anti-entropy brought.');
  const announcements = counter('announcements_total', 'Config announcements received, by verdict.', 'verdict');
  const published = counter('published_total', 'Own records published.');
  return {
    links: (count) => links.set(count),
    hosts(counts) {
      for (const [liveness, count] of Object.entries(counts)) hosts.set({ liveness }, count);
    },
    lag: (seconds) => lag.set(seconds),
    record: (result) => records.inc({ result }),
    accusation: (result) => accusations.inc({ result }),
    verdict: (liveness) => verdicts.inc({ liveness }),
    probeDropped: (reason) => probeDrops.inc({ reason }),
    probeBytes: (direction, bytes) => probeBytes.inc({ direction }, bytes),
    sync(result, count) {
      syncs.inc({ result });
      syncRecords.inc(count);
    },
    linkClosed: (reason) => closed.inc({ reason }),
    refused: (code) => refused.inc({ code }),
    published: () => published.inc(),
    linkBytes: (direction, bytes) => linkBytes.inc({ direction }, bytes),
    table(counts) {
      tableRecords.set(counts.records);
      parked.set(counts.parked);
      unproven.set(counts.unproven);
    },
    synced: (seconds) => synced.set(seconds),
    roundTrip: (seconds) => roundTrip.observe(seconds),
    detected: (seconds) => detection.observe(seconds),
    falseDeath: () => falseDeaths.inc(),
    refuted: () => refutations.inc(),
    repaired: () => repaired.inc(),
    announcement: (verdict) => announcements.inc({ verdict }),
  };
}
