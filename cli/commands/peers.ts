import { ADMIN_API, type PeerRow } from '../../api/http/admin-api.ts';
import { connectAgent } from '../client/connect.ts';
import { type Command, EXIT } from '../context.ts';
import { type OutputFormat, renderData, versioned } from '../output/json.ts';
import { renderTable } from '../output/table.ts';

interface PeersOptions {
  readonly output?: OutputFormat;
}

/** `meshctl peers`, on a host: the hosts that this one knows by gossip. */
export const peers: Command<PeersOptions> = async (context, options) => {
  const rows = (await connectAgent(options).send({ method: 'GET', path: ADMIN_API.peers })).body as readonly PeerRow[];
  if (options.output === 'json' || options.output === 'yaml') {
    context.out(renderData(versioned('PeerList', { items: rows }), options.output).trimEnd());
    return EXIT.ok;
  }
  const header = ['host', 'state', 'record', 'linked', 'rtt', 'last seen', 'addresses', 'workloads'];
  const cells = rows.map((row) => [
    row.host,
    row.state,
    `${row.epoch}.${row.counter}`,
    row.linked ? 'yes' : '',
    row.rttMs === undefined ? '' : `${row.rttMs.toFixed(1)}ms`,
    row.lastSeenSecondsAgo === undefined ? '' : `${Math.round(row.lastSeenSecondsAgo)}s ago`,
    row.addresses.join(','),
    row.workloads.join(','),
  ]);
  context.out(renderTable(header, cells));
  return EXIT.ok;
};
