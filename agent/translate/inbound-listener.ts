import type { InboundPort, MeshView, WorkloadView } from '../mesh-view/view.ts';
import { inboundHttp, MESH_HEADER, networkRbacFilter, tcpProxyFilter } from './filters.ts';
import { type JsonObject, resource } from './json.ts';
import { type Chain, listenerBody } from './listener.ts';
import { CLUSTER, INBOUND_LISTENER, rbacName, tcpRouteName } from './names.ts';
import type { XdsResource } from './resource-set.ts';
import { ALPN, downstreamMtls } from './tls.ts';

/** Where the redirection sends connections to workloads' ports (DESIGN 7). */
export const INBOUND_PORT = 15006;

/**
 * The one inbound listener: for each port of a local workload an mTLS chain for HTTP and one for bytes, and plaintext chains where the
 * port's mode admits them. A connection that matches no chain is closed: unknown ports, plaintext to STRICT.
 */
export function inboundListener(view: MeshView): XdsResource | undefined {
  const chains = view.workloads.flatMap((workload) =>
    workload.inboundPorts.flatMap((port) => portChains(view, workload, port)),
  );
  if (chains.length === 0) return undefined;
  const body = listenerBody({
    addresses: view.host.ipv6 ? ['0.0.0.0', '::'] : ['0.0.0.0'],
    port: INBOUND_PORT,
    direction: 'INBOUND',
    chains,
  });
  return resource(
    'listener',
    INBOUND_LISTENER,
    body,
    view.workloads.flatMap((workload) => workload.origins),
  );
}

/** Name of the TCP proxy config of an inbound port. */
export function inboundTcpName(workload: WorkloadView, port: InboundPort, mtls: boolean): string {
  return tcpRouteName(workload, port.number, 'inbound', mtls ? 'mtls' : 'plain');
}

function portChains(view: MeshView, workload: WorkloadView, port: InboundPort): readonly Chain[] {
  const context: Context = { view, workload, port };
  const mtls = port.mode === 'DISABLE' ? [] : mtlsChains(context);
  return port.mode === 'STRICT' ? mtls : [...mtls, ...plainChains(context)];
}

interface Context {
  readonly view: MeshView;
  readonly workload: WorkloadView;
  readonly port: InboundPort;
}

/** What a peer offers by ALPN tells the mesh's own mTLS from TLS of the application's own, and HTTP from bytes. */
function mtlsChains({ view, workload, port }: Context): readonly Chain[] {
  const match = (protocols: readonly string[]): JsonObject => ({
    destination_port: port.number,
    transport_protocol: 'tls',
    application_protocols: protocols,
  });
  const transportSocket = downstreamMtls(workload.spiffeId, view.trustDomain);
  return [
    {
      name: `${port.number}_mtls_http`,
      match: match([ALPN.http, ALPN.http2]),
      filters: [http({ view, workload, port }, true)],
      transportSocket,
      metadata: revocations(view),
    },
    {
      name: `${port.number}_mtls_tcp`,
      match: match([ALPN.tcp]),
      filters: tcp({ view, workload, port }, true),
      transportSocket,
      metadata: revocations(view),
    },
  ];
}

function plainChains(context: Context): readonly Chain[] {
  const { port } = context;
  const chain = (name: string, match: JsonObject, filters: readonly JsonObject[]): Chain => ({
    name: `${port.number}_plain_${name}`,
    match: { destination_port: port.number, ...match },
    filters,
  });
  const bytes = tcp(context, false);
  const tls = chain('tls', { transport_protocol: 'tls' }, bytes);
  switch (port.protocol) {
    case 'HTTP':
    case 'HTTP2':
      return [tls, chain('http', {}, [http(context, false)])];
    case 'AUTO':
      return [
        tls,
        chain('http', { application_protocols: ['http/1.0', 'http/1.1', 'h2c'] }, [http(context, false)]),
        chain('tcp', {}, bytes),
      ];
    default:
      return [tls, chain('tcp', {}, bytes)];
  }
}

function tcp({ workload, port }: Context, mtls: boolean): readonly JsonObject[] {
  return [
    networkRbacFilter(rbacName(workload, 'tcp', 'deny')),
    networkRbacFilter(rbacName(workload, 'tcp', 'allow')),
    tcpProxyFilter(inboundTcpName(workload, port, mtls)),
  ];
}

/**
 * A revocation, and nothing else, changes this: Envoy then drains the chain's open connections, which no policy can reach any more (DESIGN
 * 3.12): bytes, and the request or stream that a connection is in the middle of (seen: a revoked host's went on to its end).
 */
function revocations({ revokedNames }: MeshView): JsonObject | undefined {
  if (revokedNames.length === 0) return undefined;
  return { filter_metadata: { hostmesh: { revoked: revokedNames } } };
}

function http({ workload, port }: Context, mtls: boolean): JsonObject {
  return inboundHttp({
    reporter: { side: 'destination', workload, port, mtls },
    policies: [rbacName(workload, 'http', 'deny'), rbacName(workload, 'http', 'allow')],
    routes: mtls ? PEER_ROUTES : STRANGER_ROUTES,
  });
}

/** From a peer: the version that its application spoke, by the peer's word; HTTP/1.1 unless it says HTTP/2. */
const PEER_ROUTES = toApplication([
  {
    match: { prefix: '/', headers: [{ name: MESH_HEADER.protocol, string_match: { exact: 'HTTP/2' } }] },
    route: { cluster: CLUSTER.inboundHttp2, timeout: '0s' },
  },
  { match: { prefix: '/' }, route: { cluster: CLUSTER.inboundHttp1, timeout: '0s' } },
]);

/** From anyone in plaintext: the version that they speak themselves. */
const STRANGER_ROUTES = toApplication([
  { match: { prefix: '/' }, route: { cluster: CLUSTER.inboundSame, timeout: '0s' } },
]);

function toApplication(routes: readonly JsonObject[]): JsonObject {
  return {
    name: 'inbound',
    virtual_hosts: [
      { name: 'inbound', domains: ['*'], routes: routes.map((route) => ({ name: 'default', ...route })) },
    ],
    request_headers_to_remove: Object.values(MESH_HEADER),
    validate_clusters: false,
  };
}
