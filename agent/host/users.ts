import { readFile } from 'node:fs/promises';
import { MeshError } from '../../api/errors.ts';
import { UNIT_NAME } from '../config.ts';
import type { Exec } from './exec.ts';
import { unitUser } from './unit-user.ts';

/**
 * Looks up unix users. `uid` throws MeshError USER_UNKNOWN for a name that neither /etc/passwd nor NSS knows. The name of a unit,
 * `NAME.service`, stands for its static user.
 */
export interface Users {
  uid(name: string): Promise<number>;
}

const USER_NAME = /^[a-z_][a-z0-9_.-]{0,31}\$?$/i;

/**
 * /etc/passwd first (no process, works with every directory server dead), then getent(1). A plain number is taken as a uid.
 * `passwdPath` and `unitPath` are for tests.
 */
export function createUsers(deps: { exec: Exec; passwdPath?: string; unitPath?: readonly string[] }): Users {
  return {
    async uid(name) {
      if (UNIT_NAME.test(name)) return this.uid(await unitUser(name, deps.unitPath));
      if (/^\d{1,10}$/.test(name) && Number(name) < 0xffff_ffff) return Number(name);
      if (!USER_NAME.test(name)) throw unknownUser(name);
      const local = parsePasswd(await readFile(deps.passwdPath ?? '/etc/passwd', 'utf8')).get(name);
      if (local !== undefined) return local;
      const found = await deps
        .exec('getent', ['passwd', name], { timeoutMs: 5000, maxBytes: 64 << 10 })
        .catch(() => undefined);
      const uid = found?.code === 0 ? parsePasswd(found.stdout).get(name) : undefined;
      if (uid === undefined) throw unknownUser(name);
      return uid;
    },
  };
}

/** Name -> uid of every well-formed line of passwd(5) text; the first line of a name wins. */
export function parsePasswd(text: string): Map<string, number> {
  const users = new Map<string, number>();
  for (const line of text.split('\n')) {
    const [name = '', , uid = ''] = line.split(':');
    if (name !== '' && /^\d+$/.test(uid) && !users.has(name)) users.set(name, Number(uid));
  }
  return users;
}

function unknownUser(name: string): MeshError {
  return new MeshError('USER_UNKNOWN', `no such user: ${JSON.stringify(name)}`, { details: { user: name } });
}
