/**
 * Room agent/mesh-view. In: verified config, the endpoint table, this host's workloads. Out: one immutable MeshView: services with their
 * endpoints, rules that this host sees, modes and policies of its own ports. Pure: reads no clock, no environment, does no IO.
 * Never: trusts gossip for anything but address, health and load (DESIGN 3.7); labels, ports and identities come from signed config.
 */
import type { EndpointSnapshot } from '../../api/gossip/host-record.ts';
import { hostDnsName } from '../../api/identity/spiffe-id.ts';
import { type ObjectKey, objectKey } from '../../api/resources/object.ts';
import type { DesiredConfig, Vip } from '../../api/signed-config/desired-config.ts';
import { gatewayViews } from './gateways.ts';
import { resolveHost } from './host-names.ts';
import { type Member, membersByNamespace } from './members.ts';
import { type MeshSettings, meshSettings } from './mesh-settings.ts';
import { gatewayNetworks } from './networks.ts';
import { compare, indexObjects, type ObjectIndex, type Typed } from './object-index.ts';
import { type MtlsLookup, mtlsLookup } from './peer-authentication.ts';
import { type PortClaims, portClaims } from './port-claims.ts';
import { protocolOf } from './protocols.ts';
import { proxyConcurrency } from './proxy-config.ts';
import { createRecall, RECALL_NOTHING, type Recall } from './recall.ts';
import { type BuiltService, buildServices } from './services.ts';
import { share } from './share.ts';
import { egressViews, ingressPorts, outboundOf, type SidecarLookup, sidecarLookup } from './sidecars.ts';
import type { DestinationRuleSpec } from './specs/destination-rule.ts';
import type { MeshConfigSpec } from './specs/mesh-config.ts';
import type { SidecarSpec } from './specs/sidecar.ts';
import type {
  DestinationRuleView,
  HostView,
  InboundPort,
  MeshView,
  Protocol,
  ServiceView,
  WorkloadView,
} from './view.ts';
import { virtualServiceViews } from './virtual-services.ts';

/** The part of agent/workloads' LocalWorkload that a view needs. */
export interface LocalWorkloadInput {
  readonly group: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly spiffeId: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly outboundPort: number;
  readonly gateway?: true;
  readonly ports: readonly { readonly name: string; readonly number: number }[];
}

export interface MeshViewInput {
  readonly desired: DesiredConfig;
  readonly endpoints: EndpointSnapshot;
  /** In the order of agent.yaml. */
  readonly workloads: readonly LocalWorkloadInput[];
  readonly host: HostView;
  /** Ports that no workload may have, nor any socket of the proxy's for it: the host's own and agent.yaml's. */
  readonly reservedPorts?: ReadonlySet<number>;
}

/** Virtual IPv4 addresses of every mesh (DESIGN 7). */
const VIP_RANGE_V4 = '240.240.0.0/16';

/**
 * Builds one view after the other: what a change does not concern is not made anew, and is the very same object as in the view before, which
 * is what translation remembers its results by. The views are those of `buildMeshView`.
 */
export function createMeshViews(): (input: MeshViewInput) => MeshView {
  const recall = createRecall();
  let last: MeshView | undefined;
  return (input) => {
    last = share(last, buildMeshView(input, recall));
    recall.endOfView();
    return last;
  };
}

