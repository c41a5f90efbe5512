import { gatewayName } from '../cross-check-gateway.ts';
import { hostsMatch } from '../formats.ts';
import { keyOf, type MeshObject } from '../object.ts';
import type { Findings } from './finding.ts';
import { type MeshFacts, namespaceOf, selects } from './model.ts';

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
  if (
    Object.keys(selector).length > 0 &&
    !facts.members.some((member) => member.kind === 'group' && selects(selector, member.labels))
  ) {
    const message = `no WorkloadGroup ${facts.where} has these labels: no host is this gateway`;
    if (facts.complete) findings.error('referencedNotFound', 'spec.selector', message);
    else findings.warn('referencedNotFound', 'spec.selector', message);
  }
  for (const other of facts.list('Gateway')) {
    if (keyOf(other) === keyOf(object)) continue;
    const theirs = (other.spec ?? {}) as GatewayShape;
    if (!selects(selector, theirs.selector ?? {}) && !selects(theirs.selector ?? {}, selector)) continue;
    for (const [i, server] of (spec.servers ?? []).entries()) {
      const host = (server.hosts ?? []).find((one) =>
        (theirs.servers ?? []).some(
          ({ port, hosts = [] }) =>
            port?.number === server.port?.number && hosts.some((their) => hostsMatch(bare(one), bare(their))),
        ),
      );
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
    return gateways.some((text) => gatewayName(text, namespaceOf(one)) === name);
  });
  if (!bound)
    findings.warn(
      'nobodyServes',
      'spec.servers',
      `no VirtualService ${facts.where} is bound to it: its hosts answer 404`,
    );
}

function bare(host: string): string {
  return host.slice(host.indexOf('/') + 1);
}
