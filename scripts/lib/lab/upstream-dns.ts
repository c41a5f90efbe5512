/**
 * The lab's DNS for names outside the mesh, on UDP and TCP port 53 of the bridge. In: a JSON object of name to addresses in argv. Out: A and
 * AAAA of these names, NOERROR without answers for their other types, NXDOMAIN for all others. It stands in for a company's resolver.
 */
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { pathToFileURL } from 'node:url';
import dnsPacket, { type Answer, type Packet } from 'dns-packet';

export type Zone = Readonly<Record<string, { readonly v4: string; readonly v6: string }>>;

const NXDOMAIN = 3;

/** The answer to one query. Pure. Throws on what is no DNS query. */
export function answerQuery(zone: Zone, query: Packet): Packet {
  const question = query.questions?.[0];
  const name = question?.name.toLowerCase() ?? '';
  const found = Object.hasOwn(zone, name) ? zone[name] : undefined;
  const answers: Answer[] = [];
  if (found !== undefined && question?.type === 'A') answers.push({ type: 'A', name, ttl: 5, data: found.v4 });
  if (found !== undefined && question?.type === 'AAAA') answers.push({ type: 'AAAA', name, ttl: 5, data: found.v6 });
  const flags = dnsPacket.RECURSION_DESIRED | dnsPacket.RECURSION_AVAILABLE | (found === undefined ? NXDOMAIN : 0);
  return { type: 'response', id: query.id ?? 0, flags, questions: query.questions ?? [], answers };
}

/** Serves `zone` on the addresses until the process ends. */
function serve(zone: Zone, addresses: readonly string[], port: number): void {
  for (const address of addresses) {
    const udp = createSocket({ type: address.includes(':') ? 'udp6' : 'udp4', reuseAddr: true });
    udp.on('message', (message, peer) => {
      try {
        udp.send(dnsPacket.encode(answerQuery(zone, dnsPacket.decode(message))), peer.port, peer.address);
      } catch {
        // junk gets no answer
      }
    });
    udp.bind({ address, port });
    const tcp = createServer((socket) => {
      let pending = Buffer.alloc(0);
      socket.on('error', () => socket.destroy());
      socket.on('data', (chunk: Buffer) => {
        pending = Buffer.concat([pending, chunk]);
        while (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE(0)) {
          const end = 2 + pending.readUInt16BE(0);
          try {
            socket.write(dnsPacket.streamEncode(answerQuery(zone, dnsPacket.decode(pending.subarray(2, end)))));
          } catch {
            socket.destroy();
            return;
          }
          pending = pending.subarray(end);
        }
      });
    });
    tcp.listen({ host: address, port });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { zone, addresses, port } = JSON.parse(process.argv[2] ?? '{}') as {
    zone: Zone;
    addresses: string[];
    port: number;
  };
  serve(zone, addresses, port);
}
