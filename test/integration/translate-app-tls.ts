/** What translate-app.ts does over TLS of its own: HTTPS requests and bytes to a gateway, connections that stay, a TLS server. */
import http2 from 'node:http2';
import https from 'node:https';
import tls from 'node:tls';

/** The fields that these actions read. PEM texts in `ca`, `cert` and `key`. */
export interface TlsCommand {
  readonly id?: number;
  readonly name?: string;
  readonly address?: string;
  readonly port?: number;
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly send?: string;
  readonly servername?: string;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly minVersion?: 'TLSv1.2' | 'TLSv1.3';
  readonly maxVersion?: 'TLSv1.2' | 'TLSv1.3';
  readonly ciphers?: string;
  readonly alpn?: readonly string[];
  readonly connection?: number;
}

const open = new Map<number, tls.TLSSocket>();

function options(command: TlsCommand) {
  const { address, port, servername = '', ca, cert, key, minVersion, maxVersion, ciphers, alpn } = command;
  return {
    host: address,
    port,
    servername,
    ...(ca === undefined ? { rejectUnauthorized: false } : { ca }),
    ...(cert === undefined ? {} : { cert, key }),
    ...(minVersion === undefined ? {} : { minVersion }),
    ...(maxVersion === undefined ? {} : { maxVersion }),
    ...(ciphers === undefined ? {} : { ciphers }),
    ...(alpn === undefined ? {} : { ALPNProtocols: [...alpn] }),
  };
}

const words = (error: NodeJS.ErrnoException) => ({ error: error.code ?? error.message });

function request(command: TlsCommand): Promise<object> {
  return new Promise((resolve) => {
    const sent = https.request(
      { ...options(command), path: command.path ?? '/', headers: command.headers ?? {}, agent: false, timeout: 10_000 },
      (response) => {
        const certificate = (response.socket as tls.TLSSocket).getPeerX509Certificate()?.subject;
        let body = '';
        response.on('data', (chunk) => (body += chunk));
        response.on('end', () =>
          resolve({ status: response.statusCode, headers: response.headers, body, from: certificate }),
        );
        response.on('error', (error) => resolve(words(error)));
      },
    );
    sent.on('error', (error) => resolve(words(error)));
    sent.on('timeout', () => sent.destroy(new Error('timeout')));
    sent.end(command.send);
  });
}

/** HTTP/2 by ALPN. */
function requestH2(command: TlsCommand): Promise<object> {
  return new Promise((resolve) => {
    const session = http2.connect(`https://${command.servername}`, {
      createConnection: () => tls.connect({ ...options(command), ALPNProtocols: ['h2'] }),
    });
    session.on('error', (error) => resolve(words(error)));
    const stream = session.request({ ':path': command.path ?? '/', ...command.headers });
    let status = 0;
    let body = '';
    stream.on('response', (head) => {
      status = Number(head[':status']);
    });
    stream.on('data', (chunk) => (body += chunk));
    stream.on('end', () => {
      session.close();
      resolve({ status, body });
    });
    stream.on('error', (error) => resolve(words(error)));
    stream.end(command.send);
  });
}

/** Connects, sends, and answers with what came back first; the connection stays for `tls-say`. */
function bytes(command: TlsCommand): Promise<object> {
  return new Promise((resolve) => {
    const socket = tls.connect({ ...options(command), timeout: 10_000 });
    socket.on('timeout', () => socket.destroy(new Error('timeout')));
    socket.on('error', (error) => resolve(words(error)));
    socket.on('close', () => resolve({ closed: true }));
    socket.on('secureConnect', () => command.send !== undefined && socket.write(command.send));
    socket.once('data', (data) => {
      open.set(command.id ?? 0, socket);
      socket.setTimeout(0);
      const from = socket.getPeerX509Certificate()?.subject;
      resolve({ received: data.toString(), connection: command.id, from });
    });
  });
}

function say(command: TlsCommand): Promise<object> {
  const socket = open.get(command.connection ?? 0);
  return new Promise((resolve) => {
    if (socket === undefined || socket.destroyed) return resolve({ closed: true });
    socket.once('data', (data) => resolve({ received: data.toString() }));
    socket.once('close', () => resolve({ closed: true }));
    socket.write(command.send ?? '');
  });
}

/** Echoes over TLS, with its name before. */
function serve(command: TlsCommand): Promise<object> {
  const server = tls.createServer({ cert: command.cert, key: command.key }, (socket) => {
    socket.on('data', (data) => socket.write(`${command.name}:${data}`));
    socket.on('error', () => socket.destroy());
  });
  return new Promise((resolve) => server.listen(command.port, '::', () => resolve({ listening: command.port })));
}

/** By the name of the command. */
export const TLS_ACTIONS: Readonly<Record<string, (command: TlsCommand) => Promise<object>>> = {
  https: request,
  'https-h2': requestH2,
  tls: bytes,
  'tls-say': say,
  'serve-tls': serve,
};
