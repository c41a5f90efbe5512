import { Counter, Gauge, type Registry } from 'prom-client';
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
  };
}
