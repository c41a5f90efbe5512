import { type Test, test } from 'tap';
import type { ResourceType, XdsResource } from '../../../../agent/translate/resource-set.ts';
import { TYPE_URLS } from '../../../../agent/translate/resource-set.ts';
import { RETRY_MS } from '../../../../agent/xds/ledger.ts';
import { GATE_MS, MAX_IN_FLIGHT } from '../../../../agent/xds/stream.ts';
import type { DeltaRequest } from '../../../../agent/xds/wire.ts';
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

type Refuse = (type: ResourceType, name: string, body: unknown) => string | undefined;

interface Mesh {
  readonly world: XdsWorld;
  readonly envoy: FakeEnvoy;
  /** What was sent since the last call, as `TYPE names`, removals as `TYPE -names`. */
  news(): string[];
}

/** An Envoy that has taken the resources given, and an agent that knows it. */
function start(resources: readonly XdsResource[], refuse: Refuse = () => undefined): Mesh {
  const world = createXdsWorld();
  const envoy = createFakeEnvoy({ messages, open: world.open, refuse: (...args) => refuse(...args) });
  world.set(...resources);
  envoy.connect();
  envoy.run();
  return { world, envoy, news: () => world.sent.splice(0).map(textOf) };
}

const textOf = ({ type, entries, removed }: XdsWorld['sent'][number]) =>
  [type, ...[...entries.map((entry) => entry.name), ...removed.map((name) => `-${name}`)].sort()].join(' ');

const names = (map: ReadonlyMap<string, unknown> | ReadonlySet<string>) => [...map.keys()].sort();
const body = (mesh: Mesh, type: ResourceType, name: string) => JSON.stringify(mesh.envoy.has(type).get(name));

const SERVICE = [
  cluster('a'),
  endpoint('a', 1),
  listener('l', 80, { route: 'r', policy: 'p' }),
  listener('tcp', 81, { proxy: 'x' }),
  route('r', 'a'),
  policy('p', 'one'),
  proxy('x', 'a'),
];

/** Nothing is left to do: all that was asked for was answered and taken. */
function atRest(t: Test, mesh: Mesh, what = 'at rest'): void {
  t.strictSame(mesh.envoy.unanswered(), [], `${what}: every name was answered`);
  t.strictSame(mesh.envoy.warming(), [], `${what}: no cluster warms`);
  t.equal(mesh.world.stream().settled(), true, `${what}: settled`);
  t.equal(mesh.world.stream().pending(), 0, `${what}: nothing under way`);
}

test('a start: clusters and their endpoints, then listeners, then what these refer to', async (t) => {
  const mesh = start(SERVICE);
  const { news, envoy } = mesh;
  const sent = news();
  t.strictSame(sent.slice(0, 3), ['cluster a', 'endpoint a', 'listener l tcp']);
  t.strictSame(sent.slice(3).sort(), ['extension p x', 'route r']);
  t.ok(
    envoy.log.every(({ outcome }) => outcome === 'ack'),
    'all was taken',
  );
  atRest(t, mesh);
});

test('an agent without config is silent, whoever asks', async (t) => {
  const world = createXdsWorld();
  const envoy = createFakeEnvoy({ messages, open: world.open });
  envoy.connect();
  t.equal(world.sent.length, 0);
  t.equal(world.stream().settled(), false);
  world.secret('s', { trustedCaPem: 'x' });
  t.equal(world.sent.length, 0);
  world.set(cluster('a'));
  envoy.run();
  t.strictSame(names(envoy.has('cluster')), ['a'], 'and speaks when it has some');
});

test('Envoy without any config is told so', async (t) => {
  const mesh = start([]);
  t.strictSame(mesh.news(), ['cluster', 'listener'], 'an empty response, or it would wait');
  atRest(t, mesh);
});

