import { MeshError } from '../../api/errors.ts';
import { isAlike } from '../translate/resource-set.ts';
import { ByteWriter } from './byte-writer.ts';
import type { DescriptorTable, Field, FieldKind, MessageType } from './descriptor-table.ts';
import { parseDuration, parseFieldMask, parseTimestamp, SPECIAL, TYPE_URL_PREFIX, WRAPPERS } from './well-known.ts';

/** Envoy's own parser stops at 100 levels (protobuf's default). */
const MAX_DEPTH = 100;

type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Bytes of list elements right below a message's root (virtual hosts of a route configuration, filter chains of a listener), by the very
 * JSON object, which nobody changes after it was made: one route changed among 500 services encodes one virtual host. Also of parts that many
 * resources have in common (translate/resource-set.ts).
 */
export type ElementCache = WeakMap<object, { readonly type: string; readonly bytes: Uint8Array }>;

interface Context {
  readonly table: DescriptorTable;
  readonly writer: ByteWriter;
  readonly elements: ElementCache | undefined;
  /** Where we are, for error messages; pushed and popped, so that nothing is built while all goes well. */
  readonly path: (string | number)[];
  depth: number;
}

/**
 * proto3 JSON with the proto's own names -> bytes; the same JSON gives the same bytes, whatever its key order. Strict: an unknown field or
 * enum value, a wrong type, a number out of range, two members of a oneof, or null where no Value stands throws XDS_ENCODE with
 * `details.path`. Source: protobuf's "ProtoJSON format".
 */
export function encodeMessage(
  table: DescriptorTable,
  type: MessageType,
  json: unknown,
  elements?: ElementCache,
): Uint8Array {
  const ctx: Context = { table, writer: WRITER, elements, path: [], depth: 0 };
  try {
    writeMessage(ctx, type, json);
    return WRITER.since(0);
  } finally {
    WRITER.clear();
  }
}

/** One for all: nothing here is asynchronous. */
const WRITER = new ByteWriter();

function fail(ctx: Context, what: string): never {
  const path = ctx.path
    .map((part, i) => (typeof part === 'number' ? `[${part}]` : `${i === 0 ? '' : '.'}${part}`))
    .join('');
  throw new MeshError('XDS_ENCODE', `${path === '' ? 'message' : path}: ${what}`, { details: { path } });
}

function show(value: unknown): string {
  const text =
    typeof value === 'object'
      ? Array.isArray(value)
        ? 'a list'
        : value === null
          ? 'null'
          : 'an object'
      : String(value);
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}

function asObject(ctx: Context, value: unknown, what: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    fail(ctx, `${what} expected, got ${show(value)}`);
  return value as JsonObject;
}

function writeMessage(ctx: Context, type: MessageType, json: unknown): void {
  if (++ctx.depth > MAX_DEPTH) fail(ctx, `nested deeper than ${MAX_DEPTH}`);
  if (SPECIAL.has(type.name)) writeSpecial(ctx, type, json);
  else writeFields(ctx, type, asObject(ctx, json, type.name));
  ctx.depth--;
}

/** `skip`: a key that is no field ("@type" of an Any). */
function writeFields(ctx: Context, type: MessageType, json: JsonObject, skip?: string): void {
  let oneofs: Map<string, string> | undefined;
  let sorted = true;
  const present: Field[] = [];
  for (const key of Object.keys(json)) {
    if (json[key] === undefined || key === skip) continue;
    const field = type.byName.get(key);
    if (field === undefined) fail(ctx, `${type.name} has no field ${show(key)}`);
    if (field.oneof !== undefined) {
      oneofs ??= new Map();
      const other = oneofs.get(field.oneof);
      if (other !== undefined) fail(ctx, `${other} and ${key} are both set; only one of ${field.oneof} may be`);
      oneofs.set(field.oneof, key);
    }
    if (present.length > 0 && (present[present.length - 1] as Field).number > field.number) sorted = false;
    present.push(field);
  }
  if (!sorted) present.sort((a, b) => a.number - b.number);
  for (const field of present) {
    ctx.path.push(field.name);
    writeField(ctx, field, json[field.name]);
    ctx.path.pop();
  }
}

