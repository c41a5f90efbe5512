import { object } from '../../mesh-view/build-mesh.ts';
import type { Row } from './row.ts';

const ONLY_WEB = { hosts: ['./web.default.svc.cluster.local'] };
const port = (number: number, protocol?: string) => ({ number, ...(protocol === undefined ? {} : { protocol }) });
const ingress = (more: object) => ({ ingress: [{ port: port(9080, 'HTTP'), ...more }] });

const pair = (name: string) => ({
  serverCertificate: `/etc/mesh/tls/${name}.pem`,
  privateKey: `/etc/mesh/tls/${name}.key`,
});
const tls = (more: object) => ({ ingress: [{ port: port(9443, 'HTTPS'), tls: more }] });
const MUTUAL = { mode: 'MUTUAL', ...pair('a'), caCertificates: '/etc/mesh/tls/ca.pem' };

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
    beside: [
      object('PeerAuthentication', 'tls', {
        selector: { matchLabels: { app: 'reviews' } },
        portLevelMtls: { '9443': { mode: 'DISABLE' } },
      }),
    ],
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
      tls({ mode: 'SIMPLE', ...pair('a') }),
      tls({ mode: 'SIMPLE', tlsCertificates: [pair('rsa'), pair('ec')] }),
      tls({ mode: 'MUTUAL', ...pair('a'), caCertificates: '/etc/mesh/tls/ca.pem', caCrl: '/etc/mesh/tls/crl.pem' }),
      tls({ ...MUTUAL, verifyCertificateSpki: ['NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A='] }),
      tls({ ...MUTUAL, verifyCertificateHash: ['df6ff72fe9116521268f6f2dd4966f51df479883fe7037b39f75916ac3049d1a'] }),
      tls({ mode: 'SIMPLE', ...pair('a'), minProtocolVersion: 'TLSV1_3' }),
      tls({ mode: 'SIMPLE', ...pair('a'), maxProtocolVersion: 'TLSV1_2' }),
      tls({ mode: 'SIMPLE', ...pair('a'), cipherSuites: ['ECDHE-RSA-AES128-GCM-SHA256'] }),
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
