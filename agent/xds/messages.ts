// In: the descriptor set that scripts/fetch-envoy took out of the pinned Envoy (build/envoy/descriptors.pb).
// Out: an encoder and a decoder between proto3 JSON (snake_case names, what Envoy's YAML has) and bytes, for every type that Envoy knows.
// Never drops what it does not understand while encoding: it throws with the path.
import { readFileSync } from 'node:fs';
import { MeshError } from '../../api/errors.ts';
import { decodeMessage } from './decode.ts';
import { createDescriptorTable, type MessageType } from './descriptor-table.ts';
import { type ElementCache, encodeMessage } from './encode.ts';
import { TYPE_URL_PREFIX } from './well-known.ts';

/** Encoder and decoder over one descriptor set. `typeUrl`: `type.googleapis.com/NAME`, or the bare NAME. */
export interface Messages {
  /** JSON -> bytes, strict and deterministic; the JSON must not change afterwards, its parts are remembered. Throws MeshError XDS_ENCODE (`details.path`), XDS_TYPE for an unknown type. */
  encodeResource(typeUrl: string, json: unknown): Uint8Array;
  /** Bytes -> JSON; unknown fields are passed over. Throws MeshError XDS_DECODE, XDS_TYPE. */
  decodeResource(typeUrl: string, bytes: Uint8Array): unknown;
  /** True when the set has a message type of that name. */
  has(typeUrl: string): boolean;
}

/** Messages over a serialized FileDescriptorSet. Types are built on first use. Throws XDS_DESCRIPTORS when the bytes are no set. */
export function createMessages(descriptorSet: Uint8Array): Messages {
  const table = createDescriptorTable(descriptorSet);
  const elements: ElementCache = new WeakMap();
  const nameOf = (url: string) => (url.startsWith(TYPE_URL_PREFIX) ? url.slice(TYPE_URL_PREFIX.length) : url);
  const typeOf = (url: string): MessageType => {
    const type = table.message(nameOf(url));
    if (type === undefined) throw new MeshError('XDS_TYPE', `the pinned Envoy has no message type ${nameOf(url)}`);
    return type;
  };
  return {
    encodeResource: (url, json) => encodeMessage(table, typeOf(url), json, elements),
    decodeResource: (url, bytes) => decodeMessage(table, typeOf(url), bytes),
    has: (url) => table.message(nameOf(url)) !== undefined,
  };
}

/** Messages from a file. Throws XDS_DESCRIPTORS naming the path when it cannot be read. */
export function loadMessages(path: string): Messages {
  let set: Buffer;
  try {
    set = readFileSync(path);
  } catch (cause) {
    throw new MeshError('XDS_DESCRIPTORS', `cannot read the descriptor set ${path}; run scripts/fetch-envoy`, {
      cause,
    });
  }
  return createMessages(set);
}
