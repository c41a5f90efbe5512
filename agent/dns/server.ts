import { randomBytes } from 'node:crypto';
import dgram from 'node:dgram';
import net from 'node:net';
import packet from 'dns-packet';
import type { Registry } from 'prom-client';
import { MeshError } from '../../api/errors.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Part } from '../../runtime/lifecycle.ts';
import type { Logger } from '../../runtime/log.ts';
import { createForwarder, createFramer, frame } from './forwarder.ts';
import type { InheritedSocket } from './listen-fds.ts';
import { type Answer, encodeAnswer, encodeError, parseQuery, type Query, RCODE } from './message.ts';
import { createDnsMetrics, type Outcome } from './metrics.ts';
import { decide, type Names } from './resolve.ts';
import type { Resolvers } from './upstreams.ts';

export interface DnsDeps {
  /** The mesh's names now; asked for at each query. */
  readonly names: () => Names;
  /** Namespace i is answered on port basePort + i (agent/workloads dnsNamespaces). */
  readonly namespaces: readonly string[];
  readonly basePort: number;
  /** Names that systemd-resolved, where there is one, sends to this server: to it they are not sent again. Default none. */
  readonly routed?: (name: string) => boolean;
  /** Found before capture (upstreams.ts). Called at start, and again when no resolver answers. */
  readonly findResolvers: () => Promise<Resolvers>;
  /** Sockets handed over by systemd or the lab; ports that are missing here are bound by this server itself on 127.0.0.1 and ::1. */
  readonly inherited: readonly InheritedSocket[];
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: Registry;
  readonly upstreamPort?: number;
  readonly upstreamTimeoutMs?: number;
}

/** Answers mesh names and forwards the rest. `problems`: one line each, for status. */
export interface Dns extends Part {
  problems(): readonly string[];
  /** Resolvers in use, those that lead back to this agent left out. */
  upstreams(): readonly string[];
}

type Reply = (message: Buffer) => void;

/** Name that only the loop probe asks for; `.invalid` exists nowhere (RFC 6761). */
const PROBE_SUFFIX = 'loop-probe.mesh.invalid';
const MAX_TCP_CONNECTIONS = 128;
const MAX_PIPELINED = 64;
const TCP_IDLE_MS = 10_000;
const REFRESH_MS = 30_000;
/** As mesh-agent-dns.socket asks for: a burst must not be lost while the event loop is busy. */
const RECEIVE_BYTES = 1 << 20;

