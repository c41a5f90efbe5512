/**
 * The wire form of signed config: from a controller, a peer or a disk, to an agent. Nothing in it is trusted before verifier.ts accepted
 * it, so its carrier need not be. JSON; metadata stands in it as text, because hashes and signatures are over bytes.
 */
import { MeshError } from '../errors.ts';
import type { Content, ContentDelta } from './content.ts';
import { CONTENT_ROLES, type ContentRole, LIMITS } from './layout.ts';
import { merkleRoot } from './merkle.ts';

/** Change of one role's map. `full`: `set` is everything. `delta`: against the map whose Merkle root is `from`. */
export interface RoleChange extends ContentDelta {
  readonly kind: 'full' | 'delta';
  /** Generation and hex root of the map that a delta starts at. */
  readonly from?: { readonly generation: number; readonly root: string };
}

/** Every part may be missing that the receiver holds already. */
export interface SignedUpdate {
  readonly format: 1;
  /** Signed roots newer than the receiver's, consecutive. */
  readonly roots: readonly string[];
  readonly timestamp?: string;
  readonly snapshot?: string;
  readonly targets?: string;
  readonly policy?: string;
  readonly state?: string;
  readonly heads?: Partial<Readonly<Record<ContentRole, string>>>;
  readonly content?: Partial<Readonly<Record<ContentRole, RoleChange>>>;
}

/** What an asker holds: versions of root and timestamp, and its generation; 0 for none. `generation: 0` asks for a full copy. */
export interface UpdateRequest {
  readonly root: number;
  readonly generation: number;
  readonly timestamp: number;
}

/** True when `content` is what the delta starts at. */
export function startsAt(change: RoleChange, content: Content): boolean {
  return change.from?.root === merkleRoot(content.merkle);
}

/** A RoleChange to be written. */
export type ChangeToWrite = Omit<RoleChange, 'set'> & { readonly set: Iterable<readonly [string, unknown]> };

/** JSON text of an update. */
export function encodeUpdate(update: SignedUpdate): string {
  return JSON.stringify(update);
}

/** JSON text of an update with that content. Values keep their text: a whole role is written with each change, and most of it is as before. */
export function encodeUpdateWith(
  update: Omit<SignedUpdate, 'content'>,
  content: Partial<Readonly<Record<ContentRole, ChangeToWrite>>>,
): string {
  const roles = Object.entries(content).map(([role, change]) => `"${role}":${encodeChange(change)}`);
  const text = JSON.stringify(update);
  return roles.length === 0 ? text : `${text.slice(0, -1)},"content":{${roles.join(',')}}}`;
}

function encodeChange({ set, ...rest }: ChangeToWrite): string {
  let entries = '';
  for (const [key, value] of set) entries += `${entries === '' ? '' : ','}${JSON.stringify(key)}:${textOf(value)}`;
  return `${JSON.stringify(rest).slice(0, -1)},"set":{${entries}}}`;
}

/** Of values of accepted content, which nobody changes. */
const texts = new WeakMap<object, string>();

function textOf(value: unknown): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const known = texts.get(value);
  if (known !== undefined) return known;
  const text = JSON.stringify(value);
  texts.set(value, text);
  return text;
}

const FIELDS = new Set(['format', 'roots', 'timestamp', 'snapshot', 'targets', 'policy', 'state', 'heads', 'content']);
const FILES = ['timestamp', 'snapshot', 'targets', 'policy', 'state'] as const;

/**
 * Reads an update and checks its form and bounds; judges nothing that is signed. The attacker is whoever carried it. Throws
 * CONFIG_TOO_LARGE, CONFIG_MALFORMED.
 */
export function parseUpdate(data: string | Uint8Array): SignedUpdate {
  if (data.length > LIMITS.updateBytes)
    throw new MeshError('CONFIG_TOO_LARGE', `an update has at most ${LIMITS.updateBytes} bytes`);
  const update = record(parseJson(typeof data === 'string' ? data : Buffer.from(data).toString('utf8')), 'update');
  if (update.format !== 1) throw malformed('format is 1');
  for (const field of Object.keys(update))
    if (!FIELDS.has(field)) throw malformed(`unknown field ${field.slice(0, 50)}`);
  const roots = update.roots;
  if (!Array.isArray(roots) || roots.length > LIMITS.roots)
    throw malformed(`roots is a list of at most ${LIMITS.roots}`);
  for (const root of roots) boundedText(root, 'roots', LIMITS.metadataBytes);
  for (const file of FILES) {
    if (update[file] === undefined) continue;
    boundedText(update[file], file, file === 'timestamp' ? LIMITS.timestampBytes : LIMITS.metadataBytes);
  }
  for (const [role, head] of roleEntries(update.heads, 'heads')) boundedText(head, `heads.${role}`, LIMITS.headBytes);
  for (const [role, change] of roleEntries(update.content, 'content'))
    checkChange(record(change, `content.${role}`), role);
  return update as unknown as SignedUpdate;
}

function checkChange(change: Record<string, unknown>, role: string): void {
  const set = record(change.set, `content.${role}.set`);
  if (change.kind !== 'full' && change.kind !== 'delta') throw malformed(`content.${role}.kind is full or delta`);
  if (Object.keys(set).length > LIMITS.entries)
    throw new MeshError('CONFIG_TOO_LARGE', `content.${role} has more than ${LIMITS.entries} entries`);
  const removed = change.delete;
  if (!Array.isArray(removed) || removed.length > LIMITS.entries || removed.some((key) => typeof key !== 'string'))
    throw malformed(`content.${role}.delete is a list of keys`);
  if (change.kind === 'full') return;
  const from = record(change.from, `content.${role}.from`);
  if (!Number.isSafeInteger(from.generation) || typeof from.root !== 'string')
    throw malformed(`content.${role}.from is {generation, root}`);
}

function roleEntries(value: unknown, path: string): [string, unknown][] {
  if (value === undefined) return [];
  const entries = Object.entries(record(value, path));
  for (const [role] of entries)
    if (!(CONTENT_ROLES as readonly string[]).includes(role)) throw malformed(`${path} has an unknown role`);
  return entries;
}

/** JSON to a value; the text was bounded by the caller. Throws CONFIG_MALFORMED. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new MeshError('CONFIG_MALFORMED', 'not JSON, or cut off', { cause });
  }
}

function record(value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed(`${path} is an object`);
  return value as Record<string, unknown>;
}

function boundedText(value: unknown, path: string, maxBytes: number): void {
  if (typeof value !== 'string') throw malformed(`${path} is a text`);
  if (Buffer.byteLength(value) > maxBytes)
    throw new MeshError('CONFIG_TOO_LARGE', `${path} has at most ${maxBytes} bytes`);
}

function malformed(message: string): MeshError {
  return new MeshError('CONFIG_MALFORMED', message);
}
