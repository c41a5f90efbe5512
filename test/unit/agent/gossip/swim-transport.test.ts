import { createSocket } from 'node:dgram';
import t, { type Test } from 'tap';
import {
  createReplayWindow,
  createSwimTransport,
  type SwimDrop,
  type SwimTransport,
} from '../../../../agent/gossip/swim-transport.ts';
import type { SwimPacket } from '../../../../api/gossip/swim-packet.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { seeded } from '../../../fakes/seeded.ts';

let next = 10_000 + (process.pid % 4500); // below the ephemeral range, where any other socket may be

async function end(t: Test, host: string, address = '127.0.0.1') {
  const listen = { address, port: next++ };
  const packets: { host: string; packet: SwimPacket }[] = [];
  const drops: SwimDrop[] = [];
  const transport: SwimTransport = createSwimTransport({
    host,
    listen: [listen],
    onPacket: (from, packet) => packets.push({ host: from, packet }),
    onDrop: (reason) => drops.push(reason),
    onBytes: () => {},
    monotonic: () => performance.now(),
    log: silentLogger,
  });
  await transport.start();
  t.teardown(() => transport.stop());
  return { transport, listen, packets, drops };
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error('not within 20 s');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const ping = { type: 'ping', id: '0123456789abcdef' } as const;

t.test('hosts that know each other talk, over both families', async (t) => {
  for (const address of ['127.0.0.1', '::1']) {
    const a = await end(t, 'a', address);
    const b = await end(t, 'b', address);
    t.notOk(a.transport.send('b', ping, b.listen), 'unknown yet');
    a.transport.setPeer('b', b.transport.probeKey);
    b.transport.setPeer('a', a.transport.probeKey);
    t.ok(a.transport.send('b', ping, b.listen));
    await until(() => b.packets.length === 1);
    t.match(b.packets[0], { host: 'a', packet: ping });
    t.notOk(
      a.transport.send('b', ping, { address: address === '::1' ? '127.0.0.1' : '::1', port: 1 }),
      'no socket of that family',
    );
  }
});

t.test('strangers, forgeries and replays are dropped, and answered by nothing', async (t) => {
  const a = await end(t, 'a');
  const b = await end(t, 'b');
  a.transport.setPeer('b', b.transport.probeKey);
  a.transport.send('b', ping, b.listen);
  await until(() => b.drops.length === 1);
  t.same(b.drops, ['stranger']);
  b.transport.setPeer('a', a.transport.probeKey);

  const wire = createSocket('udp4');
  t.teardown(() => wire.close());
  const captured: Buffer[] = [];
  wire.on('message', (bytes) => captured.push(bytes));
  await new Promise<void>((resolve) => wire.bind(0, '127.0.0.1', resolve));
  a.transport.send('b', ping, { address: '127.0.0.1', port: wire.address().port });
  await until(() => captured.length === 1);
  const [datagram] = captured as [Buffer];
  const changed = Buffer.from(datagram);
  changed[30] = (changed[30] as number) ^ 1;
  for (const bytes of [datagram, datagram, changed, Buffer.from('junk')]) wire.send(bytes, b.listen.port, '127.0.0.1');
  await until(() => b.drops.length === 4);
  t.same(b.drops.slice(1).sort(), ['forged', 'malformed', 'replay']);
  t.equal(b.packets.length, 1);
  t.equal(captured.length, 1, 'nothing came back');
});

t.test('a rebooted host has another key: its old datagrams are a stranger’s', async (t) => {
  const a = await end(t, 'a');
  const b = await end(t, 'b');
  a.transport.setPeer('b', b.transport.probeKey);
  b.transport.setPeer('a', (await end(t, 'a')).transport.probeKey);
  a.transport.send('b', ping, b.listen);
  await until(() => b.drops.length === 1);
  t.same(b.drops, ['stranger']);
});

t.test('a taken port is named', async (t) => {
  const a = await end(t, 'a');
  const twin = createSwimTransport({
    host: 'b',
    listen: [a.listen],
    onPacket: () => {},
    onDrop: () => {},
    onBytes: () => {},
    monotonic: () => 0,
    log: silentLogger,
  });
  await t.rejects(twin.start(), { code: 'LISTEN_FAILED', message: new RegExp(`UDP 127.0.0.1 port ${a.listen.port}`) });
});

t.test('the replay window takes each number once, in any order within 64', async (t) => {
  const window = createReplayWindow();
  for (const [n, want] of [
    [5, true],
    [5, false],
    [3, true],
    [3, false],
    [200, true],
    [136, false],
    [137, true],
    [137, false],
    [199, true],
    [2 ** 47, true],
    [200, false],
  ] as const) {
    t.equal(window.accept(n), want, String(n));
  }
  const random = seeded(3);
  const again = createReplayWindow();
  const taken = new Set<number>();
  for (let i = 0; i < 5000; i++) {
    const n = Math.floor(i / 2 + random() * 40);
    if (again.accept(n)) {
      if (taken.has(n)) t.fail(`${n} twice`);
      taken.add(n);
    }
  }
  t.ok(taken.size > 2000);
});
