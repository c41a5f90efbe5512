/**
 * What the agents enforce, field by field. In: nothing. Out: for each kind the paths (and, where only some values are honoured, the
 * values) that agent/mesh-view and agent/translate turn into behaviour. The controller refuses every set field that is not covered, so
 * this list must never promise more than the code does: it grows in the same commit as the code. A kind without a row here is taken only
 * without any field besides its metadata.
 */

const both = (prefixes: readonly string[], paths: readonly string[]): string[] =>
  prefixes.flatMap((prefix) => paths.map((path) => `${prefix}.${path}`));

/** The three forms of Istio's StringMatch. */
const match = (path: string): string[] => [`${path}.exact`, `${path}.prefix`, `${path}.regex`];

const HEADER_OPERATIONS = both(['request', 'response'], ['set.*', 'add.*', 'remove[]']);
const DESTINATION = ['host', 'subset', 'port.number'];

const WORKLOAD = ['labels.*', 'locality', 'ports.*', 'serviceAccount', 'weight'];

const SERVICE_ENTRY = [
  'hosts[]',
  'addresses[]',
  'ports[].name',
  'ports[].number',
  'ports[].protocol',
  'ports[].targetPort',
  'location',
  'resolution',
  'exportTo[]',
  'workloadSelector.labels.*',
  'endpoints[].address',
  ...both(['endpoints[]'], WORKLOAD),
];

const HTTP_MATCH = [
  'name',
  ...match('uri'),
  ...match('scheme'),
  ...match('method'),
  ...match('authority'),
  ...match('headers.*'),
  ...match('withoutHeaders.*'),
  ...match('queryParams.*'),
  'ignoreUriCase',
  'port',
  'sourceLabels.*',
  'sourceNamespace',
  'gateways[]',
];

const HTTP_ROUTE = [
  'name',
  ...both(['match[]'], HTTP_MATCH),
  ...both(['route[].destination'], DESTINATION),
  'route[].weight',
  ...both(['route[].headers', 'headers'], HEADER_OPERATIONS),
  'redirect.uri',
  'redirect.authority',
  'redirect.scheme',
  'redirect.port',
  'redirect.derivePort',
  'redirect.redirectCode',
  'directResponse.status',
  'directResponse.body.string',
  'directResponse.body.bytes',
  'rewrite.uri',
  'rewrite.authority',
  'rewrite.uriRegexRewrite.match',
  'rewrite.uriRegexRewrite.rewrite',
  'timeout',
  'retries.attempts',
  'retries.perTryTimeout',
  'retries.retryOn',
  'retries.backoff',
  'retries.retryIgnorePreviousHosts',
  'retries.retryRemoteLocalities',
  'fault.delay.fixedDelay',
  'fault.delay.percent',
  'fault.delay.percentage.value',
  'fault.abort.httpStatus',
  'fault.abort.grpcStatus',
  'fault.abort.percentage.value',
  ...both(['mirror', 'mirrors[].destination'], DESTINATION),
  'mirrorPercentage.value',
  'mirrorPercent',
  'mirror_percent',
  'mirrors[].percentage.value',
  ...match('corsPolicy.allowOrigins[]'),
  'corsPolicy.allowOrigin[]',
  'corsPolicy.allowMethods[]',
  'corsPolicy.allowHeaders[]',
  'corsPolicy.exposeHeaders[]',
  'corsPolicy.maxAge',
  'corsPolicy.allowCredentials',
  'corsPolicy.unmatchedPreflights',
];

const L4_MATCH = ['destinationSubnets[]', 'port', 'sourceLabels.*', 'sourceNamespace', 'gateways[]'];
const L4_ROUTE = [...both(['route[].destination'], DESTINATION), 'route[].weight'];

const VIRTUAL_SERVICE = [
  'hosts[]',
  'gateways[]',
  'exportTo[]',
  ...both(['http[]'], HTTP_ROUTE),
  ...both(['tcp[].match[]', 'tls[].match[]'], L4_MATCH),
  'tls[].match[].sniHosts[]',
  ...both(['tcp[]', 'tls[]'], L4_ROUTE),
];

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

const spec = (paths: readonly string[]): readonly string[] => paths.map((path) => `spec.${path}`);

/**
 * Paths that are enforced, by kind: `a[].b` for lists, `a.*` for every key of a map, a pattern that ends in `.**` for a whole subtree. A
 * field that is set and matches no pattern must be refused with its path.
 */
export const ENFORCED: Readonly<Record<string, readonly string[]>> = {
  Service: spec([
    'type',
    'selector.*',
    'ports[].name',
    'ports[].port',
    'ports[].protocol',
    'ports[].targetPort',
    'ports[].appProtocol',
  ]),
  ServiceEntry: spec(SERVICE_ENTRY),
  WorkloadEntry: spec(['address', ...WORKLOAD]),
  WorkloadGroup: spec(['metadata.labels.*', 'metadata.annotations.*', ...both(['template'], WORKLOAD)]),
  VirtualService: spec(VIRTUAL_SERVICE),
  DestinationRule: spec(DESTINATION_RULE),
  PeerAuthentication: spec(['selector.matchLabels.*', 'mtls.mode', 'portLevelMtls.*.mode']),
  MeshConfig: spec(['outboundTrafficPolicy.mode']),
};

/**
 * Where only some values of an enforced field are honoured: the values, by kind and by the same path patterns. Any other value must be
 * refused. A field that is absent here is free (within its schema).
 */
export const ENFORCED_VALUES: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  Service: { 'spec.type': ['ClusterIP'], 'spec.ports[].protocol': ['TCP'] },
  ServiceEntry: { 'spec.resolution': ['NONE', 'STATIC', 'DNS', 'DNS_ROUND_ROBIN'] },
  VirtualService: {
    'spec.gateways[]': ['mesh'],
    'spec.http[].match[].gateways[]': ['mesh'],
    'spec.tcp[].match[].gateways[]': ['mesh'],
    'spec.tls[].match[].gateways[]': ['mesh'],
  },
  DestinationRule: {
    'spec.trafficPolicy.tls.mode': ['DISABLE', 'ISTIO_MUTUAL'],
    'spec.trafficPolicy.portLevelSettings[].tls.mode': ['DISABLE', 'ISTIO_MUTUAL'],
    'spec.subsets[].trafficPolicy.tls.mode': ['DISABLE', 'ISTIO_MUTUAL'],
    'spec.subsets[].trafficPolicy.portLevelSettings[].tls.mode': ['DISABLE', 'ISTIO_MUTUAL'],
  },
  MeshConfig: { 'spec.outboundTrafficPolicy.mode': ['ALLOW_ANY', 'REGISTRY_ONLY'] },
};
