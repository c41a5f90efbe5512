/** Object metadata as Kubernetes has it (meta/v1 ObjectMeta), the part that this project keeps. */
export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly creationTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** One object that an operator wrote: an Istio kind, a core v1 kind or MeshConfig. `spec` is validated by api/resources before it is stored. */
export interface MeshObject<Spec = unknown> {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
  readonly spec?: Spec;
  /** core kinds have more top-level fields (Secret.data, Secret.type, status ...). */
  readonly [field: string]: unknown;
}

/** `KIND/NAMESPACE/NAME`, NAMESPACE empty for cluster-scoped kinds, e.g. `VirtualService/default/reviews`. The key of signed config and of origins. */
export type ObjectKey = string;

export function objectKey(kind: string, namespace: string | undefined, name: string): ObjectKey {
  return `${kind}/${namespace ?? ''}/${name}`;
}

export function keyOf(object: MeshObject): ObjectKey {
  return objectKey(object.kind, object.metadata.namespace, object.metadata.name);
}
