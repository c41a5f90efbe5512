import { test } from 'tap';
import type { LocalityLbSpec } from '../../../../agent/mesh-view/specs/common.ts';
import type { EndpointView } from '../../../../agent/mesh-view/view.ts';
import { localityGroups, localitySetting, type Site, weighsLocalities } from '../../../../agent/translate/locality.ts';

function endpoint(locality: string, labels: Record<string, string> = {}, weight = 1): EndpointView {
  const id = `h-${locality.replaceAll('/', '-')}/default/x`;
  return {
    id,
    addresses: ['10.0.0.1'],
    ports: {},
    labels,
    locality,
    weight,
    health: 'healthy',
    namespace: 'default',
    workload: 'x',
  };
}

const site = (locality: string, labels: Record<string, string> = {}): Site => ({
  locality,
  labels,
  host: 'me',
  network: 'n1',
});

interface Row {
  readonly what: string;
  readonly client: Site;
  readonly endpoints: readonly EndpointView[];
  readonly setting: LocalityLbSpec | undefined;
  readonly failover?: boolean;
  /** `LOCALITY PRIORITY WEIGHT`. */
  readonly expected: readonly string[];
}

const PLACES = ['eu/a/1', 'eu/a/2', 'eu/b/1', 'us/c', 'ap'].map((place) => endpoint(place));

const ROWS: readonly Row[] = [
  {
    what: 'same sub-zone, zone, region, elsewhere',
    client: site('eu/a/1'),
    endpoints: PLACES,
    setting: {},
    expected: ['eu/a/1 0 1', 'eu/a/2 1 1', 'eu/b/1 2 1', 'ap 3 1', 'us/c 3 1'],
  },
  {
    what: 'priorities have no gaps',
    client: site('eu/a/1'),
    endpoints: [endpoint('us/c'), endpoint('eu/b')],
    setting: {},
    expected: ['eu/b 0 1', 'us/c 1 1'],
  },
  {
    what: 'a client in a zone, endpoints in its sub-zones: the zone is the same, the sub-zone is not',
    client: site('eu/a'),
    endpoints: [endpoint('eu/a/1'), endpoint('eu/a')],
    setting: {},
    expected: ['eu/a 0 1', 'eu/a/1 1 1'],
  },
  {
    what: 'without outlier detection nothing fails over',
    client: site('eu/a/1'),
    endpoints: PLACES.slice(0, 2),
    setting: {},
    failover: false,
    expected: ['eu/a/1 0 1', 'eu/a/2 0 1'],
  },
  {
    what: 'switched off',
    client: site('eu/a/1'),
    endpoints: PLACES.slice(0, 2),
    setting: undefined,
    expected: ['eu/a/1 0 1', 'eu/a/2 0 1'],
  },
  {
    what: 'a client that does not know its place prefers nobody',
    client: site(''),
    endpoints: [endpoint('eu/a'), endpoint('')],
    setting: {},
    expected: [' 0 1', 'eu/a 0 1'],
  },
  {
    what: 'failover names the region that comes next',
    client: site('eu/a/1'),
    endpoints: PLACES,
    setting: {
      failover: [
        { from: 'us', to: 'eu' },
        { from: 'eu', to: 'us' },
      ],
    },
    expected: ['eu/a/1 0 1', 'eu/a/2 1 1', 'eu/b/1 2 1', 'us/c 3 1', 'ap 4 1'],
  },
  {
    what: 'failoverPriority: all labels, then fewer, in their order',
    client: site('', { tier: 'front', ring: '1' }),
    endpoints: [
      endpoint('x', { tier: 'front', ring: '1' }),
      endpoint('x', { tier: 'front', ring: '2' }),
      endpoint('x', { ring: '1' }),
      endpoint('y', { tier: 'front', ring: '1' }, 5),
    ],
    setting: { failoverPriority: ['tier', 'ring'] },
    expected: ['x 0 1', 'y 0 5', 'x 1 1', 'x 2 1'],
  },
  {
    what: 'failoverPriority with values does not ask the client',
    client: site('', { tier: 'front' }),
    endpoints: [endpoint('x', { tier: 'front' }), endpoint('y', { tier: 'back' })],
    setting: { failoverPriority: ['tier=back'] },
    expected: ['y 0 1', 'x 1 1'],
  },
  {
    what: 'labels of places: region, zone, sub-zone, network, host',
    client: site('eu/a/1'),
    endpoints: [
      endpoint('us/a/1', { 'topology.istio.io/network': 'n2' }),
      endpoint('eu/b/1'),
      endpoint('eu/a/1'),
      endpoint('eu/a/2'),
      endpoint('us/a/1'),
    ],
    setting: {
      failoverPriority: [
        'topology.istio.io/network',
        'topology.kubernetes.io/region',
        'topology.kubernetes.io/zone',
        'topology.istio.io/subzone',
      ],
    },
    expected: ['eu/a/1 0 1', 'eu/a/2 1 1', 'eu/b/1 2 1', 'us/a/1 3 1', 'us/a/1 4 1'],
  },
  {
    what: 'failover within failoverPriority',
    client: site('eu/a', { tier: 'front' }),
    endpoints: [endpoint('us/c', { tier: 'front' }), endpoint('eu/a'), endpoint('ap', { tier: 'front' })],
    setting: { failoverPriority: ['tier'], failover: [{ from: 'eu', to: 'us' }] },
    expected: ['us/c 0 1', 'ap 1 1', 'eu/a 2 1'],
  },
  {
    what: 'distribute: shares of localities, by the weight of each where one share is for several; the rest get nothing',
    client: site('eu/a/1'),
    endpoints: [endpoint('eu/a/1', {}, 3), endpoint('eu/a/2'), endpoint('us/c'), endpoint('ap')],
    setting: { distribute: [{ from: 'eu/a/*', to: { 'eu/*': 80, 'us/c': 20 } }] },
    failover: false,
    expected: ['eu/a/1 0 60', 'eu/a/2 0 20', 'us/c 0 20'],
  },
  {
    what: 'distribute: the exact place before the wildcard around it',
    client: site('eu/a/1'),
    endpoints: [endpoint('eu/a/1'), endpoint('eu/b/1')],
    setting: { distribute: [{ from: '*', to: { 'eu/*': 10, 'eu/a/1': 90 } }] },
    expected: ['eu/a/1 0 90', 'eu/b/1 0 10'],
  },
  {
    what: 'distribute: the first `from` that fits',
    client: site('eu/a/1'),
    endpoints: [endpoint('eu/a/1'), endpoint('us/c')],
    setting: {
      distribute: [
        { from: 'us', to: { 'us/c': 100 } },
        { from: 'eu/*', to: { 'eu/a/1': 100 } },
        { from: '*', to: { 'us/c': 100 } },
      ],
    },
    expected: ['eu/a/1 0 100'],
  },
  {
    what: 'distribute: none fits, nothing is said',
    client: site('ap'),
    endpoints: [endpoint('eu/a/1', {}, 2), endpoint('us/c')],
    setting: { distribute: [{ from: 'us', to: { 'us/c': 100 } }] },
    expected: ['eu/a/1 0 2', 'us/c 0 1'],
  },
];

