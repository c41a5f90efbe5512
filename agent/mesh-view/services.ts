import { isMeshPort } from '../../api/resources/formats.ts';
import type { ObjectKey } from '../../api/resources/object.ts';
import type { Instance, Member } from './members.ts';
import { acrossNetworks, networkGateways, type Placed } from './networks.ts';
import { compare } from './object-index.ts';
import { type Draft, drafts, type PortSpec, type ServiceSources } from './service-drafts.ts';
import type { EndpointView, ServicePort, ServiceView, Transport } from './view.ts';

/** A service and who its members are, the latter for inbound ports of local workloads. */
export interface BuiltService {
  readonly view: ServiceView;
  /** Port number at which `member` serves the service's port, or undefined. */
  targetOf(member: Member, port: ServicePort): number | undefined;
  /** Whether that WorkloadGroup or WorkloadEntry is among those that the service selects. */
  serves(key: ObjectKey): boolean;
}

/** Every service of the mesh, by host and namespace. Of several objects of one namespace for one host the oldest decides; others add ports. */
export function buildServices(sources: ServiceSources): readonly BuiltService[] {
  const byId = new Map<string, Draft[]>();
  for (const draft of drafts(sources)) {
    const id = `${draft.host}\n${draft.namespace}`;
    byId.set(id, [...(byId.get(id) ?? []), draft]);
  }
  const { objects, members, host, recall } = sources;
  const gateways = networkGateways(objects, members);
  const reach: Reach = (placed) => acrossNetworks(placed, host.network, gateways);
  const network = JSON.stringify([host.network, [...gateways]]);
  return [...byId.entries()]
    .sort((a, b) => compare(a[0], b[0]))
    .map(([, same]) =>
      recall.part('service', same[0] as Draft, [network, ...same], () =>
        build(merge(same), same.map((draft) => draft.key).sort(compare), reach),
      ),
    );
}

/** Endpoints as this host gets to them. */
type Reach = (placed: readonly Placed[]) => readonly EndpointView[];

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
    subjectAltNames: [...new Set(alike.flatMap((draft) => draft.subjectAltNames))],
    members: distinct(alike.flatMap((draft) => draft.members)),
  };
}

/** One of each member; endpoints written into objects share their object's key. */
function distinct(members: readonly Member[]): Member[] {
  const seen = new Set<string>();
  return members.filter((member) => {
    const id = member.instances[0]?.id ?? member.key;
    const known = seen.has(id);
    seen.add(id);
    return !known;
  });
}

function build(merged: Draft, origins: readonly ObjectKey[], reach: Reach): BuiltService {
  const draft = { ...merged, members: merged.external ? merged.members.map(outside) : merged.members };
  const specs = new Map(draft.ports.map((port) => [port.number, port]));
  const targetOf = (member: Member, port: { readonly number: number }) => target(member, specs.get(port.number));
  const numbers = [...specs.keys()].sort((a, b) => a - b);
  const ports = numbers.map((number): ServicePort => {
    const { name, protocol, grpcWeb, targetPort } = specs.get(number) as PortSpec;
    const transport = transportOf(draft.members, (member) => targetOf(member, { number }));
    const own = atRequest(draft) && typeof targetPort === 'number' && targetPort !== number;
    return {
      number,
      name,
      protocol,
      transport,
      ...(own ? { targetPort } : {}),
      ...(grpcWeb ? { grpcWeb } : {}),
    };
  });
  const placed = draft.members.flatMap((member) =>
    member.instances.map((instance) => ({
      endpoint: endpointOf(member, instance, ports, targetOf),
      network: instance.network,
    })),
  );
  const keys = new Set(merged.members.map((member) => member.key));
  return {
    view: {
      host: draft.host,
      namespace: draft.namespace,
      name: draft.name,
      addresses: draft.addresses,
      ports,
      resolution: draft.resolution,
      ...(draft.headless ? { headless: true } : {}),
      ...(draft.closest === undefined ? {} : { closest: draft.closest }),
      external: draft.external,
      exportTo: draft.exportTo,
      subjectAltNames: draft.subjectAltNames,
      endpoints: reach(placed),
      identities: identities(draft),
      origins: [...new Set([...origins, ...keys])].sort(compare),
    },
    targetOf,
    serves: (key) => keys.has(key),
  };
}

/** Whether the server is found out at each request: no endpoint says its port. */
function atRequest({ resolution }: Draft): boolean {
  return resolution === 'NONE' || resolution === 'DYNAMIC_DNS';
}

/**
 * SPIFFE IDs that a server may have: its members', and those that a ServiceEntry lists. Where it lists some, an endpoint whose account nobody
 * named adds none (Istio: "subjectAltNames").
 */
function identities({ members, subjectAltNames }: Draft): readonly string[] {
  const listed = subjectAltNames.filter((name) => name.startsWith('spiffe://'));
  const named = subjectAltNames.length === 0 ? members : members.filter((member) => member.named);
  return [...new Set([...named.map((member) => member.spiffeId), ...listed])].sort(compare);
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
    // The mesh's own ports are nobody's to serve: a name, or a host's address, would lead there.
    if (number !== undefined && !isMeshPort(number)) served[port.number] = { port: number, mtls: member.mtls(number) };
  }
  return {
    id: instance.id,
    addresses: instance.addresses,
    ports: served,
    labels: member.labels,
    locality: member.locality,
    weight: Math.max(1, instance.weight),
    health: instance.health,
    ...(instance.host === undefined ? {} : { host: instance.host }),
    namespace: member.namespace,
    workload: member.name,
  };
}
