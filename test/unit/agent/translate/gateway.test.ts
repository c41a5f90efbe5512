// Where calls to a gateway go, by tables: merging of Gateways, hosts and namespaces, VirtualServices of one host, SNI, what is left out and why.
import { test } from 'tap';
import { translate } from '../../../../agent/translate/translate.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { group, meshView, object, service, type TestHost, type TestMesh } from '../mesh-view/build-mesh.ts';
import { type Call, simulate } from './simulate.ts';

const HOSTS: readonly TestHost[] = [
  { id: 'e', addresses: ['10.0.0.9'], groups: ['default/local'], gateways: ['default/edge'] },
  { id: 'b', addresses: ['10.0.0.2'], groups: ['default/one', 'default/two'] },
];
const BASE: readonly MeshObject[] = [
  group('edge', {}, { labels: { istio: 'ingressgateway' } }),
  group('local', { http: 7000 }),
  group('one', { http: 9080 }),
  group('two', { http: 9080 }),
  service('one', [{ name: 'http', port: 80, targetPort: 9080 }]),
  service('two', [{ name: 'http', port: 80, targetPort: 9080 }]),
];

const mesh = (objects: readonly MeshObject[], more: Partial<TestMesh> = {}) =>
  meshView({ objects: [...BASE, ...objects], hosts: HOSTS, self: 'e', ...more });

const gateway = (name: string, servers: object[], more: { namespace?: string; created?: number } = {}) =>
  object('Gateway', name, { selector: { istio: 'ingressgateway' }, servers }, more);
const http = (number: number, hosts: string[], more: object = {}) => ({
  port: { number, name: `http-${number}`, protocol: 'HTTP' },
  hosts,
  ...more,
});
const https = (number: number, hosts: string[], more: object = {}, name = `tls-${number}`) => ({
  port: { number, name, protocol: 'HTTPS' },
  hosts,
  tls: { mode: 'SIMPLE', credentialName: 'c' },
  ...more,
});
const rule = (
  name: string,
  hosts: string[],
  gateways: string[],
  to: string | object[],
  more: { namespace?: string; created?: number } = {},
) =>
  object(
    'VirtualService',
    name,
    { hosts, gateways, http: typeof to === 'string' ? [{ route: [{ destination: { host: to } }] }] : to },
    more,
  );

const cluster = (name: string) => `outbound_.80_._.${name}.default.svc.cluster.local`;
const to = (name: string) => ({ clusters: { [cluster(name)]: 100 } });
const call = (listener: string, host: string, more: Partial<Call> = {}): Call => ({
  listener: 0,
  gateway: listener,
  address: '10.0.0.9',
  port: 0,
  http: { host },
  ...more,
});

interface Case {
  readonly objects: readonly MeshObject[];
  readonly calls: readonly (readonly [Call, object])[];
  readonly problems?: readonly RegExp[];
}

