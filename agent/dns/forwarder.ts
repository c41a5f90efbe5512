import { randomInt } from 'node:crypto';
import dgram from 'node:dgram';
import net from 'node:net';
import { MeshError } from '../../api/errors.ts';
import type { Clock } from '../../runtime/clock.ts';
import { isResponseTo, type Query, withId } from './message.ts';

/** Sends queries on to resolvers and brings their answers back unchanged. */
export interface Forwarder {
  /** The resolver's answer with the asker's id. `others`: these servers instead of the host's. Throws DNS_BUSY (too many at once), DNS_NO_UPSTREAM, DNS_UPSTREAM (none answered). */
  forward(query: Query, protocol: 'udp' | 'tcp', others?: readonly string[]): Promise<Buffer>;
  /** Asks one server and waits for any answer: for the loop probe. */
  ask(server: string, query: Query): Promise<Buffer>;
  inFlight(): number;
  close(): void;
}

export interface ForwarderDeps {
  /** Textual addresses in order of preference; asked for at each query. */
  readonly servers: () => readonly string[];
  readonly clock: Clock;
  /** Port of the servers; other than 53 in tests only. */
  readonly port?: number;
  readonly timeoutMs?: number;
  readonly maxInFlight?: number;
}

/** A server that did not answer is tried last for this long, so that one dead resolver does not cost each name its timeout. */
const DOWN_MS = 10_000;

/**
 * Each UDP query has a socket of its own: a source port and an id that nobody can guess, connected, so that the kernel drops what is not from
 * the server (RFC 5452). Fail-over on silence and socket errors; a SERVFAIL is an answer.
 */
export function createForwarder(deps: ForwarderDeps): Forwarder {
  const { clock, port = 53, timeoutMs = 2000, maxInFlight = 512 } = deps;
  const down = new Map<string, number>();
  const open = new Set<() => void>();
  let inFlight = 0;

  const attempt = async (server: string, query: Query, protocol: 'udp' | 'tcp') => {
    const id = randomInt(0x10000);
    const exchange = protocol === 'udp' ? exchangeUdp : exchangeTcp;
    const answer = await exchange({
      server,
      port,
      timeoutMs,
      open,
      request: withId(query.raw, id),
      accept: (m) => isResponseTo(m, id, query),
    });
    return withId(answer, query.id);
  };
  const ordered = (servers: readonly string[]) => {
    const now = clock.monotonic();
    const isDown = (server: string) => (down.get(server) ?? Number.NEGATIVE_INFINITY) > now;
    return [...servers.filter((s) => !isDown(s)), ...servers.filter(isDown)];
  };

  return {
    async forward(query, protocol, others) {
      if (inFlight >= maxInFlight) throw new MeshError('DNS_BUSY', `${maxInFlight} queries wait for resolvers already`);
      const servers = ordered(others ?? deps.servers());
      if (servers.length === 0) throw new MeshError('DNS_NO_UPSTREAM', 'this host has no resolver to forward to');
      inFlight++;
      try {
        let cause: unknown;
        for (const server of servers) {
          try {
            const answer = await attempt(server, query, protocol);
            down.delete(server);
            return answer;
          } catch (error) {
            cause = error;
            down.set(server, clock.monotonic() + DOWN_MS);
          }
        }
        throw new MeshError('DNS_UPSTREAM', 'no resolver answered', { cause, details: { servers } });
      } finally {
        inFlight--;
      }
    },
    ask: (server, query) => attempt(server, query, 'udp'),
    inFlight: () => inFlight,
    close() {
      for (const stop of open) stop();
    },
  };
}

interface Exchange {
  readonly server: string;
  readonly port: number;
  readonly timeoutMs: number;
  readonly request: Buffer;
  readonly accept: (message: Buffer) => boolean;
  /** Functions that end the exchanges under way. */
  readonly open: Set<() => void>;
}

function exchangeUdp({ server, port, timeoutMs, request, accept, open }: Exchange): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = dgram.createSocket(net.isIPv6(server) ? 'udp6' : 'udp4');
    const finish = (done: () => void) => {
      clearTimeout(timer);
      open.delete(stop);
      socket.removeAllListeners();
      socket.on('error', () => {});
      socket.close();
      done();
    };
    const fail = (cause: Error) => finish(() => reject(cause));
    const stop = () => fail(new MeshError('DNS_STOPPED', 'the DNS server stops'));
    const timer = setTimeout(() => fail(new MeshError('DNS_TIMEOUT', `${server} did not answer`)), timeoutMs);
    open.add(stop);
    socket.once('error', fail);
    socket.on('message', (message) => accept(message) && finish(() => resolve(message)));
    socket.connect(port, server, () => socket.send(request, (error) => error && fail(error)));
  });
}

function exchangeTcp({ server, port, timeoutMs, request, accept, open }: Exchange): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: server, port });
    const finish = (done: () => void) => {
      clearTimeout(timer);
      open.delete(stop);
      socket.destroy();
      done();
    };
    const fail = (cause: Error) => finish(() => reject(cause));
    const stop = () => fail(new MeshError('DNS_STOPPED', 'the DNS server stops'));
    const timer = setTimeout(() => fail(new MeshError('DNS_TIMEOUT', `${server} did not answer by TCP`)), timeoutMs);
    open.add(stop);
    const messages = createFramer((message) => accept(message) && finish(() => resolve(message)));
    socket.once('error', fail);
    socket.once('close', () => fail(new MeshError('DNS_CLOSED', `${server} closed the connection`)));
    socket.on('data', messages);
    socket.once('connect', () => socket.write(frame(request)));
  });
}

/** A message with its two-byte length, RFC 1035 4.2.2. */
export function frame(message: Buffer): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(message.length);
  return Buffer.concat([head, message]);
}

/** Cuts a TCP stream into messages; holds at most one message (64 KiB) and one chunk. */
export function createFramer(onMessage: (message: Buffer) => void): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0);
  return (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
      const end = 2 + rest.readUInt16BE(0);
      const message = rest.subarray(2, end);
      rest = rest.subarray(end);
      onMessage(message);
    }
  };
}
