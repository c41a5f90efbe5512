import { readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { DesiredConfig } from '../../../../api/signed-config/desired-config.ts';
import { toDesiredConfig } from '../../../../api/signed-config/to-desired-config.ts';
import { parseUpdate } from '../../../../api/signed-config/update.ts';
import { acceptRoots, acceptUpdate, trustAnchor, versionsOf } from '../../../../api/signed-config/verifier.ts';
import { initRepository, rootKeysOnController } from '../../../../controller/signing/init.ts';
import { putAnchor, removeAnchor } from '../../../../controller/signing/signer.ts';
import { hostKeyOf } from '../../../../controller/store/internal-rows.ts';
import {
  createSignedMesh,
  optionsAt,
  type SignedMesh,
  service,
  virtualService,
} from '../../../builders/signed-mesh.ts';
import { until } from '../../../fakes/until.ts';

/** What a new host makes of the signer's answer. */
function asHost(mesh: SignedMesh): DesiredConfig {
  const text = mesh.signer.history.updateFor({ root: 1, generation: 0, timestamp: 0 }) ?? '';
  const update = parseUpdate(text);
  const state = acceptUpdate(acceptRoots(trustAnchor(mesh.rootText), update), update, optionsAt(mesh.clock.now()));
  if (state.accepted === undefined) throw new Error('nothing was accepted');
  return toDesiredConfig(state.accepted);
}

t.test('what operators write reaches a new host, signed; Secrets and tokens do not', async (t) => {
  const mesh = await createSignedMesh(t.testdir());
  t.teardown(() => mesh.close());
  await mesh.store.commit([
    {
      key: 'Secret/default/tls',
      value: '{"kind":"Secret","metadata":{"name":"tls","namespace":"default"},"data":{"k":"QUJD"}}',
    },
    { key: '_internal/tokens/1', value: '{"secretHash":"x"}' },
  ]);
  await putAnchor(mesh.store, { replica: 'c1', intermediatePem: 'PEM', agentUrls: ['https://10.0.0.2:15201'] });
  const grant = { host: 'h1', epoch: 1, workloadGroups: ['default/web'], gossipAddresses: ['10.0.0.3:15300'] };
  await mesh.store.commit([
    { key: hostKeyOf('h1'), value: JSON.stringify({ ...grant, hostKey: 'K', serials: ['1'] }) },
    { key: hostKeyOf('h2'), value: JSON.stringify({ ...grant, host: 'h2', revokedAt: '2026-11-25T00:00:00Z' }) },
  ]);
  const managed = {
    ...virtualService('web'),
    status: { x: 1 },
    metadata: {
      name: 'web',
      namespace: 'default',
      annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}' },
    },
  };
  const generation = await mesh.put(managed, service('web'));
  const desired = asHost(mesh);
  t.equal(desired.generation, generation);
  t.equal(desired.trustDomain, 'mesh.test');
  t.same([...desired.objects.keys()].sort(), ['Service/default/web', 'VirtualService/default/web']);
  t.same(desired.objects.get('VirtualService/default/web'), {
    apiVersion: 'networking.istio.io/v1',
    kind: 'VirtualService',
    metadata: { name: 'web', namespace: 'default' },
    spec: managed.spec,
  });
  t.same(desired.hosts.get('h1'), grant, 'neither key hash nor serials are told');
  t.same([...desired.revokedHosts], ['h2']);
  t.match(desired.vips.get('web.default.svc.cluster.local')?.v4, /^240\.240\.\d+\.\d+$/);
  t.equal(desired.anchors.get('c1')?.intermediatePem, 'PEM');
  await removeAnchor(mesh.store, 'c1');
  await until(() => asHost(mesh).anchors.size === 0, 'the anchor to go');
});

t.test('a write that signs nothing new makes no generation; one that does makes exactly one', async (t) => {
  const mesh = await createSignedMesh(t.testdir());
  t.teardown(() => mesh.close());
  const first = await mesh.put(service('web'));
  await mesh.store.commit([{ key: '_internal/tokens/2', value: '{}' }]);
  const second = await mesh.put(virtualService('web'));
  t.ok(second > first);
  const seen: number[] = [];
  mesh.signer.onPublished((state) => seen.push(state.accepted?.generation ?? 0));
  await mesh.remove('VirtualService/default/web');
  t.same(seen.length, 1);
  t.notOk(asHost(mesh).objects.has('VirtualService/default/web'));
});

t.test('a restart publishes the same bytes and goes on counting', async (t) => {
  const mesh = await createSignedMesh(t.testdir());
  t.teardown(() => mesh.close());
  await mesh.put(service('web'));
  const before = mesh.signer.latest();
  const vip = asHost(mesh).vips.get('web.default.svc.cluster.local');
  await mesh.restart();
  t.equal(mesh.signer.latest()?.timestamp?.text, before?.timestamp?.text);
  t.equal(mesh.signer.latest()?.accepted?.snapshot.text, before?.accepted?.snapshot.text);
  t.same(asHost(mesh).vips.get('web.default.svc.cluster.local'), vip, 'addresses stay');
  await mesh.signer.stop();
  await mesh.clock.advance(3_600_000 * 5);
  await mesh.store.commit([{ key: 'Service/default/api', value: JSON.stringify(service('api')) }]);
  await mesh.restart();
  const after = mesh.signer.latest();
  t.ok((after?.accepted?.generation ?? 0) > (before?.accepted?.generation ?? 0));
  t.ok(versionsOf(after ?? (before as never)).timestamp > (before?.timestamp?.metadata.signed.version ?? 0));
  t.ok(asHost(mesh).objects.has('Service/default/api'));
});

