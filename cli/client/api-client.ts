/**
 * HTTP of meshctl: to a controller over verified TLS, to the local agent over its unix socket. In: method, path, body. Out: JSON, or a
 * MeshError: API_UNREACHABLE, API_REFUSED (details.status is the Status object), API_BROKEN. It must never send a credential to a server
 * that was not verified, and never repeats a write that may have arrived.
 */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { MeshError } from '../../api/errors.ts';
import type { Status } from '../../api/http/status-errors.ts';
import { VERSION } from '../../api/version.ts';
import type { ApiSettings } from './settings.ts';

export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path with query. */
  readonly path: string;
  readonly body?: unknown;
}

export interface ApiAnswer {
  readonly status: number;
  readonly body: unknown;
  /** Texts of Warning headers (RFC 7234 5.5, code 299). */
  readonly warnings: readonly string[];
}

export interface ApiClient {
  /** Answers with a 2xx, or throws. */
  send(request: ApiRequest): Promise<ApiAnswer>;
}

const MAX_ANSWER_BYTES = 256 * 1024 * 1024;
const TIMEOUT_MS = 60_000;
const CONNECT_FAILURES = ['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND', 'EAI_AGAIN', 'ETIMEDOUT'];

/** unix(7): sun_path has 108 bytes, one of them the end. */
const MAX_SOCKET_PATH = 107;

/** Client of the controllers' REST API; the next URL is tried only when no connection could be made. */
export function createApiClient(settings: ApiSettings): ApiClient {
  return {
    async send(request) {
      let last: unknown;
      for (const url of settings.urls) {
        try {
          return await exchange(request, (headers) =>
            httpsRequest(new URL(request.path, url), {
              method: request.method,
              headers: {
                ...headers,
                ...(settings.token === undefined ? {} : { authorization: `Bearer ${settings.token}` }),
              },
              ...(settings.ca === undefined ? {} : { ca: settings.ca }),
              ...(settings.cert === undefined ? {} : { cert: settings.cert, key: settings.key }),
              rejectUnauthorized: true,
              minVersion: 'TLSv1.2',
              agent: false,
            }),
          );
        } catch (error) {
          last = unreachable(error, url);
          const code = (error as NodeJS.ErrnoException).code ?? '';
          if (!CONNECT_FAILURES.includes(code)) throw last;
        }
      }
      throw last;
    },
  };
}

/** Client of the agent on this host (api/http/admin-api.ts). */
export function createSocketClient(socketPath: string): ApiClient {
  if (Buffer.byteLength(socketPath) > MAX_SOCKET_PATH)
    throw new MeshError(
      'API_UNREACHABLE',
      `${socketPath}: longer than the ${MAX_SOCKET_PATH} bytes of a socket's path; use a shorter path (a symbolic link does)`,
    );
  return {
    async send(request) {
      try {
        return await exchange(request, (headers) =>
          httpRequest({
            socketPath,
            path: request.path,
            method: request.method,
            headers: { ...headers, host: 'agent' },
            agent: false,
          }),
        );
      } catch (error) {
        if (error instanceof MeshError) throw error;
        const code = (error as NodeJS.ErrnoException).code;
        const why =
          code === 'ENOENT'
            ? 'there is no such socket: is mesh-agent running on this host? --socket names another'
            : code === 'ECONNREFUSED'
              ? 'no agent answers there: is mesh-agent running?'
              : code === 'EACCES'
                ? 'permission denied: be root or in the group mesh'
                : (error as Error).message;
        throw new MeshError('API_UNREACHABLE', `${socketPath}: ${why}`, { cause: error });
      }
    },
  };
}

async function exchange(
  request: ApiRequest,
  open: (headers: Record<string, string>) => ClientRequest,
): Promise<ApiAnswer> {
  const body = request.body === undefined ? undefined : JSON.stringify(request.body);
  const headers: Record<string, string> = { accept: 'application/json', 'user-agent': `meshctl/${VERSION}` };
  if (body !== undefined) {
    headers['content-type'] = 'application/json';
    headers['content-length'] = String(Buffer.byteLength(body));
  }
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing = open(headers);
    outgoing.setTimeout(TIMEOUT_MS, () => outgoing.destroy(new MeshError('API_UNREACHABLE', 'no answer within 60 s')));
    outgoing.once('response', resolve);
    outgoing.once('error', reject);
    outgoing.end(body);
  });
  const text = await readAll(response);
  const status = response.statusCode ?? 0;
  const parsed = text === '' ? undefined : parseJson(text, status);
  if (status >= 200 && status < 300) return { status, body: parsed, warnings: warningsOf(response) };
  throw refused(status, parsed);
}

async function readAll(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response) {
    size += (chunk as Buffer).length;
    if (size > MAX_ANSWER_BYTES) throw new MeshError('API_BROKEN', 'the answer is larger than 256 MiB');
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parseJson(text: string, status: number): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new MeshError('API_BROKEN', `the answer (HTTP ${status}) is not JSON: is this a mesh controller?`);
  }
}

function refused(status: number, body: unknown): MeshError {
  const answer = body as Partial<Status> | undefined;
  const text = answer?.message ?? (body as { error?: string } | undefined)?.error;
  const message = status === 401 ? 'the controller does not know this credential (401)' : (text ?? `HTTP ${status}`);
  return new MeshError('API_REFUSED', message, { details: { httpStatus: status, status: answer } });
}

function warningsOf(response: IncomingMessage): string[] {
  const header = response.headers.warning;
  if (header === undefined) return [];
  return [...header.matchAll(/299 \S+ "((?:[^"\\]|\\.)*)"/g)].map(([, text]) => (text ?? '').replace(/\\(.)/g, '$1'));
}

function unreachable(error: unknown, url: string): Error {
  if (error instanceof MeshError && error.code !== 'API_UNREACHABLE') return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const tls = /CERT|SELF_SIGNED|UNABLE_TO|ALTNAME|SSL/.test(code ?? '');
  const why =
    code === 'ERR_TLS_CERT_ALTNAME_INVALID'
      ? `its certificate is for other addresses (${message}): name one of them, or add this one to the controller's addresses or dnsNames`
      : tls
        ? `its certificate is not trusted (${message}): is --ca-file the mesh's own?`
        : message;
  return new MeshError('API_UNREACHABLE', `${url}: ${why}`, { cause: error });
}
