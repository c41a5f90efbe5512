import type { HeaderRules } from '../mesh-view/specs/virtual-service.ts';
import { MESH_GATEWAY } from '../mesh-view/virtual-services.ts';
import { type Caller, callerHeaders, OUT_OF_MESH } from './caller.ts';
import { compact, type JsonObject } from './json.ts';

/** Header operations of a rule or destination; the authority is not among them, see hostOf. */
export function headers(rules: HeaderRules | undefined): JsonObject {
  const add = (operations: HeaderRules['request']) => [
    ...operation(operations?.set, 'OVERWRITE_IF_EXISTS_OR_ADD'),
    ...operation(operations?.add, 'APPEND_IF_EXISTS_OR_ADD'),
  ];
  return compact({
    request_headers_to_add: some(add(rules?.request)),
    request_headers_to_remove: some(rules?.request?.remove ?? []),
    response_headers_to_add: some(add(rules?.response)),
    response_headers_to_remove: some(rules?.response?.remove ?? []),
  });
}

function operation(values: Readonly<Record<string, string>> | undefined, append_action: string): JsonObject[] {
  return Object.entries(values ?? {})
    .filter(([key]) => !isHost(key))
    .map(([key, value]) => ({ header: { key, value }, append_action, keep_empty_value: value === '' || undefined }))
    .map(compact);
}

const isHost = (header: string) => /^(host|:authority)$/i.test(header);

/** Setting or adding `Host` is rewriting the authority: Envoy refuses to do it as a header. */
export function hostOf(rules: HeaderRules | undefined): JsonObject {
  const { set, add } = rules?.request ?? {};
  const host = [...Object.entries(set ?? {}), ...Object.entries(add ?? {})].find(([key]) => isHost(key));
  return host === undefined ? {} : { host_rewrite_literal: host[1] };
}

/**
 * What a route does so that the other proxy is told of the caller, and nobody else: a workload's requests bring that along (caller.ts); a
 * gateway's get it here, as only the route knows how the application is to be spoken to.
 */
export function meshHeaders(
  { workload, gateway }: { readonly workload: Caller; readonly gateway: string },
  target: { readonly meshed: boolean; readonly speaks: string },
): JsonObject {
  if (gateway === MESH_GATEWAY) return target.meshed ? {} : OUT_OF_MESH;
  return target.meshed ? { request_headers_to_add: callerHeaders(workload, target.speaks) } : {};
}

/** Concatenates the lists of several objects; of other keys the last stands. */
export function merge(...parts: readonly JsonObject[]): JsonObject {
  const merged: Record<string, JsonObject[string]> = {};
  for (const [key, value] of parts.flatMap((part) => Object.entries(part))) {
    const known = merged[key];
    merged[key] = Array.isArray(known) && Array.isArray(value) ? [...known, ...value] : value;
  }
  return merged;
}

/** The list, or undefined where it is empty: Envoy's defaults stay unwritten. */
export function some<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length === 0 ? undefined : list;
}
