import t, { type Test } from 'tap';
import { createQuestions } from '../../../../agent/controlplane/questions.ts';
import { replicasOf } from '../../../../agent/controlplane/replicas.ts';
import { MeshError } from '../../../../api/errors.ts';
import type { HostQuestion, HostReply } from '../../../../api/http/agent-api.ts';
import type { HostQuery } from '../../../../api/http/host-query.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';

type Served = HostQuestion | Error | undefined;

/** Controllers with a list of what they serve; then they hold the request until it is given up. */
function world(t: Test, serves: Record<string, Served[]>) {
  const clock = createFakeClock();
  const asked: string[] = [];
  const replies: [string, string, HostReply][] = [];
  const answered: HostQuery[] = [];
  let replicas: readonly (readonly string[])[] = Object.keys(serves).map((url) => [url]);
  let working = 0;
  let most = 0;
  const part = createQuestions({
    api: {
      async question(url, _wait, signal) {
        asked.push(url);
        const list = serves[url] ?? [];
        if (list.length === 0)
          return await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
        const next = list.shift();
        if (next instanceof Error) throw next;
        return next;
      },
      reply: async (url, id, reply) => void replies.push([url, id, reply]),
    },
    replicas: () => replicas,
    async answer(query) {
      most = Math.max(most, ++working);
      await new Promise((resolve) => setImmediate(resolve));
      working--;
      answered.push(query);
      if (query.ask === 'log') throw new MeshError('ENVOY_ADMIN', 'Envoy is down');
      return { host: 'a', generation: 1, at: '', rows: [] };
    },
    clock,
    random: () => 0.5,
    log: silentLogger,
  });
  t.teardown(() => part.stop());
  const setReplicas = (list: string[][]) => {
    replicas = list;
  };
  return { part, clock, asked, replies, answered, most: () => most, setReplicas };
}

const question = (id: string, query: unknown): HostQuestion => ({ id, query: query as HostQuery });

t.test('each controller is waited at; questions are answered one at a time', async (t) => {
  const routes = { ask: 'config', part: 'routes', form: 'rows', filter: {} };
  const w = world(t, { x: [question('1', routes), question('2', routes)], y: [question('3', { ask: 'log' })] });
  await w.part.start(new AbortController().signal);
  await w.clock.advance(3000);
  t.equal(w.replies.length, 3);
  t.match(
    w.replies.find(([, id]) => id === '1'),
    ['x', '1', { answer: { host: 'a' } }],
  );
  t.match(
    w.replies.find(([, id]) => id === '3'),
    ['y', '3', { error: { code: 'ENVOY_ADMIN', message: 'Envoy is down' } }],
  );
  t.equal(w.most(), 1);
});

t.test('what is not in the closed list is not answered, whoever sends it', async (t) => {
  const w = world(t, {
    x: [question('1', { ask: 'exec', command: 'id' }), question('2', { ask: 'log', levels: { a: 'x' } })],
  });
  await w.part.start(new AbortController().signal);
  await w.clock.advance(3000);
  t.same(w.answered, []);
  t.match(w.replies, [
    ['x', '1', { error: { code: 'QUERY_INVALID' } }],
    ['x', '2', { error: { code: 'QUERY_INVALID' } }],
  ]);
});

t.test('a controller that fails is asked again later, one that is gone no more', async (t) => {
  const down = () => new MeshError('CONTROLLER_UNREACHABLE', 'down');
  const w = world(t, { x: [down(), down(), undefined] });
  await w.part.start(new AbortController().signal);
  await w.clock.advance(100);
  t.equal(w.asked.length, 1);
  await w.clock.advance(20_000);
  t.equal(w.asked.length, 4, 'two failures, one empty answer, one that waits');
  w.setReplicas([['y']]);
  await w.clock.advance(10_000);
  t.same(w.asked.slice(4), ['y']);
});

t.test(
  'a controller with two addresses holds one request; the other address is for when the first fails',
  async (t) => {
    const w = world(t, { v4: [undefined], v6: [] });
    w.setReplicas([['v4', 'v6']]);
    await w.part.start(new AbortController().signal);
    await w.clock.advance(60_000);
    t.same(w.asked, ['v4', 'v4'], 'an empty answer, then one that waits');
    const failing = world(t, { v4: [new MeshError('CONTROLLER_UNREACHABLE', 'down')], v6: [] });
    failing.setReplicas([['v4', 'v6']]);
    await failing.part.start(new AbortController().signal);
    await failing.clock.advance(5000);
    t.same(failing.asked, ['v4', 'v6']);
  },
);

t.test('the controllers that a host knows, each once', async (t) => {
  const rows: [string[], string[][], string[][]][] = [
    [['a4'], [], [['a4']]],
    [['a4', 'a6', 'a4'], [], [['a4'], ['a6']]],
    [['a4'], [['a4', 'a6'], ['b4']], [['a4', 'a6'], ['b4']]],
    [['name'], [['a4'], []], [['a4'], ['name']]],
  ];
  for (const [written, listed, replicas] of rows)
    t.same(
      replicasOf(
        written,
        listed.map((agentUrls) => ({ agentUrls })),
      ),
      replicas,
    );
});
