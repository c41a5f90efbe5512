import { keyOf, type MeshObject } from '../object.ts';
import { ROOT_NAMESPACE } from '../registry.ts';
import type { Findings } from './finding.ts';
import { type MemberFact, type MeshFacts, namespaceOf, perMesh, selects } from './model.ts';

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
  const selected = facts.members.filter(
    (member) =>
      member.kind === 'group' && (everywhere || member.namespace === namespace) && selects(labels, member.labels),
  );
  if (Object.keys(labels).length > 0 && selected.length === 0)
    findings.warn(
      'ineffectivePolicy',
      'spec.selector.matchLabels',
      `no WorkloadGroup ${facts.where}${everywhere ? '' : ` in namespace ${namespace}`} has these labels`,
    );
  if (object.kind !== 'PeerAuthentication') return;
  for (const port of Object.keys(spec.portLevelMtls ?? {})) {
    if (selected.length > 0 && !selected.some((member) => Object.values(member.ports).includes(Number(port))))
      findings.warn(
        'ineffectivePolicy',
        `spec.portLevelMtls[${port}]`,
        `none of the selected WorkloadGroups has port ${port} (ports are those of the workload, not of services)`,
      );
  }
  for (const other of facts.list('PeerAuthentication')) {
    const theirs = ((other.spec ?? {}) as PeerAuthenticationShape).selector?.matchLabels ?? {};
    if (keyOf(other) === keyOf(object) || namespaceOf(other) !== namespace || !same(labels, theirs)) continue;
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

const oldestFirst = perMesh((facts) =>
  facts
    .list('PeerAuthentication')
    .map((object) => ({ object, spec: (object.spec ?? {}) as PeerAuthenticationShape }))
    .sort((a, b) =>
      (a.object.metadata.creationTimestamp ?? '').localeCompare(b.object.metadata.creationTimestamp ?? ''),
    ),
);

/** What a WorkloadGroup's port takes: workload's, namespace's, mesh's PeerAuthentication, the oldest of each; PERMISSIVE without any. */
export function mtlsModeOf(
  member: MemberFact,
  port: number | undefined,
  facts: MeshFacts,
): { readonly mode: string; readonly by?: string } {
  const policies = oldestFirst(facts);
  const wide = (namespace: string) =>
    policies.find(
      (one) => namespaceOf(one.object) === namespace && Object.keys(one.spec.selector?.matchLabels ?? {}).length === 0,
    );
  const own = policies.find(({ object, spec }) => {
    const labels = spec.selector?.matchLabels ?? {};
    return namespaceOf(object) === member.namespace && Object.keys(labels).length > 0 && selects(labels, member.labels);
  });
  for (const [policy, ports] of [
    [own, true],
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
