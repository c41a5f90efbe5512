import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '../api/errors.ts';

/** Where a replica keeps what it must not lose. `mesh` appears whole, by one rename at the end of init, or not at all. */
export interface StatePaths {
  readonly mesh: string;
  readonly store: string;
  /** TUF keys. */
  readonly keys: string;
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

/** Throws NOT_INITIALISED, or CONFIG_INVALID when controller.yaml contradicts what init decided. */
export async function loadFacts(
  paths: StatePaths,
  config: { readonly trustDomain: string; readonly replica: string },
): Promise<Facts> {
  let facts: Facts;
  try {
    facts = JSON.parse(await readFile(paths.facts, 'utf8')) as Facts;
  } catch (cause) {
    throw new MeshError(
      'NOT_INITIALISED',
      `no mesh in ${paths.mesh}: run \`mesh-controller init\` for a new one, or restore the folder from a backup`,
      { cause },
    );
  }
  for (const key of ['trustDomain', 'replica'] as const)
    if (facts[key] !== config[key])
      throw new MeshError(
        'CONFIG_INVALID',
        `${key} is ${config[key]} in controller.yaml, but this mesh was made with ${facts[key]}: it cannot be changed`,
      );
  return facts;
}
