import t from 'tap';
import {
  createDetector,
  DETECTOR_DEFAULTS,
  type Detector,
  type DetectorAction,
} from '../../../../agent/gossip/detector.ts';
import { seeded } from '../../../fakes/seeded.ts';

/**
 * Runs a detector until `until` (ms). `answers`: when a probe sent at `now` is answered, true for 1 ms later, false for never. Returns what the
 * detector did, with times.
 */
function run(
  detector: Detector,
  from: number,
  until: number,
  answers: (host: string, now: number) => number | boolean,
) {
  const done: (DetectorAction & { at: number })[] = [];
  const acks: { host: string; at: number }[] = [];
  let now = from;
  while (now < until) {
    const ack = acks.sort((a, b) => a.at - b.at)[0];
    now = Math.max(now, Math.min(until, detector.nextAt(), ack?.at ?? Infinity));
    if (ack !== undefined && ack.at <= now) {
      acks.shift();
      for (const a of detector.onAck(ack.host, now)) done.push({ ...a, at: now });
      continue;
    }
    for (const action of detector.tick(now)) {
      done.push({ ...action, at: now });
      if (action.type !== 'ping' && action.type !== 'ping-request') continue;
      const answer = answers(action.host, now);
      if (answer !== false) acks.push({ host: action.host, at: answer === true ? now + 1 : answer });
    }
    now += 0.01;
  }
  return done;
}

const version = { epoch: 1, counter: 1 };
const verdicts = (actions: (DetectorAction & { at: number })[]) =>
  actions.flatMap((a) => (a.type === 'verdict' ? [{ host: a.host, liveness: a.liveness, at: a.at }] : []));

function mesh(hosts: readonly string[], seed = 1) {
  const detector = createDetector(0, seeded(seed));
  for (const host of hosts) detector.onRecord(host, version, false, 0);
  return detector;
}

t.test('while all answer, nothing happens but probes', async (t) => {
  const hosts = Array.from({ length: 50 }, (_, i) => `h${i}`);
  const detector = mesh(hosts);
  const actions = run(detector, 0, 150_500, () => true);
  t.same(verdicts(actions), []);
  const pings = actions.filter((a) => a.type === 'ping' && a.at > 50_500);
  t.ok(pings.length >= 98 && pings.length <= 101, `one a period: ${pings.length} in 100 s`);
  const counts = hosts.map((h) => pings.filter((p) => p.type === 'ping' && p.host === h).length);
  t.ok(Math.min(...counts) >= 1 && Math.max(...counts) <= 3, 'everyone once before anyone twice');
});

t.test('a host that dies is suspect, then dead, by three own rounds', async (t) => {
  const detector = mesh(['h1', 'h2', 'h3']);
  run(detector, 0, 6000, () => true);
  detector.probeSoon('h2', 6000, 'its link went down');
  const actions = run(detector, 6000, 12_000, (host) => host !== 'h2');
  const seen = verdicts(actions);
  t.match(seen, [
    { host: 'h2', liveness: 'suspect' },
    { host: 'h2', liveness: 'dead' },
  ]);
  const dead = (seen[1]?.at ?? 0) - 6000;
  t.ok(dead > 2000, `a stall of 2 s is survived: ${dead} ms`);
  t.ok(dead < 2600, `known dead in time: ${dead} ms`);
  t.equal(actions.filter((a) => a.type === 'accuse').length, 1, 'told once');
  t.ok(
    actions.some((a) => a.type === 'ping-request' && a.host === 'h2' && a.via !== 'h2'),
    'others were asked',
  );
});

t.test('a frozen host is found in its turn', async (t) => {
  for (let seed = 1; seed <= 20; seed++) {
    const detector = mesh(['h1', 'h2'], seed);
    run(detector, 0, 7000, () => true);
    const [, dead] = verdicts(run(detector, 7000, 14_000, (host) => host !== 'h2'));
    t.ok(dead !== undefined && dead.at - 7000 < 4000, `seed ${seed}: ${dead && dead.at - 7000} ms`);
  }
});

