/**
 * In which form objects are shown: plain, as rows of a Table (kubectl get), or metadata only (metadata informers). Pure. In: the Accept
 * header and objects. Out: JSON values with their content type, or StatusError 406.
 */
import { notAcceptable } from '../../api/http/status-errors.ts';
import type { MeshObject, ObjectMeta } from '../../api/resources/object.ts';
import { apiVersionOf, type Column, type KindInfo } from '../../api/resources/registry.ts';
import { refuse } from './errors.ts';
import { inVersion } from './objects.ts';

export interface Form {
  readonly as: 'plain' | 'Table' | 'PartialObjectMetadata';
  /** Version of meta.k8s.io that the client named. */
  readonly version: string;
  readonly contentType: string;
}

export const PLAIN: Form = { as: 'plain', version: 'v1', contentType: 'application/json' };
const SHOWN = ['application/json', '*/*', 'application/*'];

/** The first alternative of the Accept header that we have; plain JSON when the client names none. */
export function formOf(accept: string): Form {
  for (const alternative of accept.slice(0, 2048).split(',')) {
    const [type = '', ...parameters] = alternative.split(';').map((part) => part.trim());
    if (type !== '' && !SHOWN.includes(type.toLowerCase())) continue;
    const named = Object.fromEntries(parameters.map((one) => one.split('=', 2)));
    if (named.as === undefined) return PLAIN;
    const as = named.as === 'PartialObjectMetadataList' ? 'PartialObjectMetadata' : named.as;
    const known = named.g === 'meta.k8s.io' && ['v1', 'v1beta1'].includes(named.v ?? '');
    if (known && (as === 'Table' || as === 'PartialObjectMetadata'))
      return { as, version: named.v as string, contentType: 'application/json' };
  }
  return refuse(notAcceptable(['application/json', 'application/json;as=Table;g=meta.k8s.io;v=v1']));
}

export interface ListMeta {
  readonly resourceVersion: string;
  readonly continue?: string;
  readonly remainingItemCount?: number;
}

/** What of an object a Table row carries besides its cells: `?includeObject=`. */
export type IncludeObject = 'None' | 'Metadata' | 'Object';

export interface Shown {
  readonly info: KindInfo;
  readonly version: string;
  readonly form: Form;
  readonly includeObject: IncludeObject;
  /** ms since the epoch; ages are told against it. */
  readonly now: number;
}

/** One object in its form. `columns: false` leaves out column definitions (later events of a watch). */
export function showObject(object: MeshObject, shown: Shown, columns = true): unknown {
  const { info, version, form } = shown;
  if (form.as === 'Table')
    return table([object], { resourceVersion: object.metadata.resourceVersion ?? '' }, shown, columns);
  if (form.as === 'PartialObjectMetadata') return partial(object, form.version);
  return inVersion(object, info, version);
}

/** A collection in its form. */
export function showList(objects: readonly MeshObject[], metadata: ListMeta, shown: Shown): unknown {
  const { info, version, form } = shown;
  if (form.as === 'Table') return table(objects, metadata, shown, true);
  if (form.as === 'PartialObjectMetadata') {
    const items = objects.map((object) => partial(object, form.version));
    return { kind: 'PartialObjectMetadataList', apiVersion: `meta.k8s.io/${form.version}`, metadata, items };
  }
  const items = objects.map((object) => inVersion(object, info, version));
  return { kind: `${info.kind}List`, apiVersion: apiVersionOf(info, version), metadata, items };
}

function partial(object: MeshObject, version: string): unknown {
  return { kind: 'PartialObjectMetadata', apiVersion: `meta.k8s.io/${version}`, metadata: object.metadata };
}

const NAME_COLUMN = { name: 'Name', type: 'string', format: 'name', description: 'Name of the object', priority: 0 };

function table(objects: readonly MeshObject[], metadata: ListMeta, shown: Shown, columns: boolean): unknown {
  const { info, form, includeObject, now } = shown;
  const definitions = info.columns.map(({ name, type, path, priority }) => ({
    name,
    type,
    format: '',
    description: path,
    priority,
  }));
  const rows = objects.map((object) => ({
    cells: [object.metadata.name, ...info.columns.map((column) => cell(object, column, now))],
    ...(includeObject === 'Metadata' && { object: partial(object, form.version) }),
    ...(includeObject === 'Object' && { object: inVersion(object, info, shown.version) }),
  }));
  return {
    kind: 'Table',
    apiVersion: `meta.k8s.io/${form.version}`,
    metadata,
    columnDefinitions: columns ? [NAME_COLUMN, ...definitions] : null,
    rows,
  };
}

function cell(object: MeshObject, column: Column, now: number): unknown {
  const value = valuesAt(object, column.path.split('.'));
  if (column.type === 'date') return typeof value === 'string' ? age(now - Date.parse(value)) : '<unknown>';
  if (value === undefined || value === null) return column.type === 'integer' ? 0 : '';
  if (column.type === 'integer') return value;
  return Array.isArray(value)
    ? value.map(String).join(',')
    : typeof value === 'object'
      ? JSON.stringify(value)
      : String(value);
}

/** The value at a dotted path; a list on the way gives the list of its items' values. */
function valuesAt(value: unknown, path: readonly string[]): unknown {
  const [first, ...rest] = path;
  if (first === undefined) return value;
  if (Array.isArray(value)) return value.map((item) => valuesAt(item, path)).filter((item) => item !== undefined);
  if (value === null || typeof value !== 'object') return undefined;
  return valuesAt((value as Record<string, unknown>)[first], rest);
}

/** As kubectl tells ages: two units where the first is small. */
export function age(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return `${minutes}m${seconds % 60 === 0 ? '' : `${seconds % 60}s`}`;
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 8) return `${hours}h${minutes % 60 === 0 ? '' : `${minutes % 60}m`}`;
  if (hours < 48) return `${hours}h`;
  const days = Math.floor(hours / 24);
  if (days < 8) return `${days}d${hours % 24 === 0 ? '' : `${hours % 24}h`}`;
  return days < 730 ? `${days}d` : `${Math.floor(days / 365)}y`;
}

/** Metadata that only a bookmark has. */
export function bookmark(revision: number, shown: Shown, initialEnd: boolean): unknown {
  const annotations = initialEnd ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {};
  const metadata = { name: '', resourceVersion: String(revision), ...annotations } as ObjectMeta;
  const object: MeshObject = { apiVersion: apiVersionOf(shown.info, shown.version), kind: shown.info.kind, metadata };
  return showObject(object, shown, false);
}
