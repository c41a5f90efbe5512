/** Questions of operators for the hosts that fetch them (api/http/agent-api.ts). By host SVID; a host gets and answers its own only. */
import type { FastifyInstance } from 'fastify';
import { MeshError } from '../../api/errors.ts';
import { AGENT_API, type HostQuestion } from '../../api/http/agent-api.ts';
import { HOST_QUERY_LIMITS } from '../../api/http/host-query.ts';
import { type CallerDeps, memberOf } from './identity-routes.ts';

export interface QuestionRoutesDeps extends CallerDeps {
  readonly questions: {
    next(host: string, waitMs: number, gone: AbortSignal): Promise<HostQuestion | undefined>;
    waits(host: string, id: string): boolean;
    reply(host: string, id: string, body: unknown): boolean;
    close(): void;
  };
}

const MAX_WAIT_SECONDS = 55;
const TOO_LATE = { code: 'NOT_FOUND', message: 'nobody waits for this reply any more' };

/** Registers AGENT_API.questions and AGENT_API.reply. */
export function registerQuestionRoutes(server: FastifyInstance, deps: QuestionRoutesDeps): void {
  const { questions } = deps;
  server.addHook('preClose', async () => questions.close());
  server.get(AGENT_API.questions, async (request, reply) => {
    const { host } = await memberOf(deps, request);
    const { wait = '0' } = request.query as { wait?: unknown };
    if (typeof wait !== 'string' || !/^\d{1,2}$/.test(wait) || Number(wait) > MAX_WAIT_SECONDS)
      throw new MeshError('BODY_INVALID', `wait: a whole number from 0 to ${MAX_WAIT_SECONDS}`);
    const gone = new AbortController();
    const { socket } = request.raw;
    const hangUp = () => gone.abort();
    socket.once('close', hangUp);
    const question = await questions.next(host, Number(wait) * 1000, gone.signal);
    socket.off('close', hangUp);
    return question === undefined ? reply.code(204).send() : reply.send(question);
  });
  const bodyLimit = HOST_QUERY_LIMITS.answerBytes + 64 * 1024;
  server.put<{ Params: { id: string } }>(
    AGENT_API.reply(':id').replace('%3A', ':'),
    {
      bodyLimit,
      // Before the body is read: it may be the largest that this port takes, and whoever connects could fill the memory with them.
      onRequest: async (request, reply) => {
        const { host } = await memberOf(deps, request);
        if (!questions.waits(host, request.params.id)) return reply.code(404).send(TOO_LATE);
      },
    },
    async (request, reply) => {
      const { host } = await memberOf(deps, request);
      if (questions.reply(host, request.params.id, request.body)) return reply.code(204).send();
      return reply.code(404).send(TOO_LATE);
    },
  );
}
