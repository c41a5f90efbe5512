import { join } from 'node:path';
import { isYes, unitSettings } from '../host/unit-user.ts';
import { type FilePlan, FOLDER, look, MARKER, unwanted } from './own-files.ts';

const NAME = '50-mesh.conf';

/**
 * What orders a unit. After= alone: with Wants= whoever starts a workload would start a mesh that was stopped, with Requires= a mesh that
 * failed would keep it down.
 */
function textFor(unit: string): string {
  return `${MARKER}mesh-agent wrote this for "unit: ${unit}" in agent.yaml and takes it away again; changes are lost\n[Unit]\nAfter=mesh-agent.service\n`;
}

/**
 * What is to be changed so that bound units, and no others, start after the mesh. `units`: names that passed UNIT_NAME. Reads only. `folder`
 * and `unitPath` are for tests.
 */
export async function planDropIns(
  units: readonly string[],
  folder = FOLDER,
  unitPath?: readonly string[],
): Promise<FilePlan> {
  const write: { path: string; text: string }[] = [];
  const problems: string[] = [];
  const wanted = new Set<string>();
  for (const unit of [...units].sort()) {
    const path = join(folder, `${unit}.d`, NAME);
    wanted.add(path);
    const there = await look(path);
    const text = textFor(unit);
    const why = there === 'foreign' ? `${path} is not ours` : await unorderable(unit, unitPath);
    if (why !== undefined) problems.push(`${unit} is not ordered after the mesh: ${why}`);
    else if (there !== text) write.push({ path, text });
  }
  const remove = await unwanted(folder, wanted, (entry) =>
    entry.endsWith('.service.d') ? join(folder, entry, NAME) : undefined,
  );
  return { write, remove, problems };
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
