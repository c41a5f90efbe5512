/**
 * A member that does not behave: a plain libp2p node with a real host SVID, whose streams and messages the test has in hand. Used to reproduce
 * the hazards of DESIGN 6 and to attack.
 */
import { type GossipSub, gossipsub, StrictNoSign } from '@chainsafe/libp2p-gossipsub';
import { yamux } from '@chainsafe/libp2p-yamux';
import { identify } from '@libp2p/identify';
import type { Connection, Stream } from '@libp2p/interface';
import { tcp } from '@libp2p/tcp';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p, type Libp2p } from 'libp2p';
import { createPeerNames } from '../../agent/gossip/peer-name.ts';
import { createTlsLink, LINK_PROTOCOL } from '../../agent/gossip/tls-link.ts';
import { TOPICS } from '../../agent/gossip/topics.ts';
import type { TestIdentity } from '../builders/test-ca.ts';
import { until } from './mesh.ts';

export interface RawPeer {
  readonly libp2p: Libp2p<{ pubsub?: GossipSub }>;
  dial(address: string, port: number): Promise<Connection>;
  publish(topic: keyof typeof TOPICS, data: Uint8Array): Promise<void>;
  /** Streams of gossipsub on any open connection. */
  meshStreams(direction: 'inbound' | 'outbound'): Stream[];
  connected(): boolean;
  stop(): Promise<void>;
}

/** Listens where `listen` says (or nowhere), presents `identity` as `host`. `pubsub` false: never opens a gossip stream. */
export async function createRawPeer(
  host: string,
  trustDomain: string,
  identity: TestIdentity,
  options: { listen?: string; pubsub?: boolean } = {},
): Promise<RawPeer> {
  const names = createPeerNames(trustDomain);
  const tls = createTlsLink({
    identity: () => ({ chainPem: identity.chainPem, privateKey: identity.privateKey }),
    admit(leaf) {
      const uri = /host\/([a-z0-9-]+)/.exec(Buffer.from(leaf).toString('latin1'))?.[1] ?? 'unknown';
      return { host: uri, publicKey: identity.privateKey, notAfter: Number.MAX_SAFE_INTEGER };
    },
    peerIdOf: names.peerIdOf,
    onPeer: () => {},
    onRefused: () => {},
    muxer: yamux()(),
  });
  if (tls.protocol !== LINK_PROTOCOL) throw new Error('protocol');
  const libp2p = await createLibp2p({
    privateKey: names.keyOf(host),
    addresses: { listen: options.listen === undefined ? [] : [options.listen] },
    transports: [tcp()],
    connectionEncrypters: [() => tls],
    connectionMonitor: { enabled: false },
    connectionManager: { reconnectRetries: 0, inboundConnectionThreshold: 1000 },
    services: {
      identify: identify(),
      ...(options.pubsub === false
        ? {}
        : {
            pubsub: gossipsub({
              globalSignaturePolicy: StrictNoSign,
              allowPublishToZeroTopicPeers: true,
              fallbackToFloodsub: false,
              floodPublish: true,
              scoreParams: { IPColocationFactorWeight: 0, behaviourPenaltyWeight: 0 },
            }) as never,
          }),
    },
  } as never);
  const node = libp2p as unknown as Libp2p<{ pubsub?: GossipSub }>;
  for (const topic of Object.values(TOPICS)) node.services.pubsub?.subscribe(topic);
  const open = () => node.getConnections().filter((c) => c.status === 'open');
  return {
    libp2p: node,
    dial: (address, port) => node.dial(multiaddr(`/ip4/${address}/tcp/${port}`)),
    async publish(topic, data) {
      const { pubsub } = node.services;
      if (pubsub === undefined) return;
      // Before a neighbour's subscription has arrived there is nobody to send to, and gossipsub would say nothing.
      await until(
        () => pubsub.getSubscribers(TOPICS[topic]).length > 0,
        5000,
        () => 'nobody subscribed',
      );
      await pubsub.publish(TOPICS[topic], data);
    },
    meshStreams: (direction) =>
      open().flatMap((c) => c.streams.filter((s) => s.protocol.startsWith('/meshsub') && s.direction === direction)),
    connected: () => open().length > 0,
    stop: async () => node.stop(),
  };
}

/** One metric's value of a host, by labels. */
export async function metric(
  registry: { getSingleMetric(name: string): unknown },
  name: string,
  labels: Record<string, string> = {},
): Promise<number> {
  const found = registry.getSingleMetric(`mesh_agent_gossip_${name}`) as {
    get(): Promise<{ values: { labels: Record<string, unknown>; value: number }[] }>;
  };
  const { values } = await found.get();
  return values
    .filter((v) => Object.entries(labels).every(([k, want]) => v.labels[k] === want))
    .reduce((sum, v) => sum + v.value, 0);
}
