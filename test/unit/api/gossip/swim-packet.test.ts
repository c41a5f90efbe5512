import { generateKeyPairSync, randomBytes } from 'node:crypto';
import t from 'tap';
import {
  answerProof,
  packetTag,
  pairKeys,
  probeKeyText,
  type SwimPacket,
  sealPacket,
  unsealPacket,
} from '../../../../api/gossip/swim-packet.ts';

function end(host: string) {
  const { publicKey, privateKey } = generateKeyPairSync('x25519');
  return { host, privateKey, probeKey: probeKeyText(publicKey) };
}

const a = end('a');
const b = end('b');
const ab = pairKeys(a, b);
const ba = pairKeys(b, a);
const ping: SwimPacket = { type: 'ping', sequence: 1, id: '0123456789abcdef' };

t.test('both ends make the same keys, one for each direction', async (t) => {
  t.same(ab.send, ba.receive);
  t.same(ab.receive, ba.send);
  t.not(ab.send.tag, ab.receive.tag);
  t.notSame(ab.send.key.export(), ab.receive.key.export());
});

t.test('packets survive, the target too', async (t) => {
  const packets: SwimPacket[] = [
    ping,
    { type: 'ack', sequence: 2 ** 40, id: 'ffffffffffffffff' },
    { type: 'ack', sequence: 3, id: ping.id, load: { links: 8, records: 1000 } },
    { type: 'ping-request', sequence: 3, id: ping.id, target: 'host-1' },
    { type: 'ping-for', sequence: 3, id: ping.id, target: 'host-1' },
    { type: 'ack-for', sequence: 3, id: ping.id, proof: 'ab'.repeat(16) },
  ];
  for (const packet of packets) {
    const datagram = sealPacket(packet, ab.send, randomBytes(12));
    t.equal(packetTag(datagram), ba.receive.tag);
    t.same(unsealPacket(datagram, ba.receive), packet, packet.type);
  }
});

t.test('nothing else opens', async (t) => {
  const datagram = Buffer.from(sealPacket(ping, ab.send, randomBytes(12)));
  for (let i = 0; i < datagram.length; i++) {
    const changed = Buffer.from(datagram);
    changed[i] = (changed[i] as number) ^ 0x80;
    if (unsealPacket(changed, ba.receive) !== undefined) t.fail(`byte ${i} changed and it still opens`);
  }
  t.equal(unsealPacket(datagram, ab.receive), undefined, 'played back to its sender');
  t.equal(unsealPacket(datagram, pairKeys(end('b'), a).receive), undefined, 'another boot of b');
  for (const junk of [Buffer.alloc(0), Buffer.alloc(51), Buffer.alloc(2000, 1)]) t.equal(packetTag(junk), undefined);
});

t.test('the copied key of another host makes other tags and keys', async (t) => {
  const thief = pairKeys(a, { host: 'c', probeKey: b.probeKey });
  t.not(thief.receive.tag, ab.receive.tag);
  t.notSame(thief.receive.key.export(), ab.receive.key.export());
});

t.test('a key of small order is refused', async (t) => {
  t.throws(() => pairKeys(a, { host: 'x', probeKey: Buffer.alloc(32).toString('base64') }), { code: 'KEY_INVALID' });
});

t.test('only the probed host and the asker can make the proof of a relayed answer', async (t) => {
  t.equal(answerProof(ba.send, ping.id), answerProof(ab.receive, ping.id));
  t.not(answerProof(ba.send, ping.id), answerProof(ab.send, ping.id), 'the asker’s own direction is another');
  t.not(answerProof(ba.send, ping.id), answerProof(ba.send, '0123456789abcdee'));
});
