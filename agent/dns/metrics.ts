import { Counter, Histogram, type Registry } from 'prom-client';
import { readGauge } from '../../runtime/metrics.ts';

/** What became of a query. */
export type Outcome = 'answered' | 'nxdomain' | 'forwarded' | 'failed' | 'malformed';

export interface DnsMetrics {
  readonly queries: Counter<'outcome'>;
  readonly upstreamSeconds: Histogram;
  readonly loops: Counter;
}

/** Registers the room's metrics; `inFlight` is read at each scrape. */
export function createDnsMetrics(registry: Registry, inFlight: () => number): DnsMetrics {
  readGauge(registry, 'mesh_agent_dns_upstream_in_flight', 'Queries that wait for a resolver.', inFlight);
  return {
    queries: new Counter({
      name: 'mesh_agent_dns_queries_total',
      help: 'DNS queries by what became of them.',
      labelNames: ['outcome'],
      registers: [registry],
    }),
    upstreamSeconds: new Histogram({
      name: 'mesh_agent_dns_upstream_seconds',
      help: 'Time that resolvers took for forwarded queries.',
      buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 5],
      registers: [registry],
    }),
    loops: new Counter({
      name: 'mesh_agent_dns_loops_total',
      help: 'Resolvers found to lead back to this agent.',
      registers: [registry],
    }),
  };
}
