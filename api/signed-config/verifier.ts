/**
 * Accepts or refuses signed config. In: what is trusted now, an update from any carrier, the time. Out: what is trusted afterwards, or a
 * MeshError that says why not. Must never do IO, read a clock, or change the state it was given. Steps of the TUF specification 1.0.31
 * are cited at each check; `tuf-js` is the oracle in the tests.
 */
import type { Root, Snapshot, Targets, Timestamp } from '@tufjs/models';
import { MeshError } from '../errors.ts';
import { sha256Hex } from './canonical.ts';
import { applyDelta, type Content, emptyContent, headOf } from './content.ts';
import { type ContentRole, LIMITS, MESH_KEY, type MeshRow, parseHead, type RoleHead } from './layout.ts';
import {
  type AnySigned,
  isFile,
  parseRoot,
  parseSnapshot,
  parseTargets,
  parseTimestamp,
  requireSigned,
  type SignedFile,
} from './metadata.ts';
import { type RoleChange, type SignedUpdate, startsAt } from './update.ts';

/** Everything below `snapshot` that was accepted together: one generation. */
export interface Accepted {
  readonly generation: number;
  /** Version of the root under which it was verified: a newer one verifies it again before it is confirmed as current. */
  readonly rootVersion: number;
  readonly snapshot: SignedFile<Snapshot>;
  readonly targets: SignedFile<Targets>;
  readonly roles: Readonly<Record<ContentRole, AcceptedRole>>;
}

export interface AcceptedRole {
  readonly metadata: SignedFile<Targets>;
  readonly headText: string;
  readonly head: RoleHead;
  readonly content: Content;
}

/** What a host trusts. Immutable. */
export interface TrustedState {
  readonly root: SignedFile<Root>;
  /** Texts of all roots from version 1 to that of `root`. */
  readonly roots: readonly string[];
  /** Undefined before the first, and after a root dropped the key that signed it (TUF 5.3.11). */
  readonly timestamp: SignedFile<Timestamp> | undefined;
  /** Versions below this snapshot's are refused; undefined as for `timestamp`. */
  readonly floor: SignedFile<Snapshot> | undefined;
  /** What is used; stays when `timestamp` and `floor` fall. */
  readonly accepted: Accepted | undefined;
}

export interface VerifyOptions {
  /** ms since the epoch; undefined: the update was accepted before and is read back, nothing is expired (USING an accepted one). */
  readonly now: number | undefined;
  /** CAPABILITY of this program; a generation that needs more is refused. */
  readonly capability: number;
}

/** Starts from the anchor: the text of root version 1 whose sha256 the caller has compared. Throws CONFIG_*. */
export function trustAnchor(rootText: string): TrustedState {
  const root = parseRoot(rootText);
  if (root.metadata.signed.version !== 1) throw new MeshError('CONFIG_MALFORMED', 'the anchor is root version 1');
  requireRootSignatures(root, root);
  return { root, roots: [rootText], timestamp: undefined, floor: undefined, accepted: undefined };
}

/**
 * Takes over newer roots; they count even when the rest of the update is refused, since a root may be what takes a thief's key away.
 * Roots that are known already are skipped. Throws CONFIG_*.
 */
export function acceptRoots(state: TrustedState, update: SignedUpdate): TrustedState {
  let { root } = state;
  const roots = [...state.roots];
  for (const text of update.roots) {
    if (roots.includes(text)) continue;
    const next = parseRoot(text);
    requireRootSignatures(root, next); // TUF 5.3.4: by the old root and by itself
    const known = root.metadata.signed.version;
    if (next.metadata.signed.version !== known + 1) {
      // TUF 5.3.5
      throw new MeshError('CONFIG_ROLLBACK', `expected root version ${known + 1}, got ${next.metadata.signed.version}`);
    }
    root = next;
    roots.push(text);
  }
  if (root === state.root) return state;
  // TUF 5.3.11: a key that the root took away may have signed versions as high as it liked; what it signed no longer binds.
  const keep = isStillSigned(root, 'timestamp', state.timestamp) && isStillSigned(root, 'snapshot', state.floor);
  return {
    ...state,
    root,
    roots,
    timestamp: keep ? state.timestamp : undefined,
    floor: keep ? state.floor : undefined,
  };
}

