import t from 'tap';
import { admit } from '../../../../agent/explain/admit.ts';
import type { Body, EnvoySource, HostState } from '../../../../agent/explain/envoy-json.ts';
import { clusterParts, hostState, secretRows } from '../../../../agent/explain/rows.ts';
import type { WhySources } from '../../../../agent/explain/sources.ts';
import { clusterSteps } from '../../../../agent/explain/upstream.ts';
import { why } from '../../../../agent/explain/why.ts';
import { object } from '../mesh-view/build-mesh.ts';

const NAME = 'outbound_.80_.v1_.reviews.default.svc.cluster.local';
const RULE = object('DestinationRule', 'r', { host: 'reviews', subsets: [{ name: 'v0' }, { name: 'v1' }] });

function sources(envoy: Partial<EnvoySource>, more: Partial<WhySources> = {}): WhySources {
  const nothing = async () => undefined;
  return {
    callers: [
      { group: 'default/web', namespace: 'default', spiffeId: 'spiffe://t/ns/default/sa/web', outboundPort: 15001 },
    ],
    envoy: { listener: nothing, route: nothing, extension: nothing, cluster: nothing, hosts: async () => [], ...envoy },
    lookup: () => ({ kind: 'addresses', v4: ['240.240.0.1'], v6: [], origins: ['Service/default/reviews'] }),
    uncaptured: () => undefined,
    served: () => ({ origins: ['DestinationRule/default/r', 'Service/default/reviews'] }),
    object: (key) => (key === 'DestinationRule/default/r' ? RULE : undefined),
    ...more,
  };
}

const host = (more: object, health: object = { eds_health_status: 'HEALTHY' }): HostState =>
  hostState({ address: { socket_address: { address: '10.0.0.1', port_value: 1 } }, health_status: health, ...more });

t.test('endpoints by health and priority', async (t) => {
  const cases: [name: string, hosts: HostState[], cluster: Body, verdict: string, summary: RegExp, details?: RegExp][] =
    [
      ['well', [host({})], {}, 'ok', /1 of 1/],
      ['nobody', [], {}, 'stop', /nobody serves it: 503/],
      ['all ill', [host({}, { eds_health_status: 'UNHEALTHY' })], {}, 'unsure', /0 of 1.*tries all/],
      [
        'all ill, no panic',
        [host({}, { eds_health_status: 'UNHEALTHY' })],
        { common_lb_config: { healthy_panic_threshold: { value: 0 } } },
        'stop',
        /503/,
      ],
      [
        'ejected',
        [host({}, { eds_health_status: 'HEALTHY', failed_outlier_check: true }), host({})],
        {},
        'ok',
        /1 of 2/,
        /ejected/,
      ],
      ['failed its check', [host({}, { failed_active_health_check: true }), host({})], {}, 'ok', /1 of 2/],
      [
        'failover',
        [host({}, { eds_health_status: 'UNHEALTHY' }), host({ priority: 1, locality: { region: 'r', zone: 'z' } })],
        {},
        'ok',
        /1 of 2/,
        /priority 1 is the nearest/,
      ],
    ];
  for (const [name, hosts, body, verdict, summary, details] of cases) {
    const { steps } = await clusterSteps(
      { cluster: NAME, share: 50, tcp: false, writtenAt: undefined },
      sources({ cluster: async () => ({ name: NAME, type: 'EDS', ...body }), hosts: async () => hosts }),
    );
    t.match(steps[0], { step: 'cluster', summary: /^50 %: reviews\.default\.svc\.cluster\.local:80, subset v1$/ });
    t.match(steps[0]?.decidedBy[0], { object: 'DestinationRule/default/r', path: 'spec.subsets[1]' });
    t.match(steps[1], { verdict, summary }, name);
    if (details !== undefined) t.match(steps[1]?.details.join('\n'), details, name);
  }
});