test('one change of everything: make before break', async (t) => {
  const mesh = start(SERVICE);
  const { world, envoy, news } = mesh;
  news();
  world.set(
    cluster('b'),
    endpoint('b', 2),
    listener('l', 80, { route: 'r2', policy: 'p' }),
    listener('new', 82, { proxy: 'x' }),
    route('r2', 'b'),
    policy('p', 'two'),
    proxy('x', 'b'),
  );
  t.strictSame(news(), ['extension p', 'cluster b'], 'policy waits for nothing; the TCP proxy for its cluster');
  envoy.deliver();
  envoy.deliver();
  t.strictSame(news(), ['endpoint b'], 'the rest waits until the cluster is warm');
  envoy.deliver();
  const [listeners, ...rest] = news();
  t.equal(listeners, 'listener l new');
  t.strictSame(rest, ['listener -tcp', 'extension x'], 'listeners go before the clusters they used');
  envoy.run();
  t.strictSame(news(), ['route r2', 'cluster -a'], 'the old cluster goes last');
  t.strictSame(names(envoy.has('cluster')), ['b']);
  t.strictSame(names(envoy.has('listener')), ['l', 'new']);
  t.strictSame(names(envoy.subscribed('endpoint')), ['b']);
  atRest(t, mesh);
});

test('a changed route waits for the new cluster, and the old cluster for the route', async (t) => {
  const mesh = start([cluster('a'), endpoint('a', 1), listener('l', 80, { route: 'r' }), route('r', 'a')]);
  const { world, envoy, news } = mesh;
  news();
  world.set(cluster('b'), endpoint('b', 1), listener('l', 80, { route: 'r' }), route('r', 'b'));
  envoy.run();
  t.strictSame(news(), ['cluster b', 'endpoint b', 'route r', 'cluster -a']);
  atRest(t, mesh);
});

test('the gate opens after GATE_MS, to the millisecond, and the timer never spins', async (t) => {
  const { world, envoy, news } = start(SERVICE);
  news();
  world.set(cluster('b'), endpoint('b', 1), listener('l', 80, { route: 'r' }), route('r', 'b'));
  t.strictSame(news(), ['cluster b'], 'not delivered: Envoy says nothing');
  world.elapse(GATE_MS / 2);
  world.set(cluster('b', '2s'), endpoint('b', 1), listener('l', 80, { route: 'r' }), route('r', 'b'));
  t.strictSame(news(), ['cluster b'], 'a second one starts the wait anew');
  world.elapse(GATE_MS - 1);
  t.strictSame(news(), []);
  world.elapse(1);
  t.strictSame(news(), ['listener l', 'listener -tcp', 'route r']);
  world.elapse(GATE_MS - 1);
  t.strictSame(news(), [], 'removed clusters wait for listeners and routes');
  world.elapse(1);
  t.strictSame(news(), ['cluster -a']);
  t.equal(world.stream().wakeAt(), undefined, 'nothing to wait for');
  envoy.run();
  t.equal(world.stream().settled(), true);
});

test('a name asked for is answered though the gate is shut', async (t) => {
  const world = createXdsWorld();
  const envoy = createFakeEnvoy({ messages, open: world.open });
  world.set(...SERVICE);
  envoy.connect();
  while (names(envoy.has('listener')).length === 0) envoy.deliver();
  world.sent.length = 0;
  world.set(...SERVICE.filter(({ name }) => name !== 'a'), cluster('a', '3s'), endpoint('a', 1));
  t.strictSame(world.sent.map(textOf).slice(0, 1), ['cluster a'], 'the gate is shut');
  envoy.run();
  t.strictSame(envoy.unanswered(), []);
});

