/**
 * The last generations on disk. In: verified states. Out: the newest that is whole and verifies, without asking the clock. Files, mode 0600:
 * `trusted.json` (roots and latest timestamp: what must not be rolled back) and `generation-N.json` (one full update each, the last five).
 * Each is replaced whole. Must never start from zero: without a readable anchor it is an error with a way back.
 */
import { chmod, mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorLine, hasCode, MeshError } from '../../api/errors.ts';
import type { DesiredConfig } from '../../api/signed-config/desired-config.ts';
import { fullUpdate } from '../../api/signed-config/history.ts';
import { LIMITS } from '../../api/signed-config/layout.ts';
import { toDesiredConfig } from '../../api/signed-config/to-desired-config.ts';
import { parseJson, parseUpdate } from '../../api/signed-config/update.ts';
import {
  acceptRoots,
  acceptTimestamp,
  acceptUpdate,
  type TrustedState,
  trustAnchor,
} from '../../api/signed-config/verifier.ts';
import { CAPABILITY } from '../../api/version.ts';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';

/** Generations kept (DESIGN 2: the last K). */
export const KEPT_GENERATIONS = 5;

export interface Loaded {
  readonly state: TrustedState;
  readonly desired: DesiredConfig | undefined;
  /** One line for each file that was not usable and what was used instead. */
  readonly problems: readonly string[];
}

export interface ConfigCache {
  /** Writes the anchor of a host that joins: root version 1 after its hash was compared. Throws CONFIG_STATE_EXISTS for another anchor. */
  initialise(rootText: string): Promise<void>;
  /** Throws CONFIG_STATE_LOST when neither anchor nor generation is readable. */
  load(): Promise<Loaded>;
  /** Resolves when `state` is on stable storage; a failure leaves what was there. */
  save(state: TrustedState): Promise<void>;
}

interface TrustedFile {
  readonly format: 1;
  readonly roots: readonly string[];
  readonly timestamp?: string;
  readonly generation: number;
}

const USED = { now: undefined, capability: CAPABILITY } as const;
const WAY_BACK = 'restore the folder from a backup, or join the host again (`mesh-agent join`)';

/** `write` is writeFileAtomic; tests pass disks that fail. */
export function createConfigCache(dir: string, write: typeof writeFileAtomic = writeFileAtomic): ConfigCache {
  const trustedPath = join(dir, 'trusted.json');
  let savedGeneration: string | undefined;

  const writeTrusted = (state: TrustedState) => {
    const file: TrustedFile = {
      format: 1,
      roots: state.roots,
      ...(state.timestamp === undefined ? {} : { timestamp: state.timestamp.text }),
      generation: state.accepted?.generation ?? 0,
    };
    return write(trustedPath, JSON.stringify(file));
  };

  return {
    async initialise(rootText) {
      const state = trustAnchor(rootText);
      await mkdir(dir, { recursive: true, mode: 0o700 });
      await chmod(dir, 0o700);
      const known = (await generationFiles(dir)).length > 0 || (await exists(trustedPath));
      if (known) {
        const { state: held } = await this.load();
        if (held.roots[0] === rootText) return;
        throw new MeshError('CONFIG_STATE_EXISTS', `${dir} belongs to another mesh; remove it to join this one`);
      }
      await writeTrusted(state);
    },

    async load() {
      const problems: string[] = [];
      const trusted = await readTrusted(trustedPath).catch((error) => {
        problems.push(`${trustedPath}: ${errorLine(error)}`);
        return undefined;
      });
      const found = await newestGeneration(dir, trusted?.roots[0], problems);
      if (trusted === undefined && found === undefined)
        throw new MeshError(
          'CONFIG_STATE_LOST',
          `${dir} holds no readable signed config (${problems.join('; ')}); ${WAY_BACK}`,
        );
      if (trusted === undefined) problems.push(`the generation on disk is used; its rollback protection may be older`);
      const state = joinTrusted(found ?? trustAnchor(trusted?.roots[0] as string), trusted, problems);
      const lost = (trusted?.generation ?? 0) > (found?.accepted?.generation ?? 0);
      if (lost)
        problems.push(
          `CONFIG_STATE_LOST: generation ${trusted?.generation} is not readable; ${found === undefined ? 'none is in use' : `generation ${found.accepted?.generation} is in use`} until a controller or a peer answers`,
        );
      savedGeneration = lost ? undefined : state.accepted?.snapshot.text;
      const desired = state.accepted === undefined ? undefined : toDesiredConfig(state.accepted);
      return { state, desired, problems };
    },

    async save(state) {
      const { accepted } = state;
      if (accepted !== undefined && accepted.snapshot.text !== savedGeneration) {
        const update = fullUpdate(state);
        if (update !== undefined) await write(join(dir, `generation-${accepted.generation}.json`), update);
        savedGeneration = accepted.snapshot.text;
        await prune(dir, accepted.generation);
      }
      // Last, so that it never names a generation that is not there.
      await writeTrusted(state);
    },
  };
}

