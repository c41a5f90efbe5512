import { object } from '../../mesh-view/build-mesh.ts';
import type { Row } from './row.ts';

/** The gateway of network `away`: web's host plays it. */
const GATEWAY = object(
  'Service',
  'eastwest',
  { selector: { app: 'web' }, ports: [{ name: 'tls', port: 15443 }] },
  { labels: { 'topology.istio.io/network': 'away' } },
);

export const SERVICE_ROWS: readonly Row[] = [
  {
    kind: 'Service',
    name: 'extra',
    base: { selector: { app: 'reviews' }, ports: [{ name: 'http', port: 7000 }] },
    changes: [
      { type: 'ClusterIP', selector: { app: 'web' } },
      { ports: [{ port: 7001, protocol: 'TCP', targetPort: 9080, appProtocol: 'grpc' }] },
      { ports: [{ name: 'tcp', port: 7000 }] },
      { ports: [{ name: 'grpc-web', port: 7000 }] },
      { clusterIP: 'None' },
      { ipFamilies: ['IPv6'] },
      { ipFamilyPolicy: 'SingleStack' },
      { internalTrafficPolicy: 'Local' },
      { trafficDistribution: 'PreferSameNode' },
      { selector: { app: 'idle' }, publishNotReadyAddresses: true },
      { type: 'ExternalName', externalName: 'other.example' },
    ],
  },
  {
    kind: 'ServiceEntry',
    name: 'extra',
    beside: [GATEWAY],
    base: { hosts: ['x.example'], ports: [{ number: 80, name: 'http', protocol: 'HTTP' }], resolution: 'STATIC' },
    changes: [
      { hosts: ['y.example'] },
      { addresses: ['10.9.9.9'] },
      { ports: [{ number: 81, protocol: 'TCP', targetPort: 8888 }], endpoints: [{ address: '10.1.1.1' }] },
      { ports: [{ number: 80, name: 'admin' }], endpoints: [{ address: '10.1.1.1', ports: { admin: 81 } }] },
      { resolution: 'DNS' },
      { hosts: ['*.example'], resolution: 'DYNAMIC_DNS' },
      { exportTo: ['nobody'] },
      {
        location: 'MESH_INTERNAL',
        endpoints: [{ address: '10.1.1.1', labels: { 'security.istio.io/tlsMode': 'istio' } }],
        subjectAltNames: ['spiffe://mesh.test/ns/x/sa/y'],
      },
      {
        location: 'MESH_INTERNAL',
        endpoints: [{ address: '10.1.1.1', labels: { 'security.istio.io/tlsMode': 'istio' }, network: 'away' }],
      },
      { workloadSelector: { labels: { app: 'reviews' } } },
      {
        location: 'MESH_INTERNAL',
        endpoints: [{ address: '10.1.1.1', labels: { 'security.istio.io/tlsMode': 'istio' }, serviceAccount: 'q' }],
      },
      {
        endpoints: [
          {
            address: '10.1.1.1',
            labels: { app: 'z' },
            locality: 'eu/a',
            ports: { http: 8081 },
            weight: 3,
          },
        ],
      },
    ],
  },
  {
    kind: 'WorkloadEntry',
    name: 'extra',
    beside: [GATEWAY],
    base: { address: '10.5.5.5', labels: { app: 'reviews' } },
    changes: [
      { address: '10.5.5.6' },
      { labels: { app: 'web' } },
      { locality: 'eu/b' },
      { ports: { http: 9999 } },
      { labels: { app: 'reviews', 'security.istio.io/tlsMode': 'istio' }, serviceAccount: 'own' },
      { weight: 5 },
      { network: 'away' },
    ],
  },
  {
    kind: 'WorkloadGroup',
    name: 'reviews',
    beside: [GATEWAY],
    base: { metadata: { labels: { app: 'reviews' } }, template: { serviceAccount: 'reviews', ports: { http: 9080 } } },
    changes: [
      { metadata: { labels: { version: 'v9' } } },
      { template: { labels: { app: 'web' } } },
      { template: { locality: 'eu/c' } },
      { template: { ports: { http: 9081 } } },
      { template: { serviceAccount: 'else' } },
      { template: { weight: 7 } },
      { template: { network: 'away' } },
      {
        probe: {
          httpGet: {
            port: 8080,
            path: '/healthz',
            host: 'localhost',
            scheme: 'HTTPS',
            httpHeaders: [{ name: 'x', value: 'y' }],
          },
        },
      },
      { probe: { tcpSocket: { port: 8080, host: '127.0.0.1' } } },
      { probe: { grpc: { port: 8080, service: 'x' } } },
      { probe: { exec: { command: ['/usr/local/bin/check', '--fast'] } } },
      {
        probe: {
          tcpSocket: { port: 8080 },
          initialDelaySeconds: 2,
          timeoutSeconds: 3,
          periodSeconds: 4,
          successThreshold: 5,
          failureThreshold: 6,
        },
      },
    ],
  },
];
