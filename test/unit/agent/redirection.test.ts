import tap from 'tap';
import type { RedirectClient } from '../../../agent/redirect/client.ts';
import type { RedirectResult } from '../../../agent/redirect/result.ts';
import { createRedirection } from '../../../agent/redirection.ts';
import { MeshError } from '../../../api/errors.ts';
import { silentLogger } from '../../../runtime/log.ts';
import { createFakeClock } from '../../fakes/fake-clock.ts';

type Spec = Parameters<RedirectClient['apply']>[0];

const spec = (port: number): Spec => ({
  families: ['v4', 'v6'],
  proxyUid: 1,
  inboundPort: port,
  inboundPorts: [],
  workloads: [],
  dns: true,
  vipRanges: [],
  excludeCidrs: [],
  excludePorts: [],
  loopbackAllowUids: [],
});
const answer = (over: Partial<RedirectResult> = {}): RedirectResult => ({
  version: 1,
  requestId: 'r',
  specHash: 'h',
  status: 'applied',
  changed: true,
  families: ['v4'],
  uncaptured: [],
  rootSockets: [],
  warnings: [],
  durationMs: 1,
  ...over,
});
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A redirection over a oneshot that answers when told to. */
function setUp(left?: { spec: Spec; result: RedirectResult }) {
  const clock = createFakeClock();
  const asked: { port: number; answer: (result: RedirectResult | MeshError) => void }[] = [];
  const confirmed: string[] = [];
  const results: RedirectResult[] = [];
  const abort = new AbortController();
  const redirection = createRedirection({
    client: {
      apply: (wanted) =>
        new Promise((resolve, reject) => {
          asked.push({
            port: wanted.inboundPort,
            answer: (result) => (result instanceof MeshError ? reject(result) : resolve(result)),
          });
        }),
      confirm: async (id) => void confirmed.push(id),
    },
    left,
    clock,
    log: silentLogger,
    signal: abort.signal,
    onResult: (result) => void results.push(result),
  });
  const reply = async (result: RedirectResult | MeshError) => {
    asked.at(-1)?.answer(result);
    await turn();
  };
  return { clock, asked, confirmed, results, abort, redirection, reply };
}

tap.test('one request at a time, the latest next, the same never twice', async (t) => {
  const { redirection, asked, reply, results } = setUp();
  redirection.want(spec(1));
  redirection.want(spec(2));
  redirection.want(spec(3));
  t.strictSame(
    asked.map((a) => a.port),
    [1],
  );
  await reply(answer());
  t.strictSame(
    asked.map((a) => a.port),
    [1, 3],
    'the one in between was overtaken',
  );
  await reply(answer({ changed: false }));
  redirection.want(spec(3));
  t.equal(asked.length, 2, 'it stands already');
  redirection.again();
  t.equal(asked.length, 3, 'unless it is asked for once more');
  await reply(answer());
  t.equal(results.length, 3);
  t.strictSame(redirection.problems(), []);
  t.match(await redirection.firstApplied(), { status: 'applied' });
});

tap.test('a revert timer is disarmed', async (t) => {
  const { redirection, reply, confirmed } = setUp();
  redirection.want(spec(1));
  await reply(answer({ revert: { id: 'x7', deadline: 1 } }));
  t.strictSame(confirmed, ['x7']);
});

tap.test('what fails is said and tried again later', async (t) => {
  for (const failure of [
    answer({ status: 'refused', error: { code: 'REDIRECT_DENIED', message: 'uid 7 is no user of agent.yaml' } }),
    new MeshError('REDIRECT_TIMEOUT', 'no answer from mesh-redirect'),
  ]) {
    const { redirection, asked, reply, clock, results } = setUp();
    redirection.want(spec(1));
    await reply(failure);
    t.match(redirection.problems(), [failure instanceof MeshError ? /no answer/ : /refused: uid 7/]);
    t.equal(asked.length, 1, 'not at once');
    t.equal(results.length, 0);
    await clock.advance(5000);
    t.equal(asked.length, 2);
    await reply(answer());
    t.strictSame(redirection.problems(), []);
  }
});

tap.test('after the end nothing is asked', async (t) => {
  const { redirection, asked, reply, clock, abort } = setUp();
  redirection.want(spec(1));
  await reply(new MeshError('REDIRECT_TIMEOUT', 'no answer'));
  abort.abort();
  await clock.advance(60_000);
  redirection.want(spec(2));
  t.equal(asked.length, 1);
});

tap.test('rules that stand since before are good at once, and asked for all the same', async (t) => {
  const left = { spec: spec(1), result: answer({ requestId: 'before' }) };
  const same = setUp(left);
  same.redirection.want(spec(1));
  t.equal((await same.redirection.firstApplied()).requestId, 'before');
  t.equal(same.asked.length, 1);

  const other = setUp(left);
  let first: RedirectResult | undefined;
  void other.redirection.firstApplied().then((result) => {
    first = result;
  });
  other.redirection.want(spec(2));
  await turn();
  t.equal(first, undefined, 'other rules are not');
  other.redirection.want(spec(1));
  await turn();
  t.equal(first, undefined, 'nor the same ones after others were asked for');
});