/** Builds a view. Same inputs, same view. Never throws: what contradicts itself is resolved as Istio does, the older object winning. */
export function buildMeshView(input: MeshViewInput, recall: Recall = RECALL_NOTHING): MeshView {
  const { desired, endpoints, workloads, host, reservedPorts } = input;
  const objects = indexObjects(desired.objects, recall);
  const mtls = recall.part('mtls', objects('PeerAuthentication'), [], () => mtlsLookup(objects));
  const { members, services } = recall.whole('services', factsOfServices(input, objects, mtls), (parts) => {
    const far = gatewayNetworks(objects, host.network);
    const behindGateway = (network: string | undefined) => network !== undefined && far.has(network);
    const members = membersByNamespace({ desired, endpoints, objects, mtls, behindGateway, recall: parts });
    return { members, services: buildServices({ desired, objects, members, host, recall: parts }) };
  });
  const config = objects<MeshConfigSpec>('MeshConfig')[0];
  const mesh = recall.part('mesh', '', [config], () => meshSettings(config));
  const localityLb = config?.spec.localityLbSetting;
  const concurrency = proxyConcurrency(objects, workloads, config?.spec.defaultConfig?.concurrency);
  const claims = portClaims(reservedPorts ?? new Set());
  const own = workloadViews({ workloads, members, services, mtls, mesh, sidecars: sidecarLookup(objects), claims });
  const gateways = gatewayViews({ desired, objects, members, services, workloads: own });
  return {
    generation: desired.generation,
    trustDomain: desired.trustDomain,
    host: located(host, workloads, members),
    vipRanges: vipRanges(desired),
    mesh,
    ...(localityLb === undefined ? {} : { localityLb }),
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(mesh.retries === undefined ? {} : { defaultRetries: mesh.retries }),
    workloads: own,
    gateways: gateways.listeners,
    gatewayProblems: gateways.problems,
    portProblems: claims.problems,
    services: services.map(({ view }) => recall.part('under mesh', view, [mesh], () => underMesh(view, mesh))),
    virtualServices: virtualServiceViews(objects, recall).map((vs) =>
      recall.part('exported', vs, [mesh], () => exported(vs, mesh.exportTo.virtualServices)),
    ),
    destinationRules: objects<DestinationRuleSpec>('DestinationRule').map((rule) =>
      recall.part('view', rule, [mesh], () => exported(ruleView(rule), mesh.exportTo.destinationRules)),
    ),
    revokedNames: [...desired.revokedHosts].map((id) => hostDnsName(desired.trustDomain, id)).sort(compare),
  };
}

/** All that members and services are made of: kinds of objects, VIPs, grants, hosts and how they are, and who looks. */
function factsOfServices(
  { desired, endpoints, host }: MeshViewInput,
  objects: ObjectIndex,
  mtls: MtlsLookup,
): readonly unknown[] {
  const kinds = ['Service', 'ServiceEntry', 'WorkloadGroup', 'WorkloadEntry', 'Gateway'].map((kind) => objects(kind));
  const facts: unknown[] = [...kinds, mtls, desired.trustDomain, host.id, host.network, host.addresses.join()];
  facts.push(desired.vips.size, desired.hosts.size, desired.revokedHosts.size);
  for (const [name, vip] of desired.vips) facts.push(name, vip);
  for (const [id, grant] of desired.hosts) facts.push(id, grant);
  facts.push(...desired.revokedHosts);
  for (const [id, { liveness, record, provenAddresses }] of endpoints.hosts)
    facts.push(id, liveness, record, provenAddresses);
  return facts;
}

/** The host with its place: agent.yaml's, else that of the first of its workloads whose WorkloadGroup has one (Istio does so for its VMs). */
function located(
  host: HostView,
  workloads: readonly LocalWorkloadInput[],
  members: ReadonlyMap<string, readonly Member[]>,
): HostView {
  if (host.locality !== '') return host;
  for (const { group, namespace } of workloads) {
    const key = objectKey('WorkloadGroup', namespace, group.slice(namespace.length + 1));
    const locality = members.get(namespace)?.find((member) => member.key === key)?.locality ?? '';
    if (locality !== '') return { ...host, locality };
  }
  return host;
}

/** A service as MeshConfig has it where its own object says nothing: to whom it is exported, and whether its endpoints speak mTLS. */
function underMesh(view: ServiceView, { exportTo, autoMtls }: MeshSettings): ServiceView {
  const named = (view.exportTo ?? []).length > 0 || exportTo.services === undefined;
  const visible = named ? view : { ...view, exportTo: exportTo.services };
  if (autoMtls) return visible;
  return { ...visible, ports: visible.ports.map((port) => ({ ...port, transport: 'plain' as const })) };
}

/** The object with the mesh's default exportTo where it has none. */
function exported<T extends { readonly spec: { readonly exportTo?: readonly string[] } }>(
  view: T,
  exportTo: readonly string[] | undefined,
): T {
  if (exportTo === undefined || (view.spec.exportTo ?? []).length > 0) return view;
  return { ...view, spec: { ...view.spec, exportTo } };
}

/** 240.240.0.0/16 and the /48 (RFC 4193 3.1: one site) of every IPv6 VIP, so that allocating one more VIP changes no listener. */
function vipRanges(desired: DesiredConfig): readonly string[] {
  const sites = new Set<string>();
  for (const vip of desired.vips.values()) {
    if (vip.v6 === '') continue;
    const known = SITES.get(vip) ?? site(vip.v6);
    SITES.set(vip, known);
    sites.add(`${known}::/48`);
  }
  return [VIP_RANGE_V4, ...[...sites].sort(compare)];
}

/** By the VIPs themselves, which nobody changes. */
const SITES = new WeakMap<Vip, string>();

