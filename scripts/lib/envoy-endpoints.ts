/**
 * Which endpoints of a service an Envoy would send to, by its own admin socket. In: the text of `GET /clusters?format=json`, a service's
 * host. Out: `ADDRESS:PORT` of those that are healthy in every way Envoy knows. `envoy-endpoints.ts SOCKET HOST [PORT]` prints them, one a line.
 */
import { request } from 'node:http';

interface ClusterDump {
  readonly cluster_statuses?: readonly {
    readonly name?: string;
    readonly host_statuses?: readonly HostDump[];
  }[];
}

interface HostDump {
  readonly address?: { readonly socket_address?: { readonly address?: string; readonly port_value?: number } };
  readonly health_status?: Readonly<Record<string, unknown>> & { readonly eds_health_status?: string };
}

/** Healthy endpoints of the clusters of `host` (all ports and no subset, or the port given), sorted, each once. Throws on what is no dump. */
export function healthyEndpoints(clustersJson: string, host: string, port?: number): string[] {
  const dump = JSON.parse(clustersJson) as ClusterDump;
  const found = new Set<string>();
  for (const { name = '', host_statuses = [] } of dump.cluster_statuses ?? []) {
    const [, number, subset, rest = ''] = /^outbound_\.(\d+)_\.([^_]*)_\.(.+)$/.exec(name) ?? [];
    // A namespace's own variant of a cluster has its name after a tilde.
    const ours = subset === '' && (rest === host || rest.startsWith(`${host}~`));
    if (!ours || (port !== undefined && Number(number) !== port)) continue;
    for (const status of host_statuses) {
      const { address, port_value } = status.address?.socket_address ?? {};
      if (address !== undefined && isHealthy(status)) found.add(`${address}:${port_value}`);
    }
  }
  return [...found].sort();
}

/** Envoy lists only what is wrong: failed checks as true, and what EDS said. */
function isHealthy({ health_status = {} }: HostDump): boolean {
  const { eds_health_status = 'HEALTHY', ...failed } = health_status;
  return (eds_health_status === 'HEALTHY' || eds_health_status === 'UNKNOWN') && !Object.values(failed).includes(true);
}

function ask(socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    request({ socketPath, path: '/clusters?format=json', timeout: 5000 }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.once('end', () => resolve(text));
      response.once('error', reject);
    })
      .once('error', reject)
      .end();
  });
}

if (import.meta.main) {
  const [socket, host, port] = process.argv.slice(2);
  if (socket === undefined || host === undefined) {
    process.stderr.write('usage: envoy-endpoints.ts SOCKET HOST [PORT]\n');
    process.exit(64);
  }
  const list = healthyEndpoints(await ask(socket), host, port === undefined ? undefined : Number(port));
  process.stdout.write(list.map((one) => `${one}\n`).join(''));
}
