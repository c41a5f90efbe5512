/**
 * The only file that runs libp2p and gossipsub. In: whom to dial, what to publish, who is admitted. Out: links by host id, topic messages
 * for the validator, streams as frames. Must never: hand up a byte of a peer whose host SVID was not verified, or leave a link half dead.
 */
import { createHash } from 'node:crypto';
import { type GossipSub, gossipsub, StrictNoSign, TopicValidatorResult } from '@chainsafe/libp2p-gossipsub';
import { identify } from '@libp2p/identify';
import type { Connection, PeerId, Stream } from '@libp2p/interface';
import { tcp } from '@libp2p/tcp';
import { lpStream } from '@libp2p/utils';
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import { createLibp2p, type Libp2p } from 'libp2p';
import { errorLine, MeshError } from '../../api/errors.ts';
import type { IpEndpoint } from '../../api/gossip/address.ts';
import type { Logger } from '../../runtime/log.ts';
import { boundPull } from './lazy-pull.ts';
import { lazyYamux } from './muxer.ts';
import { createPeerNames } from './peer-name.ts';
import type { Channel } from './sync.ts';
import { createTlsLink, type TlsLinkDeps } from './tls-link.ts';

export interface ProtocolHandler extends StreamLimits {
  answer(host: string, channel: Channel): Promise<void>;
}

export type TopicVerdict = 'accept' | 'ignore' | 'reject';

export interface NodeDeps {
  readonly host: string;
  readonly trustDomain: string;
  readonly listen: readonly IpEndpoint[];
  readonly identity: TlsLinkDeps['identity'];
  readonly admit: TlsLinkDeps['admit'];
  readonly topics: readonly string[];
  /** Judges a message of a link before it is delivered or forwarded. Delivery is this call: there is no other. */
  validate(topic: string, data: Uint8Array, from: string): TopicVerdict;
  /** Protocol -> what answers a stream that a linked host opened. */
  readonly protocols: ReadonlyMap<string, ProtocolHandler>;
  /** Before any cryptography: false refuses a connection from this address. */
  mayHandshake(address: string): boolean;
  /** False: no inbound link of this host now. */
  makeRoom(host: string): boolean;
  /** Bytes of the encrypted side of links. */
  onBytes(direction: 'sent' | 'received', bytes: number): void;
  onLink(host: string, up: boolean): void;
  /** Two connections to one host were found and both closed. */
  onCrossed(host: string): void;
  onRefused(error: unknown): void;
  readonly monotonic: () => number;
  readonly log: Logger;
}

export interface Link {
  readonly host: string;
  readonly direction: 'inbound' | 'outbound';
  /** Both gossip streams are open and the peer's subscription has arrived. */
  readonly healthy: boolean;
  readonly ageMs: number;
  readonly leaf: Uint8Array;
}

export interface StreamLimits {
  readonly timeoutMs: number;
  /** The largest frame that may come in; twice as much is buffered at most. */
  readonly maxFrameBytes: number;
}

export interface GossipNode {
  start(): Promise<void>;
  stop(): Promise<void>;
  links(): Link[];
  /** Resolves when linked. Rejects with LINK_WRONG_PEER when another host answers there; without `host`, any member will do. */
  dial(host: string | undefined, endpoints: readonly IpEndpoint[], signal: AbortSignal): Promise<void>;
  drop(host: string, reason: string): void;
  publish(topic: string, data: Uint8Array): Promise<void>;
  /** Runs `use` on a new stream to a linked host; the stream is closed afterwards, or aborted if `use` throws or takes over `timeoutMs`. */
  withStream<T>(
    host: string,
    protocol: string,
    limits: StreamLimits,
    use: (channel: Channel) => Promise<T>,
  ): Promise<T>;
}

/** Above the largest message of ours: smaller than this and IDONTWANT costs more than the message it saves. */
const IDONTWANT_BYTES = 32 * 1024;
const DIAL_MS = 4000;

