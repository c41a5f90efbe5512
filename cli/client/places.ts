import { hasCode } from '../../api/errors.ts';
import { parseDocuments, type SourceObject } from '../../api/resources/documents.ts';
import { objectKey } from '../../api/resources/object.ts';
import { DEFAULT_NAMESPACE, kindByName } from '../../api/resources/registry.ts';
import type { CliContext } from '../context.ts';
import { renderData } from '../output/json.ts';
import type { ApiClient } from './api-client.ts';
import { getObject } from './resources.ts';
import { place, readSources } from './sources.ts';

/** Where a field of an object is written. */
export interface Places {
  /** `FILE:LINE:COL`, or the line in what `meshctl get KIND NAME -o yaml` prints; undefined: not found. `key` is `KIND/NAMESPACE/NAME`. */
  find(key: string, path: string): Promise<string | undefined>;
}

/** Looks in the operator's own files first, then at the stored object. */
export async function createPlaces(
  context: CliContext,
  files: readonly string[],
  client: ApiClient | undefined,
): Promise<Places> {
  const sources = new Map(
    (files.length === 0 ? [] : await readSources(context, files)).map((object) => [sourceKey(object.source), object]),
  );
  const stored = new Map<string, Promise<SourceObject | undefined>>();
  return {
    async find(key, path) {
      const source = sources.get(key);
      if (source !== undefined) return place(source, path);
      if (client === undefined || path === '') return undefined;
      const known = stored.get(key) ?? storedObject(client, key);
      stored.set(key, known);
      const object = await known;
      return object === undefined ? undefined : `line ${object.locate(path).line} of meshctl get -o yaml`;
    },
  };
}

function sourceKey({ value }: SourceObject): string {
  const { kind, metadata } = (value ?? {}) as { kind?: unknown; metadata?: { name?: unknown; namespace?: unknown } };
  const info = kindByName(String(kind));
  const namespace = info?.namespaced === false ? undefined : String(metadata?.namespace ?? DEFAULT_NAMESPACE);
  return objectKey(String(kind), namespace, String(metadata?.name));
}

/** The object as `get -o yaml` prints it, so that its lines can be counted; undefined where it cannot be read. */
async function storedObject(client: ApiClient, key: string): Promise<SourceObject | undefined> {
  const [kind = '', namespace = '', name = ''] = key.split('/');
  const info = kindByName(kind);
  if (info === undefined) return undefined;
  try {
    const object = await getObject(client, info, name, namespace === '' ? {} : { namespace });
    return object === undefined ? undefined : parseDocuments(renderData(object, 'yaml')).objects[0];
  } catch (error) {
    if (hasCode(error, 'API_REFUSED')) return undefined;
    throw error;
  }
}
