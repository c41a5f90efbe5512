import { closeSync, constants, fstatSync, openSync, readFileSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import { sep } from 'node:path';
import { MeshError } from '../../api/errors.ts';

/** A certificate, a key or a revocation list is far smaller; CA bundles of operating systems have some 250 KiB. */
const MAX_BYTES = 4 << 20;

/**
 * Text of a file that lies in `folder` for real: what is opened is looked at, not the path, so that no link leads out, not even one that is
 * put there in between. Never waits on a pipe. Throws TLS_FILE_UNREADABLE with the reason in words.
 */
export function readInside(folder: string, path: string): string {
  let fd: number | undefined;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    const real = readlinkSync(`/proc/self/fd/${fd}`);
    const root = realpathSync(folder);
    if (!real.startsWith(root === sep ? sep : root + sep)) throw fault(`it is a link out of ${folder}`);
    return readOpen(fd);
  } catch (error) {
    throw error instanceof MeshError ? error : fault(inWords(error as NodeJS.ErrnoException));
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Text of a file of the operating system. Throws TLS_FILE_UNREADABLE. */
export function readSystem(path: string): string {
  let fd: number | undefined;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    return readOpen(fd);
  } catch (error) {
    throw error instanceof MeshError ? error : fault(inWords(error as NodeJS.ErrnoException));
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function readOpen(fd: number): string {
  const stat = fstatSync(fd);
  if (!stat.isFile()) throw fault('it is not a regular file');
  if (stat.size > MAX_BYTES) throw fault(`it has more than ${MAX_BYTES >> 20} MiB`);
  return readFileSync(fd, 'utf8');
}

/** What changes when a file, or what a link leads to, is written anew or replaced; `-` while there is none. */
export function fingerprint(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false, bigint: true });
  return stat === undefined ? '-' : `${stat.dev}:${stat.ino}:${stat.mtimeNs}:${stat.ctimeNs}:${stat.size}`;
}

function inWords(error: NodeJS.ErrnoException): string {
  if (error.code === 'ENOENT') return 'there is no such file';
  if (error.code === 'EACCES') return 'the agent’s user may not read it';
  return error.message;
}

function fault(message: string): MeshError {
  return new MeshError('TLS_FILE_UNREADABLE', message);
}
