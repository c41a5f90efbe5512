import { spawn } from 'node:child_process';
import { type FinalResults, Parser, type Result } from 'tap-parser';

/** What one test file came to. `failures` are texts to show, one a failed assertion or a reason why the file as a whole does not count. */
export interface FileResult {
  readonly file: string;
  readonly passed: number;
  readonly failed: number;
  readonly failures: readonly string[];
  readonly durationMs: number;
}

export interface RunOptions {
  readonly timeoutMs: number;
  /** Between SIGTERM and SIGKILL of a file that is late; default 5 s. */
  readonly graceMs?: number;
  readonly env?: NodeJS.ProcessEnv;
}

const STDERR_BYTES = 16_384;
/** tap's own limit for a file comes this long before `timeoutMs`: it names the test that hangs, the runner only the file. */
const NAMING_MS = 5000;

/**
 * Runs one test file by this very Node (which strips its types) in a process group of its own and reads its TAP. Beyond failed
 * assertions, a file fails when it asserts nothing, skips or leaves a test `todo`, exits non-zero, dies, is late, or breaks its plan:
 * what did not run must not look like what passed. Never throws for a failing file.
 */
export async function runTapFile(file: string, options: RunOptions): Promise<FileResult> {
  const startedMs = performance.now();
  const child = spawn(process.execPath, ['--no-warnings', file], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true, // a group: what the file leaves behind is killed with it
    // Without TAP_TIMEOUT tap ends any file after 30 s in all, which a busy machine makes of ten.
    env: { ...process.env, TAP_TIMEOUT: String(tapSeconds(options.timeoutMs)), ...options.env, TAP: '1' },
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_BYTES);
  });
  const counted = countTap(child.stdout);
  let late = false;
  const kill = (signal: NodeJS.Signals) => {
    try {
      process.kill(-(child.pid ?? 0), signal);
    } catch {
      // the group is gone already
    }
  };
  const timer = setTimeout(() => {
    late = true;
    kill('SIGTERM');
    graceTimer = setTimeout(() => kill('SIGKILL'), options.graceMs ?? 5000);
  }, options.timeoutMs);
  let graceTimer: NodeJS.Timeout | undefined;
  const ended = await new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(`could not be started: ${error.message}`));
    child.once('exit', (code, signal) =>
      resolve(signal !== null ? `died of ${signal}` : code === 0 ? '' : `exited with ${code}`),
    );
  });
  clearTimeout(timer);
  clearTimeout(graceTimer);
  if (child.pid !== undefined) kill('SIGKILL');
  const tap = await counted;
  const failures = [...tap.failures];
  if (late) failures.push(`took longer than ${options.timeoutMs} ms`);
  else if (ended !== '' && failures.length === 0) failures.push(ended);
  if (tap.passed + failures.length === 0) failures.push('asserted nothing');
  if (failures.length > 0 && stderr.trim() !== '') failures[failures.length - 1] += `\nstderr:\n${stderr.trim()}`;
  return { file, passed: tap.passed, failed: failures.length, failures, durationMs: performance.now() - startedMs };
}

function tapSeconds(timeoutMs: number): number {
  return Math.max(timeoutMs / 2, timeoutMs - NAMING_MS) / 1000;
}

/** Counts leaf assertions of a TAP stream, those in subtests too. */
function countTap(stream: NodeJS.ReadableStream): Promise<{ passed: number; failures: string[] }> {
  return new Promise((resolve) => {
    let passed = 0;
    let hollow = 0;
    const failures: string[] = [];
    const parser = new Parser((results) => {
      if (!results.ok && failures.length === 0) failures.push(planError(results));
      resolve({ passed: passed - hollow, failures });
    });
    // A subtest without an assertion surfaces as one passed leaf of its parent: taken back, and named.
    const watchChildren = (parent: Parser) =>
      parent.on('child', (child: Parser) => {
        watchChildren(child);
        child.on('complete', (inner: FinalResults) => {
          if (inner.count > 0 || inner.plan.skipAll === false) return;
          hollow += 1;
          failures.push(`asserts nothing: ${child.fullname}`);
        });
      });
    watchChildren(parser);
    parser.on('pass', () => {
      passed += 1;
    });
    parser.on('fail', (result: Result) => failures.push(describe(result)));
    parser.on('skip', (result: Result) => failures.push(`skipped: ${result.fullname} (${result.skip})`));
    parser.on('todo', (result: Result) => failures.push(`todo: ${result.fullname} (${result.todo})`));
    stream.pipe(parser as NodeJS.WritableStream);
  });
}

function planError(results: {
  bailout: boolean | string;
  plan: { skipReason?: string | null; comment?: string | null };
  failures: readonly unknown[];
}): string {
  if (results.bailout) return `bailed out: ${results.bailout}`;
  const first = results.failures[0] as { tapError?: string } | undefined;
  return first?.tapError ?? 'the TAP output is not whole';
}

function describe(result: Result): string {
  if (result.diag === null || result.diag === undefined) return result.fullname;
  const {
    source: _source,
    stack: _stack,
    at,
    diff,
    ...rest
  } = result.diag as Record<string, unknown> & { at?: Record<string, unknown> };
  const where = at === undefined ? '' : ` (${at.fileName}:${at.lineNumber})`;
  const more = Object.keys(rest).length === 0 ? '' : `\n${JSON.stringify(rest)}`;
  return `${result.fullname}${where}${more}\n${diff ?? ''}`.trimEnd().slice(0, 6000);
}
