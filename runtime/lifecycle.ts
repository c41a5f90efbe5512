import { MeshError } from '../api/errors.ts';
import type { Logger } from './log.ts';

/**
 * One part of a daemon. Constructors do no IO. `start` resolves when the part serves; `stop` is idempotent and safe after a failed
 * start. The signal given to `start` aborts when the whole process stops.
 */
export interface Part {
  readonly name: string;
  start(signal: AbortSignal): Promise<void>;
  stop(): Promise<void>;
}

/** Starts parts in order; if one fails, stops those already started in reverse and rethrows. Returns a function that stops all in reverse. */
export async function startParts(
  parts: readonly Part[],
  log: Logger,
  stopTimeoutMs = 5000,
): Promise<() => Promise<void>> {
  const abort = new AbortController();
  const started: Part[] = [];
  const stopAll = async () => {
    abort.abort(new MeshError('STOPPING', 'the process is stopping'));
    for (const part of started.splice(0).reverse()) await stopBounded(part, log, stopTimeoutMs);
  };
  for (const part of parts) {
    started.push(part);
    try {
      await part.start(abort.signal);
    } catch (error) {
      log.error('part failed to start', { part: part.name, error });
      await stopAll();
      throw error;
    }
  }
  return stopAll;
}

/** A part that hangs in stop is left behind after the deadline, with a log line: one stuck library must not hold up the rest. */
async function stopBounded(part: Part, log: Logger, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<'late'>((resolve) => {
    timer = setTimeout(() => resolve('late'), timeoutMs);
  });
  try {
    if ((await Promise.race([part.stop(), deadline])) === 'late')
      log.warn('part did not stop in time', { part: part.name, timeoutMs });
  } catch (error) {
    log.warn('part failed to stop', { part: part.name, error });
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves with the first SIGTERM or SIGINT; a second one exits at once with 128 + signal number. */
export function untilSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let seen = false;
    for (const [signal, number] of [
      ['SIGTERM', 15],
      ['SIGINT', 2],
    ] as const) {
      process.on(signal, () => {
        if (seen) process.exit(128 + number);
        seen = true;
        resolve(signal);
      });
    }
  });
}
