import { keyOf, type MeshObject } from '../object.ts';
import { ROOT_NAMESPACE } from '../registry.ts';
import type { Findings } from './finding.ts';
import { costOf, type MemberFact, type MeshFacts, namespaceOf, perMesh, portNumbers, selects } from './model.ts';

type Labels = Readonly<Record<string, string>>;

interface SelectorShape {
  readonly selector?: { readonly matchLabels?: Labels };
}

interface PeerAuthenticationShape extends SelectorShape {
  readonly mtls?: { readonly mode?: string };
  readonly portLevelMtls?: Readonly<Record<string, { readonly mode?: string }>>;
}

const POLICY_KINDS = ['PeerAuthentication', 'AuthorizationPolicy', 'RequestAuthentication'];

/** Policies whose selector selects nobody; ports that the selected do not have; two that are for the same. */
export function analyzePolicy(object: MeshObject, facts: MeshFacts, findings: Findings): void {
  if (!POLICY_KINDS.includes(object.kind)) return;
  const spec = (object.spec ?? {}) as PeerAuthenticationShape;
  const labels = spec.selector?.matchLabels ?? {};
  const namespace = namespaceOf(object);
  const everywhere = namespace === ROOT_NAMESPACE;
  const cost = costOf(labels);
  const selected = facts.members.filter((member) => {
    if (member.kind !== 'group' || !(everywhere || member.namespace === namespace)) return false;
    facts.step(cost);
    return selects(labels, member.labels);
  });
  if (Object.keys(labels).length > 0 && selected.length === 0)
    findings.warn(
      'ineffectivePolicy',
      'spec.selector.matchLabels',
      `no WorkloadGroup ${facts.where}${everywhere ? '' : ` in namespace ${namespace}`} has these labels`,
    );
  if (object.kind !== 'PeerAuthentication') return;
  const ports = new Set(selected.flatMap((member) => [...portNumbers(member)]));
  facts.step(ports.size);
  for (const port of Object.keys(spec.portLevelMtls ?? {})) {
    if (selected.length > 0 && !ports.has(Number(port)))
      findings.warn(
        'ineffectivePolicy',
        `spec.portLevelMtls[${port}]`,
        `none of the selected WorkloadGroups has port ${port} (ports are those of the workload, not of services)`,
      );
  }
  for (const other of facts.list('PeerAuthentication')) {
    const theirs = ((other.spec ?? {}) as PeerAuthenticationShape).selector?.matchLabels ?? {};
    if (namespaceOf(other) !== namespace || keyOf(other) === keyOf(object)) continue;
    facts.step(cost);
    if (!same(labels, theirs)) continue;
    findings.warn(
      'duplicateRule',
      'spec',
      `PeerAuthentication ${namespace}/${other.metadata.name} selects the same workloads: the older one counts`,
    );
  }
}

function same(a: Labels, b: Labels): boolean {
  return Object.keys(a).length === Object.keys(b).length && selects(a, b);
}

interface Policy {
  readonly object: MeshObject;
  readonly spec: PeerAuthenticationShape;
}

/** By namespace, the oldest first: those for all its workloads, those with labels. */
const policiesByNamespace = perMesh((facts) => {
  const created = ({ object }: Policy) => object.metadata.creationTimestamp ?? '';
  const all = facts
    .list('PeerAuthentication')
    .map((object): Policy => ({ object, spec: (object.spec ?? {}) as PeerAuthenticationShape }))
    .sort((a, b) => created(a).localeCompare(created(b)));
  const found = new Map<string, { wide?: Policy; readonly labelled: Policy[] }>();
  for (const policy of all) {
    const namespace = namespaceOf(policy.object);
    const near = found.get(namespace) ?? { labelled: [] };
    found.set(namespace, near);
    if (Object.keys(policy.spec.selector?.matchLabels ?? {}).length > 0) near.labelled.push(policy);
    else near.wide ??= policy;
  }
  return found;
});

/** The oldest policy that selects a workload by its labels, kept by workload. */
const ownPolicies = perMesh(() => new Map<MemberFact, Policy | undefined>());

function ownPolicy(member: MemberFact, facts: MeshFacts): Policy | undefined {
  const known = ownPolicies(facts);
  if (known.has(member)) return known.get(member);
  const own = policiesByNamespace(facts)
    .get(member.namespace)
    ?.labelled.find(({ spec }) => {
      const labels = spec.selector?.matchLabels ?? {};
      facts.step(costOf(labels));
      return selects(labels, member.labels);
    });
  known.set(member, own);
  return own;
}

/** What a WorkloadGroup's port takes: workload's, namespace's, mesh's PeerAuthentication, the oldest of each; PERMISSIVE without any. */
export function mtlsModeOf(
  member: MemberFact,
  port: number | undefined,
  facts: MeshFacts,
): { readonly mode: string; readonly by?: string } {
  const wide = (namespace: string) => policiesByNamespace(facts).get(namespace)?.wide;
  for (const [policy, ports] of [
    [ownPolicy(member, facts), true],
    [wide(member.namespace), false],
    [wide(ROOT_NAMESPACE), false],
  ] as const) {
    const level = ports && port !== undefined ? policy?.spec.portLevelMtls?.[String(port)]?.mode : undefined;
    const mode = given(level) ?? given(policy?.spec.mtls?.mode);
    if (policy !== undefined && mode !== undefined)
      return { mode, by: `${namespaceOf(policy.object)}/${policy.object.metadata.name}` };
  }
  return { mode: 'PERMISSIVE' };
}

/** UNSET means: as the wider policy has it. */
function given(mode: string | undefined): string | undefined {
  return mode === undefined || mode === 'UNSET' ? undefined : mode;
}
