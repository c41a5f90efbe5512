// VirtualService on real Envoys: each documented behaviour seen from an application's side.
import t, { before, test } from 'tap';
import { translate } from '../../agent/translate/translate.ts';
import type { MeshObject } from '../../api/resources/object.ts';
import { until } from '../fakes/until.ts';
import { group, meshView, object, service, type TestHost } from '../unit/agent/mesh-view/build-mesh.ts';
import { type Answer, type App, type Lab, secretBodies, startLab } from './translate-lab.ts';

t.setTimeout(580_000);

const WEB = 4001;
const JOB = 4002;
const SERVERS = 4201;
const PORTS = { http: 9080, grpc: 9081, stream: 9082, tcp: 5432, other: 5433, shadow: 9090 };

const HOSTS: readonly TestHost[] = [
  { id: 'a', addresses: ['10.66.0.1', 'fd66::1'], groups: ['default/web', 'default/job'] },
  { id: 'b', addresses: ['10.66.0.2', 'fd66::2'], groups: ['default/reviews-v1', 'default/db'] },
  { id: 'c', addresses: ['10.66.0.3', 'fd66::3'], groups: ['default/reviews-v2', 'shop/shadow'] },
];

const NAMES = ['reviews.default', 'db.default', 'shadow.shop'];
const VIP = Object.fromEntries(NAMES.map((name, index) => [name, `240.240.0.${index + 1}`]));
const VIPS = Object.fromEntries(
  NAMES.map((name, index) => [
    `${name}.svc.cluster.local`,
    { v4: `240.240.0.${index + 1}`, v6: `fd6d:6573:6800::${index + 1}` },
  ]),
);

const BASE: readonly MeshObject[] = [
  group('web', {}),
  group('job', {}),
  group(
    'reviews-v1',
    { http: PORTS.http, grpc: PORTS.grpc, stream: PORTS.stream },
    { app: 'reviews', labels: { version: 'v1' } },
  ),
  group(
    'reviews-v2',
    { http: PORTS.http, grpc: PORTS.grpc, stream: PORTS.stream },
    { app: 'reviews', labels: { version: 'v2' } },
  ),
  group('db', { tcp: PORTS.tcp, other: PORTS.other }),
  group('shadow', { http: PORTS.shadow }, { namespace: 'shop' }),
  service('reviews', [
    { name: 'http', port: 80, targetPort: PORTS.http },
    { name: 'grpc', port: 81, targetPort: PORTS.grpc },
    { name: 'http-stream', port: 82, targetPort: PORTS.stream },
  ]),
  service('shadow', [{ name: 'http', port: 80, targetPort: PORTS.shadow }], { namespace: 'shop' }),
  service('db', [
    { name: 'tcp', port: 5432 },
    { name: 'tcp-other', port: 5433 },
    { name: 'tls', port: 8443, targetPort: PORTS.tcp },
  ]),
  object('DestinationRule', 'reviews', {
    host: 'reviews',
    subsets: [
      { name: 'v1', labels: { version: 'v1' } },
      { name: 'v2', labels: { version: 'v2' } },
    ],
  }),
];

const to = (subset: string, weight?: number) => ({
  destination: { host: 'reviews', subset },
  ...(weight === undefined ? {} : { weight }),
});
const rules = (...http: object[]): MeshObject => object('VirtualService', 'reviews', { hosts: ['reviews'], http });

let lab: Lab;
let web: App;

async function push(...objects: MeshObject[]): Promise<void> {
  for (const self of ['a', 'b', 'c']) {
    const view = meshView({ objects: [...BASE, ...objects], hosts: HOSTS, vips: VIPS, self });
    await lab.host(self).push(translate(view));
  }
  t.same(lab.host('a').ads?.refusals, [], 'Envoy took everything');
}

type Call = {
  readonly path?: string;
  readonly host?: string;
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly port?: number;
};

const call = ({ path = '/', host = 'reviews', headers = {}, port = 80, ...more }: Call = {}): Promise<Answer> =>
  web.ask({ do: 'http', address: VIP['reviews.default'], port, path, headers: { host, ...headers }, ...more });

interface Served {
  readonly server?: string;
  readonly url?: string;
  readonly headers?: Record<string, string>;
}

/** Who served a call and what it saw, or the status of an answer that no application gave. */
async function outcome(asked: Call): Promise<{ readonly status: number | undefined } & Served> {
  const answer = await call(asked);
  try {
    return { status: answer.status, ...(JSON.parse(answer.body ?? '') as Served) };
  } catch {
    return { status: answer.status };
  }
}

