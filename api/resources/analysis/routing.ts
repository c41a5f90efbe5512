import { gatewayName, serverHosts } from '../cross-check-gateway.ts';
import { exportToOf } from '../export-to.ts';
import { ipVersion } from '../formats.ts';
import { keyOf, type MeshObject } from '../object.ts';
import { few, portsOf } from './destinations.ts';
import type { Findings } from './finding.ts';
import {
  fullHost,
  isVisible,
  type MemberFact,
  type MeshFacts,
  namespaceOf,
  perMesh,
  type ServiceFact,
} from './model.ts';
import { subsetsOf } from './subsets.ts';

interface Destination {
  readonly host?: string;
  readonly subset?: string;
  readonly port?: { readonly number?: number };
}

interface Rule {
  readonly match?: readonly { readonly port?: number; readonly gateways?: readonly string[] }[];
  readonly route?: readonly { readonly destination?: Destination }[];
  readonly mirror?: Destination;
  readonly mirrors?: readonly { readonly destination?: Destination }[];
  readonly delegate?: { readonly name?: string; readonly namespace?: string };
}

interface VirtualServiceShape {
  readonly hosts?: readonly string[];
  readonly gateways?: readonly string[];
  readonly http?: readonly Rule[];
  readonly tcp?: readonly Rule[];
  readonly tls?: readonly Rule[];
}

/** A VirtualService beside the rest: what it leads to, the gateways it is bound to, others that claim its hosts. */
export function analyzeVirtualService(object: MeshObject, facts: MeshFacts, findings: Findings): void {
  const spec = (object.spec ?? {}) as VirtualServiceShape;
  const namespace = namespaceOf(object);
  const seen = new Set<string>();
  for (const [path, destination] of destinationsOf(spec)) {
    facts.step();
    // One line a mistake, not one a route.
    const key = JSON.stringify([destination.host, destination.subset, destination.port]);
    if (seen.has(key)) continue;
    seen.add(key);
    checkDestination(destination, path, namespace, facts, findings);
  }
  checkDelegates(spec, namespace, facts, findings);
  checkGateways(spec, namespace, facts, findings);
  checkConflicts(object, spec, facts, findings);
}

function* destinationsOf(spec: VirtualServiceShape): Generator<readonly [path: string, destination: Destination]> {
  for (const field of ['http', 'tcp', 'tls'] as const) {
    for (const [i, rule] of (spec[field] ?? []).entries()) {
      const at = `spec.${field}[${i}]`;
      for (const [k, { destination }] of (rule.route ?? []).entries())
        if (destination !== undefined) yield [`${at}.route[${k}].destination`, destination];
      if (rule.mirror !== undefined) yield [`${at}.mirror`, rule.mirror];
      for (const [k, { destination }] of (rule.mirrors ?? []).entries())
        if (destination !== undefined) yield [`${at}.mirrors[${k}].destination`, destination];
    }
  }
}

function checkDestination(
  { host = '', subset, port }: Destination,
  path: string,
  namespace: string,
  facts: MeshFacts,
  findings: Findings,
): void {
  const name = fullHost(host, namespace);
  if (ipVersion(name) !== 0) return;
  const services = facts.find(host, namespace);
  if (services.length === 0) {
    notFound(
      findings,
      facts,
      `${path}.host`,
      `host ${name} is not known: no Service or ServiceEntry ${facts.where} has it`,
    );
    return;
  }
  const visible = services.filter((service) => {
    facts.step(1 + service.exportTo.length);
    return isVisible(service, namespace);
  });
  if (visible.length === 0) {
    findings.warn('notVisible', `${path}.host`, `host ${name} is not exported to namespace ${namespace}`);
    return;
  }
  checkPortOf(port?.number, visible, path, name, facts, findings);
  if (subset !== undefined) checkSubset(subset, path, name, visible, facts, findings);
}

function checkPortOf(
  number: number | undefined,
  services: readonly ServiceFact[],
  path: string,
  host: string,
  facts: MeshFacts,
  findings: Findings,
): void {
  const ports = portsOf(services, facts);
  if (number === undefined && ports.size > 1)
    findings.warn(
      'portNeeded',
      path,
      `${host} has ${ports.size} ports: without port.number a call goes to the port that it was made to`,
    );
  if (number !== undefined && ports.size > 0 && !ports.has(number))
    findings.error('portUnknown', `${path}.port`, `${host} has no port ${number}: it has ${few(ports)}`);
}

function checkSubset(
  subset: string,
  path: string,
  host: string,
  services: readonly ServiceFact[],
  facts: MeshFacts,
  findings: Findings,
): void {
  const subsets = subsetsOf(host, facts);
  const found = subsets.find((one) => one.name === subset);
  if (found === undefined) {
    const known = few(new Set(subsets.map((one) => one.name))) || 'none';
    notFound(
      findings,
      facts,
      `${path}.subset`,
      `subset ${subset} of ${host} is not known: no DestinationRule ${facts.where} defines it (known: ${known})`,
    );
    return;
  }
  const members = services.flatMap((service) => service.members);
  const carries = (member: MemberFact) => {
    facts.step(found.cost);
    return found.selects(member.labels);
  };
  if (members.length > 0 && !members.some(carries))
    findings.warn(
      'emptySubset',
      `${path}.subset`,
      `subset ${subset} of ${host} has no endpoint: nothing carries its labels`,
    );
}

