/**
 * A mesh of thousands of hosts in one process, under a seeded clock and network. Real: detector, overlay and linker, endpoint table, intake,
 * topic judge with its budgets, anti-entropy (sync.ts, sync-service.ts), record and accusation codecs. Modelled: gossipsub (pubsub.ts), links
 * and streams (links.ts), datagrams and the prober's book of them (here), CPU time of messages. Left out: cryptography, config, certificates.
 */
import type { VerifiedRecord } from '../../agent/gossip/trust.ts';
import type { Liveness } from '../../api/gossip/host-record.ts';
import type { HostGrant } from '../../api/signed-config/desired-config.ts';
import type { Clock } from '../../runtime/clock.ts';
import { seeded } from '../fakes/seeded.ts';
import { createSimHost, type HostCounts, type SimHost } from './host.ts';
import { createLinks, type Links } from './links.ts';
import { createPubsub, type Pubsub } from './pubsub.ts';
import { createRecords } from './records.ts';
import { createSchedule } from './schedule.ts';
import { createWire, DATAGRAM_BYTES, type Wire } from './wire.ts';

/** Messages of the schedule that are datagrams: an answer, or the n-th proof of an address (PROOF - n). */
const ANSWER = -1;
const ANSWER_BY_RELAY = -2;
const PROOF = -10;
const POLL_MS = 10;
const PROOF_RETRY_MS = 300;
const MAX_PROOF_RETRY_MS = 30_000;
/** probes.ts: 50 proofs at once, prober and gossip.ts: 10 ms later again. */
const PROOF_SPACING_MS = 0.2;
const FIRST_WALL_MS = Date.parse('2026-11-25T00:00:00Z');

export interface Deaths {
  /** Observers that take the host for dead now. */
  observers: number;
  first: number;
  last: number;
}

export interface Change {
  readonly bornAt: number;
  /** Milliseconds until each other host had it. */
  readonly arrivals: number[];
}

export interface MeshSim {
  readonly size: number;
  readonly now: number;
  readonly wire: Wire;
  readonly links: Links;
  readonly pubsub: Pubsub;
  readonly counts: HostCounts & { falseDeaths: number; falseSuspects: number };
  host(number: number): SimHost;
  /** Starts the hosts one after the other, evenly within `withinMs`. */
  start(withinMs: number): void;
  /** Starts all hosts with full tables, proven and answered, as if they had run for long; their links are still to come. */
  startWarm(): void;
  run(ms: number): Promise<void>;
  /** Runs until `done`, asked each 50 ms; resolves with the time it took, rejects after `withinMs`. */
  until(done: () => boolean, withinMs: number, what: string): Promise<number>;
  /** All hosts that are up hold a record of all and believe all that are up alive, at an address that answered. */
  isWhole(): boolean;
  /** How many pairs are short of that: of records, of proofs, of liveness. */
  missing(): { records: number; proofs: number; alive: number };
  publish(host: number): Change;
  stop(hosts: readonly number[], how: 'killed' | 'frozen'): void;
  stall(hosts: readonly number[], ms: number): void;
  /** Nothing passes between the hosts below `boundary` and the others; undefined heals. */
  cut(boundary: number | undefined): void;
  deaths(host: number): Deaths | undefined;
  /** True when every host that is up takes these for dead. */
  knownDead(hosts: readonly number[]): boolean;
  degrees(): { mean: number; least: number; most: number };
}

