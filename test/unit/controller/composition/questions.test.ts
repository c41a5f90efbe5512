import t from 'tap';
import type { HostAnswer, HostQuery } from '../../../../api/http/host-query.ts';
import { createQuestions } from '../../../../controller/questions.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';

const QUERY: HostQuery = { ask: 'log' };
const ANSWER: HostAnswer = { host: 'a', generation: 1, at: 'now', levels: {} };

t.test('a question reaches the request that waits, the reply the one who asked', async (t) => {
  const questions = createQuestions(createFakeClock(), () => undefined);
  const waits = questions.next('a', 50_000);
  const asked = questions.ask('a', QUERY);
  const question = await waits;
  t.same(question?.query, QUERY);
  t.equal(questions.reply('b', question?.id ?? '', { answer: ANSWER }), false, 'another host cannot answer it');
  t.same([questions.waits('b', question?.id ?? ''), questions.waits('a', question?.id ?? '')], [false, true]);
  t.equal(questions.reply('a', question?.id ?? '', { answer: { ...ANSWER, host: 'b' } }), true);
  t.same(await asked, ANSWER, 'and cannot speak for another');
  t.equal(questions.reply('a', question?.id ?? '', { answer: ANSWER }), false, 'once');
});

t.test('between two requests of an agent a question waits; two at once are fetched one by one', async (t) => {
  const clock = createFakeClock();
  const questions = createQuestions(clock, () => undefined);
  t.equal(await questions.next('a', 0), undefined);
  const both = [questions.ask('a', QUERY), questions.ask('a', QUERY)];
  for (const id of [(await questions.next('a', 50_000))?.id, (await questions.next('a', 50_000))?.id])
    questions.reply('a', id ?? '', { answer: ANSWER });
  t.equal((await Promise.all(both)).length, 2);
});

t.test('a host that is off is said to be, at once; one that hangs after a while', async (t) => {
  const clock = createFakeClock();
  const questions = createQuestions(clock, () => clock.now() - 300_000);
  await t.rejects(questions.ask('a', QUERY), { code: 'HOST_SILENT', message: /not connected.*last heard 5m ago/ });
  const waits = questions.next('a', 50_000);
  const asked = questions.ask('a', QUERY);
  await waits;
  const failed = t.rejects(asked, { code: 'HOST_SILENT', message: /took the question and gave no answer/ });
  await clock.advance(15_000);
  await failed;
  await t.rejects(questions.ask('a', QUERY), { code: 'HOST_SILENT' }, 'it did not come back');
});

t.test('bounds: questions of a host, the wait, a newer request of the same host, the end', async (t) => {
  const clock = createFakeClock();
  const questions = createQuestions(clock, () => undefined);
  const first = questions.next('a', 50_000);
  const second = questions.next('a', 50_000);
  t.equal(await first, undefined, 'the newer one takes over');
  await clock.advance(50_000);
  t.equal(await second, undefined, 'nobody asked');
  const asked = Array.from({ length: 4 }, () => questions.ask('a', QUERY));
  const ends = Promise.allSettled(asked);
  await t.rejects(questions.ask('a', QUERY), { code: 'HOST_BUSY' });
  const { id } = (await questions.next('a', 0)) ?? { id: '' };
  questions.reply('a', id, { error: { code: 'ENVOY_ADMIN', message: 'Envoy is down' } });
  await t.rejects(asked[0] as Promise<unknown>, { code: 'HOST_FAILED', message: 'host a: Envoy is down' });
  questions.close();
  t.match((await ends).slice(1), [{ status: 'rejected' }, { status: 'rejected' }, { status: 'rejected' }]);
  t.equal(await questions.next('a', 50_000), undefined, 'nothing waits for a controller that stops');
});

t.test('a host that hangs up is off at once, and takes no question with it', async (t) => {
  const questions = createQuestions(createFakeClock(), () => undefined);
  const gone = new AbortController();
  const waits = questions.next('a', 50_000, gone.signal);
  gone.abort();
  t.equal(await waits, undefined);
  await t.rejects(questions.ask('a', QUERY), { code: 'HOST_SILENT', message: /not connected/ });
  const again = questions.next('a', 50_000, new AbortController().signal);
  const asked = questions.ask('a', QUERY);
  questions.reply('a', (await again)?.id ?? '', { answer: ANSWER });
  t.same(await asked, ANSWER);
});

t.test('a reply is what a host sent: anything', async (t) => {
  const questions = createQuestions(createFakeClock(), () => undefined);
  for (const body of [null, 7, [], {}, { answer: [] }, { error: 'x' }, { error: { message: 5 } }]) {
    const waits = questions.next('a', 50_000);
    const asked = questions.ask('a', QUERY);
    const { id } = (await waits) ?? { id: '' };
    const failed = t.rejects(asked, { code: 'HOST_FAILED', message: /cannot be read/ });
    questions.reply('a', id, body);
    await failed;
  }
});

t.test('a reply that is nested without end is the host’s failure, not the controller’s', async (t) => {
  const questions = createQuestions(createFakeClock(), () => undefined);
  for (const [depth, code] of [
    [200, undefined],
    [100_000, 'HOST_FAILED'],
  ] as const) {
    const waits = questions.next('a', 50_000);
    const asked = questions.ask('a', QUERY).then(
      () => undefined,
      (error: { code: string }) => error.code,
    );
    const rows: unknown = JSON.parse(`${'['.repeat(depth)}${']'.repeat(depth)}`);
    questions.reply('a', (await waits)?.id ?? '', { answer: { ...ANSWER, rows } });
    t.equal(await asked, code, `${depth} levels`);
  }
});
