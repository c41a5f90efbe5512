/**
 * Room api/resources/analysis: what is wrong in a mesh though each object is right by itself. In: objects that validateObject accepted, host
 * grants where they are known. Out: findings, each with its object and field. Pure. It must never refuse anything: the controller does that.
 */
import { crossCheck } from '../cross-check.ts';
import { keyOf, type MeshObject, type ObjectKey } from '../object.ts';
import { analyzePolicy } from './authentication.ts';
import { analyzeDestinationRule } from './destinations.ts';
import { type Finding, Findings } from './finding.ts';
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
    .flatMap((object) => analyzeOne(object, facts, options.hosts));
}

function analyzeOne(object: MeshObject, facts: MeshFacts, hosts: readonly HostFact[] | undefined): Finding[] {
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
    case 'Sidecar':
      for (const { path, message } of crossCheck(object, facts)) findings.warn('doubtful', path, message);
      break;
    default:
      analyzePolicy(object, facts, findings);
  }
  return findings.list;
}

export type { Finding, HostFact };