/** The timestamp of an update, judged: newer and fine, or the one that is known. Throws CONFIG_*. */
export function acceptTimestamp(state: TrustedState, text: string, options: VerifyOptions): SignedFile<Timestamp> {
  if (state.timestamp?.text === text) {
    requireFresh(state.timestamp, 'timestamp', options); // TUF 5.4.4
    return state.timestamp;
  }
  if (Buffer.byteLength(text) > LIMITS.timestampBytes)
    throw new MeshError('CONFIG_TOO_LARGE', `a timestamp has at most ${LIMITS.timestampBytes} bytes`); // TUF 5.4.1
  const next = parseTimestamp(text);
  const root = state.root.metadata.signed;
  requireSigned(next, 'timestamp', root.roles.timestamp, root.keys); // TUF 5.4.2
  signedAt(next);
  const { version, snapshotMeta } = next.metadata.signed;
  if (state.timestamp !== undefined) {
    const known = state.timestamp.metadata.signed;
    // The same statement in other bytes (ECDSA signatures have two forms) is no second statement.
    if (known.equals(next.metadata.signed)) {
      requireFresh(next, 'timestamp', options);
      return state.timestamp;
    }
    const [from, to] = [known.snapshotMeta.version, snapshotMeta.version];
    // Two different sets under one number: an honest signer takes numbers by compare-and-set (DESIGN 3.3).
    if (to === from && snapshotMeta.hashes?.sha256 !== known.snapshotMeta.hashes?.sha256)
      throw new MeshError('CONFIG_EQUIVOCATION', `two different snapshots claim generation ${to}; the first is kept`);
    if (version === known.version)
      throw new MeshError(
        'CONFIG_EQUIVOCATION',
        `two different timestamps claim version ${version}; the first is kept`,
      );
    if (version < known.version) throw rollback('timestamp', known.version, version); // TUF 5.4.3.1
    if (to < from) throw rollback('snapshot', from, to); // TUF 5.4.3.2
  }
  requireFresh(next, 'timestamp', options); // TUF 5.4.4
  return next;
}

/**
 * The whole update after `acceptRoots`: the state with the new timestamp, and the new generation if there is one. Throws CONFIG_* and leaves
 * `state` valid.
 */
export function acceptUpdate(state: TrustedState, update: SignedUpdate, options: VerifyOptions): TrustedState {
  requireFresh(state.root, 'root', options); // TUF 5.3.10
  const timestampText = update.timestamp ?? state.timestamp?.text;
  if (timestampText === undefined) throw missing('timestamp');
  const timestamp = acceptTimestamp(state, timestampText, options);
  const meta = timestamp.metadata.signed.snapshotMeta;
  const held = state.accepted?.snapshot;
  const isVerified = state.accepted?.rootVersion === state.root.metadata.signed.version;
  if (held !== undefined && isVerified && isFile(meta, held.text)) return { ...state, timestamp, floor: held };
  const accepted = acceptGeneration(state, timestamp, update, options);
  return { ...state, timestamp, floor: accepted.snapshot, accepted };
}