export function createNode(deps: NodeDeps): GossipNode {
  const names = createPeerNames(deps.trustDomain);
  const hosts = new Map<string, string>(); // peer id -> host id, of open links
  const peers = new Map<string, { leaf: Uint8Array; openedAt: number }>(); // by host
  const leaves = new Map<string, Uint8Array>(); // by host, from the last handshake
  let libp2p: Libp2p<{ pubsub: GossipSub }> | undefined;
  let closing = false;

  const tls = createTlsLink({
    identity: deps.identity,
    admit(leaf) {
      const peer = deps.admit(leaf);
      hosts.set(names.peerIdOf(peer.host).toString(), peer.host);
      return peer;
    },
    peerIdOf: names.peerIdOf,
    onPeer: (peer, leaf) => void leaves.set(peer.host, leaf),
    onRefused: deps.onRefused,
    onBytes: deps.onBytes,
    // No pings of the multiplexer's own: the failure detector knows of a dead host long before, and drops its links.
    muxer: lazyYamux({
      enableKeepAlive: false,
      maxInboundStreams: 16,
      streamOptions: { maxStreamWindowSize: 1024 * 1024 },
    }),
  });
  const connectionsOf = (host: string): Connection[] =>
    libp2p?.getConnections(names.peerIdOf(host)).filter((c) => c.status === 'open') ?? [];

  const onOpen = (connection: Connection) => {
    const host = hosts.get(connection.remotePeer.toString());
    if (host === undefined)
      return connection.abort(new MeshError('LINK_REFUSED', 'a connection without a verified host'));
    const open = connectionsOf(host);
    if (open.length > 1) {
      // Hazard 3: gossipsub keeps its streams on one of the two and loses them when that one goes. Neither is kept.
      for (const c of open) c.abort(new MeshError('LINK_CROSSED', 'two connections to one host'));
      deps.onCrossed(host);
      return;
    }
    peers.set(host, { leaf: leaves.get(host) ?? new Uint8Array(), openedAt: deps.monotonic() });
    deps.onLink(host, true);
  };
  const onClose = (connection: Connection) => {
    const id = connection.remotePeer.toString();
    const host = hosts.get(id);
    if (host === undefined || connectionsOf(host).length > 0) return;
    if (peers.delete(host)) {
      leaves.delete(host);
      deps.onLink(host, false);
    }
  };

  const link = (host: string, openedAt: number, leaf: Uint8Array): Link | undefined => {
    const [connection] = connectionsOf(host);
    if (connection === undefined || libp2p === undefined) return undefined;
    const id = connection.remotePeer;
    const gossip = connection.streams.filter((s) => s.protocol.startsWith('/meshsub/') && s.status === 'open');
    const subscribed = deps.topics.every((topic) =>
      libp2p?.services.pubsub.getSubscribers(topic).some((p) => p.equals(id)),
    );
    const bothWays = gossip.some((s) => s.direction === 'inbound') && gossip.some((s) => s.direction === 'outbound');
    return {
      host,
      direction: connection.direction,
      healthy: bothWays && subscribed,
      ageMs: deps.monotonic() - openedAt,
      leaf,
    };
  };

  const validator = (
    from: { toString(): string },
    message: { topic: string; data: Uint8Array },
  ): TopicValidatorResult => {
    const host = hosts.get(from.toString());
    const verdict = host === undefined ? 'reject' : deps.validate(message.topic, message.data, host);
    if (verdict === 'accept') return TopicValidatorResult.Accept;
    return verdict === 'ignore' ? TopicValidatorResult.Ignore : TopicValidatorResult.Reject;
  };

  return {
    async start() {
      const node = await createLibp2p<{ pubsub: GossipSub }>({
        privateKey: names.keyOf(deps.host) as never,
        start: false,
        addresses: { listen: deps.listen.map(toMultiaddr) },
        transports: [tcp({ backlog: 511, maxConnections: 800 })],
        connectionEncrypters: [() => tls],
        connectionMonitor: { enabled: false },
        connectionManager: {
          maxConnections: 256,
          // A mass restart dials in from behind one address; the default of 5 a second resets the sixth.
          inboundConnectionThreshold: 1000, // `mayHandshake` rations them
          // More than the silent connections that `mayHandshake` lets in before they time out: nobody's silence keeps members out.
          maxIncomingPendingConnections: 640,
          maxParallelDials: 16,
          dialTimeout: DIAL_MS,
          inboundUpgradeTimeout: 5000,
          reconnectRetries: 0,
        },
        connectionGater: {
          denyInboundConnection: ({ remoteAddr }: { remoteAddr: Multiaddr }) =>
            !deps.mayHandshake(remoteAddr.toString().split('/')[2] ?? ''),
          denyInboundEncryptedConnection: (peer: PeerId) => !deps.makeRoom(hosts.get(peer.toString()) ?? ''),
          denyDialMultiaddr: () => false,
        },
        services: {
          identify: identify({ runOnConnectionOpen: true, maxMessageSize: 8 * 1024 }),
          pubsub: gossipsub(pubsubOptions(deps.topics)) as never,
        },
      } as never);
      boundPull(node.services.pubsub);
      node.addEventListener('connection:open', (event) => onOpen(event.detail));
      node.addEventListener('connection:close', (event) => onClose(event.detail));
      for (const topic of deps.topics) node.services.pubsub.topicValidators.set(topic, validator as never);
      for (const [protocol, handler] of deps.protocols)
        await node.handle(protocol, answerer(deps, hosts, handler), { maxInboundStreams: 4 });
      try {
        await node.start();
      } catch (cause) {
        await node.stop();
        const where = deps.listen.map((e) => `${e.address} port ${e.port}`).join(', ');
        throw new MeshError('LISTEN_FAILED', `gossip cannot listen on ${where}: ${errorLine(cause)}`, { cause });
      }
      libp2p = node;
      for (const topic of deps.topics) node.services.pubsub.subscribe(topic);
    },
    async stop() {
      closing = true;
      const node = libp2p;
      if (node === undefined) return;
      for (const host of peers.keys()) deps.log.debug('link closed', { host, reason: 'stopping' });
      await node.stop();
      libp2p = undefined;
    },
    links: () => [...peers].flatMap(([host, { openedAt, leaf }]) => link(host, openedAt, leaf) ?? []),
    async dial(host, endpoints, signal) {
      if (libp2p === undefined || closing) throw new MeshError('STOPPING', 'gossip does not run');
      const id = host === undefined ? undefined : names.peerIdOf(host);
      const suffix = id === undefined ? '' : `/p2p/${id.toString()}`;
      const targets = endpoints.map((e) => multiaddr(toMultiaddr(e) + suffix));
      if (targets.length === 0) throw new MeshError('NO_ADDRESS', `no gossip address of ${host} is known`);
      const connection = await libp2p.dial(targets, {
        signal: AbortSignal.any([signal, AbortSignal.timeout(DIAL_MS)]),
      });
      if (id === undefined || connection.remotePeer.equals(id)) return;
      connection.abort(new MeshError('LINK_WRONG_PEER', 'dialled another host'));
      throw new MeshError('LINK_WRONG_PEER', `dialled ${host} and met another host`);
    },
    drop(host, reason) {
      for (const connection of connectionsOf(host)) connection.abort(new MeshError('LINK_DROPPED', reason));
    },
    async publish(topic, data) {
      await libp2p?.services.pubsub.publish(topic, data);
    },
    async withStream(host, protocol, limits, use) {
      const [connection] = connectionsOf(host);
      if (connection === undefined) throw new MeshError('NOT_LINKED', `no link to ${host}`);
      const signal = AbortSignal.timeout(limits.timeoutMs);
      const stream = await connection.newStream(protocol, { signal });
      return await useStream(stream, limits, signal, use);
    },
  };
}

