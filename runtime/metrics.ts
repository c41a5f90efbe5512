import { Gauge, type Registry } from 'prom-client';

/** Registers a gauge without labels whose value is read at each scrape; `value` must be quick and never throw. */
export function readGauge(registry: Registry, name: string, help: string, value: () => number): void {
  new Gauge({
    name,
    help,
    registers: [registry],
    collect() {
      this.set(value());
    },
  });
}
