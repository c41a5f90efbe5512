/**
 * The kinds of the operators' API (DESIGN 3.2): what each is called, where it is served, and which versions are one kind. In: names, paths
 * or apiVersion and kind of an object. Out: the registry's row. Light on purpose (no schema, no validator): agents import it. Stored and
 * signed objects always carry the storage version, versions[0].
 */

/** One column of `get` and of Table answers. `path` is dotted, e.g. `spec.hosts`; arrays are shown joined. `age` is metadata.creationTimestamp. */
export interface Column {
  readonly name: string;
  readonly type: 'string' | 'date' | 'integer';
  readonly path: string;
  /** 0: always shown; 1: with `-o wide`. */
  readonly priority: 0 | 1;
}

export type Verb = 'create' | 'delete' | 'deletecollection' | 'get' | 'list' | 'patch' | 'update' | 'watch';

/** One kind. */
export interface KindInfo {
  /** Empty for core kinds. */
  readonly group: string;
  /** Served versions; the first is the one stored. All share one schema. */
  readonly versions: readonly string[];
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly namespaced: boolean;
  readonly verbs: readonly Verb[];
  /** True: an operator writes it and the store keeps it. False: made up by the controller (Host, JoinToken). */
  readonly stored: boolean;
  /** Fields beside apiVersion, kind, metadata and status that an operator may write. */
  readonly fields: readonly string[];
  readonly columns: readonly Column[];
}

/** Namespace whose policies hold for the whole mesh; writing there needs mesh-admin. Istio's name, so that its samples apply as they are. */
export const ROOT_NAMESPACE = 'istio-system';
/** Where objects without a namespace go. */
export const DEFAULT_NAMESPACE = 'default';
/** The one name that MeshConfig may have. */
export const MESH_CONFIG_NAME = 'default';

const ALL_VERBS: readonly Verb[] = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];
const NETWORKING = ['v1', 'v1beta1', 'v1alpha3'];
const SECURITY = ['v1', 'v1beta1'];

type Row = Partial<KindInfo> & { readonly kind: string; readonly plural: string; readonly group: string };

const AGE: Column = { name: 'Age', type: 'date', path: 'metadata.creationTimestamp', priority: 0 };

function text(columns: Readonly<Record<string, string>>): Column[] {
  return Object.entries(columns).map(([name, path]) => ({ name, type: 'string', path, priority: 0 }));
}

function kind(row: Row, columns: Readonly<Record<string, string>> = {}): KindInfo {
  const family = row.group.endsWith('.istio.io') ? ['istio-io', row.group.replaceAll('.', '-')] : [];
  return {
    versions: ['v1'],
    singular: row.kind.toLowerCase(),
    shortNames: [],
    categories: family,
    namespaced: true,
    verbs: ALL_VERBS,
    stored: true,
    fields: ['spec'],
    columns: [...text(columns), AGE],
    ...row,
  };
}

const networking = (name: string, plural: string, shortNames: string[], columns?: Record<string, string>): KindInfo =>
  kind({ group: 'networking.istio.io', versions: NETWORKING, kind: name, plural, shortNames }, columns);
const security = (name: string, plural: string, shortNames: string[], columns?: Record<string, string>): KindInfo =>
  kind({ group: 'security.istio.io', versions: SECURITY, kind: name, plural, shortNames }, columns);

