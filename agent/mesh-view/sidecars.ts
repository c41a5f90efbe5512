import { ROOT_NAMESPACE } from '../../api/resources/registry.ts';
import { hostMatches } from './host-names.ts';
import type { MeshSettings, OutboundPolicy } from './mesh-settings.ts';
import { type ObjectIndex, selects, type Typed } from './object-index.ts';
import { protocolOf } from './protocols.ts';
import type { Destination } from './specs/common.ts';
import type { EgressSpec, IngressSpec, SidecarPort, SidecarSpec } from './specs/sidecar.ts';
import type { EgressView, InboundPort, Protocol, ServiceView, VirtualServiceView } from './view.ts';

/** The Sidecar that holds for a workload, if any does. */
export type SidecarLookup = (
  namespace: string,
  labels: Readonly<Record<string, string>>,
) => Typed<SidecarSpec> | undefined;

/**
 * Sidecars as Istio has them: the oldest of the workload's namespace whose labels select it, else the namespace's own (no labels), else the
 * root namespace's own; they never add up. Labels in the root namespace select workloads of the root namespace only.
 */
export function sidecarLookup(objects: ObjectIndex): SidecarLookup {
  const all = objects<SidecarSpec>('Sidecar');
  const labelsOf = ({ spec }: Typed<SidecarSpec>) => spec.workloadSelector?.labels ?? {};
  const isWhole = (sidecar: Typed<SidecarSpec>) => Object.keys(labelsOf(sidecar)).length === 0;
  const whole = (namespace: string) => all.find((one) => one.namespace === namespace && isWhole(one));
  return (namespace, labels) =>
    all.find((one) => one.namespace === namespace && !isWhole(one) && selects(labelsOf(one), labels)) ??
    whole(namespace) ??
    whole(ROOT_NAMESPACE);
}

/** What a workload of `namespace` imports, listener by listener; undefined where its Sidecar says nothing of it: everything. */
export function egressViews(
  sidecar: Typed<SidecarSpec> | undefined,
  namespace: string,
): readonly EgressView[] | undefined {
  const listeners = sidecar?.spec.egress ?? [];
  return listeners.length === 0 ? undefined : listeners.map((listener) => egressView(listener, namespace));
}

function egressView({ hosts, port, bind, captureMode }: EgressSpec, namespace: string): EgressView {
  const captured = captureMode !== 'NONE';
  const address = bind === undefined || bind === '' || isUnspecified(bind) ? undefined : bind;
  return {
    imports: (hosts ?? []).flatMap((text) => {
      const [where = '', name = ''] = text.split('/');
      return where === '~' ? [] : [{ namespace: where === '.' ? namespace : where, name: name.toLowerCase() }];
    }),
    ...(port?.number === undefined ? {} : { port: { number: port.number, ...declared(port) } }),
    ...(captured ? (address === undefined ? {} : { bind: address }) : { bind: bind || '127.0.0.1' }),
    captured,
  };
}

/** `0.0.0.0` and `::` mean wherever the connection went. */
function isUnspecified(address: string): boolean {
  return address === '0.0.0.0' || address === '::';
}

function declared(port: SidecarPort): { readonly protocol?: Protocol } {
  const text = port.protocol ?? '';
  return text === '' ? {} : { protocol: protocolOf({ declared: text, number: port.number ?? 0 }) };
}

/** Whether a listener imports a service: by its namespace and its host. */
export function importsService({ imports }: EgressView, { namespace, host }: ServiceView): boolean {
  return imports.some((one) => isOf(one, namespace) && hostMatches(one.name, host));
}

/** Whether a listener imports a VirtualService: by its namespace and any of its hosts; a wildcard on either side covers (Istio). */
export function importsRules({ imports }: EgressView, { namespace, hosts }: VirtualServiceView): boolean {
  return imports.some(
    (one) => isOf(one, namespace) && hosts.some((host) => hostMatches(one.name, host) || hostMatches(host, one.name)),
  );
}

function isOf(one: { readonly namespace: string }, namespace: string): boolean {
  return one.namespace === '*' || one.namespace === namespace;
}

/** What becomes of a workload's connections that no service is meant by: its Sidecar's word, where it has one, else the mesh's. */
export function outboundOf(
  sidecar: Typed<SidecarSpec> | undefined,
  mesh: MeshSettings,
): { readonly outboundPolicy: OutboundPolicy; readonly egressProxy?: Destination } {
  const policy = sidecar?.spec.outboundTrafficPolicy;
  if (policy === undefined) return { outboundPolicy: mesh.outboundPolicy };
  // An empty policy is REGISTRY_ONLY: the first value of Istio's enum.
  if (policy.mode !== 'ALLOW_ANY') return { outboundPolicy: 'REGISTRY_ONLY' };
  return {
    outboundPolicy: 'ALLOW_ANY',
    ...(policy.egressProxy === undefined ? {} : { egressProxy: policy.egressProxy }),
  };
}

type PortFacts = Omit<InboundPort, 'mode'>;

/**
 * Ports of a workload under its Sidecar. `served`: what services and the WorkloadGroup say. With ingress listeners these are all there is,
 * services only lend their names for telemetry. A pool of the listener's own stands before the Sidecar's for all ports.
 */
export function ingressPorts(
  sidecar: Typed<SidecarSpec> | undefined,
  served: readonly PortFacts[],
): readonly PortFacts[] {
  if (sidecar === undefined) return served;
  const { ingress = [], inboundConnectionPool: pool } = sidecar.spec;
  if (ingress.length === 0) return pool === undefined ? served : served.map((port) => ({ ...port, pool }));
  return ingress.map((listener) => ingressPort(listener, served, sidecar.spec)).sort((a, b) => a.number - b.number);
}

function ingressPort(listener: IngressSpec, served: readonly PortFacts[], spec: SidecarSpec): PortFacts {
  const number = listener.port?.number ?? 0;
  const service = served.find((port) => port.number === number)?.service;
  const endpoint = endpointOf(listener.defaultEndpoint);
  const pool = listener.connectionPool ?? spec.inboundConnectionPool;
  const { tls } = listener;
  // What TLS carries, once it ends here.
  const ended = tls !== undefined && tls.mode !== 'PASSTHROUGH' && listener.port?.protocol?.toUpperCase() === 'HTTPS';
  const declaredProtocol = ended ? 'HTTP' : listener.port?.protocol;
  return {
    number,
    protocol: protocolOf({ declared: declaredProtocol, number }),
    ...(declaredProtocol?.toUpperCase() === 'GRPC-WEB' ? { grpcWeb: true as const } : {}),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(tls === undefined || (tls.mode ?? 'PASSTHROUGH') === 'PASSTHROUGH' ? {} : { tls }),
    ...(pool === undefined ? {} : { pool }),
    ...(listener.captureMode === 'NONE' ? { bind: listener.bind || '0.0.0.0' } : {}),
    ...(service === undefined ? {} : { service }),
  };
}

/** `127.0.0.1:8080`, `[::1]:8080`; `0.0.0.0:8080` and `:8080`: the address that the connection came to. */
function endpointOf(text: string | undefined): InboundPort['endpoint'] {
  const [, address, port] = /^\[?([^\]]*?)\]?:(\d+)$/.exec(text ?? '') ?? [];
  return port === undefined ? undefined : { address: address ?? '', port: Number(port) };
}