/** What was measured to matter (DESIGN 6); the mesh is closed and authenticated, so scoring, which takes peers behind one address for sybils, is off. */
function pubsubOptions(topics: readonly string[]): Parameters<typeof gossipsub>[0] {
  return {
    globalSignaturePolicy: StrictNoSign,
    allowedTopics: [...topics],
    msgIdFn: (message) =>
      createHash('sha256').update(message.topic).update('\0').update(message.data).digest().subarray(0, 20),
    // Two of the links that this host dialled are its mesh, whoever else chose it is taken in: such a graph is connected with hardly any
    // exception (Fenner and Frieze 1982: random k-out graphs, k >= 2), and nobody is refused by neighbours that have enough.
    D: 2,
    Dlo: 2,
    Dhi: 12,
    Dscore: 2,
    Dout: 2,
    Dlazy: 4,
    heartbeatInterval: 1000,
    floodPublish: true,
    batchPublish: true,
    fallbackToFloodsub: false,
    tagMeshPeers: false,
    allowPublishToZeroTopicPeers: true,
    ignoreDuplicatePublishError: true,
    gossipsubIWantFollowupMs: 12_000,
    pruneBackoff: 10_000,
    idontwantMinDataSize: IDONTWANT_BYTES,
    maxInboundDataLength: 64 * 1024,
    maxOutboundBufferSize: 1024 * 1024,
    maxInboundStreams: 4,
    maxOutboundStreams: 4,
    // One message of a link is judged before its next is read: a flood waits in the sender's socket, not in this process.
    awaitRpcHandler: true,
    awaitRpcMessageHandler: true,
    decodeRpcLimits: {
      maxSubscriptions: 8,
      maxMessages: 256,
      maxIhaveMessageIDs: 2000,
      maxIwantMessageIDs: 2000,
      maxIdontwantMessageIDs: 256,
      maxControlMessages: 32,
      maxPeerInfos: 0,
    },
    scoreParams: {
      IPColocationFactorWeight: 0,
      behaviourPenaltyWeight: 0,
      appSpecificWeight: 0,
      retainScore: 0,
    },
    scoreThresholds: { gossipThreshold: -1e9, publishThreshold: -1e9, graylistThreshold: -1e9 },
  };
}

