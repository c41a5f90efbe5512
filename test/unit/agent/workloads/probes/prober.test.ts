import { Registry } from 'prom-client';
import { test } from 'tap';
import type { PortOwnership } from '../../../../../agent/host/sockets.ts';
import { type ProbeSpec, probePlan } from '../../../../../agent/workloads/probes/plan.ts';
import { createProber } from '../../../../../agent/workloads/probes/prober.ts';
import type { Outcome } from '../../../../../agent/workloads/probes/verdict.ts';
import { createLogger } from '../../../../../runtime/log.ts';
import { createFakeClock } from '../../../../fakes/fake-clock.ts';

const GROUP = 'default/web';
const OK: Outcome = { ok: true };
const BAD: Outcome = { ok: false, why: 'HTTP status 503' };
const OWNED: PortOwnership = { state: 'owned' };

function plan(more: ProbeSpec = {}) {
  return probePlan({ httpGet: { port: 8080, path: 'healthz' }, periodSeconds: 5, ...more });
}

/** A prober over a server that answers `answers` in turn, then the last of them for ever; `hang`: it does not answer. */
function setUp(options: { answers?: (Outcome | 'hang')[]; known?: Map<string, boolean>; owned?: PortOwnership } = {}) {
  const clock = createFakeClock();
  const answers = options.answers ?? [OK];
  const looks: { at: number; address: string }[] = [];
  const turns: string[] = [];
  const saved: string[] = [];
  const state = {
    owned: 'owned' in options ? options.owned : OWNED,
    aborted: 0,
    probed: { port: 8080, loopback: false },
    address: '10.0.0.2' as string | undefined,
  };
  const registry = new Registry();
  const prober = createProber({
    look(_call, address, signal) {
      looks.push({ at: clock.monotonic(), address });
      const answer = (answers.length > 1 ? answers.shift() : answers[0]) as Outcome | 'hang';
      if (answer !== 'hang') return Promise.resolve(answer);
      signal.addEventListener('abort', () => state.aborted++);
      return new Promise(() => {});
    },
    ownership: () => (state.owned === undefined ? undefined : { ...state.owned, probed: state.probed }),
    address: () => state.address,
    known: options.known ?? new Map(),
    save: async (known) => void saved.push(JSON.stringify([...known])),
    clock,
    log: createLogger({ program: 'test', level: 'error' }),
    registry,
  });
  prober.onChange(() => turns.push(`${clock.monotonic()} ${prober.health(GROUP)}`));
  const start = async (which = plan()) => {
    prober.watch([{ group: GROUP, plan: which }]);
    await prober.start(new AbortController().signal);
    await clock.advance(0);
  };
  return { clock, prober, looks, turns, saved, state, start, registry };
}

test('defaults are Kubernetes’, 0 means them, paths get their slash', async (t) => {
  t.strictSame(probePlan({ httpGet: { port: 80 }, periodSeconds: 0, timeoutSeconds: 0 }), {
    call: { kind: 'http', port: 80, tls: false, path: '/', headers: [] },
    initialDelayMs: 0,
    periodMs: 10_000,
    timeoutMs: 1000,
    successThreshold: 1,
    failureThreshold: 3,
  });
  t.match(plan(), { call: { path: '/healthz' } });
  t.match(probePlan({ tcpSocket: { port: 1, host: 'localhost' } }), { call: { loopback: '127.0.0.1' } });
  t.match(probePlan({ tcpSocket: { port: 1, host: '::1' } }), { call: { loopback: '::1' } });
  t.match(probePlan({ exec: { command: ['/c', '-f'] }, timeoutSeconds: 0 }), {
    call: { kind: 'exec', command: ['/c', '-f'], timeoutSeconds: 1 },
    timeoutMs: 1000,
  });
  t.equal(probePlan(undefined), undefined);
  t.equal(probePlan({ periodSeconds: 3 }), undefined, 'without a call there is nothing to do');
});

