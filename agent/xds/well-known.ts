import { MeshError } from '../../api/errors.ts';

/** Wrapper messages whose JSON is the bare value of their field 1. Source: google/protobuf/wrappers.proto. */
export const WRAPPERS: ReadonlySet<string> = new Set(
  ['Double', 'Float', 'Int64', 'UInt64', 'Int32', 'UInt32', 'Bool', 'String', 'Bytes'].map(
    (kind) => `google.protobuf.${kind}Value`,
  ),
);

/** Messages whose JSON is not an object of their fields; inside an Any they stand under `value`. Source: protobuf's JSON mapping. */
export const SPECIAL: ReadonlySet<string> = new Set([
  ...WRAPPERS,
  ...['Any', 'Duration', 'Timestamp', 'Struct', 'Value', 'ListValue', 'FieldMask'].map(
    (name) => `google.protobuf.${name}`,
  ),
]);

/** The one prefix of Any's type URLs that Envoy and this agent use. */
export const TYPE_URL_PREFIX = 'type.googleapis.com/';

export interface SecondsAndNanos {
  readonly seconds: bigint;
  readonly nanos: number;
}

/** Source: google/protobuf/duration.proto: about 10,000 years either way. */
const MAX_DURATION = 315_576_000_000n;

/** `1.5s` -> seconds and nanos of one sign; up to nine digits. undefined when it is no duration. */
export function parseDuration(text: string): SecondsAndNanos | undefined {
  const match = /^(-?)(\d{1,12})(?:\.(\d{1,9}))?s$/.exec(text);
  if (match === null) return undefined;
  const seconds = BigInt(match[2] as string);
  if (seconds > MAX_DURATION) return undefined;
  const nanos = Number((match[3] ?? '').padEnd(9, '0'));
  return match[1] === '-' ? { seconds: -seconds, nanos: nanos === 0 ? 0 : -nanos } : { seconds, nanos };
}

/** The shortest of 0, 3, 6 or 9 digits, as protobuf's JSON mapping has it. */
export function formatDuration({ seconds, nanos }: SecondsAndNanos): string {
  const sign = seconds < 0n || nanos < 0 ? '-' : '';
  return `${sign}${seconds < 0n ? -seconds : seconds}${fraction(Math.abs(nanos))}s`;
}

/** RFC 3339 with an offset or Z, up to nine digits; undefined when it is none. */
export function parseTimestamp(text: string): SecondsAndNanos | undefined {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text);
  if (match === null) return undefined;
  const ms = Date.parse(`${match[1]}${match[3]}`);
  if (Number.isNaN(ms)) return undefined;
  return { seconds: BigInt(ms / 1000), nanos: Number((match[2] ?? '').padEnd(9, '0')) };
}

/** Throws XDS_DECODE when the time is beyond what a Date holds. */
export function formatTimestamp({ seconds, nanos }: SecondsAndNanos): string {
  const date = new Date(Number(seconds) * 1000);
  if (Number.isNaN(date.getTime())) throw new MeshError('XDS_DECODE', 'timestamp out of range');
  return date.toISOString().replace(/\.\d{3}Z$/, `${fraction(nanos)}Z`);
}

function fraction(nanos: number): string {
  if (nanos === 0) return '';
  const digits = String(nanos).padStart(9, '0');
  for (const keep of [3, 6]) if (/^0*$/.test(digits.slice(keep))) return `.${digits.slice(0, keep)}`;
  return `.${digits}`;
}

/** `fooBar.baz,q` -> [`foo_bar.baz`, `q`]; undefined when a path is no lowerCamelCase. Source: google/protobuf/field_mask.proto. */
export function parseFieldMask(text: string): string[] | undefined {
  if (text === '') return [];
  const paths = text.split(',');
  if (!paths.every((path) => /^[a-z][A-Za-z0-9]*(\.[a-z][A-Za-z0-9]*)*$/.test(path))) return undefined;
  return paths.map((path) => path.replaceAll(/[A-Z]/g, (c) => `_${c.toLowerCase()}`));
}

export function formatFieldMask(paths: readonly string[]): string {
  return paths.map((path) => path.replaceAll(/_([a-z])/g, (_, c: string) => c.toUpperCase())).join(',');
}
