/**
 * The same value as `now`, with every part that equals the same part of `before` being that very object: what did not change can then be
 * known by identity, which is what translation and encoding remember their results by. Plain data only: records, lists, strings, numbers,
 * booleans, undefined; the order of keys means nothing. Lists are compared place by place, lists of records that have an `id`, a `host` or a `key` by that. Returns
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
  const { id, key, host, namespace } = item;
  if (typeof id === 'string') return id;
  if (typeof key === 'string') return key;
  return typeof host === 'string' ? `${host}\n${String(namespace)}` : undefined;
}

function shareList(before: readonly unknown[], now: readonly unknown[]): readonly unknown[] {
  const named = new Map<string, unknown>();
  if (before.length !== now.length || nameOf(before[0]) !== undefined)
    for (const item of before) {
      const name = nameOf(item);
      if (name !== undefined) named.set(name, item);
    }
  const out = now.map((item, index) => {
    const name = nameOf(item);
    return share(name === undefined ? before[index] : named.get(name), item);
  });
  return out.length === before.length && out.every((item, index) => Object.is(item, before[index])) ? before : out;
}
