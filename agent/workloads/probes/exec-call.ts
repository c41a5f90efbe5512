/**
 * Asks systemd, over the socket that root's oneshot made for this very command, to run it as the workload's user (agent/redirect/probe-units.ts).
 * In: the unit. Out: how the command ended, by systemd's word. Must never: send anything but how long it may run, read more than a line, or
 * ask for a second run while the first goes on.
 */
import { existsSync } from 'node:fs';
import net from 'node:net';
import { probeSocket } from '../../host/probe-unit.ts';
import type { ExecCall } from './plan.ts';
import type { Outcome } from './verdict.ts';

export interface ExecLookOptions {
  /** Default: where the unit's socket listens. */
  readonly socketOf?: (unit: string) => string;
  /** What is there only on a host that systemd runs. */
  readonly systemdFolder?: string;
}

const MAX_ANSWER_BYTES = 256;
/** At boot, and after a change of agent.yaml, root's oneshot makes the socket while the agent starts. */
const ASK_AGAIN_MS = 50;
/** A run that was given up has ended by then: the host kills it when its time is over. */
const ENDED_MS = 5000;

/** A look by a command. Never rejects; `signal` gives it up, and the host then ends the command. */
export function createExecLook({
  socketOf = probeSocket,
  systemdFolder = '/run/systemd/system',
}: ExecLookOptions = {}): (call: ExecCall, signal: AbortSignal) => Promise<Outcome> {
  const running = new Map<string, Promise<void>>();

  return async ({ unit, timeoutSeconds }, signal) => {
    if (unit === undefined) return failure('not among the execProbes of its workload in agent.yaml');
    const until = performance.now() + timeoutSeconds * 1000 - 2 * ASK_AGAIN_MS;
    await Promise.race([running.get(unit), aborted(signal)]);
    for (;;) {
      if (signal.aborted) return failure('the run before has not ended');
      const { outcome, ended, code } = ask(socketOf(unit), timeoutSeconds, signal);
      const mine = ended.finally(() => running.get(unit) === mine && running.delete(unit));
      running.set(unit, mine);
      const got = await outcome;
      if (!absent(code()) || performance.now() > until) return absent(code()) ? failure(noSocket(unit)) : got;
      await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
    }
  };

  function noSocket(unit: string): string {
    return existsSync(systemdFolder)
      ? `its socket is not there: systemctl start mesh-order; journalctl -u mesh-order -u ${unit}.socket`
      : 'only systemd can run a command as another user, and this host is not run by systemd';
  }
}

const failure = (why: string): Outcome => ({ ok: false, why });
const absent = (code: string | undefined) => code === 'ENOENT' || code === 'ECONNREFUSED';

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

interface Asked {
  readonly outcome: Promise<Outcome>;
  /** The command has ended, or nothing more is to be hoped for. */
  readonly ended: Promise<void>;
  /** Of a connection that failed. */
  code(): string | undefined;
}

function ask(path: string, seconds: number, signal: AbortSignal): Asked {
  const socket = net.connect({ path });
  let [text, code] = ['', undefined as string | undefined];
  socket.write(`${seconds}\n`);
  socket.setEncoding('latin1').on('data', (part: string) => {
    text += part;
    if (text.length > MAX_ANSWER_BYTES) socket.destroy();
  });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    code = error.code;
  });
  const ended = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  // Not closed at once: that it closes is how one hears that the command has ended.
  const giveUp = () => {
    const timer = setTimeout(() => socket.destroy(), ENDED_MS);
    timer.unref();
    socket.unref();
    socket.once('close', () => clearTimeout(timer));
  };
  if (signal.aborted) giveUp();
  else signal.addEventListener('abort', giveUp, { once: true });
  const done = ended.then(() => {
    signal.removeEventListener('abort', giveUp);
    return code === undefined ? parseEnd(text) : failure(`${code} on ${path}`);
  });
  const late = aborted(signal).then(() => failure('given up'));
  return { outcome: Promise.race([done, late]), ended, code: () => code };
}

/** `$SERVICE_RESULT $EXIT_CODE $EXIT_STATUS` of systemd.exec(5), one line. The command succeeded when systemd says so of it and of its status. */
export function parseEnd(text: string): Outcome {
  const line = /^([a-z-]+) ([a-z]*) ([A-Za-z0-9+-]*)\n$/.exec(text);
  if (line === null) return failure('systemd did not say how it ended');
  const [, result, code, status] = line as unknown as [string, string, string, string];
  if (result !== 'success') return failure(RESULTS[result] ?? `systemd: ${result}`);
  if (code !== 'exited') return failure(`ended by signal ${status}`);
  return status === '0' ? { ok: true } : failure(`exit status ${status}${STATUSES[status] ?? ''}`);
}

const RESULTS: Readonly<Record<string, string>> = {
  timeout: 'ran too long and was ended',
  'oom-kill': 'ended for want of memory',
  resources: 'systemd could not start it',
};
/** Of timeout(1), which starts the command. */
const STATUSES: Readonly<Record<string, string>> = {
  126: ' (the program cannot be run by this user)',
  127: ' (there is no such program)',
  137: ' (killed)',
};
