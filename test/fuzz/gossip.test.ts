/** Random and mutated input for every decoder of gossip: only MeshErrors, no hang, what decodes encodes to the same. FUZZ_MS (default 300) a target; the seed is printed. */
import { createCipheriv, generateKeyPairSync, randomInt } from 'node:crypto';
import { RPC } from '@chainsafe/libp2p-gossipsub/message';
import t from 'tap';
import { TOPICS } from '../../agent/gossip/topics.ts';
import { createTrust } from '../../agent/gossip/trust.ts';
import { MeshError } from '../../api/errors.ts';
import { decodeAccusation, encodeAccusation } from '../../api/gossip/accusation.ts';
import { canonicalIp, formatEndpoint, parseEndpoint } from '../../api/gossip/address.ts';
import { openEnvelope, sealEnvelope } from '../../api/gossip/envelope.ts';
import { decodeRecord, encodeRecord } from '../../api/gossip/record-codec.ts';
import { packetTag, pairKeys, probeKeyText, sealPacket, unsealPacket } from '../../api/gossip/swim-packet.ts';
import { decodeSync, encodeSync } from '../../api/gossip/sync-message.ts';
import { record, sealed } from '../builders/gossip.ts';
import { createTestCa } from '../builders/test-ca.ts';
import { seeded } from '../fakes/seeded.ts';

const budgetMs = Number(process.env.FUZZ_MS ?? 300);
const seed = Number(process.env.FUZZ_SEED ?? randomInt(2 ** 31));
const random = seeded(seed);
t.comment(`seed ${seed}`);
t.setTimeout(150_000 + 12 * budgetMs);

const pick = (n: number) => Math.floor(random() * n);
const ca = createTestCa();
const identity = ca.host('h1');
const x25519 = (host: string) => {
  const { publicKey, privateKey } = generateKeyPairSync('x25519');
  return { host, privateKey, probeKey: probeKeyText(publicKey) };
};
const [one, two] = [x25519('a'), x25519('b')];
const keys = pairKeys(one, two);

/** A datagram whose sealed body is random, under the right key. */
function resealed(bytes: Uint8Array): Uint8Array {
  const nonce = Buffer.alloc(12, pick(256));
  const header = Buffer.concat([Buffer.of(1), Buffer.from(keys.send.tag, 'hex')]);
  const cipher = createCipheriv('aes-256-gcm', keys.send.key, nonce);
  cipher.setAAD(header);
  const body = Buffer.concat([Buffer.of(pick(6)), bytes.subarray(0, 14 + pick(70))]);
  return Buffer.concat([header, nonce, cipher.update(body), cipher.final(), cipher.getAuthTag()]);
}

/** Flips, cuts, repeats, inserts; or plain noise. */
function mutate(sample: Uint8Array): Uint8Array {
  let bytes = Buffer.from(sample);
  if (random() < 0.1) return Buffer.from(Array.from({ length: pick(600) }, () => pick(256)));
  for (let i = 0; i <= pick(6); i++) {
    const at = pick(bytes.length + 1);
    const kind = pick(5);
    if (kind === 0 && at < bytes.length) bytes[at] = pick(256);
    else if (kind === 1) bytes = bytes.subarray(0, at) as typeof bytes;
    else if (kind === 2) bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from([pick(256)]), bytes.subarray(at)]);
    else if (kind === 3) bytes = Buffer.concat([bytes, bytes.subarray(at)]);
    else
      bytes = Buffer.concat([
        bytes.subarray(0, at),
        Buffer.from(['"', '0', '-', ']', '{', ',', '1e999', 'null'][pick(8)] as string),
        bytes.subarray(at),
      ]);
    bytes = Buffer.from(bytes);
  }
  return bytes;
}

const trust = createTrust({
  trustDomain: ca.trustDomain,
  grants: { hosts: new Map(), revokedHosts: new Set(), intermediates: [ca.intermediatePem] },
  addressAllowed: () => true,
});
const rpcFrame = (data: Uint8Array) =>
  RPC.encode({ subscriptions: [], messages: [{ topic: TOPICS.records, data }] } as never);
const rpcControl = () =>
  RPC.encode({
    subscriptions: [{ subscribe: true, topic: TOPICS.health }],
    messages: [],
    control: {
      ihave: [{ topicID: TOPICS.records, messageIDs: [Buffer.alloc(20, 1)] }],
      iwant: [{ messageIDs: [Buffer.alloc(20, 2)] }],
      graft: [{ topicID: TOPICS.records }],
      prune: [{ topicID: TOPICS.health, peers: [], backoff: 10 }],
      idontwant: [],
    },
  } as never);
