/**
 * Signed config for agents. In: what an agent holds. Out: what it lacks, at once or when it comes. Open to anybody: it is signed, and every
 * host reads it anyway; so the number of waiting requests is bounded. News goes at once to a few of those who wait; they pass it on by gossip,
 * and whom it did not reach asks again a second later: whoever has reported by then that it holds the news just goes on waiting. Must never:
 * hold up a publication, or answer something unsigned.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { MeshError } from '../../api/errors.ts';
import { AGENT_API, HOST_HEADER } from '../../api/http/agent-api.ts';
import type { History } from '../../api/signed-config/history.ts';
import type { UpdateRequest } from '../../api/signed-config/update.ts';
import type { Clock } from '../../runtime/clock.ts';

export interface ConfigRoutesDeps {
  /** Signer of controller/signing, or anything that publishes. */
  readonly signer: { readonly history: History; onPublished(listener: () => void): () => void };
  readonly clock: Clock;
  /**
   * Generation that a host has reported of itself, over mTLS. A request that names a host it does not come from is told late, or a difference
   * that does not fit: nobody else is. Default: nobody reports.
   */
  readonly reported?: (host: string) => number | undefined;
  /** Waiting requests of one address (default 64: hosts behind one NAT) and in all (default 4096). */
  readonly maxWaitersPerAddress?: number;
  readonly maxWaiters?: number;
  /** How many of those who wait get news at once (default 8: a small mesh has it all from here). */
  readonly direct?: number;
  /** In [0,1). */
  readonly random?: () => number;
}

const MAX_WAIT_SECONDS = 55;
/** When the others are told to ask again, by an empty answer: gossip took the news to nearly all of them before (p99 200 ms, and a fetch). */
const ASK_AGAIN_MS = { from: 1000, to: 2000 };

/** HTTP status of each code that these routes throw. */
export const CONFIG_STATUS: Readonly<Record<string, number>> = {
  QUERY_INVALID: 400,
  TOO_MANY_WAITERS: 429,
  CONFIG_NOT_SIGNED: 503,
};

/** Registers AGENT_API.config and AGENT_API.rootV1. Query of config: root, generation, timestamp (versions held; default 0), wait (seconds). */
export function registerConfigRoutes(server: FastifyInstance, deps: ConfigRoutesDeps): void {
  const { clock, maxWaitersPerAddress = 64, maxWaiters = 4096, direct = 8, random = Math.random } = deps;
  const { history } = deps.signer;
  /** What the host behind a request holds by now: what the request says, or what the host has reported since. */
  const heldNow = (request: FastifyRequest, held: UpdateRequest): UpdateRequest => {
    const host = request.headers[HOST_HEADER];
    const reported = (typeof host === 'string' ? deps.reported?.(host) : undefined) ?? 0;
    const newest = history.latest()?.accepted?.generation ?? 0;
    return reported > held.generation && reported <= newest ? { ...held, generation: reported } : held;
  };
  const holdsNews = (request: FastifyRequest, held: UpdateRequest): boolean =>
    heldNow(request, held).generation === history.latest()?.accepted?.generation;
  const waiting = createWaiters({ perAddress: maxWaitersPerAddress, total: maxWaiters, direct, clock, random });
  deps.signer.onPublished(() => waiting.news());
  server.addHook('preClose', async () => waiting.close());
  server.get(AGENT_API.rootV1, async (_request, reply) => {
    const root = history.latest()?.roots[0];
    if (root === undefined) throw new MeshError('CONFIG_NOT_SIGNED', 'nothing was signed yet');
    return reply.type('application/octet-stream').send(Buffer.from(root));
  });
  server.get(AGENT_API.config, async (request: FastifyRequest, reply: FastifyReply) => {
    const { held, waitSeconds } = parseQuery(request.query);
    let text = history.updateFor(held);
    const deadline = clock.monotonic() + waitSeconds * 1000;
    while (text === undefined && !waiting.closed()) {
      const leftMs = deadline - clock.monotonic();
      if (leftMs <= 0 || request.raw.socket.destroyed) break;
      if ((await waiting.wait(request, leftMs, () => holdsNews(request, held))) !== 'news') break;
      text = history.updateFor(heldNow(request, held));
    }
    if (text === undefined) return reply.code(204).send();
    return reply.type('application/json').send(text);
  });
}

