import t from 'tap';
import { analyze, analyzePushed, LOOKS_AT } from '../../../../api/resources/analysis/analyze.ts';
import { type HostFact, meshFacts } from '../../../../api/resources/analysis/model.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';

const NETWORKING = 'networking.istio.io/v1';
const object = (kind: string, name: string, spec: object, namespace = 'shop', more: object = {}): MeshObject => ({
  apiVersion:
    kind === 'Service' ? 'v1' : kind.endsWith('n') && kind !== 'Gateway' ? 'security.istio.io/v1' : NETWORKING,
  kind,
  metadata: { name, namespace, ...more },
  spec,
});
const group = (name: string, labels: object, ports: object = { http: 8080 }, namespace = 'shop') =>
  object('WorkloadGroup', name, { metadata: { labels }, template: { ports } }, namespace);
const service = (
  name: string,
  ports: readonly object[] = [{ name: 'http', port: 80, targetPort: 8080 }],
  more: object = {},
) => object('Service', name, { selector: { app: name }, ports }, 'shop', more);
const vs = (name: string, spec: object, namespace = 'shop') => object('VirtualService', name, spec, namespace);
const dr = (name: string, spec: object, namespace = 'shop') => object('DestinationRule', name, spec, namespace);
const http = (destination: object, more: object = {}) => ({
  hosts: ['web'],
  http: [{ route: [{ destination }], ...more }],
});
const pa = (name: string, mode: string, more: object = {}, namespace = 'shop') =>
  object('PeerAuthentication', name, { mtls: { mode }, ...more }, namespace);
const entry = (name: string, spec: object, namespace = 'shop') =>
  object(
    'ServiceEntry',
    name,
    {
      hosts: [`${name}.example.com`],
      ports: [{ number: 443, name: 'tls', protocol: 'TLS' }],
      resolution: 'DNS',
      ...spec,
    },
    namespace,
  );

const BASE = [group('web', { app: 'web', version: 'v1' }), service('web')];
const SUBSETS = dr('web', {
  host: 'web',
  subsets: [
    { name: 'v1', labels: { version: 'v1' } },
    { name: 'v9', labels: { version: 'v9' } },
  ],
});

type Case = readonly [
  name: string,
  objects: readonly MeshObject[],
  expected: readonly string[],
  options?: { complete?: boolean; hosts?: readonly HostFact[] },
];

/** `SEVERITY CODE KIND/NAME PATH`. */
function lines(objects: readonly MeshObject[], options: Case[3] = {}): string[] {
  return analyze(objects, { complete: true, ...options }).map(
    ({ severity, code, object: key, path }) => `${severity} ${code} ${key.replace('/shop/', '/')} ${path}`,
  );
}

