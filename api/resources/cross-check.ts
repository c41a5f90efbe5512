import { checkDelegation } from './cross-check-delegate.ts';
import { checkBoundGateways, checkGatewayBeside } from './cross-check-gateway.ts';
import { checkServicesBeside } from './cross-check-services.ts';
import { checkSidecarBeside } from './cross-check-sidecar.ts';
import type { MeshObject } from './object.ts';
import { Report, type Warning } from './report.ts';

/** The rest of the mesh, as it will be when the object is stored (a transaction's other objects included). */
export interface MeshLookup {
  /** Every stored object of a kind. */
  list(kind: string): Iterable<MeshObject>;
  /** Told of loops within loops, before them; throws when the caller has waited enough. Absent: take your time. */
  step?(count?: number): void;
  /** Whether all Secrets of a namespace are listed. Absent: those of all are. */
  listsSecrets?(namespace: string): boolean;
}

/**
 * The part of analysis/analyze.ts that needs no more than lists of objects: delegation, gateways, networks, aliases, Sidecars. Warnings,
 * never refusals: what is missing may be there a moment later. `object` was validated.
 */
export function crossCheck(object: MeshObject, lookup: MeshLookup): Warning[] {
  const report = new Report();
  if (object.kind === 'VirtualService') {
    checkDelegation(object, lookup, report);
    checkBoundGateways(object, lookup, report);
  } else if (object.kind === 'Gateway') checkGatewayBeside(object, lookup, report);
  else if (object.kind === 'Sidecar') checkSidecarBeside(object, lookup, report);
  else checkServicesBeside(object, lookup, report);
  return report.warnings;
}

/** A host as Istio resolves it: without a dot it is a service of the object's namespace. */
export function resolveHost(host: string, namespace: string): string {
  return host.includes('.') || host.startsWith('*') ? host : `${host}.${namespace}.svc.cluster.local`;
}
