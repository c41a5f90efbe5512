/**
 * The agent's admin API on a unix socket, for meshctl on this host (paths in api/http/admin-api.ts). In: GET and three POSTs. Out: JSON.
 * Access is by the socket's mode, 0660 and its folder's group. Must never: answer a private key, take a body above 16 KiB.
 */
import { chmod, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { errorLine, MeshError } from '../../api/errors.ts';
import { ADMIN_API, type AgentStatus, type PeerRow } from '../../api/http/admin-api.ts';
import { HOST_QUERY_LIMITS, type HostAnswer, type HostQuery, parseHostQuery } from '../../api/http/host-query.ts';
import type { Part } from '../../runtime/lifecycle.ts';
import type { Logger, LogLevel } from '../../runtime/log.ts';

export interface AdminDeps {
  readonly socketPath: string;
  status(): AgentStatus;
  peers(): readonly PeerRow[];
  /** JSON values; they hold no secrets by construction. */
  config(): unknown;
  desired(): unknown;
  endpoints(): unknown;
  setLogLevel(level: LogLevel): void;
  /** Answers a question about this host's Envoy. */
  look(query: HostQuery): Promise<HostAnswer>;
  /** Withdraws this host's endpoints, tells the peers and drains; resolves when done. */
  leave(): Promise<void>;
  readonly log: Logger;
}

const MAX_BODY = HOST_QUERY_LIMITS.queryBytes;
const LEVELS: readonly string[] = ['error', 'warn', 'info', 'debug'];

export function createAdmin(deps: AdminDeps): Part {
  let server: Server | undefined;
  return {
    name: 'admin',
    async start() {
      await removeStale(deps.socketPath);
      const created = createServer((request, response) => void answer(deps, request, response));
      created.requestTimeout = 10_000;
      await new Promise<void>((resolve, reject) => {
        created.once('error', reject);
        created.listen(deps.socketPath, resolve);
      });
      await chmod(deps.socketPath, 0o660);
      server = created;
    },
    async stop() {
      const closing = server;
      server = undefined;
      if (closing === undefined) return;
      closing.closeAllConnections();
      await new Promise((resolve) => closing.close(resolve));
    },
  };
}

/** A socket that nobody answers on is a left-over of a crash; one that answers belongs to a running agent. Throws ALREADY_RUNNING. */
async function removeStale(path: string): Promise<void> {
  const alive = await new Promise<boolean>((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
  if (alive) throw new MeshError('ALREADY_RUNNING', `another mesh-agent answers on ${path}`);
  await rm(path, { force: true });
}

async function answer(deps: AdminDeps, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = (request.url ?? '').split('?')[0] ?? '';
  const reads: Record<string, () => unknown> = {
    [ADMIN_API.status]: deps.status,
    [ADMIN_API.peers]: deps.peers,
    [ADMIN_API.config]: deps.config,
    [ADMIN_API.desired]: deps.desired,
    [ADMIN_API.endpoints]: deps.endpoints,
  };
  const read = reads[path];
  try {
    if (request.method === 'GET' && read !== undefined) return send(response, 200, read());
    if (request.method === 'POST' && path === ADMIN_API.leave) {
      await deps.leave();
      return send(response, 204);
    }
    if (request.method === 'POST' && path === ADMIN_API.look)
      return send(response, 200, await deps.look(parseHostQuery(JSON.parse(await bodyOf(request)))));
    if (request.method === 'POST' && path === ADMIN_API.logLevel) {
      const level = (JSON.parse(await bodyOf(request)) as { level?: unknown } | null)?.level;
      if (typeof level !== 'string' || !LEVELS.includes(level)) {
        return send(response, 400, { code: 'BODY_INVALID', message: `level: expected one of ${LEVELS.join(', ')}` });
      }
      deps.setLogLevel(level as LogLevel);
      return send(response, 204);
    }
    const posts: readonly string[] = [ADMIN_API.leave, ADMIN_API.logLevel, ADMIN_API.look];
    const known = read !== undefined || posts.includes(path);
    send(response, known ? 405 : 404, { code: 'NOT_FOUND', message: `no ${request.method} ${path}` });
  } catch (error) {
    const { status, code } = failureOf(error);
    if (status === 500) deps.log.warn('admin request failed', { path, error });
    send(response, status, { code, message: errorLine(error) });
  }
}

/** Bad input and an Envoy that does not answer are no faults of the agent. */
function failureOf(error: unknown): { status: number; code: string } {
  if (error instanceof SyntaxError) return { status: 400, code: 'BODY_INVALID' };
  const code = error instanceof MeshError ? error.code : '';
  if (code === 'BODY_INVALID' || code === 'QUERY_INVALID') return { status: 400, code };
  return code === 'ENVOY_ADMIN' ? { status: 503, code } : { status: 500, code: 'INTERNAL' };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let size = 0;
  const chunks: Buffer[] = [];
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > MAX_BODY) throw new MeshError('BODY_INVALID', `the body is larger than ${MAX_BODY} bytes`);
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function send(response: ServerResponse, status: number, body?: unknown): void {
  const text = body === undefined ? '' : JSON.stringify(body);
  response.writeHead(status, text === '' ? {} : { 'content-type': 'application/json' }).end(text);
}
