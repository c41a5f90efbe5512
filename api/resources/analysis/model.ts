import { hostWithin } from '../formats.ts';
import { keyOf, type MeshObject, type ObjectKey } from '../object.ts';

type Labels = Readonly<Record<string, string>>;

/** A port of a service as it was written. `path` is its own in the object. */
export interface PortFact {
  readonly number: number;
  readonly name: string;
  /** appProtocol or ServiceEntry's protocol; empty: nothing declared. */
  readonly declared: string;
  readonly targetPort: number | string | undefined;
  readonly path: string;
}

/** Something that may serve: a WorkloadGroup, a WorkloadEntry, an endpoint written into a ServiceEntry. */
export interface MemberFact {
  readonly key: ObjectKey;
  readonly namespace: string;
  readonly name: string;
  readonly kind: 'group' | 'entry' | 'inline';
  readonly labels: Labels;
  readonly ports: Readonly<Record<string, number>>;
}

/** One host of a Service or ServiceEntry. */
export interface ServiceFact {
  readonly key: ObjectKey;
  readonly kind: 'Service' | 'ServiceEntry';
  readonly host: string;
  readonly namespace: string;
  readonly ports: readonly PortFact[];
  readonly exportTo: readonly string[];
  readonly resolution: string;
  readonly external: boolean;
  /** Absent: endpoints are written, resolved, or wherever the client goes. */
  readonly selector: Labels | undefined;
  readonly members: readonly MemberFact[];
}

/** A mesh as its objects describe it. `complete`: nothing else is in it; else what is missing may be elsewhere. */
export interface MeshFacts {
  readonly complete: boolean;
  list(kind: string): readonly MeshObject[];
  readonly services: readonly ServiceFact[];
  readonly members: readonly MemberFact[];
  /** Services of exactly this full name. */
  named(host: string): readonly ServiceFact[];
  /** Services that a name means to an object of the namespace: full names, short ones, wildcards. */
  find(host: string, namespace: string): readonly ServiceFact[];
  /** Where things are looked for, for messages. */
  readonly where: string;
}

/** Host grants; absent: not known (offline). */
export interface HostFact {
  readonly name: string;
  readonly workloadGroups: readonly string[];
  readonly revoked: boolean;
}

interface WorkloadShape {
  readonly labels?: Labels;
  readonly ports?: Readonly<Record<string, number>>;
}

interface ServiceShape {
  readonly selector?: Labels;
  readonly ports?: readonly {
    readonly name?: string;
    readonly port?: number;
    readonly appProtocol?: string;
    readonly targetPort?: number | string;
  }[];
}

interface EntryShape {
  readonly hosts?: readonly string[];
  readonly ports?: readonly {
    readonly name?: string;
    readonly number?: number;
    readonly protocol?: string;
    readonly targetPort?: number;
  }[];
  readonly exportTo?: readonly string[];
  readonly resolution?: string;
  readonly location?: string;
  readonly workloadSelector?: { readonly labels?: Labels };
  readonly endpoints?: readonly WorkloadShape[];
}

/** Facts of a mesh out of its objects, each valid by itself. Pure. */
export function meshFacts(objects: Iterable<MeshObject>, complete: boolean): MeshFacts {
  const byKind = Map.groupBy(objects, (object) => object.kind);
  const list = (kind: string): readonly MeshObject[] => byKind.get(kind) ?? [];
  const members = [...list('WorkloadGroup').map(groupFact), ...list('WorkloadEntry').map(entryFact)];
  const near = Map.groupBy(members, (member) => member.namespace);
  const services = [
    ...list('Service').map((object) => serviceFact(object, near)),
    ...list('ServiceEntry').flatMap((object) => entryFacts(object, near)),
  ];
  const exact = Map.groupBy(services, (service) => service.host);
  const wild = services.filter(({ host }) => host.startsWith('*'));
  return {
    complete,
    list,
    services,
    members,
    where: complete ? 'in the mesh' : 'in these files',
    named: (host) => exact.get(host) ?? [],
    find(text, namespace) {
      const host = fullHost(text, namespace);
      const found = exact.get(host) ?? [];
      if (found.length > 0) return found;
      if (host.startsWith('*')) return services.filter((service) => hostWithin(service.host, host));
      return wild.filter((service) => hostWithin(host, service.host));
    },
  };
}

/** `make(facts)`, made once a mesh: what many objects of it would look through otherwise. */
export function perMesh<T>(make: (facts: MeshFacts) => T): (facts: MeshFacts) => T {
  const made = new WeakMap<MeshFacts, { readonly value: T }>();
  return (facts) => {
    const known = made.get(facts) ?? { value: make(facts) };
    made.set(facts, known);
    return known.value;
  };
}

