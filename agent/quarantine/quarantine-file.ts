import { readFile } from 'node:fs/promises';
import type { ObjectKey } from '../../api/resources/object.ts';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';
import type { Logger } from '../../runtime/log.ts';
import { EMPTY, type HeldObject, type Quarantine } from './quarantine.ts';

/** Reads STATE_DIR/quarantine.json; absent or broken (logged): nothing is held, and what is bad is found out anew. */
export async function loadQuarantine(path: string, log: Logger): Promise<Quarantine> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') log.warn('cannot read', { path, error });
    return EMPTY;
  }
  try {
    const { held } = JSON.parse(text) as { held: readonly HeldObject[] };
    return { ...EMPTY, held: new Map(held.map((h) => [h.key as ObjectKey, h])) };
  } catch (error) {
    log.warn('not a quarantine file; nothing is held back', { path, error });
    return EMPTY;
  }
}

/** Replaces the file. Suspects are not kept: they are found again. */
export async function saveQuarantine(path: string, state: Quarantine): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify({ held: [...state.held.values()] })}\n`);
}
