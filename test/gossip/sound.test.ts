/** What must hold without any attacker: reboots, re-used addresses, clocks that disagree, half-open connections, refutation. */
import t, { type Test } from 'tap';
import { encodeAccusation } from '../../api/gossip/accusation.ts';
import { sealEnvelope } from '../../api/gossip/envelope.ts';
import { createTestMesh, GROUP, type MeshHost, sees, show, type TestMesh, until } from './mesh.ts';
import { createRawPeer, metric } from './raw-peer.ts';
import { createRelay } from './relay.ts';

t.setTimeout(300_000);

const DAY = 86_400_000;
const all = (mesh: TestMesh) => [...mesh.hosts.values()];
const whole = (mesh: TestMesh, timeoutMs = 15_000) =>
  until(
    () => all(mesh).every((h) => all(mesh).every((o) => sees(h, o.host))),
    timeoutMs,
    () => show(mesh),
  );
const linked = (host: MeshHost, peer: string) => host.gossip.links().includes(peer);

/** h0, and h3 whose only dialled address is a relay's: their link leads through it. */
async function throughRelay(t: Test) {
  const mesh = createTestMesh(4);
  t.teardown(() => mesh.stop());
  const port = mesh.port;
  const between = `${mesh.addressOf(200)}`;
  const relay = await createRelay({ address: between, port }, { address: mesh.addressOf(3), port });
  t.teardown(() => relay.stop());
  mesh.config((grants) => {
    for (const [host, grant] of grants.hosts)
      grants.hosts.set(host, { ...grant, gossipAddresses: host === 'h3' ? [`${between}:${port}`] : [] });
  });
  const h3 = await mesh.add('h3');
  const h0 = await mesh.add('h0');
  await whole(mesh);
  t.equal(relay.count, 1, 'linked through the relay');
  t.ok(linked(h0, 'h3') && linked(h3, 'h0'));
  return { mesh, h0, h3, relay };
}

t.test(
  'a host that loses power and reboots with the same key: its old half-open connection neither kills nor blocks it',
  async (t) => {
    const { mesh, h0, h3, relay } = await throughRelay(t);
    relay.silence(); // the old connection stays open at h0 for good
    await h3.stop();
    await h3.restart();
    const back = await until(
      () => linked(h0, 'h3') && linked(h3, 'h0') && sees(h0, 'h3'),
      7000,
      () => show(mesh),
    );
    t.comment(`linked again after ${Math.round(back)} ms`);
    t.equal(await metric(h0.registry, 'verdicts_total', { liveness: 'dead' }), 0, 'never dead');
    await h3.gossip.publishOwn({ network: 'back', addresses: [h3.address], workloads: [] });
    await until(() => h0.gossip.snapshot().hosts.get('h3')?.record.network === 'back', 10_000);
    t.pass('and the new link carries');
  },
);

t.test(
  'a link that looks open and carries nothing is found and made anew, probes all the while answered',
  async (t) => {
    const { mesh, h0, h3, relay } = await throughRelay(t);
    relay.silence(); // e.g. a NAT or firewall that forgot the connection
    const found = await until(
      () => !linked(h0, 'h3') || !linked(h3, 'h0'),
      45_000,
      () => show(mesh),
    );
    t.comment(`found after ${Math.round(found / 1000)} s`);
    await until(() => linked(h0, 'h3') && linked(h3, 'h0'), 15_000);
    t.ok(
      (await metric(h0.registry, 'links_closed_total', { reason: 'stalled' })) +
        (await metric(h3.registry, 'links_closed_total', { reason: 'stalled' })) >=
        1,
    );
    t.equal(await metric(h0.registry, 'verdicts_total', { liveness: 'dead' }), 0, 'nobody was declared dead for it');
  },
);

t.test('a name that leads to another host: refused, and what is there is not taken for it', async (t) => {
  const mesh = createTestMesh(4);
  t.teardown(() => mesh.stop());
  mesh.config((grants) =>
    grants.hosts.set('h3', { ...grants.hosts.get('h3')!, gossipAddresses: [`${mesh.addressOf(1)}:${mesh.port}`] }),
  );
  const h0 = await mesh.add('h0');
  const h1 = await mesh.add('h1');
  await whole(mesh);
  await until(() => linked(h0, 'h1'), 5000);
  await t.rejects(h0.gossip.fetchConfig('h3', Buffer.from('x')), 'h1 answers where h3 should');
  t.notOk(linked(h0, 'h3'));
  t.notOk(h0.gossip.snapshot().hosts.has('h3'));
  t.same(h1.gossip.links(), ['h0']);
});

