// One route table for several workloads: each one's requests go where its own table would take them, and no listener follows what sets them apart.
import { test } from 'tap';
import type { JsonObject } from '../../../../agent/translate/json.ts';
import { type Column, mergeColumns } from '../../../../agent/translate/route-table.ts';
import { translate } from '../../../../agent/translate/translate.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { seeded } from '../../../fakes/seeded.ts';
import { group, meshView, object, service, type TestMesh } from '../mesh-view/build-mesh.ts';
import { simulate } from './simulate.ts';

const host = (name: string, domains: readonly string[], ...routes: readonly string[]): JsonObject => ({
  name,
  domains,
  routes: routes.map((route) => ({ name: route, match: { prefix: '/' } })),
});

// biome-ignore lint/suspicious/noExplicitAny: the bodies are Envoy's
type Body = any;

/** The name of the route that a request of `caller` takes. */
function taken(hosts: readonly JsonObject[], caller: string, authority: string): string | undefined {
  let best: { readonly length: number; readonly host: Body } | undefined;
  for (const candidate of hosts as readonly Body[])
    for (const domain of candidate.domains as readonly string[]) {
      const fits =
        domain === authority || (domain.startsWith('*') && authority.endsWith(domain.slice(1)) && domain !== authority);
      const length = domain === authority ? 1000 : domain.length;
      if (fits && length > (best?.length ?? 0)) best = { length, host: candidate };
    }
  const route = best?.host.routes.find(({ match }: Body) =>
    (match.headers ?? []).every(({ name, string_match }: Body) => {
      if (name !== 'x-hostmesh-workload') throw new Error(name);
      const { exact, safe_regex } = string_match;
      return exact === undefined ? new RegExp(`^(?:${safe_regex.regex})$`).test(caller) : caller === exact;
    }),
  );
  return route?.name;
}

test('the merged table leads each caller where its own does', async (t) => {
  const random = seeded(3);
  const pool = ['a', 'b', 'x.c', 'y.x.c', '*.c', '*.x.c', '[::1]'];
  const asked = ['a', 'b', 'x.c', 'y.x.c', 'z.x.c', 'z.c', '[::1]', 'nobody'];
  for (let round = 0; round < 300; round++) {
    const columns = ['one', 'two', 'th.ree'].map((caller): Column => {
      const domains = pool.filter(() => random() < 0.6);
      const hosts = domains.map((domain, i) => host(`h${i % 3}`, [domain], `${domain}-${Math.floor(random() * 2)}`));
      return { caller, hosts: [...hosts, host('unknown', ['*'], `any-${Math.floor(random() * 2)}`)] };
    });
    const merged = mergeColumns(columns);
    for (const { caller, hosts } of columns)
      for (const authority of asked)
        if (taken(merged, caller, authority) !== taken(hosts, caller, authority))
          t.fail(`round ${round}: ${caller} asks for ${authority}`);
    const domains = merged.flatMap((one) => one.domains as string[]);
    if (new Set(domains).size !== domains.length) t.fail(`round ${round}: a domain twice`);
    if (new Set(merged.map(({ name }) => name)).size !== merged.length) t.fail(`round ${round}: a name twice`);
  }
  t.pass();
});

test('columns that agree are the table as it is', async (t) => {
  const hosts = [host('a', ['a'], 'r'), host('unknown', ['*'], 'u')];
  t.equal(mergeColumns([{ caller: 'one', hosts }]), hosts);
  t.equal(
    mergeColumns([
      { caller: 'one', hosts },
      { caller: 'two', hosts: structuredClone(hosts) },
    ]),
    hosts,
  );
  t.same(mergeColumns([]), []);
});

test('a host on which all agree stays the same object beside one that sets them apart', async (t) => {
  const same = host('a', ['a', 'a.b'], 'r');
  const all = host('unknown', ['*'], 'u');
  const merged = mergeColumns([
    { caller: 'one', hosts: [same, host('b', ['b'], 'x'), all] },
    { caller: 'two', hosts: [same, host('b', ['b'], 'y'), all] },
  ]);
  t.equal(merged[0], same);
  t.equal(merged[2], all);
  t.equal(merged.length, 3);
});

const MESH: TestMesh = {
  hosts: [
    { id: 'a', addresses: ['10.0.0.1'], groups: ['default/web', 'default/job', 'shop/till'] },
    { id: 'b', addresses: ['10.0.0.2'], groups: ['default/one', 'default/two'] },
  ],
  self: 'a',
  objects: [
    group('web', {}),
    group('job', {}),
    group('till', {}, { namespace: 'shop' }),
    group('one', { http: 80 }),
    group('two', { http: 80 }),
    service('one', [{ name: 'http', port: 80 }]),
    service('two', [{ name: 'http', port: 80 }]),
  ],
  vips: {
    'one.default.svc.cluster.local': { v4: '240.240.0.1', v6: 'fd6d:6573:6800::1' },
    'two.default.svc.cluster.local': { v4: '240.240.0.2', v6: 'fd6d:6573:6800::2' },
  },
};
const ONE = 'outbound_.80_._.one.default.svc.cluster.local';
const TWO = 'outbound_.80_._.two.default.svc.cluster.local';
const APART: Readonly<Record<string, MeshObject>> = {
  sourceLabels: object('VirtualService', 'apart', {
    hosts: ['one'],
    http: [
      { match: [{ sourceLabels: { app: 'web' } }], route: [{ destination: { host: 'two' } }] },
      { route: [{ destination: { host: 'one' } }] },
    ],
  }),
  mirror: object('VirtualService', 'apart', {
    hosts: ['one'],
    http: [{ route: [{ destination: { host: 'two' } }], mirror: { host: 'one' } }],
  }),
  Sidecar: object('Sidecar', 'apart', {
    workloadSelector: { labels: { app: 'web' } },
    egress: [{ hosts: ['./two.default.svc.cluster.local'] }],
    outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' },
  }),
};