function writeField(ctx: Context, field: Field, value: unknown): void {
  if (field.map !== undefined) writeMap(ctx, field, field.map, asObject(ctx, value, 'an object (map)'));
  else if (field.repeated) writeList(ctx, field, value);
  else writeSingle(ctx, field, value, field.presence);
}

function writeList(ctx: Context, field: Field, value: unknown): void {
  if (!Array.isArray(value)) fail(ctx, `a list expected, got ${show(value)}`);
  if (value.length === 0) return;
  const packed = WIRE[field.kind] !== 2;
  if (packed) ctx.writer.varint((field.number << 3) | 2);
  const begun = packed ? ctx.writer.begin() : 0;
  for (let i = 0; i < value.length; i++) {
    const element: unknown = value[i];
    ctx.path.push(i);
    if (packed) writeScalar(ctx, field, element, true);
    else if (ctx.depth === 1 && ctx.elements !== undefined && isCacheable(field, element))
      writeElement(ctx, field, element, ctx.elements);
    else writeSingle(ctx, field, element, true);
    ctx.path.pop();
  }
  if (packed) ctx.writer.end(begun);
}

function isCacheable(field: Field, element: unknown): element is object {
  return field.kind === 'message' && typeof element === 'object' && element !== null;
}

function writeElement(ctx: Context, field: Field, element: object, elements: ElementCache): void {
  const { writer } = ctx;
  const known = elements.get(element);
  writer.varint((field.number << 3) | 2);
  if (known?.type === field.typeName) {
    writer.bytes(known.bytes);
    return;
  }
  const type = ctx.table.message(field.typeName);
  if (type === undefined) fail(ctx, `type ${field.typeName} is not in the descriptor set`);
  const begun = writer.begin();
  writeMessage(ctx, type, element);
  elements.set(element, { type: field.typeName, bytes: writer.since(begun) });
  writer.end(begun);
}

function writeMap(ctx: Context, field: Field, map: { key: Field; value: Field }, json: JsonObject): void {
  for (const key of Object.keys(json).sort()) {
    if (json[key] === undefined) continue;
    ctx.path.push(key);
    ctx.writer.varint((field.number << 3) | 2);
    const begun = ctx.writer.begin();
    writeSingle(ctx, map.key, map.key.kind === 'bool' ? boolKey(ctx, key) : key, true);
    writeSingle(ctx, map.value, json[key], true);
    ctx.writer.end(begun);
    ctx.path.pop();
  }
}

function boolKey(ctx: Context, key: string): boolean {
  if (key !== 'true' && key !== 'false') fail(ctx, 'a key must be true or false');
  return key === 'true';
}

/** Wire types by kind. Source: protobuf "Encoding". */
const WIRE: Readonly<Record<FieldKind, 0 | 1 | 2 | 5>> = {
  ...{ int32: 0, int64: 0, uint32: 0, uint64: 0, sint32: 0, sint64: 0, bool: 0, enum: 0 },
  ...{ double: 1, fixed64: 1, sfixed64: 1, string: 2, bytes: 2, message: 2, float: 5, fixed32: 5, sfixed32: 5 },
} as const;

function writeSingle(ctx: Context, field: Field, value: unknown, always: boolean): void {
  if (field.kind === 'message') {
    if (ctx.elements !== undefined && typeof value === 'object' && value !== null && isAlike(value)) {
      writeElement(ctx, field, value, ctx.elements);
      return;
    }
    const type = ctx.table.message(field.typeName);
    if (type === undefined) fail(ctx, `type ${field.typeName} is not in the descriptor set`);
    ctx.writer.varint((field.number << 3) | 2);
    const begun = ctx.writer.begin();
    writeMessage(ctx, type, value);
    ctx.writer.end(begun);
    return;
  }
  if (!always && isDefault(value, field.kind)) {
    // An absent field is the default; only its validity is of interest.
    const { place } = ctx.writer;
    writeScalar(ctx, field, value, false);
    ctx.writer.back(place);
    return;
  }
  writeScalar(ctx, field, value, false);
}

