import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '../api/errors.ts';

/** Where a replica keeps what it must not lose. `mesh` appears whole, by one rename at the end of init, or not at all. */
export interface StatePaths {
  readonly mesh: string;
  readonly store: string;
  /** TUF keys. */
  readonly keys: string;
  /** What Secrets are encrypted under. */
  readonly vaultKey: string;
  readonly ca: string;
  /** What init decided and nobody may change. */
  readonly facts: string;
  /** The first admin's bearer token, 0600: for the operator to take away. */
  readonly adminToken: string;
  /** What operators' clients trust (MESH_CA_FILE). */
  readonly caFile: string;
  readonly audit: string;
}

export function statePaths(stateDir: string, mesh = join(stateDir, 'mesh')): StatePaths {
  return {
    mesh,
    store: join(mesh, 'store.db'),
    keys: join(mesh, 'keys'),
    vaultKey: join(mesh, 'keys', 'secrets.key'),
    ca: join(mesh, 'ca'),
    facts: join(mesh, 'facts.json'),
    adminToken: join(stateDir, 'admin-token'),
    caFile: join(stateDir, 'ca.pem'),
    audit: join(stateDir, 'audit.log'),
  };
}

export interface Facts {
  readonly trustDomain: string;
  readonly replica: string;
  /** Hex; what join strings pin. */
  readonly rootSha256: string;
}

/** Throws NOT_INITIALISED, STATE_BROKEN, STATE_UNREADABLE, or CONFIG_INVALID when controller.yaml contradicts what init decided. */
export async function loadFacts(
  paths: StatePaths,
  config: { readonly trustDomain: string; readonly replica: string },
): Promise<Facts> {
  const facts = parseFacts(await readFacts(paths), paths.facts);
  for (const key of ['trustDomain', 'replica'] as const)
    if (facts[key] !== config[key])
      throw new MeshError(
        'CONFIG_INVALID',
        `${key} is ${config[key]} in controller.yaml, but this mesh was made with ${facts[key]}: it cannot be changed`,
      );
  return facts;
}

async function readFacts(paths: StatePaths): Promise<string> {
  try {
    return await readFile(paths.facts, 'utf8');
  } catch (cause) {
    // What cannot be read must not look like what is not there: a new mesh would be made beside it.
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT')
      throw new MeshError('STATE_UNREADABLE', `cannot read ${paths.facts} as uid ${process.getuid?.()}`, { cause });
    throw new MeshError(
      'NOT_INITIALISED',
      `no mesh in ${paths.mesh}: run \`mesh-controller init\` for a new one, or restore the folder from a backup`,
    );
  }
}

function parseFacts(text: string, path: string): Facts {
  let facts: Partial<Facts> | null = null;
  try {
    facts = JSON.parse(text);
  } catch {
    // judged below
  }
  const { trustDomain, replica, rootSha256 } = facts ?? {};
  if (
    typeof trustDomain !== 'string' ||
    typeof replica !== 'string' ||
    typeof rootSha256 !== 'string' ||
    !/^[0-9a-f]{64}$/.test(rootSha256)
  )
    throw new MeshError('STATE_BROKEN', `${path} is broken: restore it from a backup`);
  return { trustDomain, replica, rootSha256 };
}
