// What a host's Envoy has, asked by the agent's own code of real Envoys, and the calls that `why` foretells made for real.
import t, { before, test } from 'tap';
import { createEnvoyAdmin } from '../../agent/envoy/admin.ts';
import { captureRule, createLook, type Look } from '../../agent/look.ts';
import { translate } from '../../agent/translate/translate.ts';
import type { ConfigQuery, Step, Trace, WhyQuery } from '../../api/http/host-query.ts';
import type { MeshObject } from '../../api/resources/object.ts';
import { until } from '../fakes/until.ts';
import { group, meshInput, meshView, object, service, type TestHost } from '../unit/agent/mesh-view/build-mesh.ts';
import { type App, type Lab, secretBodies, startLab } from './translate-lab.ts';

t.setTimeout(580_000);

const WEB = 4001;
const HOSTS: readonly TestHost[] = [
  { id: 'a', addresses: ['10.66.0.1'], groups: ['default/web'] },
  { id: 'b', addresses: ['10.66.0.2'], groups: ['default/reviews-v1'] },
  { id: 'c', addresses: ['10.66.0.3'], groups: ['default/reviews-v2'] },
  { id: 'e', addresses: ['10.66.0.4'], groups: [], gateways: ['istio-system/edge'] },
];
/** Longer than what Envoy takes in one regular expression. */
const LONG = `${'l'.repeat(60)}.${'o'.repeat(60)}.example.com`;
const VIPS = {
  [LONG]: { v4: '240.240.0.2', v6: 'fd6d:6573:6800::2' },
  'reviews.default.svc.cluster.local': { v4: '240.240.0.1', v6: 'fd6d:6573:6800::1' },
};
const SVIDS: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
  a: [['default', 'web']],
  b: [['default', 'reviews-v1']],
  c: [['default', 'reviews-v2']],
  e: [['istio-system', 'edge']],
};
const to = (subset?: string) => ({ destination: { host: 'reviews', ...(subset === undefined ? {} : { subset }) } });
const OBJECTS: readonly MeshObject[] = [
  group('web', {}),
  group('edge', {}, { namespace: 'istio-system', labels: { istio: 'ingressgateway' } }),
  object('Gateway', 'gw', {
    selector: { istio: 'ingressgateway' },
    servers: [
      { port: { number: 8080, name: 'http', protocol: 'HTTP' }, hosts: ['shop.example'] },
      {
        port: { number: 8081, name: 'http-to-https', protocol: 'HTTP' },
        hosts: ['shop.example'],
        tls: { httpsRedirect: true },
      },
    ],
  }),
  object('VirtualService', 'shop', {
    hosts: ['shop.example'],
    gateways: ['gw'],
    http: [
      {
        match: [{ uri: { prefix: '/reviews' } }],
        route: [{ destination: { host: 'reviews', subset: 'v2', port: { number: 80 } } }],
      },
    ],
  }),
  group('reviews-v1', { http: 9080, tcp: 5432 }, { app: 'reviews', labels: { version: 'v1' } }),
  group('reviews-v2', { http: 9080, tcp: 5432 }, { app: 'reviews', labels: { version: 'v2' } }),
  service('reviews', [
    { name: 'http', port: 80, targetPort: 9080 },
    { name: 'tcp', port: 5432 },
  ]),
  object('ServiceEntry', 'long', {
    hosts: [LONG],
    ports: [{ number: 80, name: 'http', protocol: 'HTTP' }],
    resolution: 'STATIC',
    location: 'MESH_INTERNAL',
    workloadSelector: { labels: { app: 'reviews', version: 'v1' } },
  }),
  object('DestinationRule', 'reviews', {
    host: 'reviews',
    subsets: ['v1', 'v2', 'none'].map((version) => ({ name: version, labels: { version } })),
  }),
  object('VirtualService', 'reviews', {
    hosts: ['reviews'],
    http: [
      { name: 'exact', match: [{ uri: { exact: '/one' } }, { uri: { prefix: '/v1/' } }], route: [to('v1')] },
      { match: [{ headers: { user: { regex: 'j.+n' } } }], rewrite: { uri: '/x' }, route: [to('v2')] },
      { match: [{ uri: { prefix: '/gone' } }], directResponse: { status: 410 } },
      {
        match: [{ uri: { prefix: '/broken' } }],
        fault: { abort: { httpStatus: 418, percentage: { value: 100 } } },
        route: [to()],
      },
      { match: [{ uri: { prefix: '/nobody' } }], route: [to('none')] },
      { match: [{ uri: { prefix: '/unknown' } }], route: [to('unheard-of')] },
      { match: [{ method: { exact: 'GET' }, queryParams: { v: { exact: '2' } } }], route: [to('v2')] },
      { match: [{ method: { exact: 'GET' } }], route: [to('v1')] },
    ],
  }),
];

