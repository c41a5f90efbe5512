import { group, object, service, type TestMesh } from '../mesh-view/build-mesh.ts';

const HOSTS = [
  { id: 'a', addresses: ['10.0.0.1', 'fd00::1'], groups: ['default/web'] },
  { id: 'b', addresses: ['10.0.0.2', 'fd00::2'], groups: ['default/db', 'default/api'] },
  { id: 'c', addresses: ['10.0.0.3'], groups: ['default/db'], health: 'unhealthy' as const },
];

const MESH = [group('web', { http: 8080 }), group('db', { tcp: 5432, http: 9080 }), group('api', { web: 9090 })];

const entry = (name: string, host: string, port: object, more: object) =>
  object('ServiceEntry', name, { hosts: [host], ports: [port], ...more });

const HTTP = { number: 80, name: 'http', protocol: 'HTTP' };

/** Services of every sort: how their names are found, where they live, who may answer. */
export const SERVICE_CASES: Readonly<Record<string, TestMesh>> = {
  'services-headless': {
    hosts: HOSTS,
    objects: [
      ...MESH,
      object('Service', 'db', {
        clusterIP: 'None',
        selector: { app: 'db' },
        ports: [
          { name: 'tcp', port: 5432 },
          { name: 'http', port: 80, targetPort: 9080 },
        ],
      }),
      object('VirtualService', 'db', {
        hosts: ['db'],
        http: [
          { match: [{ uri: { prefix: '/any' } }], route: [{ destination: { host: 'db', port: { number: 80 } } }] },
        ],
      }),
    ],
  },
  'services-dynamic': {
    hosts: HOSTS,
    objects: [
      ...MESH,
      entry('http', '*.x.example', HTTP, { resolution: 'DYNAMIC_DNS' }),
      entry('moved', '*.m.example', { ...HTTP, targetPort: 443 }, { resolution: 'DYNAMIC_DNS' }),
      object('DestinationRule', 'moved', { host: '*.m.example', trafficPolicy: { tls: { mode: 'SIMPLE' } } }),
      entry(
        'tls',
        '*.y.example',
        { number: 443, name: 'tls', protocol: 'TLS', targetPort: 8443 },
        { resolution: 'DYNAMIC_DNS' },
      ),
      entry('none', 'n.example', { number: 80, name: 'http', protocol: 'HTTP', targetPort: 8080 }, {}),
      object('VirtualService', 'x', {
        hosts: ['a.x.example'],
        http: [
          {
            match: [{ uri: { prefix: '/b' } }],
            rewrite: { authority: 'b.x.example' },
            route: [{ destination: { host: '*.x.example' } }],
          },
          {
            match: [{ uri: { prefix: '/evil' } }],
            rewrite: { authority: 'evil.example' },
            route: [{ destination: { host: '*.x.example' } }],
          },
          { route: [{ destination: { host: '*.x.example' } }] },
        ],
      }),
      object('VirtualService', 'n', {
        hosts: ['n.example'],
        http: [{ route: [{ destination: { host: '*.x.example' } }] }],
      }),
    ],
  },
  'services-identities': {
    hosts: HOSTS,
    network: 'here',
    self: 'a',
    objects: [
      ...MESH,
      service('api', [{ name: 'grpc-web', port: 80, targetPort: 9090 }]),
      object('Service', 'other', {
        type: 'ExternalName',
        externalName: 'api.default.svc.cluster.local',
        ports: [{ port: 80 }],
      }),
      object('Service', 'away', {
        type: 'ExternalName',
        externalName: 'away.example',
        ports: [{ name: 'tls', port: 443 }],
      }),
      object(
        'Service',
        'eastwest',
        { selector: { app: 'web' }, ports: [{ name: 'tls', port: 15443 }] },
        { labels: { 'topology.istio.io/network': 'there' } },
      ),
      entry(
        'far',
        'far.example',
        { number: 80, name: 'http', protocol: 'HTTP' },
        {
          location: 'MESH_INTERNAL',
          resolution: 'STATIC',
          subjectAltNames: ['spiffe://mesh.test/ns/far/sa/far', 'far.example'],
          endpoints: [
            { address: '10.7.0.1', network: 'there', labels: { 'security.istio.io/tlsMode': 'istio' }, weight: 2 },
            { network: 'there', labels: { 'security.istio.io/tlsMode': 'istio' }, serviceAccount: 'named' },
            { address: '10.7.0.2', network: 'there' },
            { address: '10.7.0.3', network: 'here' },
          ],
        },
      ),
    ],
  },
};
