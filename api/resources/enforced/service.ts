import { both, type KindEnforcement, spec } from './paths.ts';

const WORKLOAD = ['labels.*', 'locality', 'network', 'ports.*', 'serviceAccount', 'weight'];

const PROBE = [
  'initialDelaySeconds',
  'timeoutSeconds',
  'periodSeconds',
  'successThreshold',
  'failureThreshold',
  'httpGet.path',
  'httpGet.port',
  'httpGet.host',
  'httpGet.scheme',
  'httpGet.httpHeaders[].name',
  'httpGet.httpHeaders[].value',
  'tcpSocket.host',
  'tcpSocket.port',
  'grpc.port',
  'grpc.service',
  'exec.command[]',
];

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
  'subjectAltNames[]',
  'endpoints[].address',
  ...both(['endpoints[]'], WORKLOAD),
];

const NO_NODES = 'there are no nodes whose ports could be opened; let outsiders in by a Gateway';
const NO_CLOUD = 'there is no cloud to ask for a load balancer; let outsiders in by a Gateway';

const SERVICE_REFUSED: Readonly<Record<string, string>> = {
  'spec.ports[].nodePort': NO_NODES,
  'spec.externalTrafficPolicy': NO_NODES,
  'spec.healthCheckNodePort': NO_NODES,
  'spec.allocateLoadBalancerNodePorts': NO_CLOUD,
  'spec.loadBalancerClass': NO_CLOUD,
  'spec.loadBalancerIP': NO_CLOUD,
  'spec.loadBalancerSourceRanges': NO_CLOUD,
  'spec.externalIPs':
    'a namespace could take over another one’s addresses with it (CVE-2020-8554); name addresses in a ServiceEntry',
  'spec.sessionAffinityConfig': 'use a DestinationRule with loadBalancer.consistentHash.useSourceIp',
};

/** v1 Service, ServiceEntry, WorkloadEntry, WorkloadGroup. */
export const SERVICE_KINDS: Readonly<Record<string, KindEnforcement>> = {
  Service: {
    fields: spec([
      'type',
      'externalName',
      'clusterIP',
      'clusterIPs[]',
      'ipFamilies[]',
      'ipFamilyPolicy',
      'internalTrafficPolicy',
      'publishNotReadyAddresses',
      'sessionAffinity',
      'trafficDistribution',
      'selector.*',
      'ports[].name',
      'ports[].port',
      'ports[].protocol',
      'ports[].targetPort',
      'ports[].appProtocol',
    ]),
    values: {
      'spec.type': ['ClusterIP', 'ExternalName'],
      'spec.clusterIP': ['', 'None'],
      'spec.clusterIPs[]': ['', 'None'],
      'spec.sessionAffinity': ['None'],
      'spec.trafficDistribution': ['PreferClose', 'PreferSameZone', 'PreferSameNode'],
      'spec.ports[].protocol': ['TCP'],
    },
    refused: SERVICE_REFUSED,
  },
  ServiceEntry: {
    fields: spec(SERVICE_ENTRY),
    values: { 'spec.resolution': ['NONE', 'STATIC', 'DNS', 'DNS_ROUND_ROBIN', 'DYNAMIC_DNS'] },
  },
  WorkloadEntry: { fields: spec(['address', ...WORKLOAD]) },
  WorkloadGroup: {
    fields: spec([
      'metadata.labels.*',
      'metadata.annotations.*',
      ...both(['template'], WORKLOAD),
      ...both(['probe'], PROBE),
    ]),
    refused: { 'spec.template.address': 'each host brings its own' },
  },
};
