import { readFile } from 'node:fs/promises';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';
import type { PortAssignment } from './bind.ts';

/** Reads STATE_DIR/workload-ports.json. A missing or broken file gives none: ports are then given anew, and rules and listeners follow. */
export async function loadPortAssignment(path: string): Promise<PortAssignment> {
  try {
    const json: unknown = JSON.parse(await readFile(path, 'utf8'));
    if (typeof json !== 'object' || json === null || Array.isArray(json)) return {};
    return Object.fromEntries(Object.entries(json).filter(([, port]) => Number.isInteger(port))) as PortAssignment;
  } catch {
    return {};
  }
}

/** Replaces the file atomically (0600). */
export async function savePortAssignment(path: string, assigned: PortAssignment): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(assigned)}\n`);
}
