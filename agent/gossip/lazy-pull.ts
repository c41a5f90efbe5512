/**
 * Bounds what gossipsub names to neighbours outside its mesh (IHAVE) and what it answers when they ask (IWANT). Unbounded, it answers in one
 * frame of any size; the asker gives up a peer whose frame is above its own bound, and the link carries nothing more (DESIGN 6, hazard 2). Seen
 * in simulation when hundreds of hosts start together. What is left out is asked of others, or repaired by comparing tables.
 */
import { MeshError } from '../../api/errors.ts';

/** Of 22 bytes each, the newest: far below any frame bound. */
export const MAX_NAMED = 1000;
/** Data in one answer; the largest message fits, and the frame stays below what peers take (64 KiB). */
export const MAX_ANSWER_BYTES = 48 * 1024;
/** Topic and field headers of a message in a frame. */
const MESSAGE_OVERHEAD = 64;

interface Entry {
  readonly message: { readonly data?: Uint8Array };
}

/** The parts of gossipsub's message cache that are bounded here; it is a private field, and its class is not exported. */
interface MessageCache {
  readonly msgs: ReadonlyMap<string, Entry>;
  getGossipIDs(topics: Set<string>): Map<string, Uint8Array[]>;
  getWithIWantCount(id: string, peer: string): unknown;
}

/** Call once, before the node starts. Throws GOSSIPSUB_CHANGED when a new version of gossipsub has no such cache. */
export function boundPull(pubsub: object): void {
  const cache = (pubsub as { readonly mcache?: MessageCache }).mcache;
  if (typeof cache?.getGossipIDs !== 'function' || typeof cache.getWithIWantCount !== 'function')
    throw new MeshError('GOSSIPSUB_CHANGED', 'gossipsub has no message cache that can be bounded');
  const named = cache.getGossipIDs.bind(cache);
  const get = cache.getWithIWantCount.bind(cache);
  /** Bytes by peer in this turn of the event loop: gossipsub makes a whole answer in one. */
  const answered = new Map<string, number>();

  cache.getGossipIDs = (topics) => {
    let left = MAX_NAMED;
    const out = new Map<string, Uint8Array[]>();
    for (const [topic, ids] of named(topics)) {
      out.set(topic, ids.slice(0, left)); // newest window first
      left = Math.max(0, left - ids.length);
    }
    return out;
  };
  cache.getWithIWantCount = (id, peer) => {
    const size = (cache.msgs.get(id)?.message.data?.length ?? 0) + MESSAGE_OVERHEAD;
    if (answered.size === 0) queueMicrotask(() => answered.clear());
    const total = (answered.get(peer) ?? 0) + size;
    if (total > MAX_ANSWER_BYTES) return null;
    answered.set(peer, total);
    return get(id, peer);
  };
}