t.test('clusters: how they are secured, limits, the fixed ones, none', async (t) => {
  const tls = (alpn: string[]) => ({
    transport_socket: {
      name: 'envoy.transport_sockets.tls',
      typed_config: { common_tls_context: { alpn_protocols: alpn } },
    },
  });
  const cases: [body: Body, detail: string, mtls: boolean][] = [
    [{}, 'plaintext', false],
    [tls(['istio-h2']), 'mTLS', true],
    [tls(['h2']), 'TLS', false],
    [{ transport_socket_matches: [{}] }, 'mTLS to endpoints of the mesh, plaintext to others', true],
    [
      { circuit_breakers: { thresholds: [{ max_connections: 3, max_requests: 4_294_967_295 }] } },
      'at most 3 connections',
      false,
    ],
  ];
  const ask = (cluster: string, envoy: Partial<EnvoySource>, more: Partial<WhySources> = {}) =>
    clusterSteps(
      { cluster, share: 100, tcp: false, writtenAt: { object: 'VirtualService/d/v', path: 'spec.http[0].match[1]' } },
      sources(envoy, more),
    );
  for (const [body, detail, mtls] of cases) {
    const { steps, target } = await ask(NAME, { cluster: async () => body, hosts: async () => [host({})] });
    t.ok(steps[0]?.details.includes(detail), `${detail}: ${steps[0]?.details}`);
    t.equal(target?.mtls, mtls, detail);
  }
  t.match((await ask(NAME, {})).steps, [
    {
      verdict: 'stop',
      summary: /no port 80, subset v1 of reviews.*503/,
      decidedBy: [{ object: 'VirtualService/d/v', path: 'spec.http[0].route' }],
    },
  ]);
  const config = object('MeshConfig', 'default', { outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } });
  t.match((await ask('BlackHoleCluster', {}, { object: () => config })).steps, [
    { verdict: 'stop', decidedBy: [{ object: 'MeshConfig//default', path: 'spec.outboundTrafficPolicy' }] },
  ]);
  t.match((await ask('PassthroughCluster', {})).steps, [{ verdict: 'ok', decidedBy: [] }]);
  const original = await ask(NAME, { cluster: async () => ({ type: 'ORIGINAL_DST' }) });
  t.match(original.steps[1], { step: 'endpoints', verdict: 'ok' });
  const kept = await ask(
    NAME,
    { cluster: async () => ({}) },
    { served: () => ({ origins: [], refused: 'bad regex' }) },
  );
  t.ok(
    kept.steps[0]?.details.some((line) => line.includes('bad regex')),
    'Envoy runs an older version',
  );
});

t.test('a walk that ends early says where', async (t) => {
  const query = { ask: 'why', to: 'reviews', port: 80, method: 'GET', path: '/', headers: {} } as const;
  const last = async (given: WhySources, more: object = {}) => (await why({ ...query, ...more }, given)).steps.at(-1);
  t.match(await last(sources({}, { callers: [] })), { step: 'workload', verdict: 'stop' });
  const two = ['a/x', 'b/x'].map((group) => ({ group, namespace: 'a', spiffeId: 's', outboundPort: 1 }));
  t.match(await last(sources({}, { callers: two })), { step: 'workload', summary: /say which one calls: a\/x, b\/x/ });
  t.match(await last(sources({}, { callers: two }), { workload: 'x' }), { step: 'workload', verdict: 'stop' });
  t.match(await last(sources({}, { callers: two }), { workload: 'b/x' }), { step: 'listener', verdict: 'stop' });
  t.match(await last(sources({}, { lookup: () => ({ kind: 'nxdomain' }) })), { step: 'dns', verdict: 'stop' });
  t.match(await last(sources({ listener: async (name) => ({ name, refused: 'cannot bind' }) })), {
    step: 'listener',
    details: [/cannot bind/],
  });
  t.match(await last(sources({ listener: async (name) => ({ name, body: {} }) })), {
    step: 'listener',
    summary: /no filter chain/,
  });
  const manager = { '@type': 'x.HttpConnectionManager', rds: { route_config_name: 'r' } };
  const body = { filter_chains: [{ name: 'c', filters: [{ typed_config: manager }] }] };
  t.match(await last(sources({ listener: async (name) => ({ name, body }) })), {
    step: 'route',
    summary: /waits for the route table r/,
  });
  t.match(await last(sources({ listener: async (name) => ({ name, body }), route: async () => ({}) })), {
    step: 'route',
    summary: /no virtual host/,
  });
});

