import tap from 'tap';
import { kindByName, resourcePath } from '../../../api/resources/registry.ts';
import { type Answer, fakeController, run } from './harness.ts';

const object = (kind: string, name: string, spec: object) => ({
  apiVersion: kind === 'Service' ? 'v1' : 'networking.istio.io/v1',
  kind,
  metadata: { name, namespace: 'shop' },
  spec,
});
const OBJECTS = [
  object('Service', 'web', { selector: { app: 'web' }, ports: [{ name: 'http', port: 80, targetPort: 8080 }] }),
  object('WorkloadGroup', 'web-v1', {
    metadata: { labels: { app: 'web', version: 'v1' } },
    template: { ports: { http: 8080 } },
  }),
  object('WorkloadGroup', 'web-v2', {
    metadata: { labels: { app: 'web', version: 'v2' } },
    template: { ports: { http: 8080 } },
  }),
  object('DestinationRule', 'web', {
    host: 'web',
    exportTo: ['.'],
    subsets: ['v1', 'v9'].map((version) => ({ name: version, labels: { version } })),
  }),
  object('VirtualService', 'web', { hosts: ['web'], http: [{ route: [{ destination: { host: 'web' } }] }] }),
  object('PeerAuthentication', 'strict', { selector: { matchLabels: { version: 'v1' } }, mtls: { mode: 'STRICT' } }),
];
const host = (name: string, groups: string[], reported: boolean) => ({
  metadata: { name },
  spec: { workloadGroups: groups, gossipAddresses: [`10.0.0.${name.length}:15300`], epoch: 1, revoked: false },
  ...(reported ? { status: { workloads: groups.map((group) => ({ group, health: 'unhealthy' })) } } : {}),
});

function world(seen: Answer | undefined, scope?: string, more: readonly object[] = []): Record<string, Answer> {
  const answers: Record<string, Answer> = {
    'GET /api/v1/namespaces/shop/services/web': [200, OBJECTS[0]],
    'GET /apis/hostmesh.io/v1/hosts':
      scope === undefined
        ? [200, { items: [host('one', ['shop/web-v1'], true), host('silent', ['shop/web-v1'], false)] }]
        : [403, { message: 'no' }],
    ...(seen === undefined ? {} : { 'POST /apis/hostmesh.io/v1/hosts/one/look': seen }),
  };
  for (const kind of [
    'Service',
    'ServiceEntry',
    'WorkloadGroup',
    'WorkloadEntry',
    'VirtualService',
    'DestinationRule',
    'Gateway',
    'PeerAuthentication',
    'AuthorizationPolicy',
    'MeshConfig',
  ]) {
    const items = [...OBJECTS, ...more].filter((one) => (one as { kind?: string }).kind === kind);
    const info = kindByName(kind);
    if (info === undefined) continue;
    answers[`GET ${resourcePath(info)}`] = scope === undefined ? [200, { items }] : [403, { message: 'no' }];
    if (scope !== undefined) answers[`GET ${resourcePath(info, scope)}`] = [200, { items }];
  }
  return answers;
}

const SEEN = {
  host: 'one',
  services: [
    {
      namespace: 'shop',
      addresses: ['240.240.0.7'],
      endpoints: [
        {
          id: 'one/shop/web-v1',
          addresses: ['10.0.0.3'],
          health: 'healthy',
          labels: { app: 'web', version: 'v1' },
          locality: 'eu/a',
          ports: { 80: 8080 },
        },
      ],
    },
  ],
};

tap.test('a service as one of its hosts sees it', async (t) => {
  const { env, seen } = await fakeController(t, world([200, SEEN]));
  const done = await run(['describe', 'service', 'web', '-n', 'shop'], { env });
  t.equal(done.code, 0, done.err);
  t.same(done.out.split('\n'), [
    'Service:      web.shop.svc.cluster.local  (Service/shop/web)',
    'Addresses:    240.240.0.7',
    'Visible to:   every namespace',
    'Ports:',
    '  PORT   NAME   PROTOCOL   TARGET   MTLS OF SERVERS',
    '  80     http   http       8080     STRICT, PERMISSIVE',
    'Endpoints (as one sees them):',
    '  HOST   WORKLOAD      ADDRESS         HEALTH    SUBSETS   LOCALITY',
    '  one    shop/web-v1   10.0.0.3:8080   healthy   v1        eu/a',
    'Rules:',
    '  VirtualService/shop/web',
    '  DestinationRule/shop/web: subsets v1, v9; for . only',
    '  PeerAuthentication/shop/strict: STRICT for WorkloadGroup shop/web-v1, port 80',
    'Problems:',
    '  - warning [HM0016] WorkloadGroup/shop/web-v2 metadata.name: no host may run it: make a join token with --group shop/web-v2',
    '  - warning [IST0173] DestinationRule/shop/web spec.subsets[1]: subset v9 has no endpoint: nothing that serves the host carries its labels',
  ]);
  t.match(seen.find(({ method }) => method === 'POST')?.body, { ask: 'service', host: 'web.shop.svc.cluster.local' });
  const json = JSON.parse((await run(['describe', 'svc/web', '-n', 'shop', '-o', 'json'], { env })).out);
  t.match(json, {
    kind: 'ServiceDescription',
    services: [{ seenBy: 'one', addresses: ['240.240.0.7'], endpoints: [{ health: 'healthy' }] }],
  });
});

tap.test('no host answers: grants and reports; a principal of one namespace', async (t) => {
  const { env } = await fakeController(t, world([503, { message: 'host one is not connected' }]));
  const { out } = await run(['describe', 'service', 'web', '-n', 'shop'], { env });
  t.match(out, /Addresses: +not known: no host answers/);
  t.match(out, /one +shop\/web-v1 +10\.0\.0\.3 +unhealthy +v1/);
  t.match(out, /silent +shop\/web-v1 +10\.0\.0\.6 +not heard/);
  t.match(out, /shop\/web-v2 +no host/);
  const own = await fakeController(t, world(undefined, 'shop'));
  t.match((await run(['describe', 'service', 'web', '-n', 'shop'], { env: own.env })).out, /by grants and reports/);
});

tap.test('MeshConfig says who sees a service that does not say it', async (t) => {
  const config = {
    apiVersion: 'hostmesh.io/v1',
    kind: 'MeshConfig',
    metadata: { name: 'mesh' },
    spec: { defaultServiceExportTo: ['.'], defaultVirtualServiceExportTo: ['.'] },
  };
  const { env } = await fakeController(t, world([200, SEEN], undefined, [config]));
  const { out, err } = await run(['describe', 'service', 'web', '-n', 'shop'], { env });
  t.match(out, /^Visible to: +(?!every)/m, err);
  t.match(out, /VirtualService\/shop\/web: for \. only/);
});
