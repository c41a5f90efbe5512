import type { StructuralSchema } from './structural.ts';

const STRING: StructuralSchema = { type: 'string' };
const BOOLEAN: StructuralSchema = { type: 'boolean' };
const NUMBER: StructuralSchema = { type: 'number' };
const ANYTHING: StructuralSchema = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
const list = (items: StructuralSchema, description?: string): StructuralSchema => ({
  type: 'array',
  items,
  ...(description === undefined ? {} : { description }),
});
const record = (properties: Readonly<Record<string, StructuralSchema>>): StructuralSchema => ({
  type: 'object',
  properties,
});
const choice = (description: string, ...values: string[]): StructuralSchema => ({
  type: 'string',
  enum: values,
  description,
});
const text = (description: string): StructuralSchema => ({ type: 'string', description });

const RETRIES = record({
  attempts: NUMBER,
  perTryTimeout: STRING,
  retryOn: STRING,
  backoff: STRING,
  retryRemoteLocalities: BOOLEAN,
  retryIgnorePreviousHosts: BOOLEAN,
});

const LOCALITY = record({
  distribute: list(record({ from: STRING, to: { type: 'object', additionalProperties: NUMBER } })),
  failover: list(record({ from: STRING, to: STRING })),
  failoverPriority: list(STRING),
  enabled: BOOLEAN,
});

const TLS = record({ minProtocolVersion: STRING, ecdhCurves: list(STRING), cipherSuites: list(STRING) });

/**
 * MeshConfig: what holds for the whole mesh. One object, `default`. The fields of Istio's MeshConfig by their names, and three of our own:
 * trustDomain as it was fixed, accessLog, hostOwnership. Fields that are here only to be refused say why in enforced/mesh-config.ts.
 */
export const MESH_CONFIG: StructuralSchema = record({
  trustDomain: text('Fixed when the mesh was made; may be repeated here, never changed.'),
  outboundTrafficPolicy: record({
    mode: choice(
      'What a workload may reach that no service names. ALLOW_ANY by default.',
      'ALLOW_ANY',
      'REGISTRY_ONLY',
    ),
  }),
  accessLog: record({ enabled: { type: 'boolean', description: 'Access logs of every proxy. On by default.' } }),
  accessLogFile: text('/dev/stdout, which is the journal; empty: no access log.'),
  accessLogFormat: text('Envoy’s format commands; with encoding JSON a JSON object of them.'),
  accessLogEncoding: choice('JSON by default, TEXT where a format is written.', 'TEXT', 'JSON'),
  connectTimeout: text('Of connections to services; 10s by default.'),
  tcpKeepalive: record({ probes: NUMBER, time: STRING, interval: STRING }),
  dnsRefreshRate: text('How often names of services with resolution DNS are looked up; 60s by default.'),
  protocolDetectionTimeout: text(
    'How long a connection of undeclared protocol is watched; 200ms by default, 0s: for ever.',
  ),
  enableAutoMtls: { type: 'boolean', description: 'False: mTLS only where a DestinationRule says ISTIO_MUTUAL.' },
  h2UpgradePolicy: choice(
    'HTTP/2 between proxies where no DestinationRule says otherwise.',
    'UPGRADE',
    'DO_NOT_UPGRADE',
  ),
  defaultServiceExportTo: list(STRING, 'exportTo of services that have none.'),
  defaultVirtualServiceExportTo: list(STRING, 'exportTo of VirtualServices that have none.'),
  defaultDestinationRuleExportTo: list(STRING, 'exportTo of DestinationRules that have none.'),
  defaultHttpRetryPolicy: RETRIES,
  localityLbSetting: LOCALITY,
  pathNormalization: record({
    normalization: choice(
      'Of request paths, before any rule sees them. BASE by default.',
      'DEFAULT',
      'NONE',
      'BASE',
      'MERGE_SLASHES',
      'DECODE_AND_MERGE_SLASHES',
    ),
  }),
  meshMTLS: TLS,
  defaultConfig: record({
    concurrency: { type: 'number', description: 'Worker threads of each proxy; 0: one a processor.' },
    proxyMetadata: { type: 'object', additionalProperties: STRING },
    image: ANYTHING,
    tracing: ANYTHING,
    holdApplicationUntilProxyStarts: BOOLEAN,
    drainDuration: STRING,
    terminationDrainDuration: STRING,
    discoveryAddress: STRING,
    proxyStatsMatcher: ANYTHING,
    proxyHeaders: ANYTHING,
    gatewayTopology: ANYTHING,
  }),
  hostOwnership: {
    type: 'array',
    description:
      'Which namespace may define an external or wildcard host for the whole mesh. The longest match decides.',
    items: {
      type: 'object',
      required: ['hosts', 'namespace'],
      properties: { hosts: list(STRING, 'Host names, `*.example.com` for all below.'), namespace: STRING },
    },
  },
  rootNamespace: STRING,
  trustDomainAliases: list(STRING),
  verifyCertificateAtClient: BOOLEAN,
  tlsDefaults: TLS,
  caCertificates: list(ANYTHING),
  certificates: list(ANYTHING),
  ca: ANYTHING,
  extensionProviders: list(ANYTHING),
  defaultProviders: ANYTHING,
  enableTracing: BOOLEAN,
  enableEnvoyAccessLogService: BOOLEAN,
  disableEnvoyListenerLog: BOOLEAN,
  enablePrometheusMerge: BOOLEAN,
  inboundTrafficPolicy: ANYTHING,
  discoverySelectors: list(ANYTHING),
  configSources: list(ANYTHING),
  serviceSettings: list(ANYTHING),
  ingressService: STRING,
  ingressClass: STRING,
  ingressControllerMode: STRING,
  ingressSelector: STRING,
  inboundClusterStatName: STRING,
  outboundClusterStatName: STRING,
});
