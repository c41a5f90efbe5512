import { createHash } from 'node:crypto';
import type { GossipSub } from '@chainsafe/libp2p-gossipsub';
import t from 'tap';
import { boundPull, MAX_ANSWER_BYTES, MAX_NAMED } from '../../agent/gossip/lazy-pull.ts';
import { TOPICS } from '../../agent/gossip/topics.ts';
import { createTestCa } from '../builders/test-ca.ts';
import { createRawPeer } from './raw-peer.ts';

/** What node.ts lets a peer send in one frame. */
const MAX_FRAME = 64 * 1024;

/** gossipsub's private parts that make an answer. */
interface Inside {
  readonly mcache: {
    put(id: { msgId: Uint8Array; msgIdStr: string }, message: object, validated: boolean): boolean;
    getGossipIDs(topics: Set<string>): Map<string, Uint8Array[]>;
  };
  msgIdToStrFn(id: Uint8Array): string;
  handleIWant(peer: string, asked: { messageIDs: Uint8Array[] }[]): { data: Uint8Array }[];
}

t.test('all that a neighbour lacks does not come in one frame', async (t) => {
  const ca = createTestCa();
  const peer = await createRawPeer('h1', ca.trustDomain, ca.host('h1'));
  t.teardown(() => peer.stop());
  const pubsub = peer.libp2p.services.pubsub as GossipSub;
  const inside = pubsub as unknown as Inside;
  const ids = Array.from({ length: 1500 }, (_, n) => createHash('sha256').update(`${n}`).digest().subarray(0, 20));
  for (const msgId of ids)
    inside.mcache.put(
      { msgId, msgIdStr: inside.msgIdToStrFn(msgId) },
      { topic: TOPICS.records, data: new Uint8Array(1000) },
      true,
    );
  const answer = (who: string, asked: Uint8Array[]) =>
    inside.handleIWant(who, [{ messageIDs: asked }]).reduce((sum, { data }) => sum + data.length, 0);
  const named = () => inside.mcache.getGossipIDs(new Set([TOPICS.records])).get(TOPICS.records)?.length;

  t.ok(answer('a', ids.slice(0, 300)) > MAX_FRAME, 'gossipsub alone: more than a peer takes');
  t.equal(named(), ids.length);
  boundPull(pubsub);
  const first = answer('b', ids.slice(0, 300));
  t.ok(first > MAX_ANSWER_BYTES / 2 && first < MAX_FRAME, `${first} bytes`);
  t.ok(answer('c', ids.slice(0, 300)) > MAX_ANSWER_BYTES / 2, 'another peer has a bound of its own');
  await Promise.resolve();
  t.ok(answer('b', ids.slice(300, 600)) > MAX_ANSWER_BYTES / 2, 'and the next answer too');
  t.equal(named(), MAX_NAMED);
});
