import { keyOf, type MeshObject } from '../object.ts';
import { few, targetOf } from './destinations.ts';
import type { Findings } from './finding.ts';
import {
  costOf,
  type HostFact,
  isVisible,
  type MemberFact,
  type MeshFacts,
  namespaceOf,
  type PortFact,
  perMesh,
  portNumbers,
  type ServiceFact,
  selects,
} from './model.ts';

/** Ports whose servers speak before their clients do, and what they are usually for. Source: IANA's registry. */
const SERVER_FIRST: Readonly<Record<number, string>> = {
  21: 'ftp',
  25: 'smtp',
  110: 'pop3',
  143: 'imap',
  587: 'smtp',
  3306: 'mysql',
  33060: 'mysql',
};

/** Names by which a port tells its protocol (Istio, "Explicit protocol selection"). */
const PROTOCOLS = ['http', 'http2', 'https', 'grpc', 'grpc-web', 'tls', 'tcp', 'mongo', 'mysql', 'redis', 'udp'];

const servicesByKey = perMesh((facts) => Map.groupBy(facts.services, (service) => service.key));

/** A Service or ServiceEntry beside the rest: who serves it, at which ports, by which protocol, and others of its name. */
export function analyzeService(object: MeshObject, facts: MeshFacts, findings: Findings): void {
  const own = servicesByKey(facts).get(keyOf(object)) ?? [];
  const [first] = own;
  if (first === undefined) return;
  facts.step(own.length);
  checkMembers(first, facts, findings);
  for (const port of first.ports) {
    checkProtocol(first, port, findings);
    facts.step();
    checkTarget(first, port, facts, findings);
  }
  for (const [i, service] of own.entries()) checkTwin(service, i, facts, findings);
  if (first.kind === 'ServiceEntry') checkAddresses(object, first, findings);
}

function checkMembers(service: ServiceFact, facts: MeshFacts, findings: Findings): void {
  const { selector, members, kind } = service;
  if (selector === undefined || Object.keys(selector).length === 0 || members.length > 0) return;
  const path = kind === 'Service' ? 'spec.selector' : 'spec.workloadSelector';
  findings.warn(
    'nobodyServes',
    path,
    `no WorkloadGroup or WorkloadEntry ${facts.where} in namespace ${service.namespace} has these labels: nobody serves it`,
  );
}

function checkProtocol({ kind }: ServiceFact, { name, declared, number, path }: PortFact, findings: Findings): void {
  const word = (declared === '' ? name : declared).toLowerCase();
  if (
    declared.startsWith('kubernetes.io/') ||
    PROTOCOLS.some((known) => word === known || word.startsWith(`${known}-`))
  )
    return;
  const usual = SERVER_FIRST[number];
  const cure = kind === 'Service' ? `name it PROTOCOL-${name || 'NAME'} or set appProtocol` : 'set protocol';
  if (usual !== undefined)
    findings.warn(
      'serverFirst',
      path,
      `servers on port ${number} (${usual}) usually speak first, and its protocol is not declared: ${cure}, e.g. ${usual === 'mysql' ? 'mysql' : 'tcp'}`,
    );
  else
    findings.warn(
      'portName',
      path,
      `port ${number}${name === '' ? '' : ` (${name})`} declares no protocol: it is found out connection by connection; ${cure}`,
    );
}

/** A workload answers at the ports of its WorkloadGroup's template and nowhere else. */
function checkTarget({ members, kind }: ServiceFact, port: PortFact, facts: MeshFacts, findings: Findings): void {
  const target = port.targetPort ?? port.number;
  for (const member of members) {
    facts.step();
    if (member.kind !== 'group' || servesAt(member, target, port)) continue;
    const field = kind === 'Service' && port.targetPort !== undefined ? '.targetPort' : '';
    const known = few(new Set(Object.entries(member.ports).map(([name, number]) => `${name} ${number}`))) || 'none';
    findings.error(
      'targetPort',
      `${port.path}${field}`,
      `WorkloadGroup ${member.namespace}/${member.name} has no port ${target}: it has ${known}`,
    );
    return;
  }
}

