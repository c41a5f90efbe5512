import Fastify from 'fastify';
import t from 'tap';
import { AGENT_API, HOST_HEADER } from '../../../../api/http/agent-api.ts';
import type { TrustedState } from '../../../../api/signed-config/verifier.ts';
import { registerConfigRoutes } from '../../../../controller/publish/config-routes.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';
import { seeded } from '../../../fakes/seeded.ts';

/** A controller with one generation after another; waiting requests come from the addresses given. */
async function routes(direct: number, hosts: number, addressOf = (i: number) => `10.0.0.${i}`) {
  const clock = createFakeClock();
  let generation = 1;
  const reports = new Map<string, number>();
  const published = new Set<() => void>();
  const server = Fastify();
  registerConfigRoutes(server, {
    signer: {
      history: {
        push() {},
        latest: () => ({ accepted: { generation } }) as unknown as TrustedState,
        updateFor: (held) => (held.generation < generation ? `from ${held.generation} to ${generation}` : undefined),
      },
      onPublished(listener) {
        published.add(listener);
        return () => {};
      },
    },
    clock,
    reported: (host) => reports.get(host),
    direct,
    random: seeded(7),
  });
  const answers = new Map<number, { status: number; text: string; at: number }>();
  const ask = (i: number, held: number) =>
    void server
      .inject({
        url: `${AGENT_API.config}?root=1&generation=${held}&timestamp=1&wait=50`,
        remoteAddress: addressOf(i),
        headers: { [HOST_HEADER]: `h${i}` },
      })
      .then(({ statusCode, payload }) => answers.set(i, { status: statusCode, text: payload, at: clock.monotonic() }));
  for (let i = 0; i < hosts; i++) ask(i, 1);
  await clock.advance(10);
  return {
    clock,
    answers,
    ask,
    reports,
    server,
    async publish() {
      generation += 1;
      for (const listener of published) listener();
      await clock.advance(0);
    },
  };
}

const withBody = (answers: ReadonlyMap<number, { status: number }>) =>
  [...answers].filter(([, { status }]) => status === 200).map(([i]) => i);

t.test('news goes to a few of those who wait; the others are told to ask again within two seconds', async (t) => {
  const { clock, answers, ask, publish } = await routes(3, 12);
  await publish();
  t.equal(withBody(answers).length, 3);
  t.equal(answers.size, 3);
  await clock.advance(990);
  t.equal(answers.size, 3, 'gossip has a second');
  await clock.advance(1010);
  t.equal(answers.size, 12);
  t.equal(withBody(answers).length, 3);
  t.ok(new Set([...answers.values()].map(({ at }) => Math.round(at))).size > 5, 'not all at one moment');
  ask(100, 1);
  ask(101, 2);
  await clock.advance(10);
  t.match(answers.get(100), { status: 200, text: 'from 1 to 2' }, 'whom gossip did not reach has it now');
  t.notOk(answers.has(101), 'and whom it reached waits for the next');
});

t.test('who has reported the news goes on waiting, for its time, and is told the next from where it is', async (t) => {
  const { clock, answers, reports, publish } = await routes(1, 6);
  await publish();
  const [told] = withBody(answers);
  const [late, ...others] = [0, 1, 2, 3, 4, 5].filter((i) => i !== told) as [number, ...number[]];
  for (const i of others) reports.set(`h${i}`, 2);
  reports.set(`h${late}`, 1);
  await clock.advance(2000);
  t.match(answers.get(late), { status: 204 }, 'who has not asks again');
  t.equal(answers.size, 2);
  for (const i of others) reports.set(`h${i}`, 99);
  await publish();
  t.equal(answers.size, 3);
  t.match(
    [...answers.values()].at(-1),
    { status: 200, text: 'from 1 to 3' },
    'a report of what is not signed yet is none',
  );
  for (const i of others) reports.set(`h${i}`, 2);
  await publish();
  t.match([...answers.values()].at(-1), { status: 200, text: 'from 2 to 4' });
  for (const i of others) reports.set(`h${i}`, 4);
  await clock.advance(45_000);
  t.equal(answers.size, 4, 'the others wait');
  await clock.advance(5000);
  t.equal(answers.size, 6, 'as long as they asked for');
});

t.test('a small mesh has it all from the controller, at once', async (t) => {
  const { answers, publish } = await routes(8, 8);
  await publish();
  t.equal(withBody(answers).length, 8);
});

t.test('pushes close together: each goes to a few, and nobody waits longer for it', async (t) => {
  const { clock, answers, publish } = await routes(2, 8);
  await publish();
  await clock.advance(600);
  await publish();
  t.equal(withBody(answers).length, 4);
  await clock.advance(1400);
  t.equal(answers.size, 8, 'the first push sets the time');
});

t.test('one address that waits many times is told once before others are left out', async (t) => {
  const { answers, publish } = await routes(4, 34, (i) => (i < 30 ? '10.9.9.9' : `10.0.0.${i}`));
  await publish();
  const told = withBody(answers);
  t.equal(told.length, 4);
  t.ok(told.filter((i) => i < 30).length <= 1, `told: ${told}`);
});

t.test('closing answers everybody', async (t) => {
  const { answers, clock, server } = await routes(2, 5);
  await server.close();
  await clock.advance(10);
  t.equal(answers.size, 5);
});
