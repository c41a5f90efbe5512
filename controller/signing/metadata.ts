/** Builds and signs TUF metadata. In: keys, versions, times. Out: texts. Decides nothing; the verifier judges what comes out. */
import {
  type Key,
  Metadata,
  MetadataKind,
  type Root,
  type Snapshot,
  type Targets,
  type Timestamp,
} from '@tufjs/models';
import { sha256Hex } from '../../api/signed-config/canonical.ts';
import type { ContentRole } from '../../api/signed-config/layout.ts';
import type { SigningKey } from './keys.ts';

const SPEC_VERSION = '1.0.31';

/** Keys that may sign a role and how many of them must. */
export interface RoleSpec {
  readonly keys: readonly Key[];
  readonly threshold: number;
}

interface Common {
  readonly version: number;
  /** ms since the epoch. */
  readonly expires: number;
}

export type RootRoles = Readonly<Record<'root' | 'timestamp' | 'snapshot' | 'targets', RoleSpec>>;

/** Root metadata; its signers are the keys of this root and of the one before. */
export function buildRoot(spec: Common & { readonly roles: RootRoles }, signers: readonly SigningKey[]): string {
  const signed = {
    ...common('root', spec),
    consistent_snapshot: false,
    keys: keysOf(Object.values(spec.roles)),
    roles: Object.fromEntries(Object.entries(spec.roles).map(([name, role]) => [name, roleJson(role)])),
  };
  return seal<Root>(Metadata.fromJSON(MetadataKind.Root, { signed, signatures: [] }), signers);
}

/** Top-level targets: no target of its own, the delegations to `policy` and `state`. */
export function buildTargets(
  spec: Common & { readonly delegations: Readonly<Record<ContentRole, RoleSpec>> },
  signers: readonly SigningKey[],
): string {
  const roles = Object.entries(spec.delegations).map(([name, role]) => ({
    name,
    ...roleJson(role),
    terminating: true,
    paths: [name],
  }));
  const delegations = { keys: keysOf(Object.values(spec.delegations)), roles };
  const signed = { ...common('targets', spec), targets: {}, delegations };
  return seal<Targets>(Metadata.fromJSON(MetadataKind.Targets, { signed, signatures: [] }), signers);
}

/** Metadata of a content role: its one target is the head. */
export function buildRole(
  spec: Common & { readonly name: ContentRole; readonly head: string },
  signers: readonly SigningKey[],
): string {
  const signed = { ...common('targets', spec), targets: { [spec.name]: fileJson(spec.head) } };
  return seal<Targets>(Metadata.fromJSON(MetadataKind.Targets, { signed, signatures: [] }), signers);
}

/** `files`: text and version of targets, policy and state. */
export function buildSnapshot(
  spec: Common & { readonly files: Readonly<Record<string, { readonly text: string; readonly version: number }>> },
  signers: readonly SigningKey[],
): string {
  const meta = Object.fromEntries(
    Object.entries(spec.files).map(([name, { text, version }]) => [`${name}.json`, { version, ...fileJson(text) }]),
  );
  const signed = { ...common('snapshot', spec), meta };
  return seal<Snapshot>(Metadata.fromJSON(MetadataKind.Snapshot, { signed, signatures: [] }), signers);
}

/** `signedAt` (ms) stands in it as `signed_at`: its age is what freshness means. */
export function buildTimestamp(
  spec: Common & { readonly signedAt: number; readonly snapshot: { readonly text: string; readonly version: number } },
  signers: readonly SigningKey[],
): string {
  const { text, version } = spec.snapshot;
  const meta = { 'snapshot.json': { version, ...fileJson(text) } };
  const signed = { ...common('timestamp', spec), meta, signed_at: new Date(spec.signedAt).toISOString() };
  return seal<Timestamp>(Metadata.fromJSON(MetadataKind.Timestamp, { signed, signatures: [] }), signers);
}

function seal<T extends Root | Snapshot | Targets | Timestamp>(
  metadata: Metadata<T>,
  signers: readonly SigningKey[],
): string {
  for (const signer of signers) metadata.sign((data) => signer.sign(data));
  return JSON.stringify(metadata.toJSON());
}

function common(type: string, spec: Common) {
  // Whole seconds: the form that every TUF client reads.
  const expires = `${new Date(spec.expires).toISOString().slice(0, 19)}Z`;
  return { _type: type, spec_version: SPEC_VERSION, version: spec.version, expires };
}

function roleJson(role: RoleSpec) {
  return { keyids: role.keys.map((key) => key.keyID), threshold: role.threshold };
}

function keysOf(roles: readonly RoleSpec[]) {
  return Object.fromEntries(roles.flatMap((role) => role.keys.map((key) => [key.keyID, key.toJSON()])));
}

function fileJson(text: string) {
  return { length: Buffer.byteLength(text), hashes: { sha256: sha256Hex(text) } };
}
