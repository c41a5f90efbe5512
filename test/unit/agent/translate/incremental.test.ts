// One view after the other through one translator: the same result as without a memory, and nothing made anew that did not change.
import { test } from 'tap';
import { buildMeshView, createMeshViews } from '../../../../agent/mesh-view/mesh-view.ts';
import type { ResourceSet, XdsResource } from '../../../../agent/translate/resource-set.ts';
import { createTranslator, translate } from '../../../../agent/translate/translate.ts';
import { bigMesh, route } from '../../../bench/big-mesh.ts';
import { seeded } from '../../../fakes/seeded.ts';
import { meshInput, meshView, type TestHost, type TestMesh } from '../mesh-view/build-mesh.ts';
import { GOLDEN_CASES } from './golden-cases.ts';

/** A host over time. */
function createHost() {
  const viewOf = createMeshViews();
  const translator = createTranslator();
  let set: ResourceSet | undefined;
  return (mesh: TestMesh) => {
    const before = set;
    const view = viewOf(meshInput(mesh));
    set = translator(view);
    return { view, set, fresh: before === undefined ? [] : made(before, set) };
  };
}

/** Resources that are other objects than before. */
function made(before: ResourceSet, now: ResourceSet): XdsResource[] {
  return Object.entries(now.resources).flatMap(([type, items]) =>
    [...items.values()].filter(
      (item) => before.resources[type as keyof ResourceSet['resources']].get(item.name) !== item,
    ),
  );
}

function text(set: ResourceSet): string {
  const flat = { ...set, secrets: [...set.secrets], secretOrigins: [...set.secretOrigins] };
  const resources = Object.entries(set.resources).map(([type, items]) => [type, [...items]]);
  return inOrder({ ...flat, resources });
}

/** Keys of records in order, so that only what is said counts. */
function inOrder(whole: unknown): string {
  return JSON.stringify(whole, (_, value) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
}

/** A host as it may be found a moment later. */
function moved(host: TestHost, random: () => number): TestHost {
  if (random() < 0.6) return host;
  const changes: Partial<TestHost>[] = [
    { liveness: 'dead' },
    { health: 'unhealthy' },
    { weight: 3 },
    { provenAddresses: [] },
    { groups: host.groups.slice(1) },
    { addresses: ['10.9.9.9'] },
  ];
  return { ...host, ...changes[Math.floor(random() * changes.length)] };
}

test('whatever changes, view and result are those that are made without a memory', async (t) => {
  const random = seeded(7);
  for (const [name, mesh] of Object.entries({
    ...GOLDEN_CASES,
    big: bigMesh({ services: 12, hosts: 5, identities: 3 }),
  })) {
    const step = createHost();
    for (let i = 0; i < 25; i++) {
      const objects = mesh.objects.filter(() => random() < 0.85);
      const hosts = mesh.hosts?.map((host) => moved(host, random));
      const now = { ...mesh, objects: i % 5 === 0 ? mesh.objects : objects, ...(hosts === undefined ? {} : { hosts }) };
      const whole = buildMeshView(meshInput(now));
      const { view, set } = step(now);
      if (inOrder(view) !== inOrder(whole)) t.fail(`${name}: view ${i} differs`);
      if (text(set) !== text(translate(whole))) t.fail(`${name}: step ${i} differs`);
    }
    t.pass(name);
  }
});

test('one more service makes no other virtual host anew', async (t) => {
  const mesh = bigMesh({ services: 40, hosts: 10, identities: 2 });
  const fewer = { ...mesh, objects: mesh.objects.filter(({ metadata }) => metadata.name !== 'svc7') };
  const step = createHost();
  const hostsOf = (set: ResourceSet) =>
    [...set.resources.route.values()].flatMap(
      (item) => (item.body as unknown as { virtual_hosts: { name: string }[] }).virtual_hosts,
    );
  const before = new Set(hostsOf(step(fewer).set));
  const after = hostsOf(step(mesh).set);
  t.equal(after.length, 41, 'one table for both identities');
  t.same(
    after.filter((host) => !before.has(host)).map(({ name }) => name),
    ['svc7.default.svc.cluster.local:8000', 'unknown'],
  );
});

test('a host that becomes another mesh altogether forgets the old one', async (t) => {
  const step = createHost();
  for (const mesh of [...Object.values(GOLDEN_CASES), ...Object.values(GOLDEN_CASES).reverse()])
    t.equal(text(step(mesh).set), text(translate(meshView(mesh))));
});

test('one change makes one resource anew', async (t) => {
  const mesh = bigMesh({ services: 60, hosts: 10 });
  const changed = {
    ...mesh,
    objects: mesh.objects.map((one) =>
      one.metadata.name === 'svc5' && one.kind === 'VirtualService' ? route(5, '11s') : one,
    ),
  };
  const dead = (mesh.hosts ?? []).map((host) => (host.id === 'h7' ? { ...host, liveness: 'dead' as const } : host));
  const step = createHost();
  step(mesh);
  t.same(step(mesh).fresh, [], 'nothing new');
  const byRoute = step(changed);
  t.same(
    byRoute.fresh.map(({ type }) => type),
    ['route'],
  );
  const [config] = byRoute.fresh;
  const before = translate(meshView(mesh)).resources.route.get(config?.name ?? '');
  const hostsOf = (item: XdsResource | undefined) =>
    (item as unknown as { body: { virtual_hosts: { name: string }[] } }).body.virtual_hosts;
  t.same(
    hostsOf(config)
      .filter((host, i) => JSON.stringify(host) !== JSON.stringify(hostsOf(before)[i]))
      .map(({ name }) => name),
    ['svc5.default.svc.cluster.local:8000'],
  );
  const byHost = step({ ...changed, hosts: dead });
  t.same([...new Set(byHost.fresh.map(({ type }) => type))], ['endpoint']);
  t.equal(
    byHost.fresh.length,
    [...translate(meshView(changed)).resources.endpoint.values()].filter((item) =>
      JSON.stringify(item.body).includes('10.1.0.7"'),
    ).length,
  );
});
