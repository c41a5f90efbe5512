import { setTimeout as pause } from 'node:timers/promises';
import { MeshError } from '../../api/errors.ts';
import { ADMIN_API, type AgentStatus, type PeerRow } from '../../api/http/admin-api.ts';
import type { Host } from '../../api/http/operator-api.ts';
import { type KindInfo, kindByName } from '../../api/resources/registry.ts';
import type { ApiClient } from '../client/api-client.ts';
import { connectAgent, connectApi } from '../client/connect.ts';
import { listObjects } from '../client/resources.ts';
import { type CliContext, type Command, EXIT, type GlobalOptions } from '../context.ts';
import { type OutputFormat, renderData, versioned } from '../output/json.ts';
import { type Member, overlayDot, overlayText } from '../output/overlay.ts';
import { renderTable } from '../output/table.ts';

interface PeersOptions {
  readonly output?: OutputFormat;
  /** Seconds between two looks; true: 2. */
  readonly watch?: string | true;
  readonly dot?: boolean;
}

const WATCH_SECONDS = 2;

/** `meshctl peers`, on a host: the hosts that this one knows by gossip. `peers graph`: who is linked to whom. */
export const peers: Command<PeersOptions> = async (context, options, [what]) => {
  if (what !== undefined && what !== 'graph') throw new MeshError('USAGE', `peers ${what}: only \`graph\` is known`);
  if (what === 'graph') return graph(context, options);
  if (options.dot) throw new MeshError('USAGE', '--dot is for `peers graph`');
  const client = connectAgent(options);
  if (options.watch === undefined) return show(context, options.output, await ask(client));
  const seconds = options.watch === true ? WATCH_SECONDS : Number(options.watch);
  if (!(seconds >= 0.1 && seconds <= 3600)) throw new MeshError('USAGE', '--watch: seconds, 0.1 to 3600');
  for (;;) {
    const rows = await ask(client);
    if (options.output !== 'json' && options.output !== 'yaml') {
      const alive = rows.filter((row) => row.state === 'alive').length;
      context.out(`${new Date(context.now()).toISOString()}  ${alive} of ${rows.length} alive`);
    }
    show(context, options.output, rows);
    await pause(seconds * 1000);
  }
};

async function ask(client: ApiClient): Promise<readonly PeerRow[]> {
  return (await client.send({ method: 'GET', path: ADMIN_API.peers })).body as readonly PeerRow[];
}

function show(context: CliContext, output: OutputFormat | undefined, rows: readonly PeerRow[]): number {
  if (output === 'json' || output === 'yaml') {
    context.out(renderData(versioned('PeerList', { items: rows }), output).trimEnd());
    return EXIT.ok;
  }
  const header = [
    'host',
    'state',
    'incarnation',
    'degree',
    'rtt',
    'last seen',
    'records',
    'linked',
    'addresses',
    'workloads',
  ];
  const cells = rows.map((row) => [
    row.host,
    row.state,
    `${row.epoch}.${row.counter}`,
    row.degree === undefined ? '' : String(row.degree),
    row.rttMs === undefined ? '' : `${row.rttMs.toFixed(1)}ms`,
    row.lastSeenSecondsAgo === undefined ? '' : `${Math.round(row.lastSeenSecondsAgo)}s ago`,
    row.records === undefined ? '' : String(row.records),
    row.linked ? 'yes' : '',
    row.addresses.join(','),
    row.workloads.join(','),
  ]);
  context.out(renderTable(header, cells));
  return EXIT.ok;
}

/** From the controller: what all hosts reported. With --socket: the links of this host alone, which is all that it knows. */
async function graph(context: CliContext, options: GlobalOptions & PeersOptions): Promise<number> {
  if (options.watch !== undefined) throw new MeshError('USAGE', '--watch is for the table');
  const members = options.socket === undefined ? await reported(context, options) : await own(options);
  if (options.output === 'json' || options.output === 'yaml')
    context.out(renderData(versioned('Overlay', { items: members }), options.output).trimEnd());
  else context.out(options.dot === true ? overlayDot(members) : overlayText(members));
  return EXIT.ok;
}

async function reported(context: CliContext, options: GlobalOptions): Promise<Member[]> {
  const client = await connectApi(context, options);
  const hosts = (await listObjects(client, kindByName('Host') as KindInfo, {})) as unknown as Host[];
  return hosts
    .filter(({ spec }) => spec.revoked !== true)
    .map(({ metadata, status }) => ({ host: metadata.name, links: status?.peers.links }));
}

async function own(options: GlobalOptions): Promise<Member[]> {
  const client = connectAgent(options);
  const status = (await client.send({ method: 'GET', path: ADMIN_API.status })).body as AgentStatus;
  const rows = await ask(client);
  return [
    { host: status.host, links: rows.filter((row) => row.linked).map((row) => row.host) },
    ...rows.map(({ host }) => ({ host, links: undefined })),
  ].sort((a, b) => (a.host < b.host ? -1 : 1));
}
