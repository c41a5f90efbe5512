import type { MeshObject } from '../../../../api/resources/object.ts';
import { group, object, service, type TestHost, type TestMesh } from '../mesh-view/build-mesh.ts';

const HOSTS: readonly TestHost[] = [
  { id: 'a', addresses: ['10.0.0.1'], groups: ['default/web', 'default/batch'] },
  { id: 'b', addresses: ['10.0.0.2'], groups: ['default/reviews'], weight: 2 },
  { id: 'c', addresses: ['10.0.0.3'], groups: ['default/reviews-far'] },
  { id: 'd', addresses: ['10.0.0.4'], groups: ['default/reviews-apart'] },
];

const MESH: readonly MeshObject[] = [
  group('web', {}, { labels: { tier: 'front' } }),
  group('batch', {}, { labels: { tier: 'back' } }),
  group('reviews', { http: 9080 }, { labels: { version: 'v1', tier: 'front' }, locality: 'eu/a/1' }),
  group('reviews-far', { http: 9080 }, { app: 'reviews', labels: { version: 'v2', tier: 'back' }, locality: 'eu/b' }),
  group('reviews-apart', { http: 9080 }, { app: 'reviews', labels: { version: 'v1' }, locality: 'us/c' }),
  service('reviews', [{ name: 'http', port: 80, targetPort: 9080 }]),
];

const mesh = (...objects: readonly MeshObject[]): TestMesh => ({
  objects: [...MESH, ...objects],
  hosts: HOSTS,
  locality: 'eu/a/1',
  ipv6: false,
});

const rule = (trafficPolicy: object, more: object = {}) =>
  object('DestinationRule', 'rule', { host: 'reviews', trafficPolicy, ...more });

const OUTLIER = { outlierDetection: { interval: '5s' } };

const outside = (host: string, resolution: string, ...ports: readonly [number, string][]) =>
  object('ServiceEntry', host, {
    hosts: [host],
    ports: ports.map(([number, protocol]) => ({ number, name: `${protocol.toLowerCase()}-${number}`, protocol })),
    resolution,
    ...(resolution === 'STATIC' ? { endpoints: [{ address: '10.9.0.1' }] } : {}),
  });

const toHost = (host: string, trafficPolicy: object) => object('DestinationRule', host, { host, trafficPolicy });
const file = (name: string) => `/etc/mesh/tls/${name}`;

/** DestinationRule's features, few to a mesh. */
export const DESTINATION_CASES: Readonly<Record<string, TestMesh>> = {
  'destination-pools': mesh(
    rule(
      {
        loadBalancer: { simple: 'ROUND_ROBIN', warmup: { duration: '1m', minimumPercent: 5, aggression: 1.5 } },
        connectionPool: {
          tcp: { maxConnections: 7, maxConnectionDuration: '90s', idleTimeout: '0s', tcpKeepalive: { probes: 3 } },
          http: { http2MaxRequests: 0, maxRetries: 4, maxConcurrentStreams: 9, h2UpgradePolicy: 'UPGRADE' },
        },
        outlierDetection: { consecutiveErrors: 3, splitExternalLocalOriginErrors: true, maxEjectionPercent: 40 },
        retryBudget: { minRetryConcurrency: 0 },
      },
      {
        subsets: [
          { name: 'inherits', labels: { version: 'v1' } },
          {
            name: 'by-port',
            trafficPolicy: {
              portLevelSettings: [
                { port: { number: 80 }, loadBalancer: { simple: 'LEAST_CONN', warmupDurationSecs: '30s' } },
              ],
            },
          },
          { name: 'overrides', trafficPolicy: { connectionPool: { http: { maxRequestsPerConnection: 2 } } } },
          {
            name: 'maglev',
            trafficPolicy: { loadBalancer: { consistentHash: { useSourceIp: true, maglev: { tableSize: 101 } } } },
          },
          { name: 'budget', trafficPolicy: { retryBudget: { percent: 12.5 }, proxyProtocol: {} } },
        ],
      },
    ),
  ),
  'destination-failover': mesh(
    rule(
      { ...OUTLIER, loadBalancer: { localityLbSetting: { failover: [{ from: 'eu', to: 'us' }] } } },
      {
        subsets: [
          { name: 'default', trafficPolicy: { loadBalancer: { simple: 'RANDOM' } } },
          { name: 'off', trafficPolicy: { loadBalancer: { localityLbSetting: { enabled: false } } } },
          {
            name: 'shares',
            trafficPolicy: {
              loadBalancer: { localityLbSetting: { distribute: [{ from: 'eu/*', to: { 'eu/*': 70, 'us/c': 30 } }] } },
            },
          },
          {
            name: 'labels',
            trafficPolicy: {
              loadBalancer: { localityLbSetting: { failoverPriority: ['tier', 'topology.kubernetes.io/region'] } },
            },
          },
        ],
      },
    ),
  ),
  'destination-tls': mesh(
    outside('simple.example', 'STATIC', [443, 'HTTP'], [444, 'TCP'], [445, 'HTTP2']),
    toHost('simple.example', { tls: { mode: 'SIMPLE' } }),
    outside('mutual.example', 'DNS', [443, 'HTTP'], [444, 'TCP']),
    toHost('mutual.example', {
      tls: {
        mode: 'MUTUAL',
        clientCertificate: file('a.pem'),
        privateKey: file('default/a.key'),
        caCertificates: file('ca.pem'),
        caCrl: file('crl.pem'),
        sni: 'sni.example',
      },
      proxyProtocol: { version: 'V2' },
    }),
    outside('names.example', 'STATIC', [443, 'HTTP']),
    toHost('names.example', {
      tls: {
        mode: 'SIMPLE',
        caCertificates: file('ca.pem'),
        subjectAltNames: ['a.example', 'spiffe://x/ns/y/sa/z', '10.1.1.1', 'a@b.example'],
      },
    }),
    outside('blind.example', 'STATIC', [443, 'HTTP']),
    toHost('blind.example', { tls: { mode: 'SIMPLE', insecureSkipVerify: true } }),
    rule({ tls: { mode: 'ISTIO_MUTUAL', sni: 'outer', subjectAltNames: ['spiffe://other/ns/a/sa/b'] } }),
  ),
  'destination-tunnel': mesh(
    outside('proxy.example', 'STATIC', [3128, 'TCP']),
    toHost('proxy.example', {
      tunnel: { protocol: 'POST', targetHost: 'fd00::1', targetPort: 443 },
      connectionPool: { tcp: { idleTimeout: '5m', maxConnectionDuration: '1h' } },
    }),
  ),
  'destination-selector': mesh(
    object('DestinationRule', 'front', {
      host: 'reviews',
      workloadSelector: { matchLabels: { tier: 'front' } },
      trafficPolicy: { loadBalancer: { simple: 'RANDOM' } },
    }),
    rule({ loadBalancer: { simple: 'ROUND_ROBIN' } }, { subsets: [{ name: 'v1', labels: { version: 'v1' } }] }),
  ),
};