before(async () => {
  lab = await startLab(
    [
      { id: 'a', envoy: true, outbound: { [WEB]: 15001, [JOB]: 15100 } },
      { id: 'b', envoy: true, inbound: Object.values(PORTS) },
      { id: 'c', envoy: true, inbound: Object.values(PORTS) },
    ],
    (ca, host) =>
      secretBodies(
        ca,
        host,
        {
          a: [
            ['default', 'web'],
            ['default', 'job'],
          ],
          b: [
            ['default', 'reviews-v1'],
            ['default', 'db'],
          ],
          c: [
            ['default', 'reviews-v2'],
            ['shop', 'shadow'],
          ],
        }[host] as [string, string][],
      ),
  );
  web = lab.host('a').app(WEB);
  for (const id of ['b', 'c']) {
    const app = lab.host(id).app(SERVERS);
    await app.ask({ do: 'serve', port: PORTS.http, name: id });
    await app.ask({ do: 'serve', port: PORTS.shadow, name: `${id}-shadow` });
    await app.ask({ do: 'serve-grpc', port: PORTS.grpc, name: id });
    await app.ask({ do: 'serve-stream', port: PORTS.stream, name: id });
    await app.ask({ do: 'serve-tcp', port: PORTS.tcp, name: `${id}-db` });
    await app.ask({ do: 'serve-tcp', port: PORTS.other, name: `${id}-other` });
  }
});

t.teardown(() => lab.close());

const answer = (status: number) => ({ directResponse: { status } });

test('what a match means', async (t) => {
  await push(
    rules(
      { match: [{ headers: { 'x-there': {} } }], ...answer(210) },
      { match: [{ uri: { prefix: '/without' }, withoutHeaders: { 'x-bad': { exact: 'yes' } } }], ...answer(211) },
      { match: [{ queryParams: { flag: { exact: '' } } }], ...answer(212) },
      { match: [{ queryParams: { id: { regex: '\\d+' } } }], ...answer(213) },
      { match: [{ queryParams: { any: {} } }], ...answer(214) },
      { match: [{ uri: { regex: '/re/[a-z]+' } }], ...answer(215) },
      { match: [{ uri: { exact: '/Exact' }, ignoreUriCase: true }], ...answer(216) },
      { match: [{ uri: { prefix: '/Pre' }, ignoreUriCase: true }], ...answer(217) },
      { match: [{ uri: { regex: '/CASE' }, ignoreUriCase: true }], ...answer(218) },
      { match: [{ method: { exact: 'DELETE' } }], ...answer(219) },
      { match: [{ authority: { prefix: 'reviews.default' } }], ...answer(220) },
      { match: [{ uri: { prefix: '/scheme' }, scheme: { exact: 'http' } }], ...answer(221) },
      { match: [{ port: 82 }], ...answer(222) },
      {
        match: [
          { uri: { prefix: '/label' }, sourceLabels: { app: 'web' }, sourceNamespace: 'default', gateways: ['mesh'] },
        ],
        ...answer(223),
      },
      {
        match: [{ uri: { prefix: '/other' }, sourceLabels: { app: 'other' } }, { uri: { exact: '/other/2' } }],
        ...answer(224),
      },
      { match: [{ headers: { a: { prefix: 'x' }, b: { regex: 'y+' } } }], ...answer(225) },
      { route: [to('v1')] },
    ),
  );
  const rows: readonly (readonly [Call, number])[] = [
    [{ headers: { 'x-there': '' } }, 210],
    [{ headers: { 'x-there': 'whatever' } }, 210],
    [{ path: '/without' }, 211],
    [{ path: '/without', headers: { 'x-bad': 'no' } }, 211],
    [{ path: '/without', headers: { 'x-bad': 'yes' } }, 200],
    [{ path: '/?flag' }, 212],
    [{ path: '/?flag=' }, 212],
    [{ path: '/?flag=1' }, 200],
    [{ path: '/?id=12' }, 213],
    [{ path: '/?id=a12' }, 200],
    [{ path: '/?any=thing' }, 214],
    [{ path: '/re/abc' }, 215],
    [{ path: '/re/abc/d' }, 200],
    [{ path: '/eXaCt' }, 216],
    [{ path: '/exact/' }, 200],
    [{ path: '/PREfix' }, 217],
    [{ path: '/CASE' }, 218],
    [{ path: '/case' }, 200],
    [{ method: 'DELETE' }, 219],
    [{ host: 'reviews.default' }, 220],
    [{ host: 'reviews.default.svc.cluster.local:80' }, 220],
    [{ path: '/scheme' }, 221],
    [{ port: 82 }, 222],
    [{ path: '/label' }, 223],
    [{ path: '/other' }, 200],
    [{ path: '/other/2' }, 224],
    [{ headers: { a: 'xz', b: 'yy' } }, 225],
    [{ headers: { a: 'xz', b: 'yyz' } }, 200],
  ];
  for (const [asked, status] of rows) t.equal((await call(asked)).status, status, JSON.stringify(asked));
});

