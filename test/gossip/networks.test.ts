/**
 * Networks and NAT (docs/networks.md): IPv6 only, both families, listening on all addresses, an address that another one stands for, hosts
 * that nobody can dial. In a network namespace of its own, with addresses of its own; needs root, or user namespaces.
 */
import { spawnSync } from 'node:child_process';
import t from 'tap';
import { createTestMesh, type MeshHost, sees, show, type TestMesh, until } from './mesh.ts';

const OWN_NAMESPACE = 'HOSTMESH_TEST_NETNS';
const SETUP = [
  'ip link set lo up',
  'for n in 1 2 3 4 50; do ip -6 addr add fd77::$n/128 dev lo nodad; done',
  // 10.99.0.0/24 goes nowhere, but for 10.99.0.9, which a gateway translates; 10.98.0.0/24 has no route at all.
  'ip route add 10.99.0.0/24 dev lo',
  'iptables -t nat -A OUTPUT -d 10.99.0.9 -j DNAT --to-destination 127.9.9.9',
  'iptables -A OUTPUT -d 10.99.0.0/24 -j DROP',
];

if (process.env[OWN_NAMESPACE] === undefined) {
  const inside = `set -e; ${SETUP.join('; ')}; exec "$@"`;
  const flags = process.getuid?.() === 0 ? ['-n'] : ['-rn'];
  const self = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const { status } = spawnSync('unshare', [...flags, 'sh', '-c', inside, 'sh', ...self], {
    stdio: 'inherit',
    env: { ...process.env, [OWN_NAMESPACE]: '1' },
  });
  process.exit(status ?? 1);
}

t.setTimeout(300_000);

const v6 = (n: number) => `fd77::${n + 1}`;
const all = (mesh: TestMesh) => [...mesh.hosts.values()];
const whole = (mesh: TestMesh, timeoutMs = 20_000) =>
  until(
    () => all(mesh).every((h) => all(mesh).every((o) => sees(h, o.host))),
    timeoutMs,
    () => show(mesh),
  );
const proven = (observer: MeshHost, host: string) => observer.gossip.snapshot().hosts.get(host)?.provenAddresses;
const liveness = (observer: MeshHost, host: string) => observer.gossip.snapshot().hosts.get(host)?.liveness;

t.test('hosts that have IPv6 only', async (t) => {
  const mesh = createTestMesh(4);
  t.teardown(() => mesh.stop());
  const seeds = [`[${v6(0)}]:${mesh.port}`];
  for (let i = 0; i < 4; i++) await mesh.add(`h${i}`, { address: v6(i), seeds });
  await whole(mesh);
  t.same(proven(mesh.hosts.get('h1')!, 'h3'), [v6(3)]);
  await mesh.hosts.get('h3')!.stop();
  const took = await until(() => liveness(mesh.hosts.get('h0')!, 'h3') === 'dead', 10_000);
  t.ok(took < 6000, `a killed one is dead after ${Math.round(took)} ms`);
});

t.test(
  'both families: each uses what it can reach; those without a common one see each other live, and use nothing',
  async (t) => {
    const mesh = createTestMesh(4);
    t.teardown(() => mesh.stop());
    const v4 = mesh.addressOf;
    const seeds = [`${v4(0)}:${mesh.port}`, `[${v6(0)}]:${mesh.port}`];
    const both = (n: number) => ({
      listen: [v4(n), v6(n)],
      advertise: [v4(n), v6(n)],
      fields: { addresses: [v4(n), v6(n)] },
      seeds,
    });
    await mesh.add('h0', both(0));
    await mesh.add('h1', both(1));
    await mesh.add('h2', { address: v4(2), seeds });
    await mesh.add('h3', { address: v6(3), seeds });
    const [h0, h1, h2, h3] = all(mesh) as [MeshHost, MeshHost, MeshHost, MeshHost];
    await until(
      () =>
        proven(h0, 'h1')?.length === 2 &&
        proven(h1, 'h0')?.length === 2 &&
        proven(h2, 'h0')?.join() === v4(0) &&
        proven(h3, 'h0')?.join() === v6(0) &&
        proven(h0, 'h2')?.join() === v4(2) &&
        proven(h0, 'h3')?.join() === v6(3) &&
        liveness(h2, 'h3') === 'alive' &&
        liveness(h3, 'h2') === 'alive',
      20_000,
      () => show(mesh),
    );
    t.same([proven(h2, 'h3'), proven(h3, 'h2')], [[], []]);
    // Long enough for many probes in vain: who reaches both says that both are well.
    const deaths = new Set<string>();
    for (const [observer, target] of [
      [h2, 'h3'],
      [h3, 'h2'],
    ] as const)
      observer.gossip.onChange(() => liveness(observer, target) === 'dead' && deaths.add(target));
    await new Promise((resolve) => setTimeout(resolve, 8000));
    t.same([...deaths], []);
  },
);

