import { MeshError } from '../../api/errors.ts';
import { ADMIN_API } from '../../api/http/admin-api.ts';
import type { HostAnswer, HostQuery } from '../../api/http/host-query.ts';
import { OPERATOR_API } from '../../api/http/operator-api.ts';
import type { CliContext, GlobalOptions } from '../context.ts';
import { connectAgent, connectApi } from './connect.ts';

/** Asks a host by its name through a controller; undefined: the agent of this machine, which needs no controller. */
export async function lookInto(
  context: CliContext,
  options: GlobalOptions,
  host: string | undefined,
  query: HostQuery,
): Promise<HostAnswer> {
  if (host === undefined) {
    const { body } = await connectAgent(options).send({ method: 'POST', path: ADMIN_API.look, body: query });
    return body as HostAnswer;
  }
  if (options.socket !== undefined)
    throw new MeshError('USAGE', `--socket asks the agent of this machine: no host is named with it, found ${host}`);
  const client = await connectApi(context, options);
  return (await client.send({ method: 'POST', path: OPERATOR_API.lookIntoHost(host), body: query })).body as HostAnswer;
}
