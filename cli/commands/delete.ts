import { hasCode, MeshError } from '../../api/errors.ts';
import { displayName, type KindInfo, kindOf, resourcePath } from '../../api/resources/registry.ts';
import { connectApi } from '../client/connect.ts';
import { kindsTyped, type Scope, scopeOf } from '../client/resources.ts';
import { place, readSources } from '../client/sources.ts';
import { type CliContext, type Command, EXIT } from '../context.ts';
import { targets } from './get.ts';

interface DeleteOptions {
  readonly filename?: readonly string[];
  readonly namespace?: string;
  readonly dryRun?: boolean;
  readonly ignoreNotFound?: boolean;
}

interface Target {
  readonly info: KindInfo;
  readonly name: string;
  readonly scope: Scope;
}

/** `meshctl delete KIND NAME...` or `-f`: one request an object, in the order given; goes on after one that is not there. */
export const remove: Command<DeleteOptions> = async (context, options, args) => {
  const list =
    options.filename === undefined
      ? typedTargets(args, options)
      : await fileTargets(context, options, options.filename);
  const client = await connectApi(context, options);
  let failed = false;
  for (const { info, name, scope } of list) {
    // Kubernetes' clients name a dry run in the body too, and servers obey the body.
    const body = { kind: 'DeleteOptions', apiVersion: 'v1', ...(options.dryRun ? { dryRun: ['All'] } : {}) };
    const path = `${resourcePath(info, scope.namespace, name)}${options.dryRun ? '?dryRun=All' : ''}`;
    try {
      await client.send({ method: 'DELETE', path, body });
      context.out(`${displayName(info, name)} deleted${options.dryRun ? ' (dry run)' : ''}`);
    } catch (error) {
      if (!hasCode(error, 'API_REFUSED')) throw error;
      if (error.details.httpStatus === 404 && options.ignoreNotFound) continue;
      context.err(`error: ${displayName(info, name)}: ${error.message}`);
      failed = true;
    }
  }
  return failed ? EXIT.failed : EXIT.ok;
};

function typedTargets(args: readonly string[], options: DeleteOptions): Target[] {
  const { typed, names } = targets(args);
  const kinds = typed === '' ? [] : kindsTyped(typed);
  const [info] = kinds;
  if (info === undefined || kinds.length > 1 || names.length === 0)
    throw new MeshError('USAGE', 'give KIND NAME..., or -f FILE');
  if (!info.verbs.includes('delete'))
    throw new MeshError(
      'USAGE',
      info.kind === 'Host' ? 'a host is revoked: meshctl hosts revoke NAME' : `${info.kind} cannot be deleted`,
    );
  const scope = scopeOf(options);
  return names.map((name) => ({ info, name, scope }));
}

async function fileTargets(context: CliContext, options: DeleteOptions, files: readonly string[]): Promise<Target[]> {
  const list: Target[] = [];
  for (const object of await readSources(context, files)) {
    const value = object.source.value as {
      apiVersion?: unknown;
      kind?: unknown;
      metadata?: { name?: unknown; namespace?: unknown };
    } | null;
    const info = kindOf(String(value?.apiVersion), String(value?.kind));
    const name = value?.metadata?.name;
    if (info === undefined || !info.verbs.includes('delete') || typeof name !== 'string')
      throw new MeshError(
        'SOURCE_INVALID',
        `${place(object, 'kind')}: not an object that can be deleted: apiVersion, kind and metadata.name are needed`,
      );
    const namespace = typeof value?.metadata?.namespace === 'string' ? value.metadata.namespace : undefined;
    list.push({ info, name, scope: scopeOf({ namespace: namespace ?? options.namespace }) });
  }
  return list;
}