t.test('a stall of two seconds kills nobody', async (t) => {
  const detector = mesh(['h1', 'h2', 'h3']);
  run(detector, 0, 6000, () => true);
  for (const h of ['h1', 'h2', 'h3']) detector.probeSoon(h, 6000, 'x');
  const actions = run(detector, 6000, 20_000, (_, now) => Math.max(8000, now + 1));
  t.notOk(verdicts(actions).some((v) => v.liveness === 'dead'));
  for (const h of ['h1', 'h2', 'h3']) t.equal(detector.liveness(h), 'alive');
});

t.test('whose turn comes as a stall begins has half a second more to come out of it', async (t) => {
  for (let seed = 1; seed <= 20; seed++) {
    const detector = mesh(['h1', 'h2', 'h3'], seed);
    run(detector, 0, 6000, () => true);
    const actions = run(detector, 6000, 12_000, (_, now) => Math.max(8700, now + 1));
    t.notOk(
      verdicts(actions).some((v) => v.liveness === 'dead'),
      `seed ${seed}`,
    );
  }
});

t.test('many silent at once get more time, a few do not', async (t) => {
  const hosts = Array.from({ length: 48 }, (_, i) => `h${i}`);
  const silence = (count: number) => {
    const detector = mesh(hosts);
    run(detector, 0, 6000, () => true);
    for (const host of hosts.slice(0, count)) detector.probeSoon(host, 6000, 'accused');
    const dead = verdicts(run(detector, 6000, 14_000, (host) => Number(host.slice(1)) >= count));
    return dead.filter((v) => v.liveness === 'dead').map((v) => v.at - 6000);
  };
  for (const [count, from, to] of [
    [4, 2000, 2600],
    [6, 2000, 2600],
    [7, 3700, 5300],
    [24, 3700, 5300],
  ] as const) {
    const took = silence(count);
    t.equal(took.length, count, `${count} of 48 are found`);
    t.ok(
      Math.min(...took) > from && Math.max(...took) < to,
      `${count} of 48: ${Math.min(...took)}-${Math.max(...took)} ms`,
    );
  }
});

t.test('own lag accuses nobody', async (t) => {
  const detector = mesh(['h1', 'h2']);
  run(detector, 0, 6500, () => true);
  detector.probeSoon('h1', 6500, 'x');
  t.ok(detector.tick(6501).some((a) => a.type === 'ping' && a.host === 'h1'));
  // This process is stopped for a minute; the answers wait in its socket while the first tick runs.
  const late = detector.tick(66_000);
  t.notOk(
    late.some((a) => a.type === 'verdict' || a.type === 'accuse'),
    JSON.stringify(late),
  );
  detector.onAck('h1', 66_010);
  t.same(verdicts(run(detector, 66_010, 70_000, () => true)), []);
  t.ok(detector.lagMs() >= 0);
});

t.test('a host that lags accuses nobody', async (t) => {
  for (const late of [0, 150]) {
    const detector = mesh(['h1', 'h2', 'h3']);
    run(detector, 0, 6000, () => true);
    detector.probeSoon('h1', 6000, 'x');
    const accused: DetectorAction[] = [];
    // each tick comes so much later than it was asked for
    for (let now = 6000; now < 20_000; now = Math.max(now + 1, detector.nextAt() + late)) {
      for (const action of detector.tick(now)) {
        if (action.type === 'accuse') accused.push(action);
        if (action.type === 'ping' && action.host !== 'h1') detector.onAck(action.host, now);
      }
    }
    t.equal(accused.length, late === 0 ? 1 : 0, `ticks ${late} ms late`);
    t.equal(detector.liveness('h1'), 'dead', 'it believes its own probes all the same');
  }
});

