/** Every regular expression in a part of an object: fields called `regex`, and the one that a uriRegexRewrite matches by. */
export function regexesIn(value: unknown): readonly string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, child]) => {
    if (key === 'regex' && typeof child === 'string') return [child];
    const rewrite = key === 'uriRegexRewrite' ? (child as { match?: unknown } | null)?.match : undefined;
    return typeof rewrite === 'string' ? [rewrite] : regexesIn(child);
  });
}