test('unhealthy until the first success, after the initial delay; then looked at each period', async (t) => {
  const { clock, prober, looks, turns, start } = setUp();
  await start(plan({ initialDelaySeconds: 2 }));
  t.equal(prober.health(GROUP), 'unhealthy');
  t.strictSame(prober.problems(), ['default/web: not probed yet']);
  await clock.advance(1999);
  t.equal(looks.length, 0);
  await clock.advance(1);
  t.equal(prober.health(GROUP), 'healthy');
  t.strictSame(prober.problems(), []);
  await clock.advance(10_000);
  t.strictSame(
    looks.map(({ at }) => at),
    [2000, 7000, 12_000],
  );
  t.strictSame(turns, ['2000 healthy'], 'told once');
  await prober.stop();
  await clock.advance(60_000);
  t.equal(looks.length, 3, 'a stopped prober looks no more');
});

test('thresholds count in a row', async (t) => {
  const answers = [OK, BAD, BAD, OK, BAD, BAD, BAD, OK, OK];
  const { clock, prober, turns, start } = setUp({ answers });
  await start(plan({ successThreshold: 2, failureThreshold: 3 }));
  t.match(prober.problems(), ['default/web: probe failing: '].slice(1));
  await clock.advance(45_000);
  // ok bad bad ok bad bad bad ok ok: two good ones in a row come last only
  t.strictSame(turns, ['40000 healthy']);
  const second = setUp({ answers: [OK, BAD, BAD, OK, BAD, BAD, BAD, OK] });
  await second.start();
  await second.clock.advance(35_000);
  t.strictSame(second.turns, ['0 healthy', '30000 unhealthy', '35000 healthy']);
});

test('status says what fails, where, and how often', async (t) => {
  const { clock, prober, start, registry } = setUp({ answers: [BAD] });
  await start();
  await clock.advance(5000);
  t.strictSame(prober.problems(), [
    'default/web: probe failing: GET http://10.0.0.2:8080/healthz: HTTP status 503 (2 in a row)',
  ]);
  const metrics = await registry.metrics();
  t.match(metrics, /mesh_agent_probes_total\{group="default\/web",result="failure"\} 2/);
  t.match(metrics, /mesh_agent_probe_healthy\{group="default\/web"\} 0/);
});

test('no answer in time is a failure, and ends the look', async (t) => {
  const { clock, prober, state, start } = setUp({ answers: ['hang', OK] });
  await start(plan({ timeoutSeconds: 2 }));
  await clock.advance(1999);
  t.equal(state.aborted, 0);
  await clock.advance(1);
  t.equal(state.aborted, 1);
  t.match(prober.problems()[0], /no answer within 2 s/);
  await clock.advance(3000);
  t.equal(prober.health(GROUP), 'healthy', 'the next look comes a period after the last one began');
});

test('a timeout longer than the period: never two looks at once', async (t) => {
  const { clock, looks, start } = setUp({ answers: ['hang'] });
  await start(plan({ timeoutSeconds: 7 }));
  await clock.advance(21_000);
  t.strictSame(
    looks.map(({ at }) => at),
    [0, 7000, 14_000, 21_000],
  );
});

test('nothing is connected to but a port that the workload holds', async (t) => {
  const foreign: PortOwnership = { state: 'foreign', uid: 0, reason: 'port 8080 is listened on by uid 0' };
  const { clock, prober, looks, state, start } = setUp({ owned: foreign });
  await start();
  await clock.advance(20_000);
  t.equal(looks.length, 0);
  t.match(prober.problems()[0], /probe failing: port 8080 is listened on by uid 0 \(5 in a row\)/);
  state.owned = OWNED;
  state.address = undefined;
  await clock.advance(5000);
  t.match(prober.problems()[0], /the host has no address/);
  state.address = '10.0.0.9';
  await clock.advance(5000);
  t.strictSame(looks, [{ at: 30_000, address: '10.0.0.9' }]);
});

