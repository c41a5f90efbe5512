import { both, type KindEnforcement, spec } from './paths.ts';

const PORT_POLICY = [
  'loadBalancer.simple',
  'loadBalancer.consistentHash.httpHeaderName',
  'loadBalancer.consistentHash.httpCookie.name',
  'loadBalancer.consistentHash.httpCookie.path',
  'loadBalancer.consistentHash.httpCookie.ttl',
  'loadBalancer.consistentHash.useSourceIp',
  'loadBalancer.consistentHash.httpQueryParameterName',
  'loadBalancer.consistentHash.minimumRingSize',
  'loadBalancer.consistentHash.ringHash.minimumRingSize',
  'loadBalancer.consistentHash.maglev.tableSize',
  'connectionPool.tcp.maxConnections',
  'connectionPool.tcp.connectTimeout',
  'connectionPool.tcp.tcpKeepalive.probes',
  'connectionPool.tcp.tcpKeepalive.time',
  'connectionPool.tcp.tcpKeepalive.interval',
  'connectionPool.http.http1MaxPendingRequests',
  'connectionPool.http.http2MaxRequests',
  'connectionPool.http.maxRequestsPerConnection',
  'connectionPool.http.maxRetries',
  'connectionPool.http.idleTimeout',
  'connectionPool.http.h2UpgradePolicy',
  'connectionPool.http.maxConcurrentStreams',
  'connectionPool.http.useClientProtocol',
  'outlierDetection.consecutive5xxErrors',
  'outlierDetection.consecutiveGatewayErrors',
  'outlierDetection.consecutiveLocalOriginFailures',
  'outlierDetection.splitExternalLocalOriginErrors',
  'outlierDetection.interval',
  'outlierDetection.baseEjectionTime',
  'outlierDetection.maxEjectionPercent',
  'outlierDetection.minHealthPercent',
  'tls.mode',
];

const TRAFFIC_POLICY = [
  ...PORT_POLICY,
  'portLevelSettings[].port.number',
  ...both(['portLevelSettings[]'], PORT_POLICY),
];

const DESTINATION_RULE = [
  'host',
  'exportTo[]',
  'subsets[].name',
  'subsets[].labels.*',
  ...both(['trafficPolicy', 'subsets[].trafficPolicy'], TRAFFIC_POLICY),
];

export const DESTINATION_RULE_KINDS: Readonly<Record<string, KindEnforcement>> = {
  DestinationRule: {
    fields: spec(DESTINATION_RULE),
    values: {
      'spec.trafficPolicy.tls.mode': ['DISABLE', 'ISTIO_MUTUAL'],
      'spec.trafficPolicy.portLevelSettings[].tls.mode': ['DISABLE', 'ISTIO_MUTUAL'],
      'spec.subsets[].trafficPolicy.tls.mode': ['DISABLE', 'ISTIO_MUTUAL'],
      'spec.subsets[].trafficPolicy.portLevelSettings[].tls.mode': ['DISABLE', 'ISTIO_MUTUAL'],
    },
  },
};
