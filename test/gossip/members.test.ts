/** What a member with a good certificate can try: claims, malformed frames, silence, crowding, reading nothing. */
import { connect } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { RPC } from '@chainsafe/libp2p-gossipsub/message';
import t from 'tap';
import { SYNC_PROTOCOL } from '../../agent/gossip/linker.ts';
import { TOPICS } from '../../agent/gossip/topics.ts';
import { sealEnvelope } from '../../api/gossip/envelope.ts';
import { record, sealed } from '../builders/gossip.ts';
import { seeded } from '../fakes/seeded.ts';
import { meshAndMember, say, stillWorks } from './attack.ts';
import { createTestMesh, sees, show, until } from './mesh.ts';
import { createRawPeer, metric } from './raw-peer.ts';
import { createRelay } from './relay.ts';

t.setTimeout(300_000);

t.test('claims beyond the grant are dropped, counted and named', async (t) => {
  const { mesh, h0, bad, identity } = await meshAndMember(t);
  await bad.dial(h0.address, mesh.port);
  await until(() => bad.meshStreams('outbound').length === 1 && bad.meshStreams('inbound').length === 1, 5000);
  const claim = record('h3', { counter: 7, workloads: [{ group: 'default/pay', health: 'healthy' }] });
  await bad.publish('records', sealed(identity, claim).bytes);
  const named = (reason: string) => h0.gossip.refusals().find((r) => r.host === 'h3' && r.reason === reason);
  await until(() => named('group-not-granted') !== undefined, 5000);
  t.match(named('group-not-granted'), { detail: 'default/pay', count: 1 });
  t.equal(await metric(h0.registry, 'records_total', { result: 'group-not-granted' }), 1);
  t.notOk(h0.gossip.snapshot().hosts.has('h3'));
  t.ok(bad.connected(), 'config may be late: no reason to cut the link');
  // Labels, ports and SPIFFE IDs are no part of a record: what says them is not looked at.
  const more = { ...record('h3', { counter: 8 }), labels: { app: 'pay' }, ports: [443], spiffeId: 'spiffe://x/y' };
  const payload = Buffer.from(JSON.stringify(more));
  await bad.publish('records', sealEnvelope('record', payload, identity.privateKey, identity.leaf.raw).bytes);
  await until(() => h0.gossip.snapshot().hosts.has('h3'), 5000);
  t.strictSame(h0.gossip.snapshot().hosts.get('h3')?.record, record('h3', { counter: 8 }));
  t.same(h0.gossip.snapshot().hosts.get('h3')?.provenAddresses, [], 'and its address has to answer first');
  // Played back: an older one changes nothing.
  await bad.publish('records', sealed(identity, record('h3', { counter: 6 })).bytes);
  await until(async () => (await metric(h0.registry, 'records_total', { result: 'known' })) >= 1, 5000);
  t.equal(h0.gossip.snapshot().hosts.get('h3')?.record.counter, 8);
  // From the future: an epoch that config has not given, and a counter that no host reaches.
  await bad.publish('records', sealed(identity, record('h3', { epoch: 2, counter: 1 })).bytes);
  await until(() => named('epoch') !== undefined, 5000);
  const far = Buffer.from(JSON.stringify(record('h3', { counter: 2 ** 53 - 1 })));
  await bad.publish('records', sealEnvelope('record', far, identity.privateKey, identity.leaf.raw).bytes);
  await until(() => named('content') !== undefined, 5000);
  t.equal(h0.gossip.snapshot().hosts.get('h3')?.record.counter, 8);
});

t.test('an address that does not answer with its host’s key enters nothing and is named', async (t) => {
  const { mesh, h0 } = await meshAndMember(t);
  const victim = mesh.hosts.get('h1')!.address; // answers, with h1's key
  const liar = await mesh.add('h4', { fields: { addresses: [mesh.addressOf(4), victim, '127.255.1.1'] } });
  await until(() => h0.gossip.snapshot().hosts.get('h4')?.provenAddresses.length === 1, 10_000);
  await until(
    () => h0.gossip.refusals().filter((r) => r.host === 'h4' && r.reason === 'address-unproven').length === 1,
    25_000,
    () => JSON.stringify(h0.gossip.refusals()),
  );
  t.same(h0.gossip.snapshot().hosts.get('h4')?.provenAddresses, [liar.address]);
  t.same(h0.gossip.snapshot().hosts.get('h1')?.provenAddresses, [victim], 'h1 keeps its own');
  t.ok((await metric(h0.registry, 'unproven_addresses')) >= 1);
});

