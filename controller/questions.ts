/**
 * Questions of operators to hosts, relayed by the request that each host's agent holds open here (docs/decisions/0014). In memory: a question
 * lives for seconds. In: parsed questions, replies of authenticated hosts, who may send anything. Out: their answers, bounded. Must never: keep
 * more than MAX_ALL questions, or give a host another's.
 */
import { randomBytes } from 'node:crypto';
import { MeshError } from '../api/errors.ts';
import type { HostQuestion } from '../api/http/agent-api.ts';
import { HOST_QUERY_LIMITS, type HostAnswer, type HostQuery } from '../api/http/host-query.ts';
import type { Clock } from '../runtime/clock.ts';

export interface Questions {
  /** Rejects with HOST_SILENT (nobody fetches it, or no reply in time), HOST_BUSY, HOST_FAILED (in the host's own words). */
  ask(host: string, query: HostQuery): Promise<HostAnswer>;
  /** The next question to the host, or undefined when none came in time, another request of the same host took over, or this one is `gone`. */
  next(host: string, waitMs: number, gone?: AbortSignal): Promise<HostQuestion | undefined>;
  /** Whether that question was fetched by that host, and somebody waits for its reply. */
  waits(host: string, id: string): boolean;
  /** False when nobody waits for it any more. `body` as the host sent it. */
  reply(host: string, id: string, body: unknown): boolean;
  /** Ends what waits: the controller stops. */
  close(): void;
}

/** At once, of one host and in all. */
const MAX_HOST = 4;
const MAX_ALL = 200;
/** An agent is back with its next request within this; one that is not is not asked. */
const BACK_WITHIN_MS = 3000;

interface Asked {
  readonly question: HostQuestion;
  fetched: boolean;
  settle(result: HostAnswer | MeshError): void;
}

interface Line {
  readonly asked: Map<string, Asked>;
  /** The request that waits. */
  wake: (() => void) | undefined;
  /** Monotonic ms of the last request's end. */
  left: number;
}

/** `heard(host)`: when the host reported last, ms since the epoch. */
export function createQuestions(clock: Clock, heard: (host: string) => number | undefined): Questions {
  const lines = new Map<string, Line>();
  let total = 0;
  let closed = false;
  const lineOf = (host: string): Line => {
    const line = lines.get(host) ?? { asked: new Map(), wake: undefined, left: Number.NEGATIVE_INFINITY };
    lines.set(host, line);
    return line;
  };
  const silent = (host: string, what: string) =>
    new MeshError('HOST_SILENT', `host ${host} ${what}: ${lastHeard(heard(host), clock.now())}`);

  return {
    ask(host, query) {
      const line = lines.get(host);
      const there = line !== undefined && (line.wake !== undefined || clock.monotonic() - line.left < BACK_WITHIN_MS);
      if (!there || closed) return Promise.reject(silent(host, 'is not connected to this controller'));
      if (line.asked.size >= MAX_HOST || total >= MAX_ALL)
        return Promise.reject(new MeshError('HOST_BUSY', `too many questions wait for host ${host}: try again`));
      return new Promise((resolve, reject) => {
        const id = randomBytes(12).toString('hex');
        const settle = (result: HostAnswer | MeshError) => {
          if (!line.asked.delete(id)) return;
          total -= 1;
          cancel();
          if (result instanceof MeshError) reject(result);
          else resolve(result);
        };
        const asked: Asked = { question: { id, query }, fetched: false, settle };
        line.asked.set(id, asked);
        total += 1;
        const cancel = clock.after(HOST_QUERY_LIMITS.answerWithinMs, () =>
          settle(silent(host, asked.fetched ? 'took the question and gave no answer' : 'did not fetch the question')),
        );
        line.wake?.();
      });
    },
    async next(host, waitMs, gone) {
      const line = lineOf(host);
      line.wake?.(); // an older request of the same host
      if (!closed && waitMs > 0 && waiting(line) === undefined) await wait(line, waitMs, clock, gone);
      // Who hangs up is not back at once: what is asked from now on need not wait for it.
      line.left = gone?.aborted ? Number.NEGATIVE_INFINITY : clock.monotonic();
      if (gone?.aborted) return undefined;
      const first = waiting(line);
      if (first !== undefined) first.fetched = true;
      return first?.question;
    },
    waits: (host, id) => lines.get(host)?.asked.get(id)?.fetched === true,
    reply(host, id, body) {
      const asked = lines.get(host)?.asked.get(id);
      if (asked === undefined) return false;
      asked.settle(resultOf(host, body));
      return true;
    },
    close() {
      closed = true;
      for (const line of lines.values()) {
        line.wake?.();
        for (const { settle } of [...line.asked.values()])
          settle(new MeshError('HOST_SILENT', 'the controller is stopping'));
      }
    },
  };
}

function waiting(line: Line): Asked | undefined {
  return [...line.asked.values()].find((one) => !one.fetched);
}

function wait(line: Line, ms: number, clock: Clock, gone: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const wake = () => {
      cancel();
      gone?.removeEventListener('abort', wake);
      if (line.wake === wake) line.wake = undefined;
      resolve();
    };
    line.wake = wake;
    const cancel = clock.after(ms, wake);
    gone?.addEventListener('abort', wake);
  });
}

/** What a host sent; only its own words are passed on, and an operator reads them as the host's. */
function resultOf(host: string, body: unknown): HostAnswer | MeshError {
  const from = (typeof body === 'object' && body !== null ? body : {}) as { answer?: unknown; error?: unknown };
  if (typeof from.answer === 'object' && from.answer !== null && !Array.isArray(from.answer) && isShallow(body))
    return { ...(from.answer as HostAnswer), host };
  const error = (from.error ?? {}) as { code?: unknown; message?: unknown };
  const message = typeof error.message === 'string' ? error.message.slice(0, 1000) : 'its reply cannot be read';
  return new MeshError('HOST_FAILED', `host ${host}: ${message}`, { details: { code: String(error.code ?? '') } });
}

/** Deeper than any answer is: writing it as JSON would end with a full stack. */
const MAX_DEPTH = 500;

function isShallow(body: unknown): boolean {
  const stack = [{ value: body, depth: 0 }];
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    const { value, depth } = top;
    if (typeof value !== 'object' || value === null) continue;
    if (depth === MAX_DEPTH) return false;
    for (const child of Object.values(value)) stack.push({ value: child, depth: depth + 1 });
  }
  return true;
}

function lastHeard(at: number | undefined, now: number): string {
  if (at === undefined) return 'this controller has heard nothing from it since it started';
  const seconds = Math.max(0, Math.round((now - at) / 1000));
  const ago =
    seconds < 120 ? `${seconds}s` : seconds < 7200 ? `${Math.floor(seconds / 60)}m` : `${Math.floor(seconds / 3600)}h`;
  return `last heard ${ago} ago (${new Date(at).toISOString()}); on the host itself \`meshctl --socket\` asks without a controller`;
}