for (const { type, before, after, bad } of [
  {
    type: 'cluster',
    before: [cluster('a'), cluster('b'), cluster('c')],
    after: [cluster('a', '2s'), cluster('b', '2s'), cluster('c', '2s')],
    bad: '"2s"',
  },
  {
    type: 'listener',
    before: [listener('a', 1), listener('b', 1), listener('c', 1)],
    after: [listener('a', 2), listener('b', 2), listener('c', 2)],
    bad: '"port_value":2',
  },
  {
    type: 'endpoint',
    before: [endpoint('a', 1), endpoint('b', 1), endpoint('c', 1)],
    after: [endpoint('a', 2), endpoint('b', 2), endpoint('c', 2)],
    bad: '"port_value":2',
  },
  {
    type: 'route',
    before: [route('a', 'x'), route('b', 'x'), route('c', 'x')],
    after: [route('a', 'y'), route('b', 'y'), route('c', 'y')],
    bad: '"cluster":"y"',
  },
  {
    type: 'extension',
    before: [policy('a', 'one'), policy('b', 'one'), policy('c', 'one')],
    after: [policy('a', 'two'), policy('b', 'two'), policy('c', 'two')],
    bad: '"two"',
  },
] as const) {
  test(`a refused response of three ${type}s: the bad one is found, and keeps its last good version`, async (t) => {
    const users = [
      ...(type === 'endpoint' ? [cluster('a'), cluster('b'), cluster('c')] : []),
      ...(type === 'route' || type === 'extension'
        ? ['a', 'b', 'c'].map((name) =>
            listener(`l-${name}`, 80, type === 'route' ? { route: name } : { policy: name }),
          )
        : []),
    ];
    const mesh = start([...users, ...before], (_, name, json) =>
      name === 'b' && JSON.stringify(json).includes(bad) ? 'what a mess' : undefined,
    );
    const { world, envoy, news } = mesh;
    atRest(t, mesh, 'before');
    news();
    world.set(...users, ...after);
    envoy.run();
    const sent = news().filter((text) => text.startsWith(type));
    t.strictSame(sent.slice(0, 4), [`${type} a b c`, `${type} a`, `${type} b`, `${type} c`]);
    for (const name of ['a', 'c']) t.match(body(mesh, type, name), bad, `${name} is the new one`);
    t.notMatch(body(mesh, type, 'b'), bad, 'b is the old one');
    t.strictSame(
      world
        .ledger()
        .refusals()
        .map(({ entry, message, generation }) => [entry.type, entry.name, message, generation]),
      [[type, 'b', 'what a mess', 2]],
    );
    atRest(t, mesh);
    news();
    world.set(...users, ...after);
    t.strictSame(news(), [], 'the same again is not sent again');
    world.set(...users, ...before);
    envoy.run();
    t.strictSame(world.ledger().refusals(), [], 'who takes it back is forgiven');
    t.strictSame(
      news().filter((text) => text.startsWith(type)),
      [`${type} a c`],
      'b has it already',
    );
    atRest(t, mesh);
  });
}

test('a refused response of many is halved: few responses find one bad among 64', async (t) => {
  const clusters = (timeout: string) => Array.from({ length: 64 }, (_, i) => cluster(`c${i}`, timeout));
  const mesh = start(clusters('1s'), (_, name, json) =>
    name === 'c37' && JSON.stringify(json).includes('"2s"') ? 'no' : undefined,
  );
  mesh.news();
  mesh.world.set(...clusters('2s'));
  mesh.envoy.run();
  const sent = mesh.news().filter((text) => text.startsWith('cluster'));
  t.equal(sent.length, 1 + 2 + 2 + 2 + 8, sent.map((text) => text.split(' ').length - 1).join(' '));
  t.equal(mesh.envoy.recorded('cluster').size, 64);
  t.equal(mesh.world.ledger().refusals().length, 1);
  atRest(t, mesh);
});

test('what was never good is not there, and its neighbours are', async (t) => {
  const mesh = start([cluster('a'), cluster('b'), listener('l', 80, { route: 'r' }), route('r', 'b')], (type, name) =>
    name === 'b' || type === 'route' ? 'no' : undefined,
  );
  t.strictSame(names(mesh.envoy.has('cluster')), ['a']);
  t.strictSame(names(mesh.envoy.has('listener')), ['l']);
  t.strictSame(names(mesh.envoy.has('route')), []);
  atRest(t, mesh);
});

