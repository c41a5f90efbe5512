import { MeshError } from '../../api/errors.ts';
import type { MeshObject } from '../../api/resources/object.ts';
import { displayName, type KindInfo } from '../../api/resources/registry.ts';
import { connectApi } from '../client/connect.ts';
import { getObject, kindsTyped, listObjects, type Scope, scopeOf } from '../client/resources.ts';
import { type Command, EXIT } from '../context.ts';
import { type OutputFormat, renderData } from '../output/json.ts';
import { objectTable } from '../output/table.ts';

interface GetOptions {
  readonly namespace?: string;
  readonly allNamespaces?: boolean;
  readonly selector?: string;
  readonly output?: OutputFormat;
}

/** `meshctl get KIND [NAME...]`: KIND also `vs,dr`, a category such as istio-io, or KIND/NAME. */
export const get: Command<GetOptions> = async (context, options, args) => {
  const { typed, names } = targets(args);
  const kinds = kindsTyped(typed);
  if (names.length > 0 && kinds.length > 1) throw new MeshError('USAGE', 'names need one kind');
  const readable = kinds.filter((info) => info.verbs.includes('list'));
  if (readable.length === 0) throw new MeshError('USAGE', `${typed} cannot be listed`);
  const scope = scopeOf(options);
  const client = await connectApi(context, options);
  const found: { info: KindInfo; objects: MeshObject[] }[] = [];
  const missing: string[] = [];
  for (const info of readable) {
    if (names.length === 0) {
      found.push({ info, objects: await listObjects(client, info, scope, options.selector) });
      continue;
    }
    const objects: MeshObject[] = [];
    for (const name of names) {
      const object = await getObject(client, info, name, scope);
      if (object === undefined) missing.push(displayName(info, name));
      else objects.push(object);
    }
    found.push({ info, objects });
  }
  const all = found.flatMap((one) => one.objects);
  if (options.output === 'json' || options.output === 'yaml') {
    const single = names.length === 1 && all.length === 1;
    if (all.length > 0 || missing.length === 0)
      context.out(
        renderData(single ? all[0] : { apiVersion: 'v1', kind: 'List', items: all }, options.output).trimEnd(),
      );
  } else printTables(found, scope, context);
  for (const name of missing) context.err(`error: ${name} not found`);
  return missing.length > 0 ? EXIT.failed : EXIT.ok;
};

function printTables(
  found: readonly { info: KindInfo; objects: readonly MeshObject[] }[],
  scope: Scope,
  context: Parameters<Command>[0],
): void {
  const filled = found.filter(({ objects }) => objects.length > 0);
  if (filled.length === 0) {
    const where =
      scope.namespace === undefined || found.every(({ info }) => !info.namespaced)
        ? ''
        : ` in namespace ${scope.namespace}`;
    context.err(`no resources found${where}`);
  }
  for (const [i, { info, objects }] of filled.entries()) {
    if (found.length > 1) context.out(`${i > 0 ? '\n' : ''}${info.plural}:`);
    context.out(objectTable(info, objects, scope.namespace === undefined, context.now()));
  }
}

/** `KIND NAME...` or `KIND/NAME...` of one kind. */
export function targets(args: readonly string[]): { typed: string; names: string[] } {
  const [first = '', ...rest] = args;
  if (!first.includes('/')) return { typed: first, names: [...rest] };
  const pairs = args.map((arg) => arg.split('/'));
  const typed = pairs[0]?.[0] ?? '';
  if (pairs.some((pair) => pair.length !== 2 || pair[0] !== typed))
    throw new MeshError('USAGE', 'give KIND/NAME of one kind each');
  return { typed, names: pairs.map((pair) => pair[1] as string) };
}
