/**
 * Room api/resources/analysis: what is wrong in a mesh though each object is right by itself. In: objects that validateObject accepted, host
 * grants where they are known. Out: findings, each with its object and field. Pure. It must never refuse anything: the controller does that.
 * It knows nothing of gossip: a subset has an endpoint when a WorkloadGroup or WorkloadEntry carries its labels, alive or not.
 */
import { crossCheck } from '../cross-check.ts';
import { keyOf, type MeshObject, type ObjectKey } from '../object.ts';
import { analyzePolicy } from './authentication.ts';
import { analyzeDestinationRule } from './destinations.ts';
import { CODES, type Finding, Findings } from './finding.ts';
import { analyzeGateway } from './gateways.ts';
import { type HostFact, type MeshFacts, meshFacts } from './model.ts';
import { analyzeVirtualService } from './routing.ts';
import { analyzeService, analyzeWorkloadGroup } from './services.ts';

export interface AnalyzeOptions {
  /** True: `objects` are the whole mesh. False: files, beside which there may be more. */
  readonly complete: boolean;
  /** Undefined: not known. */
  readonly hosts?: readonly HostFact[];
  /** Only what concerns these objects; default all. */
  readonly about?: ReadonlySet<ObjectKey>;
}

/** Findings in the order of the objects. */
export function analyze(objects: readonly MeshObject[], options: AnalyzeOptions): Finding[] {
  const facts = meshFacts(objects, options.complete);
  return objects
    .filter((object) => options.about === undefined || options.about.has(keyOf(object)))
    .flatMap((object) => analyzeObject(object, facts, options.hosts));
}

const SERVICES = ['Service', 'ServiceEntry', 'WorkloadGroup', 'WorkloadEntry'];

/** Kinds that are looked at beside an object of a kind. A kind that is absent is not analyzed. */
export const LOOKS_AT: Readonly<Record<string, readonly string[]>> = {
  VirtualService: [...SERVICES, 'DestinationRule', 'VirtualService', 'Gateway', 'MeshConfig'],
  DestinationRule: [...SERVICES, 'DestinationRule', 'PeerAuthentication'],
  Gateway: ['WorkloadGroup', 'WorkloadEntry', 'Gateway', 'VirtualService', 'Secret'],
  Sidecar: [...SERVICES, 'PeerAuthentication', 'Sidecar'],
  Service: [...SERVICES, 'MeshConfig'],
  ServiceEntry: [...SERVICES, 'MeshConfig'],
  WorkloadGroup: SERVICES,
  WorkloadEntry: ['Service'],
  PeerAuthentication: ['WorkloadGroup', 'WorkloadEntry', 'PeerAuthentication'],
  AuthorizationPolicy: ['WorkloadGroup', 'WorkloadEntry'],
  RequestAuthentication: ['WorkloadGroup', 'WorkloadEntry'],
};

/** What is remarked of an object that is only on its way, and would be said of most: how it could say more, not what goes wrong. */
const NOT_AT_PUSH: readonly string[] = [CODES.portName];

/**
 * Findings about an object that is being pushed. `facts`: the mesh with it, all kinds of LOOKS_AT. Which hosts may run a WorkloadGroup is
 * left out: it is pushed before the first of them can be let in.
 */
export function analyzePushed(object: MeshObject, facts: MeshFacts): Finding[] {
  if (LOOKS_AT[object.kind] === undefined) return [];
  return analyzeObject(object, facts, undefined).filter(({ code }) => !NOT_AT_PUSH.includes(code));
}

function analyzeObject(object: MeshObject, facts: MeshFacts, hosts: readonly HostFact[] | undefined): Finding[] {
  const findings = new Findings(keyOf(object));
  switch (object.kind) {
    case 'VirtualService':
      analyzeVirtualService(object, facts, findings);
      break;
    case 'DestinationRule':
      analyzeDestinationRule(object, facts, findings);
      break;
    case 'Service':
    case 'ServiceEntry':
      analyzeService(object, facts, findings);
      break;
    case 'WorkloadGroup':
      analyzeWorkloadGroup(object, facts, hosts, findings);
      break;
    case 'Gateway':
      analyzeGateway(object, facts, findings);
      break;
    default:
      analyzePolicy(object, facts, findings);
  }
  // Of a field that has a finding already it would say the same in other words.
  for (const { path, message } of crossCheck(object, facts))
    if (!findings.list.some((one) => one.path === path)) findings.warn('doubtful', path, message);
  return findings.list;
}

export type { Finding, HostFact };
