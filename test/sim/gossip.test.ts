/**
 * Three hundred whole hosts under one injected clock and a seeded network (mesh-sim.ts says what of them is real): what start, change, loss,
 * stalls, death, partition and liars do. `npm run bench simulation` does the same with up to 2,000; docs/gossip-scale.md has the figures.
 */
import t from 'tap';
import { createMeshSim, type MeshSim } from './mesh-sim.ts';

// Half a minute of CPU; on a machine that does much else at the same time it takes longer.
t.setTimeout(200_000);

const N = 300;
const range = (count: number) => Array.from({ length: count }, (_, n) => n);

async function settled(seed: number, size = N): Promise<MeshSim> {
  const sim = createMeshSim(size, seed);
  sim.startWarm();
  await sim.run(10_000);
  return sim;
}

t.test('all start within five seconds with empty tables', async (t) => {
  const sim = createMeshSim(N, 1);
  sim.start(5000);
  await sim.run(5000);
  const took = await sim.until(() => sim.isWhole(), 5000, 'a cold start');
  const bytes = sim.wire.bytes() / N;
  t.ok(took < 4000, `whole ${took} ms after the last start`);
  t.ok(bytes < 2_000_000, `${Math.round(bytes / 1000)} KB a host`);
  t.equal(sim.counts.falseDeaths, 0);
  t.equal(sim.wire.counts.overBudget, 0, 'no burst of probes above what a host decrypts');
  const { mean, most } = sim.degrees();
  t.ok(mean < 10 && most <= 32, `${mean} links, ${most} at most`);
});

t.test('without the bound of lazy-pull.ts a common start cuts links', async (t) => {
  const sim = createMeshSim(200, 1, { boundedPull: false });
  sim.start(5000);
  await sim.run(8000);
  t.ok(sim.pubsub.counts.framesTooLarge > 20, `${sim.pubsub.counts.framesTooLarge} frames above the bound`);
});

t.test('a change is known to all, idle costs little, a dead host is found', async (t) => {
  const sim = await settled(2);
  const before = sim.wire.bytes();
  await sim.run(30_000);
  const idle = (sim.wire.bytes() - before) / N / 30;
  t.ok(idle < 300, `${Math.round(idle)} bytes a host and second`);
  const changes = [];
  for (let n = 0; n < 20; n++) {
    changes.push(sim.publish(n * 15));
    await sim.run(500);
  }
  t.ok(changes.every((change) => change.arrivals.length === N - 1));
  const last = changes.map((change) => Math.max(...change.arrivals));
  t.ok(Math.max(...last) < 70, `known to all after ${Math.max(...last)} ms at most`);

  let at = sim.now;
  sim.stop([7], 'killed');
  await sim.until(() => sim.knownDead([7]), 10_000, 'killed');
  t.ok((sim.deaths(7)?.last ?? Infinity) - at < 3500, `killed: all knew after ${(sim.deaths(7)?.last ?? 0) - at} ms`);
  at = sim.now;
  const accusations = sim.counts.accusations;
  sim.stop([8], 'frozen');
  await sim.until(() => sim.knownDead([8]), 20_000, 'frozen');
  const { first, last: all } = sim.deaths(8) as { first: number; last: number };
  t.ok(
    first - at < 6500 && all - first < 1300,
    `frozen: the first knew after ${first - at} ms, all after ${all - at} ms`,
  );
  t.ok(sim.counts.accusations - accusations < 10, 'told once or twice, not by everybody');
  t.equal(sim.counts.falseDeaths, 0);
});

t.test('a host that has just come is watched like any other', async (t) => {
  for (const seed of [1, 2, 3]) {
    const sim = createMeshSim(150, seed);
    sim.start(30_000);
    await sim.run(32_000);
    const at = sim.now;
    sim.stop([149], 'frozen');
    await sim.until(() => sim.knownDead([149]), 30_000, 'the last to come');
    const took = (sim.deaths(149)?.last ?? Infinity) - at;
    t.ok(took < 9000, `seed ${seed}: ${took} ms`);
  }
});

t.test('one packet in twenty lost for a minute: no false death', async (t) => {
  const sim = await settled(4);
  sim.wire.loss = 0.05;
  await sim.run(60_000);
  t.equal(sim.counts.falseDeaths, 0);
  t.comment(`${sim.counts.falseSuspects} suspicions, ${sim.counts.accusations} accusations`);
});

t.test('half the hosts stall for two seconds: no false death', async (t) => {
  const sim = await settled(5);
  sim.stall(range(N / 2), 2000);
  await sim.run(15_000);
  t.equal(sim.counts.falseDeaths, 0);
  t.ok(sim.isWhole(), 'and nobody is suspect any more');
});

t.test('a tenth killed at once', async (t) => {
  const sim = await settled(6);
  const killed = range(N / 10).map((n) => n * 10);
  const at = sim.now;
  sim.stop(killed, 'frozen');
  await sim.until(() => sim.knownDead(killed), 15_000, 'a tenth');
  t.equal(sim.counts.falseDeaths, 0);
  const took = Math.max(...killed.map((host) => sim.deaths(host)?.last ?? Infinity)) - at;
  t.ok(took < 12_000, `all knew of all after ${took} ms, by ${sim.counts.accusations} accusations`);
});

t.test('two halves for a minute: whole again in seconds, without a storm of dials', async (t) => {
  const sim = await settled(7);
  sim.cut(N / 2);
  await sim.run(50_000);
  const changes = [sim.publish(0), sim.publish(N - 1)];
  await sim.run(10_000);
  t.not(sim.missing().alive, 0, 'each half takes the other for dead');
  const dials = sim.links.counts.dials;
  sim.cut(undefined);
  const isKnown = () => changes.every((change) => change.arrivals.length === N - 1);
  const took = await sim.until(() => sim.isWhole() && isKnown(), 10_000, 'healed');
  t.ok(took < 5000, `whole after ${took} ms`);
  await sim.run(10_000);
  const dialled = (sim.links.counts.dials - dials) / N;
  t.ok(dialled < 6, `${dialled.toFixed(1)} dials a host`);
  t.ok(sim.degrees().mean < 16, `${sim.degrees().mean.toFixed(1)} links a host`);
});

t.test('three liars accuse everybody without end: nobody dies', async (t) => {
  const sim = await settled(8, 100);
  sim.wire.loss = 0.02;
  for (let second = 0; second < 60; second++) {
    for (const liar of [0, 1, 2])
      for (let n = 3; n < 100; n += 7) sim.host(liar).perform([{ type: 'accuse', host: `h${n}` }]);
    await sim.run(1000);
  }
  t.equal(sim.counts.falseDeaths, 0);
});
