import type { EndpointSnapshot, HostEntry, WorkloadRecord } from '../../api/gossip/host-record.ts';
import { workloadSpiffeId } from '../../api/identity/spiffe-id.ts';
import { isGatewayGroup } from '../../api/resources/gateway-binding.ts';
import { keyOf, type ObjectKey, objectKey } from '../../api/resources/object.ts';
import type { DesiredConfig } from '../../api/signed-config/desired-config.ts';
import { compare, type ObjectIndex, type Typed } from './object-index.ts';
import type { MtlsLookup } from './peer-authentication.ts';
import type { Recall } from './recall.ts';
import type { WorkloadGroupSpec, WorkloadSpec } from './specs/service.ts';
import type { Health, Transport } from './view.ts';

/** Label by which a pushed WorkloadEntry or endpoint says that it speaks the mesh's mTLS (Istio's own label). */
const TLS_MODE_LABEL = 'security.istio.io/tlsMode';

/** One address of a member that serves now. */
export interface Instance {
  readonly id: string;
  readonly addresses: readonly string[];
  readonly weight: number;
  readonly health: Health;
  /** Host of the mesh that it is on, where gossip says one. */
  readonly host?: string;
  /** Network that its addresses are of; absent: reached from everywhere. */
  readonly network?: string;
}

/**
 * Something that a service's selector can select: a WorkloadGroup (served by the hosts that gossip says) or a WorkloadEntry. What is here
 * besides `instances` comes from signed config alone.
 */
export interface Member {
  readonly key: ObjectKey;
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ports: Readonly<Record<string, number>>;
  readonly locality: string;
  readonly spiffeId: string;
  /** False: `spiffeId` is the namespace's default account, that nobody named. */
  readonly named: boolean;
  /** Whether peers speak mTLS to a port of it now. */
  mtls(port: number): boolean;
  /** The same by config alone: `mixed` where gossip decides. */
  transport(port: number): Transport;
  /** Nothing but its own label says that it speaks mTLS: services outside the mesh (MESH_EXTERNAL) do not go by that. */
  readonly byLabel: boolean;
  readonly instances: readonly Instance[];
}

/** What members are made of. */
export interface MemberSources {
  readonly desired: DesiredConfig;
  readonly endpoints: EndpointSnapshot;
  readonly objects: ObjectIndex;
  readonly mtls: MtlsLookup;
  readonly recall: Recall;
  /** True where hosts of that network are reached by its gateways: their own addresses answer no probe from here. */
  behindGateway(network: string | undefined): boolean;
}

/** Every member of the mesh, by namespace. Hosts that are dead, left, revoked or not granted the group serve nothing. */
export function membersByNamespace(sources: MemberSources): ReadonlyMap<string, readonly Member[]> {
  const live = liveHosts(sources);
  const groups = sources.objects<WorkloadGroupSpec>('WorkloadGroup');
  const gateways = gatewayGroups(sources);
  const entries = sources
    .objects<WorkloadSpec>('WorkloadEntry')
    .map((entry) => entryMember(entry, groups, sources, live, gateways));
  const taken = new Set(entries.flatMap((entry) => (entry.covers === undefined ? [] : [entry.covers])));
  const members = [
    ...groups.map((group) => groupMember(group, sources, live, taken, gateways.has(group.key))),
    ...entries.map((entry) => entry.member),
  ];
  const byNamespace = new Map<string, Member[]>();
  for (const member of members.sort((a, b) => compare(a.key, b.key))) {
    const known = byNamespace.get(member.namespace);
    if (known === undefined) byNamespace.set(member.namespace, [member]);
    else known.push(member);
  }
  return byNamespace;
}

/** Groups that are gateways: as in Istio, nobody speaks the mesh's mTLS to them unless a DestinationRule says so; their ports are their Gateways'. */
function gatewayGroups({ desired, objects, recall }: MemberSources): ReadonlySet<ObjectKey> {
  return recall.part('gateway groups', objects('Gateway'), [objects('WorkloadGroup')], () => {
    const all = [...desired.objects.values()];
    const gateways = all.filter((object) => object.kind === 'Gateway');
    const groups = all.filter((object) => object.kind === 'WorkloadGroup' && isGatewayGroup(object, gateways));
    return new Set(groups.map(keyOf));
  });
}

interface LiveWorkload {
  readonly host: string;
  readonly entry: HostEntry;
  readonly record: WorkloadRecord;
}