function acceptGeneration(
  state: TrustedState,
  timestamp: SignedFile<Timestamp>,
  update: SignedUpdate,
  options: VerifyOptions,
): Accepted {
  const held = state.accepted;
  const snapshot = acceptSnapshot(state, timestamp, update.snapshot ?? held?.snapshot.text, options);
  const meta = snapshot.metadata.signed.meta;
  const pick = (name: string, offered: string | undefined, known: string | undefined): string => {
    const file = meta[`${name}.json`];
    if (file === undefined) throw new MeshError('CONFIG_MIX', `the snapshot does not name ${name}.json`);
    const text = [offered, known].find((candidate) => candidate !== undefined && isFile(file, candidate));
    if (text !== undefined) return text; // TUF 5.6.2
    if (offered === undefined) throw missing(name);
    throw new MeshError('CONFIG_MIX', `${name} is not the file that the snapshot names`);
  };
  const root = state.root.metadata.signed;
  // What is the same text under the same keys was counted before: its signatures are not counted again.
  const before = held?.rootVersion === root.version ? held : undefined;
  const targets = verified(
    pick('targets', update.targets, held?.targets.text),
    before?.targets,
    (file) => requireSigned(file, 'targets', root.roles.targets, root.keys), // TUF 5.6.3
  );
  requireVersion(targets, 'targets', meta['targets.json']?.version); // TUF 5.6.4
  requireFresh(targets, 'targets', options); // TUF 5.6.5
  const role = (name: ContentRole) => {
    const delegations = targets.metadata.signed.delegations;
    const same = before?.targets.text === targets.text ? before.roles[name].metadata : undefined;
    const metadata = verified(
      pick(name, update[name], held?.roles[name].metadata.text),
      same,
      (file) => requireSigned(file, name, delegations?.roles?.[name], delegations?.keys ?? {}), // TUF 5.6.7, then 5.6.3 again
    );
    requireVersion(metadata, name, meta[`${name}.json`]?.version);
    requireFresh(metadata, name, options);
    return acceptRole(name, metadata, held?.roles[name], update);
  };
  const roles = { policy: role('policy'), state: role('state') };
  const needs = (roles.policy.content.values.get(MESH_KEY) as MeshRow | undefined)?.minCapability ?? 0;
  if (needs > options.capability)
    throw new MeshError(
      'CONFIG_NEEDS_UPGRADE',
      `the generation needs capability ${needs}, this program has ${options.capability}`,
    );
  return { generation: snapshot.metadata.signed.version, rootVersion: root.version, snapshot, targets, roles };
}

/** `text` read and its signatures counted by `count`, or `known` where it is the same. */
function verified(
  text: string,
  known: SignedFile<Targets> | undefined,
  count: (file: SignedFile<Targets>) => void,
): SignedFile<Targets> {
  if (known?.text === text) return known;
  const file = parseTargets(text);
  count(file);
  return file;
}

function acceptSnapshot(
  state: TrustedState,
  timestamp: SignedFile<Timestamp>,
  text: string | undefined,
  options: VerifyOptions,
): SignedFile<Snapshot> {
  const meta = timestamp.metadata.signed.snapshotMeta;
  if (text === undefined) throw missing('snapshot');
  if (!isFile(meta, text)) throw new MeshError('CONFIG_MIX', 'the snapshot is not the file that the timestamp names'); // TUF 5.5.2
  const snapshot = parseSnapshot(text);
  const root = state.root.metadata.signed;
  requireSigned(snapshot, 'snapshot', root.roles.snapshot, root.keys); // TUF 5.5.3
  requireVersion(snapshot, 'snapshot', meta.version); // TUF 5.5.4
  for (const [file, known] of Object.entries(state.floor?.metadata.signed.meta ?? {})) {
    const next = snapshot.metadata.signed.meta[file];
    if (next === undefined) throw new MeshError('CONFIG_ROLLBACK', `the snapshot no longer names ${file}`); // TUF 5.5.5
    if (next.version < known.version) throw rollback(file, known.version, next.version); // TUF 5.5.5
    if (next.version === known.version && next.hashes?.sha256 !== known.hashes?.sha256)
      throw new MeshError(
        'CONFIG_EQUIVOCATION',
        `two different ${file} claim version ${next.version}; the first is kept`,
      );
  }
  requireFresh(snapshot, 'snapshot', options); // TUF 5.5.6
  return snapshot;
}

