/** The gossip room as it runs: real UDP, TCP, TLS, files on loopback; five hosts in this process. */
import t from 'tap';
import { createTestMesh, GROUP, type MeshHost, sees, show, type TestMesh, until } from './mesh.ts';

t.setTimeout(300_000);

const all = (mesh: TestMesh) => [...mesh.hosts.values()];
const others = (mesh: TestMesh, self: MeshHost) => all(mesh).filter((h) => h !== self);

async function converged(count: number): Promise<TestMesh> {
  const mesh = createTestMesh(count);
  for (let i = 0; i < count; i++) await mesh.add(`h${i}`);
  await whole(mesh);
  return mesh;
}

const whole = (mesh: TestMesh, timeoutMs = 15_000) =>
  until(
    () => all(mesh).every((h) => all(mesh).every((o) => sees(h, o.host))),
    timeoutMs,
    () => show(mesh),
  );

t.test('five hosts that know three addresses find one another', async (t) => {
  const mesh = await converged(5);
  t.teardown(() => mesh.stop());
  await until(() => all(mesh).every((h) => h.gossip.snapshot().synced), 15_000);
  const [first] = all(mesh);
  const rows = first!.gossip.peers();
  t.same(
    rows.map((r) => [r.host, r.state, r.epoch]),
    ['h1', 'h2', 'h3', 'h4'].map((h) => [h, 'alive', 1]),
  );
  t.ok(rows.every((r) => r.rttMs !== undefined && r.workloads[0] === `${GROUP} healthy`));

  const changes: number[] = [];
  first!.gossip.onChange(() => changes.push(1));
  const h4 = mesh.hosts.get('h4')!;
  await h4.gossip.publishOwn({
    network: 'default',
    addresses: [h4.address],
    workloads: [{ group: GROUP, health: 'draining' }],
  });
  const took = await until(
    () =>
      others(mesh, h4).every((h) => h.gossip.snapshot().hosts.get('h4')?.record.workloads[0]?.health === 'draining'),
    5000,
  );
  t.ok(took < 2000, `a change is known to all after ${Math.round(took)} ms`);
  await until(() => changes.length > 0, 10_000);
  const before = h4.gossip.snapshot().hosts.get('h4')!.record.counter;
  await h4.gossip.publishOwn({
    network: 'default',
    addresses: [h4.address],
    workloads: [{ group: GROUP, health: 'draining' }],
  });
  t.equal(h4.gossip.snapshot().hosts.get('h4')!.record.counter, before, 'published on change only');
});

t.test('a host that stops without a word is dead, one that leaves is left, both come back', async (t) => {
  const mesh = await converged(4);
  t.teardown(() => mesh.stop());
  const h3 = mesh.hosts.get('h3')!;
  await h3.stop();
  const dead = await until(
    () => others(mesh, h3).every((h) => sees(h, 'h3', 'dead')),
    10_000,
    () => show(mesh),
  );
  t.ok(dead > 2000, `after ${Math.round(dead)} ms: a stall of 2 s would have been survived`);
  await h3.restart();
  await whole(mesh, 10_000);

  const h2 = mesh.hosts.get('h2')!;
  await h2.gossip.leave();
  const left = await until(
    () => others(mesh, h2).every((h) => sees(h, 'h2', 'left')),
    5000,
    () => show(mesh),
  );
  t.ok(left < 1500, `left at once: ${Math.round(left)} ms`);
  await h2.stop();
  await h2.restart();
  await whole(mesh, 10_000);
});

t.test('a restarted host serves from its file before it has spoken to anybody', async (t) => {
  const mesh = await converged(3);
  t.teardown(() => mesh.stop());
  await until(() => all(mesh).every((h) => h.gossip.snapshot().synced), 15_000);
  const [h0, h1, h2] = all(mesh) as [MeshHost, MeshHost, MeshHost];
  await Promise.all([h0.stop(), h1.stop(), h2.stop()]);
  await h0.restart();
  const snapshot = h0.gossip.snapshot();
  t.equal(snapshot.synced, false, 'not compared with anyone yet');
  for (const peer of ['h1', 'h2'])
    t.match(snapshot.hosts.get(peer), { liveness: 'alive', provenAddresses: [mesh.hosts.get(peer)!.address] });
  await until(
    () => sees(h0, 'h1', 'dead') && sees(h0, 'h2', 'dead'),
    12_000,
    () => show(mesh),
  );
  await Promise.all([h1.restart(), h2.restart()]);
  await whole(mesh, 15_000);
});

