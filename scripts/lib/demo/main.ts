/**
 * scripts/demo: the story of the mesh on this machine, step by step, on real traffic. In: a command line (USAGE). Out: progress, timings, a JSON
 * report, exit 0 or 1. However it ends, also by Ctrl-C, nothing of it stays on the machine. Must never: take down a lab that it did not bring up.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { errorLine } from '../../../api/errors.ts';
import { ROOT } from '../lab/paths.ts';
import { leftAfter, snapshot } from './leftovers.ts';
import { tell } from './progress.ts';
import { run } from './run.ts';
import { LAST_STEP, STEPS, type StepResult } from './story.ts';
import { createWorld, LAB_FOLDER } from './world.ts';

const USAGE = `usage: scripts/demo [--check] [--json FILE]
  (nothing)     tell the story, leave the mesh up, take it down on Ctrl-C
  --check       tell it unattended, take everything down; exit 0 when every step held, else 1
  --json FILE   write steps and timings to FILE
`;

const TRY = `The mesh is up. Try, in another terminal:
  scripts/lab status
  export $(scripts/lab env); build/node/bin/node cli/main.ts describe host a
  scripts/lab exec a --user hm-client -- curl -s http://reviews:9080/
  scripts/lab link c down; sleep 5; scripts/lab exec a --user hm-client -- curl -s http://reviews:9080/
Ctrl-C takes everything down.`;

const SETTLE_MS = 30_000;

interface Options {
  readonly check: boolean;
  readonly json: string | undefined;
}

async function main(argv: readonly string[]): Promise<number> {
  const options = parse(argv);
  if (typeof options === 'number') return options;
  if (process.getuid?.() !== 0) return complain('run it as root: it makes network namespaces and users');
  if (existsSync(LAB_FOLDER))
    return complain(`a lab is up on this machine (${LAB_FOLDER}); end it with \`scripts/lab down\` and try again`);
  const before = snapshot();
  process.on('uncaughtException', (error) => {
    process.stderr.write(`demo: ${error.stack}\n`);
    spawnSync(join(ROOT, 'scripts/lab'), ['down'], { stdio: 'inherit' });
    process.exit(1);
  });
  const interruption = onSignals();
  const begun = performance.now();
  const results = await story(options, interruption);
  const seconds = results.reduce((sum, r) => sum + r.ms, 0) / 1000;
  const rest = await leftAfter(before, SETTLE_MS);
  for (const line of rest) process.stderr.write(`left behind: ${line}\n`);
  const ok = results.length === STEPS.length + 1 && results.every((r) => r.ok) && rest.length === 0;
  if (options.json !== undefined) {
    const machine = { cpus: availableParallelism(), arch: process.arch, node: process.version };
    const report = { version: 1, ok, seconds, machine, leftBehind: rest, steps: results };
    writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
  }
  const verdict = interruption.signal.aborted ? 'stopped by hand' : ok ? 'every step held' : 'the story broke';
  const all = ((performance.now() - begun) / 1000).toFixed(1);
  process.stdout.write(`\n${verdict}: ${results.length} steps, ${seconds.toFixed(1)} s (${all} s in all)\n`);
  return ok ? 0 : 1;
}

/** Tells the story; the lab is down and nothing runs any more when this resolves. */
async function story(options: Options, { signal, wait }: Interruption): Promise<StepResult[]> {
  const world = createWorld(signal);
  const results: StepResult[] = [];
  const total = STEPS.length + 1;
  try {
    for (const step of STEPS) {
      const result = await tell(results.length + 1, total, step, world);
      results.push(result);
      // Unattended, what still holds is worth knowing; without hosts there is nothing to tell.
      if (!result.ok && (signal.aborted || !options.check || step.part < 2 || step.name === 'hosts')) return results;
    }
    if (!options.check) {
      process.stdout.write(`\n${TRY}\n`);
      await wait();
    }
    results.push(await tell(total, total, LAST_STEP, world));
    return results;
  } finally {
    await world.close();
    const down = await run(join(ROOT, 'scripts/lab'), ['down'], { timeoutMs: 60_000 });
    if (down.code !== 0) process.stderr.write(down.stderr);
  }
}

interface Interruption {
  /** Aborts what is under way. */
  readonly signal: AbortSignal;
  /** Resolves at the first signal that comes from now on; it then aborts nothing: the last step is to be told. */
  wait(): Promise<void>;
}

/**
 * A signal ends what is under way, and everything is taken down. One more is answered, a third leaves at once: `scripts/lab down` then goes on by
 * itself. A terminal that goes away takes nothing with it.
 */
function onSignals(): Interruption {
  const controller = new AbortController();
  let asked = 0;
  let waiting: (() => void) | undefined;
  const stop = (name: string) => {
    process.stdout.write('\ntaking everything down\n');
    if (waiting === undefined) controller.abort(new Error(`stopped by ${name}`));
    waiting?.();
    waiting = undefined;
  };
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (name === 'SIGHUP' && asked > 0) return;
      asked += 1;
      if (asked === 1) return stop(name);
      if (asked === 2)
        process.stdout.write('still at it; once more leaves it to `scripts/lab down`, which goes on by itself\n');
      else process.exit(130);
    });
  }
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {}); // nobody reads any more
  return {
    signal: controller.signal,
    wait: () =>
      new Promise((resolve) => {
        waiting = resolve;
      }),
  };
}

function parse(argv: readonly string[]): Options | number {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: { check: { type: 'boolean' }, json: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
    });
    if (values.help !== true) return { check: values.check === true, json: values.json };
    process.stdout.write(USAGE);
    return 0;
  } catch (error) {
    process.stderr.write(`demo: ${errorLine(error)}\n${USAGE}`);
    return 64;
  }
}

function complain(why: string): number {
  process.stderr.write(`demo: ${why}\n`);
  return 1;
}

process.exitCode = await main(process.argv.slice(2));
process.exit(); // what is left of sockets must not keep it
