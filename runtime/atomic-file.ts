import { open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/**
 * Replaces a file so that a reader, a crash or a full disk sees the old content or the new, never a part: temp file in the same folder,
 * fsync, rename, fsync of the folder. `mode` defaults to 0600. On failure the temp file is removed and the old file stays.
 */
export async function writeFileAtomic(path: string, data: string | Uint8Array, mode = 0o600): Promise<void> {
  const temp = `${path}.tmp-${process.pid}-${counter++}`;
  try {
    const file = await open(temp, 'wx', mode);
    try {
      await file.chmod(mode); // the umask does not decide
      await file.writeFile(data);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temp, path);
  } catch (error) {
    await rm(temp, { force: true });
    throw error;
  }
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/**
 * Removes what writeFileAtomic left in `folder` and below when its process was killed in the middle: each would stay for ever, some with a
 * key in it. For a start, before anything writes there. Links are not followed; a folder that is missing is fine.
 */
export async function removeLeftovers(folder: string): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await removeLeftovers(path);
    else if (LEFTOVER.test(entry.name)) await rm(path, { force: true });
  }
}

const LEFTOVER = /\.tmp-\d+-\d+$/;
let counter = 0;
