import { checkDelegation } from './cross-check-delegate.ts';
import { checkBoundGateways, checkGatewayBeside } from './cross-check-gateway.ts';
import { checkServicesBeside } from './cross-check-services.ts';
import { checkSidecarBeside } from './cross-check-sidecar.ts';
import { hostsMatch, ipVersion } from './formats.ts';
import type { MeshObject } from './object.ts';
import { Report, type Warning } from './report.ts';
import type { DestinationRuleSpec } from './semantics/destination-rule.ts';
import type { HttpRoute } from './semantics/http-route.ts';
import type { Destination } from './semantics/route-parts.ts';
import type { ServiceEntrySpec } from './semantics/service-entry.ts';
import type { VirtualServiceSpec } from './semantics/virtual-service.ts';

/** The rest of the mesh, as it will be when the object is stored (a transaction's other objects included). */
export interface MeshLookup {
  /** Every stored object of a kind. */
  list(kind: string): Iterable<MeshObject>;
}

/**
 * What looks wrong only beside the rest of the mesh, and may be right a moment later: warnings, never refusals (an unknown subset, two
 * VirtualServices for one host, a host nobody serves). `object` was validated.
 */
export function crossCheck(object: MeshObject, lookup: MeshLookup): Warning[] {
  const report = new Report();
  if (object.kind === 'VirtualService') checkVirtualService(object, lookup, report);
  else if (object.kind === 'DestinationRule') checkDestinationRule(object, lookup, report);
  else if (object.kind === 'Gateway') checkGatewayBeside(object, lookup, report);
  else if (object.kind === 'Sidecar') checkSidecarBeside(object, lookup, report);
  else checkServicesBeside(object, lookup, report);
  return report.warnings;
}

/** A host as Istio resolves it: without a dot it is a service of the object's namespace. */
export function resolveHost(host: string, namespace: string): string {
  return host.includes('.') || host.startsWith('*') ? host : `${host}.${namespace}.svc.cluster.local`;
}

const namespaceOf = (object: MeshObject): string => object.metadata.namespace ?? '';

function isKnown(host: string, lookup: MeshLookup): boolean {
  if (ipVersion(host) !== 0) return true;
  for (const service of lookup.list('Service')) {
    const short = `${service.metadata.name}.${namespaceOf(service)}`;
    if (hostsMatch(host, `${short}.svc.cluster.local`) || host === short || host === `${short}.svc`) return true;
  }
  for (const entry of lookup.list('ServiceEntry')) {
    if (((entry.spec as ServiceEntrySpec | undefined)?.hosts ?? []).some((one) => hostsMatch(host, one))) return true;
  }
  return false;
}

/** Names of the subsets that DestinationRules of `host` define. */
function subsetsOf(host: string, lookup: MeshLookup): Set<string> {
  const names = new Set<string>();
  for (const rule of lookup.list('DestinationRule')) {
    const spec = rule.spec as DestinationRuleSpec | undefined;
    if (!hostsMatch(resolveHost(spec?.host ?? '', namespaceOf(rule)), host)) continue;
    for (const subset of spec?.subsets ?? []) names.add(subset.name ?? '');
  }
  return names;
}

function checkVirtualService(object: MeshObject, lookup: MeshLookup, report: Report): void {
  const spec = (object.spec ?? {}) as VirtualServiceSpec;
  const namespace = namespaceOf(object);
  const seen = new Set<string>();
  for (const { path, destination } of destinations(spec)) {
    const host = resolveHost(destination.host ?? '', namespace);
    const key = `${host}|${destination.subset ?? ''}`;
    if (seen.has(key)) continue;
    seen.add(key);
    if (!isKnown(host, lookup))
      report.warn(`${path}.host`, `host ${host} is not known: no Service or ServiceEntry has it`);
    if (destination.subset !== undefined && !subsetsOf(host, lookup).has(destination.subset))
      report.warn(
        `${path}.subset`,
        `subset ${destination.subset} of ${host} is not known: no DestinationRule defines it`,
      );
  }
  checkDelegation(object, lookup, report);
  checkBoundGateways(object, lookup, report);
  // At a gateway the rules of several are merged; in the mesh the oldest counts.
  if (!gatewaysOf(spec).includes('mesh')) return;
  for (const other of lookup.list('VirtualService')) {
    if (other.metadata.name === object.metadata.name && namespaceOf(other) === namespace) continue;
    const theirs = (other.spec ?? {}) as VirtualServiceSpec;
    if (!gatewaysOf(theirs).includes('mesh')) continue;
    const hosts = (theirs.hosts ?? []).map((host) => resolveHost(host, namespaceOf(other)));
    const index = (spec.hosts ?? []).findIndex((host) => hosts.includes(resolveHost(host, namespace)));
    if (index >= 0)
      report.warn(
        `spec.hosts[${index}]`,
        `VirtualService ${namespaceOf(other)}/${other.metadata.name} has host ${resolveHost((spec.hosts ?? [])[index] ?? '', namespace)} too: only one of them may count`,
      );
  }
}

const gatewaysOf = (spec: VirtualServiceSpec): readonly string[] =>
  (spec.gateways ?? []).length === 0 ? ['mesh'] : (spec.gateways ?? []);

function* destinations(spec: VirtualServiceSpec): Generator<{ path: string; destination: Destination }> {
  for (const field of ['http', 'tcp', 'tls'] as const) {
    for (const [i, rule] of (spec[field] ?? []).entries()) {
      for (const [k, route] of (rule.route ?? []).entries()) {
        if (route.destination !== undefined)
          yield { path: `spec.${field}[${i}].route[${k}].destination`, destination: route.destination };
      }
      const { mirror, mirrors } = rule as HttpRoute & {
        mirror?: Destination;
        mirrors?: { destination?: Destination }[];
      };
      if (mirror !== undefined) yield { path: `spec.${field}[${i}].mirror`, destination: mirror };
      for (const [k, one] of (mirrors ?? []).entries()) {
        if (one.destination !== undefined)
          yield { path: `spec.${field}[${i}].mirrors[${k}].destination`, destination: one.destination };
      }
    }
  }
}

function checkDestinationRule(object: MeshObject, lookup: MeshLookup, report: Report): void {
  const spec = (object.spec ?? {}) as DestinationRuleSpec;
  const namespace = namespaceOf(object);
  const host = resolveHost(spec.host ?? '', namespace);
  if (!isKnown(host, lookup)) report.warn('spec.host', `host ${host} is not known: no Service or ServiceEntry has it`);
  for (const other of lookup.list('DestinationRule')) {
    if (namespaceOf(other) !== namespace || other.metadata.name === object.metadata.name) continue;
    const theirs = (other.spec ?? {}) as DestinationRuleSpec;
    if (resolveHost(theirs.host ?? '', namespace) === host)
      report.warn(
        'spec.host',
        `DestinationRule ${namespace}/${other.metadata.name} is for ${host} too: the older one counts where they differ`,
      );
  }
}
