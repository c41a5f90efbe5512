import type { ObjectKey } from '../../api/resources/object.ts';
import type { DesiredConfig } from '../../api/signed-config/desired-config.ts';
import { serviceHost } from './host-names.ts';
import { type Instance, inlineMember, type Member } from './members.ts';
import { compare, type ObjectIndex, selects, type Typed } from './object-index.ts';
import { protocolOf } from './protocols.ts';
import type { ServiceEntrySpec, ServiceSpec } from './specs/service.ts';
import type { EndpointView, Protocol, ServicePort, ServiceView, Transport } from './view.ts';

/** What services are made of. */
export interface ServiceSources {
  readonly desired: DesiredConfig;
  readonly objects: ObjectIndex;
  readonly members: ReadonlyMap<string, readonly Member[]>;
}

interface PortSpec {
  readonly number: number;
  readonly name: string;
  readonly protocol: Protocol;
  readonly targetPort: number | string | undefined;
}

/** Everything of a service but what its members say. */
interface Draft {
  readonly key: ObjectKey;
  readonly host: string;
  readonly namespace: string;
  readonly name: string;
  readonly addresses: readonly string[];
  readonly ports: readonly PortSpec[];
  readonly resolution: ServiceView['resolution'];
  readonly external: boolean;
  readonly exportTo: readonly string[] | undefined;
  readonly members: readonly Member[];
}

/** A service and who its members are, the latter for inbound ports of local workloads. */
export interface BuiltService {
  readonly view: ServiceView;
  /** Port number at which `member` serves the service's port, or undefined. */
  targetOf(member: Member, port: ServicePort): number | undefined;
  readonly members: readonly Member[];
}

/** Every service of the mesh, by host and namespace. Of several objects of one namespace for one host the oldest decides; others add ports. */
export function buildServices(sources: ServiceSources): readonly BuiltService[] {
  const drafts = [
    ...sources.objects<ServiceSpec>('Service').map((service) => serviceDraft(service, sources)),
    ...sources.objects<ServiceEntrySpec>('ServiceEntry').flatMap((entry) => entryDrafts(entry, sources)),
  ];
  const byId = new Map<string, Draft[]>();
  for (const draft of drafts) {
    const id = `${draft.host}\n${draft.namespace}`;
    byId.set(id, [...(byId.get(id) ?? []), draft]);
  }
  return [...byId.entries()]
    .sort((a, b) => compare(a[0], b[0]))
    .map(([, same]) => build(merge(same), same.map((draft) => draft.key).sort(compare)));
}

function serviceDraft({ key, name, namespace, spec }: Typed<ServiceSpec>, sources: ServiceSources): Draft {
  const host = serviceHost(name, namespace);
  const selector = spec.selector ?? {};
  return {
    key,
    host,
    namespace,
    name,
    addresses: vipsOf(host, sources.desired),
    ports: (spec.ports ?? []).map((port) => ({
      number: port.port,
      name: port.name ?? '',
      protocol: protocolOf({ declared: port.appProtocol, name: port.name, number: port.port }),
      targetPort: port.targetPort,
    })),
    resolution: 'STATIC',
    external: false,
    exportTo: undefined,
    members: Object.keys(selector).length === 0 ? [] : selected(selector, namespace, sources),
  };
}

function entryDrafts({ key, name, namespace, spec }: Typed<ServiceEntrySpec>, sources: ServiceSources): Draft[] {
  const resolution = (spec.resolution ?? 'NONE') as ServiceView['resolution'];
  const selector = spec.workloadSelector?.labels;
  return (spec.hosts ?? []).map((hostName) => {
    const host = hostName.toLowerCase();
    const owner = { key, namespace, name, trustDomain: sources.desired.trustDomain };
    const inline = (spec.endpoints ?? []).map((endpoint, index) => inlineMember(endpoint, owner, index));
    const byName = resolution.startsWith('DNS') && inline.length === 0 && !host.startsWith('*');
    return {
      key,
      host,
      namespace,
      name: host,
      addresses: (spec.addresses ?? []).length > 0 ? (spec.addresses as string[]) : vipsOf(host, sources.desired),
      ports: (spec.ports ?? [])
        .filter((port) => port.protocol?.toUpperCase() !== 'UDP')
        .map((port) => ({
          number: port.number,
          name: port.name,
          protocol: protocolOf({ declared: port.protocol, number: port.number }),
          targetPort: port.targetPort,
        })),
      resolution,
      external: spec.location !== 'MESH_INTERNAL',
      exportTo: spec.exportTo,
      members: byName
        ? [inlineMember({ address: host }, owner, 0)]
        : [...inline, ...(selector === undefined ? [] : selected(selector, namespace, sources))],
    };
  });
}

