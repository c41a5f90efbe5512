/**
 * Where a join is kept. In: what was verified, whose it will be. Out: STATE_DIR and RUN_DIR as `run` finds them. Must never: follow, as root,
 * what the agent's user may have put there (that user parses gossip: it may be somebody else by now), or spend a token for a host that
 * cannot keep what it gets.
 */
import type { KeyObject } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '../api/errors.ts';
import type { TrustedState } from '../api/signed-config/verifier.ts';
import { writeFileAtomic } from '../runtime/atomic-file.ts';
import type { AgentConfig } from './config.ts';
import { createConfigCache } from './controlplane/cache.ts';
import { asUser, folderOf, type Owner } from './host/as-user.ts';
import { saveSvid } from './identity/svid-file.ts';
import { prepareProxy } from './run.ts';

type Folders = Pick<AgentConfig, 'stateDir' | 'runDir'>;

/** Room for keys, SVIDs, metadata and the endpoint table beside the config. */
const ROOM_BYTES = 256 * 1024;

/**
 * Makes the folders and proves, before a token is spent, that what comes can be kept in them. Throws CONFIG_STATE_EXISTS (another mesh's
 * config is there), STATE_DIR_UNSAFE, JOIN_STATE (read-only, full).
 */
export async function prepareState(
  config: Folders,
  owner: Owner | undefined,
  rootText: string,
  configBytes: number,
): Promise<void> {
  await folderOf(config.stateDir, 0o2750, owner);
  await folderOf(config.runDir, 0o2750, owner);
  await asUser(owner, async () => {
    const trial = join(config.stateDir, 'join-trial');
    try {
      await mkdir(join(config.stateDir, 'identity'), { recursive: true, mode: 0o700 });
      await writeFileAtomic(trial, Buffer.alloc(configBytes + ROOM_BYTES, '.'));
    } catch (cause) {
      throw new MeshError('JOIN_STATE', `cannot write in ${config.stateDir}: ${(cause as Error).message}`, { cause });
    } finally {
      await rm(trial, { force: true });
    }
    // A cache that writes nothing: only its judgement of what is there.
    await createConfigCache(join(config.stateDir, 'config'), async () => {}).initialise(rootText);
  });
}

/** What a join has won. */
export interface Won {
  readonly rootText: string;
  readonly state: TrustedState;
  readonly peers: readonly string[];
  readonly key: KeyObject;
  readonly hostSvid: string;
}

/** Writes it. `completeConfig` is done with the caller's rights: agent.yaml is root's. The SVID comes last: its presence says 'joined'. */
export async function keepJoined(
  config: AgentConfig,
  owner: Owner | undefined,
  won: Won,
  completeConfig: () => Promise<void>,
): Promise<void> {
  await asUser(owner, async () => {
    const cache = createConfigCache(join(config.stateDir, 'config'));
    await cache.initialise(won.rootText);
    await cache.save(won.state);
    await writeFileAtomic(join(config.stateDir, 'seeds.json'), JSON.stringify(won.peers));
    await prepareProxy(config);
  });
  await completeConfig();
  await asUser(owner, () => saveSvid(join(config.stateDir, 'identity', 'host.pem'), won.key, won.hostSvid));
}
