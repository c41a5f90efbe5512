/**
 * `mesh-controller init`: makes a mesh, once. In: controller.yaml. Out: store, TUF keys and root, CA, the first admin's token, all 0600 in a
 * 0700 folder that appears whole or not at all. Must never: overwrite a mesh, or print a secret.
 */
import { chmod, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { MeshError } from '../api/errors.ts';
import { writeFileAtomic } from '../runtime/atomic-file.ts';
import type { Clock } from '../runtime/clock.ts';
import { initAuthority, loadAuthority } from './ca/authority.ts';
import type { ControllerConfig } from './config.ts';
import { putPrincipal } from './rest/principals.ts';
import { initRepository, type Quorum } from './signing/init.ts';
import { type Facts, type StatePaths, statePaths } from './state-dir.ts';
import { writeVaultKey } from './store/secret-vault.ts';
import { initSqliteStore, openSqliteStore } from './store/sqlite.ts';

export interface InitInput {
  readonly config: ControllerConfig;
  /** Keys of the TUF root and how many must sign; 1 of 1 by default. */
  readonly root?: Quorum;
  readonly clock: Clock;
}

export interface Initialised {
  readonly paths: StatePaths;
  readonly rootSha256: string;
  /** Where the root's keys lie now: to be taken away. */
  readonly rootKeyFiles: readonly string[];
}

/** Name of the first principal. */
export const ADMIN = 'admin';

/**
 * Makes everything in a folder beside, which one rename then puts in its place: cut short at any moment, it has made nothing or all, and can
 * be run again. Throws ALREADY_INITIALISED, SIGNING_KEY_INVALID, STATE_DIR for a folder that cannot be used.
 */
export async function initMesh({ config, root, clock }: InitInput): Promise<Initialised> {
  const { stateDir, trustDomain, replica } = config;
  const paths = statePaths(stateDir);
  if (await exists(paths.mesh))
    throw new MeshError(
      'ALREADY_INITIALISED',
      `${paths.mesh} holds a mesh already; nothing was changed. Start it with \`mesh-controller run\`; to make another mesh, choose another stateDir`,
    );
  await mkdir(stateDir, { recursive: true, mode: 0o700 }).catch((cause: NodeJS.ErrnoException) => {
    const cure = cause.code === 'EACCES' ? '; as root, init makes it and leaves it to mesh-controller' : '';
    throw new MeshError('STATE_DIR', `cannot make ${stateDir}${cure}`, { cause });
  });
  const staged = statePaths(stateDir, `${paths.mesh}.new`);
  await rm(staged.mesh, { recursive: true, force: true }); // of an init that was cut short
  await mkdir(staged.mesh, { mode: 0o700 });
  await chmod(staged.mesh, 0o700); // a setgid parent must not let a group in
  const now = clock.now();
  initSqliteStore(staged.store);
  const store = openSqliteStore({ path: staged.store });
  try {
    const made = await initRepository(store, {
      keysDir: staged.keys,
      replica,
      now,
      ...(root === undefined ? {} : { root }),
    });
    await writeVaultKey(staged.vaultKey);
    await initAuthority(staged.ca, trustDomain, replica, now);
    const token = await putPrincipal(store, { name: ADMIN, role: 'admin', namespaces: [] });
    const { rootPem } = await loadAuthority(staged.ca, trustDomain, replica);
    const facts: Facts = { trustDomain, replica, rootSha256: made.rootSha256 };
    await writeFileAtomic(staged.facts, `${JSON.stringify(facts, null, 1)}\n`);
    await writeFileAtomic(paths.adminToken, `${token}\n`);
    await writeFileAtomic(paths.caFile, rootPem, 0o644);
    await store.close();
    await rename(staged.mesh, paths.mesh);
    await syncFolder(dirname(paths.mesh));
    const rootKeyFiles = made.keyFiles.filter((file) => /\/root-\d+\.pem$/.test(file));
    return {
      paths,
      rootSha256: made.rootSha256,
      rootKeyFiles: rootKeyFiles.map((file) => file.replace(staged.mesh, paths.mesh)),
    };
  } catch (error) {
    await store.close().catch(() => {});
    await rm(staged.mesh, { recursive: true, force: true });
    throw error;
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  await folder.sync().finally(() => folder.close());
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
