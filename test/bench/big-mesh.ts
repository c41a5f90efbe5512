// A mesh of many services, as an operator's would be: each service on two hosts, a route and a rule for every fifth.
import type { MeshObject } from '../../api/resources/object.ts';
import { group, object, service, type TestHost, type TestMesh } from '../unit/agent/mesh-view/build-mesh.ts';

export interface MeshSize {
  readonly services: number;
  readonly hosts: number;
  /** Workload identities of the host whose view is taken. */
  readonly identities?: number;
  /** Each of them in a namespace of its own; else all are in that of the services. */
  readonly apart?: boolean;
}

/** The VirtualService of service number `i`; another `timeout` is another version of it. */
export function route(i: number, timeout = '10s'): MeshObject {
  const destination = { host: `svc${i}`, subset: 'v1' };
  return object('VirtualService', `svc${i}`, {
    hosts: [`svc${i}`],
    http: [
      { match: [{ uri: { prefix: '/v1' } }], route: [{ destination }], timeout },
      { route: [{ destination: { host: `svc${i}` } }], retries: { attempts: 2 }, timeout },
    ],
  });
}

function rule(i: number): MeshObject {
  return object('DestinationRule', `svc${i}`, {
    host: `svc${i}`,
    trafficPolicy: { connectionPool: { tcp: { connectTimeout: '1s' } } },
    subsets: [{ name: 'v1', labels: { version: 'v1' } }],
  });
}

/** Objects, hosts and VIPs. Service i is served by hosts 2i and 2i+1, modulo their number; host h0 is the one whose view is taken. */
export function bigMesh({ services, hosts, identities = 1, apart = false }: MeshSize): TestMesh {
  const numbers = [...Array(services).keys()];
  const served = Array.from({ length: hosts }, (): string[] => []);
  for (const i of numbers) for (const k of [0, 1]) served[(2 * i + k) % hosts]?.push(`default/svc${i}`);
  const clients = [...Array(identities).keys()].map((k) => ({
    name: `client${k}`,
    namespace: apart ? `clients${k}` : 'default',
  }));
  const objects = [
    ...numbers.map((i) => group(`svc${i}`, { http: 9000 + (i % 1000) }, { labels: { version: 'v1' } })),
    ...numbers.map((i) => service(`svc${i}`, [{ name: 'http', port: 8000, targetPort: 9000 + (i % 1000) }])),
    ...numbers.filter((i) => i % 5 === 0).flatMap((i) => [route(i), rule(i)]),
    ...clients.map(({ name, namespace }) => group(name, {}, { namespace })),
  ];
  const vips = numbers.map((i): [string, { v4: string; v6: string }] => [
    `svc${i}.default.svc.cluster.local`,
    { v4: `240.240.${(i + 1) >> 8}.${(i + 1) % 256}`, v6: `fd6d:6573:6800::${(i + 1).toString(16)}` },
  ]);
  const all = served.map(
    (groups, h): TestHost => ({
      id: `h${h + 1}`,
      addresses: [`10.1.${h >> 8}.${(h % 256) + 1}`],
      groups,
    }),
  );
  const own = clients.map(({ name, namespace }) => `${namespace}/${name}`);
  const self: TestHost = { id: 'h0', addresses: ['10.0.0.1'], groups: own };
  return { objects, hosts: [self, ...all], vips: Object.fromEntries(vips), self: 'h0' };
}
