/** Why a value is refused, in Kubernetes' words for StatusCause.reason (`UnknownField` is ours). */
export type ViolationReason =
  | 'FieldValueInvalid'
  | 'FieldValueRequired'
  | 'FieldValueNotSupported'
  | 'FieldValueDuplicate'
  | 'FieldValueForbidden'
  | 'FieldValueTooLong'
  | 'FieldValueTypeInvalid'
  | 'UnknownField';

/** One reason to refuse an object. `path` is like `spec.http[0].route[1].weight`, map keys with odd characters as `metadata.labels[a.b/c]`; empty: the whole object. */
export interface Violation {
  readonly path: string;
  readonly message: string;
  readonly reason: ViolationReason;
}

/** Something legal that is probably not meant. */
export interface Warning {
  readonly path: string;
  readonly message: string;
  /** Of a finding of analysis/. */
  readonly code?: string;
}

/** Collects what checks find, at most `MAX_FINDINGS` of each: a hostile object must not make an answer of its own size. */
export class Report {
  readonly violations: Violation[] = [];
  readonly warnings: Warning[] = [];

  /** No more warnings are kept: loops within loops end here. */
  get full(): boolean {
    return this.warnings.length >= MAX_FINDINGS;
  }

  add(path: string, message: string, reason: ViolationReason = 'FieldValueInvalid'): void {
    if (this.violations.length < MAX_FINDINGS) this.violations.push({ path, message, reason });
  }

  required(path: string, message: string): void {
    this.add(path, message, 'FieldValueRequired');
  }

  warn(path: string, message: string): void {
    if (this.warnings.length < MAX_FINDINGS) this.warnings.push({ path, message });
  }
}

export const MAX_FINDINGS = 100;

/** `base.key`, or `base[key]` where the key would be ambiguous after a dot. */
export function childPath(base: string, key: string): string {
  if (!/^[A-Za-z_][A-Za-z0-9_-]*$/.test(key)) return `${base}[${key.slice(0, 100)}]`;
  return base === '' ? key : `${base}.${key}`;
}

/** What a value is, in a few words for messages: never more than 60 characters of it. */
export function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}
