import { lstat, mkdir, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { MeshError } from '../../api/errors.ts';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';
import type { Exec } from '../host/exec.ts';
import { isYes, unitSettings } from '../host/unit-user.ts';

/** Administrators' own units and drop-ins: it must stand there before anything of ours runs at boot. */
const FOLDER = '/etc/systemd/system';
const NAME = '50-mesh.conf';
/** First words of each file of ours; one without them is somebody else's. The packages' scripts look for them too. */
const MARKER = '# Hostmesh: ';

/**
 * What orders a unit. After= alone: with Wants= whoever starts a workload would start a mesh that was stopped, with Requires= a mesh that
 * failed would keep it down.
 */
function textFor(unit: string): string {
  return `${MARKER}mesh-agent wrote this for "unit: ${unit}" in agent.yaml and takes it away again; changes are lost\n[Unit]\nAfter=mesh-agent.service\n`;
}

/** What is to be changed so that bound units, and no others, start after the mesh. */
export interface DropInPlan {
  readonly write: readonly { readonly path: string; readonly text: string }[];
  readonly remove: readonly string[];
  /** Units that are left as they are, one line each. */
  readonly problems: readonly string[];
}

/**
 * Units that agent.yaml binds start after the mesh, by drop-ins of ours; those of units no longer bound go. Returns what was done, or with
 * `dryRun` would be, in words. Throws REDIRECT_ORDER when systemd does not read its units again.
 */
export async function orderUnits(exec: Exec, units: readonly string[], dryRun: boolean): Promise<string> {
  const plan = await planDropIns(units);
  if (!dryRun && (await writeDropIns(plan))) {
    const { code, stderr } = await exec('systemctl', ['daemon-reload'], { timeoutMs: 30_000 });
    if (code !== 0) throw new MeshError('REDIRECT_ORDER', `systemctl daemon-reload: ${stderr.trim()}`);
  }
  return dropInText(plan);
}

/** `units`: names that passed UNIT_NAME. Reads only. `folder` and `unitPath` are for tests. */
export async function planDropIns(
  units: readonly string[],
  folder = FOLDER,
  unitPath?: readonly string[],
): Promise<DropInPlan> {
  const write: { path: string; text: string }[] = [];
  const problems: string[] = [];
  for (const unit of [...units].sort()) {
    const path = join(folder, `${unit}.d`, NAME);
    const there = await look(path);
    const text = textFor(unit);
    const why = there === 'foreign' ? `${path} is not ours` : await unorderable(unit, unitPath);
    if (why !== undefined) problems.push(`${unit} is not ordered after the mesh: ${why}`);
    else if (there !== text) write.push({ path, text });
  }
  const wanted = new Set(units.map((unit) => `${unit}.d`));
  const remove: string[] = [];
  for (const entry of (await readdir(folder).catch(() => [])).sort()) {
    if (!entry.endsWith('.service.d') || wanted.has(entry)) continue;
    const path = join(folder, entry, NAME);
    const there = await look(path);
    if (there !== undefined && there !== 'foreign') remove.push(path);
  }
  return { write, remove, problems };
}

/** Does what was planned; true when systemd has to read its units again. */
export async function writeDropIns({ write, remove }: DropInPlan): Promise<boolean> {
  for (const { path, text } of write) {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    await writeFileAtomic(path, text, 0o644);
  }
  for (const path of remove) {
    await rm(path, { force: true });
    await rmdir(dirname(path)).catch(() => {}); // what else is in it stays
  }
  return write.length + remove.length > 0;
}

/** The plan in words: for the journal, and for `redirect plan`. */
export function dropInText({ write, remove, problems }: DropInPlan): string {
  return [
    ...write.flatMap(({ path, text }) => [
      `+++ ${path}`,
      ...text
        .trim()
        .split('\n')
        .map((line) => `+${line}`),
    ]),
    ...remove.map((path) => `--- ${path}`),
    ...problems.map((problem) => `# ${problem}`),
  ]
    .map((line) => `${line}\n`)
    .join('');
}

/** Text of a file of ours; undefined where there is none; `foreign` for anything else, also where the way to it is a link. */
async function look(path: string): Promise<string | 'foreign' | undefined> {
  const kind = async (of: string) => lstat(of).catch(() => undefined);
  const [folder, file] = [await kind(dirname(path)), await kind(path)];
  if (folder !== undefined && !folder.isDirectory()) return 'foreign';
  if (file === undefined) return undefined;
  if (!file.isFile() || file.size > 4096) return 'foreign';
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.startsWith(MARKER) ? text : 'foreign';
}

/** Before these the mesh itself does not start, or its proxy: a unit that must run before them cannot wait for the mesh. */
const EARLY =
  /^((sysinit|basic|sockets|paths|local-fs|network-pre|network)\.target|mesh-.*|dbus\.(service|socket)|systemd-.*)$/;

async function unorderable(unit: string, unitPath?: readonly string[]): Promise<string | undefined> {
  const settings = await unitSettings(unit, unitPath);
  if (settings === undefined || settings === 'masked') return undefined; // when it comes, it is ordered
  if (settings.get('Unit.DefaultDependencies')?.some((value) => value !== '' && !isYes(value)))
    return 'it has DefaultDependencies=no, so it starts before the mesh can';
  const before = (settings.get('Unit.Before') ?? []).flatMap((value) => value.split(/\s+/));
  const early = before.find((name) => EARLY.test(name));
  return early === undefined ? undefined : `it is ordered before ${early}, which the mesh waits for`;
}
