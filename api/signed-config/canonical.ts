import { hash } from 'node:crypto';
import { MeshError } from '../errors.ts';

/** Deeper values are refused: a hostile one must not exhaust the stack. */
const MAX_DEPTH = 100;

/**
 * One text for one JSON value: object keys sorted by UTF-16 code units, numbers and strings as JSON.stringify writes them, no white space;
 * properties that are undefined are left out. Throws CONFIG_MALFORMED for what JSON cannot carry and for more than 100 levels.
 * Source: RFC 8785 (TUF's own canonical form knows no fractions, which weights and percentages need).
 */
export function canonicalJson(value: unknown, depth = 0): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number' && Number.isFinite(value)) return JSON.stringify(value);
  if (typeof value !== 'object') throw new MeshError('CONFIG_MALFORMED', `JSON cannot carry a ${typeof value}`);
  if (depth >= MAX_DEPTH) throw new MeshError('CONFIG_MALFORMED', `a value is nested deeper than ${MAX_DEPTH} levels`);
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item, depth + 1)).join(',')}]`;
  const fields: string[] = [];
  for (const key of Object.keys(value).sort()) {
    const field = (value as Record<string, unknown>)[key];
    if (field !== undefined) fields.push(`${JSON.stringify(key)}:${canonicalJson(field, depth + 1)}`);
  }
  return `{${fields.join(',')}}`;
}

/** SHA-256 in lower-case hex of UTF-8 text or bytes. */
export function sha256Hex(data: string | Uint8Array): string {
  return hash('sha256', data, 'hex');
}
