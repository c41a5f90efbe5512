import { group, object, service, type TestMesh } from '../mesh-view/build-mesh.ts';

const HOSTS = [
  { id: 'a', addresses: ['10.0.0.1', 'fd00::1'], groups: ['shop/till'] },
  { id: 'b', addresses: ['10.0.0.2'], groups: ['books/reviews'] },
];

const MESH = [
  group('till', { http: 8080, admin: 7000 }, { namespace: 'shop' }),
  group('reviews', { http: 9080, tcp: 5432 }, { namespace: 'books' }),
  service('till', [{ name: 'http', port: 80, targetPort: 8080 }], { namespace: 'shop' }),
  service('reviews', [{ name: 'http', port: 80, targetPort: 9080 }], { namespace: 'books' }),
  service('db', [{ name: 'tcp', port: 5432 }], { namespace: 'books', app: 'reviews' }),
  object(
    'ServiceEntry',
    'mysql',
    {
      hosts: ['mysql.foo.com'],
      ports: [{ number: 3306, name: 'mysql', protocol: 'MYSQL' }],
      resolution: 'DNS',
    },
    { namespace: 'books' },
  ),
];

/** Sidecars with all kinds of listeners, and a MeshConfig with all that it can say to the proxies. */
export const SIDECAR_CASES: Readonly<Record<string, TestMesh>> = {
  'sidecar-listeners': {
    hosts: HOSTS,
    objects: [
      ...MESH,
      object(
        'PeerAuthentication',
        'tls',
        { selector: { matchLabels: { app: 'till' } }, portLevelMtls: { '8443': { mode: 'DISABLE' } } },
        { namespace: 'shop' },
      ),
      object(
        'Sidecar',
        'till',
        {
          workloadSelector: { labels: { app: 'till' } },
          ingress: [
            {
              port: { number: 8080, protocol: 'HTTP', name: 'http' },
              defaultEndpoint: '127.0.0.1:8081',
              connectionPool: { tcp: { maxConnections: 9 }, http: { http2MaxRequests: 5, idleTimeout: '3s' } },
            },
            {
              port: { number: 9443, protocol: 'TCP', name: 'tcp' },
              captureMode: 'NONE',
              bind: '10.0.0.1',
              defaultEndpoint: '127.0.0.1:9444',
            },
            {
              port: { number: 8443, protocol: 'HTTPS', name: 'https' },
              defaultEndpoint: '127.0.0.1:8081',
              tls: {
                mode: 'SIMPLE',
                serverCertificate: '/etc/mesh/tls/shop/till.pem',
                privateKey: '/etc/mesh/tls/shop/till.key',
              },
            },
          ],
          inboundConnectionPool: { tcp: { idleTimeout: '60s' } },
          egress: [
            {
              port: { number: 3306, protocol: 'MYSQL', name: 'mysql' },
              bind: '127.0.0.1',
              captureMode: 'NONE',
              hosts: ['*/mysql.foo.com'],
            },
            {
              port: { number: 8000, protocol: 'HTTP', name: 'own' },
              bind: '::1',
              captureMode: 'NONE',
              hosts: ['books/*'],
            },
            { port: { number: 80, protocol: 'HTTP', name: 'http' }, hosts: ['books/reviews.books.svc.cluster.local'] },
            { hosts: ['./*'] },
          ],
          outboundTrafficPolicy: {
            mode: 'ALLOW_ANY',
            egressProxy: { host: 'db.books.svc.cluster.local', port: { number: 5432 } },
          },
        },
        { namespace: 'shop' },
      ),
    ],
  },
  'mesh-config': {
    hosts: HOSTS,
    self: 'b',
    objects: [
      ...MESH,
      object('MeshConfig', 'default', {
        accessLogFormat: '%PROTOCOL% %REQ(:METHOD)%',
        connectTimeout: '3s',
        tcpKeepalive: { time: '60s' },
        dnsRefreshRate: '7s',
        protocolDetectionTimeout: '1s',
        h2UpgradePolicy: 'DO_NOT_UPGRADE',
        pathNormalization: { normalization: 'DECODE_AND_MERGE_SLASHES' },
        meshMTLS: { minProtocolVersion: 'TLSV1_3' },
        defaultHttpRetryPolicy: { attempts: 5, retryOn: '503' },
        outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' },
      }),
    ],
  },
};
