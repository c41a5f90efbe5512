/** Gossip's config side without a network: each host has about six neighbours, a message takes 5 to 25 ms a hop. For figures that are not those of a hundred gossip rooms in one process. */
import type { Gossip } from '../../agent/gossip/gossip-api.ts';
import type { PeerRow } from '../../api/http/admin-api.ts';

type ConfigSide = Pick<Gossip, 'announce' | 'onAnnounce' | 'fetchConfig' | 'serveConfig' | 'peers'>;

interface Node {
  readonly neighbours: Set<string>;
  readonly seen: Set<string>;
  judge: Parameters<Gossip['onAnnounce']>[0];
  serve: Parameters<Gossip['serveConfig']>[0];
}

const hop = () => new Promise((resolve) => setTimeout(resolve, 5 + 20 * Math.random()));

/** Members h0, h1 ... of one bus; a new one is linked to three of those before it. */
export function createMemoryGossip(): (host: string) => ConfigSide {
  const nodes = new Map<string, Node>();
  const deliver = async (to: string, from: string, text: string) => {
    await hop();
    const node = nodes.get(to) as Node;
    if (node.seen.has(text)) return;
    node.seen.add(text);
    if (node.judge(Buffer.from(text), from) === 'accept') spread(to, text, from);
  };
  const spread = (host: string, text: string, except?: string) => {
    for (const to of nodes.get(host)?.neighbours ?? []) if (to !== except) void deliver(to, host, text);
  };
  return (host) => {
    const others = [...nodes.keys()].sort(() => Math.random() - 0.5).slice(0, 3);
    const own: Node = {
      neighbours: new Set(others),
      seen: new Set(),
      judge: () => 'ignore',
      serve: () => Promise.reject(new Error('not yet')),
    };
    for (const other of others) nodes.get(other)?.neighbours.add(host);
    nodes.set(host, own);
    return {
      async announce(timestamp) {
        const text = Buffer.from(timestamp).toString();
        if (own.seen.has(text)) return;
        own.seen.add(text);
        spread(host, text);
      },
      onAnnounce(judge) {
        own.judge = judge;
      },
      serveConfig(answer) {
        own.serve = answer;
      },
      async fetchConfig(peer, request) {
        await hop();
        const answer = await (nodes.get(peer) as Node).serve(request, host);
        await hop();
        return answer;
      },
      peers: () =>
        [...nodes.keys()]
          .filter((name) => name !== host)
          .map((name) => ({ host: name, state: 'alive', linked: own.neighbours.has(name) }) as PeerRow),
    };
  };
}
