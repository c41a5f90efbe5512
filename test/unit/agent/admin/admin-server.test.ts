import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { createAdmin } from '../../../../agent/admin/admin-server.ts';
import { createMetricsServer } from '../../../../agent/admin/metrics-server.ts';
import { MeshError } from '../../../../api/errors.ts';
import type { AgentStatus } from '../../../../api/http/admin-api.ts';
import type { HostQuery } from '../../../../api/http/host-query.ts';
import { silentLogger } from '../../../../runtime/log.ts';

const abort = () => new AbortController().signal;

function call(socketPath: string, method: string, path: string, body = ''): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, method, path }, async (response) => {
      let text = '';
      for await (const chunk of response) text += chunk;
      resolve({ status: response.statusCode ?? 0, text });
    });
    sent.once('error', reject);
    sent.end(body);
  });
}

t.test('admin API: reads, log level, leave; the rest is refused', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'admin-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const socketPath = join(dir, 'admin.sock');
  writeFileSync(socketPath, ''); // a left-over
  const levels: string[] = [];
  let leaves = 0;
  const deps = {
    socketPath,
    status: () => ({ host: 'a', ready: true }) as AgentStatus,
    peers: () => [],
    config: () => ({ cluster: {} }),
    desired: () => ({}),
    endpoints: () => {
      throw new MeshError('X', 'broken');
    },
    setLogLevel: (level: string) => void levels.push(level),
    look: async (query: HostQuery) => {
      if (query.ask === 'log') throw new MeshError('ENVOY_ADMIN', 'Envoy is down');
      return { host: 'a', generation: 1, at: '', rows: [] };
    },
    leave: async () => void leaves++,
    log: silentLogger,
  };
  const admin = createAdmin(deps);
  await admin.start(abort());
  t.equal(statSync(socketPath).mode & 0o777, 0o660);
  const cases: [string, string, string, number, RegExp][] = [
    ['GET', '/status', '', 200, /"host":"a"/],
    ['GET', '/peers?x=1', '', 200, /\[\]/],
    ['POST', '/log-level', '{"level":"debug"}', 204, /^$/],
    ['POST', '/log-level', '{"level":"loud"}', 400, /expected one of/],
    ['POST', '/log-level', 'null', 400, /expected one of/],
    ['POST', '/log-level', '{', 400, /BODY_INVALID/],
    ['POST', '/log-level', 'x'.repeat(20_000), 400, /larger than/],
    ['POST', '/look', '{"ask":"config","part":"routes"}', 200, /"rows":\[\]/],
    ['POST', '/look', '{"ask":"config","part":"keys"}', 400, /QUERY_INVALID.*part/],
    ['POST', '/look', '{"ask":"log"}', 503, /Envoy is down/],
    ['GET', '/look', '', 405, /NOT_FOUND/],
    ['POST', '/leave', '', 204, /^$/],
    ['GET', '/leave', '', 405, /NOT_FOUND/],
    ['DELETE', '/status', '', 405, /NOT_FOUND/],
    ['GET', '/nothing', '', 404, /NOT_FOUND/],
    ['GET', '/endpoints', '', 500, /broken/],
  ];
  for (const [method, path, body, status, text] of cases) {
    const got = await call(socketPath, method, path, body);
    t.equal(got.status, status, `${method} ${path} ${body.slice(0, 20)}`);
    t.match(got.text, text);
  }
  t.same(levels, ['debug']);
  t.equal(leaves, 1);
  await t.rejects(createAdmin(deps).start(abort()), { code: 'ALREADY_RUNNING' });
  await admin.stop();
  await admin.stop();
});

t.test('metrics server: metrics and readiness, GET only', async (t) => {
  let ready = false;
  const server = createMetricsServer({
    address: '127.0.0.1',
    port: 15920,
    metrics: async () => 'mesh_agent_up 1\n',
    ready: () => ready,
    log: silentLogger,
  });
  await server.start(abort());
  const get = async (path: string, method = 'GET') => (await fetch(`http://127.0.0.1:15920${path}`, { method })).status;
  t.equal(await get('/healthz/ready'), 503);
  ready = true;
  t.equal(await get('/healthz/ready'), 200);
  t.equal(await get('/metrics'), 200);
  t.equal(await get('/metrics', 'POST'), 405);
  t.equal(await get('/config'), 404);
  await server.stop();
});