/** Every kind, in the order in which discovery lists them. */
export const KINDS: readonly KindInfo[] = [
  kind({ group: '', kind: 'Namespace', plural: 'namespaces', shortNames: ['ns'], namespaced: false }),
  kind(
    { group: '', kind: 'Secret', plural: 'secrets', fields: ['data', 'stringData', 'type', 'immutable'] },
    { Type: 'type' },
  ),
  kind(
    { group: '', kind: 'Service', plural: 'services', shortNames: ['svc'] },
    { Type: 'spec.type', 'Cluster-IP': 'spec.clusterIP', 'Port(s)': 'spec.ports.port' },
  ),
  kind({
    group: '',
    kind: 'ServiceAccount',
    plural: 'serviceaccounts',
    shortNames: ['sa'],
    fields: ['automountServiceAccountToken', 'imagePullSecrets', 'secrets'],
  }),
  networking('DestinationRule', 'destinationrules', ['dr'], { Host: 'spec.host' }),
  networking('Gateway', 'gateways', ['gw']),
  networking('ServiceEntry', 'serviceentries', ['se'], {
    Hosts: 'spec.hosts',
    Location: 'spec.location',
    Resolution: 'spec.resolution',
  }),
  networking('Sidecar', 'sidecars', []),
  networking('VirtualService', 'virtualservices', ['vs'], { Gateways: 'spec.gateways', Hosts: 'spec.hosts' }),
  networking('WorkloadEntry', 'workloadentries', ['we'], { Address: 'spec.address' }),
  networking('WorkloadGroup', 'workloadgroups', ['wg'], { 'Service-Account': 'spec.template.serviceAccount' }),
  kind({ group: 'networking.istio.io', versions: ['v1beta1'], kind: 'ProxyConfig', plural: 'proxyconfigs' }),
  security('AuthorizationPolicy', 'authorizationpolicies', ['ap'], { Action: 'spec.action' }),
  security('PeerAuthentication', 'peerauthentications', ['pa'], { Mode: 'spec.mtls.mode' }),
  security('RequestAuthentication', 'requestauthentications', ['ra']),
  kind({
    group: 'telemetry.istio.io',
    versions: ['v1', 'v1alpha1'],
    kind: 'Telemetry',
    plural: 'telemetries',
    shortNames: ['telemetry'],
  }),
  kind(
    { group: 'hostmesh.io', kind: 'MeshConfig', plural: 'meshconfigs', shortNames: ['mc'], namespaced: false },
    { 'Outbound-Policy': 'spec.outboundTrafficPolicy.mode' },
  ),
  kind({
    group: 'hostmesh.io',
    kind: 'Host',
    plural: 'hosts',
    namespaced: false,
    verbs: ['get', 'list'],
    stored: false,
    columns: [
      ...text({
        Generation: 'status.generation',
        Acked: 'status.ackedGeneration',
        Envoy: 'status.envoyConnected',
        Groups: 'spec.workloadGroups',
        Revoked: 'spec.revoked',
      }),
      { name: 'Heard', type: 'date', path: 'status.reportedAt', priority: 0 },
      AGE,
    ],
  }),
  kind({
    group: 'hostmesh.io',
    kind: 'JoinToken',
    plural: 'jointokens',
    namespaced: false,
    verbs: ['create'],
    stored: false,
  }),
];

const BY_KIND: ReadonlyMap<string, KindInfo> = new Map(KINDS.map((info) => [info.kind, info]));

/** The kind called `name` (kind names are unique over all groups), e.g. from an ObjectKey. */
export function kindByName(name: string): KindInfo | undefined {
  return BY_KIND.get(name);
}

/** The kind of an object: every served version counts. Undefined for anything that is not ours. */
export function kindOf(apiVersion: string, name: string): KindInfo | undefined {
  const info = BY_KIND.get(name);
  const { group, version } = parseGroupVersion(apiVersion);
  return info !== undefined && info.group === group && info.versions.includes(version) ? info : undefined;
}

/** The kind served under a path `/apis/GROUP/VERSION/.../PLURAL` (group empty: `/api/v1`). */
export function kindByResource(group: string, version: string, plural: string): KindInfo | undefined {
  return KINDS.find((info) => info.group === group && info.plural === plural && info.versions.includes(version));
}

/** What an operator types: `vs`, `virtualservice(s)`, `VirtualService`, `virtualservices.networking.istio.io`. */
export function findKind(typed: string): KindInfo | undefined {
  const text = typed.toLowerCase();
  return KINDS.find(
    (info) =>
      [info.plural, info.singular, info.kind.toLowerCase(), ...info.shortNames].includes(text) ||
      (info.group !== '' && `${info.plural}.${info.group}` === text),
  );
}

/** `group/version`, or `version` for core. */
export function apiVersionOf(info: KindInfo, version = info.versions[0] as string): string {
  return info.group === '' ? version : `${info.group}/${version}`;
}

/** Splits an apiVersion; `v1` has the empty group. Not validated. */
export function parseGroupVersion(apiVersion: string): { group: string; version: string } {
  const slash = apiVersion.indexOf('/');
  return slash < 0
    ? { group: '', version: apiVersion }
    : { group: apiVersion.slice(0, slash), version: apiVersion.slice(slash + 1) };
}

/** Every group with its versions, storage version of most kinds first; core is the empty group. In discovery's order. */
export function groups(): readonly { readonly group: string; readonly versions: readonly string[] }[] {
  const found = new Map<string, string[]>();
  for (const info of KINDS) {
    const versions = found.get(info.group) ?? [];
    for (const version of info.versions) if (!versions.includes(version)) versions.push(version);
    found.set(info.group, versions);
  }
  return [...found].map(([group, versions]) => ({ group, versions }));
}

/** REST path of a collection or, with `name`, of one object, in the storage version. Namespaced kinds without a namespace: over all namespaces. */
export function resourcePath(info: KindInfo, namespace?: string, name?: string): string {
  const root = info.group === '' ? '/api/v1' : `/apis/${apiVersionOf(info)}`;
  const scope = info.namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : '';
  return `${root}${scope}/${info.plural}${name === undefined ? '' : `/${encodeURIComponent(name)}`}`;
}

/** The name in a form for people: `virtualservice.networking.istio.io/reviews`. */
export function displayName(info: KindInfo, name: string): string {
  return `${info.singular}${info.group === '' ? '' : `.${info.group}`}/${name}`;
}
