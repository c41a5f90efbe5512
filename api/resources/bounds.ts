import { Report } from './report.ts';

/** How much an object may be, whoever sends it. */
export const OBJECT_LIMITS = {
  /** Of the object as JSON, UTF-16 units; the border also bounds bytes before it parses. */
  maxChars: 1024 * 1024,
  maxDepth: 32,
  /** Values of all kinds, containers included. */
  maxNodes: 50_000,
} as const;

/**
 * First look at untrusted input (an operator's or an attacker's): depth, count and size bounded, no `__proto__` keys, JSON values only.
 * Everything later may recurse freely. Returns the violations; empty when fine.
 */
export function checkBounds(input: unknown): Report {
  const report = new Report();
  let nodes = 0;
  let chars = 0;
  const stack: { value: unknown; depth: number }[] = [{ value: input, depth: 0 }];
  while (stack.length > 0) {
    const { value, depth } = stack.pop() as { value: unknown; depth: number };
    nodes += 1;
    if (typeof value === 'string') chars += value.length;
    if (nodes > OBJECT_LIMITS.maxNodes || chars > OBJECT_LIMITS.maxChars) {
      report.add(
        '',
        `the object is too large: at most ${OBJECT_LIMITS.maxNodes} values and 1 MiB`,
        'FieldValueTooLong',
      );
      return report;
    }
    if (value === null || typeof value !== 'object') {
      if (!['string', 'number', 'boolean', 'undefined', 'object'].includes(typeof value)) report.add('', 'is not JSON');
      continue;
    }
    if (depth >= OBJECT_LIMITS.maxDepth) {
      report.add('', `the object is nested deeper than ${OBJECT_LIMITS.maxDepth} levels`, 'FieldValueTooLong');
      return report;
    }
    for (const [key, child] of Object.entries(value)) {
      chars += key.length;
      if (key === '__proto__') report.add('', 'the field name __proto__ is not allowed', 'FieldValueForbidden');
      stack.push({ value: child, depth: depth + 1 });
    }
  }
  return report;
}
