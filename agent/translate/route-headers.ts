import type { HeaderRules } from '../mesh-view/specs/virtual-service.ts';
import type { WorkloadView } from '../mesh-view/view.ts';
import { MESH_HEADER } from './filters.ts';
import { compact, type JsonObject } from './json.ts';
import { canonical } from './telemetry-labels.ts';

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

/** What the other proxy is told, where the destination may be one of the mesh's. */
export function meshHeaders(
  workload: WorkloadView,
  target: { readonly meshed: boolean; readonly speaks: string },
): JsonObject {
  if (!target.meshed) return {};
  const { app, version } = canonical(workload.labels, workload.name);
  const set = (key: string, value: string) => ({
    header: { key, value },
    append_action: 'OVERWRITE_IF_EXISTS_OR_ADD',
  });
  return {
    request_headers_to_add: [
      set(MESH_HEADER.protocol, target.speaks),
      set(MESH_HEADER.workload, workload.name),
      set(MESH_HEADER.app, app.replaceAll('%', '%%')),
      set(MESH_HEADER.version, version.replaceAll('%', '%%')),
    ],
  };
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
