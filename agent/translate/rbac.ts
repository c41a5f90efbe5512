import type { MeshView, WorkloadView } from '../mesh-view/view.ts';
import { any, type JsonObject, resource } from './json.ts';
import { rbacName } from './names.ts';
import type { XdsResource } from './resource-set.ts';

const KINDS = {
  http: 'envoy.extensions.filters.http.rbac.v3.RBAC',
  tcp: 'envoy.extensions.filters.network.rbac.v3.RBAC',
} as const;

/**
 * Policy of a workload's inbound chains, as extension configs that exist from the start, so that a change reaches the next request on
 * open connections and drains nothing (DESIGN 3.12). Denials: revoked hosts, by the DNS SAN that each of their SVIDs carries.
 */
export function rbacResources(view: MeshView, workload: WorkloadView): readonly XdsResource[] {
  const revoked = revokedPolicy(view);
  return (['http', 'tcp'] as const).flatMap((kind) => [
    rbac(workload, kind, 'deny', revoked === undefined ? {} : { 'hostmesh-revoked': revoked }),
    rbac(workload, kind, 'allow', {}),
  ]);
}

function rbac(
  workload: WorkloadView,
  kind: 'http' | 'tcp',
  action: 'deny' | 'allow',
  policies: JsonObject,
): XdsResource {
  const none = Object.keys(policies).length === 0;
  const typed = any(KINDS[kind], {
    ...(none ? {} : { rules: { action: action.toUpperCase(), policies } }),
    ...(kind === 'tcp' ? { stat_prefix: `inbound_${action}` } : {}),
  });
  return resource('extension', rbacName(workload, kind, action), { typed_config: typed }, workload.origins);
}

function revokedPolicy({ revokedNames }: MeshView): JsonObject | undefined {
  if (revokedNames.length === 0) return undefined;
  return {
    permissions: [{ any: true }],
    principals: revokedNames.map((exact) => ({
      custom: {
        name: 'envoy.rbac.principals.mtls_authenticated',
        typed_config: any('envoy.extensions.rbac.principals.mtls_authenticated.v3.Config', {
          san_matcher: { san_type: 'DNS', matcher: { exact } },
        }),
      },
    })),
  };
}
