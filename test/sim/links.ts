/** Links of simulated hosts: what agent/gossip/node.ts gives to the linker, without libp2p. Dials take time, cross, fail; streams carry frames. */
import type { GossipNode, Link, StreamLimits } from '../../agent/gossip/node.ts';
import { OVERLAY_DEFAULTS } from '../../agent/gossip/overlay.ts';
import type { Channel } from '../../agent/gossip/sync.ts';
import { MeshError } from '../../api/errors.ts';
import type { Schedule } from './schedule.ts';
import type { Wire } from './wire.ts';

/** One side of a link. */
export interface LinkEnd {
  readonly direction: 'inbound' | 'outbound';
  readonly openedAt: number;
  /** When both gossip streams and the subscription are there. */
  readonly healthyAt: number;
  /** gossipsub gave the peer up: the connection stands and carries nothing. */
  broken: boolean;
  /** TCP keeps the order. */
  lastArrival: number;
}

/** TLS records, Yamux, TCP and IP around a message of its own. */
export const SEGMENT_BYTES = 22 + 12 + 52 + 14;
/** Opening and closing a stream: multistream-select, Yamux, acknowledgements. */
const STREAM_BYTES = 500;
/** A handshake: mTLS with a certificate each way, multistream, identify. */
const LINK_BYTES = 7000;
const HANDSHAKE_MS = 34;
const DIAL_MS = 4000;
const BYTES_PER_MS = 100_000;

export interface Links {
  of(host: number): ReadonlyMap<number, LinkEnd>;
  healthy(host: number, peer: number): boolean;
  node(host: number): Pick<GossipNode, 'links' | 'dial' | 'drop' | 'withStream'>;
  /** The kernel of a killed host ends its connections. */
  killed(host: number): void;
  breakLink(a: number, b: number): void;
  /** Something was resolved since: promises want their turn. */
  settled(): boolean;
  readonly counts: { dials: number; refused: number; crossed: number; sessions: number };
}

export interface LinksDeps {
  readonly names: readonly string[];
  readonly schedule: Schedule;
  readonly wire: Wire;
  onLink(host: number, peer: number, up: boolean): void;
  onCrossed(host: number, peer: number): void;
  /** Answers a stream that `peer` opened to `host`. */
  answer(host: number, peer: number, channel: Channel): Promise<unknown>;
}

