/**
 * The three patches (RFC 7386, RFC 6902, Kubernetes' strategic merge). Pure. In: the object as JSON and the patch, both bounded in depth and
 * size by the caller; the patch is untrusted. Out: a new object, or StatusError 400, 415 or 422. Nothing is changed in place.
 */
import { badRequest, failure, unsupportedMediaType } from '../../api/http/status-errors.ts';
import type { KindInfo } from '../../api/resources/registry.ts';
import { refuse } from './errors.ts';

export const MERGE_PATCH = 'application/merge-patch+json';
export const JSON_PATCH = 'application/json-patch+json';
export const STRATEGIC_MERGE_PATCH = 'application/strategic-merge-patch+json';

type Json = unknown;
type JsonObject = Readonly<Record<string, Json>>;

/** Kinds whose lists merge by key: list path -> the key field (patchMergeKey of the core types). Other lists are replaced whole. */
const MERGE_KEYS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  Service: { 'spec.ports': 'port' },
  ServiceAccount: { secrets: 'name' },
};

/** Paths of the lists of `kind` that merge by key, with that key; clients must know them too (OpenAPI extensions). */
export function mergeKeysOf(kind: string): Readonly<Record<string, string>> {
  return MERGE_KEYS[kind] ?? {};
}

/** Patch types that `info` takes: strategic merge is for core kinds only, as in Kubernetes. */
export function patchTypesOf(info: KindInfo): readonly string[] {
  return info.group === '' ? [JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH] : [JSON_PATCH, MERGE_PATCH];
}

/** Throws 415 with the types that are taken. */
export function requirePatchType(type: string, info: KindInfo): void {
  const accepted = patchTypesOf(info);
  if (type.startsWith('application/apply-patch')) {
    const why = 'server-side apply is not served; use client-side apply, or POST /apis/hostmesh.io/v1/apply';
    refuse(unsupportedMediaType(type, accepted, why));
  }
  if (!accepted.includes(type)) refuse(unsupportedMediaType(type, accepted));
}

/** `object` with the patch of media type `type` applied. */
export function applyPatch(type: string, info: KindInfo, object: JsonObject, patch: Json): Json {
  requirePatchType(type, info);
  if (type === JSON_PATCH) return jsonPatch(object, patch);
  if (!isObject(patch)) return refuse(badRequest('the patch must be a JSON object'));
  return type === MERGE_PATCH ? mergePatch(object, patch) : strategicMerge(object, patch, '', mergeKeysOf(info.kind));
}

function isObject(value: Json): value is JsonObject {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/** RFC 7386: null removes, objects merge, all else replaces. */
export function mergePatch(target: Json, patch: Json): Json {
  if (!isObject(patch)) return patch;
  const result: Record<string, Json> = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}

const MAX_OPERATIONS = 10_000;
/** Bytes that `copy` may add in all: copies of copies double (Kubernetes bounds them the same way). */
const MAX_COPIED = 3 * 1024 * 1024;

/** RFC 6902, applied whole or not at all. */
export function jsonPatch(target: Json, patch: Json): Json {
  if (!Array.isArray(patch)) return refuse(badRequest('a JSON patch is a list of operations'));
  if (patch.length > MAX_OPERATIONS) refuse(badRequest(`a JSON patch has at most ${MAX_OPERATIONS} operations`));
  const root = { value: structuredClone(target) };
  let copied = 0;
  for (const [i, operation] of patch.entries()) {
    if (!isObject(operation)) refuse(badRequest(`JSON patch [${i}]: an operation is an object`));
    const { op, path, from, value } = operation as Record<string, Json>;
    const fail = (why: string): never =>
      refuse(patchFailed(`JSON patch [${i}] ${String(op)} ${String(path).slice(0, 200)}: ${why}`));
    const to = pointerOf(path, fail);
    if (['add', 'replace', 'test'].includes(String(op)) && value === undefined) fail('value is required');
    if (op === 'add') addAt(root, to, structuredClone(value), fail);
    else if (op === 'remove') removeAt(root, to, fail);
    else if (op === 'replace') {
      removeAt(root, to, fail);
      addAt(root, to, structuredClone(value), fail);
    } else if (op === 'move') {
      const source = pointerOf(from, fail);
      if (to.length > source.length && source.every((part, k) => part === to[k])) fail('cannot move into itself');
      addAt(root, to, removeAt(root, source, fail), fail);
    } else if (op === 'copy') {
      const part = structuredClone(valueAt(root.value, pointerOf(from, fail), fail));
      copied += JSON.stringify(part).length;
      if (copied > MAX_COPIED) fail('copies more than 3 MiB in all');
      addAt(root, to, part, fail);
    } else if (op === 'test') {
      if (!sameJson(valueAt(root.value, to, fail), value)) fail('the value there is another one');
    } else fail('op is one of add, remove, replace, move, copy, test');
  }
  return root.value;
}

type Fail = (why: string) => never;

function patchFailed(message: string) {
  return failure('Invalid', message);
}

function pointerOf(path: Json, fail: Fail): string[] {
  if (typeof path !== 'string' || (path !== '' && !path.startsWith('/'))) return fail('a path is a JSON pointer');
  const parts = path
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
  if (parts.includes('__proto__')) fail('the name __proto__ is not allowed');
  return parts;
}

function valueAt(root: Json, path: readonly string[], fail: Fail): Json {
  let value = root;
  for (const part of path) {
    if (Array.isArray(value)) value = value[indexOf(value, part, value.length - 1, fail)];
    else if (isObject(value) && Object.hasOwn(value, part)) value = value[part];
    else return fail('there is no such path');
  }
  return value;
}

function indexOf(list: readonly Json[], part: string, max: number, fail: Fail): number {
  const index = /^(0|[1-9]\d{0,8})$/.test(part) ? Number(part) : -1;
  return index < 0 || index > max ? fail(`no index ${part.slice(0, 20)} in a list of ${list.length}`) : index;
}

function addAt(root: { value: Json }, path: readonly string[], value: Json, fail: Fail): void {
  const last = path.at(-1);
  if (last === undefined) {
    root.value = value;
    return;
  }
  const parent = valueAt(root.value, path.slice(0, -1), fail);
  if (Array.isArray(parent))
    parent.splice(last === '-' ? parent.length : indexOf(parent, last, parent.length, fail), 0, value);
  else if (isObject(parent)) (parent as Record<string, Json>)[last] = value;
  else fail('there is no such path');
}

function removeAt(root: { value: Json }, path: readonly string[], fail: Fail): Json {
  const removed = valueAt(root.value, path, fail);
  const last = path.at(-1);
  if (last === undefined) root.value = null;
  else {
    const parent = valueAt(root.value, path.slice(0, -1), fail);
    if (Array.isArray(parent)) parent.splice(Number(last), 1);
    else delete (parent as Record<string, Json>)[last];
  }
  return removed;
}

function sameJson(a: Json, b: Json): boolean {
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((item, i) => sameJson(item, b[i]));
  if (isObject(a) && isObject(b)) {
    const keys = Object.keys(a);
    return (
      keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && sameJson(a[key], b[key]))
    );
  }
  return a === b;
}

