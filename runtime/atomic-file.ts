import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

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

let counter = 0;
