import t from 'tap';
import { type BindInput, bindWorkloads, dnsNamespaces } from '../../../../agent/workloads/bind.ts';
import { loadPortAssignment, savePortAssignment } from '../../../../agent/workloads/port-store.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';

const group = (name: string, ports: Record<string, number>, more: object = {}): [string, MeshObject] => {
  const [namespace = '', short = ''] = name.split('/');
  const spec = {
    metadata: { labels: { app: short, from: 'group' } },
    template: { ports, labels: { from: 'template' }, ...more },
  };
  return [
    `WorkloadGroup/${namespace}/${short}`,
    { apiVersion: 'networking.istio.io/v1', kind: 'WorkloadGroup', metadata: { name: short, namespace }, spec },
  ];
};
const bind = (name: string, user: string, execProbes: string[][] = []) => ({
  group: name,
  user,
  portOwners: [],
  execProbes,
});

const input = (part: Partial<BindInput> = {}): BindInput => ({
  gateways: [],
  bindings: [bind('shop/web', 'www'), bind('shop/cart', 'cart'), bind('data/db', 'pg')],
  objects: new Map([
    group('shop/web', { http: 8080, admin: 8081 }, { serviceAccount: 'web-sa' }),
    group('shop/cart', { http: 9090 }),
    group('data/db', { sql: 5432 }),
  ]),
  grant: { host: 'h', epoch: 1, workloadGroups: ['data/db', 'shop/cart', 'shop/web'], gossipAddresses: [] },
  trustDomain: 'mesh.test',
  uids: new Map([
    ['www', 33],
    ['cart', 1001],
    ['pg', 1002],
  ]),
  ownUids: new Set([998, 997]),
  ports: { outbound: 15001, dns: 15053 },
  reservedPorts: new Set([22, 15006]),
  defaultNamespace: 'default',
  assigned: {},
  health: (name) => (name === 'shop/cart' ? 'unhealthy' : 'healthy'),
  ...part,
});

t.test('joins binding, group and grant', async (t) => {
  const { workloads, problems, assigned } = bindWorkloads(input());
  t.strictSame(problems, []);
  t.strictSame(workloads[0], {
    group: 'shop/web',
    namespace: 'shop',
    serviceAccount: 'web-sa',
    spiffeId: 'spiffe://mesh.test/ns/shop/sa/web-sa',
    labels: { app: 'web', from: 'template' },
    user: 'www',
    uid: 33,
    outboundPort: 15001,
    dnsPort: 15053,
    ports: [
      { name: 'http', number: 8080 },
      { name: 'admin', number: 8081 },
    ],
    health: 'healthy',
  });
  t.strictSame(
    workloads.map((w) => [w.group, w.serviceAccount, w.outboundPort, w.dnsPort, w.health]),
    [
      ['shop/web', 'web-sa', 15001, 15053, 'healthy'],
      ['shop/cart', 'default', 15100, 15053, 'unhealthy'],
      ['data/db', 'default', 15101, 15054, 'healthy'],
    ],
  );
  t.strictSame(assigned, { 'shop/web': 15001, 'shop/cart': 15100, 'data/db': 15101 });
});

t.test('ports stay when agent.yaml changes; broken ones are given anew', async (t) => {
  const assigned = { 'data/db': 15101, 'shop/cart': 15100, 'gone/gone': 15001 };
  const turned = input({
    bindings: [bind('data/db', 'pg'), bind('shop/web', 'www'), bind('shop/cart', 'cart')],
    assigned,
  });
  t.strictSame(bindWorkloads(turned).assigned, { 'data/db': 15101, 'shop/cart': 15100, 'shop/web': 15001 });
  const broken = { 'shop/web': 80, 'shop/cart': 15150, 'data/db': 15150 };
  t.strictSame(bindWorkloads(input({ assigned: broken })).assigned, {
    'shop/web': 15001,
    'shop/cart': 15150,
    'data/db': 15100,
  });
  const many = Array.from({ length: 103 }, (_, i) => bind(`n/g${i}`, 'www'));
  const full = bindWorkloads(input({ bindings: many }));
  t.equal(Object.keys(full.assigned).length, 101);
  t.match(
    full.problems.filter((p) => p.code === 'NO_OUTBOUND_PORT').map((p) => p.group),
    ['n/g101', 'n/g102'],
  );
});

t.test('not served, and why', async (t) => {
  for (const [part, code, name] of [
    [{ grant: undefined }, 'NOT_GRANTED', 'no grant'],
    [{ grant: { ...input().grant!, workloadGroups: ['data/db', 'shop/cart'] } }, 'NOT_GRANTED', 'another grant'],
    [{ objects: new Map() }, 'GROUP_MISSING', 'no group'],
    [{ uids: new Map() }, 'USER_UNKNOWN', 'no user'],
    [{ uids: new Map([...input().uids, ['www', 0]]) }, 'USER_REFUSED', 'root'],
    [{ uids: new Map([...input().uids, ['www', 998]]) }, 'USER_REFUSED', 'the proxy'],
    [{ uids: new Map([...input().uids, ['www', 61200]]) }, 'USER_REFUSED', 'DynamicUser'],
  ] as const) {
    const { workloads, problems } = bindWorkloads(input(part as Partial<BindInput>));
    t.notOk(
      workloads.some((w) => w.group === 'shop/web'),
      name,
    );
    t.ok(
      problems.some((p) => p.group === 'shop/web' && p.code === code),
      `${name}: ${code}`,
    );
  }
  const { problems } = bindWorkloads(input({ bindings: [bind('shop/web', 'www')] }));
  t.strictSame(
    problems.map((p) => [p.group, p.code]),
    [
      ['data/db', 'NOT_BOUND'],
      ['shop/cart', 'NOT_BOUND'],
    ],
  );
});

