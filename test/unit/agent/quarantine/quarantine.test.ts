import t from 'tap';
import {
  EMPTY,
  effective,
  judge,
  type Quarantine,
  type Refusal,
  sameQuarantine,
} from '../../../../agent/quarantine/quarantine.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import type { DesiredConfig } from '../../../../api/signed-config/desired-config.ts';

const object = (name: string, value: string): [string, MeshObject] => [
  `VirtualService/default/${name}`,
  {
    apiVersion: 'networking.istio.io/v1',
    kind: 'VirtualService',
    metadata: { name, namespace: 'default' },
    spec: { value },
  },
];
const config = (generation: number, values: Record<string, string>): DesiredConfig => ({
  generation,
  trustDomain: 'td',
  objects: new Map(Object.entries(values).map(([name, value]) => object(name, value))),
  hosts: new Map(),
  revokedHosts: new Set(),
  vips: new Map(),
  anchors: new Map(),
  minCapability: 1,
});

/** Envoy as this test has it: all objects share one route table, which is refused while any value starts with `bad`. */
function envoy(pushed: DesiredConfig): Refusal[] {
  const bad = [...pushed.objects.values()].some((o) => (o.spec as { value: string }).value.startsWith('bad'));
  return bad
    ? [{ typeUrl: 'route', resource: '9080', origins: [...pushed.objects.keys()], message: 'no such command' }]
    : [];
}

/** Pushes until the state is steady; returns the values that are live then. */
function settle(desired: DesiredConfig, start: Quarantine, good: DesiredConfig | undefined) {
  let state = start;
  let pushes = 0;
  for (; pushes < 20; pushes++) {
    const pushed = effective(desired, state, good);
    const next = judge(desired, state, good, envoy(pushed));
    if (sameQuarantine(next, state)) {
      const live = Object.fromEntries(
        [...pushed.objects.values()].map((o) => [o.metadata.name, (o.spec as { value: string }).value]),
      );
      return { state: next, live, pushes, pushed };
    }
    state = next;
  }
  throw new Error('never steady');
}

t.test('one bad among three: the bad one keeps its last good version, the others go live', async (t) => {
  const good = config(1, { a: '1', b: '1', c: '1', d: '1' });
  const cases: [string, Record<string, string>, Record<string, string>, string[]][] = [
    ['three changed, one bad', { a: '2', b: 'bad', c: '2', d: '1' }, { a: '2', b: '1', c: '2', d: '1' }, ['b']],
    ['a new one is bad', { a: '1', b: '1', c: '1', d: '1', e: 'bad' }, { a: '1', b: '1', c: '1', d: '1' }, ['e']],
    ['two bad', { a: 'bad', b: '2', c: 'bad', d: '1' }, { a: '1', b: '2', c: '1', d: '1' }, ['a', 'c']],
    ['none bad', { a: '2', b: '2', c: '2', d: '2' }, { a: '2', b: '2', c: '2', d: '2' }, []],
  ];
  for (const [name, values, live, held] of cases) {
    const end = settle(config(2, values), EMPTY, good);
    t.same(end.live, live, name);
    t.same([...end.state.held.values()].map((h) => h.key.split('/')[2]).sort(), held, name);
    t.same(end.state.suspects, [], name);
  }
});

t.test(
  'a held object stays held without another trial, also over a restart; a changed or deleted one is let go',
  async (t) => {
    const good = config(1, { a: '1', b: '1' });
    const desired = config(2, { a: '2', b: 'bad' });
    const { state } = settle(desired, EMPTY, good);
    t.match(
      [...state.held.values()],
      [{ key: 'VirtualService/default/b', message: 'no such command', lastGood: { spec: { value: '1' } } }],
    );
    const restarted = settle(desired, state, undefined);
    t.same([restarted.pushes, restarted.live], [0, { a: '2', b: '1' }]);
    t.same(settle(config(3, { a: '2', b: '3' }), state, good).live, { a: '2', b: '3' }, 'mended');
    t.same(settle(config(3, { a: '2' }), state, good).live, { a: '2' }, 'deleted');
    t.equal(settle(config(3, { a: '2' }), state, good).state.held.size, 0);
    t.same(settle(config(3, { a: '2', b: 'bad again' }), state, good).live, { a: '2', b: '1' }, 'bad in another way');
  },
);

t.test('without any good config a bad object is left out', async (t) => {
  const end = settle(config(1, { a: '1', b: 'bad' }), EMPTY, undefined);
  t.same(end.live, { a: '1' });
});

t.test('a refusal that no changed object explains holds nothing back', async (t) => {
  const same = config(1, { a: 'bad' });
  t.equal(judge(same, EMPTY, same, envoy(same)).held.size, 0);
});
