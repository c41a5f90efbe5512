import { chmod, lchown, lstat, mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { MeshError } from '../../api/errors.ts';

/** Numbers of the user, and of the group that files get. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Runs `work` with the rights of `owner`, then takes root's back: whatever root reads or writes in a folder that another user owns, that
 * user may have replaced by a link. `owner` undefined: with the caller's own rights. The rights are the whole process's: nothing else may run
 * meanwhile. Rejects as `work` does.
 */
export async function asUser<T>(owner: Owner | undefined, work: () => Promise<T>): Promise<T> {
  if (owner === undefined) return work();
  const { setgroups, setegid, seteuid, getgroups, getegid, geteuid } = process;
  if (!setgroups || !setegid || !seteuid || !getgroups || !getegid || !geteuid)
    throw new MeshError('PLATFORM_UNSUPPORTED', 'this platform has no users');
  const before = { groups: getgroups(), gid: getegid(), uid: geteuid() };
  setgroups([owner.gid]);
  setegid(owner.gid);
  seteuid(owner.uid);
  try {
    return await work();
  } finally {
    seteuid(before.uid);
    setegid(before.gid);
    setgroups(before.groups);
  }
}

/**
 * A folder of `owner`'s, as root makes it where it is missing; only its parents must be root's. What is there is given to `owner`, never
 * what a link leads to. Throws STATE_DIR_UNSAFE for anything but a folder.
 */
export async function folderOf(path: string, mode: number, owner: Owner | undefined): Promise<void> {
  const made = await mkdir(path, { recursive: true, mode: 0o755 });
  // The umask keeps others out of what is secret; the way to it must be open for `owner`.
  if (made !== undefined) for (let up = dirname(path); up.startsWith(made); up = dirname(up)) await chmod(up, 0o755);
  const info = await lstat(path);
  if (!info.isDirectory())
    throw new MeshError('STATE_DIR_UNSAFE', `${path} is no folder but a link or a file; remove it`);
  if (owner !== undefined) await lchown(path, owner.uid, owner.gid);
  // Its own mode is for whoever packaged it to say.
  if (made === undefined) return;
  await asUser(owner, () => chmod(path, mode)).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'EACCES') throw cause;
    throw new MeshError(
      'STATE_DIR_UNSAFE',
      `user ${owner?.uid} cannot reach ${path}: the folders above it must be passable for it (chmod o+x)`,
      { cause },
    );
  });
}
