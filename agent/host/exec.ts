/*
 * Room agent/host: the only code of the agent that runs commands or reads /proc and /etc/passwd.
 * In: names of programs with their arguments, names of users, ports. Out: their output, uids, listening sockets, addresses.
 * Never: a shell string, an unbounded read or wait, a search path taken from the environment.
 */
import { spawn } from 'node:child_process';
import { MeshError } from '../../api/errors.ts';

/** What a finished command left behind. `code` is its exit status, 128 + N when signal N ended it. Text is UTF-8. */
export interface ExecResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Options of one run: text for stdin, deadline (default 10 s), bound on each output stream (default 8 MiB). */
export interface ExecOptions {
  readonly input?: string;
  readonly timeoutMs?: number;
  readonly maxBytes?: number;
}

/**
 * Runs a program by name with literal arguments; resolves whatever its exit status is. Throws MeshError EXEC_MISSING (no such
 * program), EXEC_TIMEOUT (killed after timeoutMs) or EXEC_OUTPUT (more output than maxBytes).
 */
export type Exec = (file: string, args: readonly string[], options?: ExecOptions) => Promise<ExecResult>;

const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** An Exec over the system's own folders (`path` is for tests). The child sees PATH and LC_ALL=C only: root runs these. */
export function createExec(options: { path?: string } = {}): Exec {
  const env = { PATH: options.path ?? SYSTEM_PATH, LC_ALL: 'C' };
  return (file, args, { input = '', timeoutMs = 10_000, maxBytes = 8 << 20 } = {}) =>
    new Promise((resolve, reject) => {
      const child = spawn(file, args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
      const out: Buffer[] = [];
      const err: Buffer[] = [];
      let failure: MeshError | undefined;
      const stop = (code: string, message: string) => {
        failure ??= new MeshError(code, message, { details: { file, args: [...args] } });
        child.kill('SIGKILL');
      };
      const timer = setTimeout(() => stop('EXEC_TIMEOUT', `${file} did not finish within ${timeoutMs} ms`), timeoutMs);
      const collect = (into: Buffer[]) => {
        let size = 0;
        return (chunk: Buffer) => {
          size += chunk.length;
          if (size > maxBytes) stop('EXEC_OUTPUT', `${file} wrote more than ${maxBytes} bytes`);
          else into.push(chunk);
        };
      };
      child.stdout.on('data', collect(out));
      child.stderr.on('data', collect(err));
      child.stdin.on('error', () => {}); // EPIPE: the child ended early; its exit status tells
      child.once('error', (cause: NodeJS.ErrnoException) => {
        clearTimeout(timer);
        const code = cause.code === 'ENOENT' ? 'EXEC_MISSING' : 'EXEC_FAILED';
        reject(new MeshError(code, `cannot run ${file}`, { details: { file }, cause }));
      });
      child.once('close', (code, signal) => {
        clearTimeout(timer);
        if (failure) return reject(failure);
        const status = code ?? 128 + (SIGNALS[signal ?? ''] ?? 0);
        resolve({ code: status, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() });
      });
      child.stdin.end(input);
    });
}

const SIGNALS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGTERM: 15,
};