test('retries: what is repeated, how often, and what is not', async (t) => {
  const app = lab.host('c').app(SERVERS);
  let port = 9200;
  const rows: readonly (readonly [string, number[], object | undefined, number])[] = [
    ['a status by number', [503, 503], { attempts: 2, retryOn: '503' }, 200],
    ['another status', [500], { attempts: 2, retryOn: '503,504' }, 500],
    ['5xx', [500, 502], { attempts: 2, retryOn: '5xx' }, 200],
    ['one attempt too few', [500, 502], { attempts: 1, retryOn: '5xx' }, 502],
    ['gateway-error', [502, 503, 504], { attempts: 3, retryOn: 'gateway-error', retryIgnorePreviousHosts: false }, 200],
    ['gateway-error is not 500', [500], { attempts: 3, retryOn: 'gateway-error' }, 500],
    ['retriable-4xx', [409], { attempts: 1, retryOn: 'retriable-4xx' }, 200],
    ['several, one of them by number', [418, 503], { attempts: 2, retryOn: 'gateway-error,418', backoff: '1ms' }, 200],
    ['none asked for', [503], { attempts: 0 }, 503],
    ['no attempts written', [503], {}, 503],
    ['the default does not repeat what an application answered', [503], undefined, 503],
  ];
  for (const [what, statuses, retries, status] of rows) {
    port += 1;
    await app.ask({ do: 'serve', port, name: 'flaky', statuses });
    await push(
      object('ServiceEntry', 'flaky', {
        hosts: ['flaky.example'],
        addresses: ['240.240.0.9'],
        ports: [{ number: 80, name: 'http', protocol: 'HTTP', targetPort: port }],
        resolution: 'STATIC',
        endpoints: [{ address: '10.66.0.3' }],
      }),
      object('VirtualService', 'flaky', {
        hosts: ['flaky.example'],
        http: [{ route: [{ destination: { host: 'flaky.example' } }], ...(retries === undefined ? {} : { retries }) }],
      }),
    );
    const seen = await web.ask({ do: 'http', address: '240.240.0.9', port: 80, headers: { host: 'flaky.example' } });
    t.equal(seen.status, status, what);
  }
});

test('a slow server: perTryTimeout with retries, timeout over all, and none', async (t) => {
  const retries = async () => {
    const stats = await lab.host('a').admin('/stats?filter=reviews.*upstream_rq_retry$');
    return [...stats.matchAll(/upstream_rq_retry: (\d+)/g)].reduce((sum, [, n]) => sum + Number(n), 0);
  };
  const slow = { 'x-delay-ms': '3000' };
  await push(rules({ route: [to('v1')], timeout: '300ms' }));
  const cut = await call({ headers: slow });
  t.equal(cut.status, 504);
  t.ok((cut.ms ?? 0) < 2500, `${cut.ms} ms`);
  await push(
    rules({ route: [to('v1')], retries: { attempts: 2, perTryTimeout: '150ms', retryOn: 'gateway-error,5xx' } }),
  );
  const before = await retries();
  const tried = await call({ headers: slow });
  t.equal(tried.status, 504);
  t.ok((tried.ms ?? 0) >= 430 && (tried.ms ?? 0) < 2500, `three tries: ${tried.ms} ms`);
  t.equal((await retries()) - before, 2);
  await push(rules({ route: [to('v1')] }));
  t.equal((await call({ headers: slow })).status, 200);
});

