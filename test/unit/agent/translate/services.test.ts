// Where calls to services of every sort go, by the generated config.
import { test } from 'tap';
import { translate } from '../../../../agent/translate/translate.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { group, meshView, object, type TestHost, type TestMesh } from '../mesh-view/build-mesh.ts';
import { type Call, simulate } from './simulate.ts';

const HOSTS: readonly TestHost[] = [
  { id: 'a', addresses: ['10.0.0.1'], groups: ['default/web'] },
  { id: 'b', addresses: ['10.0.0.2'], groups: ['default/db'] },
];
const BASE = [group('web', {}), group('db', { tcp: 5432, http: 9080 })];
const ANY = '203.0.113.9';

function setOf(objects: readonly MeshObject[], more: Partial<TestMesh> = {}) {
  return translate(meshView({ objects: [...BASE, ...objects], hosts: HOSTS, ...more }));
}
const entry = (name: string, host: string, ports: object[], more: object = {}) =>
  object('ServiceEntry', name, { hosts: [host], ports, ...more });
const HTTP = { number: 80, name: 'http', protocol: 'HTTP' };
const HEADLESS = object('Service', 'db', {
  clusterIP: 'None',
  selector: { app: 'db' },
  ports: [
    { name: 'tcp', port: 5432 },
    { name: 'http', port: 80, targetPort: 9080 },
  ],
});
const ROWS: readonly MeshObject[] = [
  HEADLESS,
  entry('d', '*.d.test', [HTTP, { number: 443, name: 'tls', protocol: 'TLS' }], { resolution: 'DYNAMIC_DNS' }),
  entry('n', '*.n.test', [
    HTTP,
    { number: 443, name: 'tls', protocol: 'TLS' },
    { number: 90, name: 't', protocol: 'TCP' },
  ]),
  entry('r', 'r.test', [{ number: 90, name: 't', protocol: 'MYSQL' }], { addresses: ['198.51.100.0/24'] }),
  entry('s', '*.s.test', [{ number: 91, name: 't', protocol: 'TCP' }], { addresses: ['198.51.100.0/24'] }),
];

test('which cluster a call meets', async (t) => {
  const set = setOf(ROWS);
  const cases: readonly (readonly [Omit<Call, 'listener'>, string])[] = [
    [{ address: '10.0.0.2', port: 5432 }, 'outbound_.5432_._.db.default.svc.cluster.local~direct'],
    [{ address: '10.0.0.2', port: 80, http: { host: 'db' } }, 'outbound_.80_._.db.default.svc.cluster.local~direct'],
    [{ address: '10.0.0.2', port: 9080, http: { host: 'who' } }, 'outbound_.80_._.db.default.svc.cluster.local~direct'],
    [{ address: '10.0.0.9', port: 5432 }, 'PassthroughCluster'],
    [{ address: ANY, port: 80, http: { host: 'one.d.test' } }, 'outbound_.80_._.*.d.test'],
    [{ address: ANY, port: 80, http: { host: 'two.n.test' } }, 'outbound_.80_._.*.n.test'],
    [{ address: ANY, port: 80, http: { host: 'x.test' } }, 'PassthroughCluster'],
    [{ address: ANY, port: 443, sni: 'one.d.test' }, 'outbound_.443_._.*.d.test'],
    [{ address: ANY, port: 443, sni: 'two.n.test' }, 'outbound_.443_._.*.n.test'],
    [{ address: ANY, port: 443, sni: 'x.test' }, 'PassthroughCluster'],
    [{ address: ANY, port: 90 }, 'outbound_.90_._.*.n.test'],
    [{ address: '198.51.100.7', port: 90 }, 'outbound_.90_._.r.test'],
    [{ address: '198.51.100.7', port: 91 }, 'outbound_.91_._.*.s.test'],
    [{ address: ANY, port: 91 }, 'PassthroughCluster'],
  ];
  for (const [call, cluster] of cases)
    t.same(Object.keys(simulate(set, { listener: 15001, ...call }).clusters ?? {}), [cluster], JSON.stringify(call));
});

test('a service that is resolved at request time is reached by its own names only', async (t) => {
  const to = [{ destination: { host: '*.d.test' } }];
  const vs = (name: string, host: string, rule: object = {}) =>
    object('VirtualService', name, { hosts: [host], http: [{ ...rule, route: to }] });
  const set = setOf([
    ...ROWS,
    vs('own', 'one.d.test'),
    vs('rewritten', 'two.d.test', { rewrite: { authority: 'three.d.test' } }),
    vs('away', 'four.d.test', { rewrite: { authority: 'three.x.test' } }),
    vs('foreign', 'one.n.test'),
  ]);
  for (const [host, cluster] of [
    ['one.d.test', 'outbound_.80_._.*.d.test'],
    ['two.d.test', 'outbound_.80_._.*.d.test'],
    ['four.d.test', 'BlackHoleCluster'],
    ['one.n.test', 'BlackHoleCluster'],
  ] as const) {
    const outcome = simulate(set, {
      listener: 15001,
      address: ANY,
      port: 80,
      http: { host, headers: { ':authority': host } },
    });
    t.same(Object.keys(outcome.clusters ?? {}), [cluster], host);
  }
});

