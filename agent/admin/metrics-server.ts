/**
 * HTTP on 15020: the agent's metrics merged with Envoy's, and readiness. In: GET only. Out: Prometheus text. On loopback unless agent.yaml
 * names an address. Must never: answer anything but metrics and ready or not.
 */
import { createServer, type Server } from 'node:http';
import type { Part } from '../../runtime/lifecycle.ts';
import type { Logger } from '../../runtime/log.ts';

export interface MetricsServerDeps {
  readonly address: string;
  readonly port: number;
  /** Prometheus text of this process and of Envoy; rejects only on a bug (an unreachable Envoy is a metric, not an error). */
  metrics(): Promise<string>;
  ready(): boolean;
  readonly log: Logger;
}

export function createMetricsServer(deps: MetricsServerDeps): Part {
  let server: Server | undefined;
  return {
    name: 'metrics',
    async start() {
      const created = createServer(async (request, response) => {
        const path = (request.url ?? '').split('?')[0];
        if (request.method !== 'GET') return void response.writeHead(405).end();
        if (path === '/healthz/ready') return void response.writeHead(deps.ready() ? 200 : 503).end();
        if (path !== '/metrics' && path !== '/stats/prometheus') return void response.writeHead(404).end();
        try {
          const text = await deps.metrics();
          response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(text);
        } catch (error) {
          deps.log.warn('metrics failed', { error });
          response.writeHead(500).end();
        }
      });
      created.requestTimeout = 10_000;
      await new Promise<void>((resolve, reject) => {
        created.once('error', reject);
        created.listen(deps.port, deps.address, resolve);
      });
      server = created;
    },
    async stop() {
      const closing = server;
      server = undefined;
      if (closing === undefined) return;
      closing.closeAllConnections();
      await new Promise((resolve) => closing.close(resolve));
    },
  };
}
