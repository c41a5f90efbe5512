import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '../../api/errors.ts';

/** Where systemd looks for units, the first one first. systemd.unit(5), "Unit File Load Path". */
export const UNIT_PATH: readonly string[] = [
  '/etc/systemd/system',
  '/run/systemd/system',
  '/usr/local/lib/systemd/system',
  '/usr/lib/systemd/system',
  '/lib/systemd/system',
];
const MAX_BYTES = 256 << 10;

/**
 * The static user that a unit's processes run as, out of its file and drop-ins: no bus and no systemctl is needed, which an unprivileged agent
 * may not reach. Throws USER_UNKNOWN, saying why, for a unit that is not there, is masked, runs as root, or has DynamicUser= (systemd gives such
 * a uid to another unit later, which would inherit the identity). `unitPath` is for tests.
 */
export async function unitUser(unit: string, unitPath: readonly string[] = UNIT_PATH): Promise<string> {
  const settings = await unitSettings(unit, unitPath);
  if (settings === undefined) throw refused(unit, 'there is no such unit');
  if (settings === 'masked') throw refused(unit, 'the unit is masked');
  const last = (key: string) => settings.get(`Service.${key}`)?.at(-1) ?? '';
  const user = last('User');
  if (isYes(last('DynamicUser')))
    throw refused(unit, 'the unit has DynamicUser=, whose uid is given to others later: give it a static User=');
  if (user === '' || user === 'root' || user === '0')
    throw refused(unit, 'the unit runs as root: give it a User= of its own');
  if (user.includes('%')) throw refused(unit, `its User=${user} depends on the instance: name the user instead`);
  return user;
}

/** systemd.syntax(7): what counts as true. */
export function isYes(value: string): boolean {
  return /^(1|yes|y|true|t|on)$/i.test(value);
}

/**
 * `SECTION.KEY` of a unit's file and drop-ins with its values in order; an empty value stays in the list, since it takes back those before it.
 * Undefined: there is no such unit.
 */
export async function unitSettings(
  unit: string,
  unitPath: readonly string[] = UNIT_PATH,
): Promise<ReadonlyMap<string, readonly string[]> | 'masked' | undefined> {
  const names = [unit, unit.replace(/@[^@]*\.service$/, '@.service')];
  const file = await firstOf(unitPath, names);
  if (file === undefined) return undefined;
  if (file.trim() === '') return 'masked';
  const settings = new Map<string, string[]>();
  for (const text of [file, ...(await dropIns(unitPath, names))]) readSettings(text, settings);
  return settings;
}

function refused(unit: string, why: string): MeshError {
  return new MeshError('USER_UNKNOWN', `${unit}: ${why}`, { details: { unit } });
}

async function firstOf(folders: readonly string[], names: readonly string[]): Promise<string | undefined> {
  for (const name of names)
    for (const folder of folders) {
      const text = await read(join(folder, name));
      if (text !== undefined) return text;
    }
  return undefined;
}

/** `UNIT.d/*.conf`, those of all folders in one order by file name; of two with the same name the earlier folder's counts. */
async function dropIns(folders: readonly string[], names: readonly string[]): Promise<string[]> {
  const found = new Map<string, string>();
  for (const name of [...names, 'service'])
    for (const folder of folders) {
      const here = join(folder, `${name}.d`);
      for (const file of (await readdir(here).catch(() => [])).sort()) {
        if (!file.endsWith('.conf') || found.has(file)) continue;
        found.set(file, (await read(join(here, file))) ?? '');
      }
    }
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, text]) => text);
}

async function read(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').then(
    (text) => text.slice(0, MAX_BYTES),
    () => undefined,
  );
}

/** `KEY=VALUE` lines of all sections. systemd.syntax(7). */
function readSettings(text: string, settings: Map<string, string[]>): void {
  let section = '';
  for (const line of text.replace(/\\\n/g, ' ').split('\n')) {
    const trimmed = line.trim();
    if (trimmed === '' || /^[#;]/.test(trimmed)) continue;
    const heading = /^\[(.+)\]$/.exec(trimmed);
    if (heading !== null) section = heading[1] as string;
    const [, key, value = ''] = /^([A-Za-z]+)\s*=\s*(.*)$/.exec(trimmed) ?? [];
    if (key === undefined) continue;
    const name = `${section}.${key}`;
    settings.set(name, [...(settings.get(name) ?? []), value]);
  }
}
