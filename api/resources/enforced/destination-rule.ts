import { both, type KindEnforcement, spec } from './paths.ts';

const LOAD_BALANCER = [
  'simple',
  'consistentHash.httpHeaderName',
  'consistentHash.httpCookie.name',
  'consistentHash.httpCookie.path',
  'consistentHash.httpCookie.ttl',
  'consistentHash.httpCookie.attributes[].name',
  'consistentHash.httpCookie.attributes[].value',
  'consistentHash.useSourceIp',
  'consistentHash.httpQueryParameterName',
  'consistentHash.minimumRingSize',
  'consistentHash.ringHash.minimumRingSize',
  'consistentHash.maglev.tableSize',
  'localityLbSetting.enabled',
  'localityLbSetting.distribute[].from',
  'localityLbSetting.distribute[].to.*',
  'localityLbSetting.failover[].from',
  'localityLbSetting.failover[].to',
  'localityLbSetting.failoverPriority[]',
  'warmup.duration',
  'warmup.minimumPercent',
  'warmup.aggression',
  'warmupDurationSecs',
];

const CONNECTION_POOL = [
  'tcp.maxConnections',
  'tcp.connectTimeout',
  'tcp.tcpKeepalive.probes',
  'tcp.tcpKeepalive.time',
  'tcp.tcpKeepalive.interval',
  'tcp.maxConnectionDuration',
  'tcp.idleTimeout',
  'http.http1MaxPendingRequests',
  'http.http2MaxRequests',
  'http.maxRequestsPerConnection',
  'http.maxRetries',
  'http.idleTimeout',
  'http.h2UpgradePolicy',
  'http.maxConcurrentStreams',
  'http.useClientProtocol',
];

const OUTLIER_DETECTION = [
  'consecutiveErrors',
  'consecutive5xxErrors',
  'consecutiveGatewayErrors',
  'consecutiveLocalOriginFailures',
  'splitExternalLocalOriginErrors',
  'interval',
  'baseEjectionTime',
  'maxEjectionPercent',
  'minHealthPercent',
];

const TLS = [
  'mode',
  'sni',
  'subjectAltNames[]',
  'caCertificates',
  'caCrl',
  'clientCertificate',
  'privateKey',
  'insecureSkipVerify',
  'credentialName',
];

const PORT_POLICY = [
  ...both(['loadBalancer'], LOAD_BALANCER),
  ...both(['connectionPool'], CONNECTION_POOL),
  ...both(['outlierDetection'], OUTLIER_DETECTION),
  ...both(['tls'], TLS),
];

const TRAFFIC_POLICY = [
  ...PORT_POLICY,
  'portLevelSettings[].port.number',
  ...both(['portLevelSettings[]'], PORT_POLICY),
  'tunnel.protocol',
  'tunnel.targetHost',
  'tunnel.targetPort',
  'proxyProtocol.version',
  'retryBudget.percent',
  'retryBudget.minRetryConcurrency',
];

const POLICIES = ['trafficPolicy', 'subsets[].trafficPolicy'];

const DESTINATION_RULE = [
  'host',
  'exportTo[]',
  'workloadSelector.matchLabels.*',
  'subsets[].name',
  'subsets[].labels.*',
  ...both(POLICIES, TRAFFIC_POLICY),
];

export const DESTINATION_RULE_KINDS: Readonly<Record<string, KindEnforcement>> = {
  DestinationRule: {
    fields: spec(DESTINATION_RULE),
  },
};
