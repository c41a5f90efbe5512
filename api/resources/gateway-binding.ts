/**
 * Which WorkloadGroups are gateways, and for which Gateways (docs/decisions/0009). Pure; the agents open listeners by it, the controller
 * serves Secrets by it, so both say the same. And which clients present the credentials of a DestinationRule (0011). The owner of the group decides: never a Gateway of another namespace by itself.
 */
import type { MeshObject } from './object.ts';
import { ROOT_NAMESPACE } from './registry.ts';

/** Annotation of a WorkloadGroup: it is a gateway, for the namespaces listed (`*` all, `.` its own; its own always). */
export const GATEWAY_ANNOTATION = 'hostmesh.io/gateway';

interface GroupSpec {
  readonly metadata?: { readonly labels?: Readonly<Record<string, string>> };
  readonly template?: { readonly labels?: Readonly<Record<string, string>> };
}

/** Labels of a WorkloadGroup's workloads: of `metadata` and of `template`, whose win (Istio). */
export function groupLabels(group: MeshObject): Readonly<Record<string, string>> {
  const spec = (group.spec ?? {}) as GroupSpec;
  return { ...spec.metadata?.labels, ...spec.template?.labels };
}

/** True when the group's owner says that it is a gateway: the annotation, or Istio's label `istio: ingressgateway` and its like. */
export function isDeclaredGateway(group: MeshObject): boolean {
  return annotation(group) !== undefined || (groupLabels(group).istio ?? '').endsWith('gateway');
}

/** True when the Gateway is for workloads of the group: selector over labels, within what the group's owner allows. */
export function gatewaySelects(gateway: MeshObject, group: MeshObject): boolean {
  const selector = Object.entries((gateway.spec as { selector?: Record<string, string> } | undefined)?.selector ?? {});
  const own = gateway.metadata.namespace === group.metadata.namespace;
  if ((!own || selector.length === 0) && !isDeclaredGateway(group)) return false;
  if (!own && !isSharedWith(group, gateway.metadata.namespace ?? '')) return false;
  const labels = groupLabels(group);
  return selector.every(([key, value]) => labels[key] === value);
}

/** True when peers must take the group for a gateway: declared, or selected by a Gateway of its own namespace. `gateways`: all of the mesh. */
export function isGatewayGroup(group: MeshObject, gateways: Iterable<MeshObject>): boolean {
  if (isDeclaredGateway(group)) return true;
  for (const gateway of gateways) if (gatewaySelects(gateway, group)) return true;
  return false;
}

/** Secrets that a Gateway names, in the namespace of the workloads it selects. `NAME-cacert` is where Istio looks for the CA of NAME too. */
export function credentialsOf(gateway: MeshObject): ReadonlySet<string> {
  const names = new Set<string>();
  for (const { tls } of (gateway.spec as { servers?: readonly { tls?: CredentialNames }[] } | undefined)?.servers ??
    []) {
    for (const name of [tls?.credentialName, ...(tls?.credentialNames ?? [])]) {
      if (!name) continue;
      names.add(name);
      names.add(`${name}-cacert`);
    }
    if (tls?.caCertCredentialName) names.add(tls.caCertCredentialName);
  }
  return names;
}

interface TlsOfPolicy {
  readonly tls?: { readonly credentialName?: string };
  readonly portLevelSettings?: readonly { readonly tls?: { readonly credentialName?: string } }[];
}

interface RuleSpec {
  readonly workloadSelector?: { readonly matchLabels?: Readonly<Record<string, string>> };
  readonly trafficPolicy?: TlsOfPolicy;
  readonly subsets?: readonly { readonly trafficPolicy?: TlsOfPolicy }[];
}

/** Secrets that a DestinationRule has its clients present, and the CA that they verify by. */
export function ruleCredentials(rule: MeshObject): ReadonlySet<string> {
  const { trafficPolicy, subsets } = (rule.spec ?? {}) as RuleSpec;
  const policies = [trafficPolicy, ...(subsets ?? []).map((subset) => subset.trafficPolicy)];
  const names = policies
    .flatMap((policy) => [policy?.tls, ...(policy?.portLevelSettings ?? []).map(({ tls }) => tls)])
    .flatMap((tls) => (tls?.credentialName ? [tls.credentialName] : []));
  return new Set(names.flatMap((name) => [name, `${name}-cacert`]));
}

/**
 * True when workloads of the group present the rule's credentials: of the rule's own namespace, and selected by its workloadSelector or, where
 * it has none, a gateway (Istio, ClientTLSSettings.credentialName). `gateways`: all of the mesh.
 */
export function ruleArms(rule: MeshObject, group: MeshObject, gateways: Iterable<MeshObject>): boolean {
  if (rule.metadata.namespace !== group.metadata.namespace) return false;
  const { workloadSelector } = (rule.spec ?? {}) as RuleSpec;
  if (workloadSelector === undefined) return isGatewayGroup(group, gateways);
  const labels = groupLabels(group);
  return Object.entries(workloadSelector.matchLabels ?? {}).every(([key, value]) => labels[key] === value);
}

interface CredentialNames {
  readonly credentialName?: string;
  readonly credentialNames?: readonly string[];
  readonly caCertCredentialName?: string;
}

function annotation(group: MeshObject): string | undefined {
  return group.metadata.annotations?.[GATEWAY_ANNOTATION];
}

function isSharedWith(group: MeshObject, namespace: string): boolean {
  const listed = annotation(group);
  if (listed === undefined) return group.metadata.namespace === ROOT_NAMESPACE;
  return listed.split(',').some((one) => one.trim() === '*' || one.trim() === namespace);
}
