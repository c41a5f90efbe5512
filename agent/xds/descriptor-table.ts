import { Reader } from 'protobufjs/minimal.js';
import { MeshError } from '../../api/errors.ts';

/** Scalars of protobuf by their FieldDescriptorProto.Type number; index 10 (group), 11 (message) and 14 (enum) are no scalars. */
const SCALARS = [
  ...['', 'double', 'float', 'int64', 'uint64', 'int32', 'fixed64', 'fixed32', 'bool', 'string', 'group', 'message'],
  ...['bytes', 'uint32', 'enum', 'sfixed32', 'sfixed64', 'sint32', 'sint64'],
] as const;

/** What a field holds: a scalar's protobuf name, `message` or `enum`. */
export type FieldKind =
  | ('double' | 'float' | 'int64' | 'uint64' | 'int32' | 'fixed64' | 'fixed32' | 'bool' | 'string' | 'bytes')
  | ('uint32' | 'sfixed32' | 'sfixed64' | 'sint32' | 'sint64' | 'message' | 'enum');

/** One field. `typeName` (no leading dot) for messages and enums. `presence`: a default value is written, because absent differs from it. */
export interface Field {
  readonly name: string;
  readonly number: number;
  readonly kind: FieldKind;
  readonly typeName: string;
  readonly repeated: boolean;
  readonly presence: boolean;
  /** Name of the real oneof it belongs to; optional fields' own one is left out. */
  readonly oneof: string | undefined;
  /** For maps (repeated entry messages): the entry's key and value. */
  readonly map: { readonly key: Field; readonly value: Field } | undefined;
}

/** A message type; `fields` in order of number. */
export interface MessageType {
  readonly name: string;
  readonly fields: readonly Field[];
  readonly byName: ReadonlyMap<string, Field>;
  readonly byNumber: ReadonlyMap<number, Field>;
}

export interface EnumType {
  readonly numbers: ReadonlyMap<string, number>;
  readonly names: ReadonlyMap<number, string>;
}

/** Types of a descriptor set by full name (no leading dot). Unknown names give undefined; so does asking for the other sort. */
export interface DescriptorTable {
  message(name: string): MessageType | undefined;
  enumeration(name: string): EnumType | undefined;
}

interface Raw {
  readonly bytes: Uint8Array;
  readonly sort: 'message' | 'enum';
  readonly implicitPresence: boolean;
}

/**
 * A table over a serialized FileDescriptorSet. Only names are read here; a type is built when it is first asked for, so that an agent pays
 * for the some hundred types it uses (protobufjs' Root builds all: 13 MB of heap, 0.2 s). Throws XDS_DESCRIPTORS when the bytes are no set.
 * Source: google/protobuf/descriptor.proto.
 */
export function createDescriptorTable(set: Uint8Array): DescriptorTable {
  const raws = new Map<string, Raw>();
  try {
    for (const { number, bytes } of submessages(set)) if (number === 1 && bytes) indexFile(bytes, raws);
  } catch (cause) {
    throw new MeshError('XDS_DESCRIPTORS', 'the descriptor set is broken', { cause });
  }
  if (raws.size === 0) throw new MeshError('XDS_DESCRIPTORS', 'the descriptor set is empty');
  const messages = new Map<string, MessageType>();
  const enums = new Map<string, EnumType>();
  return {
    message: (name) => cached(messages, name, () => buildMessage(name, raws)),
    enumeration: (name) => cached(enums, name, () => buildEnum(name, raws)),
  };
}

function cached<T>(store: Map<string, T>, name: string, build: () => T | undefined): T | undefined {
  const known = store.get(name);
  if (known !== undefined) return known;
  const built = build();
  if (built !== undefined) store.set(name, built);
  return built;
}

interface RawField {
  readonly number: number;
  /** Of a length-delimited field. */
  readonly bytes: Uint8Array | undefined;
  /** Of a varint field. */
  readonly value: number;
}

/** The fields of one serialized message, uninterpreted. */
function* submessages(message: Uint8Array): Generator<RawField> {
  const reader = Reader.create(message);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    const number = tag >>> 3;
    const wire = tag & 7;
    if (wire === 2) yield { number, bytes: reader.bytes(), value: 0 };
    else if (wire === 0) yield { number, bytes: undefined, value: reader.int32() };
    else reader.skipType(wire);
  }
}

function text(bytes: Uint8Array | undefined): string {
  return bytes === undefined ? '' : Buffer.from(bytes).toString('utf8');
}