t.test('listening on all addresses: each that is told is reached, also when answers leave by another', async (t) => {
  const mesh = createTestMesh(3);
  t.teardown(() => mesh.stop());
  const addresses = ['127.50.0.1', '127.50.0.2', 'fd77::50'];
  const seeds = [`127.50.0.1:15399`];
  await mesh.add('h0', {
    listen: ['0.0.0.0', '::'],
    advertise: addresses,
    port: 15399,
    fields: { addresses },
    seeds,
  });
  for (const n of [1, 2])
    await mesh.add(`h${n}`, {
      listen: [mesh.addressOf(n), v6(n)],
      advertise: [mesh.addressOf(n), v6(n)],
      seeds,
    });
  await whole(mesh);
  t.same(proven(mesh.hosts.get('h1')!, 'h0'), addresses);
});

t.test(
  'an address that is translated (1:1 NAT, a forwarded port) does; of several, those that answer are used',
  async (t) => {
    const mesh = createTestMesh(3);
    t.teardown(() => mesh.stop());
    const seeds = [`10.99.0.9:${mesh.port}`];
    await mesh.add('h0', { address: '127.9.9.9', advertise: ['10.99.0.9'], fields: { addresses: ['10.99.0.9'] } });
    await mesh.add('h1', { seeds });
    const told = ['10.98.0.2', mesh.addressOf(2)];
    await mesh.add('h2', { seeds, advertise: told, fields: { addresses: told } });
    const [h0, h1, h2] = all(mesh) as [MeshHost, MeshHost, MeshHost];
    await until(
      () =>
        proven(h1, 'h0')?.join() === '10.99.0.9' &&
        proven(h2, 'h0')?.join() === '10.99.0.9' &&
        [h0, h1].every((h) => proven(h, 'h2')?.join() === mesh.addressOf(2)),
      20_000,
      () => show(mesh),
    );
    t.equal(liveness(h1, 'h0'), 'alive');
    t.equal(liveness(h0, 'h2'), 'alive', 'although its first address answers nobody');
  },
);

t.test('a host that nobody can dial (many behind one address) hears everything, and serves nobody', async (t) => {
  const mesh = createTestMesh(4);
  t.teardown(() => mesh.stop());
  for (const n of [0, 1, 2]) await mesh.add(`h${n}`);
  await mesh.add('h3', { advertise: ['10.99.0.3'], fields: { addresses: ['10.99.0.3'] } });
  const [h0, h1, h2, h3] = all(mesh) as [MeshHost, MeshHost, MeshHost, MeshHost];
  await until(
    () => [h0, h1, h2].every((h) => sees(h3, h.host)) && [h0, h1, h2].every((h) => liveness(h, 'h3') === 'dead'),
    30_000,
    () => show(mesh),
  );
  t.same(
    [h0, h1, h2].map((h) => proven(h, 'h3')),
    [[], [], []],
  );
  await h1.gossip.publishOwn({ network: 'default', addresses: [h1.address], workloads: [] });
  await until(() => h3.gossip.snapshot().hosts.get('h1')?.record.workloads.length === 0, 10_000);
  t.pass('it hears a change of another');
});
