import type { TestMesh } from '../mesh-view/build-mesh.ts';
import { group, object, service } from '../mesh-view/build-mesh.ts';

const HOSTS = [
  { id: 'e', addresses: ['10.0.0.9', 'fd00::9'], groups: [], gateways: ['default/edge'] },
  { id: 'b', addresses: ['10.0.0.2', 'fd00::2'], groups: ['default/reviews', 'default/db'] },
];

const MESH = [
  group('edge', {}, { labels: { istio: 'ingressgateway' } }),
  group('reviews', { http: 9080 }, { labels: { version: 'v1' } }),
  group('db', { tcp: 5432 }),
  service('reviews', [{ name: 'http', port: 80, targetPort: 9080 }]),
  service('db', [{ name: 'tcp', port: 5432 }]),
  service('edge', [{ name: 'http', port: 80, targetPort: 8080 }]),
];

const SELECTOR = { istio: 'ingressgateway' };
const server = (number: number, protocol: string, hosts: string[], more: object = {}) => ({
  port: { number, name: `${protocol.toLowerCase()}-${number}-${hosts.length}`, protocol },
  hosts,
  ...more,
});
const web = (hosts: string[], more: object = {}) => ({
  hosts,
  gateways: ['edge'],
  http: [{ route: [{ destination: { host: 'reviews' } }] }],
  ...more,
});

/** Meshes with a gateway whose whole translation is kept as text. */
export const GATEWAY_CASES: Readonly<Record<string, TestMesh>> = {
  'gateway-http': {
    hosts: HOSTS,
    self: 'e',
    objects: [
      ...MESH,
      object('Gateway', 'edge', {
        selector: SELECTOR,
        servers: [
          server(80, 'HTTP', ['*.example.com', './own.example']),
          server(8081, 'HTTP', ['*'], { tls: { httpsRedirect: true }, bind: '10.0.0.9' }),
          server(443, 'HTTPS', ['a.example.com'], { tls: { mode: 'SIMPLE', credentialName: 'web' } }),
        ],
      }),
      object('Gateway', 'more', { selector: SELECTOR, servers: [server(80, 'HTTP2', ['b.example'])] }, { created: 1 }),
      object('VirtualService', 'a', web(['a.example.com'], { gateways: ['edge', 'mesh'] })),
      object('VirtualService', 'b', web(['b.example', '*.example.com'], { gateways: ['edge', 'default/more'] }), {
        created: 1,
      }),
      object('VirtualService', 'own', web(['own.example'], { gateways: ['other/edge'] }), { created: 2 }),
    ],
  },
  'gateway-tls': {
    hosts: HOSTS,
    self: 'e',
    revoked: ['c'],
    objects: [
      ...MESH,
      object('Gateway', 'edge', {
        selector: SELECTOR,
        servers: [
          server(443, 'HTTPS', ['mutual.example'], {
            tls: {
              mode: 'MUTUAL',
              credentialName: 'web',
              subjectAltNames: ['client.example', 'spiffe://x/y'],
              verifyCertificateSpki: ['wzvOAvNZ3M8j5Sb7pYtXa5WXnT5dVDjfH7rkwLP3+3k='],
              minProtocolVersion: 'TLSV1_3',
            },
          }),
          server(443, 'HTTPS', ['optional.example', 'o.example'], {
            tls: { mode: 'OPTIONAL_MUTUAL', credentialNames: ['rsa', 'ec'], caCertCredentialName: 'clients' },
          }),
          server(443, 'TLS', ['bytes.example', 'c', 'd'], {
            tls: {
              mode: 'SIMPLE',
              serverCertificate: '/etc/mesh/tls/web.pem',
              privateKey: '/etc/mesh/tls/web.key',
              maxProtocolVersion: 'TLSV1_2',
              cipherSuites: ['ECDHE-ECDSA-AES128-GCM-SHA256'],
            },
          }),
          server(443, 'TLS', ['*.pass.example', 'pass.example', 'e', 'f'], { tls: { mode: 'PASSTHROUGH' } }),
          server(15443, 'TLS', ['*.local'], { tls: { mode: 'AUTO_PASSTHROUGH' } }),
          server(8443, 'HTTPS', ['*'], { tls: { mode: 'ISTIO_MUTUAL' } }),
          server(9000, 'TCP', ['*']),
        ],
      }),
      object('VirtualService', 'bytes', {
        hosts: ['bytes.example'],
        gateways: ['edge'],
        tcp: [{ match: [{ port: 443 }], route: [{ destination: { host: 'db' } }] }],
      }),
      object('VirtualService', 'pass', {
        hosts: ['*.pass.example'],
        gateways: ['edge'],
        tls: [
          { match: [{ sniHosts: ['one.pass.example'] }], route: [{ destination: { host: 'db' } }] },
          { match: [{ sniHosts: ['*.pass.example'] }], route: [{ destination: { host: 'reviews' } }] },
        ],
      }),
      object(
        'VirtualService',
        'web',
        web(['*.example', 'mutual.example'], { hosts: ['mutual.example', 'optional.example'] }),
      ),
      object('VirtualService', 'db', {
        hosts: ['anything.example'],
        gateways: ['edge'],
        tcp: [
          {
            match: [{ port: 9000, destinationSubnets: ['10.0.0.9/32'] }],
            route: [{ destination: { host: 'reviews' } }],
          },
          { match: [{ port: 9000 }], route: [{ destination: { host: 'db' } }] },
        ],
      }),
    ],
  },
};
