/**
 * The same value as `now`, with every part that equals the same part of `before` being that very object: what did not change can then be
 * known by identity, which is what translation and encoding remember their results by. Plain data only: records, lists, strings, numbers,
 * booleans, undefined; the order of keys means nothing. Lists are compared place by place; a record that has an `id`, a `key`, a `host` or a `name` and stands elsewhere than before is found by that. Returns
 * `before` itself when all is equal. Changes neither.
 */
export function share<T>(before: T | undefined, now: T): T {
  if (Object.is(before, now)) return now;
  if (Array.isArray(now)) return (Array.isArray(before) ? shareList(before, now) : now) as T;
  if (!isRecord(now) || !isRecord(before)) return now;
  const keys = Object.keys(now);
  let same = keys.length === Object.keys(before).length;
  const out: Record<string, unknown> = {};
  for (const key of keys) {
    out[key] = share(before[key], now[key]);
    if (!Object.is(out[key], before[key]) || !Object.hasOwn(before, key)) same = false;
  }
  return (same ? before : out) as T;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What an item of a list is known by, so that one more service does not shift all behind it. */
function nameOf(item: unknown): string | undefined {
  if (!isRecord(item)) return undefined;
  const { id, key, host, namespace, name } = item;
  if (typeof id === 'string') return id;
  if (typeof key === 'string') return key;
  if (typeof host === 'string') return `${host}\n${String(namespace)}`;
  return typeof name === 'string' ? name : undefined;
}

function shareList(before: readonly unknown[], now: readonly unknown[]): readonly unknown[] {
  let named: Map<string, unknown> | undefined;
  const find = (name: string): unknown => {
    named ??= new Map(before.flatMap((item) => pairOf(item)));
    return named.get(name);
  };
  let same = before.length === now.length;
  const out = now.map((item, index) => {
    const here = before[index];
    const name = Object.is(item, here) ? undefined : nameOf(item);
    const shared = share(name === undefined || nameOf(here) === name ? here : find(name), item);
    if (!Object.is(shared, here)) same = false;
    return shared;
  });
  return same ? before : out;
}

function pairOf(item: unknown): [string, unknown][] {
  const name = nameOf(item);
  return name === undefined ? [] : [[name, item]];
}