/** `boundedPull` false: gossipsub as it is without agent/gossip/lazy-pull.ts. */
export function createMeshSim(size: number, seed: number, options: { boundedPull?: boolean } = {}): MeshSim {
  const random = seeded(seed);
  const names = Array.from({ length: size }, (_, n) => `h${n}`);
  const numbers = new Map(names.map((name, n) => [name, n]));
  const hosts: (SimHost | undefined)[] = names.map(() => undefined);
  const schedule = createSchedule((a, b, c) => {
    if (a >= 0) pubsub.arrive(a, b, c);
    else if (a > PROOF) onAnswer(b, c, a === ANSWER_BY_RELAY);
    else prove(b, c, PROOF - a);
  });
  const clock: Clock = {
    now: () => FIRST_WALL_MS + schedule.now,
    monotonic: () => schedule.now,
    after(ms, fn) {
      schedule.at(schedule.now + ms, fn);
      return () => {};
    },
  };
  const wire = createWire(size, schedule, random);
  const records = createRecords(names, new Map<string, HostGrant>());
  const counts = {
    accusations: 0,
    refutations: 0,
    synced: 0,
    syncFailed: 0,
    compared: 0,
    falseDeaths: 0,
    falseSuspects: 0,
  };
  const state = {
    known: new Uint32Array(size),
    proven: new Uint32Array(size),
    /** Members that a host does not believe alive though they are up. */
    doubted: new Uint32Array(size),
    nextProofAt: new Float64Array(size),
    deaths: new Map<string, Deaths>(),
    changes: new Map<VerifiedRecord['record'], Change>(),
  };
  const ticks: number[][] = Array.from({ length: 1000 }, () => []);
  const beats: number[][] = Array.from({ length: 1000 }, () => []);
  const isUp = (host: number) => wire.state(host) === 'up';

  const links = createLinks({
    names,
    schedule,
    wire,
    onLink(host, peer, up) {
      hosts[host]?.linker.onLink(names[peer] as string, up);
      if (up) return;
      pubsub.unlink(host, peer);
      hosts[host]?.detector.probeSoon(names[peer] as string, schedule.now, 'its link went down');
    },
    onCrossed: (host, peer) => hosts[host]?.linker.onCrossed(names[peer] as string),
    answer: (host, peer, channel) => (hosts[host] as SimHost).answer(peer, channel),
  });
  const pubsub = createPubsub({
    size,
    schedule,
    wire,
    links,
    random,
    bounded: options.boundedPull ?? true,
    validate: (host, topic, data, from) => hosts[host]?.validate(topic, data, from) ?? 'ignore',
  });

  /** One datagram on its way; true when it is taken in at the other end. */
  const passes = (from: number, to: number): boolean => {
    wire.sent(from, 'probes', DATAGRAM_BYTES);
    return isUp(to) && wire.reaches(from, to) && !wire.lost() && wire.takes(to);
  };
  /** A stranger's datagram is dropped: whom it does not know a host does not answer. */
  const knows = (host: number, other: number) => hosts[host]?.table.get(names[other] as string) !== undefined;
  /** A probe, directly or through another; what becomes of it is known when it is sent, only the answer takes its time. False: none comes. */
  const probe = (from: number, target: number, via?: number): boolean => {
    const path = via === undefined ? [from, target] : [from, via, target];
    let at = schedule.now;
    for (let i = 1; i < path.length; i++) {
      const [near, far] = [path[i - 1] as number, path[i] as number];
      if (!passes(near, far) || !knows(far, near)) return false;
      at = wire.awakeAt(far, at + wire.hop());
    }
    if (via !== undefined && !knows(target, from)) return false;
    const far = hosts[target];
    if (far?.detector.liveness(names[from] as string) === 'dead' && via === undefined)
      schedule.at(at, () => far.detector.probeSoon(names[from] as string, schedule.now, 'it probes this host'));
    for (let i = path.length - 1; i > 0; i--) {
      if (!passes(path[i] as number, path[i - 1] as number)) return false;
      at = wire.awakeAt(path[i - 1] as number, at + wire.hop());
    }
    schedule.message(at, via === undefined ? ANSWER : ANSWER_BY_RELAY, from, target);
    return true;
  };
  const onAnswer = (from: number, target: number, byRelay: boolean) => {
    const host = hosts[from];
    if (host === undefined || !isUp(from)) return;
    const name = names[target] as string;
    if (!byRelay && host.table.prove(name, (hosts[target] as SimHost).address)) state.proven[from]! += 1;
    host.perform(host.detector.onAck(name, schedule.now));
  };
  /** Asks an address for its key, again and again later, until it has answered. */
  const prove = (from: number, target: number, tries: number) => {
    const row = hosts[from]?.table.get(names[target] as string);
    if (row === undefined || !isUp(from) || row.proven.length > 0 || row.liveness === 'dead' || row.liveness === 'left')
      return;
    if (probe(from, target)) return;
    const wait = Math.min(MAX_PROOF_RETRY_MS, PROOF_RETRY_MS * 2 ** tries);
    schedule.message(schedule.now + wait, PROOF - Math.min(tries + 1, 20), from, target);
  };

  const onMerged = (observer: number, { record }: VerifiedRecord, isNew: boolean) => {
    state.changes.get(record)?.arrivals.push(schedule.now - (state.changes.get(record) as Change).bornAt);
    if (!isNew) return;
    state.known[observer]! += 1;
    const at = Math.max(schedule.now + POLL_MS, state.nextProofAt[observer] as number);
    state.nextProofAt[observer] = at + PROOF_SPACING_MS;
    schedule.message(at, PROOF, observer, numbers.get(record.host) as number);
  };
  const onVerdict = (observer: number, target: string, before: Liveness, after: Liveness) => {
    const number = numbers.get(target) as number;
    const mistaken = isUp(number) && wire.reaches(observer, number);
    if (mistaken && after === 'dead') counts.falseDeaths += 1;
    if (mistaken && after === 'suspect') counts.falseSuspects += 1;
    if (before === 'alive') state.doubted[observer]! += 1;
    if (after === 'alive') state.doubted[observer]! -= 1;
    const deaths = state.deaths.get(target) ?? { observers: 0, first: schedule.now, last: 0 };
    if (after === 'dead') {
      deaths.observers += 1;
      deaths.last = schedule.now;
      state.deaths.set(target, deaths);
    } else if (before === 'dead') {
      deaths.observers -= 1;
      if (deaths.observers === 0) state.deaths.delete(target);
    }
  };
  const boot = (number: number): SimHost => {
    wire.set(number, 'up');
    const host = createSimHost({
      number,
      names,
      address: `10.${number >> 16}.${(number >> 8) & 255}.${number & 255}`,
      clock,
      random,
      records,
      links,
      pubsub,
      probe: (target, via) =>
        void probe(number, numbers.get(target) as number, via === undefined ? undefined : numbers.get(via)),
      onMerged: (verified, isNew) => onMerged(number, verified, isNew),
      onVerdict: (target, before, after) => onVerdict(number, target, before, after),
      counts,
    });
    hosts[number] = host;
    const phase = () => Math.floor(random() * 1000);
    ticks[phase()]?.push(number);
    beats[phase()]?.push(number);
    return host;
  };
  const startWarm = () => {
    const made = names.map((_, number) => {
      boot(number).publish();
      return (hosts[number] as SimHost).table.get(names[number] as string) as VerifiedRecord;
    });
    for (const [number, host] of hosts.entries())
      for (const row of made) {
        if (host === undefined || row.record.host === host.name) continue;
        host.table.restore(row, row.record.addresses);
        host.detector.onRecord(row.record.host, row.record, false, schedule.now);
        host.detector.onAck(row.record.host, schedule.now);
        state.known[number]! += 1;
        state.proven[number]! += 1;
      }
  };
  const works = (host: number) => isUp(host) && wire.awakeAt(host, schedule.now) <= schedule.now;
  const millisecond = () => {
    const phase = schedule.now % 1000;
    for (const host of ticks[phase] as number[]) if (works(host)) hosts[host]?.tick();
    for (const host of beats[phase] as number[]) if (works(host)) pubsub.heartbeat(host);
    if (schedule.now % POLL_MS === 0)
      for (const [number, host] of hosts.entries())
        if (host !== undefined && works(number) && host.detector.nextAt() <= schedule.now)
          host.perform(host.detector.tick(schedule.now));
    schedule.step();
  };
  /** Lets promises settle: sessions between frames, and records that are verified a few at a time. */
  const settle = async () => {
    for (let quiet = links.settled() ? 2 : 0; quiet < 2; quiet++) {
      const before = counts.compared;
      await new Promise((resolve) => setImmediate(resolve));
      if (!links.settled() || counts.compared !== before) quiet = -1;
    }
  };
  const run = async (ms: number) => {
    for (const end = schedule.now + ms; schedule.now < end; ) {
      millisecond();
      await settle();
    }
  };
  const up = () => names.flatMap((_, n) => (isUp(n) ? [n] : []));
  const missing = () => {
    const living = up();
    const sum = (values: Uint32Array) => living.reduce((total, n) => total + (values[n] as number), 0);
    // What is not up any more counts as known, proven and not to be doubted.
    const gone = size - living.length;
    const doubted = living.reduce((total, n) => total + Math.max(0, (state.doubted[n] as number) - gone), 0);
    const pairs = living.length * (size - 1);
    return { records: pairs - sum(state.known), proofs: pairs - sum(state.proven), alive: doubted };
  };
  const isWhole = () => {
    const { records: lacking, proofs, alive } = missing();
    return lacking + proofs + alive === 0;
  };

  return {
    size,
    wire,
    links,
    pubsub,
    counts,
    get now() {
      return schedule.now;
    },
    host: (number) => hosts[number] as SimHost,
    start(withinMs) {
      for (let n = 0; n < size; n++) schedule.at(schedule.now + (n * withinMs) / size, () => void boot(n).publish());
    },
    startWarm,
    run,
    async until(done, withinMs, what) {
      const begun = schedule.now;
      while (!done()) {
        if (schedule.now - begun >= withinMs)
          throw new Error(`${what}: not after ${withinMs} ms; short of it: ${JSON.stringify(missing())}`);
        await run(50);
      }
      return schedule.now - begun;
    },
    isWhole,
    missing,
    publish(host) {
      const { record } = (hosts[host] as SimHost).publish();
      const change = { bornAt: schedule.now, arrivals: [] };
      state.changes.set(record, change);
      return change;
    },
    stop(list, how) {
      for (const host of list) {
        wire.set(host, how);
        if (how === 'killed') links.killed(host);
      }
    },
    stall(list, ms) {
      for (const host of list) wire.stall(host, schedule.now + ms);
    },
    cut(boundary) {
      for (let n = 0; n < size; n++) wire.group(n, boundary !== undefined && n >= boundary ? 1 : 0);
    },
    deaths: (host) => state.deaths.get(names[host] as string),
    knownDead(list) {
      const living = up().length;
      return list.every((host) => (state.deaths.get(names[host] as string)?.observers ?? 0) >= living);
    },
    degrees() {
      const degrees = up().map((n) => links.of(n).size);
      const mean = degrees.reduce((a, b) => a + b, 0) / degrees.length;
      return { mean: Math.round(mean * 10) / 10, least: Math.min(...degrees), most: Math.max(...degrees) };
    },
  };
}
