import { keyOf, type MeshObject } from '../object.ts';
import { mtlsModeOf } from './authentication.ts';
import type { Findings } from './finding.ts';
import { costOf, fullHost, type MemberFact, type MeshFacts, namespaceOf, type ServiceFact, selects } from './model.ts';
import { type DestinationRuleShape, rulesOfHost, type TrafficShape } from './subsets.ts';

/** A DestinationRule beside the rest: a host that is there, subsets that have endpoints, TLS that the servers take. */
export function analyzeDestinationRule(object: MeshObject, facts: MeshFacts, findings: Findings): void {
  const spec = (object.spec ?? {}) as DestinationRuleShape;
  const namespace = namespaceOf(object);
  const host = fullHost(spec.host ?? '', namespace);
  const services = facts.find(spec.host ?? '', namespace);
  if (services.length === 0) {
    const message = `host ${host} is not known: no Service or ServiceEntry ${facts.where} has it`;
    if (facts.complete) findings.error('referencedNotFound', 'spec.host', message);
    else findings.warn('referencedNotFound', 'spec.host', message);
  }
  checkDuplicates(object, spec, host, facts, findings);
  checkSubsets(spec, services, facts, findings);
  checkPorts(spec, services, facts, findings);
  checkTls(spec, services, facts, findings);
}

function checkDuplicates(
  object: MeshObject,
  spec: DestinationRuleShape,
  host: string,
  facts: MeshFacts,
  findings: Findings,
): void {
  const namespace = namespaceOf(object);
  for (const other of rulesOfHost(host, facts)) {
    facts.step();
    const theirs = (other.spec ?? {}) as DestinationRuleShape;
    if (namespaceOf(other) !== namespace || keyOf(other) === keyOf(object)) continue;
    if (spec.workloadSelector !== undefined || theirs.workloadSelector !== undefined) continue;
    findings.warn(
      'duplicateRule',
      'spec.host',
      `DestinationRule ${namespace}/${other.metadata.name} is for ${host} too: the older one counts where they differ`,
    );
  }
}

function checkSubsets(
  { subsets = [] }: DestinationRuleShape,
  services: readonly ServiceFact[],
  facts: MeshFacts,
  findings: Findings,
): void {
  const members = services.flatMap((service) => service.members);
  // Endpoints that names resolve to have no labels; without any member it is the service that is said to have none.
  if (members.length === 0) return;
  for (const [i, { name, labels = {} }] of subsets.entries()) {
    const cost = costOf(labels);
    const carries = (member: MemberFact) => {
      facts.step(cost);
      return selects(labels, member.labels);
    };
    if (Object.keys(labels).length > 0 && !members.some(carries))
      findings.warn(
        'emptySubset',
        `spec.subsets[${i}]`,
        `subset ${name} has no endpoint: nothing that serves the host carries its labels`,
      );
  }
}

function* policiesOf(spec: DestinationRuleShape): Generator<readonly [path: string, policy: TrafficShape]> {
  if (spec.trafficPolicy !== undefined) yield ['spec.trafficPolicy', spec.trafficPolicy];
  for (const [i, { trafficPolicy }] of (spec.subsets ?? []).entries())
    if (trafficPolicy !== undefined) yield [`spec.subsets[${i}].trafficPolicy`, trafficPolicy];
}

function checkPorts(
  spec: DestinationRuleShape,
  services: readonly ServiceFact[],
  facts: MeshFacts,
  findings: Findings,
): void {
  const known = portsOf(services, facts);
  if (known.size === 0) return;
  const text = few(known);
  for (const [path, { portLevelSettings = [] }] of policiesOf(spec)) {
    for (const [i, { port }] of portLevelSettings.entries()) {
      if (port?.number !== undefined && !known.has(port.number))
        findings.warn(
          'portUnknown',
          `${path}.portLevelSettings[${i}].port`,
          `the host has no port ${port.number}: it has ${text}`,
        );
    }
  }
}

/** Numbers of the ports of services. */
export function portsOf(services: readonly ServiceFact[], facts: MeshFacts): ReadonlySet<number> {
  const found = new Set<number>();
  for (const { ports } of services) {
    facts.step(1 + ports.length);
    for (const { number } of ports) found.add(number);
  }
  return found;
}

/** For messages: a service may have thousands. */
export function few(values: ReadonlySet<number | string>): string {
  const more = values.size > MOST_NAMED ? [`and ${values.size - MOST_NAMED} more`] : [];
  return [...[...values].slice(0, MOST_NAMED), ...more].join(', ');
}

const MOST_NAMED = 20;

/** What a client speaks, against what the servers' PeerAuthentication takes. */
function checkTls(
  spec: DestinationRuleShape,
  services: readonly ServiceFact[],
  facts: MeshFacts,
  findings: Findings,
): void {
  for (const [path, policy] of policiesOf(spec)) {
    if (policy.tls?.mode !== undefined) judge(policy.tls.mode, `${path}.tls`, undefined, services, facts, findings);
    for (const [i, { tls, port }] of (policy.portLevelSettings ?? []).entries())
      if (tls?.mode !== undefined)
        judge(tls.mode, `${path}.portLevelSettings[${i}].tls`, port?.number, services, facts, findings);
  }
}

/** Of mtlsModeOf, in steps. */
const COST_OF_MODE = 5;

function judge(
  mode: string,
  path: string,
  port: number | undefined,
  services: readonly ServiceFact[],
  facts: MeshFacts,
  findings: Findings,
): void {
  for (const service of services) {
    facts.step(1 + service.ports.length);
    const ports = service.ports.filter((one) => port === undefined || one.number === port);
    for (const member of service.members) {
      if (member.kind !== 'group') continue;
      facts.step(ports.length * COST_OF_MODE);
      for (const one of ports) {
        const target = targetOf(member, one.targetPort ?? one.number, one.name);
        const server = mtlsModeOf(member, target, facts);
        const clash = clashOf(mode, server.mode);
        if (clash === undefined) continue;
        const by = server.by === undefined ? '' : ` (PeerAuthentication ${server.by})`;
        findings.error(
          'mtlsConflict',
          path,
          `mode ${mode}: ${clash} by WorkloadGroup ${member.namespace}/${member.name}, port ${target ?? one.number}${by}`,
        );
        return;
      }
    }
    if (
      mode === 'ISTIO_MUTUAL' &&
      service.external &&
      service.kind === 'ServiceEntry' &&
      service.members.every((one) => one.kind !== 'group')
    ) {
      findings.warn(
        'mtlsConflict',
        path,
        `mode ISTIO_MUTUAL: ${service.host} is outside the mesh, where nobody has the mesh's certificates`,
      );
      return;
    }
  }
}

/** The port at which a workload serves a service's port. */
export function targetOf(member: MemberFact, target: number | string, portName: string): number | undefined {
  if (typeof target === 'number') return target;
  return member.ports[target] ?? member.ports[portName];
}

function clashOf(client: string, server: string): string | undefined {
  if ((client === 'DISABLE' || client === 'SIMPLE') && server === 'STRICT')
    return `connections without the mesh's certificate are refused`;
  if (client === 'ISTIO_MUTUAL' && server === 'DISABLE') return 'mTLS is not taken';
  return undefined;
}
