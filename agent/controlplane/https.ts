import { type KeyObject, X509Certificate } from 'node:crypto';
import { Agent, type AgentOptions, request } from 'node:https';
import type { PeerCertificate } from 'node:tls';
import { MeshError } from '../../api/errors.ts';
import { verifySvid } from '../../api/identity/x509.ts';

/** How the server is verified: by the intermediates that signed config lists and a SPIFFE ID spiffe://TD/controller/REPLICA. */
export interface ServerTrust {
  readonly intermediates: readonly string[];
  readonly trustDomain: string;
}

/** What this host presents: its SVID. */
export interface ClientIdentity {
  readonly chainPem: string;
  readonly privateKey: KeyObject;
}

export interface Answer {
  readonly status: number;
  readonly body: Buffer;
  /** The server's clock, ms since the epoch; undefined when it says none. */
  readonly date: number | undefined;
}

export interface Call {
  readonly method: 'GET' | 'POST' | 'PUT';
  readonly url: string;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly maxBytes: number;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** HTTPS with bounds. Rejects with CONTROLLER_UNREACHABLE, CONFIG_TOO_LARGE, or why the server is not trusted. */
export interface TlsClient {
  call(call: Call): Promise<Answer>;
  close(): void;
}

/** `trust` undefined: the server is not verified; then nothing secret may be sent. Without `identity` no certificate is presented. */
export function createTlsClient(deps: {
  trust(): ServerTrust | undefined;
  identity?(): ClientIdentity;
  readonly now: () => number;
}): TlsClient {
  let agent: Agent | undefined;
  let agentKey = '';

  /** Kept connections were admitted by the trust and identity of their time: a new one starts anew. */
  const agentFor = (trust: ServerTrust | undefined, identity: ClientIdentity | undefined): Agent => {
    const key = JSON.stringify([trust ?? null, identity?.chainPem ?? null]);
    if (agent !== undefined && key === agentKey) return agent;
    agent?.destroy();
    // Here and not with each request: Node reuses no connection for requests that bring a checkServerIdentity of their own.
    agent = new Agent({ keepAlive: true, maxSockets: 4, ...tlsOptions(trust, identity, deps.now) });
    agentKey = key;
    return agent;
  };

  const call = ({ method, url, body, headers, maxBytes, timeoutMs, signal }: Call): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const trust = deps.trust();
      const identity = deps.identity?.();
      const fail = (cause: unknown) => reject(unreachable(url, cause));
      const sent = request(url, {
        method,
        agent: agentFor(trust, identity),
        ...(signal === undefined ? {} : { signal }),
        timeout: timeoutMs,
        headers: {
          ...headers,
          ...(body === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
        },
      });
      const deadline = setTimeout(() => sent.destroy(new Error('no answer in time')), timeoutMs);
      deadline.unref();
      sent.once('close', () => clearTimeout(deadline));
      sent.once('error', fail);
      sent.once('response', (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size <= maxBytes) chunks.push(chunk);
          else sent.destroy(new MeshError('CONFIG_TOO_LARGE', `the answer has more than ${maxBytes} bytes`));
        });
        response.once('error', fail);
        response.once('end', () => {
          const date = Date.parse(response.headers.date ?? '');
          resolve({
            status: response.statusCode ?? 0,
            body: Buffer.concat(chunks),
            date: Number.isNaN(date) ? undefined : date,
          });
        });
      });
      sent.end(body);
    });

  return { call, close: () => agent?.destroy() };
}

function tlsOptions(
  trust: ServerTrust | undefined,
  identity: ClientIdentity | undefined,
  now: () => number,
): AgentOptions {
  return {
    minVersion: 'TLSv1.3',
    ...(identity === undefined
      ? {}
      : { cert: identity.chainPem, key: identity.privateKey.export({ format: 'pem', type: 'pkcs8' }) }),
    ...(trust === undefined
      ? { rejectUnauthorized: false }
      : {
          ca: [...trust.intermediates],
          allowPartialTrustChain: true,
          checkServerIdentity: (_host: string, cert: PeerCertificate) => judgeServer(cert, trust, now()),
        }),
  };
}

function unreachable(url: string, cause: unknown): MeshError {
  if (cause instanceof MeshError) return cause;
  const text = String((cause as Error)?.message ?? cause);
  return new MeshError('CONTROLLER_UNREACHABLE', `${url.split('?')[0]}: ${text}`, { cause });
}

/** Undefined: the server is a controller of this mesh; the name in the URL does not matter, the SPIFFE ID does. */
function judgeServer(cert: PeerCertificate, trust: ServerTrust, now: number): Error | undefined {
  try {
    const trusted = trust.intermediates.map((pem) => new X509Certificate(pem));
    const svid = verifySvid(new X509Certificate(cert.raw), { trusted, trustDomain: trust.trustDomain, now });
    if (svid.id.kind === 'controller') return undefined;
    return new MeshError('SVID_UNTRUSTED', `${svid.spiffeId} is no controller`);
  } catch (error) {
    return error as Error;
  }
}