/** The head that the role's metadata names and the map that the head names (TUF 5.7: the target's length and hash). */
function acceptRole(
  name: ContentRole,
  metadata: SignedFile<Targets>,
  held: AcceptedRole | undefined,
  update: SignedUpdate,
): AcceptedRole {
  if (held !== undefined && held.metadata.text === metadata.text) return held;
  const { targets, version } = metadata.metadata.signed;
  const target = Object.hasOwn(targets, name) ? targets[name] : undefined;
  if (target === undefined || Object.keys(targets).length !== 1)
    throw new MeshError('CONFIG_MALFORMED', `the role ${name} signs one target of its name`);
  const headText = [update.heads?.[name], held?.headText].find((text) => text !== undefined && isFile(target, text));
  if (headText === undefined) {
    if (update.heads?.[name] === undefined) throw missing(`heads.${name}`);
    throw new MeshError('CONFIG_MIX', `the head of ${name} is not the one that its role signed`);
  }
  const head = parseHead(headText);
  if (head.generation !== version)
    throw new MeshError('CONFIG_MIX', `${name} version ${version} signs the head of generation ${head.generation}`);
  const content = acceptContent(name, update.content?.[name], held?.content ?? emptyContent);
  const found = headOf(content, head.generation);
  if (found.root !== head.root || found.count !== head.count || found.bytes !== head.bytes) {
    throw new MeshError(
      'CONFIG_ROOT_MISMATCH',
      `the objects of ${name} (${found.count}) are not those that its head names (${head.count})`,
    );
  }
  return { metadata, headText, head, content };
}

function acceptContent(name: ContentRole, change: RoleChange | undefined, held: Content): Content {
  if (change === undefined) return held;
  if (change.kind === 'full') return applyDelta(name, emptyContent, { set: change.set, delete: [] });
  if (!startsAt(change, held))
    throw new MeshError('CONFIG_BASE_MISMATCH', `the delta of ${name} starts at another generation than the one held`);
  return applyDelta(name, held, change);
}

/** When a timestamp was signed, ms since the epoch, from its own field `signed_at`. Throws CONFIG_MALFORMED. */
export function signedAt(timestamp: SignedFile<Timestamp>): number {
  const text = timestamp.metadata.signed.unrecognizedFields.signed_at;
  const time = typeof text === 'string' ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(time)) throw new MeshError('CONFIG_MALFORMED', 'a timestamp says when it was signed (signed_at)');
  return time;
}

/** The version of a role's file that a state holds; 0 for none: what an UpdateRequest says. */
export function versionsOf(state: TrustedState): { root: number; timestamp: number; generation: number } {
  return {
    root: state.root.metadata.signed.version,
    timestamp: state.timestamp?.metadata.signed.version ?? 0,
    generation: state.accepted?.generation ?? 0,
  };
}

/** sha256 (hex) of root version 1: what a join string pins. */
export function anchorHash(state: TrustedState): string {
  return sha256Hex(state.roots[0] as string);
}

function requireRootSignatures(by: SignedFile<Root>, root: SignedFile<Root>): void {
  for (const signer of new Set([by, root])) {
    const { roles, keys } = signer.metadata.signed;
    requireSigned(root, 'root', roles.root, keys);
  }
}

function isStillSigned(
  root: SignedFile<Root>,
  name: 'timestamp' | 'snapshot',
  file: SignedFile<AnySigned> | undefined,
): boolean {
  if (file === undefined) return true;
  try {
    requireSigned(file, name, root.metadata.signed.roles[name], root.metadata.signed.keys);
    return true;
  } catch {
    return false;
  }
}

function requireFresh(file: SignedFile<AnySigned>, name: string, options: VerifyOptions): void {
  if (options.now === undefined || !file.metadata.signed.isExpired(new Date(options.now))) return;
  throw new MeshError(
    'CONFIG_EXPIRED',
    `${name} version ${file.metadata.signed.version} expired at ${file.metadata.signed.expires}; this clock says ${new Date(options.now).toISOString()}: is one of the two clocks wrong, or is an old copy being replayed?`,
  );
}

function requireVersion(file: SignedFile<AnySigned>, name: string, version: number | undefined): void {
  if (file.metadata.signed.version === version) return;
  throw new MeshError('CONFIG_MIX', `${name} has version ${file.metadata.signed.version}, expected ${version}`);
}

function missing(name: string): MeshError {
  return new MeshError('CONFIG_INCOMPLETE', `the update lacks ${name}, which is not held`);
}

function rollback(name: string, known: number, offered: number): MeshError {
  return new MeshError('CONFIG_ROLLBACK', `${name} version ${offered} is offered, ${known} is known`);
}
