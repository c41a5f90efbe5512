/** What translate-app.ts serves as servers outside the mesh do: HTTPS that asks for certificates, bytes as they came, a forward proxy. */
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import type tls from 'node:tls';

/** The fields that these actions read. PEM texts in `ca`, `cert` and `key`. */
export interface OutsideCommand {
  readonly name?: string;
  readonly port?: number;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

/** HTTPS by HTTP/1.1 and nothing else by ALPN; with `ca` only to clients that have a certificate of it. Says what it saw of the client. */
function serveHttps({ name, port, ca, cert, key }: OutsideCommand): Promise<object> {
  const client = ca === undefined ? {} : { ca, requestCert: true, rejectUnauthorized: true };
  const server = https.createServer({ cert, key, ALPNProtocols: ['http/1.1'], ...client }, (request, response) => {
    const socket = request.socket as tls.TLSSocket;
    const subject = socket.getPeerCertificate().subject?.CN;
    const seen = { server: name, servername: socket.servername, alpn: socket.alpnProtocol, client: subject };
    response.end(JSON.stringify({ ...seen, url: request.url, host: request.headers.host }));
  });
  return listening(server, port);
}

/** Answers the first bytes of a connection with themselves, in hex, and their sender's address; then echoes. */
function serveRecord({ port }: OutsideCommand): Promise<object> {
  const server = net.createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.once('data', (first) => {
      socket.write(JSON.stringify({ hex: first.toString('hex'), from: socket.remoteAddress }));
      socket.on('data', (data) => socket.write(data));
    });
  });
  return listening(server, port);
}

/** A forward proxy: CONNECT and POST to HOST:PORT (of POST: the Host) answer 200, then echo with what was asked for before the first bytes. */
function serveForward({ port }: OutsideCommand): Promise<object> {
  const server = http.createServer((request, response) => {
    response.writeHead(200);
    response.flushHeaders();
    let first = `POST ${request.headers.host}|`;
    request.on('data', (data) => {
      response.write(`${first}${data}`);
      first = '';
    });
  });
  server.on('connect', (request, socket: net.Socket, head: Buffer) => {
    socket.on('error', () => socket.destroy());
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    let first = `CONNECT ${request.url}|`;
    const answer = (data: Buffer) => {
      socket.write(`${first}${data}`);
      first = '';
    };
    if (head.length > 0) answer(head);
    socket.on('data', answer);
  });
  return listening(server, port);
}

function listening(server: net.Server, port: number | undefined): Promise<object> {
  server.on('tlsClientError', () => {});
  return new Promise((resolve) => server.listen(port, '::', () => resolve({ listening: port })));
}

/** By the name of the command. */
export const OUTSIDE_ACTIONS: Readonly<Record<string, (command: OutsideCommand) => Promise<object>>> = {
  'serve-https': serveHttps,
  'serve-record': serveRecord,
  'serve-forward': serveForward,
};
