/**
 * Which datagram answers what: open pings by their random id, and which addresses of a host still have to prove themselves. Pure: time and
 * randomness are passed in. Bounded: old entries go first.
 */
import { type IpEndpoint, parseEndpoint } from '../../api/gossip/address.ts';
import type { HostRecord } from '../../api/gossip/host-record.ts';

export interface OpenPing {
  readonly host: string;
  /** Where the ping went; undefined for one that another host carries. */
  readonly to: IpEndpoint | undefined;
  /** Who may answer: the host itself, or the relay that was asked. */
  readonly answerer: string;
  readonly sentAt: number;
  /** The host that asked this one to probe: it gets the answer. */
  readonly relayFor: string | undefined;
}

const MAX_OPEN = 4096;
const FORGET_MS = 10_000;

export interface PingBook {
  open(id: string, ping: OpenPing): void;
  /** The ping that `id` answers, once, if `from` may answer it. */
  answer(id: string, from: string, now: number): OpenPing | undefined;
  readonly size: number;
}

export function createPingBook(): PingBook {
  const pings = new Map<string, OpenPing>();
  return {
    open(id, ping) {
      for (const [old, { sentAt }] of pings) {
        if (pings.size < MAX_OPEN && ping.sentAt - sentAt < FORGET_MS) break;
        pings.delete(old);
      }
      pings.set(id, ping);
    },
    answer(id, from, now) {
      const ping = pings.get(id);
      if (ping === undefined || ping.answerer !== from) return undefined;
      pings.delete(id);
      return now - ping.sentAt < FORGET_MS ? ping : undefined;
    },
    get size() {
      return pings.size;
    },
  };
}

/** Where a host's probes go: its gossip addresses. */
export function gossipEndpoints(record: HostRecord): IpEndpoint[] {
  return record.gossipAddresses.flatMap((text) => parseEndpoint(text) ?? []);
}

/**
 * Where an address of a host is asked for its key: the address with the port that the host's gossip listens on there, else on its first
 * gossip address (one port number a host is the rule). Undefined when the host names no gossip address.
 */
export function proofEndpoint(record: HostRecord, address: string): IpEndpoint | undefined {
  const endpoints = gossipEndpoints(record);
  const port = (endpoints.find((e) => e.address === address) ?? endpoints[0])?.port;
  return port === undefined ? undefined : { address, port };
}

const FIRST_RETRY_MS = 300;
const MAX_RETRY_MS = 30_000;
const SILENT_WAIT_MS = FIRST_RETRY_MS * 2 ** 5;
/** Proofs sent in one go: a mesh that claims a thousand addresses of a victim sends it this many datagrams a second at most from each host. */
const MAX_AT_ONCE = 50;

export interface Prover {
  /** `silent`: several tries over some ten seconds had no answer. Addresses of live hosts that have not answered yet and are due now, oldest first; each is due again later and later. `waiting`: there are any at all. */
  due(
    unproven: Iterable<{ readonly host: string; readonly address: string }>,
    now: number,
  ): { due: { host: string; address: string; silent: boolean }[]; waiting: boolean };
}

export function createProver(): Prover {
  let tries = new Map<string, { at: number; wait: number }>();
  return {
    due(unproven, now) {
      const next = new Map<string, { at: number; wait: number }>();
      const out: { host: string; address: string; silent: boolean }[] = [];
      for (const { host, address } of unproven) {
        const key = `${host} ${address}`;
        const last = tries.get(key) ?? { at: now, wait: FIRST_RETRY_MS };
        if (now >= last.at && out.length < MAX_AT_ONCE) {
          out.push({ host, address, silent: last.wait >= SILENT_WAIT_MS });
          next.set(key, { at: now + last.wait, wait: Math.min(MAX_RETRY_MS, last.wait * 2) });
        } else next.set(key, last);
      }
      tries = next; // what is proven or gone is forgotten
      return { due: out, waiting: next.size > 0 };
    },
  };
}
