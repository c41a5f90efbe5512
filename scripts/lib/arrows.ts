/**
 * Checks who imports whom against .dependency-cruiser.cjs (the arrows of docs/architecture.md). Run by scripts/check; the unit tests
 * call `checkArrows` too. In: the folders of the product, scripts and tests. Out: violations as lines. Changes nothing.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cruise, type ICruiseOptions, type ICruiseResult } from 'dependency-cruiser';

const FOLDERS = ['api', 'runtime', 'controller', 'agent', 'cli', 'scripts', 'test'];

/** One line a violation (`RULE: FROM -> TO`), and how many modules were looked at. `folders` are relative to the working directory. */
export async function checkArrows(
  folders: readonly string[] = FOLDERS,
): Promise<{ violations: string[]; modules: number }> {
  const config = createRequire(import.meta.url)('../../.dependency-cruiser.cjs') as ICruiseOptions['ruleSet'] & {
    options: ICruiseOptions;
  };
  const present = folders.filter((folder) => existsSync(folder));
  const { output } = await cruise(
    [...present],
    { ...config.options, validate: true, ruleSet: { forbidden: config.forbidden } },
    config.options.enhancedResolveOptions,
  );
  const { summary } = output as ICruiseResult;
  const violations = summary.violations.map(
    (v) => `${v.rule.name}: ${v.cycle ? v.cycle.map((c) => c.name).join(' -> ') : `${v.from} -> ${v.to}`}`,
  );
  return { violations, modules: summary.totalCruised };
}

if (import.meta.main) {
  const { violations, modules } = await checkArrows();
  for (const line of violations) console.error(`arrows: ${line}`);
  console.error(`arrows: ${modules} modules, ${violations.length} violations`);
  process.exitCode = violations.length === 0 && modules > 0 ? 0 : 1;
}
