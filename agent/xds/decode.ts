import { Reader } from 'protobufjs/minimal.js';
import { MeshError } from '../../api/errors.ts';
import type { DescriptorTable, Field, MessageType } from './descriptor-table.ts';
import { formatDuration, formatFieldMask, formatTimestamp, SPECIAL, TYPE_URL_PREFIX, WRAPPERS } from './well-known.ts';

const MAX_DEPTH = 100;

type JsonObject = Record<string, unknown>;

/**
 * Bytes -> proto3 JSON with the proto's own names; fields in order of number, absent ones left out, 64-bit integers as strings, bytes as
 * base64. Unknown fields are passed over (a newer Envoy may send them); an Any of an unknown type keeps its bytes as base64 under `value`.
 * Throws XDS_DECODE when the bytes are no such message.
 */
export function decodeMessage(table: DescriptorTable, type: MessageType, bytes: Uint8Array): unknown {
  try {
    return readMessage(table, type, Reader.create(bytes), 0);
  } catch (cause) {
    if (cause instanceof MeshError) throw cause;
    throw new MeshError('XDS_DECODE', `the bytes are no ${type.name}`, { cause });
  }
}

function readMessage(table: DescriptorTable, type: MessageType, reader: Reader, depth: number): unknown {
  if (depth > MAX_DEPTH) throw new MeshError('XDS_DECODE', `nested deeper than ${MAX_DEPTH}`);
  if (type.name === 'google.protobuf.Any') return readAny(table, reader, depth);
  const values = new Map<Field, unknown>();
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    const field = type.byNumber.get(tag >>> 3);
    if (field === undefined) reader.skipType(tag & 7);
    else readField(table, field, tag & 7, reader, values, depth);
  }
  if (SPECIAL.has(type.name)) return special(type, values);
  const out: JsonObject = {};
  for (const field of type.fields) if (values.has(field)) out[field.name] = values.get(field);
  return out;
}

function readField(
  table: DescriptorTable,
  field: Field,
  wire: number,
  reader: Reader,
  values: Map<Field, unknown>,
  depth: number,
): void {
  if (field.map !== undefined) {
    const map = (values.get(field) as JsonObject | undefined) ?? {};
    const [key, value] = readEntry(table, field.map, sub(reader), depth);
    Object.defineProperty(map, String(key), { value, enumerable: true, configurable: true, writable: true });
    values.set(field, map);
    return;
  }
  if (!field.repeated) {
    values.set(field, readSingle(table, field, reader, depth));
    return;
  }
  const list = (values.get(field) as unknown[] | undefined) ?? [];
  values.set(field, list);
  if (wire === 2 && !['string', 'bytes', 'message'].includes(field.kind)) {
    for (const packed = sub(reader); packed.pos < packed.len; ) list.push(readSingle(table, field, packed, depth));
  } else list.push(readSingle(table, field, reader, depth));
}

function sub(reader: Reader): Reader {
  return Reader.create(reader.bytes());
}

function readEntry(
  table: DescriptorTable,
  map: { key: Field; value: Field },
  reader: Reader,
  depth: number,
): [unknown, unknown] {
  let key = defaultOf(table, map.key, depth);
  let value = defaultOf(table, map.value, depth);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag >>> 3 === 1) key = readSingle(table, map.key, reader, depth);
    else if (tag >>> 3 === 2) value = readSingle(table, map.value, reader, depth);
    else reader.skipType(tag & 7);
  }
  return [key, value];
}

function defaultOf(table: DescriptorTable, field: Field, depth: number): unknown {
  if (field.kind === 'message') return readSingle(table, field, Reader.create(new Uint8Array([0])), depth);
  if (field.kind === 'string' || field.kind === 'bytes') return '';
  if (field.kind === 'bool') return false;
  if (field.kind === 'enum') return table.enumeration(field.typeName)?.names.get(0) ?? 0;
  return field.kind.endsWith('64') ? '0' : 0;
}

function readSingle(table: DescriptorTable, field: Field, reader: Reader, depth: number): unknown {
  switch (field.kind) {
    case 'message': {
      const type = table.message(field.typeName);
      if (type === undefined) throw new MeshError('XDS_DECODE', `type ${field.typeName} is not in the descriptor set`);
      return readMessage(table, type, sub(reader), depth + 1);
    }
    case 'enum': {
      const number = reader.int32();
      return table.enumeration(field.typeName)?.names.get(number) ?? number;
    }
    case 'bytes':
      return Buffer.from(reader.bytes()).toString('base64');
    case 'string':
    case 'bool':
      return reader[field.kind]();
    case 'float':
    case 'double': {
      const number = reader[field.kind]();
      return Number.isFinite(number) ? number : String(number);
    }
    case 'int32':
    case 'uint32':
    case 'sint32':
    case 'fixed32':
    case 'sfixed32':
      return reader[field.kind]();
    default:
      return String(reader[field.kind]());
  }
}

function special(type: MessageType, values: ReadonlyMap<Field, unknown>): unknown {
  const get = (number: number) => values.get(type.byNumber.get(number) as Field);
  if (WRAPPERS.has(type.name)) return get(1) ?? WRAPPER_DEFAULTS[type.name] ?? 0;
  switch (type.name) {
    case 'google.protobuf.Duration':
      return formatDuration({ seconds: BigInt((get(1) as string) ?? 0), nanos: (get(2) as number) ?? 0 });
    case 'google.protobuf.Timestamp':
      return formatTimestamp({ seconds: BigInt((get(1) as string) ?? 0), nanos: (get(2) as number) ?? 0 });
    case 'google.protobuf.FieldMask':
      return formatFieldMask((get(1) as string[]) ?? []);
    case 'google.protobuf.Struct':
      return get(1) ?? {};
    case 'google.protobuf.ListValue':
      return get(1) ?? [];
    default: {
      const value = [...values.entries()].at(-1); // google.protobuf.Value: its one member
      return value === undefined || value[0].number === 1 ? null : value[1];
    }
  }
}

const WRAPPER_DEFAULTS: Readonly<Record<string, unknown>> = {
  'google.protobuf.BoolValue': false,
  'google.protobuf.StringValue': '',
  'google.protobuf.BytesValue': '',
  'google.protobuf.Int64Value': '0',
  'google.protobuf.UInt64Value': '0',
};

function readAny(table: DescriptorTable, reader: Reader, depth: number): unknown {
  let url = '';
  let bytes: Uint8Array = new Uint8Array();
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag >>> 3 === 1) url = reader.string();
    else if (tag >>> 3 === 2) bytes = reader.bytes();
    else reader.skipType(tag & 7);
  }
  const type = url.startsWith(TYPE_URL_PREFIX) ? table.message(url.slice(TYPE_URL_PREFIX.length)) : undefined;
  if (type === undefined) return { '@type': url, value: Buffer.from(bytes).toString('base64') };
  const inner = readMessage(table, type, Reader.create(bytes), depth + 1);
  return SPECIAL.has(type.name) ? { '@type': url, value: inner } : { '@type': url, ...(inner as JsonObject) };
}