t.test('the timestamp is signed anew every 5 minutes, the rest stays', async (t) => {
  const mesh = await createSignedMesh(t.testdir());
  t.teardown(() => mesh.close());
  await mesh.put(service('web'));
  const before = mesh.signer.latest();
  await mesh.clock.advance(5 * 60_000);
  await until(() => mesh.signer.latest() !== before, 'a fresh timestamp');
  const after = mesh.signer.latest();
  t.equal(after?.timestamp?.metadata.signed.version, (before?.timestamp?.metadata.signed.version ?? 0) + 1);
  t.equal(after?.accepted, before?.accepted);
  const held = {
    root: 1,
    generation: before?.accepted?.generation ?? 0,
    timestamp: before?.timestamp?.metadata.signed.version ?? 0,
  };
  const text = mesh.signer.history.updateFor(held) ?? '';
  t.same(Object.keys(JSON.parse(text)).sort(), ['format', 'roots', 'timestamp'], 'half a kilobyte');
  t.ok(text.length < 1200, String(text.length));
});

t.test('one row that cannot be signed is left out and named; the others go on', async (t) => {
  const mesh = await createSignedMesh(t.testdir());
  t.teardown(() => mesh.close());
  let deep: unknown = 1;
  for (let i = 0; i < 200; i++) deep = [deep];
  await mesh.store.commit([
    { key: 'VirtualService/default/deep', value: JSON.stringify({ ...virtualService('deep'), spec: deep }) },
  ]);
  await mesh.put(service('web'));
  t.match(mesh.signer.status().problems, [/VirtualService\/default\/deep cannot be signed/]);
  t.notOk(asHost(mesh).objects.has('VirtualService/default/deep'));
  t.ok(asHost(mesh).objects.has('Service/default/web'));
});

t.test(
  'without the operators’ keys policy is not signed, state still is told apart, and the reason is named',
  async (t) => {
    const mesh = await createSignedMesh(t.testdir(), { operators: { keys: 3, threshold: 2 } });
    t.teardown(() => mesh.close());
    await mesh.put(service('web'));
    await mesh.signer.stop();
    for (const file of ['policy-1.pem', 'policy-2.pem'])
      await writeFile(join(mesh.keysDir, file.replace('.pem', '.gone')), '');
    const { rm } = await import('node:fs/promises');
    await rm(join(mesh.keysDir, 'policy-1.pem'));
    await rm(join(mesh.keysDir, 'policy-2.pem'));
    await mesh.restart();
    const generation = mesh.signer.status().generation;
    await mesh.store.commit([{ key: 'VirtualService/default/x', value: JSON.stringify(virtualService('x')) }]);
    await until(() => mesh.signer.status().problems.length > 0, 'the problem');
    t.match(mesh.signer.status().problems[0], /needs 2 operators' signatures and 1 of their keys/);
    t.equal(mesh.signer.status().generation, generation);
  },
);

t.test('init: keys are 0600, nothing is ever overwritten', async (t) => {
  const mesh = await createSignedMesh(t.testdir());
  t.teardown(() => mesh.close());
  const files = (await readdir(mesh.keysDir)).sort();
  t.same(files, ['online-c1.pem', 'policy-1.pem', 'root-1.pem', 'targets-1.pem']);
  for (const file of files) t.equal((await stat(join(mesh.keysDir, file))).mode & 0o777, 0o600, file);
  t.same(await rootKeysOnController(mesh.keysDir), ['root-1.pem']);
  const again = { keysDir: mesh.keysDir, replica: 'c1', now: 0 };
  await t.rejects(initRepository(mesh.store, again), { code: 'SIGNING_EXISTS' });
  const empty = { get: async () => undefined, commit: mesh.store.commit };
  await t.rejects(initRepository(empty, again), { code: 'SIGNING_EXISTS' }, 'files alone are reason enough');
  await t.rejects(initRepository(empty, { ...again, root: { keys: 1, threshold: 2 } }), {
    code: 'SIGNING_KEY_INVALID',
  });
});

t.test('two replicas of one store: one number, one content', async (t) => {
  const mesh = await createSignedMesh(t.testdir());
  t.teardown(() => mesh.close());
  const { createSigner } = await import('../../../../controller/signing/signer.ts');
  const { loadSigningKeys } = await import('../../../../controller/signing/init.ts');
  const { silentLogger } = await import('../../../../runtime/log.ts');
  const keys = await loadSigningKeys(mesh.keysDir, 'c1');
  const twin = createSigner({
    store: mesh.store,
    keys,
    trustDomain: 'mesh.test',
    clock: mesh.clock,
    random: () => 0.5,
    log: silentLogger,
  });
  await twin.start(new AbortController().signal);
  t.teardown(() => twin.stop());
  const texts = new Map<number, Set<string>>();
  for (const signer of [mesh.signer, twin])
    signer.onPublished(({ accepted }) => {
      const set = texts.get(accepted?.generation ?? 0) ?? new Set();
      texts.set(accepted?.generation ?? 0, set.add(accepted?.snapshot.text ?? ''));
    });
  for (let i = 0; i < 20; i++) await mesh.put(virtualService(`v${i}`));
  await until(() => twin.latest()?.accepted?.roles.policy.content.values.size === 21, 'the twin to follow');
  await until(() => twin.status().generation === mesh.signer.status().generation, 'both at one generation');
  for (const [generation, set] of texts) t.equal(set.size, 1, `generation ${generation}`);
});
