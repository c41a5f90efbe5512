/**
 * The failure detector (SWIM, DESIGN 6): decides whom to probe, when a probe has failed, who is suspect, dead, alive again. In: ticks, acks,
 * records, accusations, each with the time. Out: actions. Pure: no IO, no clock, no timers. An accusation only makes this host probe for
 * itself; a host is dead only by this host's own failed rounds, each of direct and indirect probes.
 */
import type { Accusation } from '../../api/gossip/accusation.ts';
import type { Liveness } from '../../api/gossip/host-record.ts';

export type DetectorAction =
  /** primary: the address that answered last. all: every gossip address of the host. */
  | { readonly type: 'ping'; readonly host: string; readonly spread: 'primary' | 'all' }
  | { readonly type: 'ping-request'; readonly host: string; readonly via: string }
  | { readonly type: 'verdict'; readonly host: string; readonly liveness: Liveness; readonly reason: string }
  /** Tell the others once that this host's probes of `host` fail. */
  | { readonly type: 'accuse'; readonly host: string };

export interface DetectorOptions {
  readonly periodMs: number;
  /** A direct ping without an answer for this long is joined by indirect ones. Widened by twice the own lag. */
  readonly directMs: number;
  /** A round ends after this long. Widened by three times the own lag. */
  readonly roundMs: number;
  /**
   * The second and later rounds of a host whose turn it was, with nothing that speaks against it but its silence: it may be in the middle of a stall, and
   * come out of it with much to do. The others, who are told after the first round, know later all the same.
   */
  readonly patientMs: number;
  /** Rounds that fail in a row until death, the first of which makes a suspect. Their length must exceed a stall worth surviving (2 s). */
  readonly roundsToDeath: number;
  /**
   * Rounds last so many times as long while more than an eighth of those it knows, and more than `massFrom`, are suspects: a stalled machine, a
   * network that is away. Such things pass, and many taken for dead by mistake cost more than many found some seconds later.
   */
  readonly massFactor: number;
  readonly massFrom: number;
  readonly indirect: number;
  /** Rounds of a host that never answered do not count for this long: it may not know this boot's probe key yet. */
  readonly graceMs: number;
  /** One dead host is tried this often. */
  readonly deadPeriodMs: number;
}

export const DETECTOR_DEFAULTS: DetectorOptions = {
  periodMs: 1000,
  directMs: 300,
  roundMs: 750,
  patientMs: 1000,
  roundsToDeath: 3,
  massFactor: 3,
  massFrom: 4,
  indirect: 3,
  graceMs: 5000,
  deadPeriodMs: 2000,
};

/** In a mesh of up to this many others, two are probed a period: the first probe of a frozen host must not wait for its turn. */
const SMALL_MESH = 20;
/** A host whose own ticks are this late on average has others' silence from itself: its word would have everybody probe. */
const ACCUSE_LAG_MS = 50;
/** A tick this late says that this process, not the network, was away. */
const LAG_MS = 200;
const ACCUSATION_MS = 30_000;
const OPEN_ACCUSATIONS = 4;
const ACCUSED_PROBE_JITTER_MS = 200;
/** A table that comes in at once must not be probed at once: beyond this many hosts the first probes are spread, 2 ms a host. */
const SPREAD_FROM = 50;
const SPREAD_MS = 2;
/** A dead host answered: perhaps a whole network is back, and at `deadPeriodMs` each a thousand dead ones would take half an hour to be tried. */
const REVIVE_EVERY_MS = 50;
const REVIVE_AT_ONCE = 10;

interface Round {
  indirectAt: number;
  endAt: number;
  asked: boolean;
  /** Who was asked to probe for this host. */
  via: readonly string[];
}

interface Member {
  readonly host: string;
  liveness: Liveness;
  epoch: number;
  counter: number;
  round: Round | undefined;
  failed: number;
  probeAt: number | undefined;
  answered: boolean;
  /** When the host became known: until it has answered once it gets `graceMs` from here. */
  readonly since: number;
  accusedAt: number | undefined;
  /** Why it is probed: its turn came, something happened to it, or another's word, which everybody has: no need to repeat that. */
  cause: 'turn' | 'event' | 'word';
  /** A newer record gave it its rounds back since it answered last. */
  excused: boolean;
  reason: string;
}