t.test('a revoked host is out of every table and link', async (t) => {
  const mesh = await converged(4);
  t.teardown(() => mesh.stop());
  mesh.config((grants) => grants.revokedHosts.add('h3'));
  const h3 = mesh.hosts.get('h3')!;
  await until(
    () => others(mesh, h3).every((h) => !h.gossip.snapshot().hosts.has('h3')),
    3000,
    () => show(mesh),
  );
  await until(() => others(mesh, h3).every((h) => !h.gossip.peers().some((p) => p.host === 'h3')), 10_000);
  await h3.gossip.publishOwn({ network: 'x', addresses: [h3.address], workloads: [] });
  await until(
    () =>
      all(mesh)
        .slice(0, 3)
        .every((h) => h.gossip.peers().length === 2),
    3000,
  );
  const rest = all(mesh).slice(0, 3);
  t.ok(
    rest.every((h) => !h.gossip.snapshot().hosts.has('h3')),
    'what it says is not heard',
  );
});

t.test('claims beyond the grant do not get in until config grants them', async (t) => {
  const mesh = createTestMesh(3);
  t.teardown(() => mesh.stop());
  for (const h of ['h0', 'h1', 'h2']) await mesh.add(h);
  await whole(mesh);
  const h2 = mesh.hosts.get('h2')!;
  // The own agent leaves an ungranted group out rather than losing its whole record at the others.
  await h2.gossip.publishOwn({
    network: 'default',
    addresses: [h2.address],
    workloads: [
      { group: GROUP, health: 'healthy' },
      { group: 'default/pay', health: 'healthy' },
    ],
  });
  t.same(
    h2.gossip
      .snapshot()
      .hosts.get('h2')
      ?.record.workloads.map((w) => w.group),
    [GROUP],
  );
  mesh.config((grants) =>
    grants.hosts.set('h2', { ...grants.hosts.get('h2')!, workloadGroups: [GROUP, 'default/pay'] }),
  );
  await until(
    () => all(mesh).every((h) => h.gossip.snapshot().hosts.get('h2')?.record.workloads.length === 2),
    5000,
    () => show(mesh),
  );
  t.pass('published anew when the grant came');
});

t.test('config announcements reach all, verified by the judge, and config comes from any peer', async (t) => {
  const mesh = await converged(4);
  t.teardown(() => mesh.stop());
  const heard = new Map<string, string>();
  for (const h of all(mesh)) {
    h.gossip.onAnnounce((timestamp) => {
      const text = Buffer.from(timestamp).toString();
      if (heard.get(h.host) === text) return 'ignore';
      heard.set(h.host, text);
      return 'accept';
    });
    h.gossip.serveConfig(async (request, peer) => Buffer.concat([Buffer.from(`${h.host} to ${peer}: `), request]));
  }
  const [h0, h1] = all(mesh) as [MeshHost, MeshHost];
  await until(() => all(mesh).every((h) => h.gossip.peers().some((p) => p.linked)), 5000);
  await until(
    () => {
      void h0.gossip.announce(Buffer.from('signed timestamp 7'));
      return all(mesh)
        .slice(1)
        .every((h) => heard.get(h.host) === 'signed timestamp 7');
    },
    8000,
    () => JSON.stringify([...heard]),
  );
  await t.rejects(h0.gossip.announce(new Uint8Array(2049)), { code: 'ANNOUNCE_TOO_LARGE' });
  for (const peer of ['h1', 'h2', 'h3']) {
    t.equal(
      Buffer.from(await h0.gossip.fetchConfig(peer, Buffer.from('since 6'))).toString(),
      `${peer} to h0: since 6`,
    );
  }
  h1.gossip.serveConfig(async () => {
    throw new Error('a secret of h1');
  });
  await t.rejects(h0.gossip.fetchConfig('h1', Buffer.from('x')), { code: 'FETCH_REFUSED' });
  const large = Buffer.alloc(3_000_000, 5);
  h1.gossip.serveConfig(async () => large);
  t.same(Buffer.compare(await h0.gossip.fetchConfig('h1', Buffer.from('all')), large), 0, 'three megabytes');
  await t.rejects(h0.gossip.fetchConfig('h1', new Uint8Array(65 * 1024)), { code: 'FETCH_TOO_LARGE' });
});

t.test('hosts that config names no address of meet by the one seed they know', async (t) => {
  const mesh = createTestMesh(3);
  t.teardown(() => mesh.stop());
  mesh.config((grants) => {
    for (const [host, grant] of grants.hosts) grants.hosts.set(host, { ...grant, gossipAddresses: [] });
  });
  const h0 = await mesh.add('h0');
  const seeds = [`${h0.address}:${mesh.port}`];
  await mesh.add('h1', { seeds: ['127.0.0.250:9', ...seeds] });
  await mesh.add('h2', { seeds });
  await whole(mesh);
  t.equal(h0.gossip.peers().length, 2);
});
