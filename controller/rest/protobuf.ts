/**
 * The few protobuf bodies that kubectl sends from 1.33 on (and client-go's typed clients): `k8s\0` and a runtime.Unknown around the
 * message. In: untrusted bytes. Out: the object as its JSON would be, or StatusError 400 or 415. Field numbers are those of the
 * generated.proto files of k8s.io/api and k8s.io/apimachinery.
 */
import protobuf from 'protobufjs';
import { badRequest, unsupportedMediaType } from '../../api/http/status-errors.ts';
import { refuse } from './errors.ts';

export const PROTOBUF = 'application/vnd.kubernetes.protobuf';

/** How one message is read: field number -> JSON name and kind of value. A field that is not listed must be empty. */
type Shape = Readonly<
  Record<
    number,
    readonly [name: string, type: 'string' | 'int' | 'bool' | 'map' | 'strings' | 'bytes' | 'bytesMap' | Shape]
  >
>;

const META: Shape = {
  1: ['name', 'string'],
  2: ['generateName', 'string'],
  3: ['namespace', 'string'],
  5: ['uid', 'string'],
  6: ['resourceVersion', 'string'],
  11: ['labels', 'map'],
  12: ['annotations', 'map'],
};
const RESOURCE_ATTRIBUTES: Shape = {
  1: ['namespace', 'string'],
  2: ['verb', 'string'],
  3: ['group', 'string'],
  4: ['version', 'string'],
  5: ['resource', 'string'],
  6: ['subresource', 'string'],
  7: ['name', 'string'],
};
const PATH_ATTRIBUTES: Shape = { 1: ['path', 'string'], 2: ['verb', 'string'] };
const DELETE_OPTIONS: Shape = {
  1: ['gracePeriodSeconds', 'int'],
  2: ['preconditions', { 1: ['uid', 'string'], 2: ['resourceVersion', 'string'] }],
  3: ['orphanDependents', 'bool'],
  4: ['propagationPolicy', 'string'],
  5: ['dryRun', 'strings'],
};

const SHAPES: Readonly<Record<string, Shape>> = {
  Namespace: { 1: ['metadata', META] },
  ServiceAccount: { 1: ['metadata', META] },
  Secret: {
    1: ['metadata', META],
    2: ['data', 'bytesMap'],
    3: ['type', 'string'],
    4: ['stringData', 'map'],
    5: ['immutable', 'bool'],
  },
  DeleteOptions: DELETE_OPTIONS,
  SelfSubjectAccessReview: {
    1: ['metadata', META],
    2: ['spec', { 1: ['resourceAttributes', RESOURCE_ATTRIBUTES], 2: ['nonResourceAttributes', PATH_ATTRIBUTES] }],
  },
  SelfSubjectRulesReview: { 1: ['metadata', META], 2: ['spec', { 1: ['namespace', 'string'] }] },
  SelfSubjectReview: { 1: ['metadata', META] },
};

/** Reads a body; messages of other kinds are refused with 415, as is a set field that is not listed here. */
export function decodeProtobuf(body: Uint8Array): Record<string, unknown> {
  if (body.length < 4 || String.fromCharCode(...body.subarray(0, 4)) !== 'k8s\0')
    refuse(badRequest('the body is not Kubernetes protobuf: it does not start with "k8s\\0"'));
  try {
    // runtime.Unknown: 1 typeMeta {1 apiVersion, 2 kind}, 2 raw, 3 contentEncoding, 4 contentType
    let type: Record<string, unknown> = {};
    let raw: Uint8Array = new Uint8Array();
    const reader = protobuf.Reader.create(body.subarray(4));
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      if (tag >>> 3 === 1)
        type = decode(reader.bytes(), { 1: ['apiVersion', 'string'], 2: ['kind', 'string'] }, 'typeMeta');
      else if (tag >>> 3 === 2) raw = reader.bytes();
      else if (reader.bytes().length > 0) throw new Error('the message is encoded');
    }
    const kind = String(type.kind);
    const shape = Object.hasOwn(SHAPES, kind) ? SHAPES[kind] : undefined;
    if (shape === undefined)
      return refuse(
        unsupportedMediaType(
          PROTOBUF,
          ['application/json', 'application/yaml'],
          `${kind.slice(0, 60)} is read as JSON only`,
        ),
      );
    return { ...decode(raw, shape, ''), apiVersion: type.apiVersion, kind };
  } catch (error) {
    if (error instanceof RangeError || (error instanceof Error && error.constructor === Error))
      return refuse(badRequest(`the protobuf body cannot be read: ${error.message.slice(0, 200)}`));
    throw error;
  }
}

function decode(bytes: Uint8Array, shape: Shape, path: string): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  const reader = protobuf.Reader.create(bytes);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    const [field, wire] = [tag >>> 3, tag & 7];
    const known = shape[field];
    if (known === undefined) {
      skipEmpty(reader, wire, `${path === '' ? '' : `${path}.`}field ${field}`);
      continue;
    }
    const [name, type] = known;
    if ((type === 'int' || type === 'bool') !== (wire === 0)) throw new Error(`${name} has another type`);
    if (type === 'string') result[name] = reader.string();
    else if (type === 'int') result[name] = Number(reader.int64());
    else if (type === 'bool') result[name] = reader.bool();
    else if (type === 'strings') result[name] = [...((result[name] as string[] | undefined) ?? []), reader.string()];
    else if (type === 'bytes') result[name] = Buffer.from(reader.bytes()).toString('base64');
    else if (type === 'map' || type === 'bytesMap') {
      const entry: Shape = { 1: ['key', 'string'], 2: ['value', type === 'map' ? 'string' : 'bytes'] };
      const { key = '', value = '' } = decode(reader.bytes(), entry, name);
      result[name] = Object.fromEntries([...Object.entries((result[name] as object | undefined) ?? {}), [key, value]]);
    } else result[name] = decode(reader.bytes(), type, name);
  }
  for (const [name, type] of Object.values(shape)) if (type === 'string' && result[name] === '') delete result[name];
  return result;
}

/** Zero values are written even where nothing was set (spec {}, creationTimestamp {}): those mean nothing; anything else is refused. */
function skipEmpty(reader: protobuf.Reader, wire: number, what: string): void {
  const empty = wire === 0 ? Number(reader.int64()) === 0 : wire === 2 ? isZero(reader.bytes()) : false;
  if (!empty) throw new Error(`${what} is set and not supported in protobuf; send JSON`);
}

/** Nothing but zeros and messages of such: a string or anything unreadable counts as set. */
function isZero(bytes: Uint8Array): boolean {
  try {
    const reader = protobuf.Reader.create(bytes);
    while (reader.pos < reader.len) {
      const wire = reader.uint32() & 7;
      if (wire === 0 ? Number(reader.int64()) !== 0 : wire !== 2 || !isZero(reader.bytes())) return false;
    }
    return true;
  } catch {
    return false;
  }
}