t.test('an address re-used by another host inherits nothing', async (t) => {
  const mesh = createTestMesh(5);
  t.teardown(() => mesh.stop());
  const [h0, , h3] = [await mesh.add('h0'), await mesh.add('h1'), await mesh.add('h3')];
  await whole(mesh);
  await h3.stop();
  const h4 = await mesh.add('h4', {
    address: h3.address,
    fields: { workloads: [{ group: GROUP, health: 'draining' }] },
  });
  const entry = (host: string) => h0.gossip.snapshot().hosts.get(host);
  await until(
    () => entry('h4')?.provenAddresses.length === 1 && entry('h3')?.provenAddresses.length === 0,
    10_000,
    () => show(mesh),
  );
  t.equal(entry('h4')?.record.workloads[0]?.health, 'draining', 'its own state');
  t.equal(entry('h3')?.record.workloads[0]?.health, 'healthy');
  await until(
    () => sees(h0, 'h3', 'dead'),
    10_000,
    () => show(mesh),
  );
  t.equal(entry('h3')?.provenAddresses.length, 0, 'h4’s answers prove nothing for h3');
  t.equal(h4.gossip.snapshot().hosts.get('h0')?.liveness, 'alive');
});

t.test('clocks a day ahead and a day behind: all find one another, with certificates issued just now', async (t) => {
  const mesh = createTestMesh(3);
  t.teardown(() => mesh.stop());
  const offs = [0, DAY - 3_600_000, 3_600_000 - DAY];
  for (const [n, clockOffMs] of offs.entries()) {
    const times = { notBefore: Date.now() - 15 * 60_000, notAfter: Date.now() + 30 * DAY };
    await mesh.add(`h${n}`, { clockOffMs, identity: mesh.ca.host(`h${n}`, times) });
  }
  t.ok((await whole(mesh)) < 10_000);
  await until(() => all(mesh).every((h) => h.gossip.links().length === 2), 5000);
  t.pass('every pair is linked');
});

t.test('a certificate that ends cuts its host off within ten seconds, everywhere', async (t) => {
  const mesh = createTestMesh(4);
  t.teardown(() => mesh.stop());
  for (const h of ['h0', 'h1', 'h2']) await mesh.add(h);
  const notAfter = Date.now() + 6000;
  await mesh.add('h3', { identity: mesh.ca.host('h3', { notAfter }) });
  await whole(mesh, 5500);
  const others = all(mesh).filter((h) => h.host !== 'h3');
  await until(
    () => others.every((h) => !h.gossip.snapshot().hosts.has('h3') && !linked(h, 'h3')),
    16_000,
    () => show(mesh),
  );
  t.ok(Date.now() - notAfter < 10_000, `${Date.now() - notAfter} ms after its end`);
  await until(
    () => others.some((h) => h.gossip.refusals().some((r) => r.host === 'h3' && r.reason === 'certificate')),
    8000,
  );
  t.pass('it comes again, is refused and named');
  mesh.hosts.get('h3')!.identity = mesh.ca.host('h3');
  mesh.hosts.get('h3')!.gossip.onIdentityChanged();
  await whole(mesh, 40_000);
  t.pass('and is back with a new one');
});

t.test('who is accused refutes with a higher incarnation', async (t) => {
  const mesh = createTestMesh(4);
  t.teardown(() => mesh.stop());
  for (const h of ['h0', 'h1', 'h2']) await mesh.add(h);
  await whole(mesh);
  const h1 = mesh.hosts.get('h1')!;
  const { epoch, counter } = h1.gossip.snapshot().hosts.get('h1')!.record;
  const identity = mesh.ca.host('h3');
  const accuser = await createRawPeer('h3', mesh.ca.trustDomain, identity);
  t.teardown(() => accuser.stop());
  await accuser.dial(h1.address, mesh.port);
  await until(() => accuser.meshStreams('outbound').length === 1 && accuser.meshStreams('inbound').length === 1, 5000);
  for (let i = 0; i < 20; i++) {
    const payload = encodeAccusation({ accuser: 'h3', target: 'h1', epoch, counter });
    await accuser.publish('health', sealEnvelope('accusation', payload, identity.privateKey, identity.leaf.raw).bytes);
  }
  await until(
    () => all(mesh).every((h) => h.gossip.snapshot().hosts.get('h1')?.record.counter === counter + 1),
    5000,
    () => show(mesh),
  );
  t.equal(await metric(h1.registry, 'refutations_total'), 1, 'once, however often it is accused');
});