test('faults by their percentage; without one, none', async (t) => {
  const abort = (more: object) => rules({ route: [to('v1')], fault: { abort: { httpStatus: 418, ...more } } });
  const count = async () => {
    const answers = await Promise.all(Array.from({ length: 60 }, () => call()));
    return answers.filter((one) => one.status === 418).length;
  };
  const rows: readonly (readonly [string, object, (n: number) => boolean])[] = [
    ['all', { percentage: { value: 100 } }, (n) => n === 60],
    ['none', { percentage: { value: 0 } }, (n) => n === 0],
    ['an empty percentage', { percentage: {} }, (n) => n === 0],
    ['no percentage', {}, (n) => n === 0],
    ['half', { percentage: { value: 50 } }, (n) => n > 8 && n < 52],
  ];
  for (const [what, more, right] of rows) {
    await push(abort(more));
    const n = await count();
    t.ok(right(n), `${what}: ${n} of 60`);
  }
  const delay = (more: object) => rules({ route: [to('v1')], fault: { delay: { fixedDelay: '1s', ...more } } });
  for (const [more, late] of [
    [{ percent: 100 }, true],
    [{ percentage: { value: 100 } }, true],
    [{}, false],
  ] as const) {
    await push(delay(more));
    const { ms = 0 } = await call();
    t.equal(ms >= 1000, late, `${JSON.stringify(more)}: ${ms} ms`);
  }
});

test('redirects', async (t) => {
  await push(
    rules(
      { match: [{ uri: { prefix: '/uri' } }], redirect: { uri: '/new' } },
      { match: [{ uri: { prefix: '/host' } }], redirect: { authority: 'else.example', redirectCode: 302 } },
      { match: [{ uri: { prefix: '/tls' } }], redirect: { scheme: 'https' } },
      { match: [{ uri: { prefix: '/port' } }], redirect: { port: 8443 } },
      { match: [{ uri: { prefix: '/usual' } }], redirect: { scheme: 'https', port: 443 } },
      {
        match: [{ uri: { prefix: '/derive' } }],
        redirect: { authority: 'x.example', derivePort: 'FROM_REQUEST_PORT', redirectCode: 307 },
      },
      {
        match: [{ uri: { prefix: '/default' } }],
        redirect: { authority: 'x.example', derivePort: 'FROM_PROTOCOL_DEFAULT', redirectCode: 308 },
      },
      { match: [{ uri: { prefix: '/swap' } }], redirect: { uri: '%PREFIX()%/changed', redirectCode: 303 } },
      { route: [to('v1')] },
    ),
  );
  const rows: readonly (readonly [Call, number, string])[] = [
    [{ path: '/uri/x?q=1' }, 301, 'http://reviews/new?q=1'],
    [{ path: '/host/x' }, 302, 'http://else.example/host/x'],
    [{ path: '/tls/x' }, 301, 'https://reviews/tls/x'],
    [{ path: '/port/x' }, 301, 'http://reviews:8443/port/x'],
    [{ path: '/usual' }, 301, 'https://reviews/usual'],
    [{ path: '/derive', port: 82 }, 307, 'http://x.example:82/derive'],
    [{ path: '/derive' }, 307, 'http://x.example/derive'],
    [{ path: '/default', port: 82 }, 308, 'http://x.example/default'],
    [{ path: '/swap/a/b' }, 303, 'http://reviews/changed/a/b'],
  ];
  for (const [asked, status, location] of rows) {
    const seen = await call(asked);
    t.same([seen.status, seen.headers?.location], [status, location], JSON.stringify(asked));
  }
});

