import type { OutgoingHttpHeaders } from 'node:http';
import { badRequest } from '../../api/http/status-errors.ts';
import type { KindInfo } from '../../api/resources/registry.ts';
import { refuse } from './errors.ts';
import type { Principal } from './principals.ts';

/** One authenticated request, free of the HTTP library. Everything in it but `principal` is the client's: untrusted. */
export interface Call {
  readonly principal: Principal;
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly accept: string;
  readonly contentType: string;
  readonly ifNoneMatch: string;
  /** Empty when there is none; bounded by the route. */
  readonly body: Uint8Array;
  /** Address of the client, for the audit log. */
  readonly source: string;
}

/** What a request is answered with. `body` is made JSON. */
export interface Answer {
  readonly code: number;
  readonly body: unknown;
  readonly contentType?: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly warnings?: readonly string[];
}

/** A collection or an object of one kind, as its path names it. */
export interface KindTarget {
  readonly info: KindInfo;
  /** The version of the path: answers carry it. */
  readonly version: string;
  readonly namespace?: string;
  readonly name?: string;
}

export function ok(body: unknown, code = 200, warnings: readonly string[] = []): Answer {
  return { code, body, warnings };
}

/** `?dryRun=All` and DeleteOptions.dryRun: the one value is All, anything else is refused. */
export function isDryRun(values: readonly unknown[]): boolean {
  for (const value of values) if (value !== 'All') refuse(badRequest('dryRun: the only value is All'));
  return values.length > 0;
}

/** fieldValidation: Strict when absent (unknown fields are refused); Warn and Ignore leave them out and say so in a Warning header. */
export function unknownFieldsOf(query: URLSearchParams): 'refuse' | 'prune' {
  const value = query.get('fieldValidation') ?? '';
  if (value === '' || value === 'Strict') return 'refuse';
  if (value === 'Warn' || value === 'Ignore') return 'prune';
  return refuse(badRequest('fieldValidation: the values are Strict, Warn, Ignore'));
}

/** A whole number out of the query, or undefined. */
export function integerOf(query: URLSearchParams, name: string): number | undefined {
  const value = query.get(name) ?? '';
  if (value === '') return undefined;
  if (!/^\d{1,15}$/.test(value)) return refuse(badRequest(`${name}: expected a whole number`));
  return Number(value);
}

export function booleanOf(query: URLSearchParams, name: string): boolean {
  const value = query.get(name);
  if (value === null || ['', 'false', '0', 'False'].includes(value)) return false;
  if (['true', '1', 'True'].includes(value)) return true;
  return refuse(badRequest(`${name}: expected true or false`));
}
