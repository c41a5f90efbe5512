import type { ObjectKey } from '../../api/resources/object.ts';
import { ROOT_NAMESPACE } from '../../api/resources/registry.ts';
import { isExportedTo, mostSpecific } from './host-names.ts';
import { selects } from './object-index.ts';
import type { LocalityLbSpec } from './specs/common.ts';
import type { DestinationRuleSpec, SubsetSpec, TrafficPolicy } from './specs/destination-rule.ts';
import type { DestinationRuleView, ServiceView } from './view.ts';

/** DestinationRules of one namespace for one host, merged: subsets of all, the first trafficPolicy. */
export interface EffectiveRule {
  readonly namespace: string;
  readonly trafficPolicy: TrafficPolicy | undefined;
  readonly subsets: readonly SubsetSpec[];
  readonly origins: readonly ObjectKey[];
  /** A workloadSelector chose it: other clients of the namespace may have another rule. */
  readonly selective: boolean;
}

/** Who asks: `labels` are those of the calling workload, or undefined for the namespace at large, which no selector selects. */
export interface RuleClient {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>> | undefined;
}

/**
 * The rule that a client follows towards a service. Istio's lookup path: rules of the client's namespace, then the service's, then the root
 * namespace; the first that has one for the host wins, the most specific host within it. In its own namespace a rule counts whatever its
 * exportTo; to clients in the root namespace, of its own rules only the private ones come first.
 * Source: Istio, DestinationRule, exportTo and workloadSelector.
 */
export function effectiveRule(
  rules: readonly DestinationRuleView[],
  client: RuleClient,
  service: ServiceView,
): EffectiveRule | undefined {
  const index = indexOf(rules);
  const stages: readonly [string, (rule: DestinationRuleView) => boolean][] = [
    [client.namespace, client.namespace === ROOT_NAMESPACE ? isPrivate : () => true],
    [service.namespace, (rule) => isExportedTo(rule.spec.exportTo, rule.namespace, client.namespace)],
    [ROOT_NAMESPACE, (rule) => isExportedTo(rule.spec.exportTo, rule.namespace, client.namespace)],
  ];
  for (const [namespace, counts] of stages) {
    const hosts = index.get(namespace);
    if (hosts === undefined) continue;
    const found = bestOf(hosts, service.host, (rule) => counts(rule) && isFor(rule, client));
    if (found.length > 0) return merged(namespace, found);
  }
  return undefined;
}

function isPrivate({ spec, namespace }: DestinationRuleView): boolean {
  return spec.exportTo?.length === 1 && (spec.exportTo[0] === '.' || spec.exportTo[0] === namespace);
}

/** A rule with a selector is for workloads of its own namespace that carry the labels, and for nobody else. */
function isFor({ spec, namespace }: DestinationRuleView, client: RuleClient): boolean {
  if (spec.workloadSelector === undefined) return true;
  if (client.labels === undefined || client.namespace !== namespace) return false;
  return selects(spec.workloadSelector.matchLabels, client.labels);
}

/** Rules of one namespace by host, those of wildcard hosts apart: few, and looked through for each service. Each list oldest first. */
interface Hosts {
  readonly exact: ReadonlyMap<string, readonly DestinationRuleView[]>;
  readonly wild: ReadonlyMap<string, readonly DestinationRuleView[]>;
}

/** Rules by namespace and host. Made once a view: asking for 1,000 services walks no list of 1,000 rules. */
const INDICES = new WeakMap<readonly DestinationRuleView[], ReadonlyMap<string, Hosts>>();

function indexOf(rules: readonly DestinationRuleView[]): ReadonlyMap<string, Hosts> {
  const known = INDICES.get(rules);
  if (known !== undefined) return known;
  type Lists = Map<string, DestinationRuleView[]>;
  const index = new Map<string, { exact: Lists; wild: Lists }>();
  for (const rule of rules) {
    const hosts = index.get(rule.namespace) ?? { exact: new Map(), wild: new Map() };
    index.set(rule.namespace, hosts);
    const lists: Lists = rule.host.startsWith('*') ? hosts.wild : hosts.exact;
    const list = lists.get(rule.host);
    if (list === undefined) lists.set(rule.host, [rule]);
    else list.push(rule);
  }
  INDICES.set(rules, index);
  return index;
}

