import { request } from 'node:http';
import { MeshError } from '../../api/errors.ts';

/** Envoy's admin API over its unix socket. Every call rejects with ENVOY_ADMIN when Envoy does not answer in time, or answers no 200. */
export interface EnvoyAdmin {
  /** True when Envoy is up and has its first config. Never rejects. */
  ready(): Promise<boolean>;
  /** Prometheus text of all stats. */
  prometheus(): Promise<string>;
  /** Listeners are closed step by step over the drain time; connections are asked to go (GOAWAY, Connection: close). */
  drain(): Promise<void>;
}

const TIMEOUT_MS = 5000;
/** 64 MiB: some 300,000 series. */
const MAX_BYTES = 64 << 20;

export function createEnvoyAdmin(socketPath: string): EnvoyAdmin {
  return {
    async ready() {
      try {
        return (await call(socketPath, 'GET', '/ready')).startsWith('LIVE');
      } catch {
        return false;
      }
    },
    prometheus: () => call(socketPath, 'GET', '/stats/prometheus'),
    async drain() {
      await call(socketPath, 'POST', '/drain_listeners?graceful');
    },
  };
}

function call(socketPath: string, method: string, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const failed = (cause: unknown) =>
      reject(new MeshError('ENVOY_ADMIN', `Envoy's admin did not answer ${method} ${path}`, { cause }));
    const sent = request({ socketPath, method, path, timeout: TIMEOUT_MS }, (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_BYTES) response.destroy(new Error(`more than ${MAX_BYTES} bytes`));
        else chunks.push(chunk);
      });
      response.on('error', failed);
      response.on('end', () => {
        const body = Buffer.concat(chunks).toString('utf8');
        if (response.statusCode === 200) resolve(body);
        else failed(new Error(`status ${response.statusCode}: ${body.slice(0, 200)}`));
      });
    });
    sent.on('timeout', () => sent.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)));
    sent.on('error', failed);
    sent.end();
  });
}
