/** One part of the simulation bench in a process of its own: `simulation-part.ts PART SIZE` prints one JSON line. */
import { createDetector } from '../../agent/gossip/detector.ts';
import { createEndpointTable } from '../../agent/gossip/endpoint-table.ts';
import type { HostGrant } from '../../api/signed-config/desired-config.ts';
import { seeded } from '../fakes/seeded.ts';
import { createMeshSim, type MeshSim } from '../sim/mesh-sim.ts';
import { createRecords, recordOf } from '../sim/records.ts';
import type { Part } from './simulation.ts';
import { percentile, round } from './stats.ts';

const SEED = 1;
const START_MS = 5000;
const SETTLE_MS = 15_000;
const CHANGES = 20;
const WITHIN_MS = 120_000;
const seconds = (ms: number) => round(ms / 1000);
const range = (count: number, from = 0) => Array.from({ length: count }, (_, n) => from + n);

/** Hosts that have run for long, linked. */
async function warm(size: number): Promise<MeshSim> {
  const sim = createMeshSim(size, SEED);
  sim.startWarm();
  await sim.run(SETTLE_MS);
  return sim;
}

/** Empty tables; each host knows from config where the others listen. All start within five seconds. */
async function cold(size: number): Promise<object> {
  const sim = createMeshSim(size, SEED);
  sim.start(START_MS);
  await sim.run(START_MS);
  const took = await sim.until(() => sim.isWhole(), WITHIN_MS, 'a cold start');
  const kilobytes = (bytes: number) => Math.round(bytes / size / 1000);
  return {
    wholeSecondsAfterLastStart: seconds(took),
    kilobytesAHost: {
      probes: kilobytes(sim.wire.bytes('probes')),
      gossip: kilobytes(sim.wire.bytes('gossip')),
      comparisons: kilobytes(sim.wire.bytes('sync')),
    },
    datagramsOverBudget: sim.wire.counts.overBudget,
    framesTooLarge: sim.pubsub.counts.framesTooLarge,
    linksOfAHost: sim.degrees(),
    falseDeaths: sim.counts.falseDeaths,
  };
}

/** Idle traffic, changes one a second, one host killed, one frozen. */
async function calm(size: number): Promise<object> {
  const sim = await warm(size);
  const before = sim.wire.bytes();
  await sim.run(30_000);
  const idle = (sim.wire.bytes() - before) / size / 30;
  const changes = [];
  for (let n = 0; n < CHANGES; n++) {
    changes.push(sim.publish(Math.floor((n * size) / CHANGES)));
    await sim.run(1000);
  }
  await sim.run(2000);
  const last = changes.map((change) => Math.max(...change.arrivals));
  const delivered = changes.reduce((sum, change) => sum + change.arrivals.length, 0);
  return {
    idleBytesASecond: Math.round(idle),
    deliveredPercent: round((delivered / (CHANGES * (size - 1))) * 100),
    knownToAllP50Ms: percentile(last, 0.5),
    knownToAllP99Ms: percentile(last, 0.99),
    killed: await detect(sim, [size - 1], 'killed'),
    frozen: await detect(sim, [size - 2], 'frozen'),
    falseDeaths: sim.counts.falseDeaths,
    linksOfAHost: sim.degrees(),
  };
}

async function detect(sim: MeshSim, hosts: readonly number[], how: 'killed' | 'frozen'): Promise<object> {
  const begun = sim.now;
  const accused = sim.counts.accusations;
  sim.stop(hosts, how);
  await sim.until(() => sim.knownDead(hosts), WITHIN_MS, `${hosts.length} ${how}`);
  const times = hosts.flatMap((host) => sim.deaths(host) ?? []);
  return {
    firstKnewSeconds: seconds(Math.min(...times.map((d) => d.first)) - begun),
    allKnewP50Seconds: seconds(
      percentile(
        times.map((d) => d.last),
        0.5,
      ) - begun,
    ),
    allKnewSeconds: seconds(Math.max(...times.map((d) => d.last)) - begun),
    accusations: sim.counts.accusations - accused,
  };
}

