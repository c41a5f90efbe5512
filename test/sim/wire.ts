/** The network of a simulation: who can hear whom, what a hop takes, what is lost, what each host has sent and can take in. */
import type { Schedule } from './schedule.ts';

/** UDP, IP and Ethernet around a probe of 52 bytes. */
export const DATAGRAM_BYTES = 52 + 8 + 20 + 14;
/** What the kernel waits before it sends a lost segment again. Linux: 200 ms at least. */
const RETRANSMIT_MS = 200;
/** swim-transport.ts: datagrams a host decrypts. */
const DATAGRAMS = { perSecond: 3000, burst: 6000 };

export type Traffic = 'probes' | 'gossip' | 'sync';

export interface Wire {
  /** Killed: the process is gone and its kernel says so. Frozen: its kernel holds the links and nobody answers. */
  state(host: number): 'up' | 'killed' | 'frozen' | 'off';
  set(host: number, state: 'up' | 'killed' | 'frozen'): void;
  /** Nothing passes between hosts of different groups. */
  group(host: number, group: number): void;
  reaches(a: number, b: number): boolean;
  /** The host does nothing before `until`; what comes in waits. */
  stall(host: number, until: number): void;
  awakeAt(host: number, time: number): number;
  /** One way, ms. */
  hop(): number;
  lost(): boolean;
  /** One way of a TCP segment: later if it is lost. */
  segment(): number;
  /** A datagram comes in; false: above what the host decrypts in a second. */
  takes(host: number): boolean;
  sent(host: number, traffic: Traffic, bytes: number): void;
  bytes(traffic?: Traffic): number;
  readonly counts: { datagrams: number; overBudget: number };
  loss: number;
}

export function createWire(size: number, schedule: Schedule, random: () => number): Wire {
  const states = new Array<'up' | 'killed' | 'frozen' | 'off'>(size).fill('off');
  const groups = new Uint8Array(size);
  const stalled = new Float64Array(size);
  const level = new Float64Array(size).fill(DATAGRAMS.burst);
  const filledAt = new Float64Array(size);
  const bytes: Record<Traffic, number> = { probes: 0, gossip: 0, sync: 0 };
  const hop = () => 1 + random() * 4;
  const wire: Wire = {
    loss: 0,
    counts: { datagrams: 0, overBudget: 0 },
    state: (host) => states[host] ?? 'off',
    set(host, state) {
      states[host] = state;
    },
    group(host, group) {
      groups[host] = group;
    },
    reaches: (a, b) => groups[a] === groups[b],
    stall(host, until) {
      stalled[host] = until;
    },
    awakeAt: (host, time) => Math.max(time, stalled[host] as number),
    hop,
    lost: () => wire.loss > 0 && random() < wire.loss,
    segment() {
      let ms = hop();
      for (let again = RETRANSMIT_MS; wire.loss > 0 && random() < wire.loss; again *= 2) ms += again;
      return ms;
    },
    takes(host) {
      const now = schedule.now;
      const had = level[host] as number;
      const filled = Math.min(DATAGRAMS.burst, had + ((now - (filledAt[host] as number)) * DATAGRAMS.perSecond) / 1000);
      filledAt[host] = now;
      level[host] = filled >= 1 ? filled - 1 : filled;
      if (filled < 1) wire.counts.overBudget += 1;
      return filled >= 1;
    },
    sent(_host, traffic, count) {
      bytes[traffic] += count;
      if (traffic === 'probes') wire.counts.datagrams += 1;
    },
    bytes: (traffic) => (traffic === undefined ? bytes.probes + bytes.gossip + bytes.sync : bytes[traffic]),
  };
  return wire;
}