test('rewrites and header operations', async (t) => {
  await push(
    rules(
      { match: [{ uri: { prefix: '/pre/' } }], rewrite: { uri: '/' }, route: [to('v1')] },
      { match: [{ uri: { exact: '/exact' } }], rewrite: { uri: '/whole' }, route: [to('v1')] },
      { match: [{ uri: { regex: '/r/.*' } }], rewrite: { uri: '/all' }, route: [to('v1')] },
      {
        match: [{ uri: { prefix: '/g/' } }],
        rewrite: { uriRegexRewrite: { match: '^/g/(\\w+)/(\\w+)', rewrite: '/\\2/\\1' } },
        route: [to('v1')],
      },
      { match: [{ uri: { prefix: '/auth' } }], rewrite: { authority: 'inner.example' }, route: [to('v1')] },
      {
        match: [{ uri: { prefix: '/sethost' } }],
        headers: { request: { set: { Host: 'set.example' } } },
        route: [to('v1')],
      },
      {
        match: [{ uri: { prefix: '/desthost' } }],
        route: [{ ...to('v1'), headers: { request: { set: { ':authority': 'dest.example' } } } }],
      },
      {
        match: [{ uri: { prefix: '/split' } }],
        headers: { request: { set: { 'x-both': 'rule' } } },
        route: [
          {
            ...to('v1', 1),
            headers: {
              request: { set: { host: 'split.example' }, add: { 'x-one': '1' } },
              response: { set: { 'x-dest': 'v1' } },
            },
          },
          { ...to('v2', 0), headers: { request: { set: { 'x-one': 'never' } } } },
        ],
      },
      {
        headers: {
          request: {
            set: { 'x-set': 'new', 'x-port': '%DOWNSTREAM_LOCAL_PORT%', 'x-pct': '5%%' },
            add: { 'x-add': 'two' },
            remove: ['x-gone'],
          },
          response: { set: { 'x-out': 'set' }, add: { 'x-more': 'b' }, remove: ['content-type'] },
        },
        route: [to('v1')],
      },
    ),
  );
  for (const [path, url, host] of [
    ['/pre/x/y?z=1', '/x/y?z=1', 'reviews'],
    ['/exact?q', '/whole?q', 'reviews'],
    ['/r/a/b?q', '/all?q', 'reviews'],
    ['/g/one/two/three', '/two/one/three', 'reviews'],
    ['/auth/x', '/auth/x', 'inner.example'],
    ['/sethost', '/sethost', 'set.example'],
    ['/desthost', '/desthost', 'dest.example'],
    ['/split', '/split', 'split.example'],
  ] as const) {
    const seen = await outcome({ path });
    t.same([seen.url, seen.headers?.host], [url, host], path);
  }
  t.match((await outcome({ path: '/split' })).headers, { 'x-both': 'rule', 'x-one': '1' });
  t.equal((await call({ path: '/split' })).headers?.['x-dest'], 'v1');
  const plain = await call({ headers: { 'x-set': 'old', 'x-add': 'one', 'x-gone': '1' } });
  const saw = (JSON.parse(plain.body ?? '{}') as Served).headers ?? {};
  t.match(saw, { 'x-set': 'new', 'x-add': /one, ?two/, 'x-port': '80', 'x-pct': '5%' });
  t.notOk('x-gone' in saw);
  t.match(plain.headers, { 'x-out': 'set', 'x-more': 'b' });
  t.notOk('content-type' in (plain.headers ?? {}));
});

test('CORS: preflights and answers', async (t) => {
  const cors = (more: object) =>
    rules({
      corsPolicy: {
        allowOrigins: [
          { exact: 'https://a.example' },
          { regex: 'https://[a-z]+\\.b\\.example' },
          { prefix: 'https://c.' },
        ],
        allowMethods: ['GET', 'PUT'],
        allowHeaders: ['x-a', 'x-b'],
        exposeHeaders: ['x-c'],
        maxAge: '2h',
        allowCredentials: true,
        ...more,
      },
      route: [to('v1')],
    });
  const preflight = (origin: string) =>
    call({ method: 'OPTIONS', headers: { origin, 'access-control-request-method': 'PUT' } });
  await push(cors({}));
  const allowed = await preflight('https://x.b.example');
  t.match(allowed, {
    status: 200,
    headers: {
      'access-control-allow-origin': 'https://x.b.example',
      'access-control-allow-methods': 'GET,PUT',
      'access-control-allow-headers': 'x-a,x-b',
      'access-control-max-age': '7200',
      'access-control-allow-credentials': 'true',
    },
  });
  t.equal(allowed.body, '', 'the proxy answers');
  t.match((await call({ headers: { origin: 'https://c.any' } })).headers, {
    'access-control-allow-origin': 'https://c.any',
    'access-control-expose-headers': 'x-c',
  });
  t.notOk((await call({ headers: { origin: 'https://evil.example' } })).headers?.['access-control-allow-origin']);
  t.match((await preflight('https://evil.example')).body, /"server":"b"/, 'an unmatched preflight is forwarded');
  await push(cors({ unmatchedPreflights: 'IGNORE' }));
  const ignored = await preflight('https://evil.example');
  t.notMatch(ignored.body ?? '', /server/);
  t.notOk(ignored.headers?.['access-control-allow-origin']);
});