t.test('the dead come back by an answer, or by a newer record and an answer', async (t) => {
  const detector = mesh(['h1']);
  run(detector, 0, 6000, () => true);
  run(detector, 6000, 16_000, () => false);
  t.equal(detector.liveness('h1'), 'dead');
  const tried = run(detector, 16_000, 26_000, () => false);
  t.ok(tried.filter((a) => a.type === 'ping' && a.host === 'h1').length >= 4, 'a dead host is tried now and then');
  detector.onRecord('h1', { epoch: 1, counter: 2 }, false, 26_000);
  t.equal(detector.liveness('h1'), 'dead', 'a record alone raises nobody');
  const back = run(detector, 26_000, 26_100, () => true);
  t.match(verdicts(back), [{ host: 'h1', liveness: 'alive' }], 'probed at once');
});

t.test('a newer record gives a suspect its rounds back', async (t) => {
  const detector = mesh(['h1', 'h2']);
  run(detector, 0, 6000, () => true);
  detector.probeSoon('h1', 6000, 'x');
  run(detector, 6000, 7600, (h) => h !== 'h1');
  t.equal(detector.liveness('h1'), 'suspect');
  detector.onRecord('h1', { epoch: 1, counter: 2 }, false, 7600);
  run(detector, 7600, 9000, (h) => h !== 'h1');
  t.equal(detector.liveness('h1'), 'suspect', 'not dead at 2.3 s after the first probe');
});

t.test('records without end keep no silent host a suspect', async (t) => {
  const detector = mesh(['h1', 'h2']);
  run(detector, 0, 6000, () => true);
  detector.probeSoon('h1', 6000, 'x');
  let died: number | undefined;
  for (let now = 6500, counter = 2; now < 20_000 && died === undefined; now += 500) {
    detector.onRecord('h1', { epoch: 1, counter: counter++ }, false, now);
    died = verdicts(run(detector, now, now + 500, (h) => h !== 'h1')).find((v) => v.liveness === 'dead')?.at;
  }
  t.ok(died !== undefined && died < 6000 + 2 * 2600, `dead at ${died}`);
});

t.test('a host that never answered gets time to learn this boot’s key', async (t) => {
  const detector = mesh(['h1']);
  const seen = verdicts(run(detector, 0, 12_000, () => false));
  t.ok((seen[0]?.at ?? 0) >= DETECTOR_DEFAULTS.graceMs, `first verdict at ${seen[0]?.at}`);
  t.equal(detector.liveness('h1'), 'dead');
});

t.test('a host that never answered is pinged less and less, and others are asked only once', async (t) => {
  const detector = mesh(['h1', 'h2']);
  const actions = run(detector, 0, DETECTOR_DEFAULTS.graceMs, (h) => h !== 'h1');
  const count = (type: string) => actions.filter((a) => a.type === type && a.host === 'h1').length;
  t.ok(count('ping') <= 6, `${count('ping')} pings in the first five seconds`);
  t.equal(count('ping-request'), 1);
});

t.test('who left is left alone', async (t) => {
  const detector = mesh(['h1']);
  detector.onRecord('h1', { epoch: 1, counter: 2 }, true, 10);
  t.equal(run(detector, 10, 10_000, () => false).filter((a) => a.type === 'ping').length, 0);
  detector.onRecord('h1', { epoch: 1, counter: 3 }, false, 10_000);
  t.equal(detector.liveness('h1'), 'alive');
});

t.test('accusations only trigger own probes, and are rationed', async (t) => {
  const hosts = Array.from({ length: 10 }, (_, i) => `h${i}`);
  const detector = mesh(hosts);
  run(detector, 0, 6000, () => true);
  const accuse = (target: string, at: number, change = {}) =>
    detector.onAccusation({ accuser: 'liar', target, ...version, ...change }, at);
  t.equal(accuse('h1', 6000), 'probe');
  t.equal(accuse('h1', 6100), 'budget', 'the same again');
  t.equal(accuse('h2', 6100, { counter: 0 }), 'stale', 'an older incarnation');
  t.equal(accuse('nobody', 6100), 'stale');
  for (const h of ['h2', 'h3', 'h4']) t.equal(accuse(h, 6100), 'probe');
  t.equal(accuse('h5', 6100), 'budget', 'a liar that accuses everybody');
  t.equal(accuse('h5', 36_200), 'probe', 'later again');
  const actions = run(detector, 6100, 40_000, () => true);
  t.same(verdicts(actions), [], 'one liar removes nobody');
});

