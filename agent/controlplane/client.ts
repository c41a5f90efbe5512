/** HTTPS to a controller's API for agents. In: URL and what is held. Out: bytes, unjudged. Bounds size and time; trusts nothing it reads. */
import { X509Certificate } from 'node:crypto';
import { Agent, request } from 'node:https';
import type { PeerCertificate } from 'node:tls';
import { MeshError } from '../../api/errors.ts';
import { AGENT_API } from '../../api/http/agent-api.ts';
import { verifySvid } from '../../api/identity/x509.ts';
import { LIMITS } from '../../api/signed-config/layout.ts';
import type { UpdateRequest } from '../../api/signed-config/update.ts';

/** How the server is verified: by the intermediates that signed config lists and a SPIFFE ID spiffe://TD/controller/REPLICA. */
export interface ServerTrust {
  readonly intermediates: readonly string[];
  readonly trustDomain: string;
}

export interface ControllerClient {
  /** Undefined: nothing newer came within `waitSeconds`. Throws CONTROLLER_UNREACHABLE, CONTROLLER_REFUSED, CONFIG_TOO_LARGE. */
  config(url: string, held: UpdateRequest, waitSeconds: number, signal?: AbortSignal): Promise<Buffer | undefined>;
  /** Root version 1, unverified: compare its sha256 with the join string's before anything else. */
  rootV1(url: string, signal?: AbortSignal): Promise<string>;
  close(): void;
}

const ANSWER_GRACE_MS = 15_000;

/**
 * `trust` undefined (a host that joins, or whose config is lost): the server is not verified, which config can bear, since it is signed and
 * public; nothing secret is ever sent here.
 */
export function createControllerClient(deps: {
  trust(): ServerTrust | undefined;
  readonly now: () => number;
}): ControllerClient {
  let agent = new Agent({ keepAlive: true, maxSockets: 4 });
  let agentTrust = '';

  /** Kept connections were admitted by the trust of their time: a new one starts anew. */
  const agentFor = (trust: ServerTrust | undefined): Agent => {
    const key = JSON.stringify(trust ?? null);
    if (key !== agentTrust) {
      agent.destroy();
      agent = new Agent({ keepAlive: true, maxSockets: 4 });
      agentTrust = key;
    }
    return agent;
  };

  const get = (url: string, maxBytes: number, timeoutMs: number, signal?: AbortSignal): Promise<Buffer | undefined> =>
    new Promise((resolve, reject) => {
      const trust = deps.trust();
      const fail = (cause: unknown) =>
        reject(
          cause instanceof MeshError
            ? cause
            : new MeshError(
                'CONTROLLER_UNREACHABLE',
                `${url.split('?')[0]}: ${String((cause as Error)?.message ?? cause)}`,
                { cause },
              ),
        );
      const call = request(url, {
        agent: agentFor(trust),
        ...(signal === undefined ? {} : { signal }),
        timeout: timeoutMs,
        minVersion: 'TLSv1.3',
        ...(trust === undefined
          ? { rejectUnauthorized: false }
          : {
              ca: [...trust.intermediates],
              allowPartialTrustChain: true,
              checkServerIdentity: (_host: string, cert: PeerCertificate) => judgeServer(cert, trust, deps.now()),
            }),
      });
      const deadline = setTimeout(() => call.destroy(new Error('no answer in time')), timeoutMs);
      deadline.unref();
      call.once('close', () => clearTimeout(deadline));
      call.once('error', fail);
      call.once('response', (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size <= maxBytes) chunks.push(chunk);
          else call.destroy(new MeshError('CONFIG_TOO_LARGE', `the answer has more than ${maxBytes} bytes`));
        });
        response.once('error', fail);
        response.once('end', () => {
          if (response.statusCode === 200) resolve(Buffer.concat(chunks));
          else if (response.statusCode === 204) resolve(undefined);
          else reject(new MeshError('CONTROLLER_REFUSED', `${url.split('?')[0]}: status ${response.statusCode}`));
        });
      });
      call.end();
    });

  return {
    config(url, held, waitSeconds, signal) {
      const query = `root=${held.root}&generation=${held.generation}&timestamp=${held.timestamp}&wait=${waitSeconds}`;
      const target = `${url}${AGENT_API.config}?${query}`;
      return get(target, LIMITS.updateBytes, waitSeconds * 1000 + ANSWER_GRACE_MS, signal);
    },
    async rootV1(url, signal) {
      const body = await get(`${url}${AGENT_API.rootV1}`, LIMITS.metadataBytes, ANSWER_GRACE_MS, signal);
      if (body === undefined) throw new MeshError('CONTROLLER_REFUSED', `${url} has no root`);
      return body.toString('utf8');
    },
    close: () => agent.destroy(),
  };
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
