import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import t, { test } from 'tap';
import type { StepResult } from '../../scripts/lib/demo/story.ts';

t.setTimeout(800_000);

interface Report {
  readonly ok: boolean;
  readonly seconds: number;
  readonly leftBehind: readonly string[];
  readonly steps: readonly StepResult[];
}

test('the story of the mesh holds, step by step, on real traffic, and leaves nothing behind', (t) => {
  const file = `${t.testdir()}/story.json`;
  const options = { encoding: 'utf8', timeout: 600_000, maxBuffer: 1 << 26 } as const;
  const run = spawnSync('scripts/demo', ['--check', '--json', file], options);
  const words = `${run.error?.message ?? ''}${run.stderr.slice(-3000)}${run.stdout.slice(-3000)}`;
  if (!existsSync(file)) {
    t.fail(`scripts/demo wrote no report: ${words}`);
    return t.end();
  }
  const report = JSON.parse(readFileSync(file, 'utf8')) as Report;
  for (const { step, title, ok, ms, error } of report.steps) t.ok(ok, `${step}: ${title} (${ms} ms) ${error ?? ''}`);
  const parts = [...new Set(report.steps.map(({ part }) => part))];
  t.strictSame(parts, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 'all parts were told');
  t.strictSame(report.leftBehind, [], 'nothing is left on the machine');
  t.ok(report.ok, report.ok ? 'every step held' : words);
  t.equal(run.status, 0, 'exit status');
  t.end();
});

test('a wrong call, and a lab that is up already, are refused before anything is touched', (t) => {
  const demo = (...args: string[]) => spawnSync('scripts/demo', args, { encoding: 'utf8' });
  t.match(demo('--wrong'), { status: 64, stderr: /usage: scripts\/demo/ });
  t.match(demo('--help'), { status: 0, stdout: /usage: scripts\/demo/ });
  const topology = `${t.testdir({ 'x.yaml': 'controllers: 0\nhosts: [{name: a, agent: false}]\n' })}/x.yaml`;
  const lab = (...args: string[]) => spawnSync('scripts/lab', args, { encoding: 'utf8' });
  t.teardown(() => lab('down'));
  t.equal(lab('up', '--file', topology).status, 0);
  t.match(demo('--check'), { status: 1, stderr: /a lab is up on this machine .*scripts\/lab down/ });
  t.equal(lab('exec', 'a', '--', 'true').status, 0, 'it is still up');
  t.end();
});
