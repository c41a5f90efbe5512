/** HTTPS to a controller's API for agents. In: URL and what is held. Out: bytes, unjudged. Bounds size and time; trusts nothing it reads. */
import { MeshError } from '../../api/errors.ts';
import { AGENT_API, HOST_HEADER } from '../../api/http/agent-api.ts';
import { LIMITS } from '../../api/signed-config/layout.ts';
import type { UpdateRequest } from '../../api/signed-config/update.ts';
import { type Answer, createTlsClient, type ServerTrust } from './https.ts';

export type { ServerTrust } from './https.ts';

export interface ControllerClient {
  /** Undefined: nothing newer came within `waitSeconds`. Throws CONTROLLER_UNREACHABLE, CONTROLLER_REFUSED, CONFIG_TOO_LARGE. */
  config(url: string, held: UpdateRequest, waitSeconds: number, signal?: AbortSignal): Promise<Buffer | undefined>;
  /** Root version 1, unverified: compare its sha256 with the join string's before anything else. `date`: the server's clock, ms since the epoch. */
  rootV1(url: string, signal?: AbortSignal): Promise<{ readonly text: string; readonly date: number | undefined }>;
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
  /** This host's id, told with each request for config: a controller to which it has reported what it holds need not ask it. */
  readonly host?: string;
}): ControllerClient {
  const client = createTlsClient(deps);
  const headers: Record<string, string> = deps.host === undefined ? {} : { [HOST_HEADER]: deps.host };
  const get = async (url: string, maxBytes: number, timeoutMs: number, signal?: AbortSignal): Promise<Answer> => {
    const answer = await client.call({ method: 'GET', url, headers, maxBytes, timeoutMs, signal });
    if (answer.status === 200 || answer.status === 204) return answer;
    throw new MeshError('CONTROLLER_REFUSED', `${url.split('?')[0]}: status ${answer.status}`);
  };
  return {
    async config(url, held, waitSeconds, signal) {
      const query = `root=${held.root}&generation=${held.generation}&timestamp=${held.timestamp}&wait=${waitSeconds}`;
      const target = `${url}${AGENT_API.config}?${query}`;
      const answer = await get(target, LIMITS.updateBytes, waitSeconds * 1000 + ANSWER_GRACE_MS, signal);
      return answer.status === 204 ? undefined : answer.body;
    },
    async rootV1(url, signal) {
      const answer = await get(`${url}${AGENT_API.rootV1}`, LIMITS.metadataBytes, ANSWER_GRACE_MS, signal);
      if (answer.status === 204) throw new MeshError('CONTROLLER_REFUSED', `${url} has no root`);
      return { text: answer.body.toString('utf8'), date: answer.date };
    },
    close: () => client.close(),
  };
}
