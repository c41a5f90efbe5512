/**
 * gossipsub as agent/gossip/node.ts sets it, modelled: what it does with a message and at a heartbeat, over the links there are. Real are the
 * validators. Left out: scoring (off), IDONTWANT (above our sizes), control messages' own losses.
 */

import { shuffle } from '../../agent/gossip/detector.ts';
import { MAX_ANSWER_BYTES, MAX_NAMED } from '../../agent/gossip/lazy-pull.ts';
import type { TopicVerdict } from '../../agent/gossip/node.ts';
import { type Links, SEGMENT_BYTES } from './links.ts';
import type { Schedule } from './schedule.ts';
import type { Wire } from './wire.ts';

const D = 2;
const D_LOW = 2;
const D_HIGH = 12;
const D_OUT = 2;
const D_LAZY = 4;
const PRUNE_BACKOFF_MS = 10_000;
/** Heartbeats that a message is named in. */
const NAMED_FOR = 3;
const ID_BYTES = 22;
const RPC_BYTES = 30;
/** node.ts: a peer whose frame is larger is given up. lazy-pull.ts keeps below it, unless a simulation leaves that out. */
const MAX_FRAME_BYTES = 64 * 1024;
const MESSAGE_OVERHEAD = 64;
/** CPU of a message: measured 0.8 ms a delivery with its copies (DESIGN 6). */
const FRESH_MS = 0.5;
const COPY_MS = 0.08;

export type Topic = 0 | 1;

interface Message {
  readonly topic: Topic;
  readonly data: Uint8Array;
  readonly source: number;
  readonly seen: Uint8Array;
}

export interface PubsubDeps {
  readonly size: number;
  readonly schedule: Schedule;
  readonly wire: Wire;
  readonly links: Links;
  readonly random: () => number;
  /** As lazy-pull.ts bounds gossipsub. */
  readonly bounded: boolean;
  validate(host: number, topic: Topic, data: Uint8Array, from: number): TopicVerdict;
}

export interface Pubsub {
  /** `key` names the content: what a host has seen it does not publish again (message ids are hashes of the content). */
  publish(host: number, topic: Topic, data: Uint8Array, key: string): void;
  /** Message number `message` arrives. */
  arrive(message: number, from: number, to: number): void;
  heartbeat(host: number): void;
  /** The link is gone. */
  unlink(host: number, peer: number): void;
  /** The host works on something else for so long. */
  spend(host: number, ms: number): void;
  readonly counts: { published: number; delivered: number; copies: number; asked: number; framesTooLarge: number };
}

