/**
 * What translate-app.ts does beyond plain requests: gRPC, bodies that stream both ways, upgrades and CONNECT. In: commands as JSON, by their
 * `do`. Out: one answer each. Speaks HTTP/2 and HTTP/1.1 by hand where it matters what is on the wire.
 */
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { Duplex } from 'node:stream';
import tls from 'node:tls';

/** The fields that these actions read. */
export interface StreamCommand {
  readonly name?: string;
  readonly address?: string;
  readonly port?: number;
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly send?: string;
  readonly count?: number;
  readonly size?: number;
  /** serve-grpc: gRPC statuses of the first calls; 0 afterwards. */
  readonly statuses?: number[];
}

/** Frames a gRPC message (5 bytes before it: not compressed, its length). */
function frame(text: string): Buffer {
  const body = Buffer.from(text);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(body.length, 1);
  return Buffer.concat([head, body]);
}

/** gRPC by HTTP/2: `/x/Echo` answers when the request ended, `/x/Stream` answers each message at once. Trailers carry the status and the server's name. */
function serveGrpc(command: StreamCommand): Promise<object> {
  const statuses = [...(command.statuses ?? [])];
  const server = http2.createServer();
  server.on('stream', (stream, headers) => {
    const status = statuses.shift() ?? 0;
    if (status !== 0) {
      stream.respond(
        {
          ':status': 200,
          'content-type': 'application/grpc',
          'grpc-status': String(status),
          'grpc-message': 'on purpose',
        },
        { endStream: true },
      );
      return;
    }
    const answer = () => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'x-from': command.name ?? '' }));
    };
    stream.on('error', () => stream.destroy());
    if (String(headers[':path']).endsWith('/Stream')) {
      answer();
      stream.on('data', (data) => stream.write(data));
      stream.on('end', () => stream.end());
      return;
    }
    const parts: Buffer[] = [];
    stream.on('data', (data: Buffer) => parts.push(data));
    stream.on('end', () => {
      const reply = () => {
        if (stream.destroyed) return;
        answer();
        stream.end(Buffer.concat(parts));
      };
      setTimeout(reply, Number(headers['x-delay-ms'] ?? 0));
    });
  });
  return new Promise((resolve) => server.listen(command.port, '::', () => resolve({ listening: command.port })));
}

/** One gRPC call: `count` messages of `send`, each after the answer to the one before it where the path is a stream. */
function grpc(command: StreamCommand): Promise<object> {
  const started = performance.now();
  return new Promise((resolve) => {
    const session = http2.connect(`http://${command.address}:${command.port}`);
    let seen: http2.IncomingHttpHeaders = {};
    let trailers: http2.IncomingHttpHeaders = {};
    let received = 0;
    const done = (result: object) => {
      session.destroy();
      const status = trailers['grpc-status'] ?? seen['grpc-status'];
      resolve({
        status: seen[':status'],
        grpcStatus: Number(status),
        from: trailers['x-from'],
        messages: received,
        ms: performance.now() - started,
        ...result,
      });
    };
    session.on('error', (error: NodeJS.ErrnoException) => done({ error: error.code ?? error.message }));
    const stream = session.request({
      ':method': 'POST',
      ':path': command.path ?? '/x/Echo',
      'content-type': 'application/grpc',
      te: 'trailers',
      ...command.headers,
    });
    const message = frame(command.send ?? 'hello');
    let left = command.count ?? 1;
    const next = () => {
      if (left-- > 0) stream.write(message);
      else stream.end();
    };
    stream.setTimeout(10_000, () => done({ error: 'timeout' }));
    stream.on('response', (headers) => {
      seen = headers;
    });
    stream.on('trailers', (headers) => {
      trailers = headers;
    });
    stream.on('data', () => {
      received += 1;
      if (command.path?.endsWith('/Stream') === true) next();
    });
    stream.on('error', (error: NodeJS.ErrnoException) => done({ error: error.code ?? error.message }));
    stream.on('close', () => done({}));
    next();
    if (command.path?.endsWith('/Stream') !== true) next();
  });
}

/** HTTP/1.1: `/echo` sends the body back as it comes, `/bytes/N` sends N bytes; an Upgrade and a CONNECT become an echo. */
function serveStream(command: StreamCommand): Promise<object> {
  const server = http.createServer((request, response) => {
    const size = /^\/bytes\/(\d+)$/.exec(request.url ?? '')?.[1];
    if (size === undefined) {
      response.writeHead(200, { 'x-server': command.name ?? '' });
      response.flushHeaders();
      request.pipe(response);
      return;
    }
    request.resume();
    response.writeHead(200);
    const chunk = Buffer.alloc(65_536);
    let left = Number(size);
    const more = () => {
      while (left > 0) {
        left -= Math.min(left, chunk.length);
        if (!response.write(left === 0 ? chunk.subarray(0, Number(size) % chunk.length || chunk.length) : chunk)) break;
      }
      if (left > 0) response.once('drain', more);
      else response.end();
    };
    more();
  });
  const echo = (head: string) => (request: http.IncomingMessage, socket: NodeJS.ReadWriteStream) => {
    socket.write(`${head}\r\nx-server: ${command.name}\r\nx-target: ${request.url}\r\n\r\n`);
    socket.on('error', () => undefined);
    socket.pipe(socket);
  };
  server.on('upgrade', echo('HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade'));
  server.on('connect', echo('HTTP/1.1 200 OK'));
  return new Promise((resolve) => server.listen(command.port, '::', () => resolve({ listening: command.port })));
}

