/**
 * Exits 0 when node_modules holds what package-lock.json asks for on this machine, else 1 with the first difference on stderr.
 * In: package-lock.json and npm's own record of what it installed, node_modules/.package-lock.json. Changes nothing.
 */
import { readFileSync } from 'node:fs';

interface Lock {
  readonly packages: Readonly<
    Record<string, { readonly version?: string; readonly integrity?: string; readonly optional?: boolean }>
  >;
}

const read = (path: string): Lock => JSON.parse(readFileSync(path, 'utf8')) as Lock;

/** The first package that is missing or of another version, or undefined. Optional ones may be absent (other platforms), not different. */
function firstDifference(wanted: Lock, installed: Lock): string | undefined {
  for (const [path, entry] of Object.entries(wanted.packages)) {
    if (path === '') continue;
    const found = installed.packages[path];
    if (
      found === undefined
        ? entry.optional !== true
        : found.version !== entry.version || found.integrity !== entry.integrity
    )
      return path;
  }
  return undefined;
}

try {
  const difference = firstDifference(read('package-lock.json'), read('node_modules/.package-lock.json'));
  if (difference !== undefined) throw new Error(`${difference} is missing or of another version`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