/** news: published just now. over: waited long enough, or others carry the news: let the asker say what it holds by now. */
type Woken = 'news' | 'over';

interface Waiters {
  /** `holds`: asked before the asker is told to ask again for news that went to others. */
  wait(request: FastifyRequest, ms: number, holds: () => boolean): Promise<Woken>;
  news(): void;
  close(): void;
  closed(): boolean;
}

interface Waiter {
  readonly ip: string;
  end(woken: Woken): void;
  /** Ends `over` no later than that, unless the asker holds the news by then. */
  endWithin(ms: number): void;
}

interface WaiterBounds {
  readonly perAddress: number;
  readonly total: number;
  readonly direct: number;
  readonly clock: Clock;
  readonly random: () => number;
}

function createWaiters({ perAddress, total, direct, clock, random }: WaiterBounds): Waiters {
  const waiters = new Set<Waiter>();
  const counts = new Map<string, number>();
  let isClosed = false;

  const add = (request: FastifyRequest, ms: number, holds: () => boolean, resolve: (woken: Woken) => void) => {
    const { ip } = request;
    const end = clock.monotonic() + ms;
    let until = end;
    const onClose = () => waiter.end('over');
    let cancel = clock.after(ms, onClose);
    const askAgain = () => {
      if (!holds()) return onClose();
      until = end;
      cancel = clock.after(end - clock.monotonic(), onClose);
    };
    const waiter: Waiter = {
      ip,
      end(woken) {
        if (!waiters.delete(waiter)) return;
        cancel();
        request.raw.socket.off('close', onClose);
        const left = (counts.get(ip) ?? 1) - 1;
        if (left > 0) counts.set(ip, left);
        else counts.delete(ip);
        resolve(woken);
      },
      endWithin(withinMs) {
        const at = clock.monotonic() + withinMs;
        if (at >= until) return;
        until = at;
        cancel();
        cancel = clock.after(withinMs, askAgain);
      },
    };
    waiters.add(waiter);
    counts.set(ip, (counts.get(ip) ?? 0) + 1);
    request.raw.socket.once('close', onClose);
  };
  return {
    closed: () => isClosed,
    close() {
      isClosed = true;
      for (const waiter of [...waiters]) waiter.end('over');
    },
    news() {
      const chosen = choose([...waiters], direct, random);
      const { from, to } = ASK_AGAIN_MS;
      for (const waiter of waiters) if (!chosen.has(waiter)) waiter.endWithin(from + random() * (to - from));
      for (const waiter of chosen) waiter.end('news');
    },
    wait(request, ms, holds) {
      if (waiters.size >= total || (counts.get(request.ip) ?? 0) >= perAddress)
        throw new MeshError('TOO_MANY_WAITERS', 'too many requests wait for config; ask again in a minute');
      return new Promise((resolve) => add(request, ms, holds, resolve));
    },
  };
}

/** `count` at random, one of each address before a second of any: who opens many requests is not told for many. */
function choose(waiters: Waiter[], count: number, random: () => number): Set<Waiter> {
  if (waiters.length <= count) return new Set(waiters);
  for (let i = waiters.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [waiters[i], waiters[j]] = [waiters[j] as Waiter, waiters[i] as Waiter];
  }
  const addresses = new Set<string>();
  const firsts = waiters.filter(({ ip }) => !addresses.has(ip) && addresses.add(ip));
  return new Set([...new Set([...firsts, ...waiters])].slice(0, count));
}

function parseQuery(query: unknown): { held: UpdateRequest; waitSeconds: number } {
  const given = query as Record<string, unknown>;
  const number = (name: string, max: number): number => {
    const text = given[name] ?? '0';
    const value = typeof text === 'string' && /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value <= max)) throw new MeshError('QUERY_INVALID', `${name}: a whole number from 0 to ${max}`);
    return value;
  };
  for (const name of Object.keys(given))
    if (!['root', 'generation', 'timestamp', 'wait'].includes(name))
      throw new MeshError('QUERY_INVALID', `unknown parameter ${name.slice(0, 50)}`);
  const big = Number.MAX_SAFE_INTEGER;
  const held = {
    root: number('root', big),
    generation: number('generation', big),
    timestamp: number('timestamp', big),
  };
  return { held, waitSeconds: number('wait', MAX_WAIT_SECONDS) };
}
