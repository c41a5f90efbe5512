/**
 * An application under test: serves and calls as JSON lines on stdin say, answers on stdout. Runs under a workload's own user inside a
 * network namespace. In: {id, do, ...}. Out: {id, ...}.
 */
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { OUTSIDE_ACTIONS } from './translate-app-outside.ts';
import { STREAM_ACTIONS } from './translate-app-streams.ts';
import { TLS_ACTIONS } from './translate-app-tls.ts';

interface Command {
  readonly id: number;
  readonly do: 'serve' | 'serve-h2' | 'serve-tcp' | 'http' | 'http2' | 'tcp' | 'open' | 'say' | 'many' | 'relay';
  readonly name?: string;
  readonly address?: string;
  readonly port?: number;
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly send?: string;
  readonly count?: number;
  readonly parallel?: number;
  readonly connection?: number;
  /** serve: answer these statuses in turn, then 200. serve-tcp: `banner` is sent first. */
  readonly statuses?: number[];
  readonly delayMs?: number;
  readonly banner?: string;
  /** tcp: bytes to send instead of `send`. relay: `to` is where connections are passed on to. */
  readonly hex?: string;
  readonly to?: { readonly address: string; readonly port: number };
  readonly keepAlive?: boolean;
}

const open = new Map<number, { socket: net.Socket; received: string }>();
const agents = new Map<string, http.Agent>();

function serve(command: Command): Promise<object> {
  const statuses = [...(command.statuses ?? [])];
  const server = http.createServer((request, response) => {
    let size = 0;
    request.on('data', (chunk) => (size += chunk.length));
    request.on('end', () => {
      const status = request.headers['x-fail'] === command.name ? 503 : (statuses.shift() ?? 200);
      const answer = () => {
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(
          JSON.stringify({
            server: command.name,
            version: request.httpVersion,
            url: request.url,
            size,
            method: request.method,
            headers: request.headers,
          }),
        );
      };
      const delay = Number(request.headers['x-delay-ms'] ?? command.delayMs ?? 0);
      if (delay > 0) setTimeout(answer, delay);
      else answer();
    });
  });
  server.keepAliveTimeout = 0; // Node would end a kept connection after 5 s, maybe as the proxy sends its next request on it
  return new Promise((resolve) => server.listen(command.port, '::', () => resolve({ listening: command.port })));
}

/** Says what it was asked; to a gRPC call as one message and a status in trailers. */
function serveH2(command: Command): Promise<object> {
  const server = http2.createServer((request, response) => {
    const { httpVersion, url, headers } = request;
    const said = Buffer.from(JSON.stringify({ server: command.name, version: httpVersion, url, headers }));
    if (headers['content-type']?.startsWith('application/grpc') !== true) {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(said);
      return;
    }
    response.writeHead(200, { 'content-type': 'application/grpc' });
    response.write(Buffer.concat([Buffer.from([0, 0, 0, said.length >> 8, said.length & 255]), said]));
    response.addTrailers({ 'grpc-status': '0' });
    response.end();
  });
  return new Promise((resolve) => server.listen(command.port, '::', () => resolve({ listening: command.port })));
}

function serveTcp(command: Command): Promise<object> {
  const server = net.createServer((socket) => {
    if (command.banner !== undefined) socket.write(command.banner);
    socket.on('data', (data) => socket.write(`${command.name}:${data}`));
    socket.on('error', () => socket.destroy());
  });
  return new Promise((resolve) => server.listen(command.port, '::', () => resolve({ listening: command.port })));
}

function call(command: Command): Promise<object> {
  const started = performance.now();
  const key = `${command.address}:${command.port}`;
  const agent = agents.get(key) ?? new http.Agent({ keepAlive: true });
  if (command.keepAlive === true) agents.set(key, agent);
  return new Promise((resolve) => {
    const request = http.request(
      {
        host: command.address,
        port: command.port,
        path: command.path ?? '/',
        method: command.method ?? 'GET',
        headers: command.headers ?? {},
        agent: command.keepAlive === true ? agent : false,
        timeout: 10_000,
      },
      (response) => {
        let body = '';
        response.on('data', (chunk) => (body += chunk));
        response.on('end', () => {
          const ms = performance.now() - started;
          resolve({ status: response.statusCode, headers: response.headers, body, ms });
        });
        response.on('error', (error) => resolve({ error: error.message }));
      },
    );
    request.on('error', (error: NodeJS.ErrnoException) =>
      resolve({ error: error.code ?? error.message, ms: performance.now() - started }),
    );
    request.on('timeout', () => request.destroy(new Error('timeout')));
    request.end(command.send);
  });
}

