/** Running programs for the demo. In: a command. Out: its exit code and text, bounded in size and time; never a rejection for a bad exit code. */
import { spawn } from 'node:child_process';

export interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string;
  /** Default 60 s; then SIGKILL and code 124. */
  readonly timeoutMs?: number;
  readonly env?: NodeJS.ProcessEnv;
  /** Ends the program, and rejects with the signal's reason when it is gone. */
  readonly signal?: AbortSignal;
  /** Told of each chunk of stderr as it comes. */
  readonly onStderr?: (text: string) => void;
}

/** From SIGTERM to SIGKILL. */
const GRACE_MS = 3000;
const MAX_OUTPUT = 16 * 1024 * 1024;

/** Runs a program without a shell, in a session of its own: Ctrl-C reaches the demo only, which ends what it started. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Run> {
  return new Promise((resolve, reject) => {
    if (options.signal?.aborted) return reject(options.signal.reason);
    const child = spawn(command, args, {
      env: { ...process.env, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
    });
    const out = { stdout: '', stderr: '' };
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      endGroup(child.pid, 'SIGKILL');
    }, options.timeoutMs ?? 60_000);
    const abort = () => {
      endGroup(child.pid, 'SIGTERM');
      setTimeout(() => endGroup(child.pid, 'SIGKILL'), GRACE_MS).unref();
    };
    options.signal?.addEventListener('abort', abort, { once: true });
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].setEncoding('utf8').on('data', (text: string) => {
        if (out[stream].length < MAX_OUTPUT) out[stream] += text;
        if (stream === 'stderr') options.onStderr?.(text);
      });
    }
    const done = () => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', abort);
    };
    child.once('error', (error) => {
      done();
      reject(error);
    });
    child.once('close', (code, signal) => {
      done();
      if (options.signal?.aborted) return reject(options.signal.reason);
      resolve({ code: late ? 124 : (code ?? (signal === 'SIGKILL' ? 137 : 143)), ...out });
    });
    child.stdin.on('error', () => {}); // a program that reads no input closes it early
    child.stdin.end(options.input ?? '');
  });
}

/** Signals a program that was started detached, and what it started. One that is gone already is none the worse. */
export function endGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // gone
  }
}

/** The run itself when it succeeded; throws with its last words otherwise. */
export function must(result: Run, what: string): Run {
  if (result.code !== 0)
    throw new Error(`${what} ended with ${result.code}: ${(result.stderr || result.stdout).trim().slice(-1500)}`);
  return result;
}

export function check(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Error(what);
}
