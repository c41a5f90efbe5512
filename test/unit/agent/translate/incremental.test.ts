// One view after the other through one translator: the same result as without a memory, and nothing made anew that did not change.
import { test } from 'tap';
import { share } from '../../../../agent/mesh-view/share.ts';
import type { MeshView } from '../../../../agent/mesh-view/view.ts';
import type { ResourceSet, XdsResource } from '../../../../agent/translate/resource-set.ts';
import { createTranslator, translate } from '../../../../agent/translate/translate.ts';
import { bigMesh, route } from '../../../bench/big-mesh.ts';
import { seeded } from '../../../fakes/seeded.ts';
import { meshView, type TestMesh } from '../mesh-view/build-mesh.ts';
import { GOLDEN_CASES } from './golden-cases.ts';

/** A host over time. */
function createHost() {
  const translator = createTranslator();
  let view: MeshView | undefined;
  let set: ResourceSet | undefined;
  return (mesh: TestMesh) => {
    const before = set;
    view = share(view, meshView(mesh));
    set = translator(view);
    return { set, fresh: before === undefined ? [] : made(before, set) };
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

/** Keys of records in order, so that only what is said counts. */
function text(set: ResourceSet): string {
  const flat = { ...set, secrets: [...set.secrets], secretOrigins: [...set.secretOrigins] };
  const resources = Object.entries(set.resources).map(([type, items]) => [type, [...items]]);
  return JSON.stringify({ ...flat, resources }, (_, value) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
}

test('whatever changes, the result is that of a translation without a memory', async (t) => {
  const random = seeded(7);
  for (const [name, mesh] of Object.entries(GOLDEN_CASES)) {
    const step = createHost();
    for (let i = 0; i < 25; i++) {
      const objects = mesh.objects.filter(() => random() < 0.85);
      const hosts = mesh.hosts?.map((host) => (random() < 0.8 ? host : { ...host, liveness: 'dead' as const }));
      const now = { ...mesh, objects: i % 5 === 0 ? mesh.objects : objects, ...(hosts === undefined ? {} : { hosts }) };
      const expected = text(translate(meshView(now)));
      if (text(step(now).set) !== expected) t.fail(`${name}: step ${i} differs`);
    }
    t.pass(name);
  }
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