/** Workloads of usable hosts by group, sorted by host. A suspect host still serves: only the observer's own probes take it out. */
function liveHosts({ desired, endpoints }: MemberSources): ReadonlyMap<string, readonly LiveWorkload[]> {
  const byGroup = new Map<string, LiveWorkload[]>();
  for (const host of [...endpoints.hosts.keys()].sort(compare)) {
    const entry = endpoints.hosts.get(host) as HostEntry;
    const grant = desired.hosts.get(host);
    const usable = (entry.liveness === 'alive' || entry.liveness === 'suspect') && entry.record.leaving !== true;
    if (!usable || grant === undefined || desired.revokedHosts.has(host)) continue;
    for (const record of entry.record.workloads) {
      if (!grant.workloadGroups.includes(record.group)) continue;
      byGroup.set(record.group, [...(byGroup.get(record.group) ?? []), { host, entry, record }]);
    }
  }
  return byGroup;
}

function groupMember(
  group: Typed<WorkloadGroupSpec>,
  { desired, mtls, behindGateway, recall }: MemberSources,
  live: ReadonlyMap<string, readonly LiveWorkload[]>,
  taken: ReadonlySet<string>,
  isGateway: boolean,
): Member {
  const template = group.spec.template ?? {};
  const id = `${group.namespace}/${group.name}`;
  const instances = (live.get(id) ?? []).flatMap(({ host, entry, record }): Instance[] => {
    const network = template.network || entry.record.network;
    const addresses = ipv4First(behindGateway(network) ? entry.record.addresses : entry.provenAddresses);
    if (addresses.length === 0 || taken.has(`${host}/${id}`)) return [];
    const weight = record.weight || template.weight || 1;
    return [{ id: `${host}/${id}`, addresses, weight, health: record.health, host, network }];
  });
  const { trustDomain } = desired;
  return recall.part('member', group, [mtls, trustDomain, isGateway, ...instances.flatMap(factsOf)], () => {
    const labels = { ...group.spec.metadata?.labels, ...template.labels };
    const modes = mtls(group.namespace, labels);
    return {
      key: objectKey('WorkloadGroup', group.namespace, group.name),
      namespace: group.namespace,
      name: group.name,
      labels,
      ports: template.ports ?? {},
      locality: template.locality ?? '',
      spiffeId: workloadSpiffeId(trustDomain, group.namespace, template.serviceAccount || 'default'),
      named: true,
      mtls: (port) => !isGateway && modes.modeOf(port) !== 'DISABLE',
      transport: (port) => (isGateway || modes.modeOf(port) === 'DISABLE' ? 'plain' : 'mtls'),
      byLabel: false,
      instances,
    };
  });
}

/** All that an instance says, in a row. */
function factsOf({ id, weight, health, host, network, addresses }: Instance): readonly unknown[] {
  return [id, weight, health, host, network, addresses.length, ...addresses];
}

/**
 * A WorkloadEntry. Where a granted host serves a group of the same namespace and service account on the entry's address, the two are one
 * endpoint: address and labels from the entry, liveness and mTLS from the host (DESIGN 3.7). An entry that no host covers stands by itself.
 */
function entryMember(
  entry: Typed<WorkloadSpec>,
  groups: readonly Typed<WorkloadGroupSpec>[],
  sources: MemberSources,
  live: ReadonlyMap<string, readonly LiveWorkload[]>,
  gateways: ReadonlySet<ObjectKey>,
): { readonly member: Member; readonly covers: string | undefined } {
  const { spec, namespace } = entry;
  const labels = { ...entry.labels, ...spec.labels };
  const address = spec.address ?? '';
  const account = spec.serviceAccount || undefined;
  const candidates = groups.filter(
    (group) =>
      group.namespace === namespace &&
      (account === undefined || (group.spec.template?.serviceAccount || 'default') === account),
  );
  const covering = candidates
    .flatMap((group) => live.get(`${group.namespace}/${group.name}`) ?? [])
    .find((workload) => workload.entry.provenAddresses.includes(address));
  const granted = covering ?? grantedButGone(candidates, sources, address);
  const gateway = covering !== undefined && gateways.has(`WorkloadGroup/${covering.record.group}`);
  const speaking = candidates.filter((group) => !gateways.has(group.key));
  const alive = granted === undefined || covering !== undefined;
  const known = {
    meshed: (granted !== undefined && !gateway) || labels[TLS_MODE_LABEL] === 'istio',
    mayMesh: speaking.length > 0,
    alone: candidates.length === 0,
    named: account !== undefined || granted !== undefined,
  };
  const instance = {
    id: entry.key,
    addresses: address === '' ? [] : [address],
    weight: spec.weight || covering?.record.weight || 1,
    health: covering?.record.health ?? ('healthy' as const),
    host: covering?.host,
    network: spec.network || covering?.entry.record.network,
  };
  // Without an address it is one of its network's, behind the gateway there.
  const instances = alive && (address !== '' || sources.behindGateway(instance.network)) ? [instance] : [];
  const { mtls, desired, recall } = sources;
  const inputs = [mtls, desired.trustDomain, ...Object.values(known), ...instances.flatMap(factsOf)];
  return {
    covers: covering === undefined ? undefined : `${covering.host}/${covering.record.group}`,
    member: recall.part('member', entry, inputs, () => madeOfEntry(entry, sources, known, instances)),
  };
}

