import type { TestMesh } from '../mesh-view/build-mesh.ts';
import { group, object, service } from '../mesh-view/build-mesh.ts';
import { DESTINATION_CASES } from './golden-destination.ts';
import { GATEWAY_CASES } from './golden-gateways.ts';
import { SERVICE_CASES } from './golden-services.ts';
import { SIDECAR_CASES } from './golden-sidecars.ts';
import { VIRTUAL_SERVICE_CASES } from './golden-virtual-services.ts';

const HOSTS = [
  { id: 'a', addresses: ['10.0.0.1', 'fd00::1'], groups: ['default/web', 'shop/till'] },
  { id: 'b', addresses: ['10.0.0.2', 'fd00::2'], groups: ['default/reviews', 'default/db'] },
  { id: 'c', addresses: ['10.0.0.3'], groups: ['default/reviews'], health: 'draining' as const, weight: 3 },
];

const MESH = [
  group('web', { http: 8080 }),
  group('till', {}, { namespace: 'shop' }),
  group('reviews', { http: 9080 }, { labels: { version: 'v1' }, locality: 'eu/a' }),
  group('db', { tcp: 5432 }),
  service('web', [{ name: 'http', port: 80, targetPort: 8080 }]),
  service('reviews', [{ name: 'http', port: 80, targetPort: 9080 }]),
  service('db', [{ name: 'tcp', port: 5432 }]),
];

/** Meshes whose whole translation is kept as text, by the name of the file in test/golden/translate. */
export const GOLDEN_CASES: Readonly<Record<string, TestMesh>> = {
  ...VIRTUAL_SERVICE_CASES,
  ...DESTINATION_CASES,
  ...GATEWAY_CASES,
  ...SERVICE_CASES,
  ...SIDECAR_CASES,
  plain: { objects: MESH, hosts: HOSTS },
  'no-ipv6': { objects: MESH, hosts: HOSTS, ipv6: false, self: 'b' },
  routing: {
    hosts: HOSTS,
    objects: [
      ...MESH,
      object('DestinationRule', 'reviews', { host: 'reviews', subsets: [{ name: 'v1', labels: { version: 'v1' } }] }),
      object('VirtualService', 'reviews', {
        hosts: ['reviews'],
        http: [
          {
            name: 'test',
            match: [{ headers: { 'x-user': { regex: 't.*' } }, uri: { prefix: '/api' }, ignoreUriCase: true }],
            rewrite: { uri: '/' },
            timeout: '1.5s',
            retries: { attempts: 3, retryOn: '5xx,409', perTryTimeout: '500ms' },
            fault: { delay: { fixedDelay: '2s', percentage: { value: 12.5 } }, abort: { httpStatus: 503 } },
            corsPolicy: { allowOrigins: [{ exact: 'https://x.example' }], maxAge: '1h' },
            mirror: { host: 'db', port: { number: 5432 } },
            headers: { request: { set: { Host: 'inner', a: '1' } }, response: { remove: ['server'] } },
            route: [{ destination: { host: 'reviews', subset: 'v1' } }],
          },
          { match: [{ uri: { exact: '/moved' } }], redirect: { uri: '/', redirectCode: 308 } },
          {
            route: [
              { destination: { host: 'reviews', subset: 'v1' }, weight: 80 },
              { destination: { host: 'web' }, weight: 20 },
            ],
          },
        ],
      }),
      object('VirtualService', 'db', { hosts: ['db'], tcp: [{ route: [{ destination: { host: 'db' } }] }] }),
    ],
  },
  policy: {
    hosts: HOSTS,
    self: 'b',
    locality: 'eu/a',
    revoked: ['c'],
    objects: [
      ...MESH,
      object('PeerAuthentication', 'mesh', { mtls: { mode: 'STRICT' } }, { namespace: 'istio-system' }),
      object('DestinationRule', 'reviews', {
        host: 'reviews',
        trafficPolicy: {
          loadBalancer: { consistentHash: { httpCookie: { name: 'c', ttl: '60s' } } },
          connectionPool: { tcp: { maxConnections: 5, tcpKeepalive: { time: '60s' } }, http: { http2MaxRequests: 9 } },
          outlierDetection: {
            consecutive5xxErrors: 3,
            consecutiveGatewayErrors: 0,
            interval: '10s',
            minHealthPercent: 20,
          },
        },
      }),
      object('MeshConfig', 'default', { outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } }),
    ],
  },
  external: {
    hosts: HOSTS,
    objects: [
      ...MESH,
      object('ServiceEntry', 'dns', {
        hosts: ['x.example'],
        ports: [{ number: 443, name: 'tls', protocol: 'TLS' }],
        resolution: 'DNS',
      }),
      object('ServiceEntry', 'wild', {
        hosts: ['*.y.example'],
        ports: [{ number: 80, name: 'http', protocol: 'HTTP' }],
      }),
      object('ServiceEntry', 'mixed', {
        hosts: ['z.example'],
        ports: [{ number: 7000, name: 'any' }],
        location: 'MESH_INTERNAL',
        resolution: 'STATIC',
        endpoints: [
          { address: '10.9.0.1' },
          { address: '10.9.0.2', labels: { 'security.istio.io/tlsMode': 'istio' }, serviceAccount: 'z' },
        ],
      }),
    ],
  },
};
