/**
 * Requests through two Envoys with mTLS and Istio's standard metrics against the same server asked directly: same client, same run, in turns.
 * The server is an Envoy that answers by itself; the client is wrk. In: a lab that is up. Out: figures.
 */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { must } from '../../scripts/lib/demo/run.ts';
import { onHost, type World } from '../../scripts/lib/demo/world.ts';
import { cpuSeconds, pidsOf } from './processes.ts';
import { median, round } from './stats.ts';

const ROUNDS = 3;
const SECONDS = 8;
/** Where the server listens without the mesh: a port that is no workload's. */
export const DIRECT_PORT = 9099;
const MESH_PORT = 9080;
/** The workload's other port: an agent looks more often while one is missing. */
const OTHER_PORT = 9081;

export interface Throughput {
  readonly connections: number;
  readonly direct: Load;
  readonly mesh: Load & { readonly cpuMsPerRequestBothEnvoys: number };
  /** mesh / direct, requests a second. */
  readonly ratio: number;
}

interface Load {
  readonly requestsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly errors: number;
}

/** Starts the server on `host` as `user`. */
export async function startServer(world: World, host: string, user: string): Promise<void> {
  const file = join(world.temp, 'server.json');
  writeFileSync(file, JSON.stringify(serverBootstrap()));
  chmodSync(world.temp, 0o755);
  chmodSync(file, 0o644);
  const envoy = [onHost('build/envoy/envoy'), '-c', file, '--concurrency', '1', '--disable-hot-restart'];
  await world.start(host, user, envoy, /starting main dispatch loop/);
}

function serverBootstrap() {
  const listener = (port: number) => ({
    name: `http-${port}`,
    address: { socket_address: { address: '0.0.0.0', port_value: port } },
    filter_chains: [
      {
        filters: [
          {
            name: 'hcm',
            typed_config: {
              '@type':
                'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
              stat_prefix: 'server',
              route_config: {
                virtual_hosts: [
                  {
                    name: 'all',
                    domains: ['*'],
                    routes: [
                      {
                        match: { prefix: '/' },
                        direct_response: { status: 200, body: { inline_string: 'x'.repeat(1024) } },
                      },
                    ],
                  },
                ],
              },
              http_filters: [
                {
                  name: 'router',
                  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' },
                },
              ],
            },
          },
        ],
      },
    ],
  });
  return { static_resources: { listeners: [MESH_PORT, OTHER_PORT, DIRECT_PORT].map(listener) } };
}

/** `direct`: the address of the server's host. */
export async function throughput(world: World, direct: string, connections: number): Promise<Throughput> {
  const rounds: { direct: Load; mesh: Load; cpu: number }[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const alone = await load(world, 'hm-batch', `http://${direct}:${DIRECT_PORT}/`, connections);
    const before = await envoyCpu(world);
    const meshed = await load(world, 'hm-client', `http://reviews:${MESH_PORT}/`, connections);
    const cpu = ((await envoyCpu(world)) - before) * 1000;
    rounds.push({ direct: alone, mesh: meshed, cpu: cpu / (meshed.requestsPerSecond * SECONDS) });
  }
  const of = (pick: (round_: (typeof rounds)[number]) => Load): Load => ({
    requestsPerSecond: median(rounds.map((r) => pick(r).requestsPerSecond)),
    p50Ms: median(rounds.map((r) => pick(r).p50Ms)),
    p99Ms: median(rounds.map((r) => pick(r).p99Ms)),
    errors: rounds.reduce((sum, r) => sum + pick(r).errors, 0),
  });
  const plain = of((r) => r.direct);
  const mesh = of((r) => r.mesh);
  return {
    connections,
    direct: plain,
    mesh: { ...mesh, cpuMsPerRequestBothEnvoys: round(median(rounds.map((r) => r.cpu))) },
    ratio: round(mesh.requestsPerSecond / plain.requestsPerSecond),
  };
}

async function envoyCpu(world: World): Promise<number> {
  const [a, b] = [await pidsOf(world, 'a'), await pidsOf(world, 'b')];
  return cpuSeconds(a.proxy) + cpuSeconds(b.proxy);
}

async function load(world: World, user: string, url: string, connections: number): Promise<Load> {
  const command = ['wrk', '-t1', `-c${connections}`, `-d${SECONDS}s`, '--latency', '--timeout', '5s', url];
  const { stdout } = must(await world.on('a', user, command, { timeoutMs: 60_000 }), 'wrk');
  return parseWrk(stdout);
}

/** Figures out of what `wrk --latency` prints. */
export function parseWrk(text: string): Load {
  const ms = (label: string): number => {
    const [, value = '0', unit] = new RegExp(`${label}%\\s+([\\d.]+)(us|ms|s)`).exec(text) ?? [];
    return Number(value) * (unit === 'us' ? 0.001 : unit === 's' ? 1000 : 1);
  };
  const socketErrors = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(text);
  const bad = Number(/Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1] ?? 0);
  const errors = socketErrors === null ? 0 : socketErrors.slice(1).reduce((sum, n) => sum + Number(n), 0);
  return {
    requestsPerSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1] ?? 0),
    p50Ms: round(ms('50')),
    p99Ms: round(ms('99')),
    errors: errors + bad,
  };
}
