import { isDynamic } from '../mesh-view/reach.ts';
import type {
  ConsistentHashSpec,
  LoadBalancerSpec,
  OutlierDetectionSpec,
} from '../mesh-view/specs/destination-rule.ts';
import type { ClusterPlan } from './cluster-plan.ts';
import { compact, duration, type JsonObject } from './json.ts';
import { weighsLocalities } from './locality.ts';
import { alike } from './resource-set.ts';

/**
 * Outlier detection of mesh clusters without any of their own: endpoints that refuse connections are passed over for a while, so that a
 * dead host leaves load balancing even while the agent is down (DESIGN 5). Answers, 5xx included, never count. Short, since gossip says
 * within seconds that a host is back (seen: after 10 s of ejection a rebooted host was served 10 s later than it could).
 */
const CONNECT_FAILURES_ONLY: JsonObject = {
  interval: '1s',
  base_ejection_time: '2s',
  max_ejection_time: '30s',
  max_ejection_percent: 100,
  split_external_local_origin_errors: true,
  consecutive_local_origin_failure: 5,
  enforcing_consecutive_local_origin_failure: 100,
  enforcing_local_origin_success_rate: 0,
  enforcing_consecutive_5xx: 0,
  enforcing_consecutive_gateway_failure: 0,
  enforcing_success_rate: 0,
};

/** True for clusters whose connections go where the client was going: nothing to choose from. */
export function isOriginalDst({ service, policy }: Pick<ClusterPlan, 'service' | 'policy'>): boolean {
  return service.resolution === 'NONE' || policy.loadBalancer?.simple === 'PASSTHROUGH';
}

/** Load balancing policy of a cluster; LEAST_REQUEST unless told otherwise, as in Istio. */
export function loadBalancing(plan: ClusterPlan): JsonObject {
  const spec = plan.policy.loadBalancer;
  if (isOriginalDst(plan) || isDynamic(plan.service)) return { lb_policy: 'CLUSTER_PROVIDED' };
  if (plan.service.resolution === 'DNS_ROUND_ROBIN') return { lb_policy: 'ROUND_ROBIN' };
  if (spec?.consistentHash !== undefined) return consistentHash(spec.consistentHash);
  const warmup = slowStart(spec);
  switch (spec?.simple) {
    case 'RANDOM':
      return { lb_policy: 'RANDOM' };
    case 'ROUND_ROBIN':
      return compact({ lb_policy: 'ROUND_ROBIN', round_robin_lb_config: warmup });
    default: // LEAST_REQUEST, its old name LEAST_CONN, UNSPECIFIED
      return compact({ lb_policy: 'LEAST_REQUEST', least_request_lb_config: warmup });
  }
}

/** Warmup of new endpoints; the newer field wins. Aggression 1 (linear) and 10 % are Istio's defaults, and Envoy's. */
function slowStart(spec: LoadBalancerSpec | undefined): JsonObject | undefined {
  const window = duration(spec?.warmup?.duration ?? spec?.warmupDurationSecs);
  if (window === undefined) return undefined;
  const { aggression, minimumPercent } = spec?.warmup ?? {};
  return {
    slow_start_config: compact({
      slow_start_window: window,
      // Envoy asks for a runtime key although nobody may set it.
      aggression:
        aggression === undefined ? undefined : { default_value: aggression, runtime_key: 'hostmesh.warmup.aggression' },
      min_weight_percent: minimumPercent === undefined ? undefined : { value: minimumPercent },
    }),
  };
}

/** Envoy's bound, and its default: it would let two endpoints of very different weights have a ring of that size (hundreds of MB). */
const MAX_RING = 8_388_608;