test('a new Envoy is given the last good version, also by a new agent', async (t) => {
  const refuse: Refuse = (_, name, json) => (name === 'b' && JSON.stringify(json).includes('"2s"') ? 'no' : undefined);
  const { world, envoy } = start([cluster('a'), cluster('b')], refuse);
  world.set(cluster('a'), cluster('b', '2s'));
  envoy.run();
  for (const agent of ['same', 'new']) {
    envoy.disconnect();
    world.close();
    if (agent === 'new') world.restart();
    world.set(cluster('a'), cluster('b', '2s'));
    const fresh = createFakeEnvoy({ messages, open: world.open, refuse });
    fresh.connect();
    fresh.run();
    t.match(JSON.stringify(fresh.has('cluster').get('b')), '"1s"', `${agent} agent`);
    t.equal(world.stream().settled(), true);
    t.equal(world.ledger().refusals().length, 1);
    fresh.disconnect();
  }
});

test('a last good version that is refused too ends the matter, without a loop', async (t) => {
  let strict = false;
  const refuse: Refuse = (_, name, json) =>
    name === 'b' && (strict || JSON.stringify(json).includes('"2s"')) ? 'no' : undefined;
  const mesh = start([cluster('a'), cluster('b')], refuse);
  const { world, envoy, news } = mesh;
  world.set(cluster('a'), cluster('b', '2s'));
  envoy.run();
  envoy.disconnect();
  world.close();
  strict = true;
  const fresh = createFakeEnvoy({ messages, open: world.open, refuse });
  news();
  fresh.connect();
  fresh.run();
  t.ok(news().length < 10);
  t.strictSame(names(fresh.has('cluster')), ['a']);
  t.strictSame(
    world
      .ledger()
      .refusals()
      .map(({ entry }) => entry.name),
    ['b'],
    'the wanted version is what is reported',
  );
  t.equal(world.stream().settled(), true);
  fresh.disconnect();
  world.close();
  world.set(cluster('a'), cluster('b'));
  const third = createFakeEnvoy({ messages, open: world.open, refuse });
  third.connect();
  third.run();
  t.strictSame(names(third.has('cluster')), ['a'], 'nor when it is wanted again');
  t.equal(world.stream().settled(), true);
});

test('a refusal that passes is tried again, at growing intervals', async (t) => {
  let taken = true;
  const mesh = start([listener('l', 80)], (_, name) => (taken && name === 'l' ? 'cannot bind' : undefined));
  const { world, envoy, news } = mesh;
  const tries: number[] = [];
  news();
  for (let at = 500; at <= 40_000; at += 500) {
    world.elapse(500);
    envoy.run();
    if (news().length > 0) tries.push(at);
  }
  t.strictSame(tries, [RETRY_MS, 3 * RETRY_MS, 7 * RETRY_MS, 15 * RETRY_MS], 'doubling');
  t.match(world.ledger().refusals(), [{ times: 5 }]);
  taken = false;
  world.elapse(60_000);
  envoy.run();
  t.strictSame(names(envoy.has('listener')), ['l']);
  t.strictSame(world.ledger().refusals(), []);
  t.equal(world.stream().wakeAt(), undefined);
  atRest(t, mesh);
});

test('a reconnection: what is equal is not sent, what changed is', async (t) => {
  const mesh = start(SERVICE);
  const { world, envoy, news } = mesh;
  for (const { what, set, expected } of [
    { what: 'nothing changed', set: SERVICE, expected: ['cluster', 'listener'] },
    {
      what: 'an endpoint changed',
      set: [...SERVICE.filter(({ type }) => type !== 'endpoint'), endpoint('a', 9)],
      expected: ['cluster', 'endpoint a', 'listener'],
    },
  ]) {
    for (const agent of ['the same agent', 'a new agent']) {
      envoy.disconnect();
      world.close();
      if (agent === 'a new agent') world.restart();
      news();
      world.set(...set);
      envoy.connect();
      envoy.run();
      t.strictSame(
        news(),
        agent === 'the same agent' || what === 'nothing changed' ? expected : ['cluster', 'listener'],
      );
      atRest(t, mesh, `${what}, ${agent}`);
    }
  }
});

