import { MeshError } from '../errors.ts';
import { canonicalJson, sha256Hex } from './canonical.ts';
import { type ContentRole, isKeyOf, LIMITS, type RoleHead } from './layout.ts';
import { emptyMerkle, type Merkle, merkleDelete, merkleDiff, merkleRoot, merkleSet } from './merkle.ts';

/** The map of one role: values, their Merkle map and their size. Immutable. */
export interface Content {
  readonly values: ReadonlyMap<string, unknown>;
  readonly merkle: Merkle;
  /** Sum of the canonical values' UTF-16 lengths. */
  readonly bytes: number;
  readonly sizes: ReadonlyMap<string, number>;
}

/** What changes one map into another; values in `set` are JSON values. */
export interface ContentDelta {
  readonly set: Readonly<Record<string, unknown>>;
  readonly delete: readonly string[];
}

export const emptyContent: Content = { values: new Map(), merkle: emptyMerkle, bytes: 0, sizes: new Map() };

/**
 * The content after `delta`; `content` stays as it was. Throws CONFIG_MALFORMED for a key that is not the role's or a value that JSON cannot
 * carry, CONFIG_TOO_LARGE beyond LIMITS.entries.
 */
export function applyDelta(role: ContentRole, content: Content, delta: ContentDelta): Content {
  if (delta.delete.length === 0 && Object.keys(delta.set).length === 0) return content;
  const values = new Map(content.values);
  const sizes = new Map(content.sizes);
  let { merkle, bytes } = content;
  for (const key of delta.delete) {
    if (!values.delete(key)) continue;
    bytes -= sizes.get(key) ?? 0;
    sizes.delete(key);
    merkle = merkleDelete(merkle, key);
  }
  for (const [key, value] of Object.entries(delta.set)) {
    if (!isKeyOf(role, key))
      throw new MeshError('CONFIG_MALFORMED', `key ${JSON.stringify(key.slice(0, 100))} is not one of ${role}`);
    const text = canonicalJson(value);
    bytes += text.length - (sizes.get(key) ?? 0);
    sizes.set(key, text.length);
    values.set(key, value);
    merkle = merkleSet(merkle, key, sha256Hex(text));
  }
  if (values.size > LIMITS.entries)
    throw new MeshError('CONFIG_TOO_LARGE', `${role} has more than ${LIMITS.entries} entries`);
  return { values, sizes, merkle, bytes };
}

/** The delta that makes `from` into `to`; both may share most of their structure. */
export function diffContent(from: Content, to: Content): ContentDelta {
  const diff = merkleDiff(from.merkle, to.merkle);
  return { set: Object.fromEntries(diff.set.map((key) => [key, to.values.get(key)])), delete: diff.delete };
}

/** The head that a role signs for `content`. */
export function headOf(content: Content, generation: number): RoleHead {
  return { generation, root: merkleRoot(content.merkle), count: content.values.size, bytes: content.bytes };
}
