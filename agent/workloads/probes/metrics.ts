import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/** Metrics of health probes; `group` is one of the at most 100 WorkloadGroups that agent.yaml binds. */
export interface ProbeMetrics {
  looked(group: string, ok: boolean, seconds: number): void;
  /** 1, 0, or gone with the group. */
  healthy(groups: ReadonlyMap<string, boolean>): void;
}

export function probeMetrics(registry: Registry): ProbeMetrics {
  const registers = [registry];
  const total = new Counter({
    name: 'mesh_agent_probes_total',
    help: 'Health probes of local workloads, by outcome.',
    labelNames: ['group', 'result'],
    registers,
  });
  const seconds = new Histogram({
    name: 'mesh_agent_probe_duration_seconds',
    help: 'How long health probes took.',
    labelNames: ['group'],
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 1, 5],
    registers,
  });
  const gauge = new Gauge({
    name: 'mesh_agent_probe_healthy',
    help: 'Whether the workload is healthy by its probe.',
    labelNames: ['group'],
    registers,
  });
  return {
    looked(group, ok, took) {
      total.inc({ group, result: ok ? 'success' : 'failure' });
      seconds.observe({ group }, took);
    },
    healthy(groups) {
      gauge.reset();
      for (const [group, healthy] of groups) gauge.set({ group }, Number(healthy));
    },
  };
}