function answerer(deps: NodeDeps, hosts: ReadonlyMap<string, string>, handler: ProtocolHandler) {
  return async (stream: Stream, connection: Connection): Promise<void> => {
    const host = hosts.get(connection.remotePeer.toString());
    if (host === undefined) return stream.abort(new MeshError('LINK_REFUSED', 'no verified host'));
    try {
      await useStream(stream, handler, AbortSignal.timeout(handler.timeoutMs), (channel) =>
        handler.answer(host, channel),
      );
    } catch (error) {
      deps.log.debug('a stream of a peer ended early', { host, protocol: stream.protocol, error });
    }
  };
}

async function useStream<T>(
  stream: Stream,
  limits: StreamLimits,
  signal: AbortSignal,
  use: (channel: Channel) => Promise<T>,
): Promise<T> {
  const framed = lpStream(stream, { maxDataLength: limits.maxFrameBytes, maxBufferSize: 2 * limits.maxFrameBytes });
  const channel: Channel = {
    send: (frame) => framed.write(frame, { signal }),
    async receive(maxBytes) {
      const frame = await framed.read({ signal });
      if (frame.byteLength > maxBytes)
        throw new MeshError('FRAME_TOO_LARGE', `a frame of ${frame.byteLength} bytes; at most ${maxBytes}`);
      return frame.subarray();
    },
  };
  try {
    const result = await use(channel);
    await stream.close({ signal });
    return result;
  } catch (error) {
    stream.abort(error as Error);
    throw error;
  }
}

function toMultiaddr({ address, port }: IpEndpoint): string {
  return `/${address.includes(':') ? 'ip6' : 'ip4'}/${address}/tcp/${port}`;
}
