/** Probes through others, over real UDP: what the host in between can and cannot do. */
import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { createEndpointTable } from '../../../../agent/gossip/endpoint-table.ts';
import { createProber } from '../../../../agent/gossip/prober.ts';
import { createSwimTransport } from '../../../../agent/gossip/swim-transport.ts';
import type { SwimPacket } from '../../../../api/gossip/swim-packet.ts';
import { type Clock, systemClock } from '../../../../runtime/clock.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { record, verified } from '../../../builders/gossip.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';

let port = 16_000 + (process.pid % 3500); // below the ephemeral range, where any other socket may be
const ip = '127.0.0.1';

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 12_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error('not within 12 s');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A real prober that knows `peers` by record; `verdicts` and `drops` are what it said. */
async function prober(t: Test, host: string, clock: Clock = systemClock) {
  const listen = { address: ip, port: port++ };
  const table = createEndpointTable(host);
  const verdicts: string[] = [];
  const drops: string[] = [];
  const room = createProber({
    host,
    listen: [listen],
    table,
    onVerdict: (peer, liveness) => verdicts.push(`${peer} ${liveness}`),
    onProven: () => {},
    accuse: () => {},
    onUnproven: () => {},
    load: () => ({ links: 1, records: 2 }),
    onAnswer: () => {},
    onDrop: (reason) => drops.push(reason),
    onBytes: () => {},
    clock,
    random: Math.random,
    log: silentLogger,
  });
  await room.start();
  t.teardown(() => room.stop());
  const know = (peer: string, probeKey: string, gossipPort: number) => {
    table.merge(verified(record(peer, { probeKey, addresses: [ip], gossipAddresses: [`${ip}:${gossipPort}`] })));
    room.setHost(table.get(peer)!);
  };
  return { room, table, listen, verdicts, drops, know, host, probeKey: room.probeKey };
}

t.test('a host that only others reach is alive; a relay that lies keeps nobody alive', async (t) => {
  const a = await prober(t, 'a');
  const target = await prober(t, 'c');
  const seen: SwimPacket[] = [];
  let honest = true;
  const listen = { address: ip, port: port++ };
  /** The host in between: honest, it carries datagrams; lying, it makes up the answer. */
  const between = createSwimTransport({
    host: 'b',
    listen: [listen],
    onPacket(from, packet, source) {
      seen.push(packet);
      if (packet.type === 'ping') between.send(from, { type: 'ack', id: packet.id }, source);
      if (packet.type === 'ping-request' && honest)
        between.send('c', { type: 'ping-for', id: packet.id, target: from }, target.listen);
      if (packet.type === 'ping-request' && !honest) {
        between.send('a', { type: 'ack-for', id: packet.id, proof: randomBytes(16).toString('hex') }, a.listen);
        between.send('a', { type: 'ack', id: packet.id }, a.listen);
      }
      if (packet.type === 'ack-for') between.send('a', packet, a.listen);
    },
    onDrop: () => {},
    onBytes: () => {},
    monotonic: () => performance.now(),
    log: silentLogger,
  });
  await between.start();
  t.teardown(() => between.stop());
  const nowhere = port++; // a reaches c by b only: nobody listens where a thinks that c is
  a.know('b', between.probeKey, listen.port);
  a.know('c', target.probeKey, nowhere);
  target.know('a', a.probeKey, a.listen.port);
  target.know('b', between.probeKey, listen.port);
  between.setPeer('a', a.probeKey);
  between.setPeer('c', target.probeKey);

  await until(() => seen.filter((p) => p.type === 'ack-for').length >= 2);
  t.same(a.verdicts, [], 'alive by relayed answers');
  honest = false;
  await until(() => a.verdicts.includes('c dead'));
  t.ok(a.drops.includes('forged'), 'made-up answers are dropped and counted');
});

t.test('a dead host that answers is no lag of the one that hears it', async (t) => {
  const clock = createFakeClock();
  const a = await prober(t, 'a', clock);
  const listen = { address: ip, port: port++ };
  let silent = true;
  const b = createSwimTransport({
    host: 'b',
    listen: [listen],
    onPacket(from, packet, source) {
      if (packet.type === 'ping' && !silent) b.send(from, { type: 'ack', id: packet.id }, source);
    },
    onDrop: () => {},
    onBytes: () => {},
    monotonic: () => performance.now(),
    log: silentLogger,
  });
  await b.start();
  t.teardown(() => b.stop());
  a.know('b', b.probeKey, listen.port);
  b.setPeer('a', a.probeKey);
  for (let round = 0; round < 3; round++) {
    silent = true;
    const died = () => a.verdicts.at(-1) === 'b dead';
    for (let ms = 0; ms < 30_000 && !died(); ms += 100) await clock.advance(100);
    t.ok(died(), 'silent, it dies');
    silent = false;
    const back = () => a.verdicts.at(-1) === 'b alive';
    for (let ms = 0; ms < 5000 && !back(); ms += 50) await clock.advance(50);
    t.ok(back(), 'it answers, it lives');
    for (let ms = 0; ms < 1500; ms += 50) {
      await clock.advance(50);
      t.ok(a.room.lagMs() < 1, `lag ${a.room.lagMs()} ms`);
    }
  }
});
