// Looks at real servers on loopback: what is success, what is failure, and what cannot do harm.
import http from 'node:http';
import https from 'node:https';
import net, { type AddressInfo } from 'node:net';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { test } from 'tap';
import { look } from '../../../../../agent/workloads/probes/calls.ts';
import type { ProbeCall } from '../../../../../agent/workloads/probes/plan.ts';
import { createTestCa } from '../../../../builders/test-ca.ts';

type Closing = { teardown(fn: () => unknown): unknown };

function listen(t: Closing, server: net.Server): Promise<number> {
  const open = new Set<net.Socket>();
  server.on('connection', (socket) => open.add(socket));
  t.teardown(() => {
    for (const socket of open) socket.destroy(); // one that nobody reads never ends by itself
    return new Promise((resolve) => server.close(resolve));
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port)));
}

const get = (port: number, more: object = {}): ProbeCall => ({
  kind: 'http',
  port,
  tls: false,
  path: '/',
  headers: [],
  ...more,
});
const soon = () => AbortSignal.timeout(30_000);
const ask = (call: ProbeCall, signal = soon()) => look(call, '127.0.0.1', signal);

test('HTTP: 200 to 399 is success, redirects are not followed, headers are sent', async (t) => {
  const seen: http.IncomingHttpHeaders[] = [];
  const server = http.createServer((request, response) => {
    seen.push(request.headers);
    const status = Number(request.url?.slice(1));
    response.writeHead(status, status === 302 ? { location: '/500' } : {}).end('x'.repeat(100_000));
  });
  const port = await listen(t, server);
  for (const [status, ok] of [
    [200, true],
    [204, true],
    [302, true],
    [399, true],
    [400, false],
    [404, false],
    [503, false],
  ] as const)
    t.match(
      await ask(get(port, { path: `/${status}` })),
      ok ? { ok } : { ok, why: `HTTP status ${status}` },
      String(status),
    );
  t.equal(seen.length, 7, 'one request a look');
  await ask(
    get(port, {
      path: '/200',
      headers: [
        ['Host', 'web.example'],
        ['X-Probe', '1'],
      ],
    }),
  );
  t.match(seen.at(-1), {
    host: 'web.example',
    'x-probe': '1',
    'user-agent': 'mesh-agent-probe/1',
    connection: 'close',
  });
});

test('HTTP: an endless body, endless headers, a server that says nothing', async (t) => {
  const endless = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    const more = () => socket.writable && socket.write('x'.repeat(1 << 16), () => setImmediate(more));
    more();
  });
  t.match(await ask(get(await listen(t, endless))), { ok: true });
  const headers = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.write(`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(1 << 17)}`);
  });
  t.match(await ask(get(await listen(t, headers))), { ok: false, why: /HPE_HEADER_OVERFLOW|overflow/i });
  const sockets = new Set<net.Socket>();
  const silent = net.createServer((socket) => sockets.add(socket));
  const port = await listen(t, silent);
  t.match(await ask(get(port), AbortSignal.timeout(50)), { ok: false, why: /abort/i });
  for (const socket of sockets) socket.destroy();
});

test('HTTPS: no certificate is judged', async (t) => {
  const ca = createTestCa('probe.test');
  const { chainPem, privateKeyPem } = ca.workload('default', 'web', 'a');
  const server = https.createServer({ cert: chainPem, key: privateKeyPem }, (_request, response) => response.end('ok'));
  const port = await listen(t, server);
  t.strictSame(await ask(get(port, { tls: true })), { ok: true });
  t.strictSame(await ask(get(port, { tls: true, headers: [['host', 'web.example:443']] })), { ok: true });
  t.match(await ask(get(port)), { ok: false }, 'plain HTTP to it is no success');
});

test('TCP: a connection is success', async (t) => {
  const port = await listen(
    t,
    net.createServer((socket) => socket.destroy()),
  );
  t.strictSame(await ask({ kind: 'tcp', port }), { ok: true });
  t.match(await ask({ kind: 'tcp', port: 1 }), { ok: false, why: /ECONNREFUSED/ });
});

test('gRPC: SERVING is success', async (t) => {
  const statuses: Record<string, number> = { '': 1, good: 1, bad: 2, odd: 0 };
  const server = new Server();
  const asIs = (bytes: Buffer) => bytes;
  server.addService(
    {
      check: {
        path: '/grpc.health.v1.Health/Check',
        requestStream: false,
        responseStream: false,
        requestSerialize: asIs,
        requestDeserialize: (bytes: Buffer) => ({ service: bytes.subarray(2).toString() }),
        responseSerialize: asIs,
        responseDeserialize: asIs,
      },
    },
    {
      check: (call: { request: { service: string } }, callback: (error: object | null, bytes?: Buffer) => void) => {
        const status = statuses[call.request.service];
        if (status === undefined) callback({ code: 5, details: 'unknown service' });
        else callback(null, call.request.service === 'odd' ? Buffer.from([0xff]) : Buffer.from([8, status]));
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  t.teardown(() => server.forceShutdown());
  const health = (service: string, at = port) => ask({ kind: 'grpc', port: at, service });
  t.strictSame(await health(''), { ok: true });
  t.strictSame(await health('good'), { ok: true });
  t.match(await health('bad'), { ok: false, why: 'gRPC health NOT_SERVING' });
  t.match(await health('odd'), { ok: false, why: 'gRPC health UNKNOWN' });
  t.match(await health('none'), { ok: false, why: /gRPC status 5: .*unknown service/ });
  t.match(await health('', 1), { ok: false, why: /gRPC status 14/ });
  const open = new Set<net.Socket>();
  const never = net.createServer((socket) => open.add(socket));
  const silent = await new Promise<number>((resolve) =>
    never.listen(0, '127.0.0.1', () => resolve((never.address() as AddressInfo).port)),
  );
  t.match(await ask({ kind: 'grpc', port: silent, service: '' }, AbortSignal.timeout(50)), { ok: false });
  for (const socket of open) socket.destroy();
  never.close();
});
