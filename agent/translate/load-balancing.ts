import type { LoadBalancerSpec } from '../mesh-view/specs/destination-rule.ts';
import type { ClusterPlan } from './cluster-plan.ts';
import { compact, duration, type JsonObject } from './json.ts';

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

/** Load balancing policy of a cluster; LEAST_REQUEST unless told otherwise, as in Istio. */
export function loadBalancing({ service, policy }: ClusterPlan): JsonObject {
  const spec = policy.loadBalancer;
  if (service.resolution === 'NONE' || spec?.simple === 'PASSTHROUGH') return { lb_policy: 'CLUSTER_PROVIDED' };
  if (service.resolution === 'DNS_ROUND_ROBIN') return { lb_policy: 'ROUND_ROBIN' };
  if (spec?.consistentHash !== undefined) return consistentHash(spec.consistentHash);
  switch (spec?.simple) {
    case 'ROUND_ROBIN':
    case 'RANDOM':
      return { lb_policy: spec.simple };
    default:
      return { lb_policy: 'LEAST_REQUEST' };
  }
}

function consistentHash(hash: NonNullable<LoadBalancerSpec['consistentHash']>): JsonObject {
  if (hash.maglev !== undefined) {
    const size = hash.maglev.tableSize;
    return {
      lb_policy: 'MAGLEV',
      ...(size === undefined || size === 0 ? {} : { maglev_lb_config: { table_size: size } }),
    };
  }
  const ring = hash.ringHash?.minimumRingSize ?? hash.minimumRingSize;
  return {
    lb_policy: 'RING_HASH',
    ring_hash_lb_config: { minimum_ring_size: ring === undefined || ring === 0 ? 1024 : ring },
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
  return [{ cookie: compact({ name: cookie.name, path: cookie.path, ttl: duration(cookie.ttl) }) }];
}

/** Outlier detection, and the panic threshold that its minHealthPercent is. Source: Istio, DestinationRule, outlierDetection. */
export function outlierDetection({ service, transport, policy }: ClusterPlan): JsonObject {
  const spec = policy.outlierDetection;
  if (service.resolution === 'NONE' || policy.loadBalancer?.simple === 'PASSTHROUGH') return {};
  const panic = { common_lb_config: { healthy_panic_threshold: { value: spec?.minHealthPercent ?? 0 } } };
  if (spec === undefined) return transport === 'plain' ? panic : { ...panic, outlier_detection: CONNECT_FAILURES_ONLY };
  const consecutive = (name: string, value: number | undefined): JsonObject => {
    if (value === undefined) return {};
    return value === 0 ? { [`enforcing_${name}`]: 0 } : { [name]: value, [`enforcing_${name}`]: 100 };
  };
  return {
    ...panic,
    outlier_detection: compact({
      enforcing_success_rate: 0,
      interval: duration(spec.interval),
      base_ejection_time: duration(spec.baseEjectionTime),
      max_ejection_percent: spec.maxEjectionPercent === 0 ? undefined : spec.maxEjectionPercent,
      split_external_local_origin_errors: spec.splitExternalLocalOriginErrors,
      ...consecutive('consecutive_5xx', spec.consecutive5xxErrors),
      ...consecutive('consecutive_gateway_failure', spec.consecutiveGatewayErrors),
      ...consecutive('consecutive_local_origin_failure', spec.consecutiveLocalOriginFailures),
    }),
  };
}
