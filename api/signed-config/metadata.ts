/** One TUF metadata file: read by @tufjs/models, its signatures counted, its common fields checked. Pure. */
import {
  type Key,
  Metadata,
  MetadataKind,
  type Root,
  type Snapshot,
  type Targets,
  type Timestamp,
} from '@tufjs/models';
import { MeshError } from '../errors.ts';
import { sha256Hex } from './canonical.ts';
import { LIMITS } from './layout.ts';
import { parseJson } from './update.ts';

export type AnySigned = Root | Timestamp | Snapshot | Targets;

/** A metadata file and the text that its hash is over. */
export interface SignedFile<T extends AnySigned> {
  readonly text: string;
  readonly metadata: Metadata<T>;
}

type Json = Parameters<typeof Metadata.fromJSON>[1];

export const parseRoot = (text: string): SignedFile<Root> => parse(text, MetadataKind.Root, Metadata.fromJSON);
export const parseTimestamp = (text: string): SignedFile<Timestamp> =>
  parse(text, MetadataKind.Timestamp, Metadata.fromJSON);
export const parseSnapshot = (text: string): SignedFile<Snapshot> =>
  parse(text, MetadataKind.Snapshot, Metadata.fromJSON);
export const parseTargets = (text: string): SignedFile<Targets> => parse(text, MetadataKind.Targets, Metadata.fromJSON);

function parse<T extends AnySigned, K extends MetadataKind>(
  text: string,
  kind: K,
  fromJson: (kind: never, data: Json) => unknown,
): SignedFile<T> {
  if (Buffer.byteLength(text) > LIMITS.metadataBytes)
    throw new MeshError('CONFIG_TOO_LARGE', `${kind} has at most ${LIMITS.metadataBytes} bytes`);
  const data = parseJson(text) as Json;
  let metadata: Metadata<T>;
  try {
    metadata = fromJson(kind as never, data) as Metadata<T>;
  } catch (cause) {
    throw new MeshError('CONFIG_MALFORMED', `${kind} is not TUF metadata`, { cause });
  }
  const { version, expires } = metadata.signed;
  if (!Number.isSafeInteger(version) || version < 1)
    throw new MeshError('CONFIG_MALFORMED', `the version of ${kind} is a whole number from 1`);
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(expires))
    throw new MeshError('CONFIG_MALFORMED', `${kind} expires at an RFC 3339 time in UTC`);
  return { text, metadata };
}

/** The keys of a role and how many of them must sign. */
export interface RoleKeys {
  readonly keyIDs: readonly string[];
  readonly threshold: number;
}

/**
 * Counts the distinct keys of `role` that signed `file` (TUF 4.1, threshold; the same code for 1 of 1 and k of n). Throws
 * CONFIG_BAD_SIGNATURE when none did, CONFIG_THRESHOLD when too few.
 */
export function requireSigned(
  file: SignedFile<AnySigned>,
  name: string,
  role: RoleKeys | undefined,
  keys: Readonly<Record<string, Key>>,
): void {
  if (role === undefined) throw new MeshError('CONFIG_BAD_SIGNATURE', `nobody is trusted to sign ${name}`);
  const signers = new Set<string>();
  for (const id of new Set(role.keyIDs)) {
    const key = Object.hasOwn(keys, id) ? keys[id] : undefined;
    // Two ids of one key would let one signer count twice.
    if (key !== undefined && verifies(key, file)) signers.add(key.keyVal.public ?? id);
  }
  if (signers.size >= role.threshold && signers.size > 0) return;
  throw new MeshError(
    signers.size === 0 ? 'CONFIG_BAD_SIGNATURE' : 'CONFIG_THRESHOLD',
    `${name} version ${file.metadata.signed.version} carries ${signers.size} of the ${role.threshold} signatures that it needs`,
  );
}

function verifies(key: Key, file: SignedFile<AnySigned>): boolean {
  try {
    key.verifySignature(file.metadata);
    return true;
  } catch {
    return false;
  }
}

/** True when `text` is the one that `meta` names: sha256 must be there, the length too if it is given. */
export function isFile(
  meta: { readonly length?: number; readonly hashes?: Readonly<Record<string, string>> },
  text: string,
): boolean {
  if (meta.length !== undefined && meta.length !== Buffer.byteLength(text)) return false;
  return meta.hashes?.sha256 === sha256Hex(text);
}
