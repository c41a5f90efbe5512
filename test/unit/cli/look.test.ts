import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tap from 'tap';
import type { Step } from '../../../api/http/host-query.ts';
import { serviceUnavailable } from '../../../api/http/status-errors.ts';
import { parseCall } from '../../../cli/commands/why.ts';
import { fakeController, run } from './harness.ts';

const look = (host: string) => `POST /apis/hostmesh.io/v1/hosts/${host}/look`;
const answer = (more: object) => [200, { host: 'a', generation: 3, at: '2026-11-25T05:59:50Z', ...more }] as const;
const VS = 'VirtualService/default/reviews';

tap.test('proxy-config: one table a part, filters, JSON, what is left', async (t) => {
  const tables: [part: string, row: object, out: RegExp][] = [
    [
      'listeners',
      { address: '127.0.0.1', port: 15001, match: 'ALL', destination: 'Cluster: x' },
      /^ADDRESS +PORT +MATCH +DESTINATION\n127\.0\.0\.1 +15001 +ALL +Cluster: x$/,
    ],
    [
      'routes',
      { name: 'r', domains: ['a', 'b', 'c'], match: '/*', target: 'x', origin: { object: VS, path: 'spec.http[0]' } },
      /^NAME +DOMAINS +MATCH +TARGET +VIRTUAL SERVICE\nr +a, b \+ 1 more +\/\* +x +reviews\.default http\[0\]$/,
    ],
    [
      'clusters',
      { fqdn: 'x', subset: '', direction: '', type: 'EDS', destinationRules: ['DestinationRule/default/r'] },
      /^SERVICE FQDN +PORT +SUBSET +DIRECTION +TYPE +DESTINATION RULE\nx +- +- +- +EDS +r\.default$/,
    ],
    [
      'endpoints',
      { endpoint: '10.0.0.1:80', status: 'HEALTHY', outlier: 'OK', cluster: 'x' },
      /^ENDPOINT +STATUS +OUTLIER CHECK +CLUSTER\n10\.0\.0\.1:80 +HEALTHY +OK +x$/,
    ],
    [
      'secrets',
      { name: 'n', type: 'CA', status: 'ACTIVE', valid: true, serial: '0a', notAfter: 'b', notBefore: 'c' },
      /^RESOURCE NAME +TYPE +STATUS +VALID CERT +SERIAL NUMBER +NOT AFTER +NOT BEFORE\nn +CA +ACTIVE +true +0a +b +c$/,
    ],
  ];
  for (const [part, row, out] of tables) {
    const { env, seen } = await fakeController(t, { [look('web-1')]: answer({ rows: [row] }) });
    for (const verb of [part, part.replace(/s$/, '')])
      t.match(await run(['proxy-config', verb, 'web-1'], { env }), { code: 0, out }, verb);
    t.match(seen[0]?.body, { ask: 'config', part, form: 'rows', filter: {} });
  }
  const { env, seen } = await fakeController(t, { [look('a')]: answer({ resources: [{ name: 'x' }], left: 4 }) });
  const args = [
    'pc',
    'clusters',
    'a',
    '--fqdn',
    'reviews',
    '--port',
    '80',
    '--subset',
    'v1',
    '--direction',
    'outbound',
    '-o',
    'json',
  ];
  const done = await run(args, { env });
  t.match(JSON.parse(done.out), {
    apiVersion: 'hostmesh.io/v1',
    kind: 'EnvoyConfig',
    host: 'a',
    part: 'clusters',
    items: [{ name: 'x' }],
  });
  t.match(done.err, /4 more do not fit.*--fqdn/);
  t.match(seen[0]?.body, { form: 'full', filter: { fqdn: 'reviews', port: 80, subset: 'v1', direction: 'outbound' } });
  for (const wrong of [
    ['pc', 'clusters', 'a', '--port', 'x'],
    ['pc', 'routes', 'a', '--direction', 'inbound'],
    ['pc', 'clusters', 'a', '--direction', 'up'],
    ['pc', 'log', 'a', '--level', 'loud'],
    ['pc', 'routes', 'a', '--socket', '/x'],
    ['pc', 'keys', 'a'],
  ])
    t.equal((await run(wrong, { env })).code, 64, wrong.join(' '));
});

