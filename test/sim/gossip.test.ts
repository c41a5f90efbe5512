/**
 * A hundred hosts' failure detectors under one injected clock and a seeded network: what accusations, loss, mass death and liars do. The
 * detector is the one that runs in the agent; datagrams and gossip are a queue of events.
 */
import t from 'tap';
import { createDetector, type Detector, type DetectorAction } from '../../agent/gossip/detector.ts';
import type { Accusation } from '../../api/gossip/accusation.ts';
import { seeded } from '../fakes/seeded.ts';

interface Event {
  readonly at: number;
  readonly run: (now: number) => void;
}

interface World {
  readonly detectors: Map<string, Detector>;
  /** When each observer decided that a host is dead. */
  readonly deaths: { observer: string; host: string; at: number }[];
  kill(host: string): void;
  /** Away, its datagrams waiting in the socket, until `until`. */
  stall(host: string, until: number): void;
  gossip(accusation: Accusation): void;
  run(until: number): void;
  readonly now: () => number;
  readonly counts: { pings: number; accusations: number };
}

const VERSION = { epoch: 1, counter: 1 };

function createWorld(size: number, seed: number, loss = 0): World {
  const random = seeded(seed);
  const queue: Event[] = [];
  const dead = new Set<string>();
  const stalls = new Map<string, number>();
  const detectors = new Map<string, Detector>();
  const deaths: World['deaths'] = [];
  const counts = { pings: 0, accusations: 0 };
  let now = 0;
  const at = (time: number, run: Event['run']) => queue.push({ at: time, run });
  const awakeAt = (host: string, time: number) => Math.max(time, stalls.get(host) ?? 0);
  const hop = () => 1 + random() * 4;
  const lost = () => random() < loss;

  /** A probe of `target`, by `prober` or through `via`; the answer reaches the prober unless something on the way is gone. */
  const probe = (prober: string, target: string, via?: string) => {
    counts.pings += 1;
    const path = via === undefined ? [target] : [via, target];
    let arrives = now + hop();
    for (const host of path) {
      if (dead.has(host) || lost()) return;
      arrives = awakeAt(host, arrives) + hop();
    }
    for (const _ of path) if (lost()) return;
    at(awakeAt(prober, arrives + hop()), (time) => perform(prober, detectors.get(prober)?.onAck(target, time) ?? []));
  };
  const gossip = (accusation: Accusation) => {
    counts.accusations += 1;
    for (const [host, detector] of detectors) {
      if (host === accusation.accuser || host === accusation.target || dead.has(host)) continue;
      at(awakeAt(host, now + 30 + random() * 120), (time) => void detector.onAccusation(accusation, time));
    }
  };
  const perform = (host: string, actions: readonly DetectorAction[]) => {
    for (const action of actions) {
      if (action.type === 'ping') probe(host, action.host);
      else if (action.type === 'ping-request') probe(host, action.host, action.via);
      else if (action.type === 'accuse') gossip({ accuser: host, target: action.host, ...VERSION });
      else if (action.liveness === 'dead') deaths.push({ observer: host, host: action.host, at: now });
    }
  };
  const hosts = Array.from({ length: size }, (_, i) => `h${i}`);
  for (const host of hosts) {
    const detector = createDetector(0, random);
    detectors.set(host, detector);
    for (const other of hosts) if (other !== host) detector.onRecord(other, VERSION, false, random() * 1000);
  }
  return {
    detectors,
    deaths,
    counts,
    now: () => now,
    kill: (host) => void dead.add(host),
    stall: (host, until) => void stalls.set(host, until),
    gossip,
    run(until) {
      // Steps of 10 ms: events in order, then every detector whose time has come.
      for (; now < until; now += 10) {
        const due = queue.filter((e) => e.at <= now).sort((a, b) => a.at - b.at);
        if (due.length > 0) queue.splice(0, queue.length, ...queue.filter((e) => e.at > now));
        for (const event of due) event.run(now);
        for (const [host, detector] of detectors) {
          if (dead.has(host) || awakeAt(host, now) > now || detector.nextAt() > now) continue;
          perform(host, detector.tick(now));
        }
      }
    },
  };
}

const N = 60;

t.test('a frozen host is out of every table in time, nobody else is', async (t) => {
  for (const seed of [1, 2, 3]) {
    const world = createWorld(N, seed);
    world.run(8000);
    world.kill('h7');
    world.run(14_000);
    t.same(new Set(world.deaths.map((d) => d.host)), new Set(['h7']), `seed ${seed}`);
    t.equal(new Set(world.deaths.map((d) => d.observer)).size, N - 1, 'known to all');
    const last = Math.max(...world.deaths.map((d) => d.at)) - 8000;
    const first = Math.min(...world.deaths.map((d) => d.at)) - 8000;
    t.ok(
      first < 6500 && last - first < 1300,
      `seed ${seed}: the first knew after ${first} ms, the last after ${last} ms`,
    );
    t.ok(world.counts.accusations < 10, 'told once or twice, not by everybody');
  }
});

t.test('one datagram in twenty lost, for two minutes: no false death', async (t) => {
  const world = createWorld(N, 4, 0.05);
  world.run(120_000);
  t.same(world.deaths, []);
  t.comment(
    `${(world.counts.pings / N / 120).toFixed(2)} probes a host and second, ${world.counts.accusations} accusations`,
  );
});

t.test('half the hosts stall for two seconds: no false death', async (t) => {
  const world = createWorld(N, 5);
  world.run(8000);
  for (let i = 0; i < N / 2; i++) world.stall(`h${i}`, 10_000);
  world.run(20_000);
  t.same(world.deaths, []);
});

t.test('a tenth killed at once', async (t) => {
  const world = createWorld(N, 6);
  world.run(8000);
  const killed = Array.from({ length: N / 10 }, (_, i) => `h${i * 10}`);
  for (const host of killed) world.kill(host);
  world.run(18_000);
  t.same(new Set(world.deaths.map((d) => d.host)), new Set(killed), 'these and no others');
  t.equal(world.deaths.length, killed.length * (N - killed.length), 'known to all');
  t.comment(
    `${world.counts.accusations} accusations; the last knew after ${Math.max(...world.deaths.map((d) => d.at)) - 8000} ms`,
  );
});

t.test('three liars accuse everybody without end: nobody dies', async (t) => {
  const world = createWorld(N, 7, 0.02);
  world.run(8000);
  for (let second = 0; second < 60; second++) {
    for (const accuser of ['h0', 'h1', 'h2'])
      for (let i = 3; i < N; i += 7) world.gossip({ accuser, target: `h${i}`, ...VERSION });
    world.run(8000 + (second + 1) * 1000);
  }
  t.same(world.deaths, []);
});