/** Also by the port's own name: a template's `ports` may map it elsewhere (Istio, WorkloadEntry.ports). */
function servesAt(member: MemberFact, target: number | string, { name }: PortFact): boolean {
  if (name !== '' && member.ports[name] !== undefined) return true;
  const number = targetOf(member, target, name);
  return number !== undefined && portNumbers(member).has(number);
}

/** Of a look at one, in steps, beside its lists. */
const COST_OF_TWIN = 5;

/** A second definition of a host that some client sees beside this one. */
function checkTwin(service: ServiceFact, index: number, facts: MeshFacts, findings: Findings): void {
  const path = service.kind === 'Service' ? 'metadata.name' : `spec.hosts[${index}]`;
  for (const other of facts.named(service.host)) {
    if (findings.full) return;
    facts.step();
    if (other.key === service.key) continue;
    facts.step(
      service.exportTo.length + other.exportTo.length + service.ports.length + other.ports.length + COST_OF_TWIN,
    );
    const together = isVisible(service, other.namespace) || isVisible(other, service.namespace);
    if (!together) continue;
    const theirs = new Set(other.ports.map((port) => port.number));
    const shared = service.ports.find((port) => theirs.has(port.number));
    const twin = `${other.kind} ${other.namespace}/${other.key.split('/')[2]}`;
    if (other.namespace !== service.namespace)
      findings.warn(
        'duplicateService',
        path,
        `${twin} defines ${service.host} too: each namespace sees its own first, others the first by name of namespace`,
      );
    else if (shared !== undefined)
      findings.warn(
        'duplicateService',
        path,
        `${twin} defines ${service.host} with port ${shared.number} too: the older one counts, the younger adds only ports that it lacks`,
      );
  }
}

/** Without addresses a TCP port without TLS of a host outside is reached by its port alone. */
function checkAddresses(object: MeshObject, service: ServiceFact, findings: Findings): void {
  const addresses = (object.spec as { addresses?: readonly string[] } | undefined)?.addresses ?? [];
  if (addresses.length > 0 || service.resolution !== 'NONE') return;
  for (const port of service.ports) {
    if (/^(tcp|mongo|mysql|redis)$/i.test(port.declared))
      findings.warn(
        'addressesRequired',
        port.path,
        `port ${port.number} carries bytes, and without addresses and with resolution NONE it takes everything that goes to that port anywhere`,
      );
  }
}

/** Those that are told apart by labels. */
const servicesByNamespace = perMesh((facts) =>
  Map.groupBy(
    facts.services.filter(({ selector }) => selector !== undefined && Object.keys(selector).length > 0),
    ({ namespace }) => namespace,
  ),
);

const membersByKey = perMesh((facts) => new Map(facts.members.map((member) => [member.key, member])));

/** A WorkloadGroup beside the rest: does a service lead to it, does a host run it. `hosts` undefined: not known. */
export function analyzeWorkloadGroup(
  object: MeshObject,
  facts: MeshFacts,
  hosts: readonly HostFact[] | undefined,
  findings: Findings,
): void {
  const key = keyOf(object);
  const group = `${namespaceOf(object)}/${object.metadata.name}`;
  const member = membersByKey(facts).get(key);
  const ports = Object.keys(member?.ports ?? {}).length;
  const selected = (servicesByNamespace(facts).get(namespaceOf(object)) ?? []).some(({ selector = {} }) => {
    facts.step(costOf(selector));
    return selects(selector, member?.labels ?? {});
  });
  if (ports > 0 && !selected)
    findings.warn(
      'nobodyServes',
      'spec.metadata.labels',
      `no Service or ServiceEntry ${facts.where} selects these labels: its ports are reached by address only`,
    );
  if (hosts !== undefined && !hosts.some((host) => !host.revoked && host.workloadGroups.includes(group)))
    findings.warn('notHeld', 'metadata.name', `no host may run it: make a join token with --group ${group}`);
}