tap.test('a host that is off; on the host itself without a controller; log levels', async (t) => {
  const { env } = await fakeController(t, {
    [look('web-2')]: [503, serviceUnavailable('host web-2 is not connected: last heard 5m ago')],
  });
  t.match(await run(['pc', 'routes', 'web-2'], { env }), { code: 1, err: /last heard 5m ago/ });
  const dir = mkdtempSync(join(tmpdir(), 'ctl-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const socket = join(dir, 's');
  const asked: unknown[] = [];
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    asked.push([request.method, request.url, JSON.parse(text)]);
    response.end(JSON.stringify({ host: 'a', generation: 1, at: '', levels: { router: 'debug', http: 'info' } }));
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  t.teardown(() => new Promise((resolve) => server.close(resolve)));
  t.match(await run(['pc', 'log', '--socket', socket]), {
    code: 0,
    out: 'LOGGER   LEVEL\nhttp     info\nrouter   debug',
  });
  await run(['pc', 'log', '--socket', socket, '--level', 'router:debug,http:info']);
  await run(['pc', 'log', '--socket', socket, '--level', 'error']);
  t.same(asked, [
    ['POST', '/look', { ask: 'log' }],
    ['POST', '/look', { ask: 'log', levels: { router: 'debug', http: 'info' } }],
    ['POST', '/look', { ask: 'log', levels: { '': 'error' } }],
  ]);
});

tap.test('calls as one writes them', async (t) => {
  const cases: [args: string[], expected: object][] = [
    [['web-1', 'reviews:80'], { from: 'web-1', to: 'reviews', port: 80, path: '/' }],
    [['web-1', '->', 'reviews:80/a/b?c'], { to: 'reviews', path: '/a/b?c' }],
    [['web-1/shop/web -> db.shop:5432'], { from: 'web-1/shop/web', to: 'db.shop', port: 5432 }],
    [['web-1->db:1'], { from: 'web-1', to: 'db', port: 1 }],
    [['a', '[fd00::1]:80'], { to: 'fd00::1', port: 80 }],
    [['a', 'http://b:80/x'], { to: 'b', path: '/x' }],
  ];
  for (const [args, expected] of cases) t.match(parseCall(args), expected, args.join(' '));
  for (const args of [['a'], ['a', 'b'], ['a', 'b:80', 'c'], ['a', 'b:x'], ['', 'b:80']])
    t.throws(() => parseCall(args), { code: 'USAGE' }, args.join(' '));
  t.throws(() => parseCall(['web-1', '-']), { code: 'USAGE', message: /quote the arrow/ }, 'what a shell leaves of ->');
});

const step = (name: Step['step'], verdict: Step['verdict'], more: object = {}): Step => ({
  step: name,
  verdict,
  summary: `${name} summary`,
  details: [],
  decidedBy: [],
  ...more,
});
const HOSTS = {
  items: [
    { metadata: { name: 'web-2' }, spec: { gossipAddresses: ['10.0.0.2:15300'], workloadGroups: [] } },
    { metadata: { name: 'web-3' }, spec: { gossipAddresses: ['[fd00::3]:15300'], workloadGroups: [] } },
  ],
};

tap.test('why: stations, who decided and where that is written, the other side’s policy', async (t) => {
  const file =
    'apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\nspec:\n  hosts: [reviews]\n  http:\n  - name: a\n  - name: b\n    match:\n    - uri: {exact: /x}\n';
  const trace = {
    steps: [
      step('dns', 'ok', { decidedBy: [{ object: 'Service/default/reviews' }] }),
      step('route', 'ok', { details: ['matches /x'], decidedBy: [{ object: VS, path: 'spec.http[1].match[0]' }] }),
    ],
    targets: [
      {
        cluster: 'c',
        share: 100,
        mtls: true,
        endpoints: [
          { address: '10.0.0.9', port: 1, healthy: true },
          { address: '10.0.0.2', port: 9080, healthy: true },
          { address: 'fd00::3', port: 9080, healthy: true },
        ],
      },
    ],
    peer: 'spiffe://t/ns/default/sa/web',
    http: { authority: 'reviews', method: 'GET', path: '/x', headers: {} },
  };
  const stored = {
    apiVersion: 'networking.istio.io/v1',
    kind: 'VirtualService',
    metadata: { name: 'reviews' },
    spec: { hosts: ['reviews'], http: [{ name: 'a' }, { name: 'b', match: [{}] }] },
  };
  const { env, seen, home } = await fakeController(t, {
    [look('web-1')]: answer({ host: 'web-1', trace }),
    [look('web-2')]: answer({
      host: 'web-2',
      trace: {
        steps: [step('policy', 'stop', { decidedBy: [{ object: 'AuthorizationPolicy/default/p' }] })],
        targets: [],
      },
    }),
    [look('web-3')]: [503, serviceUnavailable('host web-3 is not connected')],
    'GET /apis/hostmesh.io/v1/hosts': [200, HOSTS],
    'GET /apis/networking.istio.io/v1/namespaces/default/virtualservices/reviews': [200, stored],
  });
  const args = ['why', 'web-1/default/web', '->', 'reviews:80/x', '-H', 'User=john', '--method', 'POST'];
  const done = await run(args, { env });
  t.equal(done.code, 1, done.err);
  t.same(done.out.split('\n'), [
    'web-1 (default/web) -> reviews:80/x',
    '  dns         ok    dns summary',
    '                      by Service/default/reviews',
    '  route       ok    route summary',
    '                      matches /x',
    '                      by VirtualService/default/reviews spec.http[1].match[0] (line 12 of meshctl get -o yaml)',
    'on web-2 (10.0.0.2:9080):',
    '  policy      STOP  policy summary',
    '                      by AuthorizationPolicy/default/p',
    'on web-3 ([fd00::3]:9080):',
    '  not known: host web-3 is not connected',
    '=> refused by web-2',
  ]);
  t.match(seen[0]?.body, {
    ask: 'why',
    workload: 'default/web',
    to: 'reviews',
    port: 80,
    path: '/x',
    method: 'POST',
    headers: { user: 'john' },
  });
  t.match(seen.find(({ path }) => path.includes('web-2'))?.body, {
    ask: 'admit',
    port: 9080,
    peer: trace.peer,
    http: trace.http,
  });
  const { writeFile } = await import('node:fs/promises');
  await writeFile(join(home, 'vs.yaml'), file);
  const located = await run([...args, '-f', join(home, 'vs.yaml')], { env });
  t.match(located.out, /spec\.http\[1\]\.match\[0\] \(.*vs\.yaml:10:7\)/);
  t.match(JSON.parse((await run([...args, '-o', 'json'], { env })).out), {
    kind: 'CallTrace',
    host: 'web-1',
    arrivals: [{ host: 'web-2' }, { host: 'web-3', unknown: /not connected/ }],
  });
});

tap.test('why: verdicts, and a credential that may not read hosts', async (t) => {
  const cases: [steps: Step[], targets: object[], code: number, last: string][] = [
    [[step('route', 'ok')], [], 0, '=> is served'],
    [[step('route', 'unsure')], [], 0, '=> depends on what is marked with ?'],
    [[step('route', 'stop')], [], 1, '=> fails at route'],
    [[step('endpoints', 'stop')], [{ endpoints: [] }], 1, '=> fails at endpoints for a part of the calls'],
  ];
  for (const [steps, targets, code, last] of cases) {
    const { env } = await fakeController(t, {
      [look('a')]: answer({ trace: { steps, targets } }),
      'GET /apis/hostmesh.io/v1/hosts': [403, { message: 'no' }],
    });
    const done = await run(['why', 'a', 'b:80'], { env });
    t.equal(done.code, code, last);
    t.equal(done.out.split('\n').at(-1), last);
  }
});