test('mirrors: each by its percentage, and the answer is the destination’s', async (t) => {
  const sent = async () => {
    const stats = await lab.host('a').admin('/stats?filter=shadow_shop.*upstream_rq_total');
    return [...stats.matchAll(/upstream_rq_total: (\d+)/g)].reduce((sum, [, n]) => sum + Number(n), 0);
  };
  const shadow = { host: 'shadow.shop.svc.cluster.local', port: { number: 80 } };
  const rows: readonly (readonly [object, (n: number) => boolean])[] = [
    [{ mirror: shadow }, (n) => n === 40],
    [{ mirror: shadow, mirrorPercentage: { value: 0 } }, (n) => n === 0],
    [{ mirror: shadow, mirror_percent: 50 }, (n) => n > 4 && n < 36],
    [{ mirrors: [{ destination: shadow }, { destination: shadow, percentage: { value: 100 } }] }, (n) => n === 80],
    [{ mirrors: [{ destination: shadow, percentage: { value: 0 } }] }, (n) => n === 0],
  ];
  for (const [more, right] of rows) {
    await push(rules({ route: [to('v1')], ...more }));
    const before = await sent();
    for (let n = 0; n < 40; n++) t.equal((await outcome({})).server, 'b');
    // Copies are sent beside the request: the last may be a moment behind.
    const settled = await until(
      async () => {
        const n = (await sent()) - before;
        return right(n) ? { n } : undefined;
      },
      `mirrored requests of ${JSON.stringify(more)}`,
      15_000,
    ).catch(async () => ({ n: (await sent()) - before }));
    const seen = settled.n;
    t.ok(right(seen), `${JSON.stringify(more)}: ${seen}`);
  }
});

test('two workloads of a namespace have one route table, and each its own way through it', async (t) => {
  const asked = async (uid: number, headers: Record<string, string> = {}) => {
    const got = await lab
      .host('a')
      .app(uid)
      .ask({
        do: 'http',
        address: VIP['reviews.default'],
        port: 80,
        path: '/',
        headers: { host: 'reviews', ...headers },
      });
    return got.status === 200 ? (JSON.parse(got.body ?? '') as Served).server : got.status;
  };
  const both = async () => [await asked(WEB), await asked(JOB)];
  const pushes = () => lab.host('a').ads?.pushes.filter(({ type }) => type === 'listener').length;
  await push(rules({ route: [to('v1')] }));
  const before = pushes();
  t.same(await both(), ['b', 'b']);
  await push(rules({ match: [{ sourceLabels: { app: 'job' } }], route: [to('v2')] }, { route: [to('v1')] }));
  t.same(await both(), ['b', 'c'], 'by the labels of whoever calls');
  t.equal(await asked(WEB, { 'x-hostmesh-workload': 'job' }), 'b', 'an application does not say who it is');
  t.equal(await asked(JOB, { 'x-hostmesh-workload': 'web' }), 'c');
  await push(rules({ route: [to('v1')], mirror: { host: 'shadow.shop.svc.cluster.local', port: { number: 80 } } }));
  t.same(await both(), ['b', 'b'], 'copies are each workload’s own');
  await push(rules({ route: [to('v1')] }));
  t.equal(pushes(), before, 'no listener was sent for any of it');
  const only = object('Sidecar', 'job', {
    workloadSelector: { labels: { app: 'job' } },
    egress: [{ hosts: ['shop/*'] }],
    outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' },
  });
  await push(rules({ route: [to('v1')] }), only);
  t.same(await both(), ['b', 502], 'what a Sidecar does not import is nobody’s for that workload alone');
  await push(rules({ route: [to('v1')] }));
  t.same(await both(), ['b', 'b']);
});

test('delegates', async (t) => {
  const delegate = (name: string, spec: object, namespace = 'shop') =>
    object('VirtualService', name, spec, { namespace });
  await push(
    rules(
      {
        name: 'root',
        match: [{ uri: { prefix: '/shop' } }],
        delegate: { name: 'd', namespace: 'shop' },
        headers: { request: { set: { 'x-root': '1' } } },
      },
      { match: [{ uri: { prefix: '/private' } }], delegate: { name: 'private', namespace: 'shop' } },
      { match: [{ uri: { prefix: '/missing' } }], delegate: { name: 'nobody' } },
      { route: [to('v2')] },
    ),
    delegate('d', {
      http: [
        { match: [{ uri: { prefix: '/elsewhere' } }], directResponse: { status: 250 } },
        { match: [{ uri: { prefix: '/shop/answer' } }], directResponse: { status: 251 } },
        {
          match: [{ headers: { 'x-v': { exact: '1' } } }],
          route: [{ destination: { host: 'reviews.default.svc.cluster.local', subset: 'v1' } }],
        },
        { route: [{ destination: { host: 'shadow' } }], rewrite: { uri: '/own' } },
      ],
    }),
    delegate('private', { exportTo: ['.'], http: [{ directResponse: { status: 252 } }] }),
  );
  t.equal((await call({ path: '/shop/answer' })).status, 251);
  t.match(await outcome({ path: '/shop/x', headers: { 'x-v': '1' } }), { server: 'b', headers: { 'x-root': '1' } });
  t.match(
    await outcome({ path: '/shop/x' }),
    { server: 'c-shadow', url: '/own/x', headers: { 'x-root': '1' } },
    'a short name of the delegate’s namespace',
  );
  t.match(await outcome({ path: '/elsewhere' }), { server: 'c', url: '/elsewhere' }, 'a conflict takes no effect');
  t.match(await outcome({ path: '/private' }), { server: 'c' });
  t.match(await outcome({ path: '/missing' }), { server: 'c' });
});