/**
 * Strategic merge (sig-api-machinery/strategic-merge-patch.md) for maps and for lists with a merge key: `$patch: replace | delete`,
 * `$setElementOrder/FIELD`, `$retainKeys`. Other directives are refused: no list of these kinds has them.
 */
export function strategicMerge(
  target: Json,
  patch: JsonObject,
  path: string,
  keys: Readonly<Record<string, string>>,
): JsonObject {
  const { $patch: directive, $retainKeys: retain, ...fields } = patch;
  if (directive !== undefined && !['replace', 'delete', 'merge'].includes(String(directive)))
    refuse(badRequest('$patch: the values are replace, delete, merge'));
  if (directive === 'delete') return {};
  const result: Record<string, Json> = directive === 'replace' || !isObject(target) ? {} : { ...target };
  if (retain !== undefined) {
    if (!Array.isArray(retain)) return refuse(badRequest('$retainKeys: expected a list'));
    for (const key of Object.keys(result)) if (!retain.includes(key)) delete result[key];
  }
  const orders: [string, readonly Json[]][] = [];
  for (const [key, value] of Object.entries(fields)) {
    const at = path === '' ? key : `${path}.${key}`;
    if (key.startsWith('$setElementOrder/')) {
      if (!Array.isArray(value)) return refuse(badRequest(`${key}: expected a list`));
      orders.push([key.slice('$setElementOrder/'.length), value]);
    } else if (key.startsWith('$')) refuse(badRequest(`the directive ${key.slice(0, 60)} is not supported here`));
    else if (value === null) delete result[key];
    else if (Array.isArray(value)) result[key] = mergeList(result[key], value, keys[at], at, keys);
    else if (isObject(value)) {
      if (value.$patch === 'delete') delete result[key];
      else result[key] = strategicMerge(result[key], value, at, keys);
    } else result[key] = value;
  }
  for (const [field, order] of orders) {
    const key = keys[path === '' ? field : `${path}.${field}`];
    if (key !== undefined && Array.isArray(result[field])) result[field] = ordered(result[field], order, key);
  }
  return result;
}

function mergeList(
  target: Json,
  patch: readonly Json[],
  key: string | undefined,
  path: string,
  keys: Readonly<Record<string, string>>,
): Json[] {
  if (key === undefined) return [...patch];
  const replace = patch.some((item) => isObject(item) && item.$patch === 'replace');
  let result: Json[] = replace || !Array.isArray(target) ? [] : [...target];
  for (const item of patch) {
    if (!isObject(item)) return refuse(badRequest(`${path}: expected objects with ${key}`));
    if (item.$patch === 'replace' && item[key] === undefined) continue;
    if (item[key] === undefined) refuse(badRequest(`${path}: each item needs ${key}, by which the list is merged`));
    const index = result.findIndex((one) => isObject(one) && one[key] === item[key]);
    if (item.$patch === 'delete') result = result.filter((_, i) => i !== index);
    else if (index < 0) result.push(strategicMerge({}, item, `${path}[]`, keys));
    else result[index] = strategicMerge(result[index], item, `${path}[]`, keys);
  }
  return result;
}

/** Items that `order` names stand in its order; others keep their places behind them. */
function ordered(list: readonly Json[], order: readonly Json[], key: string): Json[] {
  const rank = (item: Json) => {
    const index = order.findIndex((one) => isObject(one) && isObject(item) && one[key] === item[key]);
    return index < 0 ? order.length : index;
  };
  return list.toSorted((a, b) => rank(a) - rank(b));
}
