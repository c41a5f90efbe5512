import { MeshError } from '../../api/errors.ts';
import { type JoinToken, OPERATOR_API, JOIN_TOKEN_TTL_SECONDS as TTL } from '../../api/http/operator-api.ts';
import { parseDuration } from '../../api/resources/formats.ts';
import { connectApi } from '../client/connect.ts';
import { type Command, EXIT } from '../context.ts';
import { type OutputFormat, renderData } from '../output/json.ts';

interface TokenOptions {
  readonly host: string;
  readonly group?: readonly string[];
  readonly ttl?: string;
  readonly peer?: readonly string[];
  readonly output?: OutputFormat;
}

/** `meshctl token create`: the join string goes to stdout, once, and nowhere else: it is a secret. */
export const tokenCreate: Command<TokenOptions> = async (context, options) => {
  const ttlMs = options.ttl === undefined ? undefined : parseDuration(options.ttl);
  const ttlSeconds = (ttlMs ?? Number.NaN) / 1000;
  if (options.ttl !== undefined && !(Number.isInteger(ttlSeconds) && ttlSeconds >= TTL.min && ttlSeconds <= TTL.max))
    throw new MeshError('USAGE', '--ttl is a duration of whole seconds from 1s to 168h, such as 1h');
  const groups = options.group ?? [];
  for (const group of groups) {
    if (!/^[^/\s]+\/[^/\s]+$/.test(group))
      throw new MeshError('USAGE', `--group ${group.slice(0, 100)}: NAMESPACE/NAME of a WorkloadGroup is meant`);
  }
  const token: JoinToken = {
    apiVersion: 'hostmesh.io/v1',
    kind: 'JoinToken',
    spec: {
      host: options.host,
      workloadGroups: groups,
      ...(ttlMs === undefined ? {} : { ttlSeconds }),
      ...(options.peer === undefined ? {} : { peers: options.peer }),
    },
  };
  const client = await connectApi(context, options);
  const { body, warnings } = await client.send({ method: 'POST', path: OPERATOR_API.joinTokens, body: token });
  for (const warning of warnings) context.err(`warning: ${warning}`);
  const status = (body as JoinToken).status;
  if (status === undefined) throw new MeshError('API_BROKEN', 'the controller’s answer holds no join string');
  if (options.output === 'json' || options.output === 'yaml') context.out(renderData(body, options.output).trimEnd());
  else context.out(status.joinString);
  context.err(
    `for host ${options.host}, once, until ${status.expires}; on the host: mesh-agent join (it reads the string from stdin)`,
  );
  return EXIT.ok;
};
