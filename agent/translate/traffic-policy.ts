import type { EffectiveRule } from '../mesh-view/lookup.ts';
import type {
  ClientTlsSpec,
  PortPolicy,
  PortSections,
  SubsetSpec,
  TrafficPolicy,
} from '../mesh-view/specs/destination-rule.ts';
import type { Transport } from '../mesh-view/view.ts';

/**
 * What holds for one port of a service or subset: the rule's policy, overridden section by section by the subset's. Where a policy has
 * portLevelSettings of the port, these stand in its place whole: what they leave out is at its default, proxyProtocol and retryBudget
 * (which they cannot say) among it; the tunnel alone is no matter of ports. Source: Istio, DestinationRule, portLevelSettings and subsets.
 */
export function portPolicy(rule: EffectiveRule | undefined, subset: SubsetSpec | undefined, port: number): PortPolicy {
  const whole = rule?.trafficPolicy;
  const part = subset?.trafficPolicy;
  const base: PortPolicy = levelOf(whole, port) ?? whole ?? {};
  const merged: PortPolicy = { ...base, ...(levelOf(part, port) ?? written(part)) };
  const { loadBalancer, connectionPool, outlierDetection, tls, proxyProtocol, retryBudget } = merged;
  const tunnel = part?.tunnel ?? whole?.tunnel;
  return { loadBalancer, connectionPool, outlierDetection, tls, proxyProtocol, retryBudget, tunnel };
}

/** The sections of a port's own settings, each as they have it or `undefined`. */
function levelOf(policy: TrafficPolicy | undefined, port: number): PortSections | undefined {
  const level = policy?.portLevelSettings?.find((setting) => setting.port?.number === port);
  if (level === undefined) return undefined;
  const { loadBalancer, connectionPool, outlierDetection, tls } = level;
  return { loadBalancer, connectionPool, outlierDetection, tls };
}

function written(policy: PortPolicy | undefined): PortPolicy {
  return Object.fromEntries(Object.entries(policy ?? {}).filter(([, value]) => value !== undefined));
}

/** How connections are secured: as the policy says, else as the port's endpoints are (auto mTLS). TLS of an operator's own counts as plain: the mesh adds none to it. */
export function transportOf(policy: PortPolicy, port: { readonly transport: Transport }, autoMtls = true): Transport {
  if (policy.tls === undefined) return autoMtls ? port.transport : 'plain';
  return policy.tls.mode === 'ISTIO_MUTUAL' ? 'mtls' : 'plain';
}

/** TLS that the proxy itself begins to a server that is no part of the mesh (modes SIMPLE and MUTUAL). */
export function originatedTls({ tls }: PortPolicy): ClientTlsSpec | undefined {
  return tls?.mode === 'SIMPLE' || tls?.mode === 'MUTUAL' ? tls : undefined;
}