t.test('a mesh of liars and lost packets: a live host stays', async (t) => {
  const random = seeded(7);
  const detector = mesh(
    Array.from({ length: 20 }, (_, i) => `h${i}`),
    7,
  );
  const actions = run(detector, 0, 600_000, () => random() > 0.2);
  t.notOk(
    verdicts(actions).some((v) => v.liveness === 'dead'),
    'one packet in five is lost for ten minutes',
  );
});

t.test('a network that comes back is whole again in seconds, however many were dead', async (t) => {
  const hosts = Array.from({ length: 400 }, (_, i) => `h${i}`);
  const far = new Set(hosts.slice(200));
  const detector = mesh(hosts);
  run(detector, 0, 10_000, () => true);
  for (const host of far) detector.probeSoon(host, 10_000, 'the network was cut');
  const cut = run(detector, 10_000, 40_000, (host) => !far.has(host));
  t.equal(verdicts(cut).filter((v) => v.liveness === 'dead').length, far.size);
  const tried = cut.filter((a) => a.type === 'ping' && a.at > 20_000 && far.has(a.host)).length;
  t.ok(tried <= 11, `while none answers they are tried slowly: ${tried} in 20 s`);
  const back = verdicts(run(detector, 40_000, 50_000, () => true)).filter((v) => v.liveness === 'alive');
  t.equal(new Set(back.map((v) => v.host)).size, far.size);
  const last = Math.max(...back.map((v) => v.at)) - 40_000;
  t.ok(last < 4500, `the last one after ${last} ms`);
});

t.test('one of many dead hosts comes back: the others are tried once more, not without end', async (t) => {
  const hosts = Array.from({ length: 100 }, (_, i) => `h${i}`);
  const detector = mesh(hosts);
  run(detector, 0, 10_000, () => true);
  for (const host of hosts) detector.probeSoon(host, 10_000, 'x');
  run(detector, 10_000, 20_000, () => false);
  t.equal(detector.liveness('h7'), 'dead');
  detector.onAck('h7', 20_000);
  const pings = run(detector, 20_000, 60_000, (host) => host === 'h7').filter(
    (a) => a.type === 'ping' && a.host !== 'h7',
  );
  t.ok(pings.length >= 99 && pings.length <= 99 + 21, `${pings.length} probes of 99 dead hosts in 40 s`);
});

t.test('a table that comes in at once is not probed at once', async (t) => {
  const detector = mesh(Array.from({ length: 1000 }, (_, i) => `h${i}`));
  const first = run(detector, 0, 2500, () => true).filter((a) => a.type === 'ping');
  t.ok(first.length > 990, 'each is, in time');
  const worst = Math.max(
    ...Array.from({ length: 25 }, (_, i) => first.filter((a) => a.at >= i * 100 && a.at < i * 100 + 100).length),
  );
  t.ok(worst < 300, `at most ${worst} in 100 ms`);
});

t.test('a newcomer is probed in the running round, not only in the next', async (t) => {
  let soon = 0;
  for (let seed = 1; seed <= 20; seed++) {
    const detector = mesh(
      Array.from({ length: 200 }, (_, i) => `h${i}`),
      seed,
    );
    run(detector, 0, 20_000, () => true);
    detector.onRecord('late', version, false, 20_000);
    run(detector, 20_000, 22_000, () => true);
    const turns = run(detector, 22_000, 112_000, () => true).filter((a) => a.type === 'ping' && a.host === 'late');
    soon += turns.length;
  }
  t.ok(soon >= 4 && soon <= 16, `one in two within half a round: ${soon} of 20`);
});