export function createDns(deps: DnsDeps): Dns {
  const { log, clock } = deps;
  const closers: (() => void)[] = [];
  const looping = new Set<string>();
  const probes = new Map<string, string>();
  let resolvers: Resolvers = { servers: [], search: [] };
  let refreshedAt = Number.NEGATIVE_INFINITY;
  let noIpv6 = false;
  let stopped = false;
  const usable = () => resolvers.servers.filter((server) => !looping.has(server));
  const forwarder = createForwarder({
    servers: usable,
    clock,
    port: deps.upstreamPort,
    timeoutMs: deps.upstreamTimeoutMs,
  });
  const metrics = createDnsMetrics(deps.registry, forwarder.inFlight);
  const count = (outcome: Outcome) => metrics.queries.inc({ outcome });

  /** A fault of ours in one query must not end the process: systemd would restart it into the same query. */
  const handle = async (raw: Buffer, namespace: string, protocol: 'udp' | 'tcp', reply: Reply) => {
    try {
      await answerOrForward(raw, namespace, protocol, reply);
    } catch (error) {
      count('failed');
      log.error('query could not be handled', { error });
    }
  };

  const answerOrForward = async (raw: Buffer, namespace: string, protocol: 'udp' | 'tcp', reply: Reply) => {
    const parsed = parseQuery(raw);
    if (parsed === 'drop' || 'error' in parsed) {
      count('malformed');
      if (parsed !== 'drop') reply(encodeError(parsed.id, parsed.error));
      return;
    }
    const { query } = parsed;
    const send = (answer: Answer) => reply(encodeAnswer(query, answer, protocol === 'udp' ? query.udpLimit : 65_535));
    if (seenProbe(query)) return send({ rcode: RCODE.nxDomain, addresses: [], ttl: 0, zone: PROBE_SUFFIX });
    const decision = decide(query, namespace, deps.names(), resolvers.search);
    if (decision.kind === 'answer') {
      count(decision.answer.rcode === RCODE.nxDomain ? 'nxdomain' : 'answered');
      return send(decision.answer);
    }
    const since = clock.monotonic();
    try {
      const others = deps.routed?.(query.name) === true ? resolvers.uplinks : undefined;
      const answer = await forwarder.forward(query, protocol, others);
      metrics.upstreamSeconds.observe((clock.monotonic() - since) / 1000);
      count('forwarded');
      reply(answer);
    } catch (error) {
      count('failed');
      log.debug('name could not be forwarded', { error });
      send({ rcode: RCODE.servFail, addresses: [], ttl: 0 });
      void refresh();
    }
  };

  /** A probe of ours that comes in again: the resolver it went to leads back here. */
  const seenProbe = ({ name }: Query): boolean => {
    if (!name.endsWith(`.${PROBE_SUFFIX}`)) return false;
    const server = probes.get(name);
    if (server !== undefined && !looping.has(server)) {
      looping.add(server);
      metrics.loops.inc();
      log.error('resolver leads back to this agent; it is not used', { server });
    }
    return true;
  };

  /** Reads the host's resolvers (again) and probes each for a loop. At most every 30 s. */
  const refresh = async () => {
    if (clock.monotonic() - refreshedAt < REFRESH_MS) return;
    refreshedAt = clock.monotonic();
    try {
      resolvers = await deps.findResolvers();
    } catch (error) {
      log.warn('resolvers could not be read', { error });
      return;
    }
    looping.clear();
    await Promise.allSettled(
      resolvers.servers.map(async (server) => {
        const name = `${randomBytes(8).toString('hex')}.${PROBE_SUFFIX}`;
        probes.set(name, server);
        try {
          await forwarder.ask(server, probeQuery(name));
        } finally {
          probes.delete(name);
        }
      }),
    );
  };

  const serveUdp = (socket: dgram.Socket, namespace: string) => {
    socket.on('message', (raw, peer) => {
      // A resolver may answer after stop: then the socket is closed, and sending would throw.
      const reply: Reply = (message) => void (stopped || socket.send(message, peer.port, peer.address, () => {}));
      void handle(raw, namespace, 'udp', reply);
    });
    socket.on('error', (error) => log.warn('dns socket failed', { error }));
    closers.push(() => socket.close());
  };

  const serveTcp = (server: net.Server, namespace: string) => {
    const connections = new Set<net.Socket>();
    server.maxConnections = MAX_TCP_CONNECTIONS;
    server.on('connection', (socket) => {
      connections.add(socket);
      socket.once('close', () => connections.delete(socket));
      serveConnection(socket, (raw, reply) => handle(raw, namespace, 'tcp', reply));
    });
    server.on('error', (error) => log.warn('dns socket failed', { error }));
    closers.push(() => {
      server.close();
      for (const socket of connections) socket.destroy();
    });
  };

  const openPort = async (port: number, namespace: string) => {
    for (const [family, address] of [
      ['v4', '127.0.0.1'],
      ['v6', '::1'],
    ] as const) {
      const given = deps.inherited.filter((socket) => socket.port === port && socket.family === family);
      try {
        for (const fd of fdsOf(given, 'udp')) serveUdp(await bindUdp(family, address, port, fd), namespace);
        for (const fd of fdsOf(given, 'tcp')) serveTcp(await bindTcp(address, port, fd), namespace);
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code;
        if (family !== 'v6' || (code !== 'EADDRNOTAVAIL' && code !== 'EAFNOSUPPORT'))
          throw bindFailure(address, port, error);
        noIpv6 = true;
      }
    }
  };

  return {
    name: 'dns',
    async start() {
      // Before the ports: queries that waited in inherited sockets are read at once, and must not be told that there is nobody to ask.
      // The first read is waited for (a local file), the probes are not: readiness never waits for the network.
      await new Promise<void>((resolve) => {
        const found = deps.findResolvers().then((first) => {
          resolvers = first;
        });
        found.catch((error: unknown) => log.warn('resolvers could not be read', { error })).finally(resolve);
      });
      for (const [index, namespace] of deps.namespaces.entries()) await openPort(deps.basePort + index, namespace);
      void refresh();
      log.info('dns serves', {
        namespaces: deps.namespaces,
        port: deps.basePort,
        upstreams: resolvers.servers,
        inherited: deps.inherited.length,
        ipv6: !noIpv6,
      });
    },
    async stop() {
      stopped = true;
      for (const close of closers.splice(0)) close();
      forwarder.close();
    },
    problems: () =>
      [...looping]
        .map((server) => `dns: resolver ${server} leads back to this agent`)
        .concat(usable().length === 0 ? ['dns: no resolver to forward to'] : []),
    upstreams: usable,
  };
}

