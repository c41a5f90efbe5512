/**
 * A Merkle map: key -> 32-byte hash, with one root for one content whatever the order of the writes. In: keys and hashes. Out: a new map
 * (the old one stays valid), its root, differences of two maps. A binary trie over sha256(key), each leaf at the first level where it is
 * alone: a change hashes about log2(n) nodes. Leaves and branches are hashed under different first bytes, so that neither passes for the other.
 */
import { hash } from 'node:crypto';

interface Leaf {
  readonly key: string;
  readonly path: Buffer;
  readonly value: Buffer;
  readonly hash: Buffer;
}

interface Branch {
  readonly left: Node | undefined;
  readonly right: Node | undefined;
  readonly hash: Buffer;
}

type Node = Leaf | Branch;

/** Immutable; made by `emptyMerkle`, `merkleSet` and `merkleDelete`. */
export interface Merkle {
  readonly size: number;
  readonly node: Node | undefined;
}

const EMPTY = Buffer.alloc(32);

export const emptyMerkle: Merkle = { size: 0, node: undefined };

/** Hex of the root hash; 64 zeros for the empty map. */
export function merkleRoot(map: Merkle): string {
  return (map.node?.hash ?? EMPTY).toString('hex');
}

/** The map with `key` at `value` (32 bytes, lower-case hex). */
export function merkleSet(map: Merkle, key: string, value: string): Merkle {
  const path = pathOf(key);
  const bytes = Buffer.from(value, 'hex');
  const leaf: Leaf = { key, path, value: bytes, hash: digest(0, path, bytes) };
  const added = { count: 1 };
  return { node: insert(map.node, leaf, 0, added), size: map.size + added.count };
}

/** The map without `key`; the same map when it is not there. */
export function merkleDelete(map: Merkle, key: string): Merkle {
  const node = remove(map.node, key, pathOf(key), 0);
  return node === map.node ? map : { node, size: map.size - 1 };
}

/** Keys to write and keys to drop that make `from` into `to`; equal subtrees are skipped, so the cost is that of the difference. */
export function merkleDiff(from: Merkle, to: Merkle): { readonly set: string[]; readonly delete: string[] } {
  const before = new Map<string, Leaf>();
  const after = new Map<string, Leaf>();
  differ(from.node, to.node, before, after);
  const set = [...after.values()].filter((leaf) => before.get(leaf.key)?.hash.equals(leaf.hash) !== true);
  return {
    set: set.map((leaf) => leaf.key).sort(),
    delete: [...before.keys()].filter((key) => !after.has(key)).sort(),
  };
}

function insert(node: Node | undefined, leaf: Leaf, depth: number, added: { count: number }): Node {
  if (node === undefined) return leaf;
  if ('key' in node) {
    if (node.key === leaf.key) {
      added.count = 0;
      return leaf;
    }
    const lower = bit(node.path, depth) === 0 ? branch(node, undefined) : branch(undefined, node);
    return insert(lower, leaf, depth, added);
  }
  return bit(leaf.path, depth) === 0
    ? branch(insert(node.left, leaf, depth + 1, added), node.right)
    : branch(node.left, insert(node.right, leaf, depth + 1, added));
}

function remove(node: Node | undefined, key: string, path: Buffer, depth: number): Node | undefined {
  if (node === undefined) return undefined;
  if ('key' in node) return node.key === key ? undefined : node;
  const goLeft = bit(path, depth) === 0;
  const old = goLeft ? node.left : node.right;
  const rest = remove(old, key, path, depth + 1);
  if (rest === old) return node;
  const other = goLeft ? node.right : node.left;
  // A leaf that is alone again moves up, as if the removed key had never been there.
  if (rest === undefined && (other === undefined || 'key' in other)) return other;
  if (other === undefined && rest !== undefined && 'key' in rest) return rest;
  return goLeft ? branch(rest, node.right) : branch(node.left, rest);
}

function differ(a: Node | undefined, b: Node | undefined, before: Map<string, Leaf>, after: Map<string, Leaf>): void {
  if (a === b || (a !== undefined && b !== undefined && a.hash.equals(b.hash))) return;
  if (a === undefined || 'key' in a || b === undefined || 'key' in b) {
    collect(a, before);
    collect(b, after);
    return;
  }
  differ(a.left, b.left, before, after);
  differ(a.right, b.right, before, after);
}

function collect(node: Node | undefined, into: Map<string, Leaf>): void {
  if (node === undefined) return;
  if ('key' in node) into.set(node.key, node);
  else {
    collect(node.left, into);
    collect(node.right, into);
  }
}

// A hash is made when it is first asked for, so that filling a map hashes each branch once.
function branch(left: Node | undefined, right: Node | undefined): Branch {
  let made: Buffer | undefined;
  return {
    left,
    right,
    get hash() {
      made ??= digest(1, left?.hash ?? EMPTY, right?.hash ?? EMPTY);
      return made;
    },
  };
}

function digest(domain: number, a: Buffer, b: Buffer): Buffer {
  return hash('sha256', Buffer.concat([Buffer.of(domain), a, b]), 'buffer');
}

function pathOf(key: string): Buffer {
  return hash('sha256', key, 'buffer');
}

function bit(path: Buffer, depth: number): number {
  return ((path[depth >> 3] as number) >> (7 - (depth & 7))) & 1;
}
