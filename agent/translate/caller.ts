import type { WorkloadView } from '../mesh-view/view.ts';
import { any, type JsonObject } from './json.ts';
import { canonical } from './telemetry-labels.ts';

/** Headers by which two proxies of the mesh tell each other what the request itself no longer says. Inbound strips them. */
export const MESH_HEADER = {
  /** The version that the application spoke to its proxy: the other side speaks the same to its application (DESIGN 3.13). */
  protocol: 'x-hostmesh-protocol',
  workload: 'x-hostmesh-workload',
  app: 'x-hostmesh-app',
  version: 'x-hostmesh-version',
} as const;

/** What a route may depend on of the workload whose call it takes. */
export type Caller = Pick<WorkloadView, 'namespace' | 'name' | 'labels' | 'spiffeId'>;

/** What the other proxy is told of the caller. `speaks`: the version that its application is to be spoken to, or a format that says it. */
export function callerHeaders({ labels, name }: Pick<Caller, 'labels' | 'name'>, speaks: string): JsonObject[] {
  const { app, version } = canonical(labels, name);
  const set = (key: string, value: string): JsonObject => ({
    header: { key, value },
    append_action: 'OVERWRITE_IF_EXISTS_OR_ADD',
  });
  return [
    set(MESH_HEADER.protocol, speaks),
    set(MESH_HEADER.workload, name),
    set(MESH_HEADER.app, app.replaceAll('%', '%%')),
    set(MESH_HEADER.version, version.replaceAll('%', '%%')),
  ];
}

/** For a connection manager: changes a request's headers before its route is looked for. */
export function earlyHeaders(mutations: readonly JsonObject[]): JsonObject {
  const config = any('envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation', { mutations });
  return {
    early_header_mutation_extensions: [
      { name: 'envoy.http.early_header_mutation.header_mutation', typed_config: config },
    ],
  };
}

/**
 * What a workload's own requests bring along: said once, where they come in, and not by every route; route tables are then alike for all
 * workloads of a namespace. Routes that lead out of the mesh take it off again.
 */
export function introduced(workload: Pick<Caller, 'labels' | 'name'>): JsonObject {
  return earlyHeaders(callerHeaders(workload, '%PROTOCOL%').map((append) => ({ append })));
}

/** A route to whoever is no proxy of the mesh: what concerns nobody else is taken off. */
export const OUT_OF_MESH: JsonObject = { request_headers_to_remove: Object.values(MESH_HEADER) };