/** A request head by hand, then `send` once the answer's head is there; what comes back after it. */
function upgrade(command: StreamCommand): Promise<object> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: command.address ?? '', port: command.port ?? 0 });
    let text = '';
    let sent = false;
    const done = (result: object) => {
      socket.destroy();
      const [head = '', ...rest] = text.split('\r\n\r\n');
      resolve({
        head,
        status: Number(/^HTTP\/1\.\d (\d+)/.exec(head)?.[1]),
        received: rest.join('\r\n\r\n'),
        ...result,
      });
    };
    socket.setTimeout(5_000, () => done({ error: 'timeout' }));
    socket.on('connect', () => {
      const lines = Object.entries(command.headers ?? {}).map(([name, value]) => `${name}: ${value}\r\n`);
      socket.write(`${command.method ?? 'GET'} ${command.path ?? '/'} HTTP/1.1\r\n${lines.join('')}\r\n`);
    });
    socket.on('data', (data) => {
      text += data.toString();
      const open = /^HTTP\/1\.\d (101|200)/.test(text) && text.includes('\r\n\r\n');
      if (!open && text.includes('\r\n\r\n')) done({});
      if (!open) return;
      if (!sent) socket.write(command.send ?? '');
      sent = true;
      if (text.split('\r\n\r\n')[1] === command.send) done({});
    });
    socket.on('error', (error: NodeJS.ErrnoException) => done({ error: error.code ?? error.message }));
    socket.on('close', () => done({ closed: true }));
  });
}

/** A body that streams both ways: `count` chunks of `send`, each sent when the one before it came back. */
function stream(command: StreamCommand): Promise<object> {
  return new Promise((resolve) => {
    let rounds = 0;
    const request = http.request({
      host: command.address,
      port: command.port,
      path: command.path ?? '/echo',
      method: 'POST',
      headers: { ...command.headers, 'transfer-encoding': 'chunked' },
      agent: false,
      timeout: 10_000,
    });
    request.on('response', (response) => {
      response.on('data', () => {
        rounds += 1;
        if (rounds < (command.count ?? 1)) request.write(command.send ?? '');
        else request.end();
      });
      response.on('end', () => resolve({ status: response.statusCode, rounds }));
    });
    request.on('timeout', () => request.destroy(new Error('timeout')));
    request.on('error', (error: NodeJS.ErrnoException) => resolve({ error: error.code ?? error.message, rounds }));
    request.write(command.send ?? '');
  });
}

/** Sends `size` bytes and counts what comes back. */
function large(command: StreamCommand): Promise<object> {
  return new Promise((resolve) => {
    const request = http.request(
      {
        host: command.address,
        port: command.port,
        path: command.path ?? '/echo',
        method: command.size === undefined ? 'GET' : 'POST',
        headers: {
          ...command.headers,
          ...(command.size === undefined ? {} : { 'content-length': String(command.size) }),
        },
        agent: false,
        timeout: 20_000,
      },
      (response) => {
        let size = 0;
        response.on('data', (chunk: Buffer) => (size += chunk.length));
        response.on('end', () => resolve({ status: response.statusCode, size }));
        response.on('error', (error) => resolve({ error: error.message, size }));
      },
    );
    request.on('timeout', () => request.destroy(new Error('timeout')));
    request.on('error', (error: NodeJS.ErrnoException) => resolve({ error: error.code ?? error.message }));
    let left = command.size ?? 0;
    const chunk = Buffer.alloc(65_536);
    const more = () => {
      while (left > 0) {
        const part = chunk.subarray(0, Math.min(left, chunk.length));
        left -= part.length;
        if (!request.write(part)) break;
      }
      if (left > 0) request.once('drain', more);
      else request.end();
    };
    more();
  });
}

/** The first bytes of a TLS client that wants `name`, sent as they are; the text that comes back. Tells which server a ClientHello reaches. */
function hello(command: StreamCommand): Promise<object> {
  return new Promise((resolve) => {
    const wire = new Duplex({
      read: () => undefined,
      write: (data: Buffer, _encoding, taken) => {
        const socket = net.connect({ host: command.address ?? '', port: command.port ?? 0 });
        const done = (result: object) => {
          socket.destroy();
          resolve(result);
        };
        socket.setTimeout(5_000, () => done({ error: 'timeout' }));
        socket.on('connect', () => socket.write(data));
        socket.on('data', (answer) => done({ received: answer.toString('latin1').split(':')[0] }));
        socket.on('error', (error: NodeJS.ErrnoException) => done({ error: error.code ?? error.message }));
        socket.on('close', () => done({ closed: true }));
        taken();
      },
    });
    tls.connect({ socket: wire, servername: command.name ?? '' }).on('error', () => undefined);
  });
}

/** By the name of the command. */
export const STREAM_ACTIONS: Readonly<Record<string, (command: StreamCommand) => Promise<object>>> = {
  'serve-grpc': serveGrpc,
  grpc,
  'serve-stream': serveStream,
  upgrade,
  stream,
  large,
  hello,
};