export function createLinks(deps: LinksDeps): Links {
  const { names, schedule, wire } = deps;
  const numbers = new Map(names.map((name, n) => [name, n]));
  const ends = names.map(() => new Map<number, LinkEnd>());
  const counts = { dials: 0, refused: 0, crossed: 0, sessions: 0 };
  const none = new Uint8Array();
  let dirty = false;
  const endsOf = (host: number) => ends[host] as Map<number, LinkEnd>;

  const remove = (host: number, peer: number) => {
    if (endsOf(host).delete(peer) && wire.state(host) === 'up') deps.onLink(host, peer, false);
  };
  const drop = (host: number, peer: number) => {
    const far = endsOf(peer).get(host);
    remove(host, peer);
    if (!wire.reaches(host, peer)) return;
    schedule.at(wire.awakeAt(peer, schedule.now + wire.hop()), () => {
      if (far !== undefined && endsOf(peer).get(host) === far) remove(peer, host);
    });
  };
  const open = (host: number, peer: number) => {
    const openedAt = schedule.now;
    const healthyAt = openedAt + 20 + 4 * wire.segment();
    const end = (direction: LinkEnd['direction']): LinkEnd => ({
      direction,
      openedAt,
      healthyAt,
      broken: false,
      lastArrival: 0,
    });
    endsOf(host).set(peer, end('outbound'));
    endsOf(peer).set(host, end('inbound'));
    wire.sent(host, 'gossip', LINK_BYTES);
    deps.onLink(host, peer, true);
    deps.onLink(peer, host, true);
  };
  /** What comes of a dial once it has taken its time: an error, or nothing. */
  const arrive = (host: number, peer: number): MeshError | undefined => {
    if (wire.state(peer) !== 'up' || !wire.reaches(host, peer)) return new MeshError('DIAL_FAILED', 'nobody there');
    if (endsOf(host).has(peer) || endsOf(peer).has(host)) {
      counts.crossed += 1;
      remove(host, peer);
      remove(peer, host);
      deps.onCrossed(host, peer);
      deps.onCrossed(peer, host);
      return undefined;
    }
    if (endsOf(peer).size >= OVERLAY_DEFAULTS.refuseLinks) {
      counts.refused += 1;
      return new MeshError('LINK_REFUSED', 'no room');
    }
    open(host, peer);
    return undefined;
  };
  const dial = (host: number, peer: number): Promise<void> => {
    if (endsOf(host).has(peer)) return Promise.resolve();
    counts.dials += 1;
    const answers = wire.reaches(host, peer) && wire.state(peer) !== 'frozen';
    const refuses = answers && wire.state(peer) !== 'up';
    const took = refuses ? 2 * wire.hop() : answers ? HANDSHAKE_MS + 6 * wire.segment() : DIAL_MS;
    return new Promise((resolve, reject) => {
      schedule.at(wire.awakeAt(peer, schedule.now + took), () => {
        if (wire.state(host) !== 'up') return;
        dirty = true;
        const error = arrive(host, peer);
        if (error === undefined) resolve();
        else reject(error);
      });
    });
  };
  const links = (host: number): Link[] =>
    [...endsOf(host)].map(([peer, { direction, openedAt, healthyAt, broken }]) => ({
      host: names[peer] as string,
      direction,
      healthy: !broken && schedule.now >= healthyAt,
      ageMs: schedule.now - openedAt,
      leaf: none,
    }));
  /** A stream's two ends. Frames arrive in order while the link stands; else both ends fail, or wait for their time limit. */
  const stream = (host: number, peer: number, limits: StreamLimits): [StreamEnd, StreamEnd] => {
    const link = endsOf(host).get(peer);
    const wake = () => {
      dirty = true;
    };
    const pair: [StreamEnd, StreamEnd] = [new StreamEnd(wake), new StreamEnd(wake)];
    const fail = (error: Error) => {
      for (const end of pair) end.fail(error);
    };
    let last = 0;
    const join = (from: number, to: number, near: StreamEnd, far: StreamEnd) => {
      near.transmit = (frame) => {
        wire.sent(from, 'sync', frame.length + SEGMENT_BYTES * Math.ceil(frame.length / 1400));
        if (!wire.reaches(from, to)) return;
        last = Math.max(last, wire.awakeAt(to, schedule.now + wire.segment() + frame.length / BYTES_PER_MS));
        schedule.at(last, () => {
          if (endsOf(host).get(peer) !== link) fail(new MeshError('LINK_DROPPED', 'the link is gone'));
          else if (wire.state(to) === 'up') far.deliver(frame);
        });
      };
    };
    join(host, peer, pair[0], pair[1]);
    join(peer, host, pair[1], pair[0]);
    schedule.at(schedule.now + limits.timeoutMs, () => {
      const error = new Error('too slow');
      error.name = 'TimeoutError';
      fail(error);
    });
    return pair;
  };

  return {
    of: endsOf,
    counts,
    healthy(host, peer) {
      const end = endsOf(host).get(peer);
      return end !== undefined && !end.broken && schedule.now >= end.healthyAt;
    },
    breakLink(a, b) {
      for (const end of [endsOf(a).get(b), endsOf(b).get(a)]) if (end !== undefined) end.broken = true;
    },
    killed(host) {
      for (const peer of [...endsOf(host).keys()]) drop(host, peer);
    },
    settled() {
      const was = dirty;
      dirty = false;
      return !was;
    },
    node: (host) => ({
      links: () => links(host),
      dial: (name) => dial(host, numbers.get(name as string) as number),
      drop: (name) => {
        const peer = numbers.get(name) as number;
        if (endsOf(host).has(peer)) drop(host, peer);
      },
      async withStream<T>(name: string, _protocol: string, limits: StreamLimits, use: (c: Channel) => Promise<T>) {
        const peer = numbers.get(name) as number;
        if (!endsOf(host).has(peer)) throw new MeshError('NOT_LINKED', `no link to ${name}`);
        counts.sessions += 1;
        wire.sent(host, 'sync', STREAM_BYTES);
        const [near, far] = stream(host, peer, limits);
        const ended = (error: unknown) => far.fail(error as Error);
        // The far side hears of the stream when its first frame is there.
        deps.answer(peer, host, far).catch((error: unknown) => near.fail(error as Error));
        return await use(near).catch((error: unknown) => {
          ended(error);
          throw error;
        });
      },
    }),
  };
}

class StreamEnd implements Channel {
  transmit: (frame: Uint8Array) => void = () => {};
  readonly #wake: () => void;
  readonly #frames: Uint8Array[] = [];
  #waiting: { resolve(frame: Uint8Array): void; reject(error: Error): void } | undefined;
  #failed: Error | undefined;

  constructor(wake: () => void) {
    this.#wake = wake;
  }

  send(frame: Uint8Array): Promise<void> {
    if (this.#failed !== undefined) return Promise.reject(this.#failed);
    this.transmit(frame);
    return Promise.resolve();
  }

  receive(maxBytes: number): Promise<Uint8Array> {
    const frame = this.#frames.shift();
    if (frame !== undefined) return Promise.resolve(frame);
    if (this.#failed !== undefined) return Promise.reject(this.#failed);
    return new Promise((resolve, reject) => {
      this.#waiting = {
        resolve: (got) =>
          got.length > maxBytes ? reject(new MeshError('FRAME_TOO_LARGE', `${got.length} bytes`)) : resolve(got),
        reject,
      };
    });
  }

  deliver(frame: Uint8Array): void {
    this.#wake();
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting === undefined) this.#frames.push(frame);
    else waiting.resolve(frame);
  }

  fail(error: Error): void {
    this.#failed ??= error;
    if (this.#waiting !== undefined) this.#wake();
    this.#waiting?.reject(error);
    this.#waiting = undefined;
  }
}
