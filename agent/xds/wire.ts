import { Writer } from 'protobufjs/minimal.js';
import { MeshError } from '../../api/errors.ts';
import { type ResourceType, TYPE_URLS } from '../translate/resource-set.ts';
import type { Messages } from './messages.ts';
import type { Entry } from './snapshot-cache.ts';

/** A DeltaDiscoveryRequest, as far as the server looks at it. */
export interface DeltaRequest {
  readonly typeUrl: string;
  /** Empty but in the first request of a stream. */
  readonly nodeId: string;
  readonly subscribe: readonly string[];
  readonly unsubscribe: readonly string[];
  readonly initialVersions: Readonly<Record<string, string>>;
  /** Empty unless this acknowledges or refuses a response. */
  readonly nonce: string;
  /** Envoy's words when it refuses, else undefined. */
  readonly error: string | undefined;
}

/** A DeltaDiscoveryResponse to be. */
export interface DeltaResponse {
  readonly type: ResourceType;
  readonly nonce: string;
  readonly entries: readonly Entry[];
  readonly removed: readonly string[];
}

const REQUEST = 'envoy.service.discovery.v3.DeltaDiscoveryRequest';

/** Parses a request. Throws XDS_DECODE. */
export function parseRequest(messages: Messages, bytes: Uint8Array): DeltaRequest {
  const json = messages.decodeResource(REQUEST, bytes) as {
    node?: { id?: string };
    type_url?: string;
    resource_names_subscribe?: string[];
    resource_names_unsubscribe?: string[];
    initial_resource_versions?: Record<string, string>;
    response_nonce?: string;
    error_detail?: { code?: number; message?: string };
  };
  if (json.type_url === undefined) throw new MeshError('XDS_DECODE', 'a discovery request without a type');
  return {
    typeUrl: json.type_url,
    nodeId: json.node?.id ?? '',
    subscribe: json.resource_names_subscribe ?? [],
    unsubscribe: json.resource_names_unsubscribe ?? [],
    initialVersions: json.initial_resource_versions ?? {},
    nonce: json.response_nonce ?? '',
    error:
      json.error_detail === undefined
        ? undefined
        : (json.error_detail.message ?? `code ${json.error_detail.code ?? 0}`),
  };
}

/**
 * The bytes of a response. Resources go in as they were encoded once. Field numbers of envoy/service/discovery/v3/discovery.proto:
 * response: resources 2, type_url 4, nonce 5, removed_resources 6; Resource: version 1, resource (Any: type_url 1, value 2) 2, name 3.
 */
export function encodeResponse(response: DeltaResponse): Uint8Array {
  const typeUrl = TYPE_URLS[response.type];
  const writer = Writer.create();
  for (const entry of response.entries) {
    writer.uint32(0x12).fork().uint32(0x0a).string(entry.version);
    writer.uint32(0x12).fork().uint32(0x0a).string(typeUrl).uint32(0x12).bytes(entry.bytes).ldelim();
    writer.uint32(0x1a).string(entry.name).ldelim();
  }
  writer.uint32(0x22).string(typeUrl).uint32(0x2a).string(response.nonce);
  for (const name of response.removed) writer.uint32(0x32).string(name);
  return writer.finish();
}

const TYPES = new Map<string, ResourceType>(
  (Object.entries(TYPE_URLS) as [ResourceType, string][]).map(([type, url]) => [url, type]),
);

/** The type that a URL stands for; undefined for those this agent does not serve. */
export function typeOfUrl(url: string): ResourceType | undefined {
  return TYPES.get(url);
}
