import { type ObjectKey, objectKey } from '../../api/resources/object.ts';
import { kindByResource } from '../../api/resources/registry.ts';
import type { KindTarget } from './call.ts';

/** Where a path of the Kubernetes shape leads. `subresource` is what stands after the name; the caller refuses what it does not serve. */
export interface ResourcePath {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly namespace?: string;
  readonly name?: string;
  readonly subresource?: string;
}

/** `/api/v1/...` and `/apis/GROUP/VERSION/...`, decoded; undefined for shorter or longer paths and for broken escapes. */
export function parseResourcePath(path: string): ResourcePath | undefined {
  const parts = path.split('/').slice(1);
  if (parts.some((part) => part === '')) return undefined;
  let decoded: string[];
  try {
    decoded = parts.map(decodeURIComponent);
  } catch {
    return undefined;
  }
  const [root, ...rest] = decoded;
  const [group, version, ...tail] = root === 'api' ? ['', ...rest] : rest;
  if ((root !== 'api' && root !== 'apis') || group === undefined || version === undefined) return undefined;
  // `namespaces/N/PLURAL...`, but `namespaces` and `namespaces/N` are the core kind itself
  const scoped = tail[0] === 'namespaces' && tail.length >= 3;
  const [plural, name, subresource, ...more] = scoped ? tail.slice(2) : tail;
  if (plural === undefined || more.length > 0) return undefined;
  return { group, version, plural, name, subresource, ...(scoped && { namespace: tail[1] }) };
}

/** The kind that a path names, or undefined: not ours, or its scope is another. */
export function kindTarget(path: ResourcePath): KindTarget | undefined {
  const info = kindByResource(path.group, path.version, path.plural);
  if (info === undefined || (path.namespace !== undefined && !info.namespaced)) return undefined;
  if (info.namespaced && path.namespace === undefined && path.name !== undefined) return undefined;
  return { info, version: path.version, namespace: path.namespace, name: path.name };
}

/** Key of the object that a target with a name means. */
export function targetKey({ info, namespace, name }: KindTarget): ObjectKey {
  return objectKey(info.kind, info.namespaced ? namespace : undefined, name ?? '');
}

/** What the keys of a collection start with. */
export function prefixOf({ info, namespace }: KindTarget): string {
  return info.namespaced && namespace !== undefined ? `${info.kind}/${namespace}/` : `${info.kind}/`;
}
