import { group, object } from '../../mesh-view/build-mesh.ts';
import type { Row } from './row.ts';

const web = (name: string) =>
  object('VirtualService', name, {
    hosts: [`${name}.example`],
    gateways: ['gw'],
    http: [{ route: [{ destination: { host: 'reviews', port: { number: 80 } } }] }],
    tcp: [{ route: [{ destination: { host: 'db', port: { number: 5432 } } }] }],
    tls: [{ match: [{ sniHosts: [`${name}.example`] }], route: [{ destination: { host: 'db' } }] }],
  });

const http = (more: object = {}) => ({
  servers: [{ port: { number: 80, name: 'web', protocol: 'HTTP' }, hosts: ['x.example'], ...more }],
});
const tls = (more: object, protocol = 'HTTPS') => ({
  servers: [{ port: { number: 443, name: 'secure', protocol }, hosts: ['x.example'], tls: more }],
});
const pair = (name: string) => ({
  serverCertificate: `/etc/mesh/tls/${name}.pem`,
  privateKey: `/etc/mesh/tls/${name}.key`,
});

export const GATEWAY_ROWS: readonly Row[] = [
  {
    kind: 'Gateway',
    name: 'gw',
    base: { selector: { istio: 'ingressgateway' }, ...http({ hosts: ['none.example'] }) },
    beside: [group('edge', {}, { labels: { istio: 'ingressgateway' } }), web('x'), web('y')],
    changes: [
      http({ hosts: ['x.example', 'default/y.example'] }),
      http({ bind: '10.0.0.1' }),
      http({ name: 'first' }),
      http({ tls: { httpsRedirect: true } }),
      tls({ mode: 'SIMPLE', credentialName: 'c' }),
      tls({ mode: 'SIMPLE', credentialName: 'c' }, 'TLS'),
      tls({ mode: 'SIMPLE', ...pair('a') }),
      tls({ mode: 'SIMPLE', tlsCertificates: [pair('rsa'), pair('ec')] }),
      tls({ mode: 'SIMPLE', credentialNames: ['rsa', 'ec'] }),
      tls({
        mode: 'SIMPLE',
        credentialName: 'c',
        minProtocolVersion: 'TLSV1_3',
        cipherSuites: ['ECDHE-RSA-AES128-GCM-SHA256'],
      }),
      tls({ mode: 'SIMPLE', credentialName: 'c', maxProtocolVersion: 'TLSV1_2' }),
      tls({ mode: 'MUTUAL', ...pair('a'), caCertificates: '/etc/mesh/tls/ca.pem', caCrl: '/etc/mesh/tls/crl.pem' }),
      tls({
        mode: 'OPTIONAL_MUTUAL',
        credentialName: 'c',
        caCertCredentialName: 'clients',
        subjectAltNames: ['client.example'],
        verifyCertificateSpki: ['wzvOAvNZ3M8j5Sb7pYtXa5WXnT5dVDjfH7rkwLP3+3k='],
        verifyCertificateHash: ['df6ff72fe9116521268f6f2dd4966f51df479883fe7037b39f75916ac3049d1a'],
      }),
      tls({ mode: 'ISTIO_MUTUAL', subjectAltNames: ['spiffe://mesh.test/ns/default/sa/web'] }),
      {
        servers: [
          {
            port: { number: 15443, name: 'auto', protocol: 'TLS' },
            hosts: ['*.local'],
            tls: { mode: 'AUTO_PASSTHROUGH' },
          },
        ],
      },
      { servers: [{ port: { number: 9000, name: 'bytes', protocol: 'TCP' }, hosts: ['x.example'] }] },
    ],
    exclusions: [{ selector: { app: 'other' } }],
  },
];
