/** Unix users of the lab. In: names. Out: system users that did not exist before, made and removed with useradd and userdel. */
import { readFile } from 'node:fs/promises';
import type { Exec } from '../../../agent/host/exec.ts';
import { parsePasswd } from '../../../agent/host/users.ts';
import { must } from './network.ts';

/** Those of `names` that this machine does not have. */
export async function absentUsers(names: readonly string[]): Promise<string[]> {
  const known = parsePasswd(await readFile('/etc/passwd', 'utf8'));
  return names.filter((name) => !known.has(name));
}

/** Makes system users without home or login, each with a group of its own. */
export async function createUsers(exec: Exec, names: readonly string[]): Promise<void> {
  for (const name of names)
    await must(exec, 'useradd', [
      '--system',
      '--user-group',
      '--no-create-home',
      '--home-dir',
      '/nonexistent',
      '--shell',
      '/usr/sbin/nologin',
      name,
    ]);
}

/** Removes users; one that is gone already is none the worse. */
export async function removeUsers(exec: Exec, names: readonly string[]): Promise<void> {
  const absent = new Set(await absentUsers(names));
  for (const name of names) if (!absent.has(name)) await must(exec, 'userdel', ['--force', name]);
}

/** Numeric ids of a user. Throws when it is not in /etc/passwd. */
export async function idsOf(name: string): Promise<{ uid: number; gid: number }> {
  const line = (await readFile('/etc/passwd', 'utf8')).split('\n').find((l) => l.startsWith(`${name}:`));
  const [, , uid, gid] = (line ?? '').split(':');
  if (uid === undefined || gid === undefined) throw new Error(`no user ${name}`);
  return { uid: Number(uid), gid: Number(gid) };
}