function vipsOf(host: string, desired: DesiredConfig): string[] {
  const vip = desired.vips.get(host);
  return vip === undefined ? [] : [vip.v4, vip.v6].filter((address) => address !== '');
}

function selected(
  selector: Readonly<Record<string, string>>,
  namespace: string,
  { members }: ServiceSources,
): Member[] {
  return (members.get(namespace) ?? []).filter((member) => selects(selector, member.labels));
}

/** Objects of one namespace for one host: the oldest is the service; a younger one only adds ports that the older ones lack. */
function merge(same: readonly Draft[]): Draft {
  const first = same[0] as Draft;
  const alike = same.filter((draft) => draft.resolution === first.resolution);
  const ports = new Map<number, PortSpec>();
  for (const port of alike.flatMap((draft) => draft.ports)) if (!ports.has(port.number)) ports.set(port.number, port);
  return {
    ...first,
    addresses: [...new Set(alike.flatMap((draft) => draft.addresses))],
    ports: [...ports.values()],
    members: [...new Set(alike.flatMap((draft) => draft.members))],
  };
}

function build(merged: Draft, origins: readonly ObjectKey[]): BuiltService {
  const draft = { ...merged, members: merged.external ? merged.members.map(outside) : merged.members };
  const specs = new Map(draft.ports.map((port) => [port.number, port]));
  const targetOf = (member: Member, port: { readonly number: number }) => target(member, specs.get(port.number));
  const numbers = [...specs.keys()].sort((a, b) => a - b);
  const ports = numbers.map((number): ServicePort => {
    const { name, protocol } = specs.get(number) as PortSpec;
    return { number, name, protocol, transport: transportOf(draft.members, (member) => targetOf(member, { number })) };
  });
  return {
    view: {
      host: draft.host,
      namespace: draft.namespace,
      name: draft.name,
      addresses: draft.addresses,
      ports,
      resolution: draft.resolution,
      external: draft.external,
      exportTo: draft.exportTo,
      endpoints: draft.members
        .flatMap((member) => member.instances.map((instance) => endpointOf(member, instance, ports, targetOf)))
        .sort((a, b) => compare(a.id, b.id)),
      identities: [...new Set(draft.members.map((member) => member.spiffeId))].sort(compare),
      origins: [...new Set([...origins, ...draft.members.map((member) => member.key)])].sort(compare),
    },
    targetOf,
    members: merged.members,
  };
}

/** A member of a service outside the mesh: spoken to by mTLS only where gossip vouches for it. */
function outside(member: Member): Member {
  return member.byLabel ? { ...member, mtls: () => false, transport: () => 'plain' } : member;
}

/** Port of a member for a service's port: its own port of that name, else targetPort by number or name, else the same number (Istio's order). */
function target(member: Member, port: PortSpec | undefined): number | undefined {
  if (port === undefined) return undefined;
  const named = port.name === '' ? undefined : member.ports[port.name];
  if (typeof port.targetPort === 'string' && !/^\d+$/.test(port.targetPort)) return member.ports[port.targetPort];
  if (named !== undefined) return named;
  return port.targetPort === undefined ? port.number : Number(port.targetPort);
}

function transportOf(members: readonly Member[], portOf: (member: Member) => number | undefined): Transport {
  const kinds = new Set<Transport>();
  for (const member of members) {
    const port = portOf(member);
    if (port !== undefined) kinds.add(member.transport(port));
  }
  if (kinds.size === 0) return 'plain';
  return kinds.size === 1 ? ([...kinds][0] as Transport) : 'mixed';
}

function endpointOf(
  member: Member,
  instance: Instance,
  ports: readonly ServicePort[],
  targetOf: BuiltService['targetOf'],
): EndpointView {
  const served: Record<number, { port: number; mtls: boolean }> = {};
  for (const port of ports) {
    const number = targetOf(member, port);
    if (number !== undefined) served[port.number] = { port: number, mtls: member.mtls(number) };
  }
  return {
    id: instance.id,
    addresses: instance.addresses,
    ports: served,
    labels: member.labels,
    locality: member.locality,
    weight: Math.max(1, instance.weight),
    health: instance.health,
    namespace: member.namespace,
    workload: member.name,
  };
}
