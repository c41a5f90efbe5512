import { isDynamic } from '../mesh-view/reach.ts';
import { type ClusterPlan, plannedEndpoints } from './cluster-plan.ts';
import {
  CONNECT_TIMEOUT,
  circuitBreakers,
  httpOptions,
  httpProtocolOptions,
  httpVersion,
  keepalive,
  speaksHttp,
} from './connection-pool.ts';
import { dynamicDiscovery, REFRESH_RATE } from './dynamic-dns.ts';
import { loadAssignment } from './endpoint.ts';
import { ADS, compact, duration, type JsonObject, resource } from './json.ts';
import { isOriginalDst, loadBalancing, outlierDetection } from './load-balancing.ts';
import { CLUSTER, statName } from './names.ts';
import { originationSocket, tlsSecrets, withProxyHeader } from './origination.ts';
import type { XdsResource } from './resource-set.ts';
import { serviceMetadata } from './telemetry-labels.ts';
import { ALPN, RAW, upstreamMtls } from './tls.ts';

/** The Cluster of a plan. */
export function clusterResource(plan: ClusterPlan): XdsResource {
  const { service, policy, defaults } = plan;
  const pool = policy.connectionPool;
  const { sockets, http } = transportSockets(plan);
  const body: JsonObject = {
    ...discovery(plan),
    alt_stat_name: statName(plan.name),
    connect_timeout: duration(pool?.tcp?.connectTimeout) ?? duration(defaults.connectTimeout) ?? CONNECT_TIMEOUT,
    circuit_breakers: circuitBreakers(pool, policy.retryBudget),
    ...keepalive(pool?.tcp?.tcpKeepalive ?? defaults.tcpKeepalive),
    ...loadBalancing(plan),
    ...outlierDetection(plan),
    ...sockets,
    typed_extension_protocol_options: httpOptions(plan, http),
    metadata: { filter_metadata: { istio: serviceMetadata(service) } },
  };
  return resource('cluster', plan.name, compact(body), plan.origins);
}

/** Names of the secrets that a plan's own TLS asks for, besides the mesh's. */
export function planSecrets({ tls, credentials }: ClusterPlan): readonly string[] {
  return tls === undefined ? [] : Object.values(tlsSecrets(tls, credentials));
}

/** True when the cluster's endpoints come by EDS: everything but DNS names and original destinations. */
export function usesEds(plan: ClusterPlan): boolean {
  return plan.service.resolution === 'STATIC' && !isOriginalDst(plan);
}

function discovery(plan: ClusterPlan): JsonObject {
  const { service, name, defaults } = plan;
  if (isOriginalDst(plan)) return originalDst(plan);
  const refreshRate = duration(defaults.dnsRefreshRate) ?? REFRESH_RATE;
  if (isDynamic(service)) return dynamicDiscovery(plan.refused, refreshRate);
  if (service.resolution === 'STATIC')
    return { type: 'EDS', eds_cluster_config: { eds_config: ADS, service_name: name } };
  return {
    type: service.resolution === 'DNS' ? 'STRICT_DNS' : 'LOGICAL_DNS',
    dns_lookup_family: 'ALL',
    respect_dns_ttl: true,
    dns_refresh_rate: refreshRate,
    load_assignment: loadAssignment(plan, plannedEndpoints(plan)),
  };
}

/** To where the client was going; at another port where a service of resolution NONE says so (Istio: targetPort). */
function originalDst({ service, port }: ClusterPlan): JsonObject {
  if (service.resolution !== 'NONE' || port.targetPort === undefined) return { type: 'ORIGINAL_DST' };
  return { type: 'ORIGINAL_DST', original_dst_lb_config: { upstream_port_override: port.targetPort } };
}

/** How connections of a plan are made, and what HTTP adds to it. A PROXY header goes before whatever the socket itself says. */
function transportSockets(plan: ClusterPlan): { readonly sockets: JsonObject; readonly http: JsonObject } {
  const { service, policy, transport, tls, defaults } = plan;
  const header = policy.proxyProtocol;
  const wrap = (socket: JsonObject) => (header === undefined ? socket : withProxyHeader(socket, header.version));
  const version = speaksHttp(plan) ? httpVersion(plan) : undefined;
  const minVersion = defaults.minTlsVersion ?? 'TLSv1_2';
  if (tls !== undefined) {
    const { socket, http } = originationSocket({
      tls,
      credentials: plan.credentials,
      host: service.host,
      subjectAltNames: service.subjectAltNames,
      carries: version === undefined ? 'bytes' : plan.port.protocol === 'AUTO' ? 'either' : 'http',
      http2: version === 'http2',
      minVersion: 'TLSv1_2',
    });
    return { sockets: { transport_socket: wrap(socket) }, http };
  }
  if (transport === 'plain') return { sockets: header === undefined ? {} : { transport_socket: wrap(RAW) }, http: {} };
  const alpn = version === undefined ? ALPN.tcp : version === 'http2' ? ALPN.http2 : ALPN.http;
  const identities = policy.tls?.subjectAltNames?.length ? policy.tls.subjectAltNames : service.identities;
  const mtls = wrap(upstreamMtls({ identities, sni: plan.sni, alpn, minVersion, identity: plan.identity }));
  if (transport === 'mtls') return { sockets: { transport_socket: mtls }, http: {} };
  const sockets = {
    transport_socket_matches: [
      { name: 'tlsMode-istio', match: { tlsMode: 'istio' }, transport_socket: mtls },
      { name: 'tlsMode-disabled', match: {}, transport_socket: wrap(RAW) },
    ],
  };
  return { sockets, http: {} };
}

/** The source address by which the redirection knows the inbound leg (DESIGN 4). */
export function inboundBind(ipv6: boolean): JsonObject {
  return {
    source_address: { address: '127.0.0.6', port_value: 0 },
    ...(ipv6 ? { extra_source_addresses: [{ address: { address: '::6', port_value: 0 } }] } : {}),
  };
}

/** Clusters that every host has, whatever the config: passthrough and black hole. */
export function fixedClusters(): readonly XdsResource[] {
  const originalDst: JsonObject = {
    type: 'ORIGINAL_DST',
    lb_policy: 'CLUSTER_PROVIDED',
    connect_timeout: CONNECT_TIMEOUT,
    circuit_breakers: circuitBreakers(),
  };
  return [
    resource(
      'cluster',
      CLUSTER.passthrough,
      { ...originalDst, typed_extension_protocol_options: httpProtocolOptions('same', {}) },
      [],
    ),
    resource('cluster', CLUSTER.blackHole, { type: 'STATIC', connect_timeout: CONNECT_TIMEOUT }, []),
  ];
}
