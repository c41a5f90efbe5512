/**
 * Accepts or refuses updates, whoever carried them. In: bytes and the name of their carrier. Out: a verified state that is on disk before it
 * is used, or a refusal by name. Must never use what the disk did not take, and never judge two updates at once.
 */
import { errorLine, MeshError } from '../../api/errors.ts';
import type { DesiredConfig } from '../../api/signed-config/desired-config.ts';
import { toDesiredConfig } from '../../api/signed-config/to-desired-config.ts';
import { parseUpdate } from '../../api/signed-config/update.ts';
import {
  acceptRoots,
  acceptTimestamp,
  acceptUpdate,
  type TrustedState,
  type VerifyOptions,
} from '../../api/signed-config/verifier.ts';
import { CAPABILITY } from '../../api/version.ts';
import type { ConfigCache } from './cache.ts';

/** What came of an update. `known`: valid, nothing new. */
export type Outcome =
  | { readonly kind: 'generation'; readonly desired: DesiredConfig }
  | { readonly kind: 'timestamp' | 'root' | 'known' }
  | { readonly kind: 'refused'; readonly error: MeshError };

/** Codes that say the carrier's starting point was another one: a full copy helps. */
const NEEDS_FULL = new Set(['CONFIG_BASE_MISMATCH', 'CONFIG_INCOMPLETE', 'CONFIG_ROOT_MISMATCH']);

export interface TrustedConfig {
  state(): TrustedState;
  desired(): DesiredConfig | undefined;
  /** Updates are judged one after another. Never rejects. */
  offer(data: Uint8Array | string): Promise<Outcome>;
  /** Judges an announced timestamp without taking it over: its version when it is newer, worth fetching. Throws CONFIG_*. */
  newer(timestamp: string): number | undefined;
}

/** True when a refusal may be cured by asking for a full copy. */
export function needsFullCopy(outcome: Outcome): boolean {
  return outcome.kind === 'refused' && NEEDS_FULL.has(outcome.error.code);
}

export function createTrustedConfig(
  initial: { readonly state: TrustedState; readonly desired: DesiredConfig | undefined },
  deps: { readonly cache: Pick<ConfigCache, 'save'>; readonly now: () => number },
): TrustedConfig {
  let { state, desired } = initial;
  let queue: Promise<unknown> = Promise.resolve();
  const options = (): VerifyOptions => ({ now: deps.now(), capability: CAPABILITY });

  const save = async (next: TrustedState) => {
    try {
      await deps.cache.save(next);
    } catch (cause) {
      throw new MeshError('CONFIG_NOT_PERSISTED', `the disk did not take the config: ${errorLine(cause)}`, { cause });
    }
  };
  const accept = async (data: Uint8Array | string): Promise<Outcome> => {
    const update = parseUpdate(data);
    const before = state;
    const rooted = acceptRoots(state, update);
    if (rooted !== state) {
      await save(rooted);
      state = rooted;
    }
    const next = acceptUpdate(state, update, options());
    const isNew = next.accepted !== undefined && next.accepted.snapshot.text !== state.accepted?.snapshot.text;
    const config = isNew && next.accepted !== undefined ? toDesiredConfig(next.accepted) : desired;
    if (next.timestamp !== state.timestamp || next.accepted !== state.accepted) await save(next);
    const hasTimestamp = next.timestamp !== before.timestamp;
    state = next;
    desired = config;
    if (isNew && config !== undefined) return { kind: 'generation', desired: config };
    return { kind: hasTimestamp ? 'timestamp' : state.root === before.root ? 'known' : 'root' };
  };
  return {
    state: () => state,
    desired: () => desired,
    offer(data) {
      const result = queue
        .then(() => accept(data))
        .catch((error): Outcome => ({ kind: 'refused', error: asMeshError(error) }));
      queue = result;
      return result;
    },
    newer(timestamp) {
      const judged = acceptTimestamp(state, timestamp, options());
      return judged === state.timestamp ? undefined : judged.metadata.signed.version;
    },
  };
}

function asMeshError(error: unknown): MeshError {
  if (error instanceof MeshError) return error;
  return new MeshError('CONFIG_MALFORMED', errorLine(error), { cause: error });
}
