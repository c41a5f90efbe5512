import { isDeepStrictEqual } from 'node:util';
import type { MeshObject, ObjectMeta } from '../../api/resources/object.ts';
import { apiVersionOf, type KindInfo, kindByName } from '../../api/resources/registry.ts';
import type { Entry } from '../store/store.ts';
import { shown } from './secrets.ts';

/** The object of an entry as clients see it, in the storage version: resourceVersion is the entry's revision, never stored. */
export function objectOf(entry: Entry): MeshObject {
  const object = JSON.parse(entry.value) as MeshObject;
  return { ...object, metadata: { ...object.metadata, resourceVersion: String(entry.revision) } };
}

/** The object as a client sees it, under a served version (all versions of a kind share one schema): a Secret without its values. */
export function inVersion(object: MeshObject, info: KindInfo, version: string): MeshObject {
  return { ...shown(object), apiVersion: apiVersionOf(info, version) };
}

/** The text under which an object is stored. */
export function storedText(object: MeshObject): string {
  const { resourceVersion: _, ...metadata } = object.metadata;
  return JSON.stringify({ ...object, metadata });
}

/** A validated object as it is first stored: the server's own fields are made here, whatever the client sent. */
export function created(valid: MeshObject, made: { readonly uid: string; readonly now: number }): MeshObject {
  const metadata = { ...ownMeta(valid.metadata), uid: made.uid, generation: 1, creationTimestamp: timestamp(made.now) };
  return { ...valid, metadata };
}

/**
 * A validated object as it replaces `before`: uid and creationTimestamp stay, generation grows when anything but metadata changed.
 * Undefined when nothing changed at all: then nothing is written, so that resourceVersion stays.
 */
export function replaced(before: MeshObject, valid: MeshObject): MeshObject | undefined {
  const { uid, creationTimestamp, generation = 1 } = before.metadata;
  const bodyChanged = !isDeepStrictEqual(bodyOf(before), bodyOf(valid));
  const metaChanged = !isDeepStrictEqual(ownMeta(before.metadata), ownMeta(valid.metadata));
  if (!bodyChanged && !metaChanged) return undefined;
  const metadata = {
    ...ownMeta(valid.metadata),
    uid,
    generation: generation + (bodyChanged ? 1 : 0),
    creationTimestamp,
  };
  return { ...valid, metadata };
}

/** What the client owns of metadata; empty maps count as absent. */
function ownMeta({ name, namespace, labels, annotations }: ObjectMeta): ObjectMeta {
  const filled = (map: Readonly<Record<string, string>> | undefined) =>
    map !== undefined && Object.keys(map).length > 0 ? map : undefined;
  const own = { name, namespace, labels: filled(labels), annotations: filled(annotations) };
  return JSON.parse(JSON.stringify(own)) as ObjectMeta;
}

function bodyOf({ metadata: _, ...body }: MeshObject): unknown {
  return JSON.parse(JSON.stringify(body));
}

/** RFC 3339, whole seconds, as Kubernetes writes it. */
export function timestamp(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}

/** Splits a stored key; undefined for internal rows. */
export function kindOfKey(
  key: string,
): { readonly info: KindInfo; readonly namespace: string; readonly name: string } | undefined {
  const [kind = '', namespace = '', ...name] = key.split('/');
  const info = kindByName(kind);
  return info === undefined ? undefined : { info, namespace, name: name.join('/') };
}
