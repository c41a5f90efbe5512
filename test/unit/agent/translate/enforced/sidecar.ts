import { object } from '../../mesh-view/build-mesh.ts';
import type { Row } from './row.ts';

const ONLY_WEB = { hosts: ['./web.default.svc.cluster.local'] };
const port = (number: number, protocol?: string) => ({ number, ...(protocol === undefined ? {} : { protocol }) });
const ingress = (more: object) => ({ ingress: [{ port: port(9080, 'HTTP'), ...more }] });

const POOLS: readonly object[] = [
  { tcp: { maxConnections: 3 } },
  { tcp: { connectTimeout: '3s' } },
  { tcp: { idleTimeout: '4s' } },
  { tcp: { maxConnectionDuration: '5s' } },
  { tcp: { tcpKeepalive: { probes: 3, time: '60s', interval: '10s' } } },
  { http: { http1MaxPendingRequests: 5 } },
  { http: { http2MaxRequests: 6 } },
  { http: { maxRequestsPerConnection: 7 } },
  { http: { maxRetries: 8 } },
  { http: { idleTimeout: '9s' } },
  { http: { maxConcurrentStreams: 10 } },
];

export const SIDECAR_ROWS: readonly Row[] = [
  {
    kind: 'Sidecar',
    base: { egress: [{ hosts: ['*/*'] }] },
    exclusions: [{ outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } }],
    changes: [
      { egress: [ONLY_WEB] },
      { workloadSelector: { labels: { app: 'web' } }, egress: [ONLY_WEB] },
      { egress: [{ port: port(80, 'TCP'), hosts: ['./reviews.default.svc.cluster.local'] }] },
      { egress: [{ port: port(80, 'HTTP'), bind: '10.8.8.8', hosts: ['*/*'] }, { hosts: ['*/*'] }] },
      {
        egress: [
          { port: port(5432, 'TCP'), bind: '127.0.0.2', captureMode: 'NONE', hosts: ['*/*'] },
          { hosts: ['*/*'] },
        ],
      },
      {
        outboundTrafficPolicy: {
          mode: 'ALLOW_ANY',
          egressProxy: { host: 'db.default.svc.cluster.local', subset: 's', port: { number: 5432 } },
        },
      },
      ingress({}),
      { ingress: [{ port: port(9080, 'TCP') }] },
      { ingress: [{ port: port(9999, 'HTTP') }] },
      ingress({ defaultEndpoint: '127.0.0.1:9081' }),
      ingress({ captureMode: 'NONE', defaultEndpoint: '127.0.0.1:9081' }),
      ingress({ captureMode: 'NONE', bind: '10.0.0.2', defaultEndpoint: '127.0.0.1:9081' }),
      ...POOLS.map((inboundConnectionPool) => ({ inboundConnectionPool })),
      ...POOLS.map((connectionPool) => ingress({ connectionPool })),
    ],
  },
  {
    kind: 'ProxyConfig',
    base: {},
    changes: [{ concurrency: 3 }, { concurrency: 40, selector: { matchLabels: { app: 'web' } } }],
    beside: [object('ProxyConfig', 'zz', { concurrency: 7 }), object('ProxyConfig', 'reviews', { concurrency: 9 })],
  },
];
