import { request } from 'node:http';
import { MeshError } from '../../api/errors.ts';

/** Envoy's admin API over its unix socket. Every call rejects with ENVOY_ADMIN when Envoy does not answer in time, or answers no 200. */
export interface EnvoyAdmin {
  /** True when Envoy is up and has its first config. Never rejects. */
  ready(): Promise<boolean>;
  /** Worker threads that it was started with. */
  concurrency(): Promise<number>;
  /** Prometheus text of all stats. */
  prometheus(): Promise<string>;
  /** Listeners are closed step by step over the drain time; connections are asked to go (GOAWAY, Connection: close). */
  drain(): Promise<void>;
  /**
   * Entries of one part of Envoy's config (admin.v3.ConfigDump, proto3 JSON); `nameRegex` (RE2) narrows them down, `mask` to some of their
   * fields. Private keys are redacted by Envoy.
   */
  configDump(part: DumpPart, nameRegex?: string, mask?: readonly string[]): Promise<readonly unknown[]>;
  /** Clusters with their endpoints as load balancing has them (admin.v3.ClusterStatus); `nameRegex` as above. */
  clusterStatuses(nameRegex?: string): Promise<readonly unknown[]>;
  /** Log levels by logger, after setting those given: logger to level, '' for all. */
  logLevels(change?: Readonly<Record<string, string>>): Promise<Readonly<Record<string, string>>>;
}

/** Parts of config_dump that are lists of resources. */
export type DumpPart =
  | 'dynamic_listeners'
  | 'dynamic_route_configs'
  | 'dynamic_active_clusters'
  | 'dynamic_active_secrets'
  | 'dynamic_warming_secrets'
  | 'ecds_filters';

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
    async concurrency() {
      const { command_line_options: options } = JSON.parse(await call(socketPath, 'GET', '/server_info'));
      return Number(options?.concurrency);
    },
    prometheus: () => call(socketPath, 'GET', '/stats/prometheus'),
    async drain() {
      await call(socketPath, 'POST', '/drain_listeners?graceful');
    },
    async configDump(part, nameRegex, mask) {
      const query = new URLSearchParams({ resource: part });
      if (nameRegex !== undefined) query.set('name_regex', nameRegex);
      if (mask !== undefined) query.set('mask', mask.join(','));
      return list(await call(socketPath, 'GET', `/config_dump?${query}`, NOT_FOUND), 'configs');
    },
    async clusterStatuses(nameRegex) {
      const query = new URLSearchParams({ format: 'json', ...(nameRegex === undefined ? {} : { filter: nameRegex }) });
      return list(await call(socketPath, 'GET', `/clusters?${query}`), 'cluster_statuses');
    },
    async logLevels(change = {}) {
      const { '': all, ...some } = change;
      if (all !== undefined) await call(socketPath, 'POST', `/logging?level=${encodeURIComponent(all)}`);
      const paths = Object.entries(some).map(([logger, level]) => `${logger}:${level}`);
      if (paths.length > 0) await call(socketPath, 'POST', `/logging?paths=${encodeURIComponent(paths.join(','))}`);
      const text = await call(socketPath, 'POST', '/logging');
      return Object.fromEntries([...text.matchAll(/^ +(\S+): (\w+)$/gm)].map(([, logger, level]) => [logger, level]));
    },
  };
}

/** What config_dump answers where there is nothing of a part. */
const NOT_FOUND = 404;

function list(text: string, key: string): readonly unknown[] {
  const items = text === '' ? undefined : (JSON.parse(text) as Record<string, unknown>)[key];
  return Array.isArray(items) ? items : [];
}

/** `empty`: a status that means: nothing there. */
function call(socketPath: string, method: string, path: string, empty?: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const failed = (cause: unknown) =>
      reject(new MeshError('ENVOY_ADMIN', `Envoy's admin did not answer ${method} ${path.split('?')[0]}`, { cause }));
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
        else if (response.statusCode === empty) resolve('');
        else failed(new Error(`status ${response.statusCode}: ${body.slice(0, 200)}`));
      });
    });
    sent.on('timeout', () => sent.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)));
    sent.on('error', failed);
    sent.end();
  });
}
