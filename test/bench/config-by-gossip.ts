/**
 * `npm run bench config-by-gossip`: what a push costs the controller, and when all hosts have it: as each host fetching it from the controller,
 * and as a few fetching it and telling the others. Real publish server and controlplane rooms, gossip without a network (5 to 25 ms a
 * hop), N hosts in this one process: its CPU, N verifications and N disk writes, is in the delays. Compare the two, not with a mesh. BENCH_CONFIG_N=100, BENCH_CONFIG_PUSHES=5.
 */
import type { MeshObject } from '../../api/resources/object.ts';
import { service, virtualService } from '../builders/signed-mesh.ts';
import { allHave, type ConfigMesh, createConfigMesh, type Served } from '../gossip/config-mesh.ts';
import { until } from '../gossip/mesh.ts';
import { percentile } from './stats.ts';

const LARGE_OBJECTS = 200;
const STARTED_AT_ONCE = 10;

/** Figures of both ways. `say` is told of progress. */
export async function run(say: (line: string) => void): Promise<object> {
  const count = Number(process.env.BENCH_CONFIG_N ?? 100);
  const pushes = Number(process.env.BENCH_CONFIG_PUSHES ?? 5);
  const few = await measure(count, pushes, undefined, say);
  const all = await measure(count, pushes, Number.POSITIVE_INFINITY, say);
  return { hosts: count, pushes, everyHostFromController: all, fewHostsThenPeers: few };
}

async function measure(count: number, pushes: number, direct: number | undefined, say: (line: string) => void) {
  const config = await createConfigMesh(count, direct, true);
  try {
    await config.signed.put(service('web'));
    const overGossip = direct !== Number.POSITIVE_INFINITY;
    for (let from = 0; from < count; from += STARTED_AT_ONCE) {
      const names = Array.from({ length: Math.min(STARTED_AT_ONCE, count - from) }, (_, i) => from + i);
      await Promise.all(names.map((n) => config.add(`h${n}`, { overGossip })));
    }
    say(`${count} hosts, ${direct === undefined ? 'few' : 'all'} served by the controller: started`);
    say(`settled: ${JSON.stringify(await settled(config))}`);
    const small = await pushesOf(config, pushes, (i) => [virtualService('web', String(i))]);
    const large = await pushesOf(config, Math.min(2, pushes), (i) =>
      Array.from({ length: LARGE_OBJECTS }, (_, n) => virtualService(`web-${n}`, String(i))),
    );
    say(JSON.stringify({ smallChange: small, changeOf200Objects: large }));
    return { smallChange: small, changeOf200Objects: large };
  } finally {
    await config.stop();
  }
}

async function pushesOf(config: ConfigMesh, pushes: number, objects: (i: number) => MeshObject[]) {
  const hosts = [...config.hosts.values()];
  const delays: number[] = [];
  let fromController = 0;
  const sum = { bodies: 0, empty: 0, bodyBytes: 0, httpBytes: 0 };
  for (let i = 0; i < pushes; i++) {
    const before = await settled(config);
    const started = performance.now();
    const generation = await config.signed.put(...objects(i));
    await allHave(hosts, generation, 120_000);
    for (const { at, carriers } of hosts) {
      delays.push((at.get(generation) ?? Number.NaN) - started);
      if (carriers.get(generation) === 'controller') fromController += 1;
    }
    const after = await settled(config);
    for (const key of Object.keys(sum) as (keyof Served)[]) sum[key] += after[key] - before[key];
  }
  const each = (value: number) => Math.round(value / pushes);
  return {
    hostsServedByController: each(fromController),
    bodies: each(sum.bodies),
    emptyAnswers: each(sum.empty),
    bodyBytes: each(sum.bodyBytes),
    httpBytes: each(sum.httpBytes),
    delayMs: { p50: percentile(delays, 0.5), p99: percentile(delays, 0.99) },
  };
}

/** What was served until nothing more was asked for 2.5 s: all hosts wait again with what they hold. */
async function settled(config: ConfigMesh): Promise<Served> {
  let last = config.served();
  let since = performance.now();
  await until(() => {
    const now = config.served();
    if (now.bodies !== last.bodies || now.empty !== last.empty) since = performance.now();
    last = now;
    return performance.now() - since > 2500;
  }, 120_000);
  return last;
}