/** First 48 bits of a textual IPv6 address, `a:b:c`. */
function site(address: string): string {
  const [head = '', tail] = address.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups = tail === undefined ? left : [...left, ...Array(8 - left.length - right.length).fill('0'), ...right];
  return groups
    .slice(0, 3)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':');
}

interface WorkloadSources {
  readonly workloads: readonly LocalWorkloadInput[];
  readonly members: ReadonlyMap<string, readonly Member[]>;
  readonly services: readonly BuiltService[];
  readonly mtls: MtlsLookup;
  readonly mesh: MeshSettings;
  readonly sidecars: SidecarLookup;
  readonly claims: PortClaims;
}

function workloadViews(sources: WorkloadSources): WorkloadView[] {
  const { workloads, members, services, mtls, mesh, sidecars, claims } = sources;
  return workloads.map((workload): WorkloadView => {
    const modes = mtls(workload.namespace, workload.labels);
    const name = workload.group.slice(workload.namespace.length + 1);
    const key = objectKey('WorkloadGroup', workload.namespace, name);
    const member = members.get(workload.namespace)?.find((candidate) => candidate.key === key);
    const served = member === undefined ? [] : services.filter((service) => service.serves(member.key));
    // Sidecars are for workloads' proxies; a gateway's ports are its Gateways'.
    const sidecar = workload.gateway === true ? undefined : sidecars(workload.namespace, workload.labels);
    const ports = workload.gateway === true ? [] : ingressPorts(sidecar, inboundPorts(workload, member, served));
    const listeners = egressViews(sidecar, workload.namespace);
    const egress = listeners === undefined ? undefined : claims.egress(workload.group, listeners);
    const own = sidecar === undefined ? [] : [sidecar.key];
    const origins = new Set<ObjectKey>([
      key,
      ...own,
      ...modes.origins,
      ...served.flatMap((service) => service.view.origins),
    ]);
    const inbound = claims.inbound(workload.group, ports);
    return {
      group: workload.group,
      namespace: workload.namespace,
      name,
      serviceAccount: workload.serviceAccount,
      spiffeId: workload.spiffeId,
      labels: workload.labels,
      outboundPort: workload.outboundPort,
      ...(workload.gateway === true ? { gateway: true as const } : {}),
      inboundPorts: inbound.map((port) => ({ ...port, mode: modes.modeOf(port.number) })),
      applicationPorts: workload.gateway === true ? [] : applicationPorts(workload, sidecar, inbound),
      ...(egress === undefined ? {} : { egress }),
      ...outboundOf(sidecar, mesh),
      origins: [...origins].sort(compare),
    };
  });
}

/** Those of the WorkloadGroup; where a Sidecar has ingress listeners, those that they lead to. */
function applicationPorts(
  workload: LocalWorkloadInput,
  sidecar: Typed<SidecarSpec> | undefined,
  inbound: readonly PortFacts[],
): readonly number[] {
  const listeners = (sidecar?.spec.ingress ?? []).length > 0;
  const numbers = listeners
    ? inbound.map((port) => port.endpoint?.port ?? port.number)
    : workload.ports.map((port) => port.number);
  return [...new Set(numbers)].sort((a, b) => a - b);
}

type PortFacts = Omit<InboundPort, 'mode'>;

/** Ports of the group's template and ports at which a service reaches the workload. Services that disagree on the protocol make it AUTO. */
function inboundPorts(
  workload: LocalWorkloadInput,
  member: Member | undefined,
  served: readonly BuiltService[],
): PortFacts[] {
  const facts = new Map<number, PortFacts>();
  for (const service of served) {
    if (service.view.resolution !== 'STATIC') continue;
    for (const port of service.view.ports) {
      const number = member === undefined ? undefined : service.targetOf(member, port);
      if (number === undefined) continue;
      const known = facts.get(number);
      const { host, name, namespace } = service.view;
      const protocol: Protocol = known === undefined || known.protocol === port.protocol ? port.protocol : 'AUTO';
      const grpcWeb = (port.grpcWeb ?? known?.grpcWeb) ? { grpcWeb: true as const } : {};
      facts.set(number, { number, protocol, ...grpcWeb, service: known?.service ?? { host, name, namespace } });
    }
  }
  for (const { name, number } of workload.ports) {
    if (!facts.has(number)) facts.set(number, { number, protocol: protocolOf({ name, number }) });
  }
  return [...facts.values()].sort((a, b) => a.number - b.number);
}

function ruleView({ key, namespace, spec }: Typed<DestinationRuleSpec>): DestinationRuleView {
  return { key, namespace, host: resolveHost(spec.host, namespace), spec };
}
