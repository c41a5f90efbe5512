import { MeshError } from '../../api/errors.ts';
import { ADMIN_API } from '../../api/http/admin-api.ts';
import { connectAgent } from '../client/connect.ts';
import { type Command, EXIT } from '../context.ts';
import { type OutputFormat, renderData } from '../output/json.ts';

const DUMPS: Readonly<Record<string, string>> = {
  envoy: ADMIN_API.config,
  desired: ADMIN_API.desired,
  endpoints: ADMIN_API.endpoints,
};
const LEVELS = ['error', 'warn', 'info', 'debug'];

/** `meshctl config dump [envoy|desired|endpoints]`, on a host: what the agent serves to Envoy, has verified, or knows by gossip. No secrets. */
export const configDump: Command<{ readonly output?: OutputFormat }> = async (context, options, args) => {
  const what = args[0] ?? 'envoy';
  const path = DUMPS[what];
  if (path === undefined) throw new MeshError('USAGE', `config dump takes one of ${Object.keys(DUMPS).join(', ')}`);
  const { body } = await connectAgent(options).send({ method: 'GET', path });
  context.out(renderData(body, options.output === 'yaml' ? 'yaml' : 'json').trimEnd());
  return EXIT.ok;
};

/** `meshctl log-level LEVEL`, on a host: of the running agent, until it restarts. */
export const logLevel: Command = async (_context, options, args) => {
  const level = args[0] ?? '';
  if (!LEVELS.includes(level)) throw new MeshError('USAGE', `a level is one of ${LEVELS.join(', ')}`);
  await connectAgent(options).send({ method: 'POST', path: ADMIN_API.logLevel, body: { level } });
  return EXIT.ok;
};