function consistentHash(hash: ConsistentHashSpec): JsonObject {
  if (hash.maglev !== undefined) {
    const size = hash.maglev.tableSize;
    return {
      lb_policy: 'MAGLEV',
      ...(size === undefined || size === 0 ? {} : { maglev_lb_config: { table_size: size } }),
    };
  }
  // `||`: 0 is Istio's word for not set.
  const ring = hash.ringHash?.minimumRingSize || hash.minimumRingSize || 1024;
  return {
    lb_policy: 'RING_HASH',
    ring_hash_lb_config: { minimum_ring_size: ring, maximum_ring_size: Math.min(8 * Math.max(ring, 1024), MAX_RING) },
  };
}

/** Hash policies that a route to the cluster needs, for its consistentHash. Empty when it has none. */
export function hashPolicies(spec: LoadBalancerSpec | undefined): readonly JsonObject[] {
  const hash = spec?.consistentHash;
  if (hash === undefined) return [];
  if (hash.httpHeaderName !== undefined) return [{ header: { header_name: hash.httpHeaderName } }];
  if (hash.httpQueryParameterName !== undefined) return [{ query_parameter: { name: hash.httpQueryParameterName } }];
  if (hash.useSourceIp === true) return [{ connection_properties: { source_ip: true } }];
  const cookie = hash.httpCookie;
  if (cookie === undefined) return [];
  const { name, path, ttl, attributes } = cookie;
  const list = attributes === undefined || attributes.length === 0 ? undefined : attributes.map((one) => ({ ...one }));
  return [{ cookie: compact({ name, path, ttl: duration(ttl), attributes: list }) }];
}

/** Outlier detection, the panic threshold that its minHealthPercent is, and weighing by locality. Source: Istio, DestinationRule, outlierDetection. */
export function outlierDetection(plan: ClusterPlan): JsonObject {
  const { transport, policy, locality } = plan;
  const spec = policy.outlierDetection;
  if (isOriginalDst(plan)) return {};
  // Each name is a server of its own: there is no other locality to go to.
  if (isDynamic(plan.service)) return spec === undefined ? {} : { outlier_detection: compact(detector(spec)) };
  const common = {
    common_lb_config: alike({
      healthy_panic_threshold: { value: spec?.minHealthPercent ?? 0 },
      ...(weighsLocalities(locality, plan.failover) ? { locality_weighted_lb_config: {} } : {}),
    }),
  };
  if (spec === undefined)
    return transport === 'plain' ? common : { ...common, outlier_detection: alike(CONNECT_FAILURES_ONLY) };
  return { ...common, outlier_detection: alike(compact(detector(spec))) };
}

/**
 * Absent counts are Envoy's defaults (5 of 5xx, 5 of local origin once these are split off), which are Istio's; 0 switches a count off, but
 * for local failures, where it means absent. consecutiveErrors is the old way to count gateway errors alone.
 */
function detector(spec: OutlierDetectionSpec): JsonObject {
  const split = spec.splitExternalLocalOriginErrors === true;
  const old = spec.consecutiveErrors ?? 0;
  const gateway = spec.consecutiveGatewayErrors ?? (old > 0 ? old : undefined);
  const consecutive = (name: string, value: number | undefined): JsonObject => {
    if (value === undefined) return {};
    return value === 0 ? { [`enforcing_${name}`]: 0 } : { [name]: value, [`enforcing_${name}`]: 100 };
  };
  return {
    enforcing_success_rate: 0,
    interval: duration(spec.interval),
    base_ejection_time: duration(spec.baseEjectionTime),
    max_ejection_percent: spec.maxEjectionPercent || undefined,
    // 10 % of few hosts are none: then one, as Istio's documents have it and its older proxies did. Who names a limit means it.
    always_eject_one_host: spec.maxEjectionPercent ? undefined : true,
    ...consecutive('consecutive_5xx', spec.consecutive5xxErrors ?? (old > 0 ? 0 : undefined)),
    ...consecutive('consecutive_gateway_failure', gateway),
    ...(split
      ? {
          split_external_local_origin_errors: true,
          enforcing_local_origin_success_rate: 0,
          ...consecutive('consecutive_local_origin_failure', spec.consecutiveLocalOriginFailures || undefined),
        }
      : {}),
  };
}