/** Virtual hosts of namespace default at port 80. */
function hostsOf(mesh: TestMesh): Body[] {
  const table: Body = translate(meshView(mesh)).resources.route.get('outbound_.80_.default');
  return table.body.virtual_hosts;
}

/** The cluster, or the status, that a workload's request for a host meets. */
function asked(objects: readonly MeshObject[], listener: number, name: string): unknown {
  const set = translate(meshView({ ...MESH, objects: [...MESH.objects, ...objects] }));
  const { clusters, answer } = simulate(set, { listener, address: '240.240.0.1', port: 80, http: { host: name } });
  return clusters === undefined ? answer : Object.keys(clusters)[0];
}

test('what sets workloads of one namespace apart holds for each of them', async (t) => {
  const web = 15001;
  const job = 15100;
  const both = (objects: readonly MeshObject[], name: string) => [asked(objects, web, name), asked(objects, job, name)];
  t.same(both([], 'one'), [ONE, ONE]);
  t.same(both([APART.sourceLabels as MeshObject], 'one'), [TWO, ONE]);
  t.same(both([APART.sourceLabels as MeshObject], 'two'), [TWO, TWO]);
  t.same(both([APART.Sidecar as MeshObject], 'one'), [502, ONE]);
  t.same(both([APART.Sidecar as MeshObject], 'two'), [TWO, TWO]);
  const hosts = hostsOf({ ...MESH, objects: [...MESH.objects, APART.mirror as MeshObject] });
  t.same(
    hosts
      .find((one) => one.name === 'one.default.svc.cluster.local:80')
      .routes.map(({ match, route }: Body) => [
        match.headers[0].string_match,
        route.request_mirror_policies[0].cluster,
      ]),
    ['web', 'job'].map((name) => [{ exact: name }, `${ONE}~mirror@spiffe://mesh.test/ns/default/sa/${name}`]),
    'each under its own identity',
  );
});

test('one table a namespace; its name, and so the listeners, do not follow what sets workloads apart', async (t) => {
  const plain = translate(meshView(MESH));
  t.same([...plain.resources.route.keys()], ['outbound_.80_.default', 'outbound_.80_.shop']);
  for (const [what, apart] of Object.entries(APART)) {
    const set = translate(meshView({ ...MESH, objects: [...MESH.objects, apart] }));
    t.same(
      [...set.resources.listener].map(([name, item]) => [name, item.body]),
      [...plain.resources.listener].map(([name, item]) => [name, item.body]),
      what,
    );
    t.same([...set.resources.route.keys()], [...plain.resources.route.keys()], what);
    t.not(JSON.stringify([...set.resources.route]), JSON.stringify([...plain.resources.route]), what);
  }
});

test('what the mesh says of a caller comes with its requests, and leaves the mesh with none', async (t) => {
  const outside = object('ServiceEntry', 'out', {
    hosts: ['out.example'],
    ports: [{ number: 80, name: 'http', protocol: 'HTTP' }],
    resolution: 'DNS',
    location: 'MESH_EXTERNAL',
  });
  const split = object('VirtualService', 'split', {
    hosts: ['two'],
    http: [
      {
        route: [
          { destination: { host: 'two' }, weight: 50 },
          { destination: { host: 'out.example' }, weight: 50 },
        ],
      },
    ],
  });
  const vips = { ...MESH.vips, 'out.example': { v4: '240.240.0.3', v6: 'fd6d:6573:6800::3' } };
  const hosts = hostsOf({ ...MESH, vips, objects: [...MESH.objects, outside, split] });
  const first = (name: string) => hosts.find((one) => one.name === `${name}:80`).routes[0];
  const removed = ['x-hostmesh-protocol', 'x-hostmesh-workload', 'x-hostmesh-app', 'x-hostmesh-version'];
  t.same(first('out.example').request_headers_to_remove, removed);
  t.notOk(first('one.default.svc.cluster.local').request_headers_to_remove);
  t.notOk(first('one.default.svc.cluster.local').request_headers_to_add);
  const [two, out] = first('two.default.svc.cluster.local').route.weighted_clusters.clusters;
  t.notOk(two.request_headers_to_remove);
  t.same(out.request_headers_to_remove, removed);
  const unknown = hosts.find((one) => one.name === 'unknown').routes[0];
  t.same(
    unknown.request_headers_to_remove,
    removed.slice(1),
    'only the version, which an application of the mesh needs',
  );
});