/** How an accusation was taken: `probe` and `known` are worth forwarding. */
export type AccusationVerdict = 'probe' | 'known' | 'stale' | 'budget';

export interface Detector {
  /** A record of the host was taken in. A newer incarnation gives a suspect its rounds back and gets a dead one probed at once. */
  onRecord(host: string, version: { epoch: number; counter: number }, left: boolean, now: number): void;
  remove(host: string): void;
  /** The host answered with its key, directly or through another. Late answers count. */
  onAck(host: string, now: number): DetectorAction[];
  /** A link to the host broke, or the like: probe it now. */
  probeSoon(host: string, now: number, reason: string): void;
  onAccusation(accusation: Accusation, now: number): AccusationVerdict;
  tick(now: number): DetectorAction[];
  /** When `tick` wants to be called next. */
  nextAt(): number;
  liveness(host: string): Liveness | undefined;
  /** The own event-loop lag that timeouts are widened by, ms. */
  lagMs(): number;
}

export function createDetector(
  startedAt: number,
  random: () => number,
  options: DetectorOptions = DETECTOR_DEFAULTS,
): Detector {
  const members = new Map<string, Member>();
  /** Those with an open round or a probe to come: what a tick costs does not grow with the mesh. */
  const busy = new Set<Member>();
  let aliveHosts: string[] | undefined; // made when asked for, forgotten when somebody's liveness changes
  const accusations = new Map<string, { target: string; at: number }[]>(); // by accuser
  let order: string[] = [];
  // Hosts that start together must not probe in step: it would make bursts, and leave the time between them unwatched.
  let periodAt = startedAt + random() * options.periodMs;
  let deadAt = startedAt + random() * options.deadPeriodMs;
  /** Dead hosts in the order in which they are tried. */
  let deadOrder: string[] = [];
  /** All dead hosts are tried in a row, not one each `deadPeriodMs`. */
  let reviving = false;
  let answeredDead = false; // since the last time all were tried
  let lag = 0;
  let suspects = 0;

  /** It may not know this boot's probe key yet. */
  const isNew = (m: Member, now: number) => !m.answered && now - m.since < options.graceMs;
  const startRound = (m: Member, now: number, actions: DetectorAction[]) => {
    m.probeAt = undefined;
    busy.add(m);
    const factor = suspects > Math.max(options.massFrom, members.size / 8) ? options.massFactor : 1;
    const roundMs = m.cause === 'turn' && m.failed > 0 ? options.patientMs : options.roundMs;
    const endAt = now + factor * roundMs + 3 * lag;
    m.round = {
      // the rest of the round after them is as long as ever: what comes back while a long round lasts is still asked
      indirectAt: endAt - (options.roundMs - options.directMs) - lag,
      endAt,
      asked: false,
      via: [],
    };
    actions.push({ type: 'ping', host: m.host, spread: m.failed === 0 ? 'primary' : 'all' });
  };
  const become = (m: Member, liveness: Liveness) => {
    suspects += Number(liveness === 'suspect') - Number(m.liveness === 'suspect');
    m.liveness = liveness;
    aliveHosts = undefined;
  };
  const set = (m: Member, liveness: Liveness, reason: string): DetectorAction[] => {
    if (m.liveness === liveness) return [];
    become(m, liveness);
    return [{ type: 'verdict', host: m.host, liveness, reason }];
  };
  /** Direct and indirect probes of one round are unanswered. */
  const failRound = (m: Member, now: number, actions: DetectorAction[]) => {
    const via = m.round?.via ?? [];
    m.round = undefined;
    if (m.liveness === 'dead') return;
    if (isNew(m, now)) {
      // later and later: when many start at once, whoever is not ready yet is kept from it by pings
      m.probeAt = Math.min(m.since + options.graceMs, now + Math.max(options.roundMs, now - m.since));
      return;
    }
    m.failed += 1;
    if (m.failed >= options.roundsToDeath) {
      actions.push(...set(m, 'dead', `${m.failed} rounds of own probes failed${through(via)} (${m.reason})`));
      return;
    }
    actions.push(...set(m, 'suspect', `own probes were not answered${through(via)} (${m.reason})`));
    const said = m.accusedAt !== undefined && now - m.accusedAt < ACCUSATION_MS;
    if (m.cause !== 'word' && !said && lag < ACCUSE_LAG_MS) {
      m.accusedAt = now;
      actions.push({ type: 'accuse', host: m.host });
    }
    startRound(m, now, actions);
  };
  const alive = (): readonly string[] => {
    aliveHosts ??= [...members.values()].filter((m) => m.liveness === 'alive').map((m) => m.host);
    return aliveHosts;
  };
  const relays = (target: string): string[] => {
    const able = alive();
    const wanted = Math.min(options.indirect, able.length - (able.includes(target) ? 1 : 0));
    const out = new Set<string>();
    while (out.size < wanted) {
      const host = able[Math.floor(random() * able.length)];
      if (host !== undefined && host !== target) out.add(host);
    }
    return [...out];
  };
  /** Dead hosts whose turn it is, each once before anyone twice: one, or many while a network comes back. */
  const nextDead = (): string[] => {
    if (deadOrder.length === 0) {
      reviving = answeredDead;
      answeredDead = false;
      deadOrder = [...members.values()].filter((m) => m.liveness === 'dead').map((m) => m.host);
      shuffle(deadOrder, random);
    }
    const out: string[] = [];
    while (out.length < (reviving ? REVIVE_AT_ONCE : 1) && deadOrder.length > 0) {
      const host = deadOrder.pop() as string;
      if (members.get(host)?.liveness === 'dead') out.push(host);
    }
    return out;
  };
  const revive = (now: number) => {
    answeredDead = true;
    if (reviving) return;
    reviving = true;
    deadOrder = [];
    deadAt = Math.min(deadAt, now);
  };
  /** The next hosts of the shuffled round robin: everyone is probed once before anyone is probed twice. */
  const nextTargets = (): Member[] => {
    const others = alive().length;
    const wanted = others <= SMALL_MESH ? Math.min(2, others) : 1;
    const out: Member[] = [];
    for (let tries = 0; out.length < wanted && tries < 2 * members.size + 2; tries++) {
      if (order.length === 0) order = shuffle([...members.keys()], random);
      const m = members.get(order.pop() ?? '');
      if (m?.liveness !== 'alive' || m.round !== undefined || m.probeAt !== undefined) continue;
      if (!out.includes(m)) out.push(m);
    }
    return out;
  };
  /** This process was away: what looks like silence of others is its own. Every open round gets time for the answers that wait in the socket. */
  const forgive = (late: number, now: number) => {
    for (const { round } of busy) {
      if (round === undefined) continue;
      round.indirectAt = Math.max(round.indirectAt + late, now + options.directMs);
      round.endAt = Math.max(round.endAt + late, now + options.roundMs);
    }
  };
  const nextAt = () => {
    let at = Math.min(periodAt, deadAt);
    for (const { round, probeAt } of busy) {
      if (round !== undefined) at = Math.min(at, round.asked ? round.endAt : round.indirectAt);
      else if (probeAt !== undefined) at = Math.min(at, probeAt);
    }
    return at;
  };

  const add = (host: string, { epoch, counter }: { epoch: number; counter: number }, left: boolean, now: number) => {
    // Beyond a small mesh the proofs of its address usually answer before the first probe.
    const probeAt = now + random() * SPREAD_MS * Math.max(0, members.size - SPREAD_FROM);
    const fresh: Member = {
      host,
      liveness: left ? 'left' : 'alive',
      epoch,
      counter,
      round: undefined,
      failed: 0,
      probeAt: left ? undefined : probeAt,
      answered: false,
      since: probeAt,
      accusedAt: undefined,
      cause: 'event',
      excused: false,
      reason: 'first probe',
    };
    members.set(host, fresh);
    busy.add(fresh);
    aliveHosts = undefined;
    // Into the running round at a random place: else a newcomer's turn comes only with the next round, minutes later in a large mesh.
    const place = Math.floor(random() * (order.length + 1));
    order.push(order[place] ?? host);
    order[place] = host;
  };

  return {
    onRecord(host, { epoch, counter }, left, now) {
      const m = members.get(host);
      if (m === undefined) {
        return add(host, { epoch, counter }, left, now);
      }
      m.epoch = epoch;
      m.counter = counter;
      // Once between two answers: a host that renews its record and never answers dies all the same.
      const spent = m.liveness === 'suspect' && m.excused && !left;
      if (spent) return;
      m.failed = 0;
      m.excused = m.liveness === 'suspect';
      busy.add(m);
      if (left) {
        become(m, 'left');
        m.round = undefined;
        m.probeAt = undefined;
        return;
      }
      if (m.liveness === 'left') {
        become(m, 'alive');
        m.answered = false;
      }
      if (m.liveness !== 'alive') {
        m.round = undefined;
        m.probeAt = now;
        m.reason = 'a newer record of it';
        m.cause = 'event';
      }
    },
    remove(host) {
      const m = members.get(host);
      if (m === undefined) return;
      become(m, 'left');
      busy.delete(m);
      members.delete(host);
      accusations.delete(host);
    },
    onAck(host, now) {
      const m = members.get(host);
      if (m === undefined || m.liveness === 'left') return [];
      m.round = undefined;
      m.failed = 0;
      m.excused = false;
      if (!m.answered) m.probeAt = undefined; // the first probe is not needed any more
      m.answered = true;
      if (m.liveness === 'dead') revive(now);
      return set(m, 'alive', 'it answered a probe');
    },
    probeSoon(host, now, reason) {
      const m = members.get(host);
      if (m === undefined || m.liveness === 'left' || m.round !== undefined) return;
      m.probeAt = now;
      busy.add(m);
      m.reason = reason;
      m.cause = 'event';
    },
    onAccusation({ accuser, target, epoch, counter }, now) {
      const m = members.get(target);
      if (m === undefined || m.epoch !== epoch || m.counter !== counter) return 'stale';
      const recent = (accusations.get(accuser) ?? []).filter((a) => now - a.at < ACCUSATION_MS);
      if (recent.length >= OPEN_ACCUSATIONS || recent.some((a) => a.target === target)) return 'budget';
      recent.push({ target, at: now });
      accusations.set(accuser, recent);
      if (m.liveness !== 'alive') return 'known';
      if (m.round === undefined) {
        busy.add(m);
        m.probeAt = Math.min(m.probeAt ?? Infinity, now + random() * ACCUSED_PROBE_JITTER_MS);
        m.reason = `accused by ${accuser}`;
        m.cause = 'word';
      }
      return 'probe';
    },
    tick(now) {
      const late = now - nextAt();
      if (late > LAG_MS) forgive(late, now);
      lag = Math.min(1000, 0.8 * lag + 0.2 * Math.max(0, late - 20));
      if (lag < 1) lag = 0;
      const actions: DetectorAction[] = [];
      for (const m of busy) {
        if (m.round !== undefined && !m.round.asked && now >= m.round.indirectAt) {
          m.round.asked = true;
          // whoever starts with it has no answer for this host yet, nor a path to it to offer
          if (isNew(m, now + options.graceMs / 2)) continue;
          actions.push({ type: 'ping', host: m.host, spread: 'all' });
          m.round.via = relays(m.host);
          for (const via of m.round.via) actions.push({ type: 'ping-request', host: m.host, via });
        }
        if (m.round?.asked === true && now >= m.round.endAt) failRound(m, now, actions);
        if (m.round === undefined && m.probeAt !== undefined && now >= m.probeAt) startRound(m, now, actions);
        if (m.round === undefined && m.probeAt === undefined) busy.delete(m);
      }
      if (now >= periodAt) {
        periodAt = now + options.periodMs;
        for (const m of nextTargets()) {
          m.reason = 'its turn';
          m.cause = 'turn';
          startRound(m, now, actions);
        }
      }
      if (now >= deadAt) {
        for (const host of nextDead()) actions.push({ type: 'ping', host, spread: 'all' });
        deadAt = now + (reviving ? REVIVE_EVERY_MS : options.deadPeriodMs);
      }
      return actions;
    },
    nextAt,
    liveness: (host) => members.get(host)?.liveness,
    lagMs: () => lag,
  };
}

function through(via: readonly string[]): string {
  return via.length === 0 ? ', and nobody could be asked' : `, nor those through ${via.join(', ')}`;
}

/** Fisher-Yates, in place; returns the list. `random` in [0,1). */
export function shuffle<T>(list: T[], random: () => number): T[] {
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [list[i], list[j]] = [list[j] as T, list[i] as T];
  }
  return list;
}