t.test('a port is served once a host, and never one of the mesh', async (t) => {
  const objects = new Map([
    group('shop/web', { a: 8080, b: 8080 }),
    group('shop/cart', { a: 8080, b: 22, c: 15006, d: 15150, e: 1 }),
  ]);
  const { workloads, problems } = bindWorkloads(input({ objects }));
  t.strictSame(
    workloads.map((w) => w.ports.map((p) => p.number)),
    [[8080, 8080], [1]],
  );
  t.equal(problems.filter((p) => p.code === 'PORT_REFUSED').length, 4);
});

t.test('DNS listeners: one a namespace, in the order of agent.yaml, then the default one', async (t) => {
  t.strictSame(dnsNamespaces(input().bindings, 'default'), ['shop', 'data', 'default']);
  t.strictSame(dnsNamespaces(input().bindings, 'data'), ['shop', 'data']);
  t.equal(
    dnsNamespaces(
      Array.from({ length: 50 }, (_, i) => bind(`n${i}/g`, 'u')),
      'default',
    ).length,
    37,
  );
});

t.test('the assignment survives a restart; a broken file is as none', async (t) => {
  const path = `${t.testdir()}/ports.json`;
  t.strictSame(await loadPortAssignment(path), {});
  await savePortAssignment(path, { 'a/b': 15100 });
  t.strictSame(await loadPortAssignment(path), { 'a/b': 15100 });
  for (const text of ['', '[]', '{"a/b"', 'null', '{"a/b":"15100"}'])
    t.strictSame(await loadPortAssignment(`${t.testdir({ x: text })}/x`), {}, text);
});

t.test('two bindings of one uid are one too many; a name without a uid says why', async (t) => {
  const { workloads, problems } = bindWorkloads(
    input({
      bindings: [bind('shop/web', 'www'), bind('shop/cart', 'www.service'), bind('data/db', 'db.service')],
      uids: new Map([
        ['www', 33],
        ['www.service', 33],
      ]),
      unresolved: new Map([['db.service', 'db.service: the unit runs as root']]),
    }),
  );
  t.strictSame(
    workloads.map((w) => w.group),
    ['shop/web'],
  );
  t.match(problems, [
    { group: 'shop/cart', code: 'USER_REFUSED', message: /www\.service is uid 33, which shop\/web has/ },
    { group: 'data/db', code: 'USER_UNKNOWN', message: /runs as root/ },
  ]);
});

t.test('gateways have an identity and no user; only what is granted is one', async (t) => {
  const { gateways, workloads, problems } = bindWorkloads(
    input({ bindings: [], gateways: ['shop/web', 'data/db', 'shop/ghost', 'other/x'] }),
  );
  t.same(workloads, []);
  t.strictSame(gateways[0], {
    group: 'shop/web',
    namespace: 'shop',
    serviceAccount: 'web-sa',
    spiffeId: 'spiffe://mesh.test/ns/shop/sa/web-sa',
    labels: { app: 'web', from: 'template' },
  });
  t.same(
    gateways.map((one) => one.group),
    ['shop/web', 'data/db'],
  );
  t.same(
    problems.map(({ group: id, code }) => [id, code]),
    [
      ['shop/ghost', 'NOT_GRANTED'],
      ['other/x', 'NOT_GRANTED'],
      ['shop/cart', 'NOT_BOUND'],
    ],
  );
});

t.test(
  'an exec probe is run only if its very command is listed for this workload; else its unit is none and the cure is said',
  async (t) => {
    const command = ['/usr/local/bin/check', '--fast'];
    const probed = (execProbes: string[][], others: string[][] = []) => {
      const [key, object] = group('shop/web', { http: 8080 });
      const spec = { ...(object.spec as object), probe: { exec: { command } } };
      return bindWorkloads(
        input({
          bindings: [bind('shop/web', 'www', execProbes), bind('shop/cart', 'cart', others)],
          objects: new Map([[key, { ...object, spec }], group('shop/cart', { http: 9090 })]),
        }),
      );
    };
    const good = probed([['/bin/true'], command]);
    t.strictSame(
      good.problems.filter(({ group }) => group === 'shop/web'),
      [],
    );
    t.match(good.workloads[0]?.probe, { call: { kind: 'exec', command, unit: /^mesh-probe-[0-9a-f]{16}$/ } });
    for (const [mine, others] of [
      [[], [command]],
      [[['/usr/local/bin/check']], []],
      [[['/usr/local/bin/check', '--fast', '']], []],
      [[['/usr/local/bin/check --fast']], []],
    ] as string[][][][]) {
      const bad = probed(mine as string[][], others);
      t.strictSame(bad.workloads[0]?.probe?.call, { kind: 'exec', command, timeoutSeconds: 1 });
      t.match(bad.problems[0], {
        code: 'PROBE_UNLISTED',
        message:
          /^a WorkloadGroup asks for .* add \["\/usr\/local\/bin\/check", "--fast"\] to workloads\[\]\.execProbes .* agent\.yaml of host h$/,
      });
    }
  },
);
