/**
 * What is signed where (DESIGN 3.3). TUF's `targets` delegates two roles; each signs one target, the head of a Merkle map.
 *
 * Keys of `policy`:  `mesh` -> MeshRow;  `object/KIND/NS/NAME` -> an object that an operator wrote (Secrets excepted; host ownership is in
 *                    MeshConfig);  `anchor/REPLICA` -> ReplicaAnchor.
 * Keys of `state`:   `host/ID` -> HostGrant;  `revoked/ID` -> RevokedRow;  `vip/HOST-NAME` -> Vip.
 */
import { MeshError } from '../errors.ts';
import { canonicalJson } from './canonical.ts';

export const CONTENT_ROLES = ['policy', 'state'] as const;
export type ContentRole = (typeof CONTENT_ROLES)[number];

export const MESH_KEY = 'mesh';
export const OBJECT_PREFIX = 'object/';
export const ANCHOR_PREFIX = 'anchor/';
export const HOST_PREFIX = 'host/';
export const REVOKED_PREFIX = 'revoked/';
export const VIP_PREFIX = 'vip/';

/** Under `mesh`: what holds for the whole mesh. */
export interface MeshRow {
  readonly trustDomain: string;
  /** The least CAPABILITY (api/version.ts) that the objects need. */
  readonly minCapability: number;
}

export interface RevokedRow {
  /** RFC 3339. */
  readonly revokedAt: string;
}

/** The one target that a content role signs. */
export interface RoleHead {
  /** Generation in which the content became this; also the version of the role's metadata. */
  readonly generation: number;
  /** Hex of the Merkle root. */
  readonly root: string;
  readonly count: number;
  /** Sum of the canonical values' UTF-16 lengths. */
  readonly bytes: number;
}

/** Bounds on what is read before it is verified. */
export const LIMITS = {
  /** A whole update; one answer of the gossip's config exchange holds it. */
  updateBytes: 16 * 1024 * 1024 - 16,
  metadataBytes: 64 * 1024,
  /** A timestamp is also an announcement by gossip. */
  timestampBytes: 2 * 1024,
  headBytes: 512,
  entries: 100_000,
  keyChars: 1024,
  roots: 1024,
} as const;

const KEYS: Readonly<Record<ContentRole, RegExp>> = {
  policy: /^(mesh|object\/[A-Za-z]{1,63}\/[-a-z0-9]{0,63}\/[-.:a-zA-Z0-9]{1,253}|anchor\/[-.a-z0-9]{1,253})$/,
  state: /^((host|revoked)\/[-.a-z0-9]{1,253}|vip\/[-._*a-zA-Z0-9]{1,255})$/,
};

/** True when `key` may stand in the map of `role`: a role cannot write what belongs to the other. */
export function isKeyOf(role: ContentRole, key: string): boolean {
  return key.length <= LIMITS.keyChars && KEYS[role].test(key);
}

/** Text of a head, as its hash is signed. */
export function encodeHead(head: RoleHead): string {
  return canonicalJson(head);
}

/** Reads a head after its hash was verified. Throws CONFIG_MALFORMED. */
export function parseHead(text: string): RoleHead {
  let head: Partial<RoleHead> | null = null;
  try {
    head = JSON.parse(text) as Partial<RoleHead> | null;
  } catch {
    // Said below.
  }
  const whole = (n: unknown) => typeof n === 'number' && Number.isSafeInteger(n) && n >= 0;
  if (
    head === null ||
    typeof head !== 'object' ||
    !whole(head.generation) ||
    !whole(head.count) ||
    !whole(head.bytes) ||
    typeof head.root !== 'string' ||
    !/^[0-9a-f]{64}$/.test(head.root)
  ) {
    throw new MeshError('CONFIG_MALFORMED', 'a head is {generation, root, count, bytes}');
  }
  return head as RoleHead;
}
