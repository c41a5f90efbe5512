import dgram from 'node:dgram';
import net from 'node:net';
import packet from 'dns-packet';
import { Registry } from 'prom-client';
import t, { type Test } from 'tap';
import { createFramer, frame } from '../../../../agent/dns/forwarder.ts';
import { createNames } from '../../../../agent/dns/resolve.ts';
import { createDns, type DnsDeps } from '../../../../agent/dns/server.ts';
import { systemClock } from '../../../../runtime/clock.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { until } from '../../../fakes/until.ts';

const names = createNames(
  (namespace) =>
    new Map([[`reviews.${namespace}.svc.cluster.local`, { v4: [`240.240.0.${namespace.length}`], v6: ['fd6d::1'] }]]),
);

let candidate = 20_000 + 2 * Math.floor(Math.random() * 5000);

/** A port that is free with the next one, for UDP and TCP; never the same twice. Below the ephemeral range: there any other process may take it. */
async function freePort(): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    const port = candidate;
    candidate += 2;
    const free = [port, port + 1].flatMap((each) => [isFree(each, 'udp'), isFree(each, 'tcp')]);
    if ((await Promise.all(free)).every(Boolean)) return port;
  }
  throw new Error('no free port');
}

function isFree(port: number, protocol: 'udp' | 'tcp'): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = protocol === 'udp' ? dgram.createSocket('udp4') : net.createServer();
    socket.once('error', () => resolve(false));
    socket.once('listening', () => socket.close(() => resolve(true)));
    if ('bind' in socket) socket.bind(port, '127.0.0.1');
    else socket.listen(port, '127.0.0.1');
  });
}

type Behaviour = (query: packet.DecodedPacket, raw: Buffer) => Buffer | 'silent';
const resolved: Behaviour = (query) =>
  packet.encode({
    type: 'response',
    id: query.id,
    flags: packet.RECURSION_AVAILABLE,
    questions: query.questions,
    answers: [{ type: 'A', name: query.questions![0]!.name, ttl: 60, data: '192.0.2.1' }],
  });

/** A resolver on `address`, udp and tcp; counts what it saw. */
async function openResolver(t: Test, address: string, port: number, behave: Behaviour) {
  const seen: { name: string; id: number; from: number; protocol: string }[] = [];
  const handle = (raw: Buffer, from: number, protocol: string, reply: (message: Buffer) => void) => {
    const query = packet.decode(raw);
    seen.push({ name: query.questions?.[0]?.name ?? '', id: query.id ?? -1, from, protocol });
    const answer = behave(query, raw);
    if (answer !== 'silent') reply(answer);
  };
  const udp = dgram.createSocket('udp4');
  udp.on('message', (raw, peer) =>
    handle(raw, peer.port, 'udp', (message) => udp.send(message, peer.port, peer.address)),
  );
  await new Promise<void>((resolve) => udp.bind(port, address, resolve));
  const tcp = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.on(
      'data',
      createFramer((raw) => handle(raw, socket.remotePort ?? 0, 'tcp', (message) => socket.write(frame(message)))),
    );
  });
  await new Promise<void>((resolve) => tcp.listen(port, address, resolve));
  t.teardown(() => {
    udp.close();
    tcp.close();
  });
  return { seen, real: () => seen.filter((s) => !s.name.includes('loop-probe')) };
}

async function openDns(t: Test, part: Partial<DnsDeps> & { servers?: string[] } = {}) {
  const basePort = await freePort();
  const registry = new Registry();
  const dns = createDns({
    names: () => names,
    namespaces: ['shop', 'data1'],
    basePort,
    findResolvers: async () => ({ servers: part.servers ?? [], search: [] }),
    inherited: [],
    clock: systemClock,
    log: silentLogger,
    registry,
    upstreamTimeoutMs: 10_000, // who answers here is this process too, which a busy machine may let wait
    ...part,
  });
  await dns.start(new AbortController().signal);
  t.teardown(() => dns.stop());
  return { dns, basePort, registry };
}

function ask(
  port: number,
  name: string,
  options: { type?: packet.StringRecordType; host?: string; raw?: Buffer } = {},
): Promise<packet.DecodedPacket> {
  const { type = 'A', host = '127.0.0.1' } = options;
  const raw =
    options.raw ??
    packet.encode({ type: 'query', id: 4242, flags: packet.RECURSION_DESIRED, questions: [{ type, name }] });
  const socket = dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4');
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    const again = setInterval(() => socket.send(raw, port, host), 3000); // UDP may be lost, under a flood it is
    socket.once('message', (message) => {
      clearInterval(again);
      socket.close();
      resolve(packet.decode(message));
    });
    socket.send(raw, port, host);
  });
}

function askTcp(port: number, ...queries: string[]): Promise<packet.DecodedPacket[]> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1');
    const answers: packet.DecodedPacket[] = [];
    socket.once('error', reject);
    socket.on(
      'data',
      createFramer((message) => {
        if (answers.push(packet.decode(message)) < queries.length) return;
        socket.destroy();
        resolve(answers);
      }),
    );
    for (const [id, name] of queries.entries())
      socket.write(packet.streamEncode({ type: 'query', id, questions: [{ type: 'A', name }] }));
  });
}

