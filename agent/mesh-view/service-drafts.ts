import { annotatedExportTo } from '../../api/resources/export-to.ts';
import { ipVersion } from '../../api/resources/formats.ts';
import type { ObjectKey } from '../../api/resources/object.ts';
import type { DesiredConfig } from '../../api/signed-config/desired-config.ts';
import { serviceHost } from './host-names.ts';
import { inlineMember, type Member } from './members.ts';
import { type ObjectIndex, selects, type Typed } from './object-index.ts';
import { isGrpcWeb, type PortWords, protocolOf } from './protocols.ts';
import type { Recall } from './recall.ts';
import type { ServiceEntrySpec, ServiceSpec } from './specs/service.ts';
import type { HostView, Protocol, ServiceView } from './view.ts';

/** What services are made of. */
export interface ServiceSources {
  readonly desired: DesiredConfig;
  readonly objects: ObjectIndex;
  readonly members: ReadonlyMap<string, readonly Member[]>;
  /** The host that looks. */
  readonly host: HostView;
  readonly recall: Recall;
}

export interface PortSpec {
  readonly number: number;
  readonly name: string;
  readonly protocol: Protocol;
  readonly grpcWeb: boolean;
  readonly targetPort: number | string | undefined;
}

/** Everything of a service but what its members say. */
export interface Draft {
  readonly key: ObjectKey;
  readonly host: string;
  readonly namespace: string;
  readonly name: string;
  readonly addresses: readonly string[];
  readonly ports: readonly PortSpec[];
  readonly resolution: ServiceView['resolution'];
  readonly external: boolean;
  readonly headless: boolean;
  readonly closest: ServiceView['closest'];
  readonly exportTo: readonly string[] | undefined;
  readonly subjectAltNames: readonly string[];
  /** ExternalName: the service of the mesh, or the name outside it, that this one is another name for. */
  readonly alias: string | undefined;
  readonly members: readonly Member[];
}

/** Drafts of all objects, ExternalNames resolved. In order of kind, then age. */
export function drafts(given: ServiceSources): readonly Draft[] {
  const sources: DraftSources = { ...given, select: memberIndex(given.members) };
  const all = [
    ...sources.objects<ServiceSpec>('Service').map((service) => serviceDraft(service, sources)),
    ...sources.objects<ServiceEntrySpec>('ServiceEntry').flatMap((entry) => entryDrafts(entry, sources)),
  ];
  const byHost = new Map<string, Draft>();
  for (const draft of all) if (!byHost.has(draft.host)) byHost.set(draft.host, draft);
  return all.map((draft) => (draft.alias === undefined ? draft : resolved(draft, byHost, sources)));
}

/** Source: Kubernetes, Service, trafficDistribution; PreferClose is the older word for PreferSameZone. */
const CLOSEST: Readonly<Record<string, ServiceView['closest']>> = {
  PreferClose: 'zone',
  PreferSameZone: 'zone',
  PreferSameNode: 'host',
};

function serviceDraft(service: Typed<ServiceSpec>, sources: DraftSources): Draft {
  const { name, namespace, spec } = service;
  const host = serviceHost(name, namespace);
  const members = sources.select(spec.selector ?? {}, namespace);
  const local = spec.internalTrafficPolicy === 'Local';
  const here = local ? [sources.host.id, ...sources.host.addresses].join() : '';
  return sources.recall.part('draft', service, [sources.desired.vips.get(host), here, ...members], () => {
    const near = local ? members.map((member) => onHost(member, sources.host)) : members;
    return draftOf(service, host, vipsOf(host, sources.desired), near);
  });
}

