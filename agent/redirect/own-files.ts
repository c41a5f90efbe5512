import { lstat, mkdir, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';

/** Administrators' own units and drop-ins: it must stand there before anything of ours runs at boot. */
export const FOLDER = '/etc/systemd/system';
/** First words of each file of ours; one without them is somebody else's. The packages' scripts look for them too. */
export const MARKER = '# Hostmesh: ';
const MAX_BYTES = 64 << 10;

/** What is to be changed among systemd's files. */
export interface FilePlan {
  readonly write: readonly { readonly path: string; readonly text: string }[];
  readonly remove: readonly string[];
  /** What is left as it is, one line each. */
  readonly problems: readonly string[];
}

/** Text of a file of ours; undefined where there is none; `foreign` for anything else, also where the way to it is a link. */
export async function look(path: string): Promise<string | 'foreign' | undefined> {
  const kind = async (of: string) => lstat(of).catch(() => undefined);
  const [folder, file] = [await kind(dirname(path)), await kind(path)];
  if (folder !== undefined && !folder.isDirectory()) return 'foreign';
  if (file === undefined) return undefined;
  if (!file.isFile() || file.size > MAX_BYTES) return 'foreign';
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.startsWith(MARKER) ? text : 'foreign';
}

/** Files of ours in `folder` that are not wanted any more. `pathOf`: the path that an entry may stand for; undefined: it is none of ours. */
export async function unwanted(
  folder: string,
  wanted: ReadonlySet<string>,
  pathOf: (entry: string) => string | undefined,
): Promise<string[]> {
  const found: string[] = [];
  for (const entry of (await readdir(folder).catch(() => [])).sort()) {
    const path = pathOf(entry);
    if (path === undefined || wanted.has(path)) continue;
    const there = await look(path);
    if (there !== undefined && there !== 'foreign') found.push(path);
  }
  return found;
}

/** Does what was planned; true when systemd has to read its units again. */
export async function writeFiles({ write, remove }: FilePlan): Promise<boolean> {
  for (const { path, text } of write) {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    await writeFileAtomic(path, text, 0o644);
  }
  for (const path of remove) {
    await rm(path, { force: true });
    // a drop-in's folder goes with it; what else is in it stays
    if (basename(dirname(path)).endsWith('.d')) await rmdir(dirname(path)).catch(() => {});
  }
  return write.length + remove.length > 0;
}

/** The plan in words: for the journal, and for `redirect plan`. */
export function filesText({ write, remove, problems }: FilePlan): string {
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
