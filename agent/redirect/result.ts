import { MeshError } from '../../api/errors.ts';
import type { RootSocket, UncapturedPort } from './listeners.ts';
import type { Family } from './spec.ts';

/** What a run of the oneshot left for the agent in RUN_DIR/redirect/result.json. */
export interface RedirectResult {
  readonly version: 1;
  /** Of the spec that was read; empty when none could be. */
  readonly requestId: string;
  readonly specHash: string;
  /** `refused` and `failed`: the rules that stood before stand still. `cleaned`, `reverted`: none stand. */
  readonly status: 'applied' | 'cleaned' | 'reverted' | 'refused' | 'failed';
  /** Whether the kernel was written to. */
  readonly changed: boolean;
  readonly backend?: 'nft' | 'legacy';
  readonly families: readonly Family[];
  /** Workloads' ports left alone, because another user's service holds them. */
  readonly uncaptured: readonly UncapturedPort[];
  /** Who holds root's listening sockets on workloads' ports, by inode: evidence for the port-owner check. */
  readonly rootSockets: readonly RootSocket[];
  readonly warnings: readonly string[];
  readonly error?: { readonly code: string; readonly message: string };
  /** A revert timer runs: write its id with client.confirm before `deadline` (ms since the epoch), or the rules go. */
  readonly revert?: { readonly id: string; readonly deadline: number };
  readonly durationMs: number;
}

/** At most this much of a result is read. */
export const MAX_RESULT_BYTES = 512 << 10;

/** A result as the agent reads it; root wrote it, so only its shape is checked. Throws REDIRECT_RESULT. */
export function parseResult(text: string): RedirectResult {
  try {
    const result = JSON.parse(text) as RedirectResult;
    if (result.version === 1 && typeof result.requestId === 'string' && typeof result.status === 'string')
      return result;
  } catch (cause) {
    throw new MeshError('REDIRECT_RESULT', 'the redirection result is not JSON', { cause });
  }
  throw new MeshError('REDIRECT_RESULT', 'the redirection result is of another version');
}
