import { Counter, type Registry } from 'prom-client';

/** Metrics of the room; prefix `mesh_agent_config_`. */
export interface ConfigMetrics {
  /** `from`: URL of a controller or name of a peer. */
  accepted(kind: 'generation' | 'timestamp', from: string): void;
  /** Bytes of an answer to a peer. */
  served(bytes: number): void;
}

export function createConfigMetrics(registry: Registry): ConfigMetrics {
  const accepted = new Counter({
    name: 'mesh_agent_config_accepted_total',
    help: 'Signed config accepted: generations, and timestamps that came alone, by who carried them (controller or peer).',
    labelNames: ['kind', 'carrier'],
    registers: [registry],
  });
  const served = new Counter({
    name: 'mesh_agent_config_served_bytes_total',
    help: 'Signed config given to peers.',
    registers: [registry],
  });
  return {
    accepted: (kind, from) => accepted.inc({ kind, carrier: from.includes('://') ? 'controller' : 'peer' }),
    served: (bytes) => served.inc(bytes),
  };
}