async function many(command: Command): Promise<object> {
  const counts: Record<string, number> = {};
  let left = command.count ?? 1;
  const worker = async () => {
    while (left-- > 0) {
      const result = (await call({ ...command, keepAlive: true })) as {
        status?: number;
        error?: string;
        body?: string;
      };
      let key = String(result.error ?? result.status);
      if (result.status === 200) key = String((JSON.parse(result.body ?? '{}') as { server?: string }).server);
      counts[key] = (counts[key] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: command.parallel ?? 8 }, worker));
  return { counts };
}

function callH2(command: Command): Promise<object> {
  return new Promise((resolve) => {
    const authority = command.address?.includes(':') ? `[${command.address}]` : command.address;
    const session = http2.connect(`http://${authority}:${command.port}`);
    session.on('error', (error: NodeJS.ErrnoException) => resolve({ error: error.code ?? error.message }));
    const headers = { ':path': command.path ?? '/', ':method': command.method ?? 'GET', ...command.headers };
    const stream = session.request(headers);
    let status = 0;
    let body = '';
    stream.on('response', (response) => {
      status = Number(response[':status']);
    });
    stream.on('data', (chunk) => (body += chunk));
    stream.on('end', () => {
      session.close();
      resolve({ status, body });
    });
    stream.on('error', (error: NodeJS.ErrnoException) => resolve({ error: error.code ?? error.message }));
    stream.end(command.send);
  });
}

/** Connects, sends, and answers with what came back first; the connection is closed. */
function tcp(command: Command): Promise<object> {
  const started = performance.now();
  return new Promise((resolve) => {
    const socket = net.connect({ host: command.address ?? '', port: command.port ?? 0 });
    const done = (result: object) => {
      socket.destroy();
      resolve({ ...result, ms: performance.now() - started });
    };
    socket.setTimeout(10_000, () => done({ error: 'timeout' }));
    const send = command.hex === undefined ? command.send : Buffer.from(command.hex, 'hex');
    socket.on('connect', () => send !== undefined && socket.write(send));
    socket.on('data', (data) => done({ received: data.toString() }));
    socket.on('error', (error: NodeJS.ErrnoException) => done({ error: error.code ?? error.message }));
    socket.on('close', () => done({ closed: true }));
  });
}

/** Passes the bytes of each connection on, as they are. */
function relay(command: Command): Promise<object> {
  const server = net.createServer((socket) => {
    const onward = net.connect({ host: command.to?.address ?? '', port: command.to?.port ?? 0 });
    socket.pipe(onward).pipe(socket);
    for (const end of [socket, onward]) end.on('error', () => [socket, onward].forEach((each) => void each.destroy()));
  });
  return new Promise((resolve) => server.listen(command.port, '::', () => resolve({ listening: command.port })));
}

/** Opens a connection that stays; `say` uses it. */
function openTcp(command: Command): Promise<object> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: command.address ?? '', port: command.port ?? 0 });
    open.set(command.id, { socket, received: '' });
    socket.on('connect', () => resolve({ connection: command.id }));
    socket.on('error', (error: NodeJS.ErrnoException) => resolve({ error: error.code ?? error.message }));
  });
}

function say(command: Command): Promise<object> {
  const socket = open.get(command.connection ?? 0)?.socket;
  return new Promise((resolve) => {
    if (socket === undefined || socket.destroyed) return resolve({ closed: true });
    socket.once('data', (data) => resolve({ received: data.toString() }));
    socket.once('close', () => resolve({ closed: true }));
    socket.write(command.send ?? '');
  });
}

const ACTIONS: Record<Command['do'], (command: Command) => Promise<object>> = {
  serve,
  'serve-h2': serveH2,
  'serve-tcp': serveTcp,
  http: call,
  http2: callH2,
  tcp,
  open: openTcp,
  say,
  many,
  relay,
};

createInterface({ input: process.stdin }).on('line', async (line) => {
  const command = JSON.parse(line) as Command;
  const { do: name } = command;
  const action = STREAM_ACTIONS[name] ?? TLS_ACTIONS[name] ?? OUTSIDE_ACTIONS[name] ?? ACTIONS[name];
  const result = await action(command).catch((error: Error) => ({ error: error.message }));
  process.stdout.write(`${JSON.stringify({ id: command.id, ...result })}\n`);
});
process.stdin.on('end', () => process.exit(0));