test('a cluster that changed while no agent was there is not left warming', async (t) => {
  for (const agent of ['same', 'new']) {
    const mesh = start(SERVICE);
    mesh.envoy.disconnect();
    mesh.world.close();
    if (agent === 'new') mesh.world.restart();
    mesh.world.set(cluster('a', '7s'), ...SERVICE.slice(1));
    mesh.news();
    mesh.envoy.connect();
    mesh.envoy.run();
    t.strictSame(
      mesh.news().filter((text) => !text.startsWith('listener')),
      ['cluster a', 'endpoint a'],
      'its endpoints come again, though their version is the one that Envoy has',
    );
    atRest(t, mesh, agent);
  }
});

test('a new agent removes what Envoy has and does not list', async (t) => {
  const before = [cluster('a'), listener('l', 80)];
  const mesh = start(before, (_, name) => (name.startsWith('bad') ? 'no' : undefined));
  const { world, envoy, news } = mesh;
  world.set(...before, cluster('c'), cluster('bad'), listener('l2', 81), listener('bad-l', 82));
  while (!envoy.has('cluster').has('c')) envoy.deliver();
  t.notOk(envoy.recorded('cluster').has('c'), 'half applied, not recorded');
  envoy.disconnect();
  world.restart();
  world.set(...before);
  news();
  envoy.connect();
  envoy.run();
  t.strictSame(news(), ['cluster', 'endpoint c', 'listener', 'cluster -bad -c']);
  t.strictSame(names(envoy.has('cluster')), ['a']);
  t.strictSame(world.persisted()?.everSent.cluster, ['a'], 'forgotten once Envoy said so');
  atRest(t, mesh);
});

test('a name that has nothing is answered all the same, and gets what comes later', async (t) => {
  const uses = [cluster('a', '1s', 'svid'), listener('l', 80, { route: 'r', policy: 'p' })];
  const mesh = start(uses);
  const { world, envoy, news } = mesh;
  t.strictSame(envoy.has('endpoint').get('a'), { cluster_name: 'a' });
  t.strictSame(envoy.has('route').get('r'), { name: 'r' });
  t.strictSame(
    [names(envoy.has('extension')), names(envoy.has('secret'))],
    [[], []],
    'there are no empty ones of these',
  );
  t.ok(news().includes('secret -svid'));
  atRest(t, mesh);
  world.secret('svid', { certificateChainPem: 'c', privateKeyPem: 'k' });
  world.set(...uses, endpoint('a', 1), route('r', 'a'), policy('p', 'x'));
  envoy.run();
  t.match(body(mesh, 'endpoint', 'a'), '"port_value":1');
  t.match(body(mesh, 'route', 'r'), '"cluster":"a"');
  t.strictSame([names(envoy.has('extension')), names(envoy.has('secret'))], [['p'], ['svid']]);
  atRest(t, mesh);
});

test('endpoints that go away while the cluster stays are blanked; all else stays until its user goes', async (t) => {
  const uses = [cluster('a'), listener('l', 80, { route: 'r', policy: 'p' })];
  const mesh = start([...uses, endpoint('a', 1), route('r', 'a'), policy('p', 'x')]);
  mesh.news();
  mesh.world.set(...uses);
  mesh.envoy.run();
  t.strictSame(mesh.news(), ['endpoint a']);
  t.strictSame(mesh.envoy.has('endpoint').get('a'), { cluster_name: 'a' });
  atRest(t, mesh);
});

