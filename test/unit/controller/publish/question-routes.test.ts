import Fastify, { type FastifyInstance } from 'fastify';
import t from 'tap';
import { MeshError } from '../../../../api/errors.ts';
import { registerQuestionRoutes } from '../../../../controller/publish/question-routes.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';
import { createMemoryRows } from '../../../fakes/memory-rows.ts';

t.test('nobody without a host SVID gets or answers a question', async (t) => {
  const server = Fastify() as unknown as FastifyInstance;
  const refuse = () => {
    throw new MeshError('TEST', 'reached');
  };
  registerQuestionRoutes(server, {
    rows: createMemoryRows(),
    authority: { trustDomain: 'mesh.test' } as never,
    trustedIntermediates: () => [],
    clock: createFakeClock(),
    questions: { next: refuse, reply: refuse, close() {} },
  } as never);
  t.teardown(() => server.close());
  for (const [method, url] of [
    ['GET', '/mesh/v1/questions?wait=50'],
    ['PUT', '/mesh/v1/questions/abc'],
  ] as const) {
    // Not even the body is read, which here would be refused for what it is.
    const payload = method === 'PUT' ? { payload: '{', headers: { 'content-type': 'application/json' } } : {};
    const answer = await server.inject({ method, url, ...payload });
    t.match(answer.json(), { code: 'UNAUTHENTICATED' }, url);
  }
});
