import { constants, type FileHandle, open } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { MeshError } from '../../api/errors.ts';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';

/*
 * Root reads and writes here in folders that the agent's user owns: that user may swap any name for a link at any moment. So the folder is
 * opened without following links, and everything in it is named through that open descriptor.
 */

/** Text of a regular file of at most maxBytes, owned by one of `uids`; undefined when it is missing. Throws REDIRECT_FILE. */
export async function readUntrusted(
  path: string,
  maxBytes: number,
  uids: ReadonlySet<number>,
): Promise<string | undefined> {
  return inFolder(path, async (place) => {
    const file = await open(place, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
      refuse(path),
    );
    if (file === undefined) return undefined;
    try {
      const info = await file.stat();
      if (!info.isFile() || info.nlink > 1) throw fault(path, 'is no plain file');
      if (!uids.has(info.uid)) throw fault(path, `belongs to uid ${info.uid}`);
      if (info.size > maxBytes) throw fault(path, `is larger than ${maxBytes} bytes`);
      const { buffer, bytesRead } = await file.read(Buffer.alloc(maxBytes + 1), 0, maxBytes + 1, 0);
      if (bytesRead > maxBytes) throw fault(path, `is larger than ${maxBytes} bytes`);
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await file.close();
    }
  });
}

/** Replaces a file atomically in a folder that another user owns; readable by all (0644): it holds no secret. Throws REDIRECT_FILE. */
export async function writeUntrusted(path: string, text: string): Promise<void> {
  await inFolder(path, (place) => writeFileAtomic(place, text, 0o644));
}

/** Refuses (REDIRECT_FILE) a file that anyone but root, or this user, could have written: agent.yaml decides what may be captured. */
export async function readOwn(path: string, maxBytes: number): Promise<string> {
  const file = await open(path, constants.O_RDONLY).catch(refuse(path));
  if (file === undefined) throw fault(path, 'does not exist');
  try {
    const info = await file.stat();
    if (!info.isFile()) throw fault(path, 'is no plain file');
    if (info.uid !== 0 && info.uid !== process.getuid?.()) throw fault(path, `belongs to uid ${info.uid}, not to root`);
    if ((info.mode & 0o022) !== 0) throw fault(path, 'is writable by others than its owner');
    if (info.size > maxBytes) throw fault(path, `is larger than ${maxBytes} bytes`);
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

async function inFolder<T>(path: string, work: (place: string) => Promise<T>): Promise<T | undefined> {
  const folder = dirname(path);
  const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
  const outer = await open(dirname(folder), flags).catch(refuse(path));
  if (outer === undefined) return undefined;
  let inner: FileHandle | undefined;
  try {
    inner = await open(`/proc/self/fd/${outer.fd}/${basename(folder)}`, flags).catch(refuse(path));
    return inner && (await work(`/proc/self/fd/${inner.fd}/${basename(path)}`));
  } finally {
    await inner?.close();
    await outer.close();
  }
}

/** Missing is undefined; a link, or anything else that is in the way, is a refusal. */
function refuse(path: string): (error: NodeJS.ErrnoException) => undefined {
  return (error) => {
    if (error.code === 'ENOENT') return undefined;
    const link = error.code === 'ELOOP' || error.code === 'ENOTDIR';
    throw fault(path, link ? 'is reached through a symbolic link' : `cannot be opened: ${error.message}`);
  };
}

function fault(path: string, reason: string): MeshError {
  return new MeshError('REDIRECT_FILE', `${path} ${reason}`, { details: { path } });
}
