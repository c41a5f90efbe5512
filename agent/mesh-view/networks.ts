/**
 * Networks whose hosts are reached only by a gateway, as in Istio: a v1 Service with the label `topology.istio.io/network` says that its
 * endpoints are the gateways of that network, at its port 15443 (or the one that `networking.istio.io/gatewayPort` names). There the name
 * in the TLS handshake, which says service, port and subset, is routed by an AUTO_PASSTHROUGH server; mTLS stays end to end.
 */
import type { Member } from './members.ts';
import { compare, type ObjectIndex, selects, type Typed } from './object-index.ts';
import type { ServiceSpec } from './specs/service.ts';
import type { EndpointView } from './view.ts';

const NETWORK_LABEL = 'topology.istio.io/network';
const PORT_LABEL = 'networking.istio.io/gatewayPort';
const GATEWAY_PORT = 15443;

/** One gateway of a network, as it is reached from elsewhere. */
export interface NetworkGateway {
  readonly id: string;
  readonly addresses: readonly string[];
  readonly port: number;
}

/** Networks other than `own` that have a gateway by config; the question is asked before members are known. */
export function gatewayNetworks(objects: ObjectIndex, own: string | undefined): ReadonlySet<string> {
  const names = objects<ServiceSpec>('Service').flatMap((service) => service.labels[NETWORK_LABEL] ?? []);
  return new Set(names.filter((name) => name !== '' && name !== own));
}

/** Gateways that serve now, by network. */
export function networkGateways(
  objects: ObjectIndex,
  members: ReadonlyMap<string, readonly Member[]>,
): ReadonlyMap<string, readonly NetworkGateway[]> {
  const found = new Map<string, NetworkGateway[]>();
  for (const service of objects<ServiceSpec>('Service')) {
    const network = service.labels[NETWORK_LABEL];
    if (network === undefined || network === '') continue;
    const here = (members.get(service.namespace) ?? []).filter(
      (member) => selects(service.spec.selector, member.labels) && Object.keys(service.spec.selector ?? {}).length > 0,
    );
    const gateways = here.flatMap((member) => gatewaysOf(service, member));
    found.set(network, [...(found.get(network) ?? []), ...gateways]);
  }
  for (const list of found.values()) list.sort((a, b) => compare(a.id, b.id));
  return found;
}

function gatewaysOf({ spec, labels }: Typed<ServiceSpec>, member: Member): NetworkGateway[] {
  const number = Number(labels[PORT_LABEL] ?? GATEWAY_PORT);
  const port = spec.ports?.find((candidate) => candidate.port === number);
  const target = typeof port?.targetPort === 'string' ? member.ports[port.targetPort] : (port?.targetPort ?? number);
  if (target === undefined) return [];
  return member.instances
    .filter((instance) => instance.health === 'healthy' && instance.addresses.length > 0)
    .map(({ id, addresses }) => ({ id, addresses, port: target }));
}

/** An endpoint with the network that its addresses are of. */
export interface Placed {
  readonly endpoint: EndpointView;
  readonly network: string | undefined;
}

/**
 * Endpoints as this host reaches them: those of its own network, of none and of networks without a gateway as they are; the others as
 * their network's gateways, one for each set of labels and locality, so that subsets and localities still hold. Only what speaks mTLS can
 * be told apart behind a gateway (Istio): the rest is left out.
 */
export function acrossNetworks(
  placed: readonly Placed[],
  own: string | undefined,
  gateways: ReadonlyMap<string, readonly NetworkGateway[]>,
): readonly EndpointView[] {
  const near: EndpointView[] = [];
  const far = new Map<string, { readonly network: string; readonly endpoints: EndpointView[] }>();
  for (const { endpoint, network } of placed) {
    if (own === undefined || network === undefined || network === own || !gateways.has(network)) {
      if (endpoint.addresses.length > 0) near.push(endpoint);
      continue;
    }
    if (endpoint.health !== 'healthy') continue;
    const key = JSON.stringify([network, Object.entries(endpoint.labels).sort(), endpoint.locality, endpoint.workload]);
    const group = far.get(key) ?? { network, endpoints: [] };
    group.endpoints.push(endpoint);
    far.set(key, group);
  }
  const through = [...far.values()].flatMap(({ network, endpoints }) =>
    behind(network, endpoints, gateways.get(network) ?? []),
  );
  return [...near, ...through].sort((a, b) => compare(a.id, b.id));
}

function behind(
  network: string,
  endpoints: readonly EndpointView[],
  gateways: readonly NetworkGateway[],
): EndpointView[] {
  const first = endpoints[0] as EndpointView;
  const served = [...new Set(endpoints.flatMap(({ ports }) => Object.keys(ports)))].filter((port) =>
    endpoints.some((endpoint) => endpoint.ports[Number(port)]?.mtls === true),
  );
  if (served.length === 0) return [];
  const total = endpoints.reduce((sum, endpoint) => sum + endpoint.weight, 0);
  return gateways.map((gateway) => ({
    ...first,
    id: `${first.id}@${gateway.id}`,
    addresses: gateway.addresses,
    ports: Object.fromEntries(served.map((port) => [port, { port: gateway.port, mtls: true }])),
    viaGateway: true,
    labels: { ...first.labels, [NETWORK_LABEL]: network },
    weight: Math.max(1, Math.round(total / gateways.length)),
  }));
}
