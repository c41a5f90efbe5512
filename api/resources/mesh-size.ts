import { type MeshLookup, resolveHost } from './cross-check.ts';
import { hostsMatch } from './formats.ts';
import type { MeshObject } from './object.ts';
import type { DestinationRuleSpec } from './semantics/destination-rule.ts';
import type { ServiceEntrySpec } from './semantics/service-entry.ts';

/** Kinds that clustersByNamespace reads. */
export const SIZED_KINDS: readonly string[] = ['Service', 'ServiceEntry', 'DestinationRule'];

/** Enough to refuse; counting ends there, so that counting is not the attack. */
const COUNT_NO_FURTHER = 10_000_000;

/**
 * How many clusters the objects of each namespace ask of a host's proxy that sees all of them: one a host and port, and one more a subset of
 * a DestinationRule, charged to the rule's namespace. Two small objects can ask for millions (4,000 ports by 3,000 subsets), and every host
 * of the mesh makes them. Pure.
 */
export function clustersByNamespace(lookup: MeshLookup): Map<string, number> {
  const counts = new Map<string, number>();
  let total = 0;
  const charge = (object: MeshObject, clusters: number) => {
    const namespace = object.metadata.namespace ?? '';
    counts.set(namespace, (counts.get(namespace) ?? 0) + clusters);
    total += clusters;
  };
  /** Ports by host. */
  const hosts = new Map<string, number>();
  const serve = (object: MeshObject, names: readonly string[]) => {
    const ports = (object.spec as { ports?: readonly unknown[] } | undefined)?.ports?.length ?? 0;
    for (const host of names) hosts.set(host, (hosts.get(host) ?? 0) + ports);
    charge(object, ports * names.length);
  };
  for (const service of lookup.list('Service'))
    serve(service, [`${service.metadata.name}.${service.metadata.namespace ?? ''}.svc.cluster.local`]);
  for (const entry of lookup.list('ServiceEntry'))
    serve(entry, (entry.spec as ServiceEntrySpec | undefined)?.hosts ?? []);
  for (const rule of lookup.list('DestinationRule')) {
    const spec = rule.spec as DestinationRuleSpec | undefined;
    const subsets = spec?.subsets?.length ?? 0;
    if (subsets === 0) continue;
    const host = resolveHost(spec?.host ?? '', rule.metadata.namespace ?? '');
    const direct = host.startsWith('*') ? undefined : hosts.get(host);
    charge(rule, subsets * (direct ?? portsMatching(host, hosts)));
    if (total > COUNT_NO_FURTHER) break;
  }
  return counts;
}

function portsMatching(host: string, hosts: ReadonlyMap<string, number>): number {
  let ports = 0;
  for (const [name, count] of hosts) if (hostsMatch(host, name)) ports += count;
  return ports;
}