t.test('malformed frames of every layer, over and over', async (t) => {
  const { mesh, h0 } = await meshAndMember(t);
  const random = seeded(6);
  const pick = (n: number) => Math.floor(random() * n);
  const good = RPC.encode({
    subscriptions: [{ subscribe: true, topic: TOPICS.records }],
    messages: [{ topic: TOPICS.records, data: Buffer.alloc(300, 1) }],
    control: { ihave: [], iwant: [], graft: [{ topicID: TOPICS.records }], prune: [], idontwant: [] },
  } as never);
  const before = process.memoryUsage().rss;
  let frames = 0;
  for (let n = 0; n < 24; n++) {
    const host = `h${3 + (n % 7)}`;
    const peer = await createRawPeer(host, mesh.ca.trustDomain, mesh.ca.host(host));
    const connection = await peer.dial(h0.address, mesh.port).catch(() => undefined);
    await until(() => peer.meshStreams('outbound').length === 1 || !peer.connected(), 5000);
    for (let i = 0; i < 20 && peer.connected(); i++) {
      const bytes = Buffer.from(good);
      for (let k = 0; k <= pick(8); k++) bytes[pick(bytes.length)] = pick(256);
      // With a right length in front, a wrong one, or none at all.
      const frame = [Buffer.concat([Buffer.of(0x80 | (bytes.length & 0x7f), bytes.length >> 7), bytes]), bytes][
        pick(2)
      ]!;
      say(peer.meshStreams('outbound')[0], frame);
      frames += 1;
    }
    for (const protocol of ['/ipfs/id/1.0.0', '/meshsub/1.1.0', '/no/such/1', SYNC_PROTOCOL])
      say(await connection?.newStream(protocol).catch(() => undefined), Buffer.alloc(1 + pick(2000), pick(256)));
    await peer.stop();
  }
  t.comment(
    `${frames} frames; RSS of all four hosts and the attacker grew by ${Math.round((process.memoryUsage().rss - before) / 1e6)} MB`,
  );
  await stillWorks(t, mesh, 'after-malformed');
});

t.test('hundreds of silent connections keep no member out', async (t) => {
  const { mesh, h0, bad } = await meshAndMember(t);
  const sockets = Array.from({ length: 400 }, () =>
    connect({ port: mesh.port, host: h0.address, localAddress: mesh.addressOf(201) }),
  );
  for (const socket of sockets) socket.on('error', () => {});
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  let closed = 0;
  for (const socket of sockets) socket.on('close', () => (closed += 1)).resume();
  await until(
    () => closed >= 250,
    5000,
    () => `${closed} closed`,
  );
  t.pass(`${closed} of 400 refused before any cryptography`);
  await bad.dial(h0.address, mesh.port);
  await until(() => bad.meshStreams('inbound').length === 1, 5000);
  t.ok(bad.connected(), 'a member is linked meanwhile');
  await until(
    () => closed === 400,
    12_000,
    () => `${closed} closed`,
  );
  t.pass('the rest is closed when the handshake does not come');
  await stillWorks(t, mesh, 'after-silence');
});

t.test('a host whose links are full takes a newcomer that knows no other', async (t) => {
  const mesh = createTestMesh(40);
  t.teardown(() => mesh.stop());
  const h0 = await mesh.add('h0');
  const members = [];
  for (let n = 1; n <= 32; n++) {
    const peer = await createRawPeer(`h${n}`, mesh.ca.trustDomain, mesh.ca.host(`h${n}`));
    t.teardown(() => peer.stop());
    await peer.dial(h0.address, mesh.port);
    members.push(peer);
  }
  await until(() => h0.gossip.links().length === 32, 5000);
  const h39 = await mesh.add('h39', { seeds: [`${h0.address}:${mesh.port}`] });
  await until(
    () => sees(h39, 'h0') && sees(h0, 'h39'),
    25_000,
    () => `${h0.gossip.links().length} links; ${show(mesh)}`,
  );
  t.ok(h0.gossip.links().length <= 32, `${h0.gossip.links().length} links`);
  t.ok((await metric(h0.registry, 'links_closed_total', { reason: 'room' })) >= 1);
  t.ok(members.filter((m) => m.connected()).length >= 28, 'few had to go');
});

t.test('a peer that reads nothing costs a bounded buffer, and then its link', async (t) => {
  const mesh = createTestMesh(4);
  t.teardown(() => mesh.stop());
  const h0 = await mesh.add('h0');
  const h1 = await mesh.add('h1');
  const between = { address: mesh.addressOf(202), port: mesh.port };
  const relay = await createRelay(between, { address: h0.address, port: mesh.port });
  t.teardown(() => relay.stop());
  const slow = await createRawPeer('h3', mesh.ca.trustDomain, mesh.ca.host('h3'));
  t.teardown(() => slow.stop());
  await slow.dial(between.address, between.port);
  await until(() => slow.meshStreams('inbound').length === 1 && slow.meshStreams('outbound').length === 1, 5000);
  await until(() => h0.gossip.links().includes('h1'), 10_000);
  let heard = 0;
  h1.gossip.onAnnounce(() => {
    heard += 1;
    return 'ignore';
  });
  relay.silence(true);
  const before = memory();
  const news = async (n: number) => {
    const started = performance.now();
    for (let i = 0; i < n; i++) {
      await h0.gossip.announce(Buffer.concat([Buffer.from(`${i} ${started} `), Buffer.alloc(1950, i)]));
      // As fast as a link may carry, so that the other neighbour keeps its own.
      await until(() => performance.now() - started > i * 2.6, 5000);
    }
  };
  let sent = 0;
  while (h0.gossip.links().includes('h3') && sent < 8000) {
    await news(500);
    sent += 500;
  }
  t.notOk(h0.gossip.links().includes('h3'), `cut off after ${(sent * 2) / 1000} MB`);
  await until(
    () => heard > 0.99 * sent,
    5000,
    () => `${heard} of ${sent}`,
  );
  t.pass(`${heard} of ${sent} messages reached the other neighbour meanwhile`);
  const grown = (memory() - before) / 1e6;
  t.ok(
    grown < 20,
    `${grown.toFixed(1)} MB held at the end, in both hosts and the peer together, the last seconds' messages included`,
  );
});

/** Heap and buffers after a collection, bytes. */
function memory(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