test('a changed EDS cluster is followed by its endpoints, at once', async (t) => {
  const mesh = start(SERVICE);
  mesh.news();
  mesh.world.set(cluster('a', '9s'), ...SERVICE.slice(1));
  t.strictSame(mesh.news(), ['cluster a', 'endpoint a']);
  mesh.envoy.run();
  atRest(t, mesh);
});

test('its endpoints were refused: the cluster is given the last good ones', async (t) => {
  const mesh = start(SERVICE, (type, _, json) =>
    type === 'endpoint' && JSON.stringify(json).includes('"port_value":666') ? 'no' : undefined,
  );
  mesh.world.set(cluster('a', '9s'), endpoint('a', 666), ...SERVICE.slice(2));
  mesh.envoy.run();
  t.equal(mesh.envoy.log.at(-1)?.type, 'endpoint');
  t.match(body(mesh, 'endpoint', 'a'), '"port_value":1');
  atRest(t, mesh);
});

test('responses under way are bounded; what changes meanwhile is sent as one', async (t) => {
  const mesh = start([cluster('a'), endpoint('a', 1)]);
  const { world, envoy, news } = mesh;
  news();
  for (let port = 2; port < 100; port++) world.set(cluster('a'), endpoint('a', port));
  t.equal(news().length, MAX_IN_FLIGHT);
  t.equal(world.stream().pending(), MAX_IN_FLIGHT);
  envoy.deliver();
  t.equal(news().length, 1, 'the newest only');
  envoy.run();
  t.match(body(mesh, 'endpoint', 'a'), '"port_value":99');
  atRest(t, mesh);
});

test('a response is about 1 MiB at most', async (t) => {
  const big = (name: string) => endpoint(name, ...Array.from({ length: 15_000 }, (_, i) => i + 1));
  const clusters = ['a', 'b', 'c', 'd', 'e'];
  const mesh = start(clusters.map((name) => cluster(name)));
  mesh.news();
  mesh.world.set(...clusters.map((name) => cluster(name)), ...clusters.map(big));
  const sizes = mesh.world.sent.map(({ entries }) => entries.reduce((sum, entry) => sum + entry.bytes.length, 0));
  t.ok(sizes.length > 1 && sizes.every((size) => size <= 1 << 20), sizes.join(' '));
  mesh.envoy.run();
  atRest(t, mesh);
});

test('the rotation of a secret touches SDS only', async (t) => {
  const mesh = start([cluster('a', '1s', 'svid'), ...SERVICE.slice(1)]);
  const { world, envoy, news } = mesh;
  world.secret('svid', { certificateChainPem: 'c1', privateKeyPem: 'k1' });
  envoy.run();
  news();
  world.secret('other', { certificateChainPem: 'c', privateKeyPem: 'k' });
  t.strictSame(news(), [], 'nobody asked for it');
  world.secret('svid', { certificateChainPem: 'c2', privateKeyPem: 'k2' });
  envoy.run();
  t.strictSame(news(), ['secret svid']);
  t.match(body(mesh, 'secret', 'svid'), 'k2');
  world.secret('svid', undefined);
  t.strictSame(news(), [], 'one that is gone stays with Envoy until its user goes');
  atRest(t, mesh);
});

test('a refused secret: the last good one stays, the next one ends the matter; none of it is persisted', async (t) => {
  const mesh = start([cluster('a', '1s', 'svid')], (_, __, json) =>
    JSON.stringify(json).includes('broken') ? 'no' : undefined,
  );
  const { world, envoy } = mesh;
  const rotate = (privateKeyPem: string) => {
    world.secret('svid', { certificateChainPem: 'c', privateKeyPem });
    envoy.run();
  };
  rotate('good');
  rotate('broken');
  t.match(body(mesh, 'secret', 'svid'), 'good');
  t.equal(world.ledger().refusals().length, 1);
  t.strictSame(world.persisted()?.lastGood, []);
  rotate('better');
  t.match(body(mesh, 'secret', 'svid'), 'better');
  t.strictSame(world.ledger().refusals(), []);
  atRest(t, mesh);
});

