/** A process of the push bench: any number of agents. Its parent calls it by push-calls.ts; what it can be asked is in `Orders`. */

import { until } from '../fakes/until.ts';
import { meshInput } from '../unit/agent/mesh-view/build-mesh.ts';
import { bigMesh, type MeshSize } from './big-mesh.ts';
import { createCalls } from './push-calls.ts';
import { type ConfigSide, createBus, createFarSide } from './push-gossip.ts';
import { createPushHost, type LinkBytes, type PushHost, type Traffic } from './push-host.ts';
import type { HostSpec } from './push-world.ts';

export interface ProcessSpec {
  readonly size: MeshSize;
  readonly dir: string;
  readonly rootText: string;
  readonly rootPem: string;
  readonly hosts: readonly HostPlan[];
  /** The bus of config by gossip is here and these hosts are elsewhere; or it is elsewhere; or there is none. */
  readonly bus: { readonly far: readonly string[] } | 'far' | 'none';
}

export interface HostPlan {
  readonly spec: HostSpec;
  readonly envoy: boolean;
  /** Also a gossip room, which publishes these groups. */
  readonly groups?: readonly string[];
  readonly translates: boolean;
}

/** Of one host, about one generation. Times are `now()` of gossip/protocol.ts. */
export interface Reached {
  readonly host: string;
  readonly verified: number;
  /** Hosts with an Envoy. */
  readonly acked?: number;
  readonly fromController: boolean;
}

/** What a parent may call, with what it answers. */
export interface Orders {
  prepare(spec: ProcessSpec): void;
  /** Hosts begin to ask for config. */
  start(): void;
  /** Waits until every host has verified that generation or a later one, and each Envoy acknowledged it. */
  reached(generation: number): readonly Reached[];
  /** The first `count` hosts translate what they hold; milliseconds of CPU. */
  translate(count: number): number;
  publish(host: string, weight: number): void;
  /** Waits until each Envoy has that weight of that host. When. */
  weighted(host: string, weight: number): readonly number[];
  /** Waits until every gossip room here knows so many hosts as alive. */
  linked(count: number): void;
  cpuMs(): number;
  rssMb(): number;
  traffic(): Traffic;
  /** Of gossip's links, of all hosts with an Envoy. */
  linkBytes(): LinkBytes;
  envoyPids(): readonly number[];
  sent(): Readonly<Record<string, number>>;
  stop(): void;
}

const PATIENCE_MS = 120_000;
const STARTED_AT_ONCE = 10;

const calls = createCalls(process);
const hosts: PushHost[] = [];

const orders: {
  [K in keyof Orders]: (...args: Parameters<Orders[K]>) => ReturnType<Orders[K]> | Promise<ReturnType<Orders[K]>>;
} = {
  async prepare({ size, dir, rootText, rootPem, hosts: plans, bus }) {
    const { endpoints } = meshInput(bigMesh(size));
    const side = await sideOf(bus, plans);
    for (const plan of plans) {
      const { spec } = plan;
      const configSide = side?.(spec.host);
      hosts.push(
        await createPushHost({
          ...plan,
          dir: `${dir}/${spec.host}`,
          rootText,
          rootPem,
          endpoints,
          ...(configSide === undefined ? {} : { configSide }),
        }),
      );
    }
    for (const { lab } of hosts)
      if (lab !== undefined) await until(() => lab.xds().status().connected, 'Envoy to connect', PATIENCE_MS);
  },
  async start() {
    for (let i = 0; i < hosts.length; i += STARTED_AT_ONCE) {
      const some = hosts.slice(i, i + STARTED_AT_ONCE);
      await Promise.all(some.map((host) => host.start()));
      await until(() => some.every((host) => host.generation() > 0), 'the first config', PATIENCE_MS);
    }
    for (const { gossip } of hosts) await gossip?.start(new AbortController().signal);
    for (const host of hosts) await host.publish(1);
  },
  async reached(generation) {
    const isThere = (host: PushHost) =>
      host.generation() >= generation && (host.lab === undefined || since(host.acked, generation) !== undefined);
    await until(() => hosts.every(isThere), `generation ${generation}`, PATIENCE_MS);
    return hosts.map((host) => ({
      host: host.host,
      verified: since(host.verified, generation) as number,
      ...(host.lab === undefined ? {} : { acked: since(host.acked, generation) as number }),
      fromController: host.fromController.has(host.generation()),
    }));
  },
  async translate(count) {
    const before = cpuMs();
    for (const host of hosts.slice(0, count)) {
      host.translate();
      await new Promise((resolve) => setImmediate(resolve));
    }
    return cpuMs() - before;
  },
  async publish(name, weight) {
    await hosts.find(({ host }) => host === name)?.publish(weight);
  },
  async weighted(name, weight) {
    const key = `${name} ${weight}`;
    const seers = hosts.filter(({ lab, host }) => lab !== undefined && host !== name);
    await until(() => seers.every(({ weights }) => weights.has(key)), `weight ${key}`, PATIENCE_MS);
    return seers.map(({ weights }) => weights.get(key) as number);
  },
  async linked(count) {
    const isWhole = ({ gossip }: PushHost) =>
      gossip === undefined || gossip.peers().filter(({ state }) => state === 'alive').length >= count;
    await until(() => hosts.every(isWhole), `${count} hosts known by gossip`, PATIENCE_MS);
  },
  cpuMs,
  rssMb: () => process.memoryUsage().rss / 2 ** 20,
  traffic() {
    const sum: Traffic = { fromController: 0, fromPeers: 0, announced: 0, bodies: 0 };
    for (const { traffic } of hosts) for (const key of Object.keys(sum) as (keyof Traffic)[]) sum[key] += traffic[key];
    return sum;
  },
  async linkBytes() {
    const all = await Promise.all(hosts.filter(({ lab }) => lab !== undefined).map((host) => host.linkBytes()));
    const total = (key: keyof LinkBytes) => all.reduce((sum, bytes) => sum + bytes[key], 0);
    return { received: total('received'), sent: total('sent') };
  },
  envoyPids: () => hosts.flatMap(({ envoyPid }) => (envoyPid === undefined ? [] : [envoyPid])),
  async sent() {
    const sum: Record<string, number> = {};
    for (const { lab } of hosts)
      for (const [type, count] of Object.entries((await lab?.sent()) ?? {})) sum[type] = (sum[type] ?? 0) + count;
    return sum;
  },
  async stop() {
    for (const host of hosts) await host.stop();
  },
};

/** The time of that generation, or of the first after it: pushes that come together are one. */
function since(times: ReadonlyMap<number, number>, generation: number): number | undefined {
  const later = [...times].filter(([at]) => at >= generation).sort(([a], [b]) => a - b);
  return later[0]?.[1];
}

async function sideOf(
  bus: ProcessSpec['bus'],
  plans: readonly HostPlan[],
): Promise<((host: string) => ConfigSide) | undefined> {
  if (bus === 'none') return undefined;
  if (bus !== 'far') return createBus(calls, bus.far);
  return await createFarSide(
    calls,
    plans.map(({ spec }) => spec.host),
  );
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

for (const [name, order] of Object.entries(orders)) calls.on(name, order as (...args: never[]) => unknown);
process.once('disconnect', () => process.exit());