function indexFile(file: Uint8Array, raws: Map<string, Raw>): void {
  const fields = [...submessages(file)];
  const packageName = text(fields.find((f) => f.number === 2)?.bytes);
  const implicitPresence = text(fields.find((f) => f.number === 12)?.bytes) === 'proto3';
  const prefix = packageName === '' ? '' : `${packageName}.`;
  for (const field of fields) {
    if (field.bytes === undefined) continue;
    if (field.number === 4) indexMessage(field.bytes, prefix, implicitPresence, raws);
    if (field.number === 5) indexEnum(field.bytes, prefix, implicitPresence, raws);
  }
}

function indexMessage(bytes: Uint8Array, prefix: string, implicitPresence: boolean, raws: Map<string, Raw>): void {
  let name = '';
  for (const field of submessages(bytes)) {
    if (field.number === 1) {
      name = prefix + text(field.bytes);
      raws.set(name, { bytes, sort: 'message', implicitPresence });
    }
    if (field.number === 3 && field.bytes) indexMessage(field.bytes, `${name}.`, implicitPresence, raws);
    if (field.number === 4 && field.bytes) indexEnum(field.bytes, `${name}.`, implicitPresence, raws);
  }
}

function indexEnum(bytes: Uint8Array, prefix: string, implicitPresence: boolean, raws: Map<string, Raw>): void {
  for (const field of submessages(bytes)) {
    if (field.number === 1) raws.set(prefix + text(field.bytes), { bytes, sort: 'enum', implicitPresence });
  }
}

function buildEnum(name: string, raws: ReadonlyMap<string, Raw>): EnumType | undefined {
  const raw = raws.get(name);
  if (raw?.sort !== 'enum') return undefined;
  const numbers = new Map<string, number>();
  const names = new Map<number, string>();
  for (const value of submessages(raw.bytes)) {
    if (value.number !== 2 || value.bytes === undefined) continue;
    const fields = [...submessages(value.bytes)];
    const valueName = text(fields.find((f) => f.number === 1)?.bytes);
    const number = fields.find((f) => f.number === 2)?.value ?? 0;
    numbers.set(valueName, number);
    if (!names.has(number)) names.set(number, valueName); // with aliases the first one is the name
  }
  return { numbers, names };
}

function buildMessage(name: string, raws: ReadonlyMap<string, Raw>): MessageType | undefined {
  const raw = raws.get(name);
  if (raw?.sort !== 'message') return undefined;
  const own = [...submessages(raw.bytes)];
  const oneofs = own.filter((f) => f.number === 8 && f.bytes).map((f) => oneofName(f.bytes as Uint8Array));
  const fields = own
    .filter((f) => f.number === 2 && f.bytes)
    .map((f) => buildField(f.bytes as Uint8Array, oneofs, raw.implicitPresence, raws))
    .sort((a, b) => a.number - b.number);
  return {
    name,
    fields,
    byName: new Map(fields.map((field) => [field.name, field])),
    byNumber: new Map(fields.map((field) => [field.number, field])),
  };
}

function oneofName(bytes: Uint8Array): string {
  return text([...submessages(bytes)].find((f) => f.number === 1)?.bytes);
}

function buildField(
  bytes: Uint8Array,
  oneofs: readonly string[],
  implicit: boolean,
  raws: ReadonlyMap<string, Raw>,
): Field {
  const by = new Map([...submessages(bytes)].map((f) => [f.number, f]));
  const kind = SCALARS[by.get(5)?.value ?? 0] ?? '';
  const name = text(by.get(1)?.bytes);
  if (kind === '' || kind === 'group')
    throw new MeshError('XDS_DESCRIPTORS', `field ${name} has no type that xDS uses`);
  const typeName = text(by.get(6)?.bytes).replace(/^\./, '');
  const repeated = by.get(4)?.value === 3;
  const synthetic = (by.get(17)?.value ?? 0) !== 0;
  const inOneof = by.get(9) !== undefined && !synthetic;
  return {
    name,
    number: by.get(3)?.value ?? 0,
    kind,
    typeName,
    repeated,
    presence: !implicit || synthetic || inOneof || kind === 'message',
    oneof: inOneof ? oneofs[by.get(9)?.value ?? 0] : undefined,
    map: repeated && kind === 'message' ? mapEntry(typeName, raws) : undefined,
  };
}

/** Key and value of a map entry type (MessageOptions.map_entry, field 7 of the options, field 7 of the message). */
function mapEntry(typeName: string, raws: ReadonlyMap<string, Raw>): { key: Field; value: Field } | undefined {
  const raw = raws.get(typeName);
  if (raw === undefined) return undefined;
  const options = [...submessages(raw.bytes)].find((f) => f.number === 7)?.bytes;
  if (options === undefined || ![...submessages(options)].some((f) => f.number === 7 && f.value !== 0))
    return undefined;
  const entry = buildMessage(typeName, raws);
  const key = entry?.byNumber.get(1);
  const value = entry?.byNumber.get(2);
  return key === undefined || value === undefined ? undefined : { key, value };
}