function draftOf(
  { key, name, namespace, annotations, spec }: Typed<ServiceSpec>,
  host: string,
  vips: readonly string[],
  near: readonly Member[],
): Draft {
  const headless = spec.clusterIP === 'None';
  const alias = spec.type === 'ExternalName' ? spec.externalName?.toLowerCase().replace(/\.$/, '') : undefined;
  return {
    key,
    host,
    namespace,
    name,
    addresses: headless ? [] : families(spec, vips),
    ports: (spec.ports ?? []).map(({ name = '', port, appProtocol, targetPort }) =>
      portSpec(name, { declared: appProtocol, name, number: port }, targetPort),
    ),
    resolution: 'STATIC',
    external: false,
    headless,
    closest: CLOSEST[spec.trafficDistribution ?? ''],
    exportTo: annotatedExportTo(annotations),
    subjectAltNames: [],
    alias,
    members: alias !== undefined ? [] : spec.publishNotReadyAddresses === true ? near.map(evenNotReady) : near,
  };
}

function entryDrafts(entry: Typed<ServiceEntrySpec>, sources: DraftSources): Draft[] {
  const { namespace, spec } = entry;
  const { desired, recall } = sources;
  const selector = spec.workloadSelector?.labels;
  const chosen = selector === undefined || isAtRequest(spec) ? [] : sources.select(selector, namespace);
  return (spec.hosts ?? []).map((hostName, index) => {
    const host = hostName.toLowerCase();
    const inputs = [desired.vips.get(host), desired.trustDomain, ...chosen];
    return recall.part(`draft ${index}`, entry, inputs, () => draftOfEntry(entry, host, desired, chosen));
  });
}

/** Whether the client says itself, at each request, to which server it goes. */
function isAtRequest({ resolution = 'NONE' }: ServiceEntrySpec): boolean {
  return /^(NONE|DYNAMIC_DNS)$/.test(resolution);
}

function draftOfEntry(
  { key, name, namespace, spec }: Typed<ServiceEntrySpec>,
  host: string,
  desired: DesiredConfig,
  chosen: readonly Member[],
): Draft {
  const resolution = (spec.resolution ?? 'NONE') as ServiceView['resolution'];
  const owner = { key, namespace, name, trustDomain: desired.trustDomain };
  const inline = (spec.endpoints ?? []).map((endpoint, index) => inlineMember(endpoint, owner, index));
  // An address of the mesh's would keep the one that the client says from the proxy.
  const vips = isAtRequest(spec) ? [] : vipsOf(host, desired);
  // Istio: without endpoints or a selector the host itself is the name to resolve.
  const byName =
    /^DNS/.test(resolution) &&
    inline.length === 0 &&
    spec.workloadSelector?.labels === undefined &&
    !host.startsWith('*');
  return {
    key,
    host,
    namespace,
    name: host,
    addresses: (spec.addresses ?? []).length > 0 ? (spec.addresses as string[]) : vips,
    ports: (spec.ports ?? []).map(({ name, number, protocol, targetPort }) =>
      portSpec(name, { declared: protocol, number }, targetPort),
    ),
    resolution,
    external: spec.location !== 'MESH_INTERNAL',
    headless: false,
    closest: undefined,
    exportTo: spec.exportTo,
    subjectAltNames: spec.subjectAltNames ?? [],
    alias: undefined,
    members: byName ? [inlineMember({ address: host }, owner, 0)] : [...inline, ...chosen].map(usable(resolution)),
  };
}

function portSpec(name: string, words: PortWords, targetPort: number | string | undefined): PortSpec {
  const { number } = words;
  return {
    number,
    name,
    protocol: protocolOf(words),
    grpcWeb: isGrpcWeb(words),
    targetPort: targetPort === 0 ? undefined : targetPort,
  };
}