const good = sealed(identity, record('h1', { workloads: [{ group: 'default/web', health: 'healthy', weight: 3 }] }));
const targets: Record<string, { samples: Uint8Array[]; run(bytes: Uint8Array): void }> = {
  envelope: { samples: [good.bytes], run: (bytes) => void openEnvelope(bytes, 'record') },
  record: {
    samples: [good.payload],
    run(bytes) {
      const value = decodeRecord(bytes);
      if (JSON.stringify(decodeRecord(encodeRecord(value))) !== JSON.stringify(value)) throw new Error('not stable');
    },
  },
  accusation: {
    samples: [encodeAccusation({ accuser: 'h1', target: 'h2', epoch: 1, counter: 2 })],
    run(bytes) {
      const value = decodeAccusation(bytes);
      if (JSON.stringify(decodeAccusation(encodeAccusation(value))) !== JSON.stringify(value))
        throw new Error('not stable');
    },
  },
  sync: {
    samples: [
      encodeSync({ type: 'versions', buckets: [1, 2], versions: [{ host: 'h1', epoch: 1, counter: 2 }] }),
      encodeSync({ type: 'records', last: true, want: ['h1'], envelopes: [Buffer.from('abc')] }),
      encodeSync({ type: 'digest', digest: Buffer.alloc(32) }),
    ],
    run: (bytes) => void encodeSync(decodeSync(bytes)),
  },
  swim: {
    samples: [
      sealPacket(
        { type: 'ping-request', sequence: 1, id: '0011223344556677', target: 'h2' },
        keys.send,
        Buffer.alloc(12, 1),
      ),
      sealPacket(
        { type: 'ack', sequence: 1, id: '0011223344556677', load: { links: 8, records: 100 } },
        keys.send,
        Buffer.alloc(12, 2),
      ),
    ],
    run(bytes) {
      packetTag(bytes);
      // The seal hides almost everything from random bytes: what is inside is fuzzed too, sealed anew.
      unsealPacket(bytes, keys.send);
      unsealPacket(resealed(bytes), keys.send);
    },
  },
  // What the asked-for package does with a peer's frame: it may refuse with any Error, and must neither hang nor exceed the limits.
  'gossipsub rpc': {
    samples: [rpcFrame(good.bytes), rpcFrame(Buffer.alloc(3)), rpcControl()],
    run(bytes) {
      let rpc: RPC;
      try {
        rpc = RPC.decode(bytes, {
          limits: { subscriptions: 8, messages: 256, control: { ihave: 32, iwant: 32, graft: 32, prune: 32 } },
        });
      } catch (cause) {
        if (cause instanceof Error) throw new MeshError('FRAME_INVALID', 'refused', { cause });
        throw cause;
      }
      if (rpc.messages.length > 256 || rpc.subscriptions.length > 8) throw new Error('above the limits');
    },
  },
  'signed record': {
    samples: [good.bytes, sealEnvelope('record', Buffer.from('{}'), identity.privateKey, identity.leaf.raw).bytes],
    run(bytes) {
      const result = trust.record(bytes, Date.now());
      if (typeof result !== 'string' && Buffer.compare(result.envelope.payload, good.payload) !== 0)
        throw new Error('a changed record verified');
    },
  },
  address: {
    samples: [Buffer.from('[fd00::1]:15300'), Buffer.from('10.0.0.1:1')],
    run(bytes) {
      const text = Buffer.from(bytes).toString('latin1');
      const parsed = parseEndpoint(text);
      if (parsed !== undefined && formatEndpoint(parsed) !== text) throw new Error(`two spellings: ${text}`);
      const ip = canonicalIp(text);
      if (ip !== undefined && canonicalIp(ip) !== ip) throw new Error(`not canonical: ${text}`);
    },
  },
};

for (const [name, { samples, run }] of Object.entries(targets)) {
  t.test(name, async (t) => {
    const end = performance.now() + budgetMs;
    let runs = 0;
    for (; performance.now() < end; runs++) {
      const bytes = mutate(samples[pick(samples.length)] as Uint8Array);
      try {
        run(bytes);
      } catch (error) {
        if (error instanceof MeshError) continue;
        t.fail(`${Buffer.from(bytes).toString('hex')}: ${error}`);
        break;
      }
    }
    t.ok(runs > 10, `${runs} inputs`);
  });
}
