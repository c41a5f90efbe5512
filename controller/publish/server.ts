/**
 * The API for agents, port 15201: HTTPS that asks for a client certificate without requiring one. In: the routes' registrations. Out: a
 * listening server whose errors are `{code, message}`. Must never: answer an error with more than its own code and words.
 */
import type { AddressInfo } from 'node:net';
import Fastify, { type FastifyInstance } from 'fastify';
import { MeshError } from '../../api/errors.ts';
import type { Part } from '../../runtime/lifecycle.ts';
import type { Logger } from '../../runtime/log.ts';
import { CONFIG_STATUS } from './config-routes.ts';
import { IDENTITY_STATUS } from './identity-routes.ts';
import { SECRET_STATUS } from './secret-routes.ts';

export interface Tls {
  readonly cert: string;
  readonly key: string;
}

export interface PublishServer extends Part {
  port(): number;
  /** A new certificate for new connections. */
  setTls(tls: Tls): void;
}

export interface PublishServerDeps {
  readonly listen: { readonly host: string; readonly port: number };
  readonly tls: Tls;
  register(server: FastifyInstance): void;
  readonly log: Logger;
}

const MAX_CONNECTIONS = 10_000;
const STATUS: Readonly<Record<string, number>> = { ...IDENTITY_STATUS, ...CONFIG_STATUS, ...SECRET_STATUS };

export function createPublishServer(deps: PublishServerDeps): PublishServer {
  const server = Fastify({
    https: {
      ...deps.tls,
      minVersion: 'TLSv1.3',
      requestCert: true,
      rejectUnauthorized: false,
      handshakeTimeout: 10_000,
    },
    logger: false,
    requestTimeout: 15_000,
    bodyLimit: 256 * 1024,
    forceCloseConnections: true,
  }) as unknown as FastifyInstance;
  server.server.maxConnections = MAX_CONNECTIONS;
  server.setErrorHandler((error, request, reply) => {
    const known = error instanceof MeshError ? STATUS[error.code] : undefined;
    if (error instanceof MeshError && known !== undefined)
      return reply.code(known).send({ code: error.code, message: error.message });
    const status = (error as { statusCode?: number }).statusCode ?? 500;
    if (status < 500) return reply.code(status).send({ code: 'BODY_INVALID', message: (error as Error).message });
    deps.log.error('a request of an agent failed', { method: request.method, path: request.routeOptions.url, error });
    return reply.code(500).send({ code: 'INTERNAL', message: 'the controller failed; its log says why' });
  });
  server.setNotFoundHandler((_request, reply) => reply.code(404).send({ code: 'NOT_FOUND', message: 'no such path' }));
  deps.register(server);
  return {
    name: 'publish',
    async start() {
      await server.listen(deps.listen);
      deps.log.info('serving agents', { port: this.port() });
    },
    stop: () => server.close(),
    port: () => (server.server.address() as AddressInfo | null)?.port ?? 0,
    setTls: (tls) =>
      (server.server as unknown as { setSecureContext(tls: object): void }).setSecureContext({
        ...tls,
        minVersion: 'TLSv1.3',
      }),
  };
}
