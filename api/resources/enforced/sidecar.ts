import { both, type KindEnforcement, spec } from './paths.ts';
import { SERVER_TLS } from './server-tls.ts';

const POOL = [
  'tcp.maxConnections',
  'tcp.connectTimeout',
  'tcp.idleTimeout',
  'tcp.maxConnectionDuration',
  'tcp.tcpKeepalive.probes',
  'tcp.tcpKeepalive.time',
  'tcp.tcpKeepalive.interval',
  'http.http1MaxPendingRequests',
  'http.http2MaxRequests',
  'http.maxRequestsPerConnection',
  'http.maxRetries',
  'http.idleTimeout',
  'http.maxConcurrentStreams',
];

const PORT = ['number', 'name', 'protocol'];

const AS_THE_CLIENT = 'the proxy always speaks to its application the version of HTTP that the client spoke';
const REFUSED_POOL = { 'http.h2UpgradePolicy': AS_THE_CLIENT, 'http.useClientProtocol': AS_THE_CLIENT };

const under = (prefix: string, reasons: Readonly<Record<string, string>>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(reasons).map(([path, reason]) => [`${prefix}.${path}`, reason]));

export const SIDECAR_KINDS: Readonly<Record<string, KindEnforcement>> = {
  Sidecar: {
    fields: spec([
      'workloadSelector.labels.*',
      'egress[].hosts[]',
      ...both(['egress[].port', 'ingress[].port'], PORT),
      'egress[].bind',
      'egress[].captureMode',
      'ingress[].defaultEndpoint',
      'ingress[].captureMode',
      'ingress[].bind',
      ...both(['ingress[].tls'], SERVER_TLS),
      'outboundTrafficPolicy.mode',
      'outboundTrafficPolicy.egressProxy.host',
      'outboundTrafficPolicy.egressProxy.subset',
      'outboundTrafficPolicy.egressProxy.port.number',
      ...both(['inboundConnectionPool', 'ingress[].connectionPool'], POOL),
    ]),
    refused: {
      'spec.egress[].port.targetPort': 'it has no effect on Sidecars, in Istio either',
      'spec.ingress[].port.targetPort': 'it has no effect on Sidecars, in Istio either',
      'spec.ingress[].tls.subjectAltNames': 'it is not supported on Sidecars, in Istio either',
      'spec.ingress[].tls.httpsRedirect': 'it is not supported on Sidecars, in Istio either',
      'spec.ingress[].tls.credentialName': 'it is not supported on Sidecars, in Istio either',
      'spec.ingress[].tls.credentialNames': 'it is not supported on Sidecars, in Istio either',
      'spec.ingress[].tls.caCertCredentialName': 'it is not supported on Sidecars, in Istio either',
      'spec.ingress[].tls.tlsCertificates[].caCertificates': 'caCertificates beside it is for all of them',
      ...under('spec.inboundConnectionPool', REFUSED_POOL),
      ...under('spec.ingress[].connectionPool', REFUSED_POOL),
    },
  },
  ProxyConfig: {
    fields: spec(['selector.matchLabels.*', 'concurrency']),
    refused: {
      'spec.environmentVariables':
        'the proxy of a host reads no environment; what Istio sets by it is a field of MeshConfig, Sidecar or DestinationRule here',
      'spec.image': 'the proxy is the package mesh-envoy, pinned and the same on every host',
    },
  },
};
