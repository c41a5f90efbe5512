/** Decides what has to be signed again and signs it. Pure but for the keys. */
import type { Root } from '@tufjs/models';
import { MeshError } from '../../api/errors.ts';
import { sha256Hex } from '../../api/signed-config/canonical.ts';
import { headOf } from '../../api/signed-config/content.ts';
import { CONTENT_ROLES, type ContentRole, encodeHead, parseHead } from '../../api/signed-config/layout.ts';
import { parseTargets } from '../../api/signed-config/metadata.ts';
import type { SigningKeys } from './init.ts';
import type { SigningKey } from './keys.ts';
import { buildRole, buildSnapshot, buildTimestamp } from './metadata.ts';
import type { Draft } from './source.ts';

/** What was signed last, as the store keeps it: after a restart the same bytes are published again. */
export interface Current {
  readonly generation: number;
  readonly timestampVersion: number;
  /** ms since the epoch. */
  readonly timestampSignedAt: number;
  /** When the snapshot and the youngest role were signed (ms): they are renewed long before they expire. */
  readonly signedAt: number;
  readonly rootVersion: number;
  readonly timestamp: string;
  readonly snapshot: string;
  readonly targets: string;
  readonly policy: string;
  readonly state: string;
  readonly heads: Readonly<Record<ContentRole, string>>;
}

export interface SigningInputs {
  readonly draft: Draft;
  readonly last: Current | undefined;
  readonly root: Root;
  readonly targets: string;
  readonly now: number;
}

const HOUR_MS = 3_600_000;
/** A timestamp is re-signed every 5 minutes, so hosts notice a freeze long before this. */
const TIMESTAMP_LIFE_MS = HOUR_MS;
const ROLE_LIFE_MS = 365 * 24 * HOUR_MS;
/** Snapshot and roles that nothing changed are signed again when they are this old. */
const RENEW_AFTER_MS = 180 * 24 * HOUR_MS;

/** False when what was signed last still says everything and its timestamp is younger than `timestampEveryMs`. */
export function needsSigning(inputs: SigningInputs, timestampEveryMs: number): boolean {
  const { last, now } = inputs;
  if (last === undefined || isStale(inputs, last) || CONTENT_ROLES.some((role) => isChanged(inputs, role))) return true;
  // A clock that was set back must not stop the renewal.
  return Math.abs(now - last.timestampSignedAt) >= timestampEveryMs * 0.9;
}

/** Signs `generation`, or only a timestamp when nothing else changed. Throws SIGNING_KEYS_MISSING when too few policy keys are here. */
export function signGeneration(
  inputs: SigningInputs,
  options: { readonly keys: SigningKeys; readonly generation: number },
): Current {
  const { last, now, root } = inputs;
  const online = [options.keys.online];
  const all = last === undefined || isStale(inputs, last);
  const changed = CONTENT_ROLES.filter((role) => all || isChanged(inputs, role));
  const timestampVersion = (last?.timestampVersion ?? 0) + 1;
  if (last !== undefined && changed.length === 0) {
    const snapshot = { text: last.snapshot, version: last.generation };
    return { ...last, timestampVersion, timestampSignedAt: now, timestamp: timestampOf(snapshot) };
  }
  const roles = Object.fromEntries(CONTENT_ROLES.map((role) => [role, signRole(role)])) as Record<
    ContentRole,
    SignedRole
  >;
  const targetsVersion = parseTargets(inputs.targets).metadata.signed.version;
  const snapshot = buildSnapshot(
    {
      version: options.generation,
      expires: now + ROLE_LIFE_MS,
      files: {
        targets: { text: inputs.targets, version: targetsVersion },
        policy: roles.policy,
        state: roles.state,
      },
    },
    online,
  );
  return {
    generation: options.generation,
    timestampVersion,
    timestampSignedAt: now,
    signedAt: all ? now : (last?.signedAt ?? now),
    rootVersion: root.version,
    timestamp: timestampOf({ text: snapshot, version: options.generation }),
    snapshot,
    targets: inputs.targets,
    policy: roles.policy.text,
    state: roles.state.text,
    heads: { policy: roles.policy.head, state: roles.state.head },
  };

  function timestampOf(snapshot: { text: string; version: number }): string {
    const spec = { version: timestampVersion, expires: now + TIMESTAMP_LIFE_MS, signedAt: now, snapshot };
    return buildTimestamp(spec, online);
  }

  function signRole(role: ContentRole): SignedRole {
    if (last !== undefined && !changed.includes(role))
      return { text: last[role], head: last.heads[role], version: parseHead(last.heads[role]).generation };
    const head = encodeHead(headOf(inputs.draft.contents[role], options.generation));
    const signers = role === 'state' ? online : policySigners(inputs.targets, options.keys.policy);
    const spec = { name: role, head, version: options.generation, expires: now + ROLE_LIFE_MS };
    return { text: buildRole(spec, signers), head, version: options.generation };
  }
}

interface SignedRole {
  readonly text: string;
  readonly head: string;
  readonly version: number;
}

function isStale(inputs: SigningInputs, last: Current): boolean {
  return (
    last.rootVersion !== inputs.root.version ||
    sha256Hex(last.targets) !== sha256Hex(inputs.targets) ||
    Math.abs(inputs.now - last.signedAt) >= RENEW_AFTER_MS
  );
}

function isChanged(inputs: SigningInputs, role: ContentRole): boolean {
  if (inputs.last === undefined) return true;
  const head = parseHead(inputs.last.heads[role]);
  return encodeHead(headOf(inputs.draft.contents[role], head.generation)) !== inputs.last.heads[role];
}

/** The policy keys at hand that `targets` delegates to. */
function policySigners(targetsText: string, keys: readonly SigningKey[]): readonly SigningKey[] {
  const role = parseTargets(targetsText).metadata.signed.delegations?.roles?.policy;
  const signers = keys.filter(({ key }) => role?.keyIDs.includes(key.keyID));
  if (role === undefined || signers.length < role.threshold) {
    throw new MeshError(
      'SIGNING_KEYS_MISSING',
      `policy needs ${role?.threshold ?? 1} operators' signatures and ${signers.length} of their keys are here`,
    );
  }
  return signers;
}
