import { badRequest, conflict, type StatusSubject } from '../../api/http/status-errors.ts';
import type { Entry } from '../store/store.ts';
import { objectBody } from './bodies.ts';
import { type Call, isDryRun } from './call.ts';
import { refuse } from './errors.ts';
import { objectOf } from './objects.ts';

export interface DeleteOptions {
  readonly dryRun: boolean;
  readonly uid?: string;
  readonly resourceVersion?: string;
}

const FIELDS = [
  'kind',
  'apiVersion',
  'dryRun',
  'preconditions',
  'propagationPolicy',
  'gracePeriodSeconds',
  'orphanDependents',
];

/**
 * meta/v1 DeleteOptions out of body and query. A dry run may stand in the body alone (kubectl). Nothing here has dependents or runs down
 * gracefully: every propagation policy and grace period comes to the same.
 */
export function deleteOptions(call: Call): DeleteOptions {
  const body = call.body.length === 0 ? {} : objectBody(call);
  for (const key of Object.keys(body))
    if (!FIELDS.includes(key)) refuse(badRequest(`strict decoding error: unknown field "${key.slice(0, 100)}"`));
  const inBody = body.dryRun ?? [];
  if (!Array.isArray(inBody)) return refuse(badRequest('dryRun: expected a list'));
  const dryRun = isDryRun([...inBody, ...call.query.getAll('dryRun')]);
  const preconditions = body.preconditions ?? {};
  if (typeof preconditions !== 'object' || Array.isArray(preconditions))
    return refuse(badRequest('preconditions: expected an object'));
  const { uid, resourceVersion, ...rest } = preconditions as Record<string, unknown>;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined)
    refuse(badRequest(`strict decoding error: unknown field "preconditions.${unknown.slice(0, 100)}"`));
  return { dryRun, uid: textOf(uid, 'uid'), resourceVersion: textOf(resourceVersion, 'resourceVersion') };
}

function textOf(value: unknown, name: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  return typeof value === 'string' ? value : refuse(badRequest(`preconditions.${name}: expected a string`));
}

/** Throws 409 when the object is not the one that the client means. */
export function checkPreconditions(subject: StatusSubject, entry: Entry, options: DeleteOptions): void {
  const metadata = objectOf(entry).metadata;
  for (const what of ['uid', 'resourceVersion'] as const) {
    const wanted = options[what];
    if (wanted !== undefined && wanted !== metadata[what])
      refuse(
        conflict(subject, `the precondition ${what} ${wanted.slice(0, 60)} is not the object's ${metadata[what]}`),
      );
  }
}
