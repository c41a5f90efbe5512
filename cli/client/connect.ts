import { MeshError } from '../../api/errors.ts';
import type { CliContext, GlobalOptions } from '../context.ts';
import { type ApiClient, createApiClient, createSocketClient } from './api-client.ts';
import { loadApiSettings } from './settings.ts';

/** Where an agent's admin socket is unless --socket says otherwise. */
export const ADMIN_SOCKET = '/run/mesh/admin.sock';

/** The controllers' API. Throws USAGE when --socket was given: it would be ignored. */
export async function connectApi(context: CliContext, options: GlobalOptions): Promise<ApiClient> {
  if (options.socket !== undefined)
    throw new MeshError(
      'USAGE',
      '--socket is for what an agent answers: status, peers, config dump, log-level, proxy-config, why',
    );
  return createApiClient(await loadApiSettings(context, options));
}

/** The agent of this host. Throws USAGE when a controller was named by a flag. */
export function connectAgent(options: GlobalOptions): ApiClient {
  if (options.api !== undefined)
    throw new MeshError('USAGE', 'this asks the agent of this host: --api has no place here');
  return createSocketClient(options.socket ?? ADMIN_SOCKET);
}
