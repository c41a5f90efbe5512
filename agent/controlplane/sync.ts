/** The loop that keeps a host's config fresh: one long poll at one controller, the next one when it fails, lies or lags. */
import { errorLine, MeshError } from '../../api/errors.ts';
import type { UpdateRequest } from '../../api/signed-config/update.ts';
import { versionsOf } from '../../api/signed-config/verifier.ts';
import { backoffMs } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { ControllerClient } from './client.ts';
import { needsFullCopy, type Outcome, type TrustedConfig } from './trusted-config.ts';

const BACKOFF = { baseMs: 100, maxMs: 5000 };
/** Below the 60 s in which an agent asks a controller anew (DESIGN 6, Freshness). */
const WAIT_SECONDS = 50;

export interface SyncDeps {
  readonly client: Pick<ControllerClient, 'config'>;
  /** Base URLs, in the order of preference; asked again before each try. */
  controllers(): readonly string[];
  readonly trusted: TrustedConfig;
  /** Told of each answer, judged. */
  onOutcome(outcome: Outcome, from: string): void;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

export interface SyncStatus {
  /** Last controller that answered; undefined before the first. */
  readonly controller: string | undefined;
  /** ms on the monotonic clock. */
  readonly lastContact: number | undefined;
  readonly lastError: string | undefined;
}

/** Runs until `signal` aborts; never rejects. */
export function createSync(deps: SyncDeps): { run(signal: AbortSignal): Promise<void>; status(): SyncStatus } {
  let status: SyncStatus = { controller: undefined, lastContact: undefined, lastError: undefined };
  let position = 0;

  const ask = async (url: string, held: UpdateRequest, waitSeconds: number, signal: AbortSignal): Promise<Outcome> => {
    const body = await deps.client.config(url, held, waitSeconds, signal);
    status = { controller: url, lastContact: deps.clock.monotonic(), lastError: undefined };
    const outcome: Outcome = body === undefined ? { kind: 'known' } : await deps.trusted.offer(body);
    deps.onOutcome(outcome, url);
    return outcome;
  };

  /** One round with one controller. Throws when another should be tried. */
  const round = async (url: string, signal: AbortSignal): Promise<void> => {
    const held = versionsOf(deps.trusted.state());
    const started = deps.clock.monotonic();
    let outcome = await ask(url, held, WAIT_SECONDS, signal);
    const now = versionsOf(deps.trusted.state());
    // A peer was faster while this host waited: the difference was to what it held then.
    if (needsFullCopy(outcome) && now.generation !== held.generation) outcome = await ask(url, now, 0, signal);
    if (needsFullCopy(outcome))
      outcome = await ask(url, { ...versionsOf(deps.trusted.state()), generation: 0 }, 0, signal);
    if (outcome.kind === 'refused') throw outcome.error;
    // A server that answers at once with nothing new would make this loop spin.
    const tookMs = deps.clock.monotonic() - started;
    if (outcome.kind === 'known' && tookMs < 1000) await pause(1000 - tookMs, deps.clock, signal);
  };

  return {
    status: () => status,
    async run(signal) {
      for (let failures = 0; !signal.aborted; ) {
        const urls = deps.controllers();
        const url = urls[position % Math.max(1, urls.length)];
        try {
          if (url === undefined) throw new MeshError('CONTROLLER_UNREACHABLE', 'no controller is known');
          await round(url, signal);
          failures = 0;
        } catch (error) {
          if (signal.aborted) return;
          status = { ...status, lastError: errorLine(error) };
          if (failures === 0) deps.log.warn('a controller gave no config', { controller: url, error });
          position += 1;
          // Each controller is tried once before waiting grows.
          await pause(
            backoffMs(Math.floor(failures++ / Math.max(1, urls.length)), BACKOFF, deps.random),
            deps.clock,
            signal,
          );
        }
      }
    },
  };
}

/** Resolves after `ms` of that clock, or when the signal aborts. */
export function pause(ms: number, clock: Clock, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = () => {
      cancel();
      signal.removeEventListener('abort', end);
      resolve();
    };
    const cancel = clock.after(ms, end);
    signal.addEventListener('abort', end);
  });
}
