/**
 * The sample service of the demo and the e2e tests: `sample-service.ts NAME [http=PORT] [tcp=PORT]`. HTTP answers JSON that says who
 * answered, on which path and protocol, and which headers came (x-forwarded-client-cert names the caller). `?status=N` answers N,
 * `?sleep=MS` waits first, `?size=N` sends N bytes, `/flaky/KEY/N` fails with 503 N times for a KEY, then answers. TCP answers each line
 * with `NAME: LINE`. Listens on both families; prints one line when it does.
 */
import { createServer as createHttp } from 'node:http';
import { createServer as createTcp } from 'node:net';

const [name = 'sample', ...rest] = process.argv.slice(2);
const ports = new Map(rest.map((pair) => pair.split('=') as [string, string]));
const failures = new Map<string, number>();
let served = 0;

const http = createHttp((request, response) => {
  const url = new URL(request.url ?? '/', 'http://sample');
  served += 1;
  const flaky = /^\/flaky\/([^/]+)\/(\d+)$/.exec(url.pathname);
  let status = Number(url.searchParams.get('status') ?? 200);
  if (flaky !== null) {
    const seen = failures.get(flaky[1] as string) ?? 0;
    failures.set(flaky[1] as string, seen + 1);
    if (seen < Number(flaky[2])) status = 503;
  }
  const body = JSON.stringify({
    service: name,
    method: request.method,
    path: request.url,
    httpVersion: request.httpVersion,
    headers: request.headers,
    remote: request.socket.remoteAddress,
    served,
  });
  const size = Number(url.searchParams.get('size') ?? 0);
  const send = () => {
    request.resume();
    response.writeHead(status, { 'content-type': 'application/json', 'x-served-by': name });
    response.end(size > 0 ? 'x'.repeat(Math.min(size, 50_000_000)) : `${body}\n`);
  };
  setTimeout(send, Math.min(60_000, Number(url.searchParams.get('sleep') ?? 0)));
});

const tcp = createTcp((socket) => {
  socket.on('data', (data) => socket.write(`${name}: ${data.toString('utf8')}`));
  socket.on('error', () => socket.destroy());
});

let waiting = 0;
const ready = () => {
  waiting -= 1;
  if (waiting === 0) process.stdout.write(`${name} serves ${rest.join(' ')}\n`);
};
for (const [kind, server] of [
  ['http', http],
  ['tcp', tcp],
] as const) {
  const port = ports.get(kind);
  if (port === undefined) continue;
  waiting += 1;
  server.listen(Number(port), '::', ready);
}
process.on('SIGTERM', () => process.exit(0));