t.test('mesh names by namespace of the port, over both families, udp and tcp', async (t) => {
  const { basePort } = await openDns(t);
  t.match(await ask(basePort, 'reviews'), { id: 4242, answers: [{ data: '240.240.0.4', ttl: 10 }] });
  t.match(await ask(basePort + 1, 'reviews'), { answers: [{ data: '240.240.0.5' }] });
  t.match(await ask(basePort, 'reviews', { type: 'AAAA', host: '::1' }), { answers: [{ data: 'fd6d::1' }] });
  t.match(await ask(basePort, 'nothing.shop.svc.cluster.local'), { rcode: 'NXDOMAIN' });
  const answers = await askTcp(basePort, 'reviews', 'reviews.shop', 'x.shop.svc.cluster.local');
  t.strictSame(answers.map((a) => [a.id, (a as { rcode?: string }).rcode]).sort(), [
    [0, 'NOERROR'],
    [1, 'NOERROR'],
    [2, 'NXDOMAIN'],
  ]);
});

t.test('other names go to the resolver and come back as they are', async (t) => {
  const port = await freePort();
  const resolver = await openResolver(t, '127.0.0.2', port, (query, raw) =>
    query.questions?.[0]?.name === 'broken.example'
      ? packet.encode({ type: 'response', id: query.id, flags: 2, questions: query.questions })
      : resolved(query, raw),
  );
  const { basePort, registry, dns } = await openDns(t, { servers: ['127.0.0.2'], upstreamPort: port });
  t.match(await ask(basePort, 'example.com'), { id: 4242, answers: [{ data: '192.0.2.1', ttl: 60 }] });
  t.match(await ask(basePort, 'broken.example'), { id: 4242, rcode: 'SERVFAIL' });
  t.match(await askTcp(basePort, 'example.org'), [{ id: 0, answers: [{ data: '192.0.2.1' }] }]);
  t.strictSame(
    resolver.real().map((s) => [s.name, s.protocol]),
    [
      ['example.com', 'udp'],
      ['broken.example', 'udp'],
      ['example.org', 'tcp'],
    ],
  );
  for (let i = 0; i < 8; i++) await ask(basePort, `n${i}.example`);
  const sent = resolver.real().filter((s) => s.protocol === 'udp');
  t.ok(
    new Set(sent.map((s) => s.id)).size > 6 && new Set(sent.map((s) => s.from)).size > 6,
    'ids and ports differ each time',
  );
  t.notOk(
    sent.some((s) => s.id === 4242),
    "the asker's id does not go out",
  );
  t.match(await registry.metrics(), /mesh_agent_dns_queries_total\{outcome="forwarded"\} 11/);
  t.strictSame(dns.problems(), []);
});

t.test('forged answers are not taken; a silent resolver is passed over and then tried last', async (t) => {
  const port = await freePort();
  const liar = await openResolver(t, '127.0.0.3', port, (query) =>
    packet.encode({
      type: 'response',
      id: ((query.id ?? 0) + 1) & 0xffff,
      questions: query.questions,
      answers: [{ type: 'A', name: query.questions![0]!.name, data: '6.6.6.6' }],
    }),
  );
  const honest = await openResolver(t, '127.0.0.2', port, resolved);
  const { basePort } = await openDns(t, {
    servers: ['127.0.0.3', '127.0.0.2'],
    upstreamPort: port,
    upstreamTimeoutMs: 1000,
  });
  t.match(await ask(basePort, 'one.example'), { answers: [{ data: '192.0.2.1' }] });
  await ask(basePort, 'two.example');
  t.strictSame([liar.real().length, honest.real().length], [1, 2]);
});

t.test('no resolver, none that answers: SERVFAIL, while mesh names go on', async (t) => {
  const { basePort, dns } = await openDns(t, { servers: [] });
  t.match(await ask(basePort, 'example.com'), { rcode: 'SERVFAIL', id: 4242 });
  t.match(await ask(basePort, 'reviews'), { rcode: 'NOERROR' });
  t.strictSame(dns.problems(), ['dns: no resolver to forward to']);
  const dead = await openDns(t, { servers: ['127.0.0.9'], upstreamPort: await freePort(), upstreamTimeoutMs: 150 });
  t.match(await ask(dead.basePort, 'example.com'), { rcode: 'SERVFAIL' });
});

