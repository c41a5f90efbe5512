import { hash } from 'node:crypto';
import { errorLine } from '../../api/errors.ts';
import type { ObjectKey } from '../../api/resources/object.ts';
import {
  type Json,
  type ResourceSet,
  type ResourceType,
  TYPE_URLS,
  type XdsResource,
} from '../translate/resource-set.ts';
import type { Messages } from './messages.ts';

/** One resource ready to be sent. `version` is a hash of `bytes`, so that a new agent and an old Envoy agree on what is the same. */
export interface Entry {
  readonly type: ResourceType;
  readonly name: string;
  readonly version: string;
  /** The serialized message; for secrets it holds a private key and must not be logged or dumped. */
  readonly bytes: Uint8Array;
  readonly origins: readonly ObjectKey[];
  /** For clusters of type EDS: the name that Envoy asks EDS for. */
  readonly edsName: string | undefined;
  /** For extensions: it leads to clusters (a TCP proxy does), so that it must not reach Envoy before them. */
  readonly needsClusters?: boolean;
}

/** Types that come with a ResourceSet; secrets come from the SecretSource. */
export type ServedType = Exclude<ResourceType, 'secret'>;
export const SERVED_TYPES: readonly ServedType[] = ['cluster', 'endpoint', 'listener', 'route', 'extension'];

/** A resource of the set that cannot be encoded: it is refused here as Envoy would refuse it. */
export interface Unencodable {
  readonly type: ServedType;
  readonly name: string;
  readonly origins: readonly ObjectKey[];
  readonly message: string;
}

/** One generation, encoded. A type whose resources and origins are all what they were has the very same Map as in the snapshot before. */
export interface Snapshot {
  readonly generation: number;
  readonly entries: Readonly<Record<ServedType, ReadonlyMap<string, Entry>>>;
  /** EDS names of the clusters in this snapshot. */
  readonly edsNames: ReadonlySet<string>;
  readonly unencodable: readonly Unencodable[];
}

/** Encodes a resource. Throws XDS_ENCODE, XDS_TYPE. */
export function createEntry(messages: Messages, resource: XdsResource): Entry {
  const bytes = messages.encodeResource(TYPE_URLS[resource.type], resource.body);
  return {
    type: resource.type,
    name: resource.name,
    version: hash('sha256', bytes, 'base64url').slice(0, 22),
    bytes,
    origins: resource.origins,
    edsName: resource.type === 'cluster' ? edsNameOf(resource) : undefined,
    ...(resource.type === 'extension' && namesCluster(resource.body) ? { needsClusters: true } : {}),
  };
}

const CLUSTER_KEYS: ReadonlySet<string> = new Set(['cluster', 'cluster_name', 'weighted_clusters']);

function namesCluster(json: Json | undefined): boolean {
  if (typeof json !== 'object' || json === null) return false;
  return Object.entries(json).some(([key, value]) => CLUSTER_KEYS.has(key) || namesCluster(value));
}

function sameOrigins(a: Entry, b: XdsResource): boolean {
  return a.origins.length === b.origins.length && a.origins.every((origin, i) => origin === b.origins[i]);
}

function edsNameOf(resource: XdsResource): string | undefined {
  const body = resource.body as { readonly [key: string]: Json | undefined };
  if (body.type !== 'EDS') return undefined;
  const config = body.eds_cluster_config as { readonly service_name?: string } | undefined;
  return config?.service_name === undefined || config.service_name === '' ? resource.name : config.service_name;
}

/** Turns ResourceSets into Snapshots; encodes only what is not the same XdsResource object as before, and keeps equal entries identical. */
export interface SnapshotCache {
  /** Never throws for a bad resource: it is listed in `unencodable`, and the rest goes on. */
  next(set: ResourceSet): Snapshot;
}

export function createSnapshotCache(messages: Messages): SnapshotCache {
  const encoded = new WeakMap<XdsResource, Entry>();
  let last: Snapshot | undefined;

  const entryOf = (resource: XdsResource, before: Entry | undefined): Entry => {
    let entry = encoded.get(resource);
    if (entry === undefined) {
      entry = createEntry(messages, resource);
      if (before?.version === entry.version)
        entry = sameOrigins(before, resource) ? before : { ...before, origins: resource.origins };
      encoded.set(resource, entry);
    }
    return entry;
  };

  const entriesOf = (type: ServedType, set: ResourceSet, unencodable: Unencodable[]): ReadonlyMap<string, Entry> => {
    const before = last?.entries[type];
    const entries = new Map<string, Entry>();
    let same = before !== undefined;
    for (const [name, resource] of set.resources[type]) {
      try {
        const entry = entryOf(resource, before?.get(name));
        entries.set(name, entry);
        if (before?.get(name) !== entry) same = false;
      } catch (error) {
        unencodable.push({ type, name, origins: resource.origins, message: errorLine(error) });
      }
    }
    return same && before !== undefined && before.size === entries.size ? before : entries;
  };

  return {
    next(set) {
      const unencodable: Unencodable[] = [];
      const entries = {} as Record<ServedType, ReadonlyMap<string, Entry>>;
      for (const type of SERVED_TYPES) entries[type] = entriesOf(type, set, unencodable);
      const edsNames =
        last?.entries.cluster === entries.cluster
          ? last.edsNames
          : new Set([...entries.cluster.values()].flatMap((entry) => entry.edsName ?? []));
      last = { generation: set.generation, entries, edsNames, unencodable };
      return last;
    },
  };
}