test('an endpoint of a headless service that comes or goes leaves all other chains as they are', async (t) => {
  type Chain = { name: string };
  const chains = (hosts: readonly TestHost[]) => {
    const body = setOf([HEADLESS], { hosts }).resources.listener.get('outbound_15001')?.body;
    return new Map((body as { filter_chains: Chain[] }).filter_chains.map((one) => [one.name, JSON.stringify(one)]));
  };
  const before = chains(HOSTS);
  const after = chains([...HOSTS, { id: 'c', addresses: ['10.0.0.3'], groups: ['default/db'] }]);
  t.equal(after.size, before.size + 3, 'two ports of HTTP, one of bytes');
  for (const [name, chain] of before) t.equal(after.get(name), chain, name);
});

test('trafficDistribution: nearest first, whoever is well; a DestinationRule’s own setting counts instead', async (t) => {
  const at = (name: string, locality: string) => group(name, { tcp: 5432 }, { app: 'db', locality });
  const hosts: readonly TestHost[] = [
    { id: 'a', addresses: ['10.0.0.1'], groups: ['default/web', 'default/db-a'] },
    { id: 'b', addresses: ['10.0.0.2'], groups: ['default/db-a'] },
    { id: 'c', addresses: ['10.0.0.3'], groups: ['default/db-b'] },
    { id: 'd', addresses: ['10.0.0.4'], groups: ['default/db-c'] },
  ];
  const priorities = (trafficDistribution: string | undefined, more: readonly MeshObject[] = []) => {
    const objects = [
      group('web', {}),
      at('db-a', 'eu/1'),
      at('db-b', 'eu/2'),
      at('db-c', 'us/1'),
      object('Service', 'db', { selector: { app: 'db' }, ports: [{ name: 'tcp', port: 5432 }], trafficDistribution }),
      ...more,
    ];
    const set = translate(meshView({ objects, hosts, locality: 'eu/1' }));
    const body = set.resources.endpoint.get('outbound_.5432_._.db.default.svc.cluster.local')?.body as {
      endpoints: { priority?: number; lb_endpoints: unknown[] }[];
    };
    return body.endpoints.map(({ priority = 0, lb_endpoints }) => `${priority}:${lb_endpoints.length}`);
  };
  t.strictSame(priorities(undefined), ['0:2', '0:1', '0:1']);
  for (const word of ['PreferClose', 'PreferSameZone']) t.strictSame(priorities(word), ['0:2', '1:1', '2:1'], word);
  t.strictSame(priorities('PreferSameNode'), ['0:1', '1:1', '2:1', '3:1']);
  const own = object('DestinationRule', 'db', {
    host: 'db',
    trafficPolicy: { loadBalancer: { localityLbSetting: { enabled: false } } },
  });
  t.strictSame(priorities('PreferClose', [own]), ['0:2', '0:1', '0:1']);
});

test('what the resolving clusters may never reach', async (t) => {
  const set = setOf([entry('d', '*.d.test', [HTTP], { resolution: 'DYNAMIC_DNS' })]);
  const text = JSON.stringify(set.resources.cluster.get('outbound_.80_._.*.d.test')?.body);
  for (const range of [
    '127.0.0.0',
    '::1',
    '169.254.0.0',
    'fe80::',
    '::ffff:0:0',
    '240.240.0.0',
    '10.0.0.1',
    '224.0.0.0',
  ])
    t.match(text, `"address_prefix":"${range}"`);
});

test('an address that only a WorkloadEntry names leads nobody else’s calls away', async (t) => {
  const evil = { namespace: 'evil' };
  const trap = (namespace: string) => [
    object(
      'Service',
      'h',
      {
        clusterIP: 'None',
        selector: { app: 'trap' },
        ports: [
          { name: 'tcp', port: 3306 },
          { name: 'http', port: 80 },
        ],
      },
      { namespace },
    ),
    object('WorkloadEntry', 'w', { address: '10.0.0.9', labels: { app: 'trap' } }, { namespace }),
  ];
  const own = `h.evil.svc.cluster.local`;
  const away = object(
    'VirtualService',
    'h',
    { hosts: [own], tcp: [{ route: [{ destination: { host: own } }] }] },
    evil,
  );
  const calls: readonly Omit<Call, 'listener'>[] = [
    { address: '10.0.0.9', port: 3306 },
    { address: '10.0.0.9', port: 80, http: { host: 'who' } },
  ];
  for (const [namespace, caught] of [
    ['evil', false],
    ['default', true],
    ['istio-system', true],
  ] as const) {
    const set = setOf([...trap(namespace), ...(namespace === 'evil' ? [away] : [])]);
    for (const call of calls) {
      const [cluster = ''] = Object.keys(simulate(set, { listener: 15001, ...call }).clusters ?? {});
      t.equal(cluster.includes(`h.${namespace}.`), caught, `${namespace} ${call.port}: ${cluster}`);
    }
  }
});

test('no endpoint serves at a port of the mesh’s own', async (t) => {
  const host = 'x.evil.svc.cluster.local';
  const view = meshView({
    objects: [
      ...BASE,
      object(
        'ServiceEntry',
        'x',
        {
          hosts: [host],
          resolution: 'DNS',
          ports: [15020, 15001, 15300, 80].map((number) => ({ number, name: `p${number}`, protocol: 'TCP' })),
          endpoints: [{ address: 'metrics.example' }],
        },
        { namespace: 'evil' },
      ),
    ],
    hosts: HOSTS,
  });
  const [endpoint] = view.services.find((one) => one.host === host)?.endpoints ?? [];
  t.same(Object.keys(endpoint?.ports ?? {}), ['80']);
});
