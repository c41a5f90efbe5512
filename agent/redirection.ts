/**
 * Keeps the kernel's rules as the view wants them. In: MeshViews with their workloads, after Envoy acknowledged them. Out: requests to root's
 * oneshot, one at a time, the latest only; what it answered. Must never ask for rules that lead to listeners Envoy does not have.
 */
import { errorLine } from '../api/errors.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Logger } from '../runtime/log.ts';
import type { Asked, RedirectClient } from './redirect/client.ts';
import type { RedirectResult } from './redirect/result.ts';

export interface Redirection {
  /** Applies `spec` unless it stands already; a later call overtakes one that waits. */
  want(spec: Asked): void;
  /** The same once more: sockets of root have to be looked at, or the kernel may have changed. */
  again(): void;
  /**
   * Resolves once the rules stand: with the first result that is `applied`, or at once when the first spec wanted is what an agent before this
   * one left standing (it is asked for again all the same: the kernel may have changed).
   */
  firstApplied(): Promise<RedirectResult>;
  last(): RedirectResult | undefined;
  problems(): readonly string[];
  stop(): void;
}

export interface RedirectionDeps {
  readonly client: Pick<RedirectClient, 'apply' | 'confirm'>;
  /** What stands already (client.standing). */
  readonly left: { readonly spec: Asked; readonly result: RedirectResult } | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  readonly signal: AbortSignal;
  onResult(result: RedirectResult): void;
}

const TIMEOUT_MS = 10_000;
const RETRY_MS = 5000;

export function createRedirection(deps: RedirectionDeps): Redirection {
  const { client, clock, log, signal } = deps;
  let wanted: Asked | undefined;
  let standing = '';
  let running = false;
  let result: RedirectResult | undefined;
  let problem: string | undefined;
  let cancelRetry = () => {};
  let resolveFirst: (result: RedirectResult) => void = () => {};
  const first = new Promise<RedirectResult>((resolve) => {
    resolveFirst = resolve;
  });

  const apply = async (spec: Asked) => {
    const text = JSON.stringify(spec);
    const answer = await client.apply(spec, { timeoutMs: TIMEOUT_MS, signal });
    result = answer;
    for (const warning of answer.warnings) log.warn('redirection', { warning });
    if (answer.status !== 'applied') {
      standing = '';
      problem = `redirection ${answer.status}: ${answer.error?.message ?? 'no reason given'}`;
      log.error('rules not applied', { status: answer.status, reason: answer.error?.message });
      retryLater();
      return;
    }
    problem = undefined;
    standing = text;
    if (answer.changed) log.info('rules applied', { backend: answer.backend, duration_ms: answer.durationMs });
    // Envoy has acknowledged the listeners that these rules lead to before they were asked for.
    if (answer.revert !== undefined) await client.confirm(answer.revert.id);
    resolveFirst(answer);
    deps.onResult(answer);
  };

  const retryLater = () => {
    cancelRetry();
    cancelRetry = clock.after(RETRY_MS, kick);
  };

  const kick = () => {
    if (running || signal.aborted || wanted === undefined || JSON.stringify(wanted) === standing) return;
    running = true;
    cancelRetry();
    apply(wanted)
      .catch((error: unknown) => {
        if (signal.aborted) return;
        problem = errorLine(error);
        log.error('rules not applied', { error });
        retryLater();
      })
      .finally(() => {
        running = false;
        if (problem === undefined) kick();
      });
  };

  return {
    want(spec) {
      const left = wanted === undefined ? deps.left : undefined;
      wanted = spec;
      if (left !== undefined && JSON.stringify(left.spec) === JSON.stringify(spec)) resolveFirst(left.result);
      kick();
    },
    again() {
      standing = '';
      kick();
    },
    firstApplied: () => first,
    last: () => result,
    problems: () => (problem === undefined ? [] : [problem]),
    stop: () => cancelRetry(),
  };
}
