import { childPath, type Report, shown } from './report.ts';

/** The part of JSON schema that the generated schemas use (Kubernetes' structural schemas). */
export interface StructuralSchema {
  readonly type?: string;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, StructuralSchema>>;
  readonly required?: readonly string[];
  readonly items?: StructuralSchema;
  readonly additionalProperties?: StructuralSchema;
  readonly enum?: readonly string[];
  readonly oneOf?: readonly object[];
  readonly 'x-kubernetes-int-or-string'?: boolean;
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean;
}

type Json = Record<string, unknown>;

/**
 * Checks `value` against `schema` and returns a copy that has only known fields; nulls in objects mean "absent", as in Kubernetes.
 * Unknown fields go to `onUnknown` with their path. Untrusted input: the caller has bounded depth and size (bounds.ts).
 */
export function checkStructure(
  value: unknown,
  schema: StructuralSchema,
  path: string,
  report: Report,
  onUnknown: (path: string) => void,
): unknown {
  const wrong = (expected: string): undefined => {
    report.add(path, `must be ${expected}, found ${shown(value)}`, 'FieldValueTypeInvalid');
    return undefined;
  };
  if (schema['x-kubernetes-int-or-string']) {
    return typeof value === 'string' || Number.isInteger(value) ? value : wrong('an integer or a string');
  }
  switch (schema.type) {
    case 'string':
      if (typeof value !== 'string') return wrong('a string');
      if (schema.enum !== undefined && !schema.enum.includes(value)) {
        const allowed = schema.enum.filter((item) => item !== '').map((item) => `"${item}"`);
        report.add(path, `${shown(value)} is not one of ${allowed.join(', ')}`, 'FieldValueNotSupported');
      }
      return value;
    case 'number':
      return typeof value === 'number' && Number.isFinite(value) ? value : wrong('a number');
    case 'boolean':
      return typeof value === 'boolean' ? value : wrong('true or false');
    case 'array':
      if (!Array.isArray(value)) return wrong('a list');
      return value.map((item, i) => checkStructure(item, schema.items ?? {}, `${path}[${i}]`, report, onUnknown));
    default:
      if (value === null || typeof value !== 'object' || Array.isArray(value)) return wrong('an object');
      return checkObject(value as Json, schema, path, report, onUnknown);
  }
}

function checkObject(
  value: Json,
  schema: StructuralSchema,
  path: string,
  report: Report,
  onUnknown: (path: string) => void,
): Json {
  if (schema['x-kubernetes-preserve-unknown-fields']) return value;
  const out: Json = {};
  for (const [key, field] of Object.entries(value)) {
    if (field === null || field === undefined) continue;
    const fieldPath = childPath(path, key);
    // Own properties only: `constructor` and its like are no fields of ours.
    const known = Object.hasOwn(schema.properties ?? {}, key) ? schema.properties?.[key] : schema.additionalProperties;
    if (known === undefined) onUnknown(fieldPath);
    else out[key] = checkStructure(field, known, fieldPath, report, onUnknown);
  }
  for (const key of schema.required ?? []) {
    if (!Object.hasOwn(out, key)) report.required(childPath(path, key), 'is required');
  }
  checkOneOf(out, schema, path, report);
  return out;
}

/** `oneOf: [{not: {anyOf}}?, {required: [a]}, {required: [b]}]`: exactly one of the fields, or none too when the `not` is there. */
function checkOneOf(value: Json, schema: StructuralSchema, path: string, report: Report): void {
  if (schema.oneOf === undefined) return;
  const alternatives = schema.oneOf as readonly { not?: unknown; required?: readonly string[] }[];
  const fields = alternatives.flatMap((alternative) => alternative.required ?? []);
  const set = fields.filter((field) => Object.hasOwn(value, field));
  const optional = alternatives.some((alternative) => alternative.not !== undefined);
  if (set.length > 1) report.add(path, `has ${set.join(' and ')}: at most one of ${fields.join(', ')} may be set`);
  if (set.length === 0 && !optional) report.required(path, `needs one of ${fields.join(', ')}`);
}
