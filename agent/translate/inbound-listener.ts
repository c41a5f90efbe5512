import type { InboundPort, MeshView, WorkloadView } from '../mesh-view/view.ts';
import { MESH_HEADER } from './caller.ts';
import { inboundHttp, networkRbacFilter, tcpProxyFilter } from './filters.ts';
import { ownServerTls, type ServerTls } from './gateway-tls.ts';
import { type LegKind, legName } from './inbound-leg.ts';
import { compact, type JsonObject, resource } from './json.ts';
import { type Chain, listenerBody } from './listener.ts';
import { INBOUND_LISTENER, rbacName, tcpRouteName } from './names.ts';
import type { XdsResource } from './resource-set.ts';
import { ALPN, downstreamMtls } from './tls.ts';

/** Where the redirection sends connections to workloads' ports (DESIGN 7). */
export const INBOUND_PORT = 15006;

/**
 * The inbound listener that redirected connections come to: for each port of a local workload an mTLS chain for HTTP and one for bytes, and
 * plaintext chains where the port's mode admits them. A connection that matches no chain is closed: unknown ports, plaintext to STRICT.
 * Ports that a Sidecar has the proxy bind itself (captureMode NONE) have listeners of their own.
 */
export function inboundListeners(view: MeshView): readonly XdsResource[] {
  const contexts = view.workloads.flatMap((workload) =>
    workload.inboundPorts.map((port): Context => ({ view, workload, port })),
  );
  const own = contexts.filter(({ port }) => port.bind !== undefined).map(ownListener);
  const captured = contexts.filter(({ port }) => port.bind === undefined);
  if (captured.length === 0) return own;
  const body = listenerBody({
    addresses: view.host.ipv6 ? ['0.0.0.0', '::'] : ['0.0.0.0'],
    port: INBOUND_PORT,
    direction: 'INBOUND',
    detectionTimeout: view.mesh.protocolDetectionTimeout,
    chains: captured.flatMap((context) => portChains(context, { destination_port: context.port.number })),
  });
  const origins = [...view.workloads.flatMap((workload) => workload.origins), ...view.mesh.origins];
  return [resource('listener', INBOUND_LISTENER, body, origins), ...own];
}

function ownListener(context: Context): XdsResource {
  const { view, workload, port } = context;
  const bind = port.bind as string;
  const body = listenerBody({
    addresses: [bind],
    port: port.number,
    direction: 'INBOUND',
    captured: false,
    detectionTimeout: view.mesh.protocolDetectionTimeout,
    chains: portChains(context, {}),
  });
  return resource('listener', `${INBOUND_LISTENER}_${bind}_${port.number}`, body, workload.origins);
}

/** Name of the TCP proxy config of an inbound port. */
export function inboundTcpName(workload: WorkloadView, port: InboundPort, mtls: boolean): string {
  return tcpRouteName(workload, port.number, 'inbound', mtls ? 'mtls' : 'plain');
}

function portChains(context: Context, match: JsonObject): readonly Chain[] {
  const { mode } = context.port;
  const mtls = mode === 'DISABLE' ? [] : mtlsChains(context, match);
  return mode === 'STRICT' ? mtls : [...mtls, ...plainChains(context, match)];
}

interface Context {
  readonly view: MeshView;
  readonly workload: WorkloadView;
  readonly port: InboundPort;
}

/** What a peer offers by ALPN tells the mesh's own mTLS from TLS of the application's own, and HTTP from bytes. */
function mtlsChains({ view, workload, port }: Context, base: JsonObject): readonly Chain[] {
  const match = (protocols: readonly string[]): JsonObject => ({
    ...base,
    transport_protocol: 'tls',
    application_protocols: protocols,
  });
  const transportSocket = downstreamMtls(workload.spiffeId, view.trustDomain, view.mesh.minTlsVersion);
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

/** Names of the certificates that a port's own TLS asks for. */
export function inboundSecrets(workload: WorkloadView, port: InboundPort): readonly string[] {
  return ownTls(workload, port)?.secrets ?? [];
}

function ownTls(workload: WorkloadView, port: InboundPort): ServerTls | undefined {
  if (port.tls === undefined || port.mode !== 'DISABLE') return undefined;
  return ownServerTls(port.tls, workload.namespace, isHttp(port));
}

function isHttp({ protocol }: InboundPort): boolean {
  return protocol === 'HTTP' || protocol === 'HTTP2';
}

/** A Sidecar's own TLS takes nothing else. */
function plainChains(context: Context, base: JsonObject): readonly Chain[] {
  const { port } = context;
  const own = ownTls(context.workload, port);
  if (own !== undefined)
    return [
      {
        name: `${port.number}_tls`,
        match: { ...base, transport_protocol: 'tls' },
        filters: isHttp(port) ? [http(context, false)] : tcp(context, false),
        transportSocket: own.socket,
      },
    ];
  const chain = (name: string, match: JsonObject, filters: readonly JsonObject[]): Chain => ({
    name: `${port.number}_plain_${name}`,
    match: { ...base, ...match },
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
export function revocations({ revokedNames }: MeshView): JsonObject | undefined {
  if (revokedNames.length === 0) return undefined;
  return { filter_metadata: { hostmesh: { revoked: revokedNames } } };
}

function http({ view, workload, port }: Context, mtls: boolean): JsonObject {
  const to = (kind: LegKind) => legName(workload, port, kind);
  return inboundHttp({
    reporter: { side: 'destination', workload, port, mtls },
    policies: [rbacName(workload, 'http', 'deny'), rbacName(workload, 'http', 'allow')],
    // What gRPC-Web is translated to needs HTTP/2, whatever its client spoke.
    routes: toApplication(port.grpcWeb ? anyCall(to('http2')) : mtls ? peerRoutes(to) : anyCall(to('same'))),
    mesh: view.mesh,
    grpcWeb: port.grpcWeb === true,
  });
}

/** From a peer: the version that its application spoke, by the peer's word; HTTP/1.1 unless it says HTTP/2. */
function peerRoutes(to: (kind: LegKind) => string): readonly JsonObject[] {
  const http2 = [{ name: MESH_HEADER.protocol, string_match: { exact: 'HTTP/2' } }];
  return [...anyCall(to('http2'), http2), ...anyCall(to('http1'))];
}

/** Requests, and CONNECT, which has no path. */
function anyCall(cluster: string, headers?: readonly JsonObject[]): readonly JsonObject[] {
  const route = { cluster, timeout: '0s' };
  return [{ prefix: '/' }, { connect_matcher: {} }].map((match) => ({ match: compact({ ...match, headers }), route }));
}

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
