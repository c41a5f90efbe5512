import type { Violation } from '../resources/report.ts';

/**
 * Kubernetes Status objects: what every refused request is answered with. One table of reason -> HTTP status; builders for each. Messages
 * are for people, details for programs; neither ever holds a credential or a whole body.
 */
export const STATUS_CODES = {
  BadRequest: 400,
  Unauthorized: 401,
  Forbidden: 403,
  NotFound: 404,
  MethodNotAllowed: 405,
  NotAcceptable: 406,
  AlreadyExists: 409,
  Conflict: 409,
  Expired: 410,
  RequestEntityTooLarge: 413,
  UnsupportedMediaType: 415,
  Invalid: 422,
  TooManyRequests: 429,
  InternalError: 500,
  ServiceUnavailable: 503,
  Timeout: 504,
} as const;

export type StatusReason = keyof typeof STATUS_CODES;

export interface StatusCause {
  readonly reason: string;
  readonly message: string;
  /** Path of the field; in a transaction `objects[INDEX].PATH`. */
  readonly field?: string;
}

export interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  /** The plural resource in most answers of Kubernetes, the kind in Invalid ones. */
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly StatusCause[];
  readonly retryAfterSeconds?: number;
}

/** meta/v1 Status. */
export interface Status {
  readonly kind: 'Status';
  readonly apiVersion: 'v1';
  readonly metadata: Record<string, never>;
  readonly status: 'Success' | 'Failure';
  readonly message?: string;
  readonly reason?: StatusReason;
  readonly details?: StatusDetails;
  readonly code: number;
}

/** What an answer speaks of. */
export interface StatusSubject {
  readonly group: string;
  readonly plural: string;
  readonly kind?: string;
  readonly name?: string;
}

/** A failure of any reason. */
export function failure(reason: StatusReason, message: string, details?: StatusDetails): Status {
  const more = details === undefined ? {} : { details };
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message,
    reason,
    ...more,
    code: STATUS_CODES[reason],
  };
}

/** The answer to a delete that leaves no object to show. */
export function success(subject: StatusSubject & { readonly uid?: string }): Status {
  const details = { name: subject.name, group: subject.group || undefined, kind: subject.plural, uid: subject.uid };
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details, code: 200 };
}

const resource = ({ group, plural }: StatusSubject): string => (group === '' ? plural : `${plural}.${group}`);
const detailsOf = ({ group, plural, name }: StatusSubject): StatusDetails => ({
  name,
  group: group || undefined,
  kind: plural,
});

export function notFound(subject: StatusSubject): Status {
  return failure('NotFound', `${resource(subject)} "${subject.name}" not found`, detailsOf(subject));
}

/** No such path. */
export function unknownPath(): Status {
  return failure('NotFound', 'the server could not find the requested resource');
}

export function alreadyExists(subject: StatusSubject): Status {
  return failure('AlreadyExists', `${resource(subject)} "${subject.name}" already exists`, detailsOf(subject));
}

/** resourceVersion is not the stored one: read again, apply the change, write again. */
export function conflict(
  subject: StatusSubject,
  why = 'the object has been modified; please apply your changes to the latest version and try again',
): Status {
  return failure(
    'Conflict',
    `Operation cannot be fulfilled on ${resource(subject)} "${subject.name}": ${why}`,
    detailsOf(subject),
  );
}

export function badRequest(message: string): Status {
  return failure('BadRequest', message);
}

/** As Kubernetes answers unknown fields: one 400 that names them all. */
export function strictDecoding(violations: readonly Violation[]): Status {
  return badRequest(`strict decoding error: ${violations.map((one) => one.message).join(', ')}`);
}

/** Violations as 422 with a cause each. `prefix` is put before every field, e.g. `objects[3].`. */
export function invalid(subject: StatusSubject, violations: readonly Violation[], prefix = ''): Status {
  const causes = violations.map((one) => ({
    reason: one.reason === 'UnknownField' ? 'FieldValueForbidden' : one.reason,
    message: one.message,
    field: `${prefix}${one.path}`,
  }));
  const lines = violations.map((one) => (one.path === '' ? one.message : `${one.path}: ${one.message}`));
  const text = lines.length === 1 ? lines[0] : `[${lines.join(', ')}]`;
  const kind = subject.kind ?? subject.plural;
  const title = subject.group === '' ? kind : `${kind}.${subject.group}`;
  return failure('Invalid', `${title} "${subject.name ?? ''}" is invalid: ${text}`, {
    name: subject.name,
    group: subject.group || undefined,
    kind,
    causes,
  });
}

/** Authenticated, and not allowed. `why` ends the sentence and is printed verbatim by kubectl. */
export function forbidden(subject: StatusSubject, why: string): Status {
  const name = subject.name === undefined ? '' : ` "${subject.name}"`;
  return failure('Forbidden', `${resource(subject)}${name} is forbidden: ${why}`, detailsOf(subject));
}

export function unauthorized(): Status {
  return failure('Unauthorized', 'Unauthorized');
}

export function tooLarge(limitBytes: number): Status {
  return failure('RequestEntityTooLarge', `the request body is larger than ${limitBytes} bytes`);
}

export function unsupportedMediaType(type: string, accepted: readonly string[], why = ''): Status {
  const more = why === '' ? '' : `: ${why}`;
  return failure(
    'UnsupportedMediaType',
    `the body of the request was in an unknown format (${type.slice(0, 100)})${more} - accepted media types include: ${accepted.join(', ')}`,
  );
}

export function notAcceptable(accepted: readonly string[]): Status {
  return failure('NotAcceptable', `only the following media types are accepted: ${accepted.join(', ')}`);
}

export function methodNotAllowed(): Status {
  return failure('MethodNotAllowed', 'the server does not allow this method on the requested resource');
}

/** A revision or a continue token that history no longer holds: list again. */
export function gone(message = 'too old resource version'): Status {
  return failure('Expired', message);
}

export function tooManyRequests(retryAfterSeconds: number): Status {
  return failure('TooManyRequests', 'too many requests, please try again later', { retryAfterSeconds });
}

/** Never for bad input. The message says nothing of the cause: that is in the log. */
export function internalError(): Status {
  return failure('InternalError', 'an internal error occurred; the controller’s log has it');
}

export function serviceUnavailable(message: string): Status {
  return failure('ServiceUnavailable', message);
}
