// Random walks of agent and Envoy: whatever happened on the way, in the end Envoy has what is wanted, and on a calm way never a dangling name.
import { test } from 'tap';
import type { ResourceType, XdsResource } from '../../../../agent/translate/resource-set.ts';
import { MAX_RETRY_MS } from '../../../../agent/xds/ledger.ts';
import {
  cluster,
  createXdsWorld,
  endpoint,
  listener,
  messages,
  policy,
  proxy,
  route,
  type XdsWorld,
} from '../../../builders/xds.ts';
import { createFakeEnvoy, type FakeEnvoy } from '../../../fakes/fake-envoy.ts';
import { seeded } from '../../../fakes/seeded.ts';

const TYPES: readonly ResourceType[] = ['cluster', 'endpoint', 'listener', 'route', 'extension'];
/** In the body of what Envoy refuses. */
const BAD = /666|"bad"/;

interface Dice {
  below(n: number): number;
  chance(p: number): boolean;
}

function dice(seed: number): Dice {
  const random = seeded(seed);
  return { below: (n) => Math.floor(random() * n), chance: (p) => random() < p };
}

/** A consistent set: what refers to something finds it there. `bad`: how likely a resource is one that Envoy refuses. */
function draw({ below, chance }: Dice, bad: number): XdsResource[] {
  const clusters = ['c0', 'c1', 'c2', 'c3'].filter(() => chance(0.7));
  const out: XdsResource[] = [];
  for (const name of clusters) {
    out.push(cluster(name, chance(bad) ? '666s' : `${1 + below(3)}s`, chance(0.3) ? 'svid' : undefined));
    if (chance(0.9)) out.push(endpoint(name, chance(bad) ? 666 : 1 + below(3)));
  }
  if (clusters.length === 0) return out;
  const to = () => clusters[below(clusters.length)] as string;
  for (const i of [0, 1, 2].filter(() => chance(0.7))) {
    const port = chance(bad) ? 666 : 80 + below(2);
    out.push(listener(`l${i}`, port, { route: `r${i}`, policy: 'p', ...(chance(0.5) ? { proxy: `x${i}` } : {}) }));
    out.push(route(`r${i}`, to()), proxy(`x${i}`, to()));
  }
  out.push(policy('p', chance(bad) ? 'bad' : `p${below(3)}`));
  return out;
}

const refuse = (_: ResourceType, __: string, body: unknown) => (BAD.test(JSON.stringify(body)) ? 'no' : undefined);

/** What is not as it should be, in words. */
function faults(envoy: FakeEnvoy, world: XdsWorld, wanted: readonly XdsResource[]): string[] {
  const out = [...envoy.unanswered(), ...envoy.warming().map((name) => `${name} warms`)];
  if (!world.stream().settled()) out.push('not settled');
  for (const type of TYPES) {
    const whole = type === 'cluster' || type === 'listener';
    const have = envoy.has(type);
    const named = new Map(
      wanted.filter((resource) => resource.type === type).map((resource) => [resource.name, resource]),
    );
    if (whole) for (const name of have.keys()) if (!named.has(name)) out.push(`${type} ${name} is not wanted`);
    for (const [name, { body }] of named) {
      if (BAD.test(JSON.stringify(body)) || (!whole && !envoy.subscribed(type).has(name))) continue;
      if (JSON.stringify(sorted(have.get(name))) !== JSON.stringify(sorted(body))) out.push(`${type} ${name} differs`);
    }
  }
  return out;
}

function sorted(json: unknown): unknown {
  if (Array.isArray(json)) return json.map(sorted);
  if (typeof json !== 'object' || json === null) return json;
  return Object.fromEntries(
    Object.entries(json)
      .filter(([, value]) => value !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => [key, sorted(value)]),
  );
}

test('walks with refusals, lost streams, restarts of either side and time passing end well', async (t) => {
  for (let seed = 1; seed <= 150; seed++) {
    const d = dice(seed);
    const world = createXdsWorld();
    const create = () => createFakeEnvoy({ messages, open: world.open, refuse });
    let envoy = create();
    let wanted: XdsResource[] = draw(d, 0.1);
    const set = () => world.set(...wanted);
    const steps: (() => void)[] = [
      () => {
        wanted = draw(d, 0.1);
        set();
      },
      () => world.elapse(d.below(3000)),
      () => world.secret('svid', { certificateChainPem: 'c', privateKeyPem: `k${d.below(9)}` }),
      () => {
        envoy.disconnect();
        world.close();
        envoy.connect();
      },
      () => {
        envoy.disconnect();
        world.restart();
        if (d.chance(0.5)) envoy.connect();
        set();
        envoy.disconnect();
        world.close();
        envoy.connect();
      },
      () => {
        envoy.disconnect();
        world.close();
        envoy = create();
        envoy.connect();
      },
    ];
    set();
    envoy.connect();
    for (let i = 0; i < 40; i++) {
      const kind = [0, 0, 0, 0, 1, 1, 2, 3, 4, 5][d.below(10)] as number;
      if (d.chance(0.3)) steps[kind]?.();
      else for (let n = d.below(4); n > 0; n--) envoy.deliver();
    }
    envoy.run();
    world.elapse(MAX_RETRY_MS);
    envoy.run();
    const found = faults(envoy, world, wanted);
    if (found.length > 0) t.fail(`seed ${seed}: ${found.join(', ')}`);
  }
  t.pass('150 walks');
});

test('while Envoy refuses nothing, no route and no TCP proxy ever leads to a cluster that is not there', async (t) => {
  let looks = 0;
  for (let seed = 1; seed <= 100; seed++) {
    const d = dice(seed);
    const world = createXdsWorld();
    const envoy = createFakeEnvoy({ messages, open: world.open });
    let wanted = draw(d, 0);
    world.set(...wanted);
    envoy.connect();
    for (let i = 0; i < 60; i++) {
      if (d.chance(0.3)) {
        wanted = draw(d, 0);
        world.set(...wanted);
      } else envoy.deliver();
      for (const dangling of danglingOf(envoy)) t.fail(`seed ${seed}, step ${i}: ${dangling}`);
      looks++;
    }
    envoy.run();
    const found = faults(envoy, world, wanted);
    if (found.length > 0) t.fail(`seed ${seed}: ${found.join(', ')}`);
  }
  t.equal(looks, 6000);
});

function danglingOf(envoy: FakeEnvoy): string[] {
  const out: string[] = [];
  for (const type of ['route', 'extension'] as const)
    for (const [name, body] of envoy.has(type)) {
      const to = /"cluster":"(\w+)"/.exec(JSON.stringify(body))?.[1];
      if (to !== undefined && !envoy.has('cluster').has(to)) out.push(`${type} ${name} leads to ${to}`);
    }
  return out;
}
