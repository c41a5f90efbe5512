import { hasCode, MeshError } from '../../api/errors.ts';
import type { GossipRefusal, RefusedResource } from '../../api/http/agent-api.ts';
import { type Host, type MeshStatus, OPERATOR_API } from '../../api/http/operator-api.ts';
import { keyOf, type MeshObject } from '../../api/resources/object.ts';
import { type KindInfo, kindByName } from '../../api/resources/registry.ts';
import type { ApiClient } from '../client/api-client.ts';
import { connectApi } from '../client/connect.ts';
import { getObject, kindsTyped, listObjects, scopeOf } from '../client/resources.ts';
import { type CliContext, type Command, EXIT } from '../context.ts';
import { type OutputFormat, renderData } from '../output/json.ts';
import { age, plain, renderTable } from '../output/table.ts';
import { describeService } from './describe-service.ts';
import { targets } from './get.ts';

interface DescribeOptions {
  readonly namespace?: string;
  readonly output?: OutputFormat;
}

const HOST_KIND = kindByName('Host') as KindInfo;

/** `meshctl describe [host] NAME` for a host, `describe service NAME` for who serves it and what shapes it, `describe KIND NAME` for an object. */
export const describe: Command<DescribeOptions> = async (context, options, args) => {
  const client = await connectApi(context, options);
  const { typed, names } =
    args.length === 1 && !args[0]?.includes('/') ? { typed: 'host', names: [...args] } : targets(args);
  const kinds = kindsTyped(typed);
  const [info] = kinds;
  const [name] = names;
  if (info === undefined || kinds.length > 1 || name === undefined || names.length > 1)
    throw new MeshError('USAGE', 'give [host] NAME, or KIND NAME');
  const object = await getObject(client, info, name, scopeOf(options));
  if (object === undefined) {
    context.err(`error: ${info.singular} ${name} not found`);
    return EXIT.failed;
  }
  if (info.kind === 'Service' || info.kind === 'ServiceEntry') return describeService(context, client, object, options);
  if (info.kind === 'Host') return describeHost(context, client, object as unknown as Host, options.output);
  return describeObject(context, client, object, options.output);
};

async function describeHost(
  context: CliContext,
  client: ApiClient,
  host: Host,
  output: OutputFormat | undefined,
): Promise<number> {
  if (output === 'json' || output === 'yaml') {
    context.out(renderData(host, output).trimEnd());
    return EXIT.ok;
  }
  const { body } = await client.send({ method: 'GET', path: OPERATOR_API.status });
  context.out(hostText(host, (body as MeshStatus).generation, context.now()));
  return EXIT.ok;
}

/** A host for people: which generation it runs, what its Envoy acknowledged or refused and why, its workloads, its problems. */
export function hostText(host: Host, meshGeneration: number, now: number): string {
  const { spec, status } = host;
  const lines = [
    `Host:         ${host.metadata.name}${spec.revoked ? '  REVOKED' : ''}`,
    `Granted:      ${spec.workloadGroups.join(', ') || 'no WorkloadGroup'} (epoch ${spec.epoch})`,
  ];
  if (status === undefined) {
    lines.push(
      spec.revoked
        ? 'Status:       a revoked host reports no more'
        : 'Status:       this controller has heard nothing from the host since it started',
    );
    return lines.map(plain).join('\n');
  }
  const behind = status.ackedGeneration < meshGeneration ? `; the mesh is at ${meshGeneration}` : '';
  lines.push(
    `Reported:     ${age(Date.parse(status.reportedAt), now)} ago (what follows is as of then), agent ${status.agentVersion} (capability ${status.capability})`,
    `Generation:   ${status.generation} verified, ${status.ackedGeneration} acknowledged by Envoy${behind}`,
    `Envoy:        ${status.envoyConnected ? 'connected' : 'NOT CONNECTED'}`,
    `Peers:        ${status.peers.alive} alive, ${status.peers.suspect} suspect, ${status.peers.dead} dead`,
  );
  const text = lines.map(plain);
  text.push(...problemLines(status.problems), ...workloadLines(status.workloads), ...refusedLines(status.refused));
  text.push(...gossipLines(status.gossipRefused ?? [], now));
  return text.join('\n');
}

