/**
 * The one gate of the operators' API: an untrusted value comes in, a normalized MeshObject goes out, or the reasons why not with their
 * paths. In order: bounds, kind, metadata, structure (unknown fields), the CRD's own limits, Istio's semantic rules, enforcement. Pure. It
 * must never accept a field that no agent enforces, and never throw because of its input.
 */
import { checkBounds } from './bounds.ts';
import { checkEnforced, type Enforced } from './enforcement.ts';
import { checkMetadata } from './metadata.ts';
import { checkModel } from './model-validators.ts';
import type { MeshObject, ObjectMeta } from './object.ts';
import { apiVersionOf, type KindInfo, kindByName, kindOf } from './registry.ts';
import { Report, shown, type Violation, type Warning } from './report.ts';
import { fieldSchemas } from './schemas.ts';
import { checkSemantics } from './semantics/semantics.ts';
import { checkStructure } from './structural.ts';

export type { Violation, ViolationReason, Warning } from './report.ts';

export interface ValidateOptions {
  /** The request's namespace, given to objects that name none; an object that names another is refused. Without it: `default`. */
  readonly namespace?: string;
  /** What an unknown field is: a violation (default), or a warning with the field left out (fieldValidation Warn and Ignore). */
  readonly unknownFields?: 'refuse' | 'prune';
  /** The mesh's trust domain, which MeshConfig may repeat; without it only the form is checked (offline). */
  readonly trustDomain?: string;
  /** CIDRs of virtual addresses besides 240.240.0.0/16, e.g. the mesh's ULA prefix: no endpoint may lie there. */
  readonly vipRanges?: readonly string[];
  /** ms since the epoch: certificates that end soon are warned of. Without it none are. */
  readonly now?: number;
  /** What is enforced; tests pass their own. Default: enforced-fields.ts. */
  readonly enforced?: Enforced;
}

export interface ValidateResult {
  /** Present exactly when there are no violations: storage version, known fields only, no status, nulls gone. */
  readonly object?: MeshObject;
  readonly violations: readonly Violation[];
  readonly warnings: readonly Warning[];
}

/** Validates one object that an operator wants stored. Never throws because of the input. */
export function validateObject(input: unknown, options: ValidateOptions = {}): ValidateResult {
  const bounds = checkBounds(input);
  if (bounds.violations.length > 0) return { violations: bounds.violations, warnings: [] };
  const report = new Report();
  const info = identify(input, report);
  if (info === undefined) return { violations: report.violations, warnings: report.warnings };
  const source = input as Record<string, unknown>;
  const onUnknown = (path: string): void => {
    const message = `unknown field "${path}"`;
    if (options.unknownFields === 'prune') report.warn(path, message);
    else report.add(path, message, 'UnknownField');
  };
  const metadata = checkMetadata(source.metadata, info, options.namespace, report, onUnknown);
  const fields = checkFields(source, info, report, onUnknown);
  const structural = report.violations.every((violation) => violation.reason === 'UnknownField');
  const body: MeshObject = {
    apiVersion: apiVersionOf(info),
    kind: info.kind,
    metadata: metadata ?? ({ name: '' } as ObjectMeta),
    ...fields,
  };
  // Later checks read fields by their types: they run on a sound structure only.
  if (structural && metadata !== undefined) {
    checkModel(info.kind, { apiVersion: body.apiVersion, kind: body.kind, ...fields }, report);
    checkSemantics(body, report, options);
    checkEnforced(info.kind, fields, report, options.enforced);
  }
  const accepted = report.violations.length === 0 ? { object: body } : {};
  return { ...accepted, violations: dedupe(report.violations), warnings: report.warnings };
}

/** Groups whose kinds start pods: the first thing in Istio's samples that has no meaning on hosts. */
const RUNS_PODS = /^(apps|batch)\//;

/** apiVersion and kind, or why they name nothing here. */
function identify(input: unknown, report: Report): KindInfo | undefined {
  if (input === null || typeof input !== 'object' || Array.isArray(input)) {
    report.add('', `an object is expected, found ${shown(input)}`, 'FieldValueTypeInvalid');
    return undefined;
  }
  const { apiVersion, kind } = input as Record<string, unknown>;
  if (typeof apiVersion !== 'string') report.required('apiVersion', 'apiVersion is required');
  if (typeof kind !== 'string') report.required('kind', 'kind is required');
  if (typeof apiVersion !== 'string' || typeof kind !== 'string') return undefined;
  const info = kindOf(apiVersion, kind);
  if (info?.stored) return info;
  const same = kindByName(kind);
  const hint = same?.stored
    ? `; ${kind} is served as ${same.versions.map((v) => apiVersionOf(same, v)).join(', ')}`
    : RUNS_PODS.test(apiVersion) || kind === 'Pod'
      ? '; hosts start their programs themselves: leave it out, a WorkloadGroup says what a host may run'
      : '';
  report.add(
    'kind',
    `no kind ${shown(kind)} in ${shown(apiVersion)} can be stored here${hint}`,
    'FieldValueNotSupported',
  );
  return undefined;
}

/** Everything beside apiVersion, kind, metadata and status (the server's own: dropped, as on Kubernetes' main resource). */
function checkFields(
  source: Readonly<Record<string, unknown>>,
  info: KindInfo,
  report: Report,
  onUnknown: (path: string) => void,
): Record<string, unknown> {
  const schemas = fieldSchemas(info);
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(source)) {
    if (['apiVersion', 'kind', 'metadata', 'status'].includes(key) || value === null || value === undefined) continue;
    const schema = Object.hasOwn(schemas, key) ? schemas[key] : undefined;
    if (schema === undefined) onUnknown(key);
    else out[key] = checkStructure(value, schema, key, report, onUnknown);
  }
  if (schemas.spec?.required !== undefined && out.spec === undefined) report.required('spec', 'is required');
  return out;
}

/** One finding a path and message: the CRD's limits and the semantic rules overlap. */
function dedupe(violations: readonly Violation[]): Violation[] {
  const seen = new Set<string>();
  return violations.filter(({ path, message }) => {
    const key = `${path}\0${message}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}
