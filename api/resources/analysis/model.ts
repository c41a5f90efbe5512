import { type ExportDefaults, exportDefaults, exportToOf } from '../export-to.ts';
import { hostWithin } from '../formats.ts';
import { keyOf, type MeshObject, type ObjectKey } from '../object.ts';
import { type Step, UNBOUNDED } from './budget.ts';

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

/**
 * A mesh as its objects describe it. `complete`: nothing else is in it; else what is missing may be elsewhere. Who asks for a list pays the
 * steps of one walk over it; walks within walks call `step` themselves.
 */
export interface MeshFacts {
  readonly complete: boolean;
  readonly step: Step;
  /** Whom objects without exportTo are exported to. */
  readonly defaults: ExportDefaults;
  /** Whether the Secrets of a namespace are among the objects. */
  listsSecrets(namespace: string): boolean;
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
  readonly resolution?: string;
  readonly location?: string;
  readonly workloadSelector?: { readonly labels?: Labels };
  readonly endpoints?: readonly WorkloadShape[];
}

export interface FactsOptions {
  /** Absent: without end. */
  readonly step?: Step;
  /** Where things are looked for, for messages. */
  readonly where?: string;
  /** Absent: those of all namespaces are. */
  readonly listsSecrets?: (namespace: string) => boolean;
}

/** Facts of a mesh out of its objects, each valid by itself. Pure. Throws what `step` throws. */
export function meshFacts(objects: Iterable<MeshObject>, complete: boolean, options: FactsOptions = {}): MeshFacts {
  const { step = UNBOUNDED, where = complete ? 'in the mesh' : 'in these files', listsSecrets = () => true } = options;
  const byKind = Map.groupBy(objects, (object) => object.kind);
  const list = (kind: string): readonly MeshObject[] => {
    const found = byKind.get(kind) ?? [];
    step(found.length);
    return found;
  };
  const defaults = exportDefaults(list('MeshConfig')[0]);
  const members = [...list('WorkloadGroup').map(groupFact), ...list('WorkloadEntry').map(entryFact)];
  const near = Map.groupBy(members, (member) => member.namespace);
  const making: Making = { near, defaults, step };
  const services = [
    ...list('Service').map((object) => serviceFact(object, making)),
    ...list('ServiceEntry').flatMap((object) => entryFacts(object, making)),
  ];
  const exact = Map.groupBy(services, (service) => service.host);
  const wild = services.filter(({ host }) => host.startsWith('*'));
  return {
    complete,
    step,
    defaults,
    listsSecrets,
    list,
    get services() {
      step(services.length);
      return services;
    },
    get members() {
      step(members.length);
      return members;
    },
    where,
    named: (host) => exact.get(host) ?? [],
    find(text, namespace) {
      const host = fullHost(text, namespace);
      const found = exact.get(host) ?? [];
      if (found.length > 0) return found;
      step(host.startsWith('*') ? services.length : wild.length);
      if (host.startsWith('*')) return services.filter((service) => hostWithin(service.host, host));
      return wild.filter((service) => hostWithin(host, service.host));
    },
  };
}

/** `make(facts)`, made once a mesh: what many objects of it would look through otherwise. A lookup is of one moment, too. */
export function perMesh<T, M extends object = MeshFacts>(make: (facts: M) => T): (facts: M) => T {
  const made = new WeakMap<M, { readonly value: T }>();
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

/** What a look at `selects(selector, ...)` costs. */
export function costOf(selector: Labels): number {
  return 1 + Object.keys(selector).length;
}

/** Numbers of the ports at which a workload answers. */
export function portNumbers(member: MemberFact): ReadonlySet<number> {
  const known = numbers.get(member) ?? new Set(Object.values(member.ports));
  numbers.set(member, known);
  return known;
}

const numbers = new WeakMap<MemberFact, ReadonlySet<number>>();

interface Making {
  /** Members by namespace. */
  readonly near: ReadonlyMap<string, readonly MemberFact[]>;
  readonly defaults: ExportDefaults;
  readonly step: Step;
}

/** Found when they are asked for first: a look at one object needs those of a few services. Each time paid for as one walk over them. */
function selected(
  { near, step }: Making,
  namespace: string,
  selector: Labels | undefined,
  inline: readonly MemberFact[],
): () => readonly MemberFact[] {
  let found: readonly MemberFact[] | undefined;
  const find = () => {
    if (selector === undefined || Object.keys(selector).length === 0) return inline;
    const all = near.get(namespace) ?? [];
    step(all.length * costOf(selector));
    return [...inline, ...all.filter((member) => selects(selector, member.labels))];
  };
  return () => {
    found ??= find();
    step(1 + found.length);
    return found;
  };
}

function serviceFact(object: MeshObject, making: Making): ServiceFact {
  const spec = (object.spec ?? {}) as ServiceShape;
  const namespace = namespaceOf(object);
  making.step((spec.ports ?? []).length);
  const members = selected(making, namespace, spec.selector, []);
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
    exportTo: exportToOf(object, making.defaults),
    resolution: 'STATIC',
    external: false,
    selector: spec.selector ?? {},
    get members() {
      return members();
    },
  };
}

function entryFacts(object: MeshObject, making: Making): ServiceFact[] {
  const spec = (object.spec ?? {}) as EntryShape;
  const namespace = namespaceOf(object);
  const inline = (spec.endpoints ?? []).map((endpoint) => fact(object, 'inline', endpoint.labels, endpoint.ports));
  const selector = spec.workloadSelector?.labels;
  const members = selected(making, namespace, selector, inline);
  const exportTo = exportToOf(object, making.defaults);
  const ports = (spec.ports ?? []).map((port, i) => ({
    number: port.number ?? 0,
    name: port.name ?? '',
    declared: port.protocol ?? '',
    targetPort: port.targetPort,
    path: `spec.ports[${i}]`,
  }));
  making.step((spec.hosts ?? []).length + inline.length + ports.length);
  return (spec.hosts ?? []).map((host) => ({
    key: keyOf(object),
    kind: 'ServiceEntry',
    host: host.toLowerCase(),
    namespace,
    ports,
    exportTo,
    resolution: spec.resolution ?? 'NONE',
    external: spec.location !== 'MESH_INTERNAL',
    selector,
    get members() {
      return members();
    },
  }));
}