t.test(
  'a name that systemd-resolved sends here is not sent to it again, but to the servers it asks itself',
  async (t) => {
    const port = await freePort();
    const stub = await openResolver(t, '127.0.0.4', port, resolved);
    const uplink = await openResolver(t, '127.0.0.2', port, resolved);
    let uplinks: string[] | undefined = ['127.0.0.2'];
    const { basePort } = await openDns(t, {
      findResolvers: async () => ({ servers: ['127.0.0.4'], search: [], uplinks }),
      routed: (name) => name.endsWith('api.example.com'),
      upstreamPort: port,
    });
    t.match(await ask(basePort, 'www.api.example.com'), { answers: [{ data: '192.0.2.1' }] });
    t.match(await ask(basePort, 'other.example.com'), { answers: [{ data: '192.0.2.1' }] });
    t.strictSame(
      [uplink.real().map((q) => q.name), stub.real().map((q) => q.name)],
      [['www.api.example.com'], ['other.example.com']],
    );
    uplinks = [];
    const lonely = await openDns(t, {
      findResolvers: async () => ({ servers: ['127.0.0.4'], search: [], uplinks }),
      routed: () => true,
      upstreamPort: port,
    });
    t.match(await ask(lonely.basePort, 'www.api.example.com'), { rcode: 'SERVFAIL' }, 'no loop where it knows none');
  },
);

t.test('a resolver that leads back here is found and left out', async (t) => {
  const basePort = await freePort();
  const port = await freePort();
  // A stub like dnsmasq that forwards to us
  await openResolver(t, '127.0.0.4', port, (query) => {
    const socket = dgram.createSocket('udp4');
    socket.once('message', () => socket.close());
    socket.send(packet.encode({ ...query, type: 'query' } as packet.Packet), basePort, '127.0.0.1');
    return 'silent';
  });
  const honest = await openResolver(t, '127.0.0.2', port, resolved);
  const { dns } = await openDns(t, { servers: ['127.0.0.4', '127.0.0.2'], upstreamPort: port, basePort });
  await until(() => dns.upstreams().length === 1, 'the loop to be found');
  t.strictSame(dns.upstreams(), ['127.0.0.2']);
  t.match(dns.problems(), ['dns: resolver 127.0.0.4 leads back to this agent']);
  t.match(await ask(basePort, 'example.com'), { answers: [{ data: '192.0.2.1' }] });
  t.equal(honest.real().length, 1);
});

t.test('hostile: junk, responses, and more than we hold', async (t) => {
  const port = await freePort();
  await openResolver(t, '127.0.0.2', port, () => 'silent');
  const { basePort, registry } = await openDns(t, {
    servers: ['127.0.0.2'],
    upstreamPort: port,
    upstreamTimeoutMs: 150,
  });
  const flood = dgram.createSocket('udp4');
  t.teardown(() => flood.close());
  let servfails = 0; // of the 700, those over the bound of 512 at once, the others when the resolver stays silent
  flood.on('message', (message) => {
    if ((message.readUInt8(3) & 15) === 2) servfails++;
  });
  flood.send(Buffer.from('junk'), basePort, '127.0.0.1');
  flood.send(
    packet.encode({ type: 'response', id: 1, questions: [{ type: 'A', name: 'reviews' }] }),
    basePort,
    '127.0.0.1',
  );
  for (let i = 0; i < 700; i++) {
    flood.send(
      packet.encode({ type: 'query', id: i, questions: [{ type: 'A', name: `f${i}.example` }] }),
      basePort,
      '127.0.0.1',
    );
    if (i % 40 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  t.match(await ask(basePort, 'reviews'), { rcode: 'NOERROR' }, 'mesh names are answered meanwhile');
  await until(() => servfails > 400, 'the flood to be answered');
  t.match(await registry.metrics(), /outcome="malformed"\} 2/);
  const socket = net.connect(basePort, '127.0.0.1');
  socket.write(frame(Buffer.alloc(65_535, 1)));
  const answer = await new Promise<Buffer>((resolve) => socket.once('data', resolve));
  socket.destroy();
  t.equal(answer.readUInt8(5) & 15, 1, '64 KiB of junk by TCP: FORMERR');
});

t.test('no query is read before the resolvers are known: what waited would be told that there are none', async (t) => {
  let taken: boolean | undefined;
  const basePort = await freePort();
  await openDns(t, {
    basePort,
    async findResolvers() {
      if (taken === undefined) {
        const probe = dgram.createSocket('udp4');
        taken = await new Promise<boolean>((resolve) => {
          probe.once('error', () => resolve(true));
          probe.bind({ port: basePort, address: '127.0.0.1', exclusive: true }, () => resolve(false));
        });
        await new Promise<void>((resolve) => probe.close(() => resolve()));
      }
      return { servers: [], search: [] };
    },
  });
  t.equal(taken, false);
});

t.test('a port that is taken is an error with its address', async (t) => {
  const { basePort } = await openDns(t);
  const second = createDns({
    names: () => names,
    namespaces: ['shop'],
    basePort,
    findResolvers: async () => ({ servers: [], search: [] }),
    inherited: [],
    clock: systemClock,
    log: silentLogger,
    registry: new Registry(),
  });
  await t.rejects(second.start(new AbortController().signal), {
    code: 'DNS_BIND',
    details: { address: '127.0.0.1', port: basePort },
  });
  await second.stop();
});
