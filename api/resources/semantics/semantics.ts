import type { MeshObject } from '../object.ts';
import type { Report } from '../report.ts';
import type { SemanticContext } from './context.ts';
import { checkService } from './core.ts';
import { checkDestinationRule } from './destination-rule.ts';
import { checkGateway } from './gateway.ts';
import { checkMeshConfig } from './mesh-config.ts';
import { checkSecret } from './secret.ts';
import { checkAuthorizationPolicy, checkPeerAuthentication, checkRequestAuthentication } from './security.ts';
import { checkServiceEntry } from './service-entry.ts';
import { checkSidecar } from './sidecar.ts';
import { checkProxyConfig, checkTelemetry } from './telemetry.ts';
import { checkVirtualService } from './virtual-service.ts';
import { checkWorkloadEntry, checkWorkloadGroup } from './workload.ts';

/** A check of one kind: `spec` has the structure of the kind's schema; `object` gives the metadata. */
export type SemanticCheck = (object: MeshObject, report: Report, context: SemanticContext) => void;

const CHECKS: Readonly<Record<string, SemanticCheck>> = {
  AuthorizationPolicy: checkAuthorizationPolicy,
  DestinationRule: checkDestinationRule,
  Gateway: checkGateway,
  MeshConfig: checkMeshConfig,
  PeerAuthentication: checkPeerAuthentication,
  ProxyConfig: checkProxyConfig,
  RequestAuthentication: checkRequestAuthentication,
  Secret: checkSecret,
  Service: checkService,
  ServiceEntry: checkServiceEntry,
  Sidecar: checkSidecar,
  Telemetry: checkTelemetry,
  VirtualService: checkVirtualService,
  WorkloadEntry: checkWorkloadEntry,
  WorkloadGroup: checkWorkloadGroup,
};

/** The verdicts of Istio's own webhook on one object by itself, and DESIGN 3.2's "always refused". */
export function checkSemantics(object: MeshObject, report: Report, context: SemanticContext): void {
  CHECKS[object.kind]?.(object, report, context);
}