export function namespaceOf(object: MeshObject): string {
  return object.metadata.namespace ?? '';
}

/** Istio: a name without a dot is a service of the object's namespace; NAME.NS and NAME.NS.svc stand as they are. */
export function fullHost(host: string, namespace: string): string {
  const lower = host.toLowerCase().replace(/\.$/, '');
  return lower.includes('.') || lower.startsWith('*') ? lower : `${lower}.${namespace}.svc.cluster.local`;
}

/** True when `labels` has every pair of `selector`. */
export function selects(selector: Labels, labels: Labels): boolean {
  return Object.entries(selector).every(([key, value]) => labels[key] === value);
}

/** Istio's exportTo; absent: to all. */
export function isVisible({ exportTo, namespace }: Pick<ServiceFact, 'exportTo' | 'namespace'>, to: string): boolean {
  return (
    exportTo.length === 0 || exportTo.some((one) => one === '*' || one === to || (one === '.' && namespace === to))
  );
}

function groupFact(object: MeshObject): MemberFact {
  const spec = (object.spec ?? {}) as { metadata?: { labels?: Labels }; template?: WorkloadShape };
  const labels = { ...spec.metadata?.labels, ...spec.template?.labels };
  return fact(object, 'group', labels, spec.template?.ports);
}

function entryFact(object: MeshObject): MemberFact {
  const spec = (object.spec ?? {}) as WorkloadShape;
  return fact(object, 'entry', { ...object.metadata.labels, ...spec.labels }, spec.ports);
}

function fact(
  object: MeshObject,
  kind: MemberFact['kind'],
  labels: Labels | undefined,
  ports: Readonly<Record<string, number>> | undefined,
): MemberFact {
  const { name } = object.metadata;
  return { key: keyOf(object), namespace: namespaceOf(object), name, kind, labels: labels ?? {}, ports: ports ?? {} };
}

type Near = ReadonlyMap<string, readonly MemberFact[]>;

/** Found when they are asked for first: a look at one object needs those of a few services. */
function selected(near: Near, namespace: string, selector: Labels | undefined): () => readonly MemberFact[] {
  let found: readonly MemberFact[] | undefined;
  return () => {
    const none = selector === undefined || Object.keys(selector).length === 0;
    found ??= none ? [] : (near.get(namespace) ?? []).filter((member) => selects(selector, member.labels));
    return found;
  };
}

function serviceFact(object: MeshObject, near: Near): ServiceFact {
  const spec = (object.spec ?? {}) as ServiceShape;
  const namespace = namespaceOf(object);
  const exported = object.metadata.annotations?.['networking.istio.io/exportTo'];
  const members = selected(near, namespace, spec.selector);
  return {
    key: keyOf(object),
    kind: 'Service',
    host: `${object.metadata.name}.${namespace}.svc.cluster.local`,
    namespace,
    ports: (spec.ports ?? []).map((port, i) => ({
      number: port.port ?? 0,
      name: port.name ?? '',
      declared: port.appProtocol ?? '',
      targetPort: port.targetPort,
      path: `spec.ports[${i}]`,
    })),
    exportTo: exported === undefined ? [] : exported.split(',').map((one) => one.trim()),
    resolution: 'STATIC',
    external: false,
    selector: spec.selector ?? {},
    get members() {
      return members();
    },
  };
}

function entryFacts(object: MeshObject, near: Near): ServiceFact[] {
  const spec = (object.spec ?? {}) as EntryShape;
  const namespace = namespaceOf(object);
  const inline = (spec.endpoints ?? []).map((endpoint) => fact(object, 'inline', endpoint.labels, endpoint.ports));
  const selector = spec.workloadSelector?.labels;
  const members = selected(near, namespace, selector);
  return (spec.hosts ?? []).map((host) => ({
    key: keyOf(object),
    kind: 'ServiceEntry',
    host: host.toLowerCase(),
    namespace,
    ports: (spec.ports ?? []).map((port, i) => ({
      number: port.number ?? 0,
      name: port.name ?? '',
      declared: port.protocol ?? '',
      targetPort: port.targetPort,
      path: `spec.ports[${i}]`,
    })),
    exportTo: spec.exportTo ?? [],
    resolution: spec.resolution ?? 'NONE',
    external: spec.location !== 'MESH_INTERNAL',
    selector,
    get members() {
      return [...inline, ...members()];
    },
  }));
}
