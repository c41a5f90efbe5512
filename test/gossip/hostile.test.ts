/** DESIGN 6's hazards reproduced, and attacks of outsiders and members, against the room as it runs. */

import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import t from 'tap';
import { SYNC_PROTOCOL } from '../../agent/gossip/linker.ts';
import { encodeAccusation } from '../../api/gossip/accusation.ts';
import { sealEnvelope } from '../../api/gossip/envelope.ts';
import { record, sealed } from '../builders/gossip.ts';
import { createTestCa, type TestIdentity } from '../builders/test-ca.ts';
import { linked, meshAndMember, say, stillWorks } from './attack.ts';
import { until } from './mesh.ts';
import { createRawPeer, metric } from './raw-peer.ts';

t.setTimeout(300_000);

t.test('hazard 1: a gossip stream is reset and the connection stays', async (t) => {
  const { mesh, h0, bad, identity } = await meshAndMember(t);
  await bad.dial(h0.address, mesh.port);
  await until(() => bad.meshStreams('inbound').length === 1 && bad.meshStreams('outbound').length === 1, 5000);
  await bad.publish('records', sealed(identity, record('h3')).bytes);
  await until(() => linked(h0, 'h3'), 5000);
  bad.meshStreams('inbound')[0]!.abort(new Error('test')); // h0's outbound stream
  const took = await until(() => !bad.connected(), 7000);
  t.ok(took < 7000, `the watchdog closed the dead link after ${Math.round(took)} ms`);
  t.ok((await metric(h0.registry, 'links_closed_total', { reason: 'no-stream' })) >= 1);
  await bad.dial(h0.address, mesh.port);
  await until(() => bad.meshStreams('inbound').length === 1 && bad.meshStreams('outbound').length === 1, 5000);
  t.pass('and a new one carries');
});