test('endpoints by locality and priority', async (t) => {
  for (const { what, client, endpoints, setting, failover = true, expected } of ROWS) {
    const groups = localityGroups(endpoints, setting, failover, client);
    t.same(
      groups.map(({ locality, priority, weight }) => `${locality} ${priority} ${weight}`),
      expected,
      what,
    );
  }
});

test('the rule’s setting stands whole in place of the mesh’s; `enabled: false` is none', async (t) => {
  const mesh: LocalityLbSpec = { failover: [{ from: 'a', to: 'b' }] };
  t.same(localitySetting(undefined, mesh), mesh);
  t.same(localitySetting({ enabled: true }, mesh), { enabled: true });
  t.equal(localitySetting({ enabled: false }, mesh), undefined);
  t.equal(localitySetting(undefined, { enabled: false }), undefined);
  t.same(localitySetting(undefined, undefined), {});
  t.same(localitySetting({ failoverPriority: ['x'] }, { enabled: false }), { failoverPriority: ['x'] });
});

test('a cluster weighs localities only where it must', async (t) => {
  const rows: readonly (readonly [LocalityLbSpec | undefined, boolean, boolean])[] = [
    [undefined, true, false],
    [{}, true, false],
    [{ distribute: [] }, true, false],
    [{ distribute: [{ from: '*', to: { '*': 100 } }] }, false, true],
    [{ failover: [{ from: 'a', to: 'b' }] }, true, true],
    [{ failover: [{ from: 'a', to: 'b' }] }, false, false],
    [{ failoverPriority: ['x'] }, true, true],
  ];
  for (const [setting, failover, expected] of rows) t.equal(weighsLocalities(setting, failover), expected);
});
