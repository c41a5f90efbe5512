/**
 * The test runner behind scripts/test. In: names of suites or test files. Out: a line a file, failures in full, and one last line
 * `N passed, N failed` over all; exit 1 when anything failed or nothing ran. It starts tests and counts; it never retries one.
 */
import { existsSync, globSync, statSync } from 'node:fs';
import { type FileResult, runTapFile } from './tap-file.ts';

interface Suite {
  readonly folders: readonly string[];
  /** Files at a time. Suites that use the machine's namespaces, users and CPU for figures run one by one. */
  readonly parallel: number;
  readonly timeoutMs: number;
}

const SUITES: Readonly<Record<string, Suite>> = {
  unit: { folders: ['test/unit', 'test/contract', 'test/fuzz'], parallel: 2, timeoutMs: 180_000 },
  integration: { folders: ['test/integration'], parallel: 1, timeoutMs: 600_000 },
  e2e: { folders: ['test/e2e'], parallel: 1, timeoutMs: 900_000 },
  gossip: { folders: ['test/gossip', 'test/sim'], parallel: 1, timeoutMs: 600_000 },
  system: { folders: ['test/system'], parallel: 1, timeoutMs: 900_000 },
};
const DEFAULT = ['unit', 'integration', 'e2e', 'gossip', 'system'];

interface Job extends Pick<Suite, 'parallel' | 'timeoutMs'> {
  readonly name: string;
  readonly files: readonly string[];
}

/** Jobs in order for the arguments. Throws on an unknown name: a typing error must not run nothing and pass. */
export function planJobs(args: readonly string[]): Job[] {
  const names = args.length === 0 ? DEFAULT : args.flatMap((arg) => (arg === 'full' ? Object.keys(SUITES) : [arg]));
  return [...new Set(names)].map((name) => {
    const suite = SUITES[name];
    if (suite !== undefined)
      return { name, parallel: suite.parallel, timeoutMs: suite.timeoutMs, files: suite.folders.flatMap(testFiles) };
    if (!existsSync(name))
      throw new Error(`unknown suite or file ${name}: ${Object.keys(SUITES).join(', ')}, full, or a path`);
    const files = statSync(name).isDirectory() ? testFiles(name) : [name];
    const timeoutMs = Object.values(SUITES).find((s) => s.folders.some((f) => name.startsWith(f)))?.timeoutMs;
    return { name, parallel: 1, timeoutMs: timeoutMs ?? 300_000, files };
  });
}

function testFiles(folder: string): string[] {
  return globSync(`${folder.replace(/\/$/, '')}/**/*.test.ts`).sort();
}

function report(result: FileResult): void {
  const seconds = (result.durationMs / 1000).toFixed(1);
  const counts = result.failed === 0 ? `${result.passed} passed` : `${result.passed} passed, ${result.failed} failed`;
  console.log(`${result.failed === 0 ? 'ok  ' : 'FAIL'} ${result.file}  ${counts}  ${seconds} s`);
  for (const failure of result.failures) console.log(failure.replace(/^/gm, '     ').replace(/^ {4}/, '   x'));
}

async function runJob(job: Job): Promise<FileResult[]> {
  console.log(`# ${job.name}: ${job.files.length} files`);
  const queue = [...job.files];
  const results: FileResult[] = [];
  const worker = async () => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      const result = await runTapFile(file, { timeoutMs: job.timeoutMs });
      report(result);
      results.push(result);
    }
  };
  await Promise.all(Array.from({ length: job.parallel }, worker));
  return results;
}

async function main(args: readonly string[]): Promise<void> {
  const results: FileResult[] = [];
  let failed = 0;
  try {
    for (const job of planJobs(args)) results.push(...(await runJob(job)));
  } catch (error) {
    console.log(error instanceof Error ? error.message : error);
    failed += 1;
  }
  const passed = results.reduce((sum, r) => sum + r.passed, 0);
  failed += results.reduce((sum, r) => sum + r.failed, 0);
  const bad = results.filter((r) => r.failed > 0);
  if (bad.length > 0) console.log(`\nfailed files:\n${bad.map((r) => `  ${r.file}`).join('\n')}`);
  if (results.length === 0 && failed === 0) {
    console.log('no test file was found');
    failed += 1;
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
}

if (import.meta.main) await main(process.argv.slice(2));
