/**
 * Runs the failure detector over UDP. In: records (probe keys, addresses), accusations. Out: verdicts on hosts, addresses that proved
 * themselves, accusations to publish. Must never: take an answer from anyone but whom the probe was for.
 */
import { randomBytes } from 'node:crypto';
import type { Accusation } from '../../api/gossip/accusation.ts';
import type { IpEndpoint } from '../../api/gossip/address.ts';
import type { Liveness } from '../../api/gossip/host-record.ts';
import type { PeerLoad, SwimPacket } from '../../api/gossip/swim-packet.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { createBuckets } from './budget.ts';
import { type AccusationVerdict, createDetector, type DetectorAction } from './detector.ts';
import type { EndpointTable, TableRow } from './endpoint-table.ts';
import { createPingBook, createProver, gossipEndpoints, proofEndpoint } from './probes.ts';
import { createSwimTransport } from './swim-transport.ts';

export interface ProberDeps {
  readonly host: string;
  readonly listen: readonly IpEndpoint[];
  readonly table: EndpointTable;
  onVerdict(host: string, liveness: Liveness, reason: string): void;
  /** An address of the host answered with its key for the first time. */
  onProven(host: string, address: string): void;
  /** An address that a host claims does not answer with its key. */
  onUnproven(host: string, address: string): void;
  /** What own answers say of this host. */
  load(): PeerLoad;
  accuse(host: string): void;
  onAnswer(rttMs: number): void;
  onDrop(reason: string): void;
  onBytes(direction: 'sent' | 'received', bytes: number): void;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

export interface Prober {
  readonly probeKey: string;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** A record was taken in. True: the host has rebooted since its last one. */
  setHost(row: TableRow): boolean;
  removeHost(host: string): void;
  probeSoon(host: string, reason: string): void;
  onAccusation(accusation: Accusation): AccusationVerdict;
  /** Sends the proofs that are due: called each second and after a merge. */
  prove(): void;
  liveness(host: string): Liveness | undefined;
  /** Round trip of the last answer, ms, and when it came (monotonic ms). */
  lastAnswer(host: string): { readonly rttMs: number; readonly at: number; readonly load?: PeerLoad } | undefined;
  lagMs(): number;
}

/** What one host may have this one probe for it, and how often it may be answered: a member cannot make an amplifier of another. */
const RELAY_RATE = { perSecond: 20, burst: 60 };
const ANSWER_RATE = { perSecond: 200, burst: 400 };

export function createProber(deps: ProberDeps): Prober {
  const { clock, table } = deps;
  const detector = createDetector(clock.monotonic(), deps.random);
  const pings = createPingBook();
  const prover = createProver();
  const answers = new Map<string, { rttMs: number; at: number; load?: PeerLoad; from: IpEndpoint | undefined }>();
  const relayBudget = createBuckets(RELAY_RATE, clock.monotonic);
  const answerBudget = createBuckets(ANSWER_RATE, clock.monotonic);
  let cancel: (() => void) | undefined;
  let running = false;
  /** The table in which every address was proven: nothing is due until it changes. */
  let provenAt: number | undefined;

  const transport = createSwimTransport({
    host: deps.host,
    listen: deps.listen,
    onPacket: (host, packet, from) => onPacket(host, packet, from),
    onDrop: deps.onDrop,
    onBytes: deps.onBytes,
    monotonic: clock.monotonic,
    log: deps.log,
  });

  const ping = (host: string, to: IpEndpoint) => {
    const id = randomBytes(8).toString('hex');
    pings.open(id, { host, to, answerer: host, sentAt: clock.monotonic(), relayFor: undefined });
    transport.send(host, { type: 'ping', id }, to);
  };
  const endpointsOf = (host: string, spread: 'primary' | 'all'): IpEndpoint[] => {
    const row = table.get(host);
    const endpoints = row === undefined ? [] : gossipEndpoints(row.record);
    if (spread === 'all') return endpoints;
    const last = answers.get(host)?.from;
    return [endpoints.find((e) => e.address === last?.address && e.port === last.port) ?? endpoints[0]].filter(
      (e) => e !== undefined,
    );
  };
  const run = (actions: readonly DetectorAction[]) => {
    for (const action of actions) {
      if (action.type === 'ping') for (const to of endpointsOf(action.host, action.spread)) ping(action.host, to);
      else if (action.type === 'ping-request') askRelay(action.host, action.via);
      else if (action.type === 'accuse') deps.accuse(action.host);
      else deps.onVerdict(action.host, action.liveness, action.reason);
    }
  };
  const askRelay = (target: string, via: string) => {
    const [to] = endpointsOf(via, 'primary');
    if (to === undefined) return;
    const id = randomBytes(8).toString('hex');
    pings.open(id, { host: target, to: undefined, answerer: via, sentAt: clock.monotonic(), relayFor: undefined });
    transport.send(via, { type: 'ping-request', id, target }, to);
  };
  const onPacket = (from: string, packet: SwimPacket, source: IpEndpoint) => {
    switch (packet.type) {
      case 'ack':
        return onAck(from, packet.id, packet.load);
      case 'ack-for':
        return onRelayedAck(from, packet.id, packet.proof);
      case 'ping':
        if (!answerBudget.take(from, 1)) return deps.onDrop('budget');
        // It hears this host again: a network that was cut is whole again before its turn among the dead comes.
        if (detector.liveness(from) === 'dead') {
          detector.probeSoon(from, clock.monotonic(), 'it probes this host');
          schedule();
        }
        return void transport.send(from, { type: 'ack', id: packet.id, load: deps.load() }, source);
      case 'ping-for': {
        const proof = transport.prove(packet.target, packet.id);
        if (proof === undefined || !answerBudget.take(from, 1))
          return deps.onDrop(proof === undefined ? 'unknown-target' : 'budget');
        return void transport.send(from, { type: 'ack-for', id: packet.id, proof }, source);
      }
      default:
        return relay(from, packet.target, packet.id);
    }
  };
  const relayKey = (target: string, id: string) => `for ${target} ${id}`;
  /** Another host asks this one to probe `target`. */
  const relay = (asker: string, target: string, id: string) => {
    const known = table.get(target) !== undefined && target !== deps.host && target !== asker;
    if (!known || !relayBudget.take(asker, 1)) return deps.onDrop(known ? 'budget' : 'unknown-target');
    const [to] = endpointsOf(target, 'primary');
    if (to === undefined) return;
    pings.open(relayKey(target, id), {
      host: target,
      to,
      answerer: target,
      sentAt: clock.monotonic(),
      relayFor: asker,
    });
    transport.send(target, { type: 'ping-for', id, target: asker }, to);
  };
  const onRelayedAck = (from: string, id: string, proof: string) => {
    const now = clock.monotonic();
    const carried = pings.answer(relayKey(from, id), from, now);
    if (carried?.relayFor !== undefined) {
      const [back] = endpointsOf(carried.relayFor, 'primary');
      if (back !== undefined) transport.send(carried.relayFor, { type: 'ack-for', id, proof }, back);
      return;
    }
    const open = pings.answer(id, from, now);
    if (open === undefined || open.to !== undefined) return deps.onDrop('unasked');
    if (!transport.isProof(open.host, id, proof)) return deps.onDrop('forged');
    answered(open.host, now);
  };
  const onAck = (from: string, id: string, load: PeerLoad | undefined) => {
    const now = clock.monotonic();
    const open = pings.answer(id, from, now);
    if (open?.to === undefined) return deps.onDrop('unasked');
    const { host, to } = open;
    const isGossip = endpointsOf(host, 'all').some((e) => e.address === to.address && e.port === to.port);
    const rttMs = now - open.sentAt;
    answers.set(host, { rttMs, at: now, ...(load && { load }), from: isGossip ? to : answers.get(host)?.from });
    deps.onAnswer(rttMs);
    if (table.prove(host, to.address)) deps.onProven(host, to.address);
    answered(host, now);
  };
  const answered = (host: string, now: number) => {
    const before = detector.nextAt();
    run(detector.onAck(host, now));
    // a dead one's answer has the other dead tried at once; a timer that came later would look like a lag of this host
    if (detector.nextAt() < before) schedule();
  };
  /** One timer, at the detector's next deadline. */
  const schedule = () => {
    cancel?.();
    if (!running) return;
    cancel = clock.after(Math.max(5, detector.nextAt() - clock.monotonic()), () => {
      run(detector.tick(clock.monotonic()));
      schedule();
    });
  };
  function* unproven(): Generator<{ host: string; address: string }> {
    for (const { record, liveness, proven } of table.rows()) {
      if (record.host === deps.host || liveness === 'dead' || liveness === 'left') continue;
      for (const address of record.addresses) if (!proven.includes(address)) yield { host: record.host, address };
    }
  }

  return {
    probeKey: transport.probeKey,
    async start() {
      await transport.start();
      running = true;
      schedule();
    },
    async stop() {
      running = false;
      cancel?.();
      await transport.stop();
    },
    setHost(row) {
      const { record } = row;
      if (record.host === deps.host) return false;
      const rebooted = transport.setPeer(record.host, record.probeKey);
      detector.onRecord(record.host, record, row.liveness === 'left', clock.monotonic());
      schedule();
      return rebooted;
    },
    removeHost(host) {
      transport.setPeer(host, undefined);
      detector.remove(host);
      answers.delete(host);
    },
    probeSoon(host, reason) {
      detector.probeSoon(host, clock.monotonic(), reason);
      schedule();
    },
    onAccusation(accusation) {
      const verdict = detector.onAccusation(accusation, clock.monotonic());
      schedule();
      return verdict;
    },
    prove() {
      if (provenAt === table.version) return;
      const now = clock.monotonic();
      const { due, waiting } = prover.due(unproven(), now);
      provenAt = waiting ? undefined : table.version;
      for (const { host, address, silent } of due) {
        if (silent) deps.onUnproven(host, address);
        const row = table.get(host);
        const to = row && proofEndpoint(row.record, address);
        if (to !== undefined) ping(host, to);
      }
    },
    liveness: (host) => detector.liveness(host),
    lastAnswer: (host) => answers.get(host),
    lagMs: () => detector.lagMs(),
  };
}