/** Descriptors to take over; [undefined], bind it ourselves, where none was handed over. */
function fdsOf(given: readonly InheritedSocket[], protocol: 'udp' | 'tcp'): (number | undefined)[] {
  const fds = given.filter((socket) => socket.protocol === protocol).map((socket) => socket.fd);
  return fds.length === 0 ? [undefined] : fds;
}

function bindUdp(family: 'v4' | 'v6', address: string, port: number, fd: number | undefined): Promise<dgram.Socket> {
  return new Promise((resolve, reject) => {
    const type = family === 'v4' ? 'udp4' : 'udp6';
    const socket = dgram.createSocket({
      type,
      ipv6Only: family === 'v6',
      recvBufferSize: fd === undefined ? RECEIVE_BYTES : undefined,
    });
    socket.once('error', reject);
    const bound = () => {
      socket.off('error', reject);
      resolve(socket);
    };
    if (fd === undefined) socket.bind({ address, port, exclusive: true }, bound);
    else socket.bind({ fd }, bound);
  });
}

function bindTcp(address: string, port: number, fd: number | undefined): Promise<net.Server> {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', reject);
    server.listen(fd === undefined ? { host: address, port, ipv6Only: true } : { fd }, () => {
      server.off('error', reject);
      resolve(server);
    });
  });
}

/** Pipelined queries on one connection, answered as they are ready (RFC 7766 6.2.1.1); bounded, and closed when idle. */
function serveConnection(socket: net.Socket, handle: (raw: Buffer, reply: Reply) => Promise<void>): void {
  let pending = 0;
  const framer = createFramer((raw) => {
    if (++pending > MAX_PIPELINED) return socket.destroy();
    void handle(raw, (message) => void (socket.writable && socket.write(frame(message)))).finally(() => pending--);
    return undefined;
  });
  socket.setTimeout(TCP_IDLE_MS, () => socket.destroy());
  socket.on('error', () => socket.destroy());
  socket.on('data', framer);
}

function probeQuery(name: string): Query {
  const raw = packet.encode({
    type: 'query',
    id: 0,
    flags: packet.RECURSION_DESIRED,
    questions: [{ type: 'A', name, class: 'IN' }],
  });
  const parsed = parseQuery(raw);
  if (parsed === 'drop' || 'error' in parsed) throw new MeshError('DNS_PROBE', 'the loop probe could not be made');
  return parsed.query;
}

function bindFailure(address: string, port: number, cause: unknown): MeshError {
  return new MeshError('DNS_BIND', `cannot listen on ${address} port ${port} for DNS`, {
    cause,
    details: { address, port },
  });
}
