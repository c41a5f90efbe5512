import { readFileSync } from 'node:fs';
import t from 'tap';
import { startRest } from './harness.ts';

const look = (host: string) => `/apis/hostmesh.io/v1/hosts/${host}/look`;
const ROUTES = { ask: 'config', part: 'routes' };
const LOUD = { ask: 'log', levels: { http: 'debug' } };

t.test('a question goes to the host, with its audit line before it', async (t) => {
  const h = await startRest(t);
  const { code, body, headers } = await h.send('POST', look('a'), { ...ROUTES, filter: { port: 80 } });
  t.equal(code, 200, JSON.stringify(body));
  t.match(body, { host: 'a', generation: 3 });
  t.equal(headers['cache-control'], 'no-store');
  t.same(h.asked, [['a', { ask: 'config', part: 'routes', form: 'rows', filter: { port: 80 } }]]);
  const silent = await h.send('POST', look('b'), LOUD);
  t.match(silent.body, { code: 503, message: /last heard 5m ago/ });
  t.match((await h.send('POST', look('c'), ROUTES)).body, { code: 404, reason: 'NotFound' });
  const lines = readFileSync(h.auditPath, 'utf8').trim().split('\n');
  t.match(lines.map((line) => JSON.parse(line)).slice(-2), [
    { verb: 'look:routes', keys: ['Host//a'], principal: 'root', code: 200 },
    { verb: 'set:envoy-log', keys: ['Host//b'], code: 200 },
  ]);
});

t.test('who may: admins, and whoever answers for every workload of the host', async (t) => {
  const h = await startRest(t);
  const shop = await h.as({ namespaces: ['shop'] });
  const other = await h.as({ namespaces: ['other'] });
  const reader = await h.as({ namespaces: ['shop'], verbs: ['get', 'list'] });
  for (const [who, send, body, code] of [
    ['its own namespace', shop, ROUTES, 200],
    ['its own namespace, a change', shop, LOUD, 200],
    ['another namespace', other, ROUTES, 403],
    ['a reader', reader, ROUTES, 200],
    ['a reader, the levels', reader, { ask: 'log' }, 200],
    ['a reader, a change', reader, LOUD, 403],
  ] as const)
    t.equal((await send('POST', look('a'), body)).code, code, who);
  t.equal((await other('POST', look('c'), ROUTES)).code, 403, 'who may not look learns not what is there');
  t.equal(h.asked.length, 4);
});

t.test('bad questions and too many of them go nowhere', async (t) => {
  const h = await startRest(t);
  for (const body of [
    {},
    { ask: 'exec', command: 'id' },
    { ask: 'config', part: 'keys' },
    { ...ROUTES, more: 1 },
    { ...ROUTES, filter: { port: 0 } },
    { ask: 'why', to: 'x', port: 80, path: 'no-slash' },
    { ask: 'why', to: 'x', port: 80, headers: { 'a b': 'c' } },
    { ask: 'log', levels: { http: 'loud' } },
    { ask: 'log', levels: { '../x': 'info' } },
  ])
    t.equal((await h.send('POST', look('a'), body)).code, 400, JSON.stringify(body));
  t.equal(
    (await h.send('POST', look('a'), { ask: 'why', to: 'x', port: 1, path: `/${'x'.repeat(17_000)}` })).code,
    413,
  );
  t.equal((await h.send('GET', look('a'))).code, 405);
  t.same(h.asked, []);
  const codes = [];
  for (let i = 0; i < 15; i++) codes.push((await h.send('POST', look('a'), ROUTES)).code);
  t.equal(codes[0], 200);
  t.equal(codes.at(-1), 429);
  await h.clock.advance(1000);
  t.equal((await h.send('POST', look('a'), ROUTES)).code, 200);
});
