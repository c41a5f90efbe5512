import type { Registry } from 'prom-client';
import type { AgentStatus } from '../api/http/admin-api.ts';
import { readGauge } from '../runtime/metrics.ts';

/** Metrics of the whole agent, read from its status at each scrape. Prefix `mesh_agent_`; seconds and bytes as Prometheus has them. */
export function registerAgentMetrics(registry: Registry, read: () => AgentStatus): void {
  let known: AgentStatus | undefined;
  // A scrape asks every gauge in one turn of the event loop: one status serves them all.
  const status = () => {
    if (known === undefined) setImmediate(() => (known = undefined));
    known ??= read();
    return known;
  };
  const gauge = (name: string, help: string, value: () => number) => readGauge(registry, name, help, value);
  gauge('mesh_agent_ready', 'Config acknowledged by Envoy and rules standing.', () => Number(status().ready));
  gauge('mesh_agent_generation', 'Generation that was verified and translated.', () => status().generation);
  gauge('mesh_agent_acked_generation', 'Generation that Envoy acknowledged whole.', () => status().ackedGeneration);
  gauge(
    'mesh_agent_config_age_seconds',
    'Age of the newest signed timestamp; -1: none.',
    () => status().configAgeSeconds,
  );
  gauge('mesh_agent_refused_resources', 'Resources and objects that Envoy refused.', () => status().refused.length);
  gauge('mesh_agent_problems', 'Problems that `meshctl status` names.', () => status().problems.length);
  gauge('process_resident_memory_bytes', 'Resident memory of the agent.', () => process.memoryUsage.rss());
  gauge('process_start_time_seconds', 'Start of the agent.', () => Date.parse(status().startedAt) / 1000);
  gauge('process_cpu_seconds_total', 'CPU time of the agent.', () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
}
