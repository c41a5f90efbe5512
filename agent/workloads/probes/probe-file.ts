import { readFile } from 'node:fs/promises';
import { writeFileAtomic } from '../../../runtime/atomic-file.ts';

/** Whether each group was healthy when an agent last looked, by `NAMESPACE/NAME`. Kept in RUN_DIR: a boot empties it, as it ends the workloads. */
export type KnownHealth = ReadonlyMap<string, boolean>;

const MAX_BYTES = 64 << 10;

/** Reads the file; nothing is known where it is missing or broken: then a first success makes healthy. */
export async function loadProbeHealth(path: string): Promise<KnownHealth> {
  try {
    const text = await readFile(path, 'utf8');
    const json: unknown = text.length > MAX_BYTES ? undefined : JSON.parse(text);
    if (typeof json !== 'object' || json === null || Array.isArray(json)) return new Map();
    return new Map(Object.entries(json).filter((entry): entry is [string, boolean] => typeof entry[1] === 'boolean'));
  } catch {
    return new Map();
  }
}

/** Replaces the file atomically. */
export async function saveProbeHealth(path: string, known: KnownHealth): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(Object.fromEntries(known))}\n`);
}
