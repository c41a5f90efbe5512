/** Who the files of `mesh-controller init` belong to when root runs it. Nothing that root made may be left for the service to stumble on. */
import { chownSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { MeshError } from '../api/errors.ts';

/** The unit's user (packaging/sysusers.d). */
const SERVICE_USER = 'mesh-controller';

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Called as root, makes `stateDir` (0700) if it is absent and gives up root for its owner: of an existing folder its own, of a new one
 * mesh-controller, if there is such a user. Called as anybody else it does nothing. Throws STATE_DIR.
 */
export function becomeStateOwner(stateDir: string): void {
  if (process.getuid?.() !== 0) return;
  try {
    const owner = ownerOf(stateDir) ?? makeFor(stateDir, serviceUser(readFileSync('/etc/passwd', 'utf8')));
    if (owner.uid === 0) return;
    process.setgroups?.([owner.gid]);
    process.setgid?.(owner.gid);
    process.setuid?.(owner.uid);
  } catch (cause) {
    throw new MeshError('STATE_DIR', `cannot use ${stateDir} as stateDir`, { cause });
  }
}

/** The user in the text of /etc/passwd (passwd(5)); root when there is none. */
export function serviceUser(passwd: string): Owner {
  const [, , uid, gid] =
    passwd
      .split('\n')
      .find((line) => line.startsWith(`${SERVICE_USER}:`))
      ?.split(':') ?? [];
  return uid === undefined || gid === undefined ? { uid: 0, gid: 0 } : { uid: Number(uid), gid: Number(gid) };
}

function ownerOf(path: string): Owner | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  return found && { uid: found.uid, gid: found.gid };
}

function makeFor(stateDir: string, owner: Owner): Owner {
  process.umask(0o022); // folders above it are the system's, not ours to close
  mkdirSync(dirname(stateDir), { recursive: true });
  mkdirSync(stateDir, { mode: 0o700 });
  chownSync(stateDir, owner.uid, owner.gid);
  return owner;
}