/** A minute with one datagram and segment in a hundred lost, a minute with one in twenty. */
async function loss(size: number): Promise<object> {
  const sim = await warm(size);
  const minute = async (share: number) => {
    const before = { ...sim.counts };
    sim.wire.loss = share;
    await sim.run(60_000);
    const change = sim.publish(0);
    await sim.run(20_000);
    return {
      falseDeaths: sim.counts.falseDeaths - before.falseDeaths,
      suspicionsAHostAndMinute: round((sim.counts.falseSuspects - before.falseSuspects) / size / (80 / 60)),
      accusations: sim.counts.accusations - before.accusations,
      knownToAllMs: Math.max(...change.arrivals),
    };
  };
  return { onePercent: await minute(0.01), fivePercent: await minute(0.05) };
}

/** Half of the hosts stand still for two seconds. */
async function stall(size: number): Promise<object> {
  const sim = await warm(size);
  sim.stall(range(Math.floor(size / 2)), 2000);
  await sim.run(20_000);
  const { falseDeaths, falseSuspects, accusations, refutations } = sim.counts;
  return { falseDeaths, suspicions: falseSuspects, accusations, refutations, wholeAgain: sim.isWhole() };
}

/** A tenth is gone at once without a word: power, not a kill. */
async function tenth(size: number): Promise<object> {
  const sim = await warm(size);
  const before = sim.wire.bytes();
  const hosts = range(Math.floor(size / 10)).map((n) => n * 10);
  const result = await detect(sim, hosts, 'frozen');
  await sim.run(5000);
  return {
    ...result,
    falseDeaths: sim.counts.falseDeaths,
    kilobytesAHost: Math.round((sim.wire.bytes() - before) / size / 1000),
  };
}

/** Two halves that hear nothing of each other for a minute; one host of each says something new meanwhile. */
async function partition(size: number): Promise<object> {
  const sim = await warm(size);
  sim.cut(Math.floor(size / 2));
  await sim.run(50_000);
  const changes = [sim.publish(0), sim.publish(size - 1)];
  await sim.run(10_000);
  const accusations = sim.counts.accusations;
  const dials = sim.links.counts.dials;
  sim.cut(undefined);
  const isKnown = () => changes.every((change) => change.arrivals.length === size - 1);
  const whole = await sim.until(() => sim.isWhole() && isKnown(), WITHIN_MS, 'a healed partition');
  await sim.run(10_000);
  return {
    wholeAfterSeconds: seconds(whole),
    accusations,
    falseDeaths: sim.counts.falseDeaths,
    dialsAHostAfterwards: round((sim.links.counts.dials - dials) / size),
    linksOfAHost: sim.degrees(),
  };
}

/** What one host's table and detector take, records of its own: nothing shared, signatures and certificates included. */
async function memory(size: number): Promise<object> {
  const { gc } = globalThis as { gc?: () => void };
  const used = () => {
    gc?.();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const before = used();
  const records = createRecords([], new Map<string, HostGrant>());
  const table = createEndpointTable('own');
  const detector = createDetector(0, seeded(SEED));
  for (let n = 0; n < size; n++) {
    const verified = records.make(recordOf(`host-${n}`, `10.0.${n >> 8}.${n & 255}`, 1));
    table.merge(verified);
    table.prove(verified.record.host, verified.record.addresses[0] as string);
    detector.onRecord(verified.record.host, verified.record, false, 0);
    detector.onAck(verified.record.host, 0);
  }
  table.snapshot(true);
  const bytes = used() - before;
  return { kilobytes: Math.round(bytes / 1000), bytesAHost: Math.round(bytes / size), hosts: table.size };
}

const parts: Readonly<Record<Part, (size: number) => Promise<object>>> = {
  cold,
  calm,
  loss,
  stall,
  tenth,
  partition,
  memory,
};
const [part = '', size = ''] = process.argv.slice(2);
const figures = await parts[part as Part](Number(size));
const { user, system } = process.cpuUsage();
const cost = { cpuSeconds: round((user + system) / 1e6), megabytes: Math.round(process.resourceUsage().maxRSS / 1024) };
process.stdout.write(`${JSON.stringify({ ...figures, cost })}\n`);
