import { object } from '../../mesh-view/build-mesh.ts';
import type { Row } from './row.ts';

const route = { destination: { host: 'reviews' } };

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
  { outlierDetection: { consecutive5xxErrors: 2 } },
  { outlierDetection: { consecutiveGatewayErrors: 2 } },
  { outlierDetection: { splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2 } },
  { outlierDetection: { interval: '1s', baseEjectionTime: '2s', maxEjectionPercent: 30, minHealthPercent: 40 } },
  { tls: { mode: 'DISABLE' } },
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
      }),
    ],
    base: { host: 'reviews', subsets: [{ name: 'v1', labels: { version: 'v1' } }], trafficPolicy: {} },
    changes: [
      { host: 'web' },
      { exportTo: ['elsewhere'] },
      { subsets: [{ name: 'v2', labels: { version: 'v2' } }] },
      ...PORT_POLICY_CHANGES.map((trafficPolicy) => ({ trafficPolicy })),
      ...PORT_POLICY_CHANGES.map((policy) => ({
        trafficPolicy: { portLevelSettings: [{ port: { number: 80 }, ...policy }] },
      })),
      ...PORT_POLICY_CHANGES.map((trafficPolicy) => ({
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
