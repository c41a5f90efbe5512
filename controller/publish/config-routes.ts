/**
 * Signed config for agents. In: what an agent holds. Out: what it lacks, at once or when it comes. Open to anybody: it is signed, and every
 * host reads it anyway; so the number of waiting requests is bounded. Must never: hold up a publication, or answer something unsigned.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { MeshError } from '../../api/errors.ts';
import { AGENT_API } from '../../api/http/agent-api.ts';
import type { History } from '../../api/signed-config/history.ts';
import type { UpdateRequest } from '../../api/signed-config/update.ts';
import type { Clock } from '../../runtime/clock.ts';

export interface ConfigRoutesDeps {
  /** Signer of controller/signing, or anything that publishes. */
  readonly signer: { readonly history: History; onPublished(listener: () => void): () => void };
  readonly clock: Clock;
  /** Waiting requests of one address (default 64: hosts behind one NAT) and in all (default 4096). */
  readonly maxWaitersPerAddress?: number;
  readonly maxWaiters?: number;
}

const MAX_WAIT_SECONDS = 55;

/** HTTP status of each code that these routes throw. */
export const CONFIG_STATUS: Readonly<Record<string, number>> = {
  QUERY_INVALID: 400,
  TOO_MANY_WAITERS: 429,
  CONFIG_NOT_SIGNED: 503,
};

/** Registers AGENT_API.config and AGENT_API.rootV1. Query of config: root, generation, timestamp (versions held; default 0), wait (seconds). */
export function registerConfigRoutes(server: FastifyInstance, deps: ConfigRoutesDeps): void {
  const waiting = createWaiters(deps.maxWaitersPerAddress ?? 64, deps.maxWaiters ?? 4096);
  deps.signer.onPublished(() => waiting.wakeAll());
  server.addHook('preClose', async () => waiting.wakeAll(true));
  server.get(AGENT_API.rootV1, async (_request, reply) => {
    const root = deps.signer.history.latest()?.roots[0];
    if (root === undefined) throw new MeshError('CONFIG_NOT_SIGNED', 'nothing was signed yet');
    return reply.type('application/octet-stream').send(Buffer.from(root));
  });
  server.get(AGENT_API.config, async (request: FastifyRequest, reply: FastifyReply) => {
    const { held, waitSeconds } = parseQuery(request.query);
    let text = deps.signer.history.updateFor(held);
    const deadline = deps.clock.monotonic() + waitSeconds * 1000;
    while (text === undefined && !waiting.closed()) {
      const leftMs = deadline - deps.clock.monotonic();
      if (leftMs <= 0 || request.raw.socket.destroyed) break;
      await waiting.wait(request, leftMs, deps.clock);
      text = deps.signer.history.updateFor(held);
    }
    if (text === undefined) return reply.code(204).send();
    return reply.type('application/json').send(text);
  });
}

interface Waiters {
  wait(request: FastifyRequest, ms: number, clock: Clock): Promise<void>;
  wakeAll(close?: boolean): void;
  closed(): boolean;
}

function createWaiters(perAddress: number, total: number): Waiters {
  const wakes = new Set<() => void>();
  const counts = new Map<string, number>();
  let isClosed = false;
  return {
    closed: () => isClosed,
    wakeAll(close = false) {
      isClosed ||= close;
      for (const wake of [...wakes]) wake();
    },
    wait(request, ms, clock) {
      const { ip } = request;
      const count = counts.get(ip) ?? 0;
      if (wakes.size >= total || count >= perAddress)
        throw new MeshError('TOO_MANY_WAITERS', 'too many requests wait for config; ask again in a minute');
      counts.set(ip, count + 1);
      return new Promise((resolve) => {
        const wake = () => {
          if (!wakes.delete(wake)) return;
          cancel();
          request.raw.socket.off('close', wake);
          const left = (counts.get(ip) ?? 1) - 1;
          if (left > 0) counts.set(ip, left);
          else counts.delete(ip);
          resolve();
        };
        wakes.add(wake);
        const cancel = clock.after(ms, wake);
        request.raw.socket.once('close', wake);
      });
    },
  };
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
