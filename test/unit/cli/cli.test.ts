import { mkdtempSync, rmSync } from 'node:fs';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { createServer as createPlainServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tap from 'tap';
import { JOIN_TOKEN_TTL_SECONDS } from '../../../api/http/operator-api.ts';
import { invalid } from '../../../api/http/status-errors.ts';
import { fakeController, run, TOKEN } from './harness.ts';

const VS = {
  apiVersion: 'networking.istio.io/v1',
  kind: 'VirtualService',
  metadata: { name: 'reviews', namespace: 'default', creationTimestamp: '2026-11-25T05:00:00Z' },
  spec: { hosts: ['reviews'], gateways: ['mesh'] },
};
const DOCUMENTS =
  'apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec:\n  ports: []\n';

tap.test('usage errors exit 64, help and version 0', async (t) => {
  for (const args of [
    [],
    ['bogus'],
    ['get'],
    ['get', 'pods'],
    ['apply'],
    ['delete', 'vs'],
    ['delete', 'host', 'a'],
    ['get', 'vs', '-o', 'xml'],
    ['token', 'create'],
    ['token', 'create', '--host', 'a', '--ttl', '0s'],
    ['token', 'create', '--host', 'a', '--ttl', '1500ms'],
    ['token', 'create', '--host', 'a', '--ttl', '169h'],
    ['token', 'create', '--host', 'a', '--group', 'x'],
    ['token', 'create', '--host', 'a', '--gateway'], // a host is one by its WorkloadGroup
    ['log-level', 'loud'],
    ['get', 'vs', '--token', 'x'],
    ['peers', '--api', 'https://a'],
    ['get', 'vs', '--socket', '/x'],
  ])
    t.equal((await run(args)).code, 64, args.join(' '));
  t.equal((await run(['--version'])).code, 0);
  t.match(await run(['--help']), { code: 0, out: /Usage: meshctl/ });
  const { min, max } = JOIN_TOKEN_TTL_SECONDS;
  const help = (await run(['token', 'create', '--help'])).out.replace(/\s+/g, ' ');
  t.ok(help.includes(`${min}s to ${max / 3600}h (default: 1h)`), help);
});

tap.test('apply sends one transaction and tells each object', async (t) => {
  const results = [
    { key: 'Service/default/a', action: 'created', warnings: [] },
    {
      key: 'Service/shop/b',
      action: 'unchanged',
      warnings: [
        { path: 'spec.ports', message: 'odd' },
        { path: '', message: 'alone', code: 'HM0013' },
      ],
    },
  ];
  const notes = ['more than that'];
  const { env, seen } = await fakeController(t, {
    'POST /apis/hostmesh.io/v1/apply': [
      200,
      { apiVersion: 'hostmesh.io/v1', kind: 'ApplyResult', revision: 4, dryRun: false, results, notes },
    ],
  });
  const done = await run(['apply', '-f', '-', '-n', 'shop'], { env, stdin: DOCUMENTS });
  t.equal(done.code, 0, done.err);
  t.equal(done.out, 'service/a created\nservice/b (shop) unchanged');
  t.same(done.err.split('\n'), [
    'warning: stdin:10:3: Service/shop/b: spec.ports: odd',
    'warning [HM0013]: stdin:6:1: Service/shop/b: alone',
    'note: more than that',
  ]);
  t.equal(seen.length, 1);
  t.match(seen[0]?.body, {
    objects: [{ metadata: { name: 'a', namespace: 'shop' } }, { metadata: { name: 'b', namespace: 'shop' } }],
  });
  const dry = await run(['apply', '-f', '-', '--dry-run', '-o', 'json'], { env, stdin: DOCUMENTS });
  t.equal(seen[1]?.path, '/apis/hostmesh.io/v1/apply?dryRun=All');
  t.equal(JSON.parse(dry.out).kind, 'ApplyResult');
});

tap.test('a refusal names file, line and column', async (t) => {
  const status = invalid(
    { group: '', plural: 'services', kind: 'Service', name: 'b' },
    [{ path: 'spec.ports', message: 'needs one', reason: 'FieldValueRequired' }],
    'objects[1].',
  );
  const { env } = await fakeController(t, { 'POST /apis/hostmesh.io/v1/apply': [422, status] });
  const done = await run(['apply', '-f', '-'], { env, stdin: DOCUMENTS });
  t.same(done, { code: 1, out: '', err: 'stdin:10:3: Service b: spec.ports: needs one\nnothing was stored' });
});

tap.test('broken files never reach the controller', async (t) => {
  const { env, seen } = await fakeController(t, {});
  const dir = t.testdir({ 'a.yaml': 'kind: [', 'b.txt': 'ignored', empty: {} });
  t.match(await run(['apply', '-f', dir], { env }), { code: 1, err: /a\.yaml:1:\d+: / });
  t.match(await run(['apply', '-f', join(dir, 'empty')], { env }), { code: 1, err: /no objects/ });
  t.match(await run(['apply', '-f', join(dir, 'none')], { env }), { code: 1, err: /cannot read/ });
  t.match(
    await run(['apply', '-f', '-', '-n', 'x'], {
      env,
      stdin: 'kind: Service\napiVersion: v1\nmetadata: {name: a, namespace: y}',
    }),
    { code: 1, err: /stdin:3:\d+: .*namespace y/ },
  );
  t.same(seen, []);
});

tap.test('get prints tables, pages, one object, and what is missing', async (t) => {
  const path = '/apis/networking.istio.io/v1';
  const { env, seen } = await fakeController(t, {
    [`GET ${path}/namespaces/default/virtualservices`]: [200, { items: [VS], metadata: {} }],
    [`GET ${path}/virtualservices`]: [200, { items: [{ ...VS, metadata: { ...VS.metadata, name: 'evil\u001b[2J' } }] }],
    [`GET ${path}/namespaces/default/virtualservices/reviews`]: [200, VS],
    [`GET ${path}/namespaces/default/destinationrules`]: [200, { items: [] }],
  });
  t.same(await run(['get', 'vs'], { env }), {
    code: 0,
    out: 'NAME      GATEWAYS   HOSTS     AGE\nreviews   mesh       reviews   60m',
    err: '',
  });
  t.match(await run(['get', 'vs', '-A'], { env }), { out: /^NAMESPACE +NAME/ });
  t.notMatch((await run(['get', 'vs', '-A'], { env })).out, '\u001b', 'no terminal codes from an object');
  t.match(await run(['get', 'vs/reviews', '-o', 'yaml'], { env }), {
    code: 0,
    out: /^apiVersion: networking.istio.io\/v1\nkind: VirtualService/,
  });
  t.equal(JSON.parse((await run(['get', 'vs', '-o', 'json'], { env })).out).kind, 'List');
  t.match(await run(['get', 'vs,dr'], { env }), { out: /virtualservices:\n/ });
  t.match(await run(['get', 'vs', 'nope'], { env }), {
    code: 1,
    err: /virtualservice.networking.istio.io\/nope not found/,
  });
  t.match(await run(['get', 'dr'], { env }), { code: 0, out: '', err: /no resources found in namespace default/ });
  t.ok(seen.every((one) => one.authorization === `Bearer ${TOKEN}`));
});

tap.test('describe a host: generation, refusals in Envoy’s words, problems', async (t) => {
  const host = {
    metadata: { name: 'a', creationTimestamp: '2026-11-22T05:00:00Z' },
    spec: { workloadGroups: ['default/reviews'], gossipAddresses: [], epoch: 1, revoked: false },
    status: {
      host: 'a',
      agentVersion: '0.1.0',
      capability: 1,
      generation: 7,
      ackedGeneration: 6,
      envoyConnected: true,
      reportedAt: '2026-11-25T05:59:50Z',
      refused: [
        {
          typeUrl: 'type.googleapis.com/envoy.config.listener.v3.Listener',
          resource: 'l',
          origins: ['VirtualService/default/reviews'],
          message: 'bad regex',
          generation: 7,
        },
      ],
      workloads: [{ group: 'default/reviews', health: 'healthy', spiffeId: 'spiffe://t/ns/default/sa/r' }],
      peers: { alive: 2, suspect: 0, dead: 0, links: ['b'] },
      gossipRefused: [
        { host: 'x9', reason: 'group-not-granted', count: 3, lastAt: '2026-11-25T05:59:20Z', detail: 'default/pay' },
      ],
      problems: ['clock off'],
    },
  };
  const { env } = await fakeController(t, {
    'GET /apis/hostmesh.io/v1/hosts/a': [200, host],
    'GET /apis/hostmesh.io/v1/hosts': [200, { items: [host] }],
    'GET /apis/hostmesh.io/v1/status': [200, { generation: 7 }],
    'GET /apis/networking.istio.io/v1/namespaces/default/virtualservices/reviews': [200, VS],
  });
  for (const args of [
    ['describe', 'a'],
    ['describe', 'host', 'a'],
    ['describe', 'host/a'],
  ]) {
    const { code, out } = await run(args, { env });
    t.equal(code, 0);
    t.match(out, /7 verified, 6 acknowledged by Envoy; the mesh is at 7/);
    t.match(out, /Listener l \(generation 7\)\n {4}from VirtualService\/default\/reviews\n {4}bad regex/);
    t.match(out, /clock off/);
    t.match(out, /Gossip refused:\n.*\n {2}x9 +group-not-granted +3 +40s ago +default\/pay/);
    t.match(out, /spiffe:\/\/t\/ns\/default\/sa\/r/);
  }
  t.match((await run(['peers', 'graph'], { env })).out, /^a +1 # b\n/, 'as hosts report it');
  t.match((await run(['hosts', 'list'], { env })).out, /HEARD +AGE\na .* 10s +3d$/, 'heard of, and member since');
  t.match(await run(['describe', 'vs', 'reviews'], { env }), {
    code: 0,
    out: /Refused on a:\n.*Listener l[\s\S]*bad regex/,
  });
  t.match(await run(['describe', 'host', 'b'], { env }), { code: 1, err: /host b not found/ });
});

tap.test('peers --watch goes on until the agent is gone', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'ctl-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const socket = join(dir, 's');
  let asked = 0;
  const server = createPlainServer((_request, response) => {
    asked += 1;
    if (asked > 3) return void response.destroy();
    response.end(JSON.stringify([{ host: `b${asked}`, state: 'alive', addresses: [], workloads: [] }]));
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  t.teardown(() => new Promise((resolve) => server.close(resolve)));
  const { code, out } = await run(['peers', '--watch', '0.1', '--socket', socket]);
  t.equal(code, 1);
  t.match(out, /1 of 1 alive\n.*\nb1 [\s\S]*\nb2 [\s\S]*\nb3 /);
});

tap.test('delete, token, revoke', async (t) => {
  const { env, seen } = await fakeController(t, {
    'DELETE /api/v1/namespaces/default/services/a': [200, {}],
    'POST /apis/hostmesh.io/v1/jointokens': [201, { status: { id: 'i', joinString: 'mesh1.abc', expires: 'soon' } }],
    'POST /apis/hostmesh.io/v1/hosts/a/revoke': [200, { metadata: { name: 'a' } }],
  });
  t.match(await run(['delete', 'svc', 'a', '--dry-run'], { env }), { code: 0, out: 'service/a deleted (dry run)' });
  t.match(seen[0], { path: /\?dryRun=All$/, body: { dryRun: ['All'] } });
  t.match(await run(['delete', '-f', '-'], { env, stdin: DOCUMENTS }), {
    code: 1,
    out: 'service/a deleted',
    err: /service\/b/,
  });
  t.match(await run(['delete', '-f', '-', '--ignore-not-found'], { env, stdin: DOCUMENTS }), { code: 0 });
  const made = await run(
    [
      'token',
      'create',
      '--host',
      'a',
      '--group',
      'default/x',
      '--group',
      'default/y',
      '--ttl',
      '2h',
      '--peer',
      '10.0.0.1:15300',
    ],
    { env },
  );
  t.equal(made.out, 'mesh1.abc');
  t.notMatch(made.err, 'mesh1');
  t.match(seen.at(-1)?.body, {
    spec: { host: 'a', workloadGroups: ['default/x', 'default/y'], ttlSeconds: 7200, peers: ['10.0.0.1:15300'] },
  });
  t.match(await run(['hosts', 'revoke', 'a'], { env }), { code: 0, out: 'host/a revoked' });
});

tap.test('credentials: verified TLS only, wrong ones told apart, files checked', async (t) => {
  const { env, home, seen } = await fakeController(t, {});
  t.match(await run(['status'], { env: { ...env, MESH_TOKEN: 'other' } }), {
    code: 1,
    err: /does not know this credential/,
  });
  const { MESH_CA_FILE: _, ...noCa } = env;
  const before = seen.length;
  t.match(await run(['status'], { env: noCa }), { code: 1, err: /certificate is not trusted/ });
  const elsewhere = { ...env, MESH_API: String(env.MESH_API).replace('127.0.0.1', 'localhost') };
  t.match(await run(['status'], { env: elsewhere }), { code: 1, err: /certificate is for other addresses/ });
  t.equal(seen.length, before, 'no credential was sent to an unverified server');
  t.match(await run(['status'], { env: { ...env, MESH_API: 'http://127.0.0.1:1' } }), { code: 1, err: /only https/ });
  t.match(await run(['status'], {}), { code: 1, err: /no controller is named/ });
  await mkdir(join(home, '.config/mesh'), { recursive: true });
  await writeFile(join(home, 'token'), TOKEN);
  const config = `api: ${env.MESH_API}\ncaFile: ${env.MESH_CA_FILE}\ntokenFile: ${join(home, 'token')}\n`;
  await writeFile(join(home, '.config/mesh/config.yaml'), config);
  await chmod(join(home, 'token'), 0o644);
  t.match(await run(['hosts', 'list'], { home }), { code: 1, err: /chmod 600/ });
  await chmod(join(home, 'token'), 0o600);
  t.match(await run(['get', 'vs', 'x'], { home }), { code: 1, err: /not found/ }, 'the config file serves');
  await writeFile(join(home, '.config/mesh/config.yaml'), `${config}tokn: x\n`);
  t.match(await run(['get', 'vs'], { home }), { code: 1, err: /config\.yaml:4:1: unknown key tokn/ });
  const dead = 'https://127.0.0.1:1';
  t.match(
    await run(['get', 'vs', 'x'], { env: { ...env, MESH_API: `${dead},${env.MESH_API}` } }),
    { code: 1, err: /not found/ },
    'the next controller is asked',
  );
});

tap.test('on a host: status, peers and dumps over the socket', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'ctl-')); // t.testdir lies too deep in some checkouts for a socket's 107 bytes
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const socket = join(dir, 's');
  const peer = {
    host: 'b',
    state: 'alive',
    epoch: 1,
    counter: 2,
    addresses: ['10.0.0.2'],
    workloads: ['default/x'],
    linked: true,
    rttMs: 0.5,
    degree: 7,
    records: 12,
    lastSeenSecondsAgo: 3,
  };
  const agent = {
    host: 'a',
    agentVersion: '0.1.0',
    ready: true,
    startedAt: '2026-11-25T05:00:00Z',
    configAgeSeconds: 1,
    generation: 3,
    ackedGeneration: 3,
    envoyConnected: true,
    refused: [],
    workloads: [],
    peers: { alive: 1, suspect: 0, dead: 0 },
    problems: [],
    controllers: [],
  };
  const answers: Record<string, unknown> = { '/status': agent, '/peers': [peer], '/desired': { generation: 3 } };
  const server = createPlainServer((request, response) => response.end(JSON.stringify(answers[request.url ?? ''])));
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  t.teardown(() => new Promise((resolve) => server.close(resolve)));
  t.match(await run(['status', '--socket', socket]), { code: 0, out: /Ready: +yes/ });
  t.match(await run(['peers', '--socket', socket]), {
    code: 0,
    out: /b +alive +1\.2 +7 +0\.5ms +3s ago +12 +yes +10\.0\.0\.2/,
  });
  t.match((await run(['peers', 'graph', '--socket', socket])).out, /^a +1 # b\n.*2 hosts, 1 links/s);
  t.match((await run(['peers', 'graph', '--dot', '--socket', socket])).out, /"a" -- "b" \[style=dashed\];/);
  t.equal(JSON.parse((await run(['peers', 'graph', '--socket', socket, '-o', 'json'])).out).kind, 'Overlay');
  for (const args of [['what'], ['--dot'], ['graph', '--watch'], ['--watch', '0'], ['--watch', 'x']])
    t.equal((await run(['peers', ...args, '--socket', socket])).code, 64, args.join(' '));
  t.equal(JSON.parse((await run(['peers', '--socket', socket, '-o', 'json'])).out).kind, 'PeerList');
  t.match(await run(['config', 'dump', 'desired', '--socket', socket]), { code: 0, out: /"generation": 3/ });
  t.match(await run(['status', '--socket', join(dir, 'none')]), { code: 1, err: /is mesh-agent running/ });
  const long = `/${'x'.repeat(107)}`;
  t.match(await run(['status', '--socket', long]), { code: 1, err: /longer than the 107 bytes .* shorter path/ });
});
