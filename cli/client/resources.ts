import { hasCode, MeshError } from '../../api/errors.ts';
import type { MeshObject } from '../../api/resources/object.ts';
import { DEFAULT_NAMESPACE, findKind, KINDS, type KindInfo, resourcePath } from '../../api/resources/registry.ts';
import type { ApiClient } from './api-client.ts';

/** What `-n` and `-A` say. Undefined: all namespaces. */
export interface Scope {
  readonly namespace?: string;
}

export function scopeOf(options: { readonly namespace?: string; readonly allNamespaces?: boolean }): Scope {
  return options.allNamespaces ? {} : { namespace: options.namespace ?? DEFAULT_NAMESPACE };
}

/** The kinds that `vs`, `vs,dr` or a category (`istio-io`) means. Throws MeshError USAGE. */
export function kindsTyped(typed: string): KindInfo[] {
  return typed.split(',').flatMap((word) => {
    const category = KINDS.filter((info) => info.categories.includes(word));
    if (category.length > 0) return category;
    const info = findKind(word);
    if (info === undefined) {
      const known = KINDS.map((one) => one.shortNames[0] ?? one.plural).join(', ');
      throw new MeshError('USAGE', `no kind is called ${word.slice(0, 100)}; known: ${known}`);
    }
    return [info];
  });
}

/** All objects of a kind in the scope, page by page. */
export async function listObjects(
  client: ApiClient,
  info: KindInfo,
  scope: Scope,
  selector?: string,
): Promise<MeshObject[]> {
  const items: MeshObject[] = [];
  let token = '';
  do {
    const query = new URLSearchParams({ limit: '500' });
    if (token !== '') query.set('continue', token);
    if (selector !== undefined) query.set('labelSelector', selector);
    const { body } = await client.send({ method: 'GET', path: `${resourcePath(info, scope.namespace)}?${query}` });
    const list = body as { items?: MeshObject[]; metadata?: { continue?: string } };
    // Items of a list may leave out what the list says of all of them.
    const apiVersion = `${info.group === '' ? '' : `${info.group}/`}${info.versions[0]}`;
    for (const item of list.items ?? [])
      items.push({ ...item, apiVersion: item.apiVersion ?? apiVersion, kind: item.kind ?? info.kind });
    token = list.metadata?.continue ?? '';
  } while (token !== '');
  return items;
}

/** One object, or undefined when there is none. */
export async function getObject(
  client: ApiClient,
  info: KindInfo,
  name: string,
  scope: Scope,
): Promise<MeshObject | undefined> {
  if (info.namespaced && scope.namespace === undefined)
    throw new MeshError('USAGE', 'a name and all namespaces do not go together: give -n NAMESPACE');
  try {
    return (await client.send({ method: 'GET', path: resourcePath(info, scope.namespace, name) })).body as MeshObject;
  } catch (error) {
    if (hasCode(error, 'API_REFUSED') && error.details.httpStatus === 404) return undefined;
    throw error;
  }
}