test('several VirtualServices, wildcards, ports without rules, hosts of no service', async (t) => {
  const vs = (name: string, created: number, spec: object) => object('VirtualService', name, spec, { created });
  await push(
    vs('new', 20, { hosts: ['reviews'], http: [answer(260)] }),
    vs('wild', 1, { hosts: ['*.default.svc.cluster.local'], http: [answer(261)] }),
    vs('old', 10, { hosts: ['reviews'], http: [{ match: [{ port: 80 }], ...answer(262) }] }),
    vs('made-up', 5, { hosts: ['made.up', '*.made.up'], http: [{ route: [to('v2')] }] }),
  );
  t.equal((await call()).status, 262, 'the oldest of the most specific host');
  t.equal((await call({ port: 82 })).status, 260, 'one without a rule for the port gives way');
  t.match(await outcome({ host: 'made.up' }), { server: 'c' });
  t.match(await outcome({ host: 'x.made.up' }), { server: 'c' });
});

test('bytes: subnets, weights, SNI', async (t) => {
  const db = { host: 'db', port: { number: 5433 } };
  await push(
    object('VirtualService', 'db', {
      hosts: ['db', '*.inner.example'],
      tcp: [
        { match: [{ port: 5432, destinationSubnets: ['fd6d:6573:6800::/48'] }], route: [{ destination: db }] },
        {
          match: [{ port: 5433, sourceLabels: { app: 'other' } }],
          route: [{ destination: { host: 'db', port: { number: 5432 } } }],
        },
      ],
      tls: [
        { match: [{ port: 8443, sniHosts: ['a.inner.example'] }], route: [{ destination: db }] },
        { match: [{ sniHosts: ['*.inner.example'] }], route: [{ destination: { host: 'nowhere' } }] },
      ],
    }),
  );
  const bytes = (address: string, port: number) => web.ask({ do: 'tcp', address, port, send: 'x' });
  t.match(await bytes(VIP['db.default'] ?? '', 5432), { received: 'b-db:x' });
  t.match(await bytes('fd6d:6573:6800::2', 5432), { received: 'b-other:x' }, 'by subnet');
  t.match(await bytes(VIP['db.default'] ?? '', 5433), { received: 'b-other:x' }, 'another source');
  const hello = (name: string) => web.ask({ do: 'hello', address: VIP['db.default'], port: 8443, name });
  t.match(await hello('a.inner.example'), { received: 'b-other' }, 'the most specific SNI');
  t.notOk((await hello('b.inner.example')).received, 'a destination that is not there');
  t.match(await hello('db'), { received: 'b-db' }, 'no rule: the service');
});