let lab: Lab;
let web: App;
const looks = new Map<string, Look>();

before(async () => {
  lab = await startLab(
    [
      { id: 'a', envoy: true, outbound: { [WEB]: 15001 } },
      { id: 'b', envoy: true, inbound: [9080, 5432] },
      { id: 'c', envoy: true, inbound: [9080, 5432] },
      { id: 'e', envoy: true },
    ],
    (ca, host) => secretBodies(ca, host, SVIDS[host] ?? []),
  );
  web = lab.host('a').app(WEB);
  for (const id of ['b', 'c']) {
    const app = lab.host(id).app(4200);
    await app.ask({ do: 'serve', port: 9080, name: id });
    await app.ask({ do: 'serve-tcp', port: 5432, name: id });
  }
  for (const { id } of HOSTS) {
    const mesh = { objects: OBJECTS, hosts: HOSTS, vips: VIPS, self: id };
    const view = meshView(mesh);
    const resources = translate(view);
    await lab.host(id).push(resources);
    looks.set(
      id,
      createLook({
        host: id,
        envoy: createEnvoyAdmin(lab.host(id).adminSocket),
        last: () => ({ desired: meshInput(mesh).desired, bound: {} as never, view, resources }),
        refused: () => [],
        ackedGeneration: () => resources.generation,
        dnsEnabled: true,
        uncaptured: captureRule({ enabled: true, excludeCidrs: ['192.0.2.0/24'] }, new Set([22])),
        now: () => Date.now(),
      }),
    );
  }
  await until(async () => (await web.ask(request('/warm'))).status === 200, 'the mesh to serve', 15_000);
});

t.teardown(() => lab.close());

function request(path: string, more: object = {}) {
  return { do: 'http', address: '240.240.0.1', port: 80, path, headers: { host: 'reviews' }, ...more };
}

async function why(query: Partial<WhyQuery>): Promise<Trace> {
  const { trace } = await (looks.get('a') as Look).answer({
    ask: 'why',
    to: 'reviews',
    port: 80,
    method: 'GET',
    path: '/',
    headers: {},
    ...query,
  });
  return trace as Trace;
}

const last = (trace: Trace): Step => trace.steps.at(-1) as Step;
const origins = (trace: Trace) =>
  trace.steps.flatMap((step) => step.decidedBy.map(({ object: key, path }) => `${key} ${path ?? ''}`.trim()));
const VS = 'VirtualService/default/reviews';
const DR = 'DestinationRule/default/reviews';

test('what why foretells happens', async (t) => {
  const cases: [
    name: string,
    path: string,
    headers: Record<string, string>,
    method: string,
    expected: { server?: string; status?: number },
    by: string,
  ][] = [
    ['exact', '/one', {}, 'GET', { server: 'b' }, `${VS} spec.http[0].match[0]`],
    ['prefix, second match', '/v1/x', {}, 'GET', { server: 'b' }, `${VS} spec.http[0].match[1]`],
    ['header by regex', '/y', { user: 'john' }, 'GET', { server: 'c' }, `${VS} spec.http[1].match[0]`],
    ['regex matches the whole value', '/y', { user: 'johnny' }, 'GET', { server: 'b' }, `${VS} spec.http[7].match[0]`],
    ['query', '/y?v=2', {}, 'GET', { server: 'c' }, `${VS} spec.http[6].match[0]`],
    ['direct response', '/gone', {}, 'GET', { status: 410 }, `${VS} spec.http[2].match[0]`],
    ['fault', '/broken', {}, 'GET', { status: 418 }, `${VS} spec.http[3].match[0]`],
    ['a subset without endpoints', '/nobody', {}, 'GET', { status: 503 }, `${DR} spec.subsets[2]`],
    ['a subset that nobody defines', '/unknown', {}, 'GET', { status: 503 }, `${VS} spec.http[5].route`],
    ['no route', '/y', {}, 'POST', { status: 404 }, VS],
  ];
  for (const [name, path, headers, method, expected, by] of cases) {
    const trace = await why({ path, headers, method });
    const real = await web.ask(request(path, { method, headers: { host: 'reviews', ...headers } }));
    t.ok(origins(trace).includes(by), `${name}: ${origins(trace)}`);
    if (expected.status === undefined) {
      t.equal(last(trace).verdict, 'ok', `${name}: ${last(trace).summary}`);
      t.equal(JSON.parse(real.body ?? '{}').server, expected.server, name);
      const address = HOSTS.find(({ id }) => id === expected.server)?.addresses[0];
      t.match(trace.targets, [{ share: 100, mtls: true, endpoints: [{ address, port: 9080, healthy: true }] }], name);
      t.match(await admitted(expected.server as string, trace), { verdict: 'ok', step: 'policy' }, name);
    } else {
      t.equal(last(trace).verdict, 'stop', `${name}: ${last(trace).summary}`);
      t.match(last(trace).summary, String(expected.status), name);
      t.equal(real.status, expected.status, name);
    }
  }
  const rewritten = await web.ask(request('/y?z=1', { headers: { host: 'reviews', user: 'john' } }));
  const { http } = await why({ headers: { user: 'john' }, path: '/y?z=1' });
  t.equal(http?.path, JSON.parse(rewritten.body ?? '{}').url, 'the path as the application gets it');
});