const CASES: Readonly<Record<string, Case>> = {
  'hosts: exact, wildcard, with a port, unknown': {
    objects: [
      gateway('gw', [http(80, ['*.example', 'x.test'])]),
      rule('a', ['a.example'], ['gw'], 'one'),
      rule('w', ['*.example'], ['gw'], 'two'),
      rule('t', ['y.test'], ['gw'], 'two'),
    ],
    calls: [
      [call('gateway_80', 'a.example:80'), to('one')],
      [call('gateway_80', 'b.example'), to('two')],
      [call('gateway_80', 'x.test'), { answer: 404 }],
      [call('gateway_80', 'y.test'), { answer: 404 }],
    ],
  },
  'a wide VirtualService is narrowed to the server’s hosts': {
    objects: [gateway('gw', [http(80, ['a.example'])]), rule('w', ['*'], ['gw'], 'one')],
    calls: [
      [call('gateway_80', 'a.example'), to('one')],
      [call('gateway_80', 'b.example'), { answer: 404 }],
    ],
  },
  'hosts of a namespace': {
    objects: [
      gateway('gw', [http(80, ['./a.example', 'shop/b.example', '*/c.example'])]),
      rule('own', ['a.example', 'b.example', 'c.example'], ['gw'], 'one'),
      rule('shop', ['a.example', 'b.example'], ['default/gw'], 'two.default.svc.cluster.local', { namespace: 'shop' }),
    ],
    calls: [
      [call('gateway_80', 'a.example'), to('one')],
      [call('gateway_80', 'b.example'), to('two')],
      [call('gateway_80', 'c.example'), to('one')],
    ],
  },
  'VirtualServices of one host are merged, catch-alls last; one of another gateway, or not exported, does not count': {
    objects: [
      gateway('gw', [http(80, ['a.example'])]),
      rule('old', ['a.example'], ['gw'], 'one', { created: 0 }),
      rule(
        'new',
        ['a.example'],
        ['gw'],
        [{ match: [{ uri: { prefix: '/new' } }], route: [{ destination: { host: 'two' } }] }],
        { created: 1 },
      ),
      rule(
        'other',
        ['a.example'],
        ['other/gw', 'mesh'],
        [{ match: [{ uri: { prefix: '/other' } }], directResponse: { status: 418 } }],
      ),
      object(
        'VirtualService',
        'hidden',
        {
          hosts: ['a.example'],
          gateways: ['default/gw'],
          exportTo: ['.'],
          http: [{ match: [{ uri: { prefix: '/hidden' } }], directResponse: { status: 418 } }],
        },
        { namespace: 'shop' },
      ),
    ],
    calls: [
      [call('gateway_80', 'a.example', { http: { host: 'a.example', path: '/new' } }), to('two')],
      [call('gateway_80', 'a.example', { http: { host: 'a.example', path: '/other' } }), to('one')],
      [call('gateway_80', 'a.example', { http: { host: 'a.example', path: '/hidden' } }), to('one')],
    ],
  },
  'Gateways of one port share it; HTTP2 with HTTP; each has its own VirtualServices': {
    objects: [
      gateway('a', [http(80, ['a.example'])]),
      gateway('b', [{ ...http(80, ['b.example']), port: { number: 80, name: 'h2', protocol: 'HTTP2' } }], {
        created: 1,
      }),
      rule('a', ['a.example', 'b.example'], ['a'], 'one'),
      rule('b', ['a.example', 'b.example'], ['b'], 'two'),
    ],
    calls: [
      [call('gateway_80', 'a.example'), to('one')],
      [call('gateway_80', 'b.example'), to('two')],
    ],
  },
  'a port that an older Gateway has for another protocol stays its own': {
    objects: [
      gateway('old', [http(80, ['*'])]),
      gateway('new', [https(80, ['b.example'])], { created: 1 }),
      gateway('tcp', [{ port: { number: 80, name: 'tcp', protocol: 'TCP' }, hosts: ['*'] }], { created: 2 }),
      rule('a', ['a.example'], ['old'], 'one'),
    ],
    calls: [[call('gateway_80', 'a.example'), to('one')]],
    problems: [/default\/new: port 80 .*has the port for HTTP/, /default\/tcp: port 80/],
  },
  'TLS by SNI: each server its own routes; a host twice on one port is the older one’s': {
    objects: [
      gateway('gw', [https(443, ['a.example'], {}, 'a'), https(443, ['*.example'], {}, 'w')]),
      gateway('new', [https(443, ['a.example', 'c.test'])], { created: 1 }),
      rule('a', ['a.example', 'b.example'], ['gw', 'new'], 'one'),
    ],
    calls: [
      [call('gateway_443', 'a.example', { sni: 'a.example' }), to('one')],
      [call('gateway_443', 'b.example', { sni: 'b.example' }), to('one')],
      [call('gateway_443', 'b.example', { sni: 'a.example' }), { answer: 404 }],
      [call('gateway_443', 'c.test', { sni: 'c.test' }), { chain: 'refused' }],
      [call('gateway_443', 'a.example'), { chain: 'refused' }],
    ],
    problems: [/default\/new: port 443 .*has the host a\.example already/],
  },
  'a redirect to https is for the server’s hosts, with and without routes': {
    objects: [
      gateway('gw', [http(80, ['a.example', '*.example'], { tls: { httpsRedirect: true } }), http(81, ['a.example'])]),
      rule('a', ['a.example'], ['gw'], 'one'),
    ],
    calls: [
      [call('gateway_80', 'a.example'), { redirect: 'https' }],
      [call('gateway_80', 'b.example'), { redirect: 'https' }],
      [call('gateway_81', 'a.example'), to('one')],
    ],
  },
  'match: port as written, gateways, sourceLabels of the gateway’s workload': {
    objects: [
      service('edge', [{ name: 'http', port: 80, targetPort: 8080 }]),
      gateway('gw', [http(80, ['a.example']), http(81, ['a.example'])]),
      rule(
        'a',
        ['a.example'],
        ['gw', 'mesh'],
        [
          { match: [{ gateways: ['mesh'] }], directResponse: { status: 418 } },
          { match: [{ port: 80, sourceLabels: { istio: 'other' } }], directResponse: { status: 419 } },
          { match: [{ port: 80 }], route: [{ destination: { host: 'one' } }] },
          { match: [{ gateways: ['gw'] }], route: [{ destination: { host: 'two' } }] },
        ],
      ),
    ],
    calls: [
      [call('gateway_8080', 'a.example'), to('one')],
      [call('gateway_81', 'a.example'), to('two')],
    ],
  },
  'two binds of one port are two sockets': {
    objects: [
      gateway('gw', [http(80, ['a.example'], { bind: '10.0.0.9' })]),
      gateway('tls', [https(80, ['a.example'], { bind: '127.0.0.1' })], { created: 1 }),
      rule('a', ['a.example'], ['gw', 'tls'], 'one'),
    ],
    calls: [
      [call('gateway_80_10.0.0.9', 'a.example'), to('one')],
      [call('gateway_80_127.0.0.1', 'a.example', { sni: 'a.example' }), to('one')],
    ],
  },
  'a port of the mesh’s, of ssh, or of a workload of this host is not opened': {
    objects: [gateway('gw', [http(15001, ['a.example']), http(22, ['a.example']), http(7000, ['a.example'])])],
    calls: [[call('gateway_7000', 'a.example'), { chain: 'refused' }]],
    problems: [/15001/, /port 22 belongs/, /workload default\/local serves port 7000/],
  },
  'a Gateway of another namespace, or other labels, opens nothing': {
    objects: [
      gateway('gw', [http(80, ['a.example'])], { namespace: 'shop' }),
      object('Gateway', 'other', { selector: { istio: 'egressgateway' }, servers: [http(80, ['a.example'])] }),
    ],
    calls: [[call('gateway_80', 'a.example'), { chain: 'refused' }]],
  },
};

