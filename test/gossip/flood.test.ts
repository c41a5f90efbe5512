/**
 * One member sends 10,000 messages a second, of several kinds, to three hosts that are processes of their own: what it costs them in CPU and
 * memory, and that they go on with their work. The attacker is this process; a figure is printed for each kind.
 */
import { createSocket } from 'node:dgram';
import { RPC } from '@chainsafe/libp2p-gossipsub/message';
import type { Connection } from '@libp2p/interface';
import t, { type Test } from 'tap';
import { TOPICS } from '../../agent/gossip/topics.ts';
import { encodeAccusation } from '../../api/gossip/accusation.ts';
import { sealEnvelope } from '../../api/gossip/envelope.ts';
import { record, sealed } from '../builders/gossip.ts';
import type { TestIdentity } from '../builders/test-ca.ts';
import { until } from './mesh.ts';
import { type HostProcess, setUp } from './process-mesh.ts';
import { createRawPeer, type RawPeer } from './raw-peer.ts';

t.setTimeout(300_000);

const FLOOD_MS = 4000;
const PER_SECOND = 10_000;

/** What hosts spent between two looks: the largest share of a core, and how far memory grew. */
async function look(hosts: readonly HostProcess[]): Promise<() => Promise<{ cpu: number; rssMb: number }>> {
  const read = async () => {
    const lines = hosts.map((h) => h.lines);
    for (const { child } of hosts) child.kill('SIGUSR2');
    await until(() => hosts.every((h, i) => h.lines > (lines[i] as number)), 10_000);
    return hosts.map((h) => h.last);
  };
  const before = await read();
  const started = performance.now();
  return async () => {
    const after = await read();
    const ms = performance.now() - started;
    return {
      cpu: Math.max(...after.map((a, i) => (a.cpuMs - (before[i]?.cpuMs ?? 0)) / ms)),
      rssMb: Math.max(...after.map((a, i) => (a.rss - (before[i]?.rss ?? 0)) / 1e6)),
    };
  };
}

/** Sends batches at the kind's rate to every host that lets it in, dialling again whenever it is cut off, until the time is up. */
async function flood(
  peer: RawPeer,
  addresses: readonly string[],
  port: number,
  { perBatch, perSecond }: Kind,
  batches: readonly Uint8Array[],
): Promise<{ sent: number; dials: number }> {
  const started = performance.now();
  let sent = 0;
  let dials = 0;
  const links = new Map<string, 'dialling' | Connection>();
  for (let n = 0; performance.now() - started < FLOOD_MS; n++) {
    for (const address of addresses) {
      const link = links.get(address);
      if (link === 'dialling' || link?.status === 'open') continue;
      links.set(address, 'dialling');
      dials += 1;
      peer.dial(address, port).then(
        (connection) => links.set(address, connection),
        () => links.delete(address),
      );
    }
    for (const stream of peer.meshStreams('outbound')) {
      try {
        stream.send(batches[n % batches.length] as Uint8Array);
        sent += perBatch;
      } catch {
        // cut off
      }
    }
    await until(() => performance.now() - started > (n * perBatch * 1000) / perSecond, 2000);
  }
  return { sent, dials };
}

/** gossipsub frames of the messages, each with its length in front. */
function frames(topic: string, messages: readonly Uint8Array[]): Uint8Array {
  const rpc = RPC.encode({ subscriptions: [], messages: messages.map((data) => ({ topic, data })) } as never);
  const length: number[] = [];
  for (let n = rpc.length; ; n >>>= 7) {
    length.push(n > 0x7f ? (n & 0x7f) | 0x80 : n);
    if (n <= 0x7f) return Buffer.concat([Buffer.from(length), rpc]);
  }
}

const accusation = (host: string, identity: TestIdentity, counter: number) => {
  const payload = encodeAccusation({ accuser: host, target: 'h1', epoch: 1, counter });
  return sealEnvelope('accusation', payload, identity.privateKey, identity.leaf.raw).bytes;
};

interface Kind {
  readonly name: string;
  readonly topic: keyof typeof TOPICS;
  readonly perBatch: number;
  readonly perSecond: number;
  make(host: string, identity: TestIdentity, n: number): Uint8Array;
}

