// A program on a test machine that speaks DNS by its own sockets, as c-ares and forwarders do; no library but Node's own.
// usage: dns-client.ts ask udp|tcp SERVER NAME: prints what was answered
//        dns-client.ts lasting SERVER NAME...: asks by one socket for ever, a line an answer or a silence of 3 s; ends with stdin
import dgram from 'node:dgram';
import net from 'node:net';

/** One answer or silence of the lasting client. Times in ms since its start. */
export interface Asked {
  readonly name: string;
  readonly sentAt: number;
  /** First address, the error's number as `rcode N`, or `silence`. */
  readonly got: string;
}

const SILENCE_MS = 3000;
const EVERY_MS = 100;

function encode(id: number, name: string): Buffer {
  const labels = name.split('.').map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  const head = Buffer.alloc(12);
  head.writeUInt16BE(id, 0);
  head.writeUInt16BE(0x0100, 2);
  head.writeUInt16BE(1, 4);
  return Buffer.concat([head, ...labels, Buffer.from([0, 0, 1, 0, 1])]);
}

/** First A record, or `rcode N`. Names in records are pointers or whole; both end before type and class. */
function decode(message: Buffer): string {
  const rcode = message.readUInt16BE(2) & 15;
  let at = 12;
  const skipName = () => {
    for (;;) {
      const length = message[at] ?? 0;
      if (length >= 192) {
        at += 2;
        return;
      }
      at += length + 1;
      if (length === 0) return;
    }
  };
  skipName();
  at += 4;
  for (let left = message.readUInt16BE(6); left > 0; left--) {
    skipName();
    const [type, size] = [message.readUInt16BE(at), message.readUInt16BE(at + 8)];
    if (type === 1) return [...message.subarray(at + 10, at + 14)].join('.');
    at += 10 + size;
  }
  return `rcode ${rcode}`;
}

function ask(protocol: string, server: string, name: string): void {
  const query = encode(77, name);
  const done = (text: string, code = 0) => {
    console.log(text);
    process.exit(code);
  };
  setTimeout(() => done('silence', 1), SILENCE_MS);
  if (protocol === 'udp') {
    const socket = dgram.createSocket('udp4').once('message', (message) => done(decode(message)));
    socket.on('error', (error) => done(error.message, 1));
    socket.connect(53, server, () => socket.send(query));
    return;
  }
  const socket = net.connect(53, server, () => {
    const length = Buffer.alloc(2);
    length.writeUInt16BE(query.length);
    socket.write(Buffer.concat([length, query]));
  });
  let answer = Buffer.alloc(0);
  socket.on('error', (error) => done(error.message, 1));
  socket.on('data', (chunk) => {
    answer = Buffer.concat([answer, chunk]);
    if (answer.length > 2 && answer.length >= 2 + answer.readUInt16BE(0)) done(decode(answer.subarray(2)));
  });
}

function lasting(server: string, names: readonly string[]): void {
  const socket = dgram.createSocket('udp4');
  const waiting = new Map<number, { name: string; sentAt: number }>();
  const start = performance.now();
  const now = () => Math.round(performance.now() - start);
  let id = 0;
  const tell = (asked: Asked) => console.log(JSON.stringify(asked));
  socket.on('message', (message) => {
    const sent = waiting.get(message.readUInt16BE(0));
    if (sent === undefined) return;
    waiting.delete(message.readUInt16BE(0));
    tell({ ...sent, got: decode(message) });
  });
  // a connected socket is told of a closed port: then it goes on, as a resolver does
  socket.on('error', () => {});
  socket.connect(53, server, () => {
    setInterval(() => {
      id = (id + 1) & 0xffff;
      const name = names[id % names.length] as string;
      waiting.set(id, { name, sentAt: now() });
      socket.send(encode(id, name), () => {});
      for (const [old, sent] of waiting) {
        if (sent.sentAt > now() - SILENCE_MS) break;
        waiting.delete(old);
        tell({ ...sent, got: 'silence' });
      }
    }, EVERY_MS);
  });
  process.stdin.resume().once('end', () => process.exit(0));
}

if (import.meta.main) {
  const [mode, ...rest] = process.argv.slice(2);
  if (mode === 'ask') ask(rest[0] ?? '', rest[1] ?? '', rest[2] ?? '');
  else lasting(rest[0] ?? '', rest.slice(1));
}