/** Rules of the most specific host that has any which count. */
function bestOf(
  { exact, wild }: Hosts,
  host: string,
  counts: (rule: DestinationRuleView) => boolean,
): readonly DestinationRuleView[] {
  const own = ((host.startsWith('*') ? wild : exact).get(host) ?? []).filter(counts);
  if (own.length > 0 || wild.size === 0) return own;
  const usable = [...wild].filter(([, rules]) => rules.some(counts)).map(([pattern]) => pattern);
  const best = mostSpecific(usable, host);
  return (best === undefined ? [] : (wild.get(best) ?? [])).filter(counts);
}

/** Those with a selector come first: what they leave open, the others fill in. Each kind oldest first. */
function merged(namespace: string, found: readonly DestinationRuleView[]): EffectiveRule {
  const selective = found.filter((rule) => rule.spec.workloadSelector !== undefined);
  const rules = [...selective, ...found.filter((rule) => rule.spec.workloadSelector === undefined)];
  const subsets = new Map<string, SubsetSpec>();
  for (const subset of rules.flatMap((rule) => rule.spec.subsets ?? [])) {
    if (!subsets.has(subset.name)) subsets.set(subset.name, subset);
  }
  return {
    namespace,
    trafficPolicy: rules.find((rule) => rule.spec.trafficPolicy !== undefined)?.spec.trafficPolicy,
    subsets: [...subsets.values()],
    origins: rules.map((rule) => rule.key).sort(),
    selective: selective.length > 0,
  };
}

/** Labels of failoverPriority that say where a host is; they are alike for all workloads of a host. */
export const TOPOLOGY_LABELS = {
  network: 'topology.istio.io/network',
  cluster: 'topology.istio.io/cluster',
  region: 'topology.kubernetes.io/region',
  zone: 'topology.kubernetes.io/zone',
  subzone: 'topology.istio.io/subzone',
  hostname: 'kubernetes.io/hostname',
} as const;

/**
 * What sets the clusters of a client under this rule apart from those that other workloads of its namespace share: the rule, where a
 * selector chose it, and the client's labels that failoverPriority compares. Empty where nothing does.
 */
export function ruleVariant(rule: EffectiveRule | undefined, client: RuleClient, mesh?: LocalityLbSpec): string {
  if (client.labels === undefined || (rule === undefined && mesh === undefined)) return '';
  const labels = client.labels;
  const chosen = rule?.selective ? `~${rule.origins.map((key) => key.split('/').at(-1)).join('+')}` : '';
  const compared = comparedLabels(rule === undefined ? [] : [rule], mesh);
  return compared.length === 0 ? chosen : `${chosen}~${compared.map((key) => `${key}=${labels[key] ?? ''}`).join(',')}`;
}

/** Whether two workloads of a namespace may follow different rules, or one rule differently, can only depend on these labels. Sorted. */
export function distinguishingLabels(rules: readonly DestinationRuleView[], mesh?: LocalityLbSpec): readonly string[] {
  const selecting = rules.flatMap((rule) => Object.keys(rule.spec.workloadSelector?.matchLabels ?? {}));
  const compared = comparedLabels(
    rules.map((rule) => ({ subsets: [], ...rule.spec })),
    mesh,
  );
  return [...new Set([...selecting, ...compared])].sort();
}

/** Labels of its own that a client's failoverPriority, a rule's or the mesh's, compares with those of endpoints. */
function comparedLabels(
  rules: readonly Pick<DestinationRuleSpec, 'trafficPolicy' | 'subsets'>[],
  mesh: LocalityLbSpec | undefined,
): string[] {
  const policies = rules.flatMap(({ trafficPolicy, subsets }) =>
    [trafficPolicy, ...(subsets ?? []).map((subset) => subset.trafficPolicy)].flatMap((policy) => [
      policy,
      ...(policy?.portLevelSettings ?? []),
    ]),
  );
  const settings = [mesh, ...policies.map((policy) => policy?.loadBalancer?.localityLbSetting)];
  const keys = settings.flatMap((setting) => setting?.failoverPriority ?? []);
  const topology: readonly string[] = Object.values(TOPOLOGY_LABELS);
  return [...new Set(keys.filter((key) => !key.includes('=') && !topology.includes(key)))].sort();
}
