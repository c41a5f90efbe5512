import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { planJobs } from '../../../scripts/lib/run-tests.ts';
import { runTapFile } from '../../../scripts/lib/tap-file.ts';

const cases: readonly { name: string; source: string; passed: number; failed: number; says?: RegExp }[] = [
  {
    name: 'two leaves in a subtest',
    source: tap(`t.test('s', (t) => { t.ok(1); t.ok(1); t.end(); });`),
    passed: 2,
    failed: 0,
  },
  {
    name: 'a failed assertion',
    source: tap(`t.ok(1, 'good'); t.equal(1, 2, 'bad sum');`),
    passed: 1,
    failed: 1,
    says: /bad sum/,
  },
  { name: 'no output at all', source: '', passed: 0, failed: 1, says: /TAP|nothing/ },
  { name: 'a test that asserts nothing', source: tap(`t.test('hollow', (t) => t.end());`), passed: 0, failed: 1 },
  {
    name: 'a skipped test',
    source: tap(`t.test('later', { skip: 'no root' }, () => {}); t.ok(1);`),
    passed: 1,
    failed: 1,
    says: /skipped.*later/,
  },
  {
    name: 'an exit status with all green',
    source: `console.log('TAP version 14\\nok 1 - a\\n1..1'); process.exitCode = 3;`,
    passed: 1,
    failed: 1,
    says: /exited with 3/,
  },
  { name: 'a broken plan', source: `console.log('TAP version 14\\nok 1 - a\\n1..2');`, passed: 1, failed: 1 },
  {
    name: 'a bail out',
    source: `console.log('TAP version 14\\nok 1 - a\\nBail out! burnt');`,
    passed: 1,
    failed: 1,
    says: /burnt/,
  },
  {
    name: 'a crash before the first test',
    source: `throw new Error('cannot load');`,
    passed: 0,
    failed: 1,
    says: /cannot load/,
  },
  {
    name: 'a throw in a test',
    source: tap(`t.ok(1); throw new Error('thrown here');`),
    passed: 1,
    failed: 1,
    says: /thrown here/,
  },
  {
    name: 'a file that hangs',
    source: `process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); console.log('TAP version 14\\nok 1 - a');`,
    passed: 1,
    failed: 2,
    says: /longer than 700 ms/,
  },
  {
    name: 'as much time as the runner gives, not the 30 s of tap',
    source: tap(`t.equal(Number(process.env.TAP_TIMEOUT), 15);`),
    passed: 1,
    failed: 0,
  },
];

function tap(body: string): string {
  return `import t from ${JSON.stringify(import.meta.resolve('tap'))};\n${body}\n`;
}

test('a file counts as what it is', async (t) => {
  const folder = t.testdir({});
  for (const [index, c] of cases.entries()) {
    const file = join(folder, `${index}.test.ts`);
    writeFileSync(file, c.source);
    const result = await runTapFile(file, { timeoutMs: c.name.includes('hangs') ? 700 : 20_000, graceMs: 200 });
    t.equal(result.passed, c.passed, `${c.name}: passed`);
    t.equal(result.failed, c.failed, `${c.name}: failed, ${result.failures.join(' | ')}`);
    if (c.says !== undefined) t.match(result.failures.join('\n'), c.says, `${c.name}: says why`);
  }
});

test('the test that hangs is named', async (t) => {
  const file = join(t.testdir({}), 'stuck.test.ts');
  const stuck = `t.test('waits for ever', () => new Promise((r) => setTimeout(r, 600_000)));`;
  writeFileSync(file, tap(`t.test('is quick', async (t) => t.ok(1)); ${stuck}`));
  const { passed, failures } = await runTapFile(file, { timeoutMs: 5000, graceMs: 200 });
  t.equal(passed, 1);
  t.match(failures.join('\n'), /waits for ever[\s\S]*timeout/);
});

test('the last line sums all files, and nothing run is a failure', (t) => {
  const folder = t.testdir({});
  mkdirSync(join(folder, 'some'));
  mkdirSync(join(folder, 'none'));
  writeFileSync(join(folder, 'some', 'a.test.ts'), tap(`t.ok(1); t.ok(0, 'no');`));
  writeFileSync(join(folder, 'some', 'b.test.ts'), tap(`t.ok(1); t.ok(1);`));
  const run = (...args: string[]) => {
    const { stdout, status } = spawnSync(process.execPath, ['scripts/lib/run-tests.ts', ...args], { encoding: 'utf8' });
    return { last: stdout.trimEnd().split('\n').at(-1), status };
  };
  t.strictSame(run(join(folder, 'some')), { last: '3 passed, 1 failed', status: 1 });
  t.strictSame(run(join(folder, 'some', 'b.test.ts')), { last: '2 passed, 0 failed', status: 0 });
  t.strictSame(run(join(folder, 'none')), { last: '0 passed, 1 failed', status: 1 });
  t.strictSame(run('unitt'), { last: '0 passed, 1 failed', status: 1 });
  t.end();
});

test('suites', (t) => {
  for (const asked of [[], ['full']])
    t.strictSame(
      planJobs(asked).map((job) => job.name),
      ['unit', 'integration', 'e2e', 'gossip', 'system'],
    );
  t.ok(planJobs(['unit'])[0]!.files.includes('test/unit/scripts/tap-file.test.ts'));
  t.throws(() => planJobs(['nonsense']), /unknown suite or file nonsense/);
  t.end();
});