export function createPubsub(deps: PubsubDeps): Pubsub {
  const { size, schedule, wire, links, random } = deps;
  const messages: Message[] = [];
  const byKey = new Map<string, number>();
  const meshes = ([0, 1] as const).map(() => Array.from({ length: size }, () => new Set<number>()));
  const backoff = Array.from({ length: size }, () => new Map<number, number>());
  const recent = Array.from({ length: size }, () => Array.from({ length: NAMED_FOR }, () => [] as number[]));
  const busyUntil = new Float64Array(size);
  const inbox: number[][] = Array.from({ length: size }, () => []);
  const counts = { published: 0, delivered: 0, copies: 0, asked: 0, framesTooLarge: 0 };
  const meshOf = (topic: Topic, host: number) => (meshes[topic] as Set<number>[])[host] as Set<number>;
  const bytesOf = ({ data }: Message) => data.length + RPC_BYTES + SEGMENT_BYTES;

  const transmit = (number: number, from: number, to: number, trips = 1) => {
    const link = links.of(from).get(to);
    if (link === undefined || !links.healthy(from, to)) return;
    wire.sent(from, 'gossip', bytesOf(messages[number] as Message));
    if (!wire.reaches(from, to)) return;
    let arrival = schedule.now;
    for (let i = 0; i < trips; i++) arrival += wire.segment();
    link.lastArrival = Math.max(link.lastArrival, arrival);
    schedule.message(link.lastArrival, number, from, to);
  };
  const spend = (host: number, ms: number) => {
    busyUntil[host] = Math.max(schedule.now, busyUntil[host] as number) + ms;
  };
  const accept = (number: number, host: number, from: number) => {
    const message = messages[number] as Message;
    recent[host]?.[0]?.push(number);
    for (const peer of meshOf(message.topic, host))
      if (peer !== from && peer !== message.source) transmit(number, host, peer);
  };
  const handle = (number: number, from: number, to: number) => {
    const message = messages[number] as Message;
    if (!links.of(to).has(from)) return;
    if (message.seen[to] === 1) {
      counts.copies += 1;
      return spend(to, COPY_MS);
    }
    message.seen[to] = 1;
    counts.delivered += 1;
    spend(to, FRESH_MS);
    if (deps.validate(to, message.topic, message.data, from) === 'accept') accept(number, to, from);
  };
  /** What waits is worked off in order as the host gets to it. */
  const serve = (host: number) => {
    if (wire.state(host) !== 'up') {
      inbox[host] = [];
      return;
    }
    const waiting = inbox[host] as number[];
    let done = 0;
    while (done < waiting.length && (busyUntil[host] as number) < schedule.now + 1) {
      handle(waiting[done] as number, waiting[done + 1] as number, host);
      done += 2;
    }
    inbox[host] = waiting.slice(done);
    if (waiting.length > done) schedule.at(freeAt(host), () => serve(host));
  };
  const freeAt = (host: number) => wire.awakeAt(host, Math.max(schedule.now + 1, busyUntil[host] as number));

  const canGraft = (topic: Topic, host: number, peer: number) => {
    if (!links.healthy(host, peer) || !wire.reaches(host, peer) || wire.state(peer) !== 'up') return false;
    if ((backoff[host]?.get(peer) ?? 0) > schedule.now || meshOf(topic, host).has(peer)) return false;
    // A full mesh takes only links that it opened itself.
    return meshOf(topic, peer).size < D_HIGH || links.of(peer).get(host)?.direction === 'outbound';
  };
  const graft = (topic: Topic, host: number, wanted: number, among: (peer: number) => boolean) => {
    const able = [...links.of(host).keys()].filter((peer) => among(peer) && canGraft(topic, host, peer));
    for (const peer of shuffle(able, random).slice(0, Math.max(0, wanted))) {
      meshOf(topic, host).add(peer);
      meshOf(topic, peer).add(host);
      wire.sent(host, 'gossip', RPC_BYTES + SEGMENT_BYTES);
    }
  };
  const prune = (topic: Topic, host: number) => {
    const isOutbound = (peer: number) => links.of(host).get(peer)?.direction === 'outbound';
    const order = shuffle([...meshOf(topic, host)], random);
    const outbound = order.filter(isOutbound).slice(0, D_OUT);
    const kept = [...outbound, ...order.filter((peer) => !outbound.includes(peer))].slice(0, D);
    for (const peer of order) {
      if (kept.includes(peer)) continue;
      meshOf(topic, host).delete(peer);
      meshOf(topic, peer).delete(host);
      backoff[host]?.set(peer, schedule.now + PRUNE_BACKOFF_MS);
      backoff[peer]?.set(host, schedule.now + PRUNE_BACKOFF_MS);
      wire.sent(host, 'gossip', RPC_BYTES + SEGMENT_BYTES);
    }
  };
  /** How many of these one answer holds. */
  const fitting = (numbers: readonly number[]): number => {
    let bytes = 0;
    const most = deps.bounded ? MAX_ANSWER_BYTES : MAX_FRAME_BYTES;
    const over = numbers.findIndex((number) => {
      bytes += (messages[number] as Message).data.length + MESSAGE_OVERHEAD;
      return bytes > most;
    });
    return over < 0 ? numbers.length : over;
  };
  /** IHAVE to neighbours outside the mesh; what they lack they ask for, and it comes in one frame. */
  const name = (topic: Topic, host: number) => {
    const all = (recent[host] as number[][]).flat().filter((number) => messages[number]?.topic === topic);
    const ids = deps.bounded ? all.slice(0, MAX_NAMED) : all;
    if (ids.length === 0) return;
    const others = [...links.of(host).keys()].filter((p) => links.healthy(host, p) && !meshOf(topic, host).has(p));
    for (const peer of shuffle(others, random).slice(0, Math.max(D_LAZY, others.length / 4))) {
      wire.sent(host, 'gossip', ids.length * ID_BYTES + RPC_BYTES + SEGMENT_BYTES);
      if (!wire.reaches(host, peer) || wire.state(peer) !== 'up') continue;
      const lacking = ids.filter((number) => messages[number]?.seen[peer] !== 1);
      const fits = fitting(lacking);
      if (!deps.bounded && fits < lacking.length) {
        counts.framesTooLarge += 1;
        links.breakLink(host, peer);
        unlink(host, peer);
        continue;
      }
      if (lacking.length === 0) continue;
      counts.asked += fits;
      wire.sent(peer, 'gossip', lacking.length * ID_BYTES + RPC_BYTES + SEGMENT_BYTES);
      for (const number of lacking.slice(0, fits)) transmit(number, host, peer, 3);
    }
  };
  const unlink = (host: number, peer: number) => {
    for (const topic of [0, 1] as const) {
      meshOf(topic, host).delete(peer);
      meshOf(topic, peer).delete(host);
    }
  };

  return {
    counts,
    spend,
    unlink,
    publish(host, topic, data, key) {
      const number = byKey.get(key) ?? messages.length;
      if (number === messages.length) {
        messages.push({ topic, data, source: host, seen: new Uint8Array(size) });
        byKey.set(key, number);
      }
      const { seen } = messages[number] as Message;
      if (seen[host] === 1) return;
      seen[host] = 1;
      counts.published += 1;
      recent[host]?.[0]?.push(number);
      for (const peer of links.of(host).keys()) transmit(number, host, peer); // floodPublish
    },
    arrive(number, from, to) {
      if (wire.state(to) !== 'up') return;
      const waiting = inbox[to] as number[];
      const free = freeAt(to);
      if (waiting.length === 0 && free <= schedule.now + 1) return handle(number, from, to);
      waiting.push(number, from);
      if (waiting.length === 2) schedule.at(free, () => serve(to));
    },
    heartbeat(host) {
      for (const topic of [0, 1] as const) {
        const mesh = meshOf(topic, host);
        for (const peer of mesh) if (!links.healthy(host, peer)) unlink(host, peer);
        if (mesh.size < D_LOW) graft(topic, host, D - mesh.size, () => true);
        if (mesh.size > D_HIGH) prune(topic, host);
        const outbound = (peer: number) => links.of(host).get(peer)?.direction === 'outbound';
        if (mesh.size >= D_LOW) graft(topic, host, D_OUT - [...mesh].filter(outbound).length, outbound);
        name(topic, host);
      }
      const windows = recent[host] as number[][];
      windows.pop();
      windows.unshift([]);
    },
  };
}
