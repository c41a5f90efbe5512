/**
 * Store rows -> what is signed of them. In: one row. Out: the entries of `policy` and `state` it makes, and the service names it wants an
 * address for. Pure. Must never let a Secret, a key or a token into signed config.
 */

import type { MeshObject } from '../../api/resources/object.ts';
import { canonicalJson } from '../../api/signed-config/canonical.ts';
import type { HostGrant } from '../../api/signed-config/desired-config.ts';
import {
  ANCHOR_PREFIX,
  type ContentRole,
  HOST_PREFIX,
  isKeyOf,
  OBJECT_PREFIX,
  REVOKED_PREFIX,
  type RevokedRow,
} from '../../api/signed-config/layout.ts';
import { HOST_PREFIX as HOST_ROWS, type HostRow } from '../store/internal-rows.ts';
import { INTERNAL_PREFIX } from '../store/store.ts';

/** Rows of this room: anchors of the replicas, addresses of services, what was signed last. */
export const ANCHOR_ROWS = `${INTERNAL_PREFIX}signing/anchors/`;
export const VIP_ROWS = `${INTERNAL_PREFIX}signing/vips/`;
export const ROOT_ROWS = `${INTERNAL_PREFIX}signing/roots/`;
export const TARGETS_ROW = `${INTERNAL_PREFIX}signing/targets`;
export const CURRENT_ROW = `${INTERNAL_PREFIX}signing/current`;

/** Kinds that are stored but never signed. */
const UNSIGNED_KINDS = new Set(['Secret', 'Event', 'JoinToken', 'Host']);
/** kubectl's copy of the whole object, which would double each. */
const DROPPED_ANNOTATION = 'kubectl.kubernetes.io/last-applied-configuration';

/** One entry of a role's map; `value` undefined: the row makes none (any more). */
export interface SignedEntry {
  readonly role: ContentRole;
  readonly key: string;
  readonly value: unknown;
}

/**
 * Entries that the row `key` makes. `text` undefined: the row was deleted. Empty for rows that are not signed. Throws when the row cannot be
 * signed (broken JSON, nested too deep): the caller leaves that one out and says so.
 */
export function entriesOf(key: string, text: string | undefined): SignedEntry[] {
  const value = text === undefined ? undefined : (JSON.parse(text) as unknown);
  if (key.startsWith(HOST_ROWS)) return hostEntries(key.slice(HOST_ROWS.length), value as HostRow | undefined);
  if (key.startsWith(ANCHOR_ROWS)) {
    const name = `${ANCHOR_PREFIX}${key.slice(ANCHOR_ROWS.length)}`;
    return [{ role: 'policy', key: name, value }];
  }
  if (key.startsWith(INTERNAL_PREFIX) || key.startsWith('_') || UNSIGNED_KINDS.has(key.slice(0, key.indexOf('/'))))
    return [];
  const name = `${OBJECT_PREFIX}${key}`;
  if (!isKeyOf('policy', name)) throw new Error(`the key ${key} cannot be signed`);
  const signed = value === undefined ? undefined : signedForm(value as MeshObject);
  canonicalJson(signed ?? null); // throws for what cannot be signed, before it can stop the rest
  return [{ role: 'policy', key: name, value: signed }];
}

function hostEntries(host: string, row: HostRow | undefined): SignedEntry[] {
  const { epoch, workloadGroups, gossipAddresses } = row ?? ({} as Partial<HostRow>);
  const grant: HostGrant | undefined =
    row === undefined
      ? undefined
      : {
          host,
          epoch: epoch as number,
          workloadGroups: workloadGroups ?? [],
          gossipAddresses: gossipAddresses ?? [],
        };
  const revoked: RevokedRow | undefined = row?.revokedAt === undefined ? undefined : { revokedAt: row.revokedAt };
  return [
    { role: 'state', key: `${HOST_PREFIX}${host}`, value: grant },
    { role: 'state', key: `${REVOKED_PREFIX}${host}`, value: revoked },
  ];
}

/** The object without what hosts do not need: status, managedFields, kubectl's copy. */
function signedForm(object: MeshObject): MeshObject {
  const { status: _status, metadata, ...rest } = object;
  const { managedFields: _managed, annotations, ...meta } = metadata as typeof metadata & { managedFields?: unknown };
  const kept = Object.entries(annotations ?? {}).filter(([name]) => name !== DROPPED_ANNOTATION);
  return {
    ...(rest as MeshObject),
    metadata: { ...meta, ...(kept.length === 0 ? {} : { annotations: Object.fromEntries(kept) }) },
  };
}

/** Service names that an object wants addresses for: Services by their full name unless they are headless, hosts of ServiceEntries without addresses that say where they are. */
export function vipNamesOf(object: MeshObject): string[] {
  const { name, namespace } = object.metadata;
  const { clusterIP } = (object.spec ?? {}) as { readonly clusterIP?: unknown };
  if (object.kind === 'Service' && clusterIP === 'None') return [];
  if (object.kind === 'Service') return [`${name}.${namespace ?? 'default'}.svc.cluster.local`];
  if (object.kind !== 'ServiceEntry') return [];
  const spec = (object.spec ?? {}) as {
    readonly hosts?: unknown;
    readonly addresses?: unknown;
    readonly resolution?: unknown;
  };
  // Clients of these go to addresses that they know themselves.
  if (['NONE', 'DYNAMIC_DNS'].includes(String(spec.resolution ?? 'NONE'))) return [];
  if (Array.isArray(spec.addresses) && spec.addresses.length > 0) return [];
  const hosts = Array.isArray(spec.hosts) ? spec.hosts : [];
  return hosts.filter((h): h is string => typeof h === 'string' && !h.includes('*')).map((h) => h.toLowerCase());
}
