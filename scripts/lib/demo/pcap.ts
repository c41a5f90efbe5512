/**
 * Reads a capture of an Ethernet link and says of each TCP stream whether it is TLS, whole. In: a pcap file (little endian, microseconds, as
 * tcpdump writes on our machines). Out: a row a stream and direction. Pure. Must never call TLS what it could not read.
 */

/** One direction of one TCP connection. */
export interface Stream {
  /** `SOURCE:PORT>DESTINATION:PORT` */
  readonly name: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Payload bytes, repetitions left out. */
  readonly bytes: number;
  /**
   * `tls`: from the first byte on nothing but TLS records; `plain`: something else; `joined`: the connection is older than the capture, so
   * records cannot be found; `gap`: the capture lost a part.
   */
  readonly kind: 'tls' | 'plain' | 'joined' | 'gap';
}

interface Segment {
  readonly seq: number;
  readonly data: Buffer;
}

interface Direction {
  readonly source: string;
  readonly destination: string;
  readonly ports: readonly [number, number];
  /** Sequence number of the SYN. */
  start: number | undefined;
  readonly segments: Segment[];
}

const MAGIC = 0xa1b2c3d4;
const ETHERNET = 1;

/** Streams with payload, in the order of their first packet. Throws on a file that is not such a capture. */
export function readStreams(file: Buffer): Stream[] {
  const directions = new Map<string, Direction>();
  for (const frame of frames(file)) addFrame(directions, frame);
  return [...directions.entries()].flatMap(([name, direction]) => {
    const { bytes, kind } = judge(direction);
    const [sourcePort, destinationPort] = direction.ports;
    return bytes === 0 ? [] : [{ name, sourcePort, destinationPort, bytes, kind }];
  });
}

function* frames(file: Buffer): Generator<Buffer> {
  if (file.length < 24 || file.readUInt32LE(0) !== MAGIC || file.readUInt32LE(20) !== ETHERNET)
    throw new Error('not a capture of an Ethernet link in pcap form');
  for (let at = 24; at + 16 <= file.length; ) {
    const [kept, onWire] = [file.readUInt32LE(at + 8), file.readUInt32LE(at + 12)];
    if (kept < onWire) throw new Error('the capture cut packets short');
    if (at + 16 + kept > file.length) return; // the last one was being written
    yield file.subarray(at + 16, at + 16 + kept);
    at += 16 + kept;
  }
}

/** Takes a TCP segment over IPv4 or IPv6 without extension headers; other frames are left alone. */
function addFrame(directions: Map<string, Direction>, frame: Buffer): void {
  if (frame.length < 34) return;
  const type = frame.readUInt16BE(12);
  const packet = frame.subarray(14);
  const ip = type === 0x0800 ? ipv4(packet) : type === 0x86dd ? ipv6(packet) : undefined;
  if (ip === undefined || ip.payload.length < 20) return;
  const { payload: tcp } = ip;
  const ports = [tcp.readUInt16BE(0), tcp.readUInt16BE(2)] as const;
  const seq = tcp.readUInt32BE(4);
  const isSyn = (tcp.readUInt8(13) & 0x02) !== 0;
  const name = `${ip.source}:${ports[0]}>${ip.destination}:${ports[1]}`;
  let direction = directions.get(name);
  if (direction === undefined) {
    direction = { source: ip.source, destination: ip.destination, ports, start: undefined, segments: [] };
    directions.set(name, direction);
  }
  if (isSyn) direction.start = seq;
  const data = tcp.subarray((tcp.readUInt8(12) >> 4) * 4);
  if (data.length > 0) direction.segments.push({ seq, data });
}

interface IpPacket {
  readonly source: string;
  readonly destination: string;
  readonly payload: Buffer;
}

const TCP = 6;

function ipv4(packet: Buffer): IpPacket | undefined {
  const header = (packet.readUInt8(0) & 0x0f) * 4;
  if (packet.readUInt8(9) !== TCP) return undefined;
  // Short frames are padded: the packet's own length counts.
  const payload = packet.subarray(header, packet.readUInt16BE(2));
  return { source: packet.subarray(12, 16).join('.'), destination: packet.subarray(16, 20).join('.'), payload };
}

function ipv6(packet: Buffer): IpPacket | undefined {
  if (packet.length < 40 || packet.readUInt8(6) !== TCP) return undefined;
  const payload = packet.subarray(40, 40 + packet.readUInt16BE(4));
  const address = (at: number) => `[${packet.toString('hex', at, at + 16)}]`;
  return { source: address(8), destination: address(24), payload };
}

function judge({ start, segments }: Direction): { bytes: number; kind: Stream['kind'] } {
  const total = segments.reduce((sum, segment) => sum + segment.data.length, 0);
  if (start === undefined) return { bytes: total, kind: 'joined' };
  const first = start + 1; // a SYN counts one
  const placed = segments
    .map(({ seq, data }) => ({ at: (seq - first) >>> 0, data }))
    .sort((a, b) => a.at - b.at || b.data.length - a.data.length);
  const parts: Buffer[] = [];
  let end = 0;
  for (const { at, data } of placed) {
    if (at > end) return { bytes: end, kind: 'gap' };
    if (at + data.length <= end) continue;
    parts.push(data.subarray(end - at));
    end = at + data.length;
  }
  return { bytes: end, kind: isTls(Buffer.concat(parts)) ? 'tls' : 'plain' };
}

/** True when the bytes are TLS records one after another; the last may be cut. Content types and versions by RFC 8446 5.1. */
export function isTls(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; ) {
    if (bytes.length - at < 5) return at > 0;
    const type = bytes.readUInt8(at);
    const length = bytes.readUInt16BE(at + 3);
    if (type < 20 || type > 23 || bytes.readUInt8(at + 1) !== 3 || bytes.readUInt8(at + 2) > 4 || length > 16_640)
      return false;
    at += 5 + length;
  }
  return bytes.length > 0;
}