const CASES: readonly Case[] = [
  [
    'a sound mesh',
    [...BASE, SUBSETS, vs('web', http({ host: 'web', subset: 'v1', port: { number: 80 } }))],
    ['warning IST0173 DestinationRule/web spec.subsets[1]'],
  ],
  [
    'an unknown host',
    [...BASE, vs('v', http({ host: 'nobody' }))],
    ['error IST0101 VirtualService/v spec.http[0].route[0].destination.host'],
  ],
  [
    'the same offline',
    [...BASE, vs('v', http({ host: 'nobody' }))],
    ['warning IST0101 VirtualService/v spec.http[0].route[0].destination.host'],
    { complete: false },
  ],
  [
    'once a mistake',
    [...BASE, vs('v', { hosts: ['web'], http: [1, 2].map(() => ({ route: [{ destination: { host: 'nobody' } }] })) })],
    ['error IST0101 VirtualService/v spec.http[0].route[0].destination.host'],
  ],
  [
    'a mirror',
    [...BASE, vs('v', http({ host: 'web' }, { mirrors: [{ destination: { host: 'no.where.com' } }] }))],
    ['error IST0101 VirtualService/v spec.http[0].mirrors[0].destination.host'],
  ],
  [
    'an unknown subset',
    [...BASE, SUBSETS, vs('v', http({ host: 'web', subset: 'v2' }))],
    [
      'warning IST0173 DestinationRule/web spec.subsets[1]',
      'error IST0101 VirtualService/v spec.http[0].route[0].destination.subset',
    ],
  ],
  [
    'a subset of nobody',
    [...BASE, SUBSETS, vs('v', http({ host: 'web', subset: 'v9' }))],
    [
      'warning IST0173 DestinationRule/web spec.subsets[1]',
      'warning IST0173 VirtualService/v spec.http[0].route[0].destination.subset',
    ],
  ],
  [
    'a port that is not there',
    [...BASE, vs('v', http({ host: 'web', port: { number: 81 } }))],
    ['error HM0010 VirtualService/v spec.http[0].route[0].destination.port'],
  ],
  [
    'several ports and none named',
    [
      BASE[0] as MeshObject,
      service('web', [
        { name: 'http', port: 80, targetPort: 8080 },
        { name: 'http-b', port: 81, targetPort: 8080 },
      ]),
      vs('v', http({ host: 'web' })),
    ],
    ['warning IST0112 VirtualService/v spec.http[0].route[0].destination'],
  ],
  [
    'not exported',
    [...BASE, entry('x', { exportTo: ['.'] }, 'other'), vs('v', http({ host: 'x.example.com' }))],
    ['warning HM0011 VirtualService/v spec.http[0].route[0].destination.host'],
  ],
  [
    'two for one host',
    [...BASE, vs('a', http({ host: 'web' })), vs('b', http({ host: 'web' }))],
    ['warning IST0109 VirtualService/a spec.hosts[0]', 'warning IST0109 VirtualService/b spec.hosts[0]'],
  ],
  [
    'two that nobody sees together',
    [
      ...BASE,
      vs('a', { ...http({ host: 'web' }), exportTo: ['.'] }),
      vs(
        'b',
        { ...http({ host: 'web.shop.svc.cluster.local' }), hosts: ['web.shop.svc.cluster.local'], exportTo: ['.'] },
        'other',
      ),
    ],
    [],
  ],
  [
    'two at a gateway are one',
    [
      ...BASE,
      group('gw', { istio: 'gw' }, {}),
      object('Gateway', 'g', { selector: { istio: 'gw' }, servers: [{ port: { number: 80 }, hosts: ['*'] }] }),
      ...['a', 'b'].map((name) => vs(name, { ...http({ host: 'web' }), gateways: ['g'] })),
    ],
    [],
  ],
  [
    'no such gateway',
    [...BASE, vs('a', { ...http({ host: 'web' }), gateways: ['g'] })],
    ['error IST0101 VirtualService/a spec.gateways[0]'],
  ],
  [
    'a host that its gateway has not',
    [
      ...BASE,
      group('gw', { istio: 'gw' }, {}),
      object('Gateway', 'g', {
        selector: { istio: 'gw' },
        servers: [{ port: { number: 80 }, hosts: ['other/*', './a.com'] }],
      }),
      vs('a', { ...http({ host: 'web' }), gateways: ['shop/g'] }),
    ],
    ['warning IST0132 VirtualService/a spec.hosts[0]'],
  ],
  [
    'a gateway that nobody is',
    [object('Gateway', 'g', { selector: { istio: 'gw' }, servers: [] })],
    ['error IST0101 Gateway/g spec.selector', 'warning HM0013 Gateway/g spec.servers'],
  ],
  [
    'a delegate that is not there, and one that is none',
    [
      ...BASE,
      vs('a', { hosts: ['web'], http: [{ delegate: { name: 'x' } }, { delegate: { name: 'b' } }] }),
      vs('b', { ...http({ host: 'web' }), hosts: ['other.com'] }),
    ],
    ['error IST0101 VirtualService/a spec.http[0].delegate', 'error IST0101 VirtualService/a spec.http[1].delegate'],
  ],
  ['a rule for nobody', [dr('d', { host: 'web' })], ['error IST0101 DestinationRule/d spec.host']],
  [
    'two rules for one',
    [...BASE, dr('a', { host: 'web' }), dr('b', { host: 'web.shop.svc.cluster.local' })],
    ['warning HM0017 DestinationRule/a spec.host', 'warning HM0017 DestinationRule/b spec.host'],
  ],
  [
    'a policy for no port',
    [...BASE, dr('a', { host: 'web', trafficPolicy: { portLevelSettings: [{ port: { number: 9 } }] } })],
    ['warning HM0010 DestinationRule/a spec.trafficPolicy.portLevelSettings[0].port'],
  ],
  [
    'plaintext to STRICT',
    [...BASE, pa('p', 'STRICT'), dr('a', { host: 'web', trafficPolicy: { tls: { mode: 'DISABLE' } } })],
    ['error IST0113 DestinationRule/a spec.trafficPolicy.tls'],
  ],
  [
    'plaintext to STRICT of the mesh',
    [
      ...BASE,
      pa('p', 'STRICT', {}, 'istio-system'),
      dr('a', { host: 'web', trafficPolicy: { tls: { mode: 'DISABLE' } } }),
    ],
    ['error IST0113 DestinationRule/a spec.trafficPolicy.tls'],
  ],
  [
    'plaintext to a port that is not STRICT',
    [
      ...BASE,
      pa('p', 'STRICT', {
        selector: { matchLabels: { app: 'web' } },
        portLevelMtls: { '8080': { mode: 'PERMISSIVE' } },
      }),
      dr('a', { host: 'web', trafficPolicy: { tls: { mode: 'DISABLE' } } }),
    ],
    [],
  ],
  [
    'mTLS to DISABLE',
    [
      ...BASE,
      pa('p', 'DISABLE'),
      dr('a', {
        host: 'web',
        subsets: [{ name: 'v1', labels: { version: 'v1' }, trafficPolicy: { tls: { mode: 'ISTIO_MUTUAL' } } }],
      }),
    ],
    ['error IST0113 DestinationRule/a spec.subsets[0].trafficPolicy.tls'],
  ],
  [
    'mTLS to strangers',
    [entry('x', {}), dr('a', { host: 'x.example.com', trafficPolicy: { tls: { mode: 'ISTIO_MUTUAL' } } })],
    ['warning IST0113 DestinationRule/a spec.trafficPolicy.tls'],
  ],
  ['nobody serves', [service('web')], ['warning HM0013 Service/web spec.selector']],
  [
    'protocols',
    [
      BASE[0] as MeshObject,
      service('web', [
        { name: 'web', port: 80, targetPort: 8080 },
        { name: 'db', port: 3306, targetPort: 8080 },
        { port: 81, targetPort: 8080, appProtocol: 'kubernetes.io/h2c' },
        { name: 'tcp', port: 82, targetPort: 8080 },
        { name: 'mysql-x', port: 3307, targetPort: 8080 },
      ]),
    ],
    ['warning IST0118 Service/web spec.ports[0]', 'warning HM0015 Service/web spec.ports[1]'],
  ],
  [
    'a target port that no workload has',
    [BASE[0] as MeshObject, service('web', [{ name: 'http', port: 80, targetPort: 'https' }])],
    [],
  ],
  [
    'a target port under no name',
    [BASE[0] as MeshObject, service('web', [{ name: 'grpc', port: 80, targetPort: 9999 }])],
    ['error HM0014 Service/web spec.ports[0].targetPort'],
  ],
  [
    'two ServiceEntries',
    [entry('x', {}), entry('y', { hosts: ['x.example.com'] })],
    ['warning HM0012 ServiceEntry/x spec.hosts[0]', 'warning HM0012 ServiceEntry/y spec.hosts[0]'],
  ],
  [
    'two that add to each other',
    [entry('x', {}), entry('y', { hosts: ['x.example.com'], ports: [{ number: 80, name: 'http', protocol: 'HTTP' }] })],
    [],
  ],
  [
    'bytes to anywhere',
    [entry('x', { resolution: 'NONE', ports: [{ number: 5432, name: 'tcp', protocol: 'TCP' }] })],
    ['warning IST0134 ServiceEntry/x spec.ports[0]'],
  ],
  [
    'a group that no service has',
    [group('lone', { app: 'lone' })],
    ['warning HM0013 WorkloadGroup/lone spec.metadata.labels'],
  ],
  [
    'a group that no host runs',
    [...BASE],
    ['warning HM0016 WorkloadGroup/web metadata.name'],
    {
      hosts: [
        { name: 'a', workloadGroups: ['shop/web'], revoked: true },
        { name: 'b', workloadGroups: [], revoked: false },
      ],
    },
  ],
  ['a group that a host runs', [...BASE], [], { hosts: [{ name: 'a', workloadGroups: ['shop/web'], revoked: false }] }],
  [
    'a policy for nobody',
    [...BASE, object('AuthorizationPolicy', 'p', { selector: { matchLabels: { app: 'x' } } })],
    ['warning IST0167 AuthorizationPolicy/p spec.selector.matchLabels'],
  ],
  [
    'mTLS of a port that nobody has',
    [
      ...BASE,
      pa('p', 'STRICT', { selector: { matchLabels: { app: 'web' } }, portLevelMtls: { '80': { mode: 'DISABLE' } } }),
    ],
    ['warning IST0167 PeerAuthentication/p spec.portLevelMtls[80]'],
  ],
  [
    'two policies for the same',
    [...BASE, pa('a', 'STRICT'), pa('b', 'DISABLE')],
    ['warning HM0017 PeerAuthentication/a spec', 'warning HM0017 PeerAuthentication/b spec'],
  ],
  [
    'gateways in each other’s way',
    [
      group('gw', { istio: 'gw' }, {}),
      ...['a', 'b'].map((name) =>
        object('Gateway', name, { selector: { istio: 'gw' }, servers: [{ port: { number: 80 }, hosts: ['*.com'] }] }),
      ),
      vs('v', { hosts: ['x.com'], gateways: ['a', 'b'], http: [{ directResponse: { status: 200 } }] }),
    ],
    ['warning IST0145 Gateway/a spec.servers[0]', 'warning IST0145 Gateway/b spec.servers[0]'],
  ],
];