const own: Kind['make'] = (host, identity, n) => sealed(identity, record(host, { counter: n + 1 })).bytes;
const kinds: readonly Kind[] = [
  { name: 'valid records of its own', topic: 'records', perBatch: 50, perSecond: PER_SECOND, make: own },
  { name: 'valid accusations', topic: 'health', perBatch: 50, perSecond: PER_SECOND, make: accusation },
  {
    name: 'announcements',
    topic: 'config',
    perBatch: 20,
    perSecond: PER_SECOND,
    make: (_host, _identity, n) => Buffer.concat([Buffer.from(`${n} `), Buffer.alloc(1900, n)]),
  },
  {
    name: 'junk of 8 KB that says it is of another version',
    topic: 'records',
    perBatch: 5,
    perSecond: PER_SECOND,
    make: (_host, _identity, n) => Buffer.concat([Buffer.from(`${n} `), Buffer.alloc(8000, n)]),
  },
  // What no budget of a link stops: each is verified, two a second are taken.
  { name: 'valid records at 350 a second', topic: 'records', perBatch: 5, perSecond: 350, make: own },
];

type Mesh = ReturnType<typeof setUp>;

/** The hosts see one another, and one that joins meanwhile is known to all in seconds. */
async function goesOn(t: Test, { start, see, show }: Mesh, joiner: number): Promise<void> {
  start(joiner);
  const took = await until(() => see(OLD, `h${joiner}`, 'alive'), 30_000, show);
  t.pass(`a host that joins is known to all ${Math.round(took)} ms after its start`);
  for (const host of OLD) t.ok(see(OLD, host, 'alive'), show());
}

const OLD = ['h0', 'h1', 'h2'];

t.test('floods', async (t) => {
  const mesh = setUp(t, 3, { granted: 20 });
  await mesh.whole();
  const hosts = [...mesh.running.values()];
  const addresses = [0, 1, 2].map(mesh.address);
  let next = 3;

  /** Runs `attack` while a new host joins; reports what it cost the three. */
  const measured = async (t: Test, attack: () => Promise<string>) => {
    const spent = await look(hosts);
    const running = attack();
    await goesOn(t, mesh, next++);
    const what = await running;
    const { cpu, rssMb } = await spent();
    t.comment(`${what}; at most ${(cpu * 100).toFixed(1)} % of a core, ${rssMb.toFixed(0)} MB more on a host`);
    t.ok(cpu < 0.5, 'CPU is bounded');
    t.ok(rssMb < 60, 'memory is bounded');
  };

  for (const kind of kinds) {
    await t.test(kind.name, async (t) => {
      const host = `h${next++}`;
      const identity = mesh.ca.host(host);
      const batches = Array.from({ length: 4000 / kind.perBatch }, (_, i) => {
        const messages = Array.from({ length: kind.perBatch }, (_, k) =>
          kind.make(host, identity, i * kind.perBatch + k),
        );
        return frames(TOPICS[kind.topic], messages);
      });
      const peer = await createRawPeer(host, mesh.ca.trustDomain, identity);
      t.teardown(() => peer.stop());
      await measured(t, async () => {
        const { sent, dials } = await flood(peer, addresses, mesh.port, kind, batches);
        const offered = (kind.perSecond * FLOOD_MS) / 1000;
        return `${kind.name}: ${offered} for each of three hosts, ${sent} sent in all, ${dials} dials`;
      });
    });
  }

  await t.test('datagrams of strangers', async (t) => {
    const udp = createSocket('udp4');
    t.teardown(() => udp.close());
    const junk = Buffer.alloc(60, 1);
    await measured(t, async () => {
      const started = performance.now();
      let each = 0;
      for (; performance.now() - started < FLOOD_MS; each += 100) {
        for (const address of addresses) for (let i = 0; i < 100; i++) udp.send(junk, mesh.port, address);
        await until(() => performance.now() - started > (each * 1000) / PER_SECOND, 2000);
      }
      return `datagrams of strangers: ${Math.round((each * 1000) / FLOOD_MS)} a second to each`;
    });
  });

  await t.test('handshakes of an outsider', async (t) => {
    const foreign = mesh.outsider('h3');
    const peers = await Promise.all(Array.from({ length: 4 }, () => createRawPeer('h3', mesh.ca.trustDomain, foreign)));
    for (const peer of peers) t.teardown(() => peer.stop());
    await measured(t, async () => {
      const started = performance.now();
      let tries = 0;
      const loop = async (peer: RawPeer) => {
        for (; performance.now() - started < FLOOD_MS; tries += 1)
          await Promise.all(addresses.map((a) => peer.dial(a, mesh.port).catch(() => {})));
      };
      await Promise.all(peers.map(loop));
      return `handshakes of an outsider: ${Math.round((tries * 1000) / FLOOD_MS)} a second to each`;
    });
  });
});
