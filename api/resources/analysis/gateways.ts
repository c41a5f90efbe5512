import { gatewayName } from '../cross-check-gateway.ts';
import { HostSet } from '../host-set.ts';
import { keyOf, type MeshObject } from '../object.ts';
import type { Findings } from './finding.ts';
import { costOf, type MemberFact, type MeshFacts, namespaceOf, selects } from './model.ts';

interface GatewayShape {
  readonly selector?: Readonly<Record<string, string>>;
  readonly servers?: readonly {
    readonly port?: { readonly number?: number; readonly name?: string };
    readonly hosts?: readonly string[];
  }[];
}

/** A Gateway beside the rest: workloads that it selects, others that serve the same hosts and port there, rules that are bound to it. */
export function analyzeGateway(object: MeshObject, facts: MeshFacts, findings: Findings): void {
  const spec = (object.spec ?? {}) as GatewayShape;
  const selector = spec.selector ?? {};
  const name = `${namespaceOf(object)}/${object.metadata.name}`;
  const cost = costOf(selector);
  const selected = (member: MemberFact) => {
    facts.step(cost);
    return member.kind === 'group' && selects(selector, member.labels);
  };
  if (Object.keys(selector).length > 0 && !facts.members.some(selected)) {
    const message = `no WorkloadGroup ${facts.where} has these labels: no host is this gateway`;
    if (facts.complete) findings.error('referencedNotFound', 'spec.selector', message);
    else findings.warn('referencedNotFound', 'spec.selector', message);
  }
  for (const other of facts.list('Gateway')) {
    if (keyOf(other) === keyOf(object)) continue;
    const theirs = (other.spec ?? {}) as GatewayShape;
    facts.step(cost + costOf(theirs.selector ?? {}));
    if (!selects(selector, theirs.selector ?? {}) && !selects(theirs.selector ?? {}, selector)) continue;
    const taken = hostsByPort(theirs, facts);
    for (const [i, server] of (spec.servers ?? []).entries()) {
      facts.step();
      const there = taken.get(server.port?.number);
      const host = (server.hosts ?? []).find((one) => {
        facts.step(there?.cost);
        return there?.matches(bare(one));
      });
      if (host !== undefined)
        findings.warn(
          'conflictingGateways',
          `spec.servers[${i}]`,
          `Gateway ${namespaceOf(other)}/${other.metadata.name} has host ${bare(host)} on port ${server.port?.number} of the same workloads too`,
        );
    }
  }
  const bound = facts.list('VirtualService').some((one) => {
    const gateways = (one.spec as { gateways?: readonly string[] } | undefined)?.gateways ?? [];
    facts.step(gateways.length);
    return gateways.some((text) => gatewayName(text, namespaceOf(one)) === name);
  });
  if (!bound)
    findings.warn(
      'nobodyServes',
      'spec.servers',
      `no VirtualService ${facts.where} is bound to it: its hosts answer 404`,
    );
}

/** Hosts of a Gateway's servers, without the namespaces that they are for. */
function hostsByPort({ servers = [] }: GatewayShape, facts: MeshFacts): ReadonlyMap<number | undefined, HostSet> {
  const found = new Map<number | undefined, string[]>();
  for (const { port, hosts = [] } of servers) {
    facts.step(1 + hosts.length);
    const list = found.get(port?.number) ?? [];
    found.set(port?.number, list);
    for (const host of hosts) list.push(bare(host));
  }
  return new Map([...found].map(([port, hosts]) => [port, new HostSet(hosts)]));
}

function bare(host: string): string {
  return host.slice(host.indexOf('/') + 1);
}
