import { both, type KindEnforcement, spec } from './paths.ts';

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

/** v1 Service, ServiceEntry, WorkloadEntry, WorkloadGroup. */
export const SERVICE_KINDS: Readonly<Record<string, KindEnforcement>> = {
  Service: {
    fields: spec([
      'type',
      'selector.*',
      'ports[].name',
      'ports[].port',
      'ports[].protocol',
      'ports[].targetPort',
      'ports[].appProtocol',
    ]),
    values: { 'spec.type': ['ClusterIP'], 'spec.ports[].protocol': ['TCP'] },
  },
  ServiceEntry: {
    fields: spec(SERVICE_ENTRY),
    values: { 'spec.resolution': ['NONE', 'STATIC', 'DNS', 'DNS_ROUND_ROBIN'] },
  },
  WorkloadEntry: { fields: spec(['address', ...WORKLOAD]) },
  WorkloadGroup: { fields: spec(['metadata.labels.*', 'metadata.annotations.*', ...both(['template'], WORKLOAD)]) },
};