test('what cannot be encoded keeps its last good version', async (t) => {
  const mesh = start(SERVICE);
  const { world, envoy, news } = mesh;
  const broken: XdsResource = { ...cluster('a'), body: { name: 'a', typo: 1 } };
  news();
  world.set(broken, ...SERVICE.slice(1));
  envoy.run();
  t.strictSame(news(), [], 'nothing is sent, nor removed');
  atRest(t, mesh);
  envoy.disconnect();
  world.restart();
  world.set(broken, ...SERVICE.slice(1));
  const fresh = createFakeEnvoy({ messages, open: world.open });
  fresh.connect();
  fresh.run();
  t.strictSame(names(fresh.has('cluster')), ['a'], 'also for a new Envoy of a new agent');
});

test('removed, given back, removed again before Envoy said a word', async (t) => {
  const mesh = start([cluster('a'), cluster('b')]);
  const { world, envoy } = mesh;
  world.set(cluster('a'));
  world.set(cluster('a'), cluster('b'));
  world.set(cluster('a'));
  world.elapse(GATE_MS);
  envoy.run();
  t.strictSame(names(envoy.has('cluster')), ['a']);
  t.strictSame(world.persisted()?.everSent.cluster, ['a']);
  atRest(t, mesh);
});

test('requests that a well-behaved Envoy sends seldom', async (t) => {
  const { world, news } = start(SERVICE);
  const ask = world.open(() => {});
  const request = (type: ResourceType, part: Partial<DeltaRequest> = {}): string[] => {
    news();
    const base = { nodeId: '', subscribe: [], unsubscribe: [], initialVersions: {}, nonce: '', error: undefined };
    ask({ typeUrl: TYPE_URLS[type], ...base, ...part });
    return news();
  };
  t.strictSame(request('cluster', { subscribe: ['*'] }), ['cluster a']);
  t.strictSame(request('endpoint', { subscribe: ['a'] }), ['endpoint a']);
  t.strictSame(request('endpoint', { subscribe: ['a'] }), ['endpoint a'], 'asked again, answered again');
  t.strictSame(request('endpoint', { subscribe: ['gone'] }), ['endpoint gone']);
  t.strictSame(request('endpoint', { nonce: '4' }), []);
  t.strictSame(request('endpoint', { subscribe: ['gone'] }), ['endpoint gone'], 'held, absent, asked again: answered');
  t.strictSame(request('endpoint', { unsubscribe: ['a'] }), []);
  t.strictSame(request('endpoint', { subscribe: ['a'], unsubscribe: ['gone'] }), ['endpoint a']);
  t.strictSame(request('endpoint', { nonce: 'never sent', error: 'no' }), [], 'an unknown nonce is nothing');
  ask({ ...({} as DeltaRequest), typeUrl: 'type.googleapis.com/no.Such', nonce: '1' });
  t.strictSame(news(), [], 'a type that is not served is passed over');
  t.strictSame(request('cluster', { nonce: '1', error: 'no' }), []);
  t.match(world.ledger().refusals(), [{ message: 'no' }], 'a single one refused needs no second try');
});

test('two Envoys of a hot restart: each has its own versions', async (t) => {
  const { world, envoy } = start(SERVICE);
  const second = createFakeEnvoy({ messages, open: world.open });
  second.connect();
  second.run();
  world.set(cluster('b'), endpoint('b', 1), listener('l', 80, { route: 'r' }), route('r', 'b'));
  for (let i = 0; i < 10; i++) for (const one of [envoy, second]) one.run();
  for (const one of [envoy, second]) {
    t.strictSame(names(one.has('cluster')), ['b']);
    t.strictSame(names(one.has('listener')), ['l']);
    t.strictSame(one.unanswered(), []);
  }
});