async function admitted(host: string, trace: Trace): Promise<Step> {
  const answer = await (looks.get(host) as Look).answer({
    ask: 'admit',
    port: 9080,
    ...(trace.peer === undefined ? {} : { peer: trace.peer }),
    ...(trace.http === undefined ? {} : { http: trace.http }),
  });
  return last(answer.trace as Trace);
}

test('what comes in at a gateway', async (t) => {
  const ask = async (to_: string, port: number, path: string) => {
    const { trace } = await (looks.get('e') as Look).answer({
      ask: 'why',
      to: to_,
      port,
      method: 'GET',
      path,
      headers: {},
    });
    return trace as Trace;
  };
  const stranger = lab.host('b').app(4300);
  const real = (port: number, host: string, path: string) =>
    stranger.ask({ do: 'http', address: '10.66.0.4', port, path, headers: { host } });
  const served = await ask('shop.example', 8080, '/reviews/1');
  t.match(last(served), { step: 'endpoints', verdict: 'ok' }, JSON.stringify(served.steps));
  t.ok(origins(served).includes('VirtualService/default/shop spec.http[0].match[0]'), String(origins(served)));
  t.ok(origins(served).includes('Gateway/default/gw'), String(origins(served)));
  t.equal(JSON.parse((await real(8080, 'shop.example', '/reviews/1')).body ?? '{}').server, 'c');
  t.match(await admitted('c', served), { verdict: 'ok', step: 'policy' });
  for (const [host, port, path, status] of [
    ['shop.example', 8080, '/other', 404],
    ['other.example', 8080, '/reviews', 404],
    ['shop.example', 8081, '/reviews', 301],
  ] as const) {
    t.match(last(await ask(host, port, path)).summary, String(status), `${host}:${port}${path}`);
    t.equal((await real(port, host, path)).status, status, `${host}:${port}${path}`);
  }
  t.match(last(await ask('shop.example', 9999, '/')), { step: 'listener', verdict: 'stop' });
});

test('a name longer than an expression may be', async (t) => {
  const trace = await why({ to: LONG });
  t.match(trace.steps.at(-1), { step: 'endpoints', verdict: 'ok' }, String(trace.steps.at(-1)?.summary));
  const { rows } = await (looks.get('a') as Look).answer({
    ask: 'config',
    part: 'clusters',
    form: 'rows',
    filter: { fqdn: LONG },
  });
  t.match(rows, [{ fqdn: LONG, port: 80 }]);
});

test('bytes, names and ports that are not served, callers', async (t) => {
  const tcp = await why({ port: 5432 });
  t.equal(last(tcp).verdict, 'ok');
  t.equal(tcp.http, undefined, 'found out to be bytes by the chain');
  t.match(tcp.targets, [{ endpoints: [{ port: 5432 }, { port: 5432 }] }]);
  t.match(last(await why({ to: 'nobody.default.svc.cluster.local' })), { step: 'dns', verdict: 'stop' });
  t.match(last(await why({ port: 22 })), { step: 'redirection', verdict: 'unsure' });
  t.match(last(await why({ to: '192.0.2.7' })), { step: 'redirection', verdict: 'unsure' });
  t.match((await why({ to: '198.51.100.7', port: 443, protocol: 'tls' })).steps.at(-1), {
    step: 'cluster',
    summary: /out of the mesh/,
  });
  t.match(last(await why({ workload: 'shop/other' })), {
    step: 'workload',
    verdict: 'stop',
    summary: /it has default\/web/,
  });
  const odd = await (looks.get('b') as Look).answer({
    ask: 'admit',
    port: 9999,
    peer: 'spiffe://mesh.test/ns/default/sa/web',
  });
  t.match(last(odd.trace as Trace), { step: 'inbound', verdict: 'stop' });
});