t.test('hazard 2: an invalid frame makes gossipsub drop the peer; the link is made anew', async (t) => {
  const { mesh, h0, bad } = await meshAndMember(t);
  await bad.dial(h0.address, mesh.port);
  await until(() => bad.meshStreams('outbound').length === 1, 5000);
  bad.meshStreams('outbound')[0]!.send(Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
  await until(() => !bad.connected(), 7000);
  await bad.dial(h0.address, mesh.port);
  await until(() => bad.meshStreams('inbound').length === 1, 5000);
  await stillWorks(t, mesh, 'after-hazard-2');
});

t.test('hazard 3: two connections to one host are both closed', async (t) => {
  const { mesh, h0, bad } = await meshAndMember(t);
  await bad.dial(h0.address, mesh.port);
  await until(() => bad.meshStreams('outbound').length === 1, 5000);
  const twin = await createRawPeer('h3', mesh.ca.trustDomain, mesh.ca.host('h3'));
  t.teardown(() => twin.stop());
  await twin.dial(h0.address, mesh.port).catch(() => {});
  await until(() => !bad.connected() && !twin.connected(), 5000);
  t.ok((await metric(h0.registry, 'links_closed_total', { reason: 'crossed' })) >= 1);
  await bad.dial(h0.address, mesh.port);
  await until(() => bad.meshStreams('inbound').length === 1, 5000);
  t.pass('one alone carries again');
});

t.test('a member that never opens a gossip stream does not keep its link', async (t) => {
  const { mesh, h0, bad } = await meshAndMember(t, { pubsub: false });
  await bad.dial(h0.address, mesh.port);
  await until(() => !bad.connected(), 9000);
  t.pass('closed');
});

t.test('outsiders reach nothing', async (t) => {
  const { mesh, h0 } = await meshAndMember(t);
  const foreign = createTestCa();
  const strangers: [string, ReturnType<typeof foreign.host>][] = [
    ['h3', foreign.host('h3')],
    ['h99', mesh.ca.host('h99')],
    ['h3', mesh.ca.workload('default', 'web', 'h3')],
  ];
  for (const [name, identity] of strangers) {
    const peer = await createRawPeer(name, mesh.ca.trustDomain, identity);
    await peer.dial(h0.address, mesh.port).catch(() => {});
    await until(() => !peer.connected(), 10_000);
    await peer.stop();
  }
  t.ok((await metric(h0.registry, 'links_refused_total')) >= 3, 'counted');
  for (const bytes of [Buffer.alloc(100_000, 0x16), Buffer.from('GET / HTTP/1.1\r\n\r\n')]) {
    await new Promise<void>((resolve) => {
      const socket = connect(mesh.port, h0.address, () => socket.end(bytes));
      socket.on('error', () => {});
      socket.on('close', () => resolve());
      socket.setTimeout(3000, () => socket.destroy());
      socket.resume();
    });
  }
  const udp = createSocket('udp4');
  for (let i = 0; i < 200; i++) udp.send(Buffer.alloc(i * 5, 1), mesh.port, h0.address);
  await stillWorks(t, mesh, 'after-outsiders');
  await until(async () => (await metric(h0.registry, 'probe_datagrams_dropped_total')) >= 100, 5000);
  t.pass('counted');
  udp.close();
});

t.test('a member that forges is cut off at once', async (t) => {
  const { mesh, h0, bad } = await meshAndMember(t);
  const h1 = record('h1', { counter: 10_000, addresses: ['10.6.6.6'] });
  const flipped = (bytes: Uint8Array) => Buffer.from(bytes).fill(7, 40, 60);
  const forgeries: [string, (identity: TestIdentity, host: string) => Uint8Array][] = [
    ['another host’s record', (identity) => sealed(identity, h1).bytes],
    ['a bad signature', (identity, host) => flipped(sealed(identity, record(host)).bytes)],
    ['junk', () => Buffer.alloc(500)],
    ['oversize', () => Buffer.alloc(40_000, 3)],
  ];
  for (const [n, [name, forge]] of forgeries.entries()) {
    const host = `h${n + 4}`;
    const identity = mesh.ca.host(host);
    const peer = await createRawPeer(host, mesh.ca.trustDomain, identity);
    const before = await metric(h0.registry, 'links_closed_total', { reason: 'hostile' });
    await peer.dial(h0.address, mesh.port);
    await until(() => peer.meshStreams('outbound').length === 1 && peer.meshStreams('inbound').length === 1, 5000);
    await peer.publish('records', forge(identity, host));
    await until(
      () => !peer.connected(),
      3000,
      () => name,
    );
    t.equal(await metric(h0.registry, 'links_closed_total', { reason: 'hostile' }), before + 1, name);
    t.match(h0.gossip.refusals()[0], { host, reason: 'hostile' }, 'named');
    await peer.dial(h0.address, mesh.port).catch(() => {});
    await until(() => !peer.connected(), 10_000);
    t.equal(await metric(h0.registry, 'links_refused_total', { code: 'LINK_BANNED' }), n + 1, 'and stays out a while');
    await peer.stop();
  }
  t.not(h0.gossip.snapshot().hosts.get('h1')?.record.counter, 10_000);
  await bad.stop();
  await stillWorks(t, mesh, 'after-forgeries');
});

t.test('a flood of valid records is bounded: the signer is not followed, the link is closed', async (t) => {
  const { mesh, h0, bad, identity } = await meshAndMember(t);
  await bad.dial(h0.address, mesh.port);
  await until(() => bad.meshStreams('outbound').length === 1 && bad.meshStreams('inbound').length === 1, 5000);
  const messages = Array.from({ length: 1500 }, (_, i) => sealed(identity, record('h3', { counter: i + 1 })).bytes);
  for (const message of messages) await bad.publish('records', message).catch(() => {});
  await until(async () => (await metric(h0.registry, 'records_total', { result: 'budget' })) > 1000, 20_000);
  const merged = await metric(h0.registry, 'records_total', { result: 'merged' });
  t.ok(merged < 60, `${merged} records taken of 1,500`);
  // Another one, which no record names, so that nothing but its messages is a reason to cut it off; until that happens, however slow the machine.
  const flooder = await createRawPeer('h4', mesh.ca.trustDomain, mesh.ca.host('h4'));
  t.teardown(() => flooder.stop());
  await flooder.dial(h0.address, mesh.port);
  await until(() => flooder.meshStreams('outbound').length === 1 && flooder.meshStreams('inbound').length === 1, 5000);
  let sent = 0;
  for (; flooder.connected() && sent < 200_000; sent++) {
    await flooder.publish('config', Buffer.concat([Buffer.from(`${sent} `), Buffer.alloc(1900)])).catch(() => {});
    if (sent % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await until(() => !flooder.connected(), 5000);
  t.comment(`cut off after ${sent} messages`);
  t.ok((await metric(h0.registry, 'links_closed_total', { reason: 'flood' })) >= 1);
  t.match(h0.gossip.refusals()[0], { host: 'h4', reason: 'flood' }, 'named');
  await stillWorks(t, mesh, 'after-flood');
});

t.test('one liar accuses everybody and removes nobody', async (t) => {
  const { mesh, h0, bad, identity } = await meshAndMember(t);
  await bad.dial(h0.address, mesh.port);
  await until(() => bad.meshStreams('outbound').length === 1 && bad.meshStreams('inbound').length === 1, 5000);
  const verdicts = () => metric(h0.registry, 'verdicts_total', { liveness: 'dead' });
  for (let round = 0; round < 20; round++) {
    for (const target of ['h0', 'h1', 'h2']) {
      const { epoch, counter } = h0.gossip.snapshot().hosts.get(target)!.record;
      const payload = encodeAccusation({ accuser: 'h3', target, epoch, counter });
      await bad.publish('health', sealEnvelope('accusation', payload, identity.privateKey, identity.leaf.raw).bytes);
    }
  }
  // Longer than a death takes: every host has had its own rounds of probes.
  const end = performance.now() + 3500;
  await until(() => performance.now() > end, 5000);
  t.equal(await verdicts(), 0);
  for (const h of ['h1', 'h2']) t.equal(h0.gossip.snapshot().hosts.get(h)?.liveness, 'alive');
  t.ok((await metric(h0.registry, 'accusations_total', { result: 'budget' })) > 10, 'rationed');
  await stillWorks(t, mesh, 'after-liar');
});

t.test('junk and endless questions on the sync protocol', async (t) => {
  const { mesh, h0, bad } = await meshAndMember(t);
  const connection = await bad.dial(h0.address, mesh.port);
  await until(() => bad.meshStreams('inbound').length === 1, 5000);
  const stream = await connection.newStream(SYNC_PROTOCOL);
  say(stream, Buffer.from([5, 99, 1, 2, 3, 4]));
  await until(() => !bad.connected(), 10_000);
  const again = await createRawPeer('h4', mesh.ca.trustDomain, mesh.ca.host('h4'));
  t.teardown(() => again.stop());
  const second = await again.dial(h0.address, mesh.port);
  await until(() => again.meshStreams('inbound').length === 1, 5000);
  for (let i = 0; i < 30; i++) {
    const asked = await second.newStream(SYNC_PROTOCOL).catch(() => undefined);
    say(asked, Buffer.concat([Buffer.of(33, 0), Buffer.alloc(32, i)]));
  }
  const huge = await second.newStream(SYNC_PROTOCOL).catch(() => undefined);
  say(huge, Buffer.from([0xff, 0xff, 0xff, 0x7f]));
  await stillWorks(t, mesh, 'after-sync-junk');
});
