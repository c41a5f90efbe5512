import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';

interface Report {
  readonly ok: boolean;
  readonly seconds: number;
  readonly steps: readonly { step: string; title: string; ok: boolean; ms: number; error?: string }[];
}

test('the story of the mesh holds, step by step, on real traffic, and leaves nothing behind', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'story-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const file = join(dir, 'story.json');
  const run = spawnSync('scripts/demo', ['--check', '--json', file], {
    encoding: 'utf8',
    timeout: 600_000,
    maxBuffer: 1 << 26,
  });
  if (!existsSync(file)) {
    t.fail(
      `scripts/demo wrote no report: ${(run.error?.message ?? '') + run.stderr.slice(-3000)}${run.stdout.slice(-3000)}`,
    );
    return t.end();
  }
  const report = JSON.parse(readFileSync(file, 'utf8')) as Report;
  for (const { step, title, ok, ms, error } of report.steps) t.ok(ok, `${step}: ${title} (${ms} ms) ${error ?? ''}`);
  t.ok(report.steps.length >= 11, `${report.steps.length} steps were told`);
  t.equal(run.status, 0, 'exit status');
  t.ok(report.ok);
  const left = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' }).stdout.match(/^hm-.*/gm) ?? [];
  t.strictSame(left, [], 'no namespace is left');
  t.notOk(existsSync('/run/hostmesh-lab'), 'no file is left');
  t.notMatch(readFileSync('/etc/passwd', 'utf8'), /^(hm-|mesh-)/m, 'no user is left');
  t.end();
});
