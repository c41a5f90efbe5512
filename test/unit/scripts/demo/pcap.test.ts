import { test } from 'tap';
import { requireTlsOnly } from '../../../../scripts/lib/demo/capture.ts';
import { isTls, readStreams } from '../../../../scripts/lib/demo/pcap.ts';

const HANDSHAKE = Buffer.from([22, 3, 1, 0, 2, 7, 7]);
const DATA = Buffer.from([23, 3, 3, 0, 3, 1, 2, 3]);
const SYN = 0x02;
const ACK = 0x10;

interface Packet {
  readonly seq: number;
  readonly flags?: number;
  readonly data?: Buffer;
  readonly v6?: boolean;
  readonly ports?: readonly [number, number];
}

/** An Ethernet frame with a TCP segment, padded to the least size of a frame. */
function frame({ seq, flags = ACK, data = Buffer.alloc(0), v6 = false, ports = [40000, 9080] }: Packet): Buffer {
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(ports[0], 0);
  tcp.writeUInt16BE(ports[1], 2);
  tcp.writeUInt32BE(seq >>> 0, 4);
  tcp.writeUInt8(5 << 4, 12);
  tcp.writeUInt8(flags, 13);
  const ethernet = Buffer.alloc(14);
  ethernet.writeUInt16BE(v6 ? 0x86dd : 0x0800, 12);
  const ip = Buffer.alloc(v6 ? 40 : 20);
  if (v6) {
    ip.writeUInt16BE(tcp.length + data.length, 4);
    ip.writeUInt8(6, 6);
    ip.fill(1, 8, 24).fill(2, 24, 40);
  } else {
    ip.writeUInt8(0x45, 0);
    ip.writeUInt16BE(40 + data.length, 2);
    ip.writeUInt8(6, 9);
    ip.set([10, 0, 0, 1, 10, 0, 0, 2], 12);
  }
  const whole = Buffer.concat([ethernet, ip, tcp, data]);
  return Buffer.concat([whole, Buffer.alloc(Math.max(0, 60 - whole.length))]);
}

function pcap(...packets: readonly Packet[]): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt32LE(1, 20);
  const records = packets.map((packet) => {
    const bytes = frame(packet);
    const record = Buffer.alloc(16);
    record.writeUInt32LE(bytes.length, 8);
    record.writeUInt32LE(bytes.length, 12);
    return Buffer.concat([record, bytes]);
  });
  return Buffer.concat([header, ...records]);
}

const syn = (seq: number, more: Partial<Packet> = {}): Packet => ({ seq, flags: SYN, ...more });

test('a stream is TLS only when all of it is, from the first byte on', (t) => {
  const cases: readonly [what: string, packets: readonly Packet[], kind: string | undefined, bytes: number][] = [
    ['in order', [syn(100), { seq: 101, data: HANDSHAKE }, { seq: 108, data: DATA }], 'tls', 15],
    ['out of order', [syn(100), { seq: 108, data: DATA }, { seq: 101, data: HANDSHAKE }], 'tls', 15],
    ['sent twice', [syn(100), { seq: 101, data: HANDSHAKE }, { seq: 101, data: HANDSHAKE }], 'tls', 7],
    ['numbers wrap', [syn(-4), { seq: -3, data: HANDSHAKE }, { seq: 4, data: DATA }], 'tls', 15],
    ['IPv6', [syn(100, { v6: true }), { seq: 101, data: HANDSHAKE, v6: true }], 'tls', 7],
    ['plain', [syn(100), { seq: 101, data: Buffer.from('GET / HTTP/1.1\r\n') }], 'plain', 16],
    [
      'plain after TLS',
      [syn(100), { seq: 101, data: HANDSHAKE }, { seq: 108, data: Buffer.from('hello') }],
      'plain',
      12,
    ],
    ['a part is missing', [syn(100), { seq: 101, data: HANDSHAKE }, { seq: 200, data: DATA }], 'gap', 7],
    ['older than the capture', [{ seq: 101, data: DATA }], 'joined', 8],
    ['no payload', [syn(100), { seq: 101 }], undefined, 0],
  ];
  for (const [what, packets, kind, bytes] of cases) {
    const [stream] = readStreams(pcap(...packets));
    t.equal(stream?.kind, kind, what);
    if (stream !== undefined) t.equal(stream.bytes, bytes, what);
  }
  t.end();
});

test('both directions are streams of their own', (t) => {
  const back = [9080, 40000] as const;
  const streams = readStreams(
    pcap(syn(1), syn(1, { ports: back }), { seq: 2, data: HANDSHAKE }, { seq: 2, data: DATA, ports: back }),
  );
  t.strictSame(
    streams.map(({ sourcePort, destinationPort, kind }) => [sourcePort, destinationPort, kind]),
    [
      [40000, 9080, 'tls'],
      [9080, 40000, 'tls'],
    ],
  );
  t.end();
});

test('a record may be cut at the end, never before', (t) => {
  t.ok(isTls(Buffer.concat([HANDSHAKE, DATA.subarray(0, 6)])));
  t.ok(isTls(Buffer.concat([HANDSHAKE, DATA.subarray(0, 3)])));
  t.notOk(isTls(Buffer.from([22, 3, 1])), 'too little to tell');
  t.notOk(isTls(Buffer.alloc(0)));
  t.notOk(isTls(Buffer.from([22, 2, 1, 0, 0])), 'another version');
  t.notOk(isTls(Buffer.from([23, 3, 3, 0xff, 0xff])), 'longer than a record may be');
  t.end();
});

test('what is no capture is refused', (t) => {
  t.throws(() => readStreams(Buffer.alloc(10)), /pcap/);
  t.throws(() => readStreams(Buffer.alloc(100)), /pcap/);
  const cut = pcap(syn(1));
  cut.writeUInt32LE(2000, 24 + 12);
  t.throws(() => readStreams(cut), /cut packets/);
  t.end();
});

test('the verdict names plain streams and readable marks, and wants at least one whole TLS stream', (t) => {
  const tls = pcap(syn(1), { seq: 2, data: HANDSHAKE });
  t.strictSame(requireTlsOnly(tls, [9080], ['mark']), { whole: 1, bytes: 7 });
  const plain = pcap(syn(1), { seq: 2, data: Buffer.from('GET /mark') });
  t.throws(() => requireTlsOnly(plain, [9080], []), /10\.0\.0\.1:40000>10\.0\.0\.2:9080 \(plain\)/);
  t.throws(() => requireTlsOnly(plain, [1], ['mark']), /readable/, 'a mark counts on every port');
  t.throws(() => requireTlsOnly(pcap({ seq: 2, data: DATA }), [9080], []), /no whole TLS stream/);
  t.end();
});