function isDefault(value: unknown, kind: FieldKind): boolean {
  return value === 0 || value === false || value === '' || (kind !== 'string' && kind !== 'bytes' && value === '0');
}

/** Writes the tag unless `packed`, then the value. */
function writeScalar(ctx: Context, field: Field, value: unknown, packed: boolean): void {
  const { kind } = field;
  const { writer } = ctx;
  if (!packed) writer.varint((field.number << 3) | WIRE[kind]);
  switch (kind) {
    case 'string':
      writer.string(asString(ctx, value));
      return;
    case 'bool':
      if (typeof value !== 'boolean') fail(ctx, `true or false expected, got ${show(value)}`);
      writer.varint(value ? 1 : 0);
      return;
    case 'bytes':
      writer.bytes(asBytes(ctx, value));
      return;
    case 'enum':
      writeInt(writer, asEnum(ctx, field, value));
      return;
    case 'float':
    case 'double':
      writer[kind](asFloat(ctx, value, kind));
      return;
    case 'message':
      return;
    default:
      writeInteger(ctx, value, kind);
  }
}

function writeInt(writer: ByteWriter, value: number): void {
  if (value < 0) writer.varint64(BigInt(value));
  else writer.varint(value);
}

function writeInteger(ctx: Context, value: unknown, kind: FieldKind): void {
  const { writer } = ctx;
  // Nearly all there are.
  if (typeof value === 'number' && value >= 0 && value <= 0x7fffffff && Number.isInteger(value) && !ZIGZAG.has(kind)) {
    if (WIRE[kind] === 0) writer.varint(value);
    else if (WIRE[kind] === 5) writer.fixed32(value);
    else writer.fixed64(BigInt(value));
    return;
  }
  const number = asInteger(ctx, value, kind);
  if (WIRE[kind] === 5) writer.fixed32(Number(BigInt.asUintN(32, number)));
  else if (WIRE[kind] === 1) writer.fixed64(number);
  else if (ZIGZAG.has(kind)) writer.varint64(number < 0n ? -2n * number - 1n : 2n * number);
  else writer.varint64(number);
}

const ZIGZAG: ReadonlySet<FieldKind> = new Set<FieldKind>(['sint32', 'sint64']);

function asString(ctx: Context, value: unknown): string {
  if (typeof value !== 'string') fail(ctx, `a string expected, got ${show(value)}`);
  if (!value.isWellFormed()) fail(ctx, 'the string is no valid Unicode');
  return value;
}

function asBytes(ctx: Context, value: unknown): Uint8Array {
  if (typeof value !== 'string' || !/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(value))
    fail(ctx, 'base64 expected');
  return Buffer.from(value, 'base64');
}

function asEnum(ctx: Context, field: Field, value: unknown): number {
  const type = ctx.table.enumeration(field.typeName);
  if (type === undefined) fail(ctx, `enum ${field.typeName} is not in the descriptor set`);
  if (field.typeName === 'google.protobuf.NullValue' && value === null) return 0;
  const number = typeof value === 'string' ? type.numbers.get(value) : value;
  if (typeof number !== 'number' || !type.names.has(number)) fail(ctx, `${field.typeName} has no value ${show(value)}`);
  return number;
}

function asFloat(ctx: Context, value: unknown, kind: 'float' | 'double'): number {
  if (value === 'NaN' || value === 'Infinity' || value === '-Infinity') return Number(value);
  if (typeof value !== 'number' || !Number.isFinite(value)) fail(ctx, `a number expected, got ${show(value)}`);
  if (kind === 'float' && Math.abs(value) > 3.4028234663852886e38) fail(ctx, `${value} is out of range`);
  return value;
}

