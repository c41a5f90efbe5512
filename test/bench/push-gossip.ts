/**
 * Config by gossip between hosts of two processes: the bus (test/gossip/memory-gossip.ts) is in one of them, and hosts of the other stand in it
 * by their names. What they hear they do not pass on before they hold it; the bus's own members do, as gossip does.
 */
import type { Gossip } from '../../agent/gossip/gossip-api.ts';
import type { PeerRow } from '../../api/http/admin-api.ts';
import { createMemoryGossip } from '../gossip/memory-gossip.ts';
import { type Calls, decoded, encoded } from './push-calls.ts';

/** What config takes of gossip. */
export type ConfigSide = Pick<Gossip, 'announce' | 'onAnnounce' | 'fetchConfig' | 'serveConfig' | 'peers'>;

/** The process that has the bus: its own hosts, and `far` ones through `calls`. */
export function createBus(calls: Calls, far: readonly string[]): (host: string) => ConfigSide {
  const bus = createMemoryGossip();
  const sides = new Map<string, ConfigSide>();
  const side = (host: string) => sides.get(host) as ConfigSide;
  calls.on('bus.announce', (host: string, timestamp: string) => side(host).announce(decoded(timestamp)));
  calls.on('bus.fetch', async (host: string, peer: string, request: string) =>
    encoded(await side(host).fetchConfig(peer, decoded(request))),
  );
  calls.on('bus.peers', (host: string) => side(host).peers());
  let joined = false;
  return (host) => {
    const own = bus(host);
    // Not first: they are linked to hosts of this process, as these are to one another.
    if (!joined && own.peers().length >= 3) {
      joined = true;
      for (const name of far) {
        const one = bus(name);
        sides.set(name, one);
        one.onAnnounce((timestamp, from) => {
          void calls.call('far.announced', name, encoded(timestamp), from).catch(() => {});
          return 'ignore';
        });
        one.serveConfig(async (request, peer) => decoded(await calls.call('far.serve', name, encoded(request), peer)));
      }
    }
    return own;
  };
}

/** The process of the far hosts. `peers` are those that the bus had when this was made. */
export async function createFarSide(calls: Calls, hosts: readonly string[]): Promise<(host: string) => ConfigSide> {
  const judges = new Map<string, Parameters<Gossip['onAnnounce']>[0]>();
  const servers = new Map<string, Parameters<Gossip['serveConfig']>[0]>();
  calls.on('far.announced', (host: string, timestamp: string, from: string) =>
    judges.get(host)?.(decoded(timestamp), from),
  );
  calls.on('far.serve', async (host: string, request: string, peer: string) => {
    const serve = servers.get(host);
    if (serve === undefined) throw new Error('not yet');
    return encoded(await serve(decoded(request), peer));
  });
  const peers = new Map<string, PeerRow[]>();
  for (const host of hosts) peers.set(host, await calls.call<PeerRow[]>('bus.peers', host));
  return (host) => ({
    announce: (timestamp) => calls.call('bus.announce', host, encoded(timestamp)),
    onAnnounce: (judge) => void judges.set(host, judge),
    fetchConfig: async (peer, request) => decoded(await calls.call('bus.fetch', host, peer, encoded(request))),
    serveConfig: (answer) => void servers.set(host, answer),
    peers: () => peers.get(host) ?? [],
  });
}
