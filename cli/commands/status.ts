import { ADMIN_API, type AgentStatus } from '../../api/http/admin-api.ts';
import { type MeshStatus, OPERATOR_API } from '../../api/http/operator-api.ts';
import { connectAgent, connectApi } from '../client/connect.ts';
import { type Command, EXIT } from '../context.ts';
import { type OutputFormat, renderData, versioned } from '../output/json.ts';
import { age, plain } from '../output/table.ts';

interface StatusOptions {
  readonly output?: OutputFormat;
}

/** `meshctl status`: the mesh as a controller sees it, or with --socket the agent of this host. */
export const status: Command<StatusOptions> = async (context, options) => {
  if (options.socket !== undefined) {
    const agent = (await connectAgent(options).send({ method: 'GET', path: ADMIN_API.status })).body as AgentStatus;
    if (options.output === 'json' || options.output === 'yaml')
      context.out(renderData(versioned('AgentStatus', agent), options.output).trimEnd());
    else context.out(agentText(agent, context.now()));
    return agent.ready ? EXIT.ok : EXIT.failed;
  }
  const client = await connectApi(context, options);
  const mesh = (await client.send({ method: 'GET', path: OPERATOR_API.status })).body as MeshStatus;
  if (options.output === 'json' || options.output === 'yaml') context.out(renderData(mesh, options.output).trimEnd());
  else context.out(meshText(mesh));
  return EXIT.ok;
};

/** The mesh for people. */
export function meshText(mesh: MeshStatus): string {
  const { hosts, rootKeys } = mesh;
  const lines = [
    `Trust domain: ${mesh.trustDomain}`,
    `Generation:   ${mesh.generation} (store revision ${mesh.revision}), ${mesh.objects} objects`,
    `Hosts:        ${hosts.total} granted, ${hosts.reporting} reporting, ${hosts.current} at this generation, ${hosts.revoked} revoked`,
    `Root keys:    ${rootKeys.threshold} of ${rootKeys.total}${rootKeys.keptOnController ? '; KEPT ON THE CONTROLLER: for demonstrations only' : ', offline'}`,
    ...(mesh.timestampExpires === undefined ? [] : [`Signed until: ${mesh.timestampExpires}`]),
    'Controllers:',
    ...mesh.controllers.map(
      (one) =>
        `  ${one.name} ${one.url} ${one.reachable ? 'reachable' : 'NOT REACHABLE'}${one.self ? ' (answered)' : ''}`,
    ),
    ...problems(mesh.problems),
  ];
  return lines.map(plain).join('\n');
}

function agentText(agent: AgentStatus, now: number): string {
  const lines = [
    `Host:         ${agent.host}, agent ${agent.agentVersion}, up ${age(Date.parse(agent.startedAt), now)}`,
    `Ready:        ${agent.ready ? 'yes' : 'NO'}`,
    `Generation:   ${agent.generation} verified, ${agent.ackedGeneration} acknowledged by Envoy (verified fresh ${agent.configAgeSeconds}s ago)`,
    `Envoy:        ${agent.envoyConnected ? 'connected' : 'NOT CONNECTED'}${agent.refused.length > 0 ? `, refuses ${agent.refused.length} resources` : ''}`,
    `Peers:        ${agent.peers.alive} alive, ${agent.peers.suspect} suspect, ${agent.peers.dead} dead`,
    'Controllers:',
    ...agent.controllers.map(
      (one) =>
        `  ${one.url} ${one.reachable ? 'reachable' : one.lastError ? `not reachable: ${one.lastError}` : 'not asked yet'}`,
    ),
    'Workloads:',
    ...agent.workloads.map(
      (one) =>
        `  ${one.group} ${one.health} ${one.spiffeId ?? 'no certificate'}${one.svidNotAfter ? ` until ${one.svidNotAfter}` : ''}`,
    ),
    ...agent.refused.map((one) => `Refused:      ${one.resource}: ${one.message}`),
    ...(agent.gossipRefused ?? []).map(
      ({ host, reason, count, lastAt, detail }) =>
        `Gossip:       refused ${host} ${count} times: ${reason}${detail === undefined ? '' : ` (${detail})`}, last ${age(Date.parse(lastAt), now)} ago`,
    ),
    ...problems(agent.problems),
  ];
  return lines.map(plain).join('\n');
}

function problems(list: readonly string[]): string[] {
  return list.length === 0 ? ['Problems:     none'] : ['Problems:', ...list.map((line) => `  - ${line}`)];
}
