/**
 * Clusters for copies of requests. Envoy sends a copy without the state of the connection that the request came by, and that state says
 * whose SVID the other side is to see (DESIGN 3.5): a copy therefore goes by a cluster of its caller's own. In: the routes, and the plans of
 * the clusters that they name. Out: one more plan for each workload and destination that it mirrors to by mTLS. Never: a copy under
 * another workload's identity.
 */
import type { Caller } from './caller.ts';
import type { ClusterPlan } from './cluster-plan.ts';
import type { JsonObject } from './json.ts';
import type { XdsResource } from './resource-set.ts';

const MIRROR = '~mirror@';

/** Name of the cluster by which a workload's copies go where `cluster` goes. */
export function mirrorName(cluster: string, workload: Pick<Caller, 'spiffeId'>): string {
  return `${cluster}${MIRROR}${workload.spiffeId}`;
}

/** Plans of the clusters that mirror policies of `routes` name, made from those that they are copies of. `plans`: by name. */
export function mirrorPlans(
  routes: readonly XdsResource[],
  plans: ReadonlyMap<string, ClusterPlan>,
): readonly ClusterPlan[] {
  const names = new Set(routes.flatMap(mirrorsOf));
  return [...names].flatMap((name) => {
    const [cluster = '', identity] = name.split(MIRROR);
    const plan = plans.get(cluster);
    return plan === undefined || identity === undefined ? [] : [{ ...plan, name, identity }];
  });
}

/** Clusters that one route configuration sends copies to. */
function mirrorsOf({ type, body }: XdsResource): string[] {
  if (type !== 'route') return [];
  const hosts = (body as JsonObject).virtual_hosts as readonly JsonObject[];
  return hosts
    .flatMap((host) => host.routes as readonly JsonObject[])
    .flatMap(({ route }) => ((route as JsonObject | undefined)?.request_mirror_policies ?? []) as readonly JsonObject[])
    .map(({ cluster }) => String(cluster));
}