/** A JSON number, or the string that the JSON mapping has for 64 bits (and map keys). */
function asInteger(ctx: Context, value: unknown, kind: FieldKind): bigint {
  if (
    typeof value === 'number'
      ? !Number.isSafeInteger(value)
      : !/^-?\d{1,20}$/.test(typeof value === 'string' ? value : '')
  )
    fail(ctx, `an integer expected, got ${show(value)}`);
  const number = BigInt(value as number | string);
  const bits = kind.endsWith('64') ? 64n : 32n;
  const unsigned = kind.startsWith('u') || kind.startsWith('f');
  const [min, max] = unsigned ? [0n, (1n << bits) - 1n] : [-(1n << (bits - 1n)), (1n << (bits - 1n)) - 1n];
  if (number < min || number > max) fail(ctx, `${number} is out of range for ${kind}`);
  return number;
}

function writeSpecial(ctx: Context, type: MessageType, json: unknown): void {
  const first = type.byNumber.get(1) as Field;
  const short = type.name.slice('google.protobuf.'.length);
  if (WRAPPERS.has(type.name)) writeSingle(ctx, first, json, false);
  else if (short === 'Any') writeAny(ctx, asObject(ctx, json, 'an object with "@type"'));
  else if (short === 'Duration' || short === 'Timestamp') writeTime(ctx, type, json);
  else if (short === 'Struct' || short === 'ListValue') writeField(ctx, first, json);
  else if (short === 'FieldMask') writeField(ctx, first, fieldMask(ctx, json));
  else writeValue(ctx, type, json);
}

function fieldMask(ctx: Context, json: unknown): string[] {
  const paths = typeof json === 'string' ? parseFieldMask(json) : undefined;
  if (paths === undefined) fail(ctx, 'a field mask expected');
  return paths;
}

function writeTime(ctx: Context, type: MessageType, json: unknown): void {
  const isDuration = type.name.endsWith('Duration');
  const parsed = typeof json === 'string' ? (isDuration ? parseDuration(json) : parseTimestamp(json)) : undefined;
  if (parsed === undefined) fail(ctx, isDuration ? 'a duration such as "1.5s" expected' : 'an RFC 3339 time expected');
  // Ten thousand years of seconds are far below 2^53.
  writeSingle(ctx, type.byNumber.get(1) as Field, Number(parsed.seconds), false);
  writeSingle(ctx, type.byNumber.get(2) as Field, parsed.nanos, false);
}

/** google.protobuf.Value: null 1, number 2, string 3, bool 4, struct 5, list 6. */
function writeValue(ctx: Context, type: MessageType, json: unknown): void {
  const member =
    json === null
      ? 1
      : typeof json === 'number'
        ? 2
        : typeof json === 'string'
          ? 3
          : typeof json === 'boolean'
            ? 4
            : Array.isArray(json)
              ? 6
              : 5;
  writeSingle(ctx, type.byNumber.get(member) as Field, json, true);
}

function writeAny(ctx: Context, json: JsonObject): void {
  const url = json['@type'];
  if (typeof url !== 'string' || !url.startsWith(TYPE_URL_PREFIX))
    fail(ctx, `"@type" must be ${TYPE_URL_PREFIX}NAME, got ${show(url)}`);
  const type = ctx.table.message(url.slice(TYPE_URL_PREFIX.length));
  if (type === undefined) fail(ctx, `unknown type ${url}`);
  ctx.writer.varint(0x0a);
  ctx.writer.string(url);
  ctx.writer.varint(0x12);
  const begun = ctx.writer.begin();
  if (SPECIAL.has(type.name)) {
    const { '@type': _, value, ...rest } = json;
    if (value === undefined || Object.keys(rest).length > 0)
      fail(ctx, `${url} has its JSON under "value" and nothing else`);
    writeMessage(ctx, type, value);
  } else {
    if (++ctx.depth > MAX_DEPTH) fail(ctx, `nested deeper than ${MAX_DEPTH}`);
    writeFields(ctx, type, json, '@type');
    ctx.depth--;
  }
  ctx.writer.end(begun);
}
