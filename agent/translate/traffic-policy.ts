import type { EffectiveRule } from '../mesh-view/lookup.ts';
import type { PortPolicy, SubsetSpec, TrafficPolicy } from '../mesh-view/specs/destination-rule.ts';

/**
 * What holds for one port of a service or subset: the rule's policy, overridden section by section by the subset's, each after its own
 * portLevelSettings; these do not inherit: a section that they leave out is at its default. Source: Istio, DestinationRule, portLevelSettings.
 */
export function portPolicy(rule: EffectiveRule | undefined, subset: SubsetSpec | undefined, port: number): PortPolicy {
  return over(over({}, rule?.trafficPolicy, port), subset?.trafficPolicy, port);
}

function over(base: PortPolicy, policy: TrafficPolicy | undefined, port: number): PortPolicy {
  if (policy === undefined) return base;
  const level = policy.portLevelSettings?.find((setting) => setting.port?.number === port);
  if (level !== undefined) {
    const { loadBalancer, connectionPool, outlierDetection, tls } = level;
    return { loadBalancer, connectionPool, outlierDetection, tls };
  }
  return {
    loadBalancer: policy.loadBalancer ?? base.loadBalancer,
    connectionPool: policy.connectionPool ?? base.connectionPool,
    outlierDetection: policy.outlierDetection ?? base.outlierDetection,
    tls: policy.tls ?? base.tls,
  };
}