function problemLines(problems: readonly string[]): string[] {
  return problems.length === 0
    ? ['Problems:     none']
    : ['Problems:', ...problems.map((line) => `  - ${plain(line)}`)];
}

function workloadLines(workloads: NonNullable<Host['status']>['workloads']): string[] {
  if (workloads.length === 0) return ['Workloads:    none'];
  const rows = workloads.map(({ group, health, spiffeId, svidNotAfter }) => [
    group,
    health,
    spiffeId ?? '',
    svidNotAfter ?? 'none',
  ]);
  const table = renderTable(['group', 'health', 'spiffe id', 'certificate until'], rows);
  return ['Workloads:', ...table.split('\n').map((line) => `  ${line}`)];
}

function refusedLines(refused: readonly RefusedResource[]): string[] {
  if (refused.length === 0) return ['Refused:      nothing'];
  return ['Refused by Envoy (each keeps its last good version):', ...refused.flatMap(refusedText)];
}

/** What the host's gossip refused in the last hour, by whose fault it was. */
function gossipLines(refused: readonly GossipRefusal[], now: number): string[] {
  if (refused.length === 0) return ['Gossip refused: nothing in the last hour'];
  const rows = refused.map(({ host, reason, count, lastAt, detail }) => [
    host,
    reason,
    String(count),
    `${age(Date.parse(lastAt), now)} ago`,
    detail ?? '',
  ]);
  const table = renderTable(['from', 'reason', 'times', 'last', 'what'], rows);
  return ['Gossip refused:', ...table.split('\n').map((line) => `  ${line}`)];
}

function refusedText(one: RefusedResource): string[] {
  const type = one.typeUrl.replace(/^.*\./, '');
  const origins = one.origins.length === 0 ? '' : `\n    from ${one.origins.join(', ')}`;
  return `  - ${type} ${one.resource} (generation ${one.generation})${origins}\n    ${one.message}`
    .split('\n')
    .map(plain)
    .map((line) => line.trimEnd());
}

async function describeObject(
  context: CliContext,
  client: ApiClient,
  object: MeshObject,
  output: OutputFormat | undefined,
): Promise<number> {
  const refusals = await refusalsOf(client, keyOf(object));
  if (output === 'json' || output === 'yaml') {
    context.out(
      renderData(
        { apiVersion: 'hostmesh.io/v1', kind: 'Description', object, refusals: refusals.hosts },
        output,
      ).trimEnd(),
    );
    return EXIT.ok;
  }
  context.out(renderData(object, 'yaml').trimEnd());
  context.out('---');
  if (refusals.unknown) context.out('# Envoys: not known: this credential may not read hosts');
  else if (refusals.hosts.length === 0)
    context.out('# Envoys: none of the hosts that report refuses anything made of this object');
  for (const { host, refused } of refusals.hosts) {
    context.out(`# Refused on ${plain(host)}:`);
    for (const one of refused)
      context.out(
        refusedText(one)
          .map((line) => `# ${line}`)
          .join('\n'),
      );
  }
  return EXIT.ok;
}

async function refusalsOf(
  client: ApiClient,
  key: string,
): Promise<{ unknown: boolean; hosts: { host: string; refused: RefusedResource[] }[] }> {
  try {
    const hosts = (await listObjects(client, HOST_KIND, {})) as unknown as Host[];
    const found = hosts.map((host) => ({
      host: host.metadata.name,
      refused: (host.status?.refused ?? []).filter((one) => one.origins.includes(key)),
    }));
    return { unknown: false, hosts: found.filter(({ refused }) => refused.length > 0) };
  } catch (error) {
    if (hasCode(error, 'API_REFUSED') && error.details.httpStatus === 403) return { unknown: true, hosts: [] };
    throw error;
  }
}
