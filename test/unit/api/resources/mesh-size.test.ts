// What objects ask of every host's proxy, counted before they are taken.
import t from 'tap';
import { clustersByNamespace, isSmall } from '../../../../api/resources/mesh-size.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';

function count(...objects: readonly (readonly [kind: string, name: string, spec: object])[]): number {
  const all = objects.map(
    ([kind, name, spec]) => ({ apiVersion: 'x/v1', kind, metadata: { name, namespace: 'evil' }, spec }) as MeshObject,
  );
  const list = (kind: string) => all.filter((object) => object.kind === kind);
  return clustersByNamespace({ list }).get('evil') ?? 0;
}
const ports = (many: number) => Array.from({ length: many }, (_, i) => ({ number: i + 1, name: `p${i}` }));
const rules = (many: number, more: object = {}) =>
  Array.from({ length: many }, (_, i) => ({ match: [{ uri: { prefix: `/${i}` } }], ...more }));
const hosts = (many: number) => Array.from({ length: many }, (_, i) => `h${i}.evil.svc.cluster.local`);
const ring = (consistentHash: object, subsets = 0) => ({
  host: 'h0',
  trafficPolicy: { loadBalancer: { consistentHash } },
  subsets: Array.from({ length: subsets }, (_, i) => ({ name: `s${i}` })),
});

t.test('routes count by host, match, port and delegate', async (t) => {
  t.equal(count(['VirtualService', 'v', { hosts: ['a'], http: rules(9) }]), 0, 'a few cost nothing');
  t.equal(count(['VirtualService', 'v', { hosts: hosts(1000), http: rules(5000) }]), 500_000);
  t.equal(count(['VirtualService', 'v', { hosts: ['a'], http: [{ match: Array(50).fill({}) }] }]), 5);
  const service = ['ServiceEntry', 's', { hosts: hosts(100), ports: ports(2) }] as const;
  t.equal(count(service), 200);
  t.equal(count(service, ['VirtualService', 'v', { hosts: ['*.evil.svc.cluster.local'], http: rules(100) }]), 2200);
  t.equal(count(service, ['VirtualService', 'v', { hosts: ['*9.evil.svc.cluster.local'], http: rules(100) }]), 400);
  t.equal(count(service, ['VirtualService', 'v', { hosts: ['h7'], http: rules(100) }]), 220);
  const delegate = ['VirtualService', 'd', { http: rules(1000) }] as const;
  t.equal(count(delegate), 0);
  t.equal(count(delegate, ['VirtualService', 'r', { hosts: ['a'], http: rules(4, { delegate: { name: 'd' } }) }]), 400);
  const match = [{ uri: { regex: '/a' }, headers: { regex: { regex: 'b' } } }];
  const regex = { match, rewrite: { uriRegexRewrite: { match: '/a', rewrite: '' } }, corsPolicy: { allowOrigins: [] } };
  t.equal(count(['VirtualService', 'v', { hosts: ['a'], http: [regex] }]), 15, 'expressions are dear');
  t.equal(count(['VirtualService', 'v', { hosts: ['a'], tcp: rules(7) }]), 7, 'a rule for bytes is a chain');
});

t.test('hash rings count by their places, for each cluster that has one', async (t) => {
  const service = ['ServiceEntry', 's', { hosts: hosts(1), ports: ports(2) }] as const;
  for (const [hash, subsets, wanted] of [
    [{ useSourceIp: true }, 0, 2],
    [{ ringHash: { minimumRingSize: 1024 } }, 0, 2],
    [{ ringHash: { minimumRingSize: 8_388_608 } }, 0, 2 + 2 * 8191],
    [{ minimumRingSize: 2048 }, 3, 2 + 6 + 8],
    [{ maglev: { tableSize: 65_537 } }, 0, 2 + 2 * 16],
  ] as const)
    t.equal(count(service, ['DestinationRule', 'r', ring(hash, subsets)]), wanted, JSON.stringify(hash));
  const inside = { host: 'h0', subsets: [{ name: 's', trafficPolicy: ring({ minimumRingSize: 2048 }).trafficPolicy }] };
  t.equal(count(service, ['DestinationRule', 'r', inside]), 2 + 2 + 4, 'also of a subset');
});

t.test('which VirtualServices are too small to count the mesh for', async (t) => {
  const small = (spec: object) =>
    isSmall({ apiVersion: 'x/v1', kind: 'VirtualService', metadata: { name: 'v' }, spec });
  t.equal(small({ hosts: ['a'], http: rules(10) }), true);
  t.equal(small({ hosts: ['a'], tcp: [{}] }), true);
  for (const spec of [
    { hosts: ['a'], http: rules(11) },
    { hosts: ['a', 'b'], http: rules(6) },
    { hosts: ['*.a.b'], http: rules(1) },
    { hosts: ['a'], http: [{ delegate: { name: 'd' } }] },
    { http: rules(1) },
    { hosts: ['a'], tcp: [{}, {}] },
  ])
    t.equal(small(spec), false, JSON.stringify(spec).slice(0, 60));
});