test('proxy-config: rows by filter, whole resources, no keys', async (t) => {
  const ask = async (part: ConfigQuery['part'], filter: object = {}, form: 'rows' | 'full' = 'rows', host = 'a') =>
    await (looks.get(host) as Look).answer({ ask: 'config', part, form, filter });
  t.match(
    (await ask('listeners', { port: 5432 })).rows?.find((row) => 'match' in row && row.match.includes('240.240.0.1,')),
    { address: '127.0.0.1', port: 15001, match: /:5432/, destination: /^Cluster: outbound_\.5432_/ },
  );
  const inbound = (await ask('listeners', { direction: 'inbound', port: 9080 }, 'rows', 'b')).rows ?? [];
  t.ok(inbound.length >= 3, 'by mTLS and plaintext');
  t.ok(inbound.every((row) => 'listener' in row && row.listener === 'inbound' && row.match.includes('Port: 9080')));
  t.match((await ask('routes', { fqdn: 'reviews' })).rows?.[0], {
    name: 'outbound_.80_.default',
    match: '/one',
    target: 'outbound_.80_.v1_.reviews.default.svc.cluster.local',
    origin: { object: VS, path: 'spec.http[0].match[0]' },
  });
  t.same((await ask('clusters', { fqdn: 'reviews.default', port: 80, subset: 'v1' })).rows, [
    {
      name: 'outbound_.80_.v1_.reviews.default.svc.cluster.local',
      fqdn: 'reviews.default.svc.cluster.local',
      port: 80,
      subset: 'v1',
      direction: 'outbound',
      type: 'EDS',
      destinationRules: [DR],
    },
  ]);
  const full = await ask('clusters', { fqdn: 'reviews', subset: 'v1' }, 'full');
  t.match(
    full.resources,
    [{ lb_policy: String, connect_timeout: '10s' }, { eds_cluster_config: {} }],
    'as Envoy has them',
  );
  t.equal(full.left, undefined);
  t.match((await ask('endpoints', { fqdn: 'reviews', subset: 'v2', port: 9080 })).rows, [
    { endpoint: '10.66.0.3:9080', status: 'HEALTHY', outlier: 'OK', cluster: /_\.v2_\./ },
  ]);
  t.match((await ask('endpoints', { status: 'unhealthy' })).rows, []);
  const secrets = await ask('secrets', {}, 'full');
  t.match(
    secrets.rows?.find((row) => 'type' in row && row.type === 'Cert Chain'),
    {
      name: 'spiffe://mesh.test/ns/default/sa/web',
      status: 'ACTIVE',
      valid: true,
      sans: [/URI:spiffe:\/\/mesh\.test\/ns\/default\/sa\/web/, /DNS:a\.hosts\.mesh\.test/],
    },
  );
  t.notMatch(JSON.stringify(secrets), /PRIVATE|BEGIN|inline/);
  t.match((await ask('routes', { port: 80 }, 'full')).resources, [
    { name: 'outbound_.80_.default', virtual_hosts: [] },
  ]);
});

test('a service as a host sees it', async (t) => {
  const { services } = await (looks.get('b') as Look).answer({
    ask: 'service',
    host: 'reviews.default.svc.cluster.local',
  });
  t.match(services, [
    {
      namespace: 'default',
      addresses: ['240.240.0.1', 'fd6d:6573:6800::1'],
      endpoints: [
        {
          id: 'b/default/reviews-v1',
          addresses: ['10.66.0.2'],
          health: 'healthy',
          labels: { version: 'v1' },
          ports: { 80: 9080, 5432: 5432 },
        },
        { id: 'c/default/reviews-v2' },
      ],
    },
  ]);
  t.same((await (looks.get('b') as Look).answer({ ask: 'service', host: 'nobody' })).services, []);
});

test('log levels: read, one, all', async (t) => {
  const log = async (levels?: Record<string, string>) =>
    (await (looks.get('a') as Look).answer({ ask: 'log', ...(levels === undefined ? {} : { levels }) })).levels ?? {};
  t.equal((await log()).http, 'warning');
  t.match(await log({ http: 'debug', router: 'trace' }), { http: 'debug', router: 'trace', upstream: 'warning' });
  t.match(await log({ '': 'warning' }), { http: 'warning', router: 'warning' });
  await t.rejects(log({ nonsense: 'info' }), { code: 'ENVOY_ADMIN' });
});