/** The newest generation file that is whole and verifies under the anchor. */
async function newestGeneration(
  dir: string,
  anchor: string | undefined,
  problems: string[],
): Promise<TrustedState | undefined> {
  for (const number of await generationFiles(dir)) {
    const path = join(dir, `generation-${number}.json`);
    try {
      const update = parseUpdate(await readBounded(path, LIMITS.updateBytes));
      if (anchor !== undefined && update.roots[0] !== anchor)
        throw new MeshError('CONFIG_MIX', 'it belongs to another mesh');
      const state = acceptUpdate(acceptRoots(trustAnchor(update.roots[0] ?? ''), update), update, USED);
      if (state.accepted !== undefined) toDesiredConfig(state.accepted);
      return state;
    } catch (error) {
      problems.push(`${path}: ${errorLine(error)}`);
    }
  }
  return undefined;
}

/** Raises what a generation file knows by the newer roots and timestamp of trusted.json. */
function joinTrusted(state: TrustedState, trusted: TrustedFile | undefined, problems: string[]): TrustedState {
  if (trusted === undefined) return state;
  let rooted = state;
  try {
    rooted = acceptRoots(state, { format: 1, roots: trusted.roots });
    if (trusted.timestamp === undefined) return rooted;
    return { ...rooted, timestamp: acceptTimestamp(rooted, trusted.timestamp, USED) };
  } catch (error) {
    // The generation file is the newer one when a crash fell between the two writes.
    if (!hasCode(error, 'CONFIG_ROLLBACK'))
      problems.push(`trusted.json does not fit the generation on disk: ${errorLine(error)}`);
    return rooted;
  }
}

async function readTrusted(path: string): Promise<TrustedFile> {
  const file = parseJson((await readBounded(path, LIMITS.updateBytes)).toString('utf8')) as Partial<TrustedFile> | null;
  const roots = file?.roots;
  if (
    file?.format !== 1 ||
    !Array.isArray(roots) ||
    roots.length === 0 ||
    roots.some((root) => typeof root !== 'string')
  )
    throw new MeshError('CONFIG_MALFORMED', 'not a file of this program, or cut off');
  if (file.timestamp !== undefined && typeof file.timestamp !== 'string')
    throw new MeshError('CONFIG_MALFORMED', 'its timestamp is no text');
  trustAnchor(roots[0] as string);
  return { format: 1, roots, timestamp: file.timestamp, generation: Number(file.generation ?? 0) };
}

async function readBounded(path: string, maxBytes: number): Promise<Buffer> {
  if ((await stat(path)).size > maxBytes) throw new MeshError('CONFIG_TOO_LARGE', `larger than ${maxBytes} bytes`);
  return readFile(path);
}

/** Numbers of the generation files, newest first. */
async function generationFiles(dir: string): Promise<number[]> {
  const names = await readdir(dir).catch(() => []);
  const numbers = names.flatMap((name) => {
    const match = /^generation-(\d{1,16})\.json$/.exec(name);
    return match === null ? [] : [Number(match[1])];
  });
  return numbers.sort((a, b) => b - a);
}

/** Keeps the last five up to `current`; files above it are of a number line that a new root ended (TUF 5.3.11). */
async function prune(dir: string, current: number): Promise<void> {
  const numbers = await generationFiles(dir);
  const kept = numbers.filter((n) => n <= current).slice(0, KEPT_GENERATIONS);
  for (const n of numbers) if (!kept.includes(n)) await rm(join(dir, `generation-${n}.json`), { force: true });
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