test('gRPC: unary, streams, trailers, retries by gRPC status, deadlines', async (t) => {
  const grpc = (more: object) =>
    web.ask({
      do: 'grpc',
      address: VIP['reviews.default'],
      port: 81,
      ...more,
      headers: { ':authority': 'reviews:81', ...(more as Call).headers },
    });
  await push(rules({ route: [to('v1')] }));
  t.match(await grpc({}), { status: 200, grpcStatus: 0, from: 'b' });
  t.match(await grpc({ path: '/x/Stream', count: 5 }), { grpcStatus: 0, messages: 5 }, 'each message at once');
  const late = await grpc({ headers: { 'grpc-timeout': '200m', 'x-delay-ms': '4000' } });
  t.equal(late.grpcStatus, 4, `DEADLINE_EXCEEDED: ${JSON.stringify(late)}`);
  t.ok((late.ms ?? 0) < 3000, `${late.ms} ms`);
  await push(rules({ route: [to('v1')], timeout: '300ms' }));
  const bound = await grpc({ headers: { 'grpc-timeout': '5S', 'x-delay-ms': '4000' } });
  t.match(bound.grpcStatus, /^(4|14)$/, JSON.stringify(bound));
  t.ok((bound.ms ?? 0) < 3000, `${bound.ms} ms`);
  await push(
    rules({ route: [to('v1')], fault: { abort: { grpcStatus: 'RESOURCE_EXHAUSTED', percentage: { value: 100 } } } }),
  );
  t.match(await grpc({}), { grpcStatus: 8 });
  const flaky = (statuses: number[], port: number) =>
    lab.host('c').app(SERVERS).ask({ do: 'serve-grpc', port, name: 'flaky', statuses });
  const entry = (port: number, retries?: object) => [
    object('ServiceEntry', 'flaky', {
      hosts: ['flaky.example'],
      addresses: ['240.240.0.9'],
      ports: [{ number: 80, name: 'grpc', protocol: 'GRPC', targetPort: port }],
      resolution: 'STATIC',
      endpoints: [{ address: '10.66.0.3' }],
    }),
    object('VirtualService', 'flaky', {
      hosts: ['flaky.example'],
      http: [{ route: [{ destination: { host: 'flaky.example' } }], ...(retries === undefined ? {} : { retries }) }],
    }),
  ];
  for (const [what, statuses, port, retries, status] of [
    ['UNAVAILABLE is repeated by default', [14, 14], 9301, undefined, 0],
    ['INTERNAL is not', [13], 9302, undefined, 13],
    ['INTERNAL on demand', [13], 9303, { attempts: 1, retryOn: 'internal,deadline-exceeded' }, 0],
    ['RESOURCE_EXHAUSTED on demand', [8], 9304, { attempts: 1, retryOn: 'resource-exhausted' }, 0],
  ] as const) {
    await flaky([...statuses], port);
    await push(...entry(port, retries));
    const seen = await web.ask({
      do: 'grpc',
      address: '240.240.0.9',
      port: 80,
      headers: { ':authority': 'flaky.example' },
    });
    t.equal(seen.grpcStatus, status, what);
  }
});

test('streams, large bodies, upgrades, CONNECT, HTTP/1.0', async (t) => {
  await push(rules({ route: [to('v1')] }));
  const at = { address: VIP['reviews.default'], port: 82, headers: { host: 'reviews' } };
  t.match(
    await web.ask({ do: 'stream', ...at, send: 'chunk', count: 20 }),
    { status: 200, rounds: 20 },
    'nothing is buffered',
  );
  t.match(await web.ask({ do: 'large', ...at, size: 30_000_000 }), { status: 200, size: 30_000_000 });
  t.match(await web.ask({ do: 'large', ...at, path: '/bytes/30000000' }), { status: 200, size: 30_000_000 });
  const websocket = { host: 'reviews', connection: 'Upgrade', upgrade: 'websocket' };
  t.match(await web.ask({ do: 'upgrade', ...at, headers: websocket, path: '/ws', send: 'ping' }), {
    status: 101,
    head: /x-server: b[\s\S]*x-target: \/ws/,
    received: 'ping',
  });
  const proxy = {
    ...at,
    method: 'CONNECT',
    path: 'else.example:443',
    headers: { host: 'else.example:443' },
    send: 'ping',
  };
  t.match(await web.ask({ do: 'upgrade', ...proxy }), { status: 200, received: 'ping' }, 'a proxy is asked to CONNECT');
  const old = await web.ask({
    do: 'tcp',
    address: at.address,
    port: 80,
    send: 'GET /old HTTP/1.0\r\nHost: reviews\r\n\r\n',
  });
  t.match(old.received, /^HTTP\/1\.[01] 200[\s\S]*"server":"b"/);
});

test('a route’s own statistics', async (t) => {
  await push(
    rules({ match: [{ uri: { prefix: '/a' }, statPrefix: 'critical' }], route: [to('v1')] }, { route: [to('v1')] }),
  );
  for (let n = 0; n < 3; n++) await call({ path: '/a' });
  await call({ path: '/b' });
  const stats = await until(
    async () => {
      const text = await lab.host('a').admin('/stats?filter=route.critical.upstream_rq_200');
      return /: 3$/m.test(text) ? text : undefined;
    },
    'the route’s counter',
    15_000,
  );
  t.match(stats, /route\.critical\.upstream_rq_200: 3/);
});
