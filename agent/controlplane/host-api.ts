/**
 * What a host asks of controllers in its own name. In: CSRs, its status. Out: SVIDs as they came (the identity room verifies them). The server
 * is verified before anything is sent: an enrolment carries a one-shot secret. Must never send to a server that signed config does not list.
 */
import { MeshError } from '../../api/errors.ts';
import {
  AGENT_API,
  type EnrolRequest,
  type EnrolResponse,
  type HostQuestion,
  type HostReply,
  type HostStatus,
  type SecretsRequest,
  type SecretsResponse,
  type SvidRequest,
  type SvidResponse,
} from '../../api/http/agent-api.ts';
import { type Answer, type ClientIdentity, createTlsClient, type ServerTrust } from './https.ts';

export interface HostApi {
  /** One try at one controller, without a client certificate. Throws the controller's own code and words. */
  enrol(url: string, request: EnrolRequest, signal?: AbortSignal): Promise<EnrolResponse>;
  /** Asks one controller after another. Throws the last one's error. */
  svids(request: SvidRequest, signal?: AbortSignal): Promise<SvidResponse>;
  /** Secrets of gateways, by long poll of one controller after another. Throws the last one's error. */
  secrets(request: SecretsRequest, signal?: AbortSignal): Promise<SecretsResponse>;
  /** Tells every controller: each keeps statuses in memory. Resolves when all were tried. */
  status(status: HostStatus, signal?: AbortSignal): Promise<void>;
  /** Waits at one controller for a question to this host; undefined: none came. Throws the controller's error. */
  question(url: string, waitSeconds: number, signal?: AbortSignal): Promise<HostQuestion | undefined>;
  reply(url: string, id: string, reply: HostReply, signal?: AbortSignal): Promise<void>;
  /** How the last call to each URL ended. */
  contacts(): ReadonlyMap<string, { readonly reachable: boolean; readonly lastError?: string }>;
  close(): void;
}

const TIMEOUT_MS = 10_000;
/** A Secret may have half a megabyte, and an answer goes on until it has one. */
const MAX_ANSWER = 4 << 20;

export function createHostApi(deps: {
  /** The controllers, each by its base URLs, tried in order. */
  replicas(): readonly (readonly string[])[];
  /** undefined: no config is verified yet, so no controller can be told from an impostor: every call throws NOT_JOINED. */
  trust(): ServerTrust | undefined;
  identity(): ClientIdentity;
  readonly now: () => number;
}): HostApi {
  const trust = (): ServerTrust => {
    const known = deps.trust();
    if (known === undefined || known.intermediates.length === 0)
      throw new MeshError('NOT_JOINED', 'no verified config yet: controllers cannot be told from impostors');
    return known;
  };
  const anonymous = createTlsClient({ trust, now: deps.now });
  const asHost = createTlsClient({ trust, identity: deps.identity, now: deps.now });
  const contacts = new Map<string, { reachable: boolean; lastError?: string }>();

  const send = async (
    url: string,
    method: 'GET' | 'POST' | 'PUT',
    path: string,
    body: unknown,
    signal?: AbortSignal,
    timeoutMs = TIMEOUT_MS,
  ) => {
    const client = path === AGENT_API.enrol ? anonymous : asHost;
    try {
      trust();
      const text = body === undefined ? {} : { body: JSON.stringify(body) };
      const call = { method, url: url + path, ...text, maxBytes: MAX_ANSWER, timeoutMs };
      const answer = await client.call({ ...call, signal });
      contacts.set(url, { reachable: true });
      return expectOk(url, answer);
    } catch (error) {
      if (!(error instanceof MeshError && error.details.answered === true))
        contacts.set(url, { reachable: false, lastError: (error as Error).message });
      throw error;
    }
  };

  return {
    async enrol(url, request, signal) {
      return JSON.parse(await send(url, 'POST', AGENT_API.enrol, request, signal)) as EnrolResponse;
    },
    async svids(request, signal) {
      let last: unknown = new MeshError('CONTROLLER_UNREACHABLE', 'no controller is known');
      for (const url of deps.replicas().flat()) {
        try {
          return JSON.parse(await send(url, 'POST', AGENT_API.svid, request, signal)) as SvidResponse;
        } catch (error) {
          last = error;
        }
      }
      throw last;
    },
    async secrets(request, signal) {
      let last: unknown = new MeshError('CONTROLLER_UNREACHABLE', 'no controller is known');
      for (const url of deps.replicas().flat()) {
        try {
          const timeoutMs = request.wait * 1000 + TIMEOUT_MS;
          return JSON.parse(await send(url, 'POST', AGENT_API.secrets, request, signal, timeoutMs)) as SecretsResponse;
        } catch (error) {
          if (signal?.aborted) throw error;
          last = error;
        }
      }
      throw last;
    },
    async status(status, signal) {
      const tell = async (urls: readonly string[]): Promise<void> => {
        const [url, ...others] = urls;
        if (url === undefined) return;
        await send(url, 'PUT', AGENT_API.status, status, signal).catch(() => tell(others));
      };
      await Promise.all(deps.replicas().map(tell));
    },
    async question(url, waitSeconds, signal) {
      const path = `${AGENT_API.questions}?wait=${waitSeconds}`;
      const text = await send(url, 'GET', path, undefined, signal, waitSeconds * 1000 + TIMEOUT_MS);
      return text === '' ? undefined : (JSON.parse(text) as HostQuestion);
    },
    async reply(url, id, reply, signal) {
      await send(url, 'PUT', AGENT_API.reply(id), reply, signal);
    },
    contacts: () => contacts,
    close() {
      anonymous.close();
      asHost.close();
    },
  };
}

/** The body, or the error that the controller names in `{code, message}`. */
function expectOk(url: string, { status, body }: Answer): string {
  const text = body.toString('utf8');
  if (status >= 200 && status < 300) return text;
  let told: { code?: unknown; message?: unknown } = {};
  try {
    told = JSON.parse(text);
  } catch {
    // not one of ours; the status has to do
  }
  const code = typeof told.code === 'string' ? told.code : 'CONTROLLER_REFUSED';
  const message = typeof told.message === 'string' ? told.message.slice(0, 500) : `${url}: status ${status}`;
  throw new MeshError(code, message, { details: { answered: true, status } });
}