/** What is missing offline may be in the mesh. */
function notFound(findings: Findings, facts: MeshFacts, path: string, message: string): void {
  if (facts.complete) findings.error('referencedNotFound', path, message);
  else findings.warn('referencedNotFound', path, message);
}

const virtualServicesByName = perMesh(
  (facts) => new Map(facts.list('VirtualService').map((one) => [`${namespaceOf(one)}/${one.metadata.name}`, one])),
);

function checkDelegates(spec: VirtualServiceShape, namespace: string, facts: MeshFacts, findings: Findings): void {
  for (const [i, { delegate }] of (spec.http ?? []).entries()) {
    facts.step();
    if (delegate === undefined) continue;
    const where = delegate.namespace || namespace;
    const found = virtualServicesByName(facts).get(`${where}/${delegate.name}`);
    const path = `spec.http[${i}].delegate`;
    if (found === undefined)
      notFound(
        findings,
        facts,
        path,
        `VirtualService ${where}/${delegate.name} is not ${facts.where}: the rule leads nowhere`,
      );
    else if (((found.spec as VirtualServiceShape | undefined)?.hosts ?? []).length > 0)
      findings.error(
        'referencedNotFound',
        path,
        `VirtualService ${where}/${delegate.name} has hosts of its own: it cannot be a delegate`,
      );
  }
}

const gatewaysByName = perMesh(
  (facts) => new Map(facts.list('Gateway').map((one) => [`${namespaceOf(one)}/${one.metadata.name}`, one])),
);

function checkGateways(spec: VirtualServiceShape, namespace: string, facts: MeshFacts, findings: Findings): void {
  const seen = new Set<string>();
  for (const [i, name] of (spec.gateways ?? []).entries()) {
    facts.step();
    const full = gatewayName(name, namespace);
    if (name === 'mesh' || seen.has(full)) continue;
    seen.add(full);
    const path = `spec.gateways[${i}]`;
    const gateway = gatewaysByName(facts).get(full);
    if (gateway === undefined) {
      notFound(findings, facts, path, `Gateway ${full} is not ${facts.where}`);
      continue;
    }
    const served = serverHosts(gateway, namespace, facts);
    for (const [k, host] of (spec.hosts ?? []).entries()) {
      const name = fullHost(host, namespace);
      if (findings.full) return;
      facts.step(served.cost);
      if (!served.matches(name))
        findings.warn('hostNotInGateway', `spec.hosts[${k}]`, `no server of Gateway ${full} has host ${name}`);
    }
  }
}

/** In the mesh one VirtualService counts for a host; at gateways they are put together, so only the mesh's can be in each other's way. */
function checkConflicts(object: MeshObject, spec: VirtualServiceShape, facts: MeshFacts, findings: Findings): void {
  if (!inMesh(spec)) return;
  const namespace = namespaceOf(object);
  const clients = clientsOf(object, facts);
  for (const [i, host] of (spec.hosts ?? []).entries()) {
    const name = fullHost(host, namespace);
    for (const other of claimants(facts).get(name) ?? []) {
      if (findings.full) return;
      facts.step(COST_OF_CLAIMANT);
      if (keyOf(other) === keyOf(object) || !meet(clients, clientsOf(other, facts))) continue;
      findings.warn(
        'conflictingHosts',
        `spec.hosts[${i}]`,
        `VirtualService ${namespaceOf(other)}/${other.metadata.name} has host ${name} too: in the mesh the older of them counts alone`,
      );
    }
  }
}

/** Of a look at one, in steps. */
const COST_OF_CLAIMANT = 10;

/** VirtualServices of the mesh by full host. */
const claimants = perMesh((facts) => {
  const found = new Map<string, Set<MeshObject>>();
  for (const object of facts.list('VirtualService')) {
    const spec = (object.spec ?? {}) as VirtualServiceShape;
    for (const host of inMesh(spec) ? (spec.hosts ?? []) : []) {
      const name = fullHost(host, namespaceOf(object));
      found.set(name, (found.get(name) ?? new Set()).add(object));
    }
  }
  return found;
});

function inMesh({ gateways = [], hosts = [] }: VirtualServiceShape): boolean {
  return hosts.length > 0 && (gateways.length === 0 || gateways.includes('mesh'));
}

/** Namespaces whose clients see a VirtualService; undefined: all. */
function clientsOf(object: MeshObject, facts: MeshFacts): ReadonlySet<string> | undefined {
  const exportTo = exportToOf(object, facts.defaults);
  facts.step(exportTo.length);
  if (exportTo.length === 0 || exportTo.includes('*')) return undefined;
  return new Set(exportTo.filter((one) => one !== '~').map((one) => (one === '.' ? namespaceOf(object) : one)));
}

/** Whether a client may see both: not when each is for its own namespace only. */
function meet(a: ReadonlySet<string> | undefined, b: ReadonlySet<string> | undefined): boolean {
  if (a === undefined || b === undefined) return (a ?? b)?.size !== 0;
  return !a.isDisjointFrom(b);
}
