import { formatEndpoint, type IpEndpoint, parseEndpoint } from '../../api/gossip/address.ts';
import type { Logger } from '../../runtime/log.ts';
import type { EndpointTable } from './endpoint-table.ts';
import type { GossipNode } from './node.ts';
import { gossipEndpoints } from './probes.ts';
import type { Trust } from './trust.ts';

export interface WhereaboutsDeps {
  readonly host: string;
  readonly trust: Trust;
  readonly table: EndpointTable;
  readonly listen: readonly IpEndpoint[];
  /** `IP:PORT` to dial while no link is there. */
  seeds(): readonly string[];
  node(): Pick<GossipNode, 'dial' | 'links'>;
  readonly log: Logger;
}

/** Who the members are, and where they can be dialled. */
export interface Whereabouts {
  /** Hosts that signed config grants, this one left out. */
  members(): string[];
  /** What the host's record and its grant name. */
  endpoints(host: string): readonly IpEndpoint[];
  /** One after the other, until a link is up. */
  dialSeeds(signal: AbortSignal): Promise<void>;
}

export function createWhereabouts({ host, trust, table, listen, seeds, node, log }: WhereaboutsDeps): Whereabouts {
  return {
    members: () => [...trust.grants().hosts.keys()].filter((peer) => peer !== host && trust.isMember(peer)),
    endpoints(peer) {
      const row = table.get(peer);
      const own = row === undefined ? [] : gossipEndpoints(row.record);
      const granted = trust.grants().hosts.get(peer)?.gossipAddresses ?? [];
      const texts = new Set([...own.map(formatEndpoint), ...granted]);
      return [...texts].flatMap((text) => parseEndpoint(text) ?? []);
    },
    async dialSeeds(signal) {
      for (const text of seeds()) {
        const endpoint = parseEndpoint(text);
        if (endpoint === undefined || listen.some((own) => formatEndpoint(own) === text)) continue;
        await node()
          .dial(undefined, [endpoint], signal)
          .catch((error: unknown) => log.debug('seed not reached', { endpoint: text, error }));
        if (node().links().length > 0) return;
      }
    },
  };
}
