/**
 * Questions of operators, fetched from each controller and answered one at a time (docs/decisions/0014). In: questions of verified controllers,
 * which may send anything. Out: replies. Must never: listen on a port, or answer what is not in the closed list.
 */
import { MeshError } from '../../api/errors.ts';
import type { HostReply } from '../../api/http/agent-api.ts';
import { HOST_QUERY_LIMITS, type HostAnswer, type HostQuery, parseHostQuery } from '../../api/http/host-query.ts';
import { backoffMs } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Part } from '../../runtime/lifecycle.ts';
import type { Logger } from '../../runtime/log.ts';
import type { HostApi } from './host-api.ts';
import { pause } from './sync.ts';

export interface QuestionsDeps {
  readonly api: Pick<HostApi, 'question' | 'reply'>;
  /** The controllers, each by its base URLs; asked again every few seconds. */
  replicas(): readonly (readonly string[])[];
  answer(query: HostQuery): Promise<HostAnswer>;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

/** Below the 55 s that a controller waits at most. */
const WAIT_SECONDS = 50;
const LOOK_FOR_URLS_MS = 5000;
/** A controller of an older version knows no questions: it is asked seldom. */
const BACKOFF = { baseMs: 1000, maxMs: 60_000 };
/** At most five questions a second, whoever asks. */
const PAUSE_MS = 200;

/** One waiting request at each controller for as long as the agent runs. */
export function createQuestions(deps: QuestionsDeps): Part {
  const { clock } = deps;
  const ending = new AbortController();
  const running = new Map<string, AbortController>();
  let turn: Promise<unknown> = Promise.resolve();
  let cancel = () => {};

  /** Envoy's admin interface runs on its main thread: never two dumps at once. */
  const inTurn = (query: HostQuery): Promise<HostAnswer> => {
    const run = turn.then(() => deps.answer(query));
    turn = run.catch(() => {}).then(() => pause(PAUSE_MS, clock, ending.signal));
    return run;
  };

  const serve = async (url: string, signal: AbortSignal): Promise<void> => {
    const question = await deps.api.question(url, WAIT_SECONDS, signal);
    if (question === undefined) return;
    const { id, query } = question;
    if (typeof id !== 'string' || id.length > 100) throw new MeshError('QUERY_INVALID', 'a question without an id');
    deps.log.info('an operator asks', { ask: query?.ask, controller: url });
    await deps.api.reply(url, id, await replyTo(() => inTurn(parseHostQuery(query))), signal);
  };

  /** One request at a time for each controller: a second one would end the first. Its next address after a failure. */
  const loop = async (urls: readonly string[], signal: AbortSignal): Promise<void> => {
    for (let failures = 0; !signal.aborted; ) {
      const url = urls[failures % urls.length] as string;
      const started = clock.monotonic();
      try {
        await serve(url, signal);
        failures = 0;
        // A server that answers at once with nothing would make this loop spin.
        if (clock.monotonic() - started < PAUSE_MS) await pause(PAUSE_MS, clock, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (failures === 0) deps.log.debug('no questions from a controller', { controller: url, error });
        await pause(backoffMs(failures++, BACKOFF, deps.random), clock, signal);
      }
    }
  };

  const look = () => {
    const replicas = new Map(deps.replicas().map((urls) => [urls.join(' '), urls]));
    for (const [key, stop] of running) {
      if (replicas.has(key)) continue;
      stop.abort();
      running.delete(key);
    }
    for (const [key, urls] of replicas) {
      if (running.has(key)) continue;
      const stop = new AbortController();
      running.set(key, stop);
      void loop(urls, stop.signal);
    }
    cancel = clock.after(LOOK_FOR_URLS_MS, look);
  };

  return {
    name: 'questions',
    async start() {
      look();
    },
    async stop() {
      cancel();
      ending.abort();
      for (const stop of running.values()) stop.abort();
      running.clear();
    },
  };
}

async function replyTo(answer: () => Promise<HostAnswer>): Promise<HostReply> {
  try {
    const made = await answer();
    if (JSON.stringify(made).length <= HOST_QUERY_LIMITS.answerBytes) return { answer: made };
    return { error: { code: 'ANSWER_TOO_LARGE', message: 'the answer is too large: ask for less' } };
  } catch (error) {
    const code = error instanceof MeshError ? error.code : 'INTERNAL';
    const message = error instanceof Error ? error.message : String(error);
    return { error: { code, message: message.slice(0, 1000) } };
  }
}