test('a new agent goes on from what the one before knew, without a flap', async (t) => {
  for (const [known, answers, turns] of [
    [true, [OK], []],
    [true, [BAD, OK], []],
    [true, [BAD], ['10000 unhealthy']],
    [false, [OK], ['0 healthy']],
  ] as const) {
    const set = setUp({ known: new Map([[GROUP, known]]), answers: [...answers] });
    set.prober.watch([{ group: GROUP, plan: plan({ initialDelaySeconds: 60 }) }]);
    t.equal(set.prober.health(GROUP), known ? 'healthy' : 'unhealthy', 'before anything was looked at');
    await set.prober.start(new AbortController().signal);
    await set.clock.advance(20_000);
    t.strictSame(set.turns, turns);
    t.equal(set.saved.length, turns.length, 'written when it turns');
  }
});

test('while nobody has looked at its port yet nothing counts against a healthy workload', async (t) => {
  const { clock, prober, state, start } = setUp({ known: new Map([[GROUP, true]]), owned: undefined as never });
  await start(plan({ failureThreshold: 1 }));
  await clock.advance(1000);
  t.equal(prober.health(GROUP), 'healthy');
  state.owned = { state: 'absent', reason: 'nothing listens on port 8080' };
  await clock.advance(200);
  t.equal(prober.health(GROUP), 'unhealthy');
});

test('an edited probe is looked by at once, and takes nothing out by itself; one that goes leaves its workload healthy', async (t) => {
  const { clock, prober, looks, turns, start } = setUp({ answers: [OK] });
  await start();
  await clock.advance(1000);
  prober.watch([{ group: GROUP, plan: plan({ periodSeconds: 50 }) }]);
  t.equal(prober.health(GROUP), 'healthy');
  await clock.advance(1000);
  t.strictSame(
    looks.map(({ at }) => at),
    [0, 1000],
  );
  prober.watch([{ group: GROUP, plan: undefined }]);
  await clock.advance(100_000);
  t.equal(looks.length, 2);
  t.equal(prober.health(GROUP), 'healthy');
  prober.watch([{ group: GROUP, plan: plan() }]);
  t.equal(prober.health(GROUP), 'healthy', 'what served without a probe goes on serving until one fails');
  prober.watch([]);
  t.strictSame(turns, ['0 healthy']);
});

test('a probe that was edited looks at nothing until it is known who holds its new port', async (t) => {
  const { clock, prober, looks, state, start } = setUp();
  await start();
  t.equal(looks.length, 1);
  for (const httpGet of [{ port: 22 }, { port: 8080, host: 'localhost' }]) {
    prober.watch([{ group: GROUP, plan: plan({ httpGet }) }]);
    await clock.advance(1000);
    t.equal(looks.length, 1, 'the workload’s old port says nothing');
  }
  state.probed = { port: 8080, loopback: true };
  await clock.advance(1000);
  t.match(looks.slice(1), [{ address: '127.0.0.1' }]);
});

test('a command needs no port and no address; status says which failed', async (t) => {
  const { clock, prober, looks, state, turns, start } = setUp({
    answers: [OK, { ok: false, why: 'exit status 1' }],
    owned: { state: 'absent', reason: 'nothing listens' },
  });
  state.address = undefined;
  const exec = probePlan({ exec: { command: ['/usr/local/bin/check', 'a b'] }, periodSeconds: 1, failureThreshold: 2 });
  await start(exec);
  t.equal(prober.health(GROUP), 'healthy');
  await clock.advance(2000);
  t.strictSame(turns, ['0 healthy', '2000 unhealthy']);
  t.equal(looks.length, 3);
  t.strictSame(prober.problems(), [
    'default/web: probe failing: exec ["/usr/local/bin/check", "a b"]: exit status 1 (2 in a row)',
  ]);
});
