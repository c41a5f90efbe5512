import type { ObjectKey } from '../../api/resources/object.ts';

/** Type URLs of the xDS resources that this agent serves; order of additions (DESIGN 3.11). */
export const TYPE_URLS = {
  cluster: 'type.googleapis.com/envoy.config.cluster.v3.Cluster',
  endpoint: 'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment',
  listener: 'type.googleapis.com/envoy.config.listener.v3.Listener',
  route: 'type.googleapis.com/envoy.config.route.v3.RouteConfiguration',
  extension: 'type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig',
  secret: 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret',
} as const;

export type ResourceType = keyof typeof TYPE_URLS;

/** A JSON value; message bodies are proto3 JSON with the proto's own field names (snake_case), Any as `{"@type": URL, ...}`: what Envoy's YAML has. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json | undefined };

const ALIKE = new Map<string, object>();
const MAX_ALIKE = 2000;
const COMMON = new WeakSet<object>();

/**
 * The one object of this content. For parts that hundreds of resources have in common: one is encoded for all of them (xds/encode.ts). Nobody
 * changes it.
 */
export function alike<T extends object>(body: T): T {
  const text = JSON.stringify(body);
  const known = ALIKE.get(text);
  if (known !== undefined) return known as T;
  if (ALIKE.size >= MAX_ALIKE) ALIKE.clear();
  ALIKE.set(text, body);
  COMMON.add(body);
  return body;
}

/** Whether it came from `alike`. */
export function isAlike(body: object): boolean {
  return COMMON.has(body);
}

/** One Envoy resource to serve. Never holds a private key: secrets are served by name from the SecretSource. */
export interface XdsResource {
  readonly type: ResourceType;
  readonly name: string;
  readonly body: Json;
  /** The operator's objects that shaped it, for `describe` and `why`. Sorted. */
  readonly origins: readonly ObjectKey[];
}

/** All that Envoy is to have, one generation. Same MeshView, same bytes. `secrets`: names that listeners and clusters refer to. */
export interface ResourceSet {
  readonly generation: number;
  readonly resources: { readonly [T in Exclude<ResourceType, 'secret'>]: ReadonlyMap<string, XdsResource> };
  readonly secrets: ReadonlySet<string>;
  /** Of secrets that operators' objects name, those objects. Sorted. */
  readonly secretOrigins: ReadonlyMap<string, readonly ObjectKey[]>;
}