for (const [name, { objects, calls, problems = [] }] of Object.entries(CASES))
  test(name, async (t) => {
    const view = mesh(objects);
    const set = translate(view);
    for (const [asked, expected] of calls) t.match(simulate(set, asked), expected, JSON.stringify(asked));
    t.equal(view.gatewayProblems.length, problems.length, view.gatewayProblems.join('\n'));
    for (const [i, pattern] of problems.entries()) t.match(view.gatewayProblems[i], pattern);
  });

test('a route, an endpoint and a policy change no listener of a gateway; a Gateway changes only its own', async (t) => {
  const servers = [http(80, ['*.example']), https(443, ['a.example'])];
  const before = translate(mesh([gateway('gw', servers), rule('a', ['a.example'], ['gw'], 'one')]));
  const after = translate(
    mesh([gateway('gw', servers), rule('a', ['a.example'], ['gw'], 'two'), rule('b', ['b.example'], ['gw'], 'one')], {
      hosts: [...HOSTS, { id: 'c', addresses: ['10.0.0.3'], groups: ['default/one'] }],
    }),
  );
  const listeners = (set: typeof before) => JSON.stringify([...set.resources.listener.values()].map((one) => one.body));
  t.equal(listeners(after), listeners(before));
  const more = translate(mesh([gateway('gw', [...servers, http(81, ['x.example'])])]));
  t.same(
    [...more.resources.listener.keys()].filter((name) => name.startsWith('gateway')),
    ['gateway_443', 'gateway_80', 'gateway_81'],
  );
  t.same(more.resources.listener.get('gateway_80')?.body, before.resources.listener.get('gateway_80')?.body);
});

test('peers speak plaintext to a gateway unless a DestinationRule says otherwise', async (t) => {
  const edge = service('edge', [{ name: 'http', port: 80 }]);
  const transport = (objects: readonly MeshObject[]) => {
    const set = translate(mesh([edge, gateway('gw', [http(80, ['*'])]), ...objects], { self: 'b' }));
    const body = set.resources.cluster.get(cluster('edge'))?.body as { transport_socket?: { name: string } };
    return body.transport_socket?.name;
  };
  t.equal(transport([]), undefined);
  const mutual = { host: 'edge', trafficPolicy: { tls: { mode: 'ISTIO_MUTUAL' } } };
  t.equal(transport([object('DestinationRule', 'edge', mutual)]), 'envoy.transport_sockets.tls');
});

test('AUTO_PASSTHROUGH leads the mesh’s own mTLS on, by its SNI, to hosts that the server takes', async (t) => {
  const auto = {
    port: { number: 15443, name: 'tls', protocol: 'TLS' },
    hosts: ['one.default.svc.cluster.local'],
    tls: { mode: 'AUTO_PASSTHROUGH' },
  };
  const subsets = object('DestinationRule', 'one', { host: 'one', subsets: [{ name: 'v1', labels: { app: 'one' } }] });
  const set = translate(mesh([gateway('gw', [auto]), subsets]));
  for (const subset of ['', 'v1']) {
    const sni = `outbound_.80_.${subset}_.one.default.svc.cluster.local`;
    t.match(simulate(set, call('gateway_15443', '', { sni })), { clusters: { [`sni_${sni}`]: 100 } });
    t.notMatch(set.resources.cluster.get(`sni_${sni}`)?.body, { transport_socket: {} }, 'the caller’s TLS goes on');
    t.ok(set.resources.endpoint.has(`sni_${sni}`));
  }
  t.same(simulate(set, call('gateway_15443', '', { sni: cluster('two') })), { chain: 'refused' });
});

test('a gateway speaks HTTP/1.1 where no protocol is declared, whatever its client speaks; a workload as its application does', async (t) => {
  const odd = object('ServiceEntry', 'odd', {
    hosts: ['odd.example'],
    ports: [{ number: 80, name: 'x' }],
    resolution: 'STATIC',
    endpoints: [{ address: '10.9.0.1' }],
  });
  const options = (hosts: TestMesh['hosts']) =>
    JSON.stringify(translate(mesh([odd], { hosts })).resources.cluster.get('outbound_.80_._.odd.example')?.body);
  const [edge, server] = HOSTS as [TestHost, TestHost];
  t.match(options([{ ...edge, groups: [] }, server]), /"explicit_http_config":\{"http_protocol_options"/);
  t.match(options([edge, server]), /use_downstream_protocol_config/, 'they share the clusters of one namespace');
});