/** Another name for a service of the mesh: its members, at its ports. For any other name: that name, by DNS. */
function resolved(draft: Draft, byHost: ReadonlyMap<string, Draft>, sources: DraftSources): Draft {
  const seen = new Set<string>();
  let host = draft.alias as string;
  let target = byHost.get(host);
  while (target?.alias !== undefined && !seen.has(host)) {
    seen.add(host);
    host = target.alias;
    target = byHost.get(host);
  }
  if (target !== undefined && target.alias === undefined && target.resolution !== 'NONE') {
    const ports = draft.ports.flatMap((port): PortSpec[] => {
      const there = target.ports.find(({ number }) => number === Number(port.targetPort ?? port.number));
      if (there === undefined) return [];
      const protocol = port.protocol === 'AUTO' ? there.protocol : port.protocol;
      return [{ ...there, number: port.number, protocol }];
    });
    const { resolution, external, subjectAltNames, members } = target;
    return { ...draft, ports, resolution, external, subjectAltNames, members };
  }
  const owner = { ...draft, trustDomain: sources.desired.trustDomain };
  return { ...draft, resolution: 'DNS', external: true, members: [inlineMember({ address: host }, owner, 0)] };
}

function vipsOf(host: string, desired: DesiredConfig): string[] {
  const vip = desired.vips.get(host);
  return vip === undefined ? [] : [vip.v4, vip.v6].filter((address) => address !== '');
}

/** Families of a Service's own addresses: both, unless it asks for one. Source: Kubernetes, "IPv4/IPv6 dual-stack". */
function families({ ipFamilies, ipFamilyPolicy }: ServiceSpec, vips: readonly string[]): readonly string[] {
  const both = ipFamilyPolicy === 'PreferDualStack' || ipFamilyPolicy === 'RequireDualStack';
  const asked = ipFamilies?.filter((family) => family !== '') ?? [];
  if (both || (asked.length === 0 && ipFamilyPolicy !== 'SingleStack')) return vips;
  const wanted = ipFamilyPolicy === 'SingleStack' ? [asked[0] ?? 'IPv4'] : asked;
  return vips.filter((address) => wanted.includes(address.includes(':') ? 'IPv6' : 'IPv4'));
}

interface DraftSources extends ServiceSources {
  /** Members of a namespace that a selector selects, in their order. */
  select(selector: Readonly<Record<string, string>>, namespace: string): Member[];
}

/** Found by one of the selector's labels: hundreds of services that each look at hundreds of members were half the time of a view. */
function memberIndex(members: ServiceSources['members']): DraftSources['select'] {
  const byLabel = new Map<string, Member[]>();
  const keyOf = (namespace: string, name: string, value: string) => `${namespace}\n${name}\n${value}`;
  for (const [namespace, list] of members)
    for (const member of list)
      for (const [name, value] of Object.entries(member.labels)) {
        const key = keyOf(namespace, name, value);
        const known = byLabel.get(key);
        if (known === undefined) byLabel.set(key, [member]);
        else known.push(member);
      }
  return (selector, namespace) => {
    const lists = Object.entries(selector).map(([name, value]) => byLabel.get(keyOf(namespace, name, value)) ?? []);
    // Istio: a service's selector without labels selects nobody, unlike a policy's.
    const shortest = lists.reduce<readonly Member[]>(
      (best, list) => (list.length < best.length ? list : best),
      lists[0] ?? [],
    );
    return shortest.filter((member) => selects(selector, member.labels));
  };
}

function evenNotReady(member: Member): Member {
  const instances = member.instances.map((one) =>
    one.health === 'unhealthy' ? { ...one, health: 'healthy' as const } : one,
  );
  return { ...member, instances };
}

/** internalTrafficPolicy Local: what this very host serves. */
function onHost(member: Member, { id, addresses }: HostView): Member {
  const here = member.instances.filter(
    (instance) => instance.host === id || instance.addresses.some((address) => addresses.includes(address)),
  );
  return { ...member, instances: here };
}

/** Names to resolve are for resolution DNS only: of other services they are no endpoints. */
function usable(resolution: ServiceView['resolution']): (member: Member) => Member {
  if (resolution !== 'STATIC') return (member) => member;
  return (member) => {
    const numeric = ({ addresses }: { addresses: readonly string[] }) => addresses.every((a) => ipVersion(a) !== 0);
    if (member.instances.every(numeric)) return member;
    return { ...member, instances: member.instances.filter(numeric) };
  };
}
