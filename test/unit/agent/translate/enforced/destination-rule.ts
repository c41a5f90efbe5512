import { object } from '../../mesh-view/build-mesh.ts';
import type { Row } from './row.ts';

const route = { destination: { host: 'reviews' } };

/** Failover is nothing without it. */
const OUTLIER = { outlierDetection: { interval: '7s' } };

const PORT_POLICY_CHANGES: readonly object[] = [
  ...['ROUND_ROBIN'].map((simple) => ({ loadBalancer: { simple } })),
  { loadBalancer: { consistentHash: { httpHeaderName: 'x' } } },
  { loadBalancer: { consistentHash: { httpCookie: { name: 'c', path: '/p', ttl: '5s' } } } },
  { loadBalancer: { consistentHash: { useSourceIp: true } } },
  { loadBalancer: { consistentHash: { httpQueryParameterName: 'q' } } },
  { loadBalancer: { consistentHash: { useSourceIp: true, minimumRingSize: 2048 } } },
  { loadBalancer: { consistentHash: { useSourceIp: true, ringHash: { minimumRingSize: 512 } } } },
  { loadBalancer: { consistentHash: { useSourceIp: true, maglev: { tableSize: 101 } } } },
  { connectionPool: { tcp: { maxConnections: 3 } } },
  { connectionPool: { tcp: { connectTimeout: '3s' } } },
  { connectionPool: { tcp: { tcpKeepalive: { probes: 3, time: '60s', interval: '10s' } } } },
  { connectionPool: { http: { http1MaxPendingRequests: 5 } } },
  { connectionPool: { http: { http2MaxRequests: 6 } } },
  { connectionPool: { http: { maxRequestsPerConnection: 7 } } },
  { connectionPool: { http: { maxRetries: 8 } } },
  { connectionPool: { http: { idleTimeout: '9s' } } },
  { connectionPool: { http: { h2UpgradePolicy: 'DO_NOT_UPGRADE' } } },
  { connectionPool: { http: { maxConcurrentStreams: 10 } } },
  { connectionPool: { http: { useClientProtocol: true } } },
  {
    loadBalancer: {
      consistentHash: { httpCookie: { name: 'c', attributes: [{ name: 'SameSite', value: 'Strict' }] } },
    },
  },
  { loadBalancer: { warmup: { duration: '30s', minimumPercent: 20, aggression: 2 } } },
  { loadBalancer: { warmupDurationSecs: '30s' } },
  {
    loadBalancer: {
      localityLbSetting: { distribute: [{ from: 'eu/*', to: { 'eu/a': 70, 'us/b': 30 } }] },
    },
  },
  { ...OUTLIER, loadBalancer: { localityLbSetting: { failover: [{ from: 'eu', to: 'us' }] } } },
  { ...OUTLIER, loadBalancer: { localityLbSetting: { failoverPriority: ['version=v0'] } } },
  { ...OUTLIER, loadBalancer: { localityLbSetting: { enabled: false } } },
  { connectionPool: { tcp: { maxConnectionDuration: '40s' } } },
  { connectionPool: { tcp: { idleTimeout: '50s' } } },
  { outlierDetection: { consecutive5xxErrors: 2 } },
  { outlierDetection: { consecutiveErrors: 2 } },
  { outlierDetection: { consecutiveGatewayErrors: 2 } },
  { outlierDetection: { splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2 } },
  { outlierDetection: { interval: '1s', baseEjectionTime: '2s', maxEjectionPercent: 30, minHealthPercent: 40 } },
  { tls: { mode: 'SIMPLE', sni: 'x.example', subjectAltNames: ['y.example'] } },
  { tls: { mode: 'SIMPLE', caCertificates: '/etc/mesh/tls/ca.pem', caCrl: '/etc/mesh/tls/crl.pem' } },
  { tls: { mode: 'SIMPLE', insecureSkipVerify: true } },
  { tls: { mode: 'MUTUAL', credentialName: 'c' } },
  { tls: { mode: 'MUTUAL', clientCertificate: '/etc/mesh/tls/a.pem', privateKey: '/etc/mesh/tls/a.key' } },
];

/** What only a whole policy can say. */
const POLICY_CHANGES: readonly object[] = [
  { tunnel: { protocol: 'POST', targetHost: 'x.example', targetPort: 443 } },
  { proxyProtocol: { version: 'V2' } },
  { retryBudget: { percent: 30, minRetryConcurrency: 7 } },
];

export const DESTINATION_RULE_ROWS: readonly Row[] = [
  {
    kind: 'DestinationRule',
    name: 'extra',
    beside: [
      object('VirtualService', 'split', {
        hosts: ['reviews'],
        http: [
          { match: [{ uri: { prefix: '/v1' } }], route: [{ destination: { host: 'reviews', subset: 'v1' } }] },
          { route: [route] },
        ],
        tcp: [
          { match: [{ port: 90 }], route: [{ destination: { host: 'reviews', subset: 'v1', port: { number: 90 } } }] },
        ],
      }),
    ],
    base: { host: 'reviews', subsets: [{ name: 'v1', labels: { version: 'v1' } }], trafficPolicy: {} },
    changes: [
      { host: 'web' },
      { exportTo: ['elsewhere'] },
      { subsets: [{ name: 'v2', labels: { version: 'v2' } }] },
      { workloadSelector: { matchLabels: { app: 'web' } } },
      ...[...PORT_POLICY_CHANGES, ...POLICY_CHANGES].map((trafficPolicy) => ({ trafficPolicy })),
      ...PORT_POLICY_CHANGES.map((policy) => ({
        trafficPolicy: { portLevelSettings: [{ port: { number: 80 }, ...policy }] },
      })),
      ...[...PORT_POLICY_CHANGES, ...POLICY_CHANGES].map((trafficPolicy) => ({
        subsets: [{ name: 'v1', labels: { version: 'v1' }, trafficPolicy }],
      })),
      ...PORT_POLICY_CHANGES.map((policy) => ({
        subsets: [
          {
            name: 'v1',
            labels: { version: 'v1' },
            trafficPolicy: { portLevelSettings: [{ port: { number: 80 }, ...policy }] },
          },
        ],
      })),
    ],
  },
];
