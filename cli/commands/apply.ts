import { hasCode, MeshError } from '../../api/errors.ts';
import { APPLY_CAUSE_FIELD, type ApplyResponse, OPERATOR_API, OPERATOR_LIMITS } from '../../api/http/operator-api.ts';
import type { Status } from '../../api/http/status-errors.ts';
import { displayName, kindByName, kindOf } from '../../api/resources/registry.ts';
import { connectApi } from '../client/connect.ts';
import { place, readSources, type SourcedObject } from '../client/sources.ts';
import { type CliContext, type Command, EXIT } from '../context.ts';
import { type OutputFormat, renderData } from '../output/json.ts';
import { plain } from '../output/table.ts';

interface ApplyOptions {
  readonly filename: readonly string[];
  readonly namespace?: string;
  readonly dryRun?: boolean;
  readonly output?: OutputFormat;
}

/** `meshctl apply -f`: all objects in one transaction: all are stored, or none. */
export const apply: Command<ApplyOptions> = async (context, options) => {
  const sources = await readSources(context, options.filename);
  const objects = sources.map((one) => placed(one, options.namespace));
  if (objects.length > OPERATOR_LIMITS.maxTransactionObjects)
    throw new MeshError(
      'SOURCE_INVALID',
      `${objects.length} objects; a transaction takes ${OPERATOR_LIMITS.maxTransactionObjects}`,
    );
  const client = await connectApi(context, options);
  const path = `${OPERATOR_API.apply}${options.dryRun ? '?dryRun=All' : ''}`;
  let response: ApplyResponse;
  try {
    response = (await client.send({ method: 'POST', path, body: { objects } })).body as ApplyResponse;
  } catch (error) {
    if (!hasCode(error, 'API_REFUSED')) throw error;
    explainRefusal(context, error, sources);
    return EXIT.failed;
  }
  for (const [i, result] of response.results.entries()) {
    const source = sources[i];
    for (const { path: at, message, code } of result.warnings) {
      const where = source === undefined ? result.key : place(source, at);
      const kind = code === undefined ? 'warning' : `warning [${code}]`;
      context.err(plain(`${kind}: ${where}: ${result.key}: ${at === '' ? '' : `${at}: `}${message}`));
    }
  }
  for (const note of response.notes ?? []) context.err(plain(`note: ${note}`));
  if (options.output === 'json' || options.output === 'yaml')
    context.out(renderData(response, options.output).trimEnd());
  else
    for (const { key, action } of response.results)
      context.out(`${shownKey(key)} ${action}${response.dryRun ? ' (dry run)' : ''}`);
  return EXIT.ok;
};

/** The object with `-n` filled in where it names no namespace; one that names another is a mistake worth stopping for. */
function placed(object: SourcedObject, namespace: string | undefined): unknown {
  const value = object.source.value as { apiVersion?: string; kind?: string; metadata?: { namespace?: string } } | null;
  if (namespace === undefined || typeof value !== 'object' || value === null) return value;
  if (kindOf(String(value.apiVersion), String(value.kind))?.namespaced === false) return value;
  const own = value.metadata?.namespace;
  if (own !== undefined && own !== namespace)
    throw new MeshError(
      'SOURCE_INVALID',
      `${place(object, 'metadata.namespace')}: the object is in namespace ${own}, -n says ${namespace}`,
    );
  return { ...value, metadata: { ...value.metadata, namespace } };
}

/** `VirtualService/default/reviews` as `virtualservice.networking.istio.io/reviews`. */
function shownKey(key: string): string {
  const [kind = '', namespace = '', name = ''] = key.split('/');
  const info = kindByName(kind);
  const text = info === undefined ? key : displayName(info, name);
  return plain(namespace === '' || namespace === 'default' ? text : `${text} (${namespace})`);
}

/** One line a cause, with the line of the file where it stands; the causes that name no object come as they are. */
export function explainRefusal(context: CliContext, error: MeshError, sources: readonly SourcedObject[]): void {
  const status = error.details.status as Status | undefined;
  const causes = status?.details?.causes ?? [];
  if (causes.length === 0) {
    context.err(plain(`error: ${error.message}`));
    return;
  }
  for (const cause of causes) {
    const match = APPLY_CAUSE_FIELD.exec(cause.field ?? '');
    const source = match === null ? undefined : sources[Number(match[1])];
    const path = match?.[2] ?? cause.field ?? '';
    const where = source === undefined ? 'error' : place(source, path);
    context.err(
      plain(
        `${where}: ${source === undefined ? '' : `${title(source)}: `}${path === '' ? '' : `${path}: `}${cause.message}`,
      ),
    );
  }
  context.err('nothing was stored');
}

/** `KIND NAME` of an object that may be anything. */
export function title(object: SourcedObject): string {
  const value = object.source.value as { kind?: unknown; metadata?: { name?: unknown; namespace?: unknown } } | null;
  const name = value?.metadata?.name;
  return `${typeof value?.kind === 'string' ? value.kind : 'object'}${typeof name === 'string' ? ` ${name}` : ''}`;
}