/** What config and hosts say of a WorkloadEntry. */
interface KnownOfEntry {
  /** A host of the mesh serves there, or its label says so. */
  readonly meshed: boolean;
  /** Some group that could serve there speaks the mesh's mTLS. */
  readonly mayMesh: boolean;
  /** No group could serve there. */
  readonly alone: boolean;
  readonly named: boolean;
}

function madeOfEntry(
  entry: Typed<WorkloadSpec>,
  { mtls, desired }: MemberSources,
  { meshed, mayMesh, alone, named }: KnownOfEntry,
  instances: readonly Instance[],
): Member {
  const { spec, namespace } = entry;
  const labels = { ...entry.labels, ...spec.labels };
  const modes = mtls(namespace, labels);
  const labelled = labels[TLS_MODE_LABEL] === 'istio';
  return {
    key: entry.key,
    namespace,
    name: entry.name,
    labels,
    ports: spec.ports ?? {},
    locality: spec.locality ?? '',
    spiffeId: workloadSpiffeId(desired.trustDomain, namespace, spec.serviceAccount || 'default'),
    named,
    mtls: (port) => meshed && modes.modeOf(port) !== 'DISABLE',
    transport: (port) => {
      if (modes.modeOf(port) === 'DISABLE') return 'plain';
      return labelled ? 'mtls' : mayMesh ? 'mixed' : 'plain';
    },
    byLabel: alone && labelled,
    instances,
  };
}

/** A known host of the mesh that holds the entry's address and one of the groups, but is dead, left or revoked: the entry is dead too. */
function grantedButGone(
  candidates: readonly Typed<WorkloadGroupSpec>[],
  { desired, endpoints }: MemberSources,
  address: string,
): true | undefined {
  const ids = new Set(candidates.map((group) => `${group.namespace}/${group.name}`));
  for (const [host, entry] of endpoints.hosts) {
    if (!entry.record.addresses.includes(address)) continue;
    if (
      entry.record.workloads.some((w) => ids.has(w.group) && desired.hosts.get(host)?.workloadGroups.includes(w.group))
    )
      return true;
  }
  return undefined;
}

/** IPv4 before IPv6, each in the order given: the first is what Envoy tries first. */
export function ipv4First(addresses: readonly string[]): readonly string[] {
  return [...addresses.filter((a) => !a.includes(':')), ...addresses.filter((a) => a.includes(':'))];
}

/** What a ServiceEntry's own endpoint is: a member that only that service selects. */
export function inlineMember(
  spec: WorkloadSpec,
  owner: { readonly key: ObjectKey; readonly namespace: string; readonly name: string; readonly trustDomain: string },
  index: number,
): Member {
  const labels = spec.labels ?? {};
  return {
    key: owner.key,
    namespace: owner.namespace,
    name: owner.name,
    labels,
    ports: spec.ports ?? {},
    locality: spec.locality ?? '',
    spiffeId: workloadSpiffeId(owner.trustDomain, owner.namespace, spec.serviceAccount || 'default'),
    named: spec.serviceAccount !== undefined && spec.serviceAccount !== '',
    mtls: () => labels[TLS_MODE_LABEL] === 'istio',
    transport: () => (labels[TLS_MODE_LABEL] === 'istio' ? 'mtls' : 'plain'),
    byLabel: true,
    instances: [
      {
        id: `${owner.key}#${String(index).padStart(4, '0')}`,
        addresses: spec.address ? [spec.address] : [],
        weight: spec.weight || 1,
        health: 'healthy',
        network: spec.network || undefined,
      },
    ],
  };
}
