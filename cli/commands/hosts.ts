import { type Host, OPERATOR_API } from '../../api/http/operator-api.ts';
import { connectApi } from '../client/connect.ts';
import { type Command, EXIT } from '../context.ts';
import { get } from './get.ts';

/** `meshctl hosts list`: what `get hosts` prints. */
export const hostsList: Command = (context, options) => get(context, options, ['hosts']);

/** `meshctl hosts revoke NAME...`: the host's endpoints leave, gossip drops it, its certificates are refused, within seconds. */
export const hostsRevoke: Command = async (context, options, args) => {
  const client = await connectApi(context, options);
  for (const name of args) {
    const { body } = await client.send({ method: 'POST', path: OPERATOR_API.revokeHost(name), body: {} });
    context.out(`host/${(body as Host | undefined)?.metadata?.name ?? name} revoked`);
  }
  return EXIT.ok;
};
