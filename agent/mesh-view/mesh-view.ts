/**
 * Room agent/mesh-view. In: verified config, the endpoint table, this host's workloads. Out: one immutable MeshView: services with their
 * endpoints, rules that this host sees, modes and policies of its own ports. Pure: reads no clock, no environment, does no IO.
 * Never: trusts gossip for anything but address, health and load (DESIGN 3.7); labels, ports and identities come from signed config.
 */
import type { EndpointSnapshot } from '../../api/gossip/host-record.ts';
import { hostDnsName } from '../../api/identity/spiffe-id.ts';
import { type ObjectKey, objectKey } from '../../api/resources/object.ts';
import type { DesiredConfig } from '../../api/signed-config/desired-config.ts';
import { resolveHost } from './host-names.ts';
import { type Member, membersByNamespace } from './members.ts';
import { compare, indexObjects, type ObjectIndex } from './object-index.ts';
import { type MtlsLookup, mtlsLookup } from './peer-authentication.ts';
import { protocolOf } from './protocols.ts';
import { type BuiltService, buildServices } from './services.ts';
import type { DestinationRuleSpec } from './specs/destination-rule.ts';
import type { MeshConfigSpec } from './specs/mesh-config.ts';
import type { DestinationRuleView, HostView, InboundPort, MeshView, Protocol, WorkloadView } from './view.ts';
import { virtualServiceViews } from './virtual-services.ts';

/** The part of agent/workloads' LocalWorkload that a view needs. */
export interface LocalWorkloadInput {
  readonly group: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly spiffeId: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly outboundPort: number;
  readonly ports: readonly { readonly name: string; readonly number: number }[];
}

export interface MeshViewInput {
  readonly desired: DesiredConfig;
  readonly endpoints: EndpointSnapshot;
  /** In the order of agent.yaml. */
  readonly workloads: readonly LocalWorkloadInput[];
  readonly host: HostView;
}

/** Virtual IPv4 addresses of every mesh (DESIGN 7). */
const VIP_RANGE_V4 = '240.240.0.0/16';

/** Builds the view. Same inputs, same view. Never throws: what contradicts itself is resolved as Istio does, the older object winning. */
export function buildMeshView({ desired, endpoints, workloads, host }: MeshViewInput): MeshView {
  const objects = indexObjects(desired.objects);
  const mtls = mtlsLookup(objects);
  const members = membersByNamespace({ desired, endpoints, objects, mtls });
  const services = buildServices({ desired, objects, members });
  const meshConfig = objects<MeshConfigSpec>('MeshConfig')[0]?.spec;
  return {
    generation: desired.generation,
    trustDomain: desired.trustDomain,
    host,
    vipRanges: vipRanges(desired),
    outboundPolicy: meshConfig?.outboundTrafficPolicy?.mode === 'REGISTRY_ONLY' ? 'REGISTRY_ONLY' : 'ALLOW_ANY',
    workloads: workloadViews(workloads, members, services, mtls),
    services: services.map((service) => service.view),
    virtualServices: virtualServiceViews(objects),
    destinationRules: destinationRules(objects),
    revokedNames: [...desired.revokedHosts].map((id) => hostDnsName(desired.trustDomain, id)).sort(compare),
  };
}

/** 240.240.0.0/16 and the /48 (RFC 4193 3.1: one site) of every IPv6 VIP, so that allocating one more VIP changes no listener. */
function vipRanges(desired: DesiredConfig): readonly string[] {
  const sites = new Set<string>();
  for (const { v6 } of desired.vips.values()) {
    if (v6 !== '') sites.add(`${site(v6)}::/48`);
  }
  return [VIP_RANGE_V4, ...[...sites].sort(compare)];
}

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

function workloadViews(
  workloads: readonly LocalWorkloadInput[],
  members: ReadonlyMap<string, readonly Member[]>,
  services: readonly BuiltService[],
  mtls: MtlsLookup,
): WorkloadView[] {
  const taken = new Set<number>();
  return workloads.map((workload): WorkloadView => {
    const modes = mtls(workload.namespace, workload.labels);
    const name = workload.group.slice(workload.namespace.length + 1);
    const key = objectKey('WorkloadGroup', workload.namespace, name);
    const member = members.get(workload.namespace)?.find((candidate) => candidate.key === key);
    const served = member === undefined ? [] : services.filter((service) => service.members.includes(member));
    const ports = inboundPorts(workload, member, served);
    const origins = new Set<ObjectKey>([key, ...modes.origins, ...served.flatMap((service) => service.view.origins)]);
    const inbound = ports.filter((port) => !taken.has(port.number));
    for (const port of inbound) taken.add(port.number);
    return {
      group: workload.group,
      namespace: workload.namespace,
      name,
      serviceAccount: workload.serviceAccount,
      spiffeId: workload.spiffeId,
      labels: workload.labels,
      outboundPort: workload.outboundPort,
      inboundPorts: inbound.map((port) => ({ ...port, mode: modes.modeOf(port.number) })),
      origins: [...origins].sort(compare),
    };
  });
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
      facts.set(number, { number, protocol, service: known?.service ?? { host, name, namespace } });
    }
  }
  for (const { name, number } of workload.ports) {
    if (!facts.has(number)) facts.set(number, { number, protocol: protocolOf({ name, number }) });
  }
  return [...facts.values()].sort((a, b) => a.number - b.number);
}

function destinationRules(objects: ObjectIndex): DestinationRuleView[] {
  return objects<DestinationRuleSpec>('DestinationRule').map(({ key, namespace, spec }) => ({
    key,
    namespace,
    host: resolveHost(spec.host, namespace),
    spec,
  }));
}
