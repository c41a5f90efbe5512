import { YAML_MEDIA_TYPES } from '../../api/http/operator-api.ts';
import { badRequest, failure, type StatusCause, unsupportedMediaType } from '../../api/http/status-errors.ts';
import { checkBounds } from '../../api/resources/bounds.ts';
import { DOCUMENT_LIMITS, parseDocuments } from '../../api/resources/documents.ts';
import type { Call } from './call.ts';
import { refuse } from './errors.ts';
import { decodeProtobuf, PROTOBUF } from './protobuf.ts';

const ACCEPTED = ['application/json', 'application/yaml', PROTOBUF];

/** A YAML parser takes 1.5 s for a MiB (seen), on the thread that serves everybody; JSON is 50 times faster, and what meshctl sends. */
const YAML_LIMITS = { ...DOCUMENT_LIMITS, maxBytes: 1024 * 1024 };

/** The media type without parameters, lower case; JSON when the client names none. */
export function mediaType(contentType: string): string {
  const type = (contentType.split(';')[0] ?? '').trim().toLowerCase();
  return type === '' ? 'application/json' : type;
}

/** One object out of a JSON, YAML or protobuf body (untrusted; the route bounded its size). Depth and count of values are bounded here. */
export function objectBody(call: Call): Record<string, unknown> {
  const type = mediaType(call.contentType);
  if (type === PROTOBUF) return decodeProtobuf(call.body);
  if (type !== 'application/json' && !YAML_MEDIA_TYPES.includes(type)) refuse(unsupportedMediaType(type, ACCEPTED));
  const value = type === 'application/json' ? jsonOf(call.body) : oneDocument(call.body);
  bounded(value);
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    return refuse(badRequest('the body must be an object'));
  return value as Record<string, unknown>;
}

/** The body of a patch: JSON, whatever its type is called. */
export function patchBody(call: Call): unknown {
  const value = jsonOf(call.body);
  bounded(value);
  return value;
}

/** Objects of a transaction: `{objects: [...]}` in JSON, or YAML documents. */
export function transactionBody(call: Call): readonly unknown[] {
  const type = mediaType(call.contentType);
  if (YAML_MEDIA_TYPES.includes(type)) {
    const { objects, errors } = parseDocuments(textOf(call.body), YAML_LIMITS);
    if (errors.length > 0) refuse(badYaml(errors));
    return objects.map((one) => one.value);
  }
  if (type !== 'application/json') refuse(unsupportedMediaType(type, ['application/json', ...YAML_MEDIA_TYPES]));
  const value = jsonOf(call.body);
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    return refuse(badRequest('the body must be an object with the list `objects`'));
  const { objects, ...rest } = value as Record<string, unknown>;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) refuse(badRequest(`strict decoding error: unknown field "${unknown.slice(0, 100)}"`));
  if (!Array.isArray(objects)) return refuse(badRequest('objects: expected a list'));
  return objects;
}

export function jsonOf(body: Uint8Array): unknown {
  if (body.length === 0) return refuse(badRequest('the request needs a body'));
  try {
    return JSON.parse(textOf(body));
  } catch (error) {
    if (error instanceof SyntaxError) return refuse(badRequest(`the body is not JSON: ${error.message.slice(0, 200)}`));
    throw error;
  }
}

function textOf(body: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(body);
  } catch {
    return refuse(badRequest('the body is not UTF-8'));
  }
}

function oneDocument(body: Uint8Array): unknown {
  const { objects, errors } = parseDocuments(textOf(body), YAML_LIMITS);
  if (errors.length > 0) refuse(badYaml(errors));
  if (objects.length !== 1) refuse(badRequest(`expected one YAML document, found ${objects.length}`));
  return objects[0]?.value;
}

type YamlErrors = ReturnType<typeof parseDocuments>['errors'];

function badYaml(errors: YamlErrors) {
  const causes: StatusCause[] = errors.map(({ message, position }) => ({
    reason: 'FieldValueInvalid',
    message: `line ${position.line}, column ${position.col}: ${message}`,
  }));
  return failure('BadRequest', `the body is not YAML: ${causes.map((one) => one.message).join('; ')}`.slice(0, 2000), {
    causes,
  });
}

function bounded(value: unknown): void {
  const [violation] = checkBounds(value).violations;
  if (violation !== undefined) refuse(badRequest(violation.message));
}