t.test('what comes to a gateway: by its own socket, TLS by its port, https by its servers', async (t) => {
  const gateway = { group: 'default/gw', namespace: 'default', spiffeId: 's', outboundPort: 0, gateway: true } as const;
  const chain = (name: string, filter_chain_match: object) => ({
    name,
    filter_chain_match,
    filters: [{ typed_config: { '@type': 'x.HttpConnectionManager', rds: { route_config_name: name } } }],
  });
  const listeners: Record<string, Body> = {
    gateway_80: { filter_chains: [chain('http.80', {})] },
    gateway_443: { filter_chains: [chain('https.443', { server_names: ['*.shop.com'] })] },
  };
  const host = (more: object) => ({
    virtual_hosts: [
      {
        name: 'a.shop.com:80',
        domains: ['a.shop.com'],
        metadata: { filter_metadata: { hostmesh: { servers: ['default/gw:https', 'default/gw:http'] } } },
        routes: [{ match: { prefix: '/' }, direct_response: { status: 200 } }],
        ...more,
      },
    ],
  });
  const given = sources(
    {
      listener: async (name) => (listeners[name] === undefined ? undefined : { name, body: listeners[name] }),
      route: async (name) => host(name === 'http.80' ? { require_tls: 'ALL' } : {}),
    },
    { callers: [gateway] },
  );
  const ask = async (to: string, port: number) =>
    (await why({ ask: 'why', to, port, method: 'GET', path: '/', headers: {} }, given)).steps.at(-1);
  t.match(await ask('a.shop.com', 80), {
    step: 'route',
    summary: /redirects \(301\) to https/,
    decidedBy: [{ object: 'Gateway/default/gw' }],
  });
  t.match(await ask('a.shop.com', 443), {
    step: 'route',
    verdict: 'ok',
    summary: /answers 200/,
    decidedBy: [{ object: 'Gateway/default/gw' }],
  });
  t.match(await ask('b.other.com', 443), { step: 'listener', verdict: 'stop', summary: /no filter chain/ });
  t.match(await ask('a.shop.com', 81), { step: 'listener', verdict: 'stop' });
});

t.test('what a target takes in', async (t) => {
  const rbac = (name: string) => ({ name, config_discovery: {} });
  const chain = (name: string, match: object, filters: object[], tls = false) => ({
    name,
    filter_chain_match: { destination_port: 80, ...match },
    filters,
    ...(tls ? { transport_socket: {} } : {}),
  });
  const manager = (names: string[]) => ({
    typed_config: { '@type': 'x.HttpConnectionManager', http_filters: names.map(rbac) },
  });
  const body = {
    filter_chains: [
      chain(
        'mtls',
        { transport_protocol: 'tls', application_protocols: ['istio-h2'] },
        [manager(['deny', 'jwt', 'allow'])],
        true,
      ),
      chain('tcp', { transport_protocol: 'tls', application_protocols: ['istio'] }, [rbac('allow'), rbac('end')], true),
    ],
  };
  const type = (name: string, more: object) => ({
    typed_config: { '@type': `type.googleapis.com/x.${name}`, ...more },
  });
  const only = (exact: string) => ({
    rules: {
      policies: { p: { permissions: [{ any: true }], principals: [{ authenticated: { principal_name: { exact } } }] } },
    },
  });
  const extensions: Record<string, Body> = {
    deny: type('RBAC', {}),
    jwt: type('JwtAuthentication', {}),
    allow: type('RBAC', only('spiffe://t/ns/default/sa/web')),
    end: type('TcpProxy', {}),
  };
  const given = sources({ listener: async (name) => ({ name, body }), extension: async (name) => extensions[name] });
  const http = { authority: 'x', method: 'GET', path: '/', headers: {} };
  const ask = async (more: object) =>
    (await admit({ ask: 'admit', port: 80, ...more }, given, { http: ['istio-h2'], bytes: ['istio'] })).steps.map(
      ({ step, verdict }) => `${step} ${verdict}`,
    );
  t.same(await ask({ peer: 'spiffe://t/ns/default/sa/web', http }), ['inbound ok', 'policy unsure']);
  t.same(await ask({ peer: 'spiffe://t/ns/default/sa/other', http }), ['inbound ok', 'policy unsure', 'policy stop']);
  t.same(await ask({ peer: 'spiffe://t/ns/default/sa/web' }), ['inbound ok', 'policy ok']);
  t.same(await ask({ http }), ['inbound stop'], 'plaintext');
  t.same(
    (await admit({ ask: 'admit', port: 1 }, sources({}), { http: [], bytes: [] })).steps.map(({ verdict }) => verdict),
    ['stop'],
  );
});

t.test('names of clusters, certificates that are none', async (t) => {
  t.match(clusterParts(`${NAME}~shop`), {
    fqdn: 'reviews.default.svc.cluster.local',
    port: 80,
    subset: 'v1',
    direction: 'outbound',
  });
  t.match(clusterParts('inbound_http1'), { fqdn: 'inbound_http1', direction: 'inbound' });
  t.match(clusterParts('xds'), { fqdn: 'xds', direction: '' });
  const entry = (secret: object) => ({ entry: { name: 'n', secret }, active: false });
  t.match(
    secretRows([entry({}), entry({ tls_certificate: { certificate_chain: { inline_string: 'junk' } } })], {}, 0),
    [{ name: 'n', status: 'WARMING', valid: false, serial: '' }],
  );
});
