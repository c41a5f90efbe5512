/**
 * Config from any peer (DESIGN 3.3: it is signed, so the carrier need not be trusted). In: opaque requests of peers. Out: opaque answers.
 * Bounds sizes, time and how much one peer may fetch; judges nothing.
 */
import { MeshError } from '../../api/errors.ts';
import { createBuckets } from './budget.ts';
import type { GossipNode, ProtocolHandler } from './node.ts';
import type { Channel } from './sync.ts';

export const CONFIG_PROTOCOL = '/hostmesh/config/1';
const MAX_REQUEST_BYTES = 64 * 1024;
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
const TIMEOUT_MS = 20_000;
/** Answers, by peer: a full copy at once now and then, small updates always. */
const SERVED_BYTES = { perSecond: 1024 * 1024, burst: 2 * MAX_ANSWER_BYTES };
const REQUESTS = { perSecond: 5, burst: 20 };

const OK = 1;
const REFUSED = 0;

export interface ConfigExchange {
  readonly handler: ProtocolHandler;
  /** `signal` ends the stream: the answer is no longer needed. */
  fetch(
    node: Pick<GossipNode, 'withStream'>,
    peer: string,
    request: Uint8Array,
    signal?: AbortSignal,
  ): Promise<Uint8Array>;
  serve(answer: (request: Uint8Array, peer: string) => Promise<Uint8Array>): void;
}

export function createConfigExchange(monotonic: () => number): ConfigExchange {
  let serving: ((request: Uint8Array, peer: string) => Promise<Uint8Array>) | undefined;
  const bytes = createBuckets(SERVED_BYTES, monotonic);
  const requests = createBuckets(REQUESTS, monotonic);

  const respond = async (peer: string, request: Uint8Array): Promise<Uint8Array> => {
    if (serving === undefined || !requests.take(peer, 1)) return Buffer.of(REFUSED);
    try {
      const answer = await serving(request, peer);
      if (answer.length >= MAX_ANSWER_BYTES || !bytes.take(peer, answer.length)) return Buffer.of(REFUSED);
      return Buffer.concat([Buffer.of(OK), answer]);
    } catch {
      return Buffer.of(REFUSED);
    }
  };
  return {
    handler: {
      timeoutMs: TIMEOUT_MS,
      maxFrameBytes: MAX_REQUEST_BYTES,
      async answer(peer: string, channel: Channel) {
        await channel.send(await respond(peer, await channel.receive(MAX_REQUEST_BYTES)));
      },
    },
    async fetch(node, peer, request, signal) {
      if (request.length > MAX_REQUEST_BYTES)
        throw new MeshError('FETCH_TOO_LARGE', `a request has at most ${MAX_REQUEST_BYTES} bytes`);
      const limits = { timeoutMs: TIMEOUT_MS, maxFrameBytes: MAX_ANSWER_BYTES };
      const answer = await node.withStream(peer, CONFIG_PROTOCOL, limits, async (channel) => {
        await channel.send(request);
        signal?.throwIfAborted();
        return unlessAborted(channel.receive(MAX_ANSWER_BYTES), signal);
      });
      if (answer[0] !== OK) throw new MeshError('FETCH_REFUSED', `${peer} has no answer, or none for this host now`);
      return answer.subarray(1);
    },
    serve(answer) {
      serving = answer;
    },
  };
}

/** Rejects as soon as the signal aborts; what was asked for may then never be looked at. */
async function unlessAborted<T>(result: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return result;
  let onAbort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort);
  });
  try {
    return await Promise.race([result, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
    result.catch(() => {});
  }
}
