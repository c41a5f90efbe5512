/** A name server for tests: argv[2] is the address to listen on, argv[3] a JSON map of names to IPv4 addresses; all other names do not exist. */
import dgram from 'node:dgram';

const [, , address, json = '{}'] = process.argv;
const names = JSON.parse(json) as Record<string, string>;
const socket = dgram.createSocket('udp4');

socket.on('message', (query, from) => {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += length + 1;
  }
  const question = query.subarray(12, at + 5);
  const known = names[labels.join('.').toLowerCase()];
  const answer = known !== undefined && query.readUInt16BE(at + 1) === 1 ? recordOf(known) : Buffer.alloc(0);
  const head = Buffer.alloc(12);
  query.copy(head, 0, 0, 2);
  head.writeUInt16BE(known === undefined ? 0x8183 : 0x8180, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(answer.length === 0 ? 0 : 1, 6);
  socket.send(Buffer.concat([head, question, answer]), from.port, from.address);
});

/** An A record of the name in the question, for 30 s. */
function recordOf(ip: string): Buffer {
  return Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, ...ip.split('.').map(Number)]);
}

socket.bind(53, address, () => process.stdout.write('ready\n'));