t.test('findings', async (t) => {
  for (const [name, objects, expected, options] of CASES) t.same(lines(objects, options), expected, name);
});

t.test('of a push: beside the kinds that are named for it, all that a look at the whole mesh finds', async (t) => {
  const codes = new Set<string>();
  for (const [name, objects] of CASES) {
    const whole = meshFacts(objects, true);
    for (const object of objects) {
      const found = analyzePushed(object, whole);
      const part = objects.filter(({ kind }) => LOOKS_AT[object.kind]?.includes(kind));
      t.same(analyzePushed(object, meshFacts(part, true)), found, `${name}: ${object.kind} ${object.metadata.name}`);
      for (const { code } of found) codes.add(code);
    }
  }
  for (const code of ['IST0101', 'IST0109', 'IST0173', 'HM0013', 'HM0017']) t.ok(codes.has(code), code);
  for (const code of ['IST0118', 'HM0016']) t.notOk(codes.has(code), `${code} is said of most`);
  const inert: MeshObject = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'a' } };
  t.same(analyzePushed(inert, meshFacts([inert], true)), []);
});

t.test('what only lists of objects tell is found too, and once a field', async (t) => {
  const alias = object('Service', 'alias', {
    type: 'ExternalName',
    externalName: 'web.shop.svc.cluster.local',
    ports: [{ name: 'http', port: 81 }],
  });
  t.same(lines([...BASE, alias]), ['warning HM0002 Service/alias spec.ports[0]']);
  const labelled = object('WorkloadEntry', 'e', { address: '10.0.0.1' }, 'shop', { labels: { app: 'db' } });
  t.same(lines([labelled, service('db')]), [], 'labels of a WorkloadEntry’s metadata count');
  const gateway = (name: string) =>
    object('Gateway', name, {
      selector: { istio: 'gw' },
      servers: [{ port: { number: 443 }, hosts: ['*'], tls: { mode: 'SIMPLE', credentialName: 'c' } }],
    });
  const bound = { ...http({ host: 'web' }), gateways: ['./g'] };
  t.same(
    lines([...BASE, group('gw', { istio: 'gw' }, {}), gateway('g'), vs('v', bound)]),
    ['warning HM0002 Gateway/g spec.servers[0].tls.credentialName'],
    'and ./NAME is a Gateway of the own namespace',
  );
});

t.test('only about the objects asked for; bounded', async (t) => {
  const objects = [
    ...BASE,
    vs('a', http({ host: 'nobody' })),
    vs('b', { ...http({ host: 'nobody' }), hosts: ['b.com'] }),
  ];
  t.same(
    analyze(objects, { complete: true, about: new Set(['VirtualService/shop/b']) }).map((one) => one.object),
    ['VirtualService/shop/b'],
  );
  const many = vs('m', {
    hosts: ['web'],
    http: Array.from({ length: 500 }, (_, i) => ({ route: [{ destination: { host: `h${i}` } }] })),
  });
  t.equal(analyze([many], { complete: true }).length, 100);
});
