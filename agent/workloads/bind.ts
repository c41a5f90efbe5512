/*
 * Room agent/workloads. In: agent.yaml's bindings, WorkloadGroups and this host's grant from verified config, listening sockets.
 * Out: LocalWorkload[] with ports and health, and why a binding is not served. bind.ts is pure; port-watcher.ts looks at sockets.
 * Never: serve a group that the grant does not name, or a port whose socket belongs to someone else.
 */
import { workloadSpiffeId } from '../../api/identity/spiffe-id.ts';
import { type MeshObject, type ObjectKey, objectKey } from '../../api/resources/object.ts';
import type { HostGrant } from '../../api/signed-config/desired-config.ts';
import type { WorkloadBinding } from '../config.ts';
import { probeUnit } from '../host/probe-unit.ts';
import { workloadUidFault } from '../host/workload-uid.ts';
import type { LocalIdentity, LocalWorkload } from './local-workload.ts';
import { commandInWords, listed, type ProbePlan, type ProbeSpec, probePlan } from './probes/plan.ts';

/** Outbound port of each bound group, persisted so that a running Envoy and a new agent agree (DESIGN 7). */
export type PortAssignment = Readonly<Record<string, number>>;

/** Why a binding is not served, or serves less than was asked for. `group` is NAMESPACE/NAME. */
export interface BindingProblem {
  readonly group: string;
  readonly code:
    | 'USER_UNKNOWN'
    | 'USER_REFUSED'
    | 'GROUP_MISSING'
    | 'NOT_GRANTED'
    | 'NOT_BOUND'
    | 'PORT_REFUSED'
    | 'PROBE_UNUSED'
    | 'PROBE_UNLISTED'
    | 'NO_OUTBOUND_PORT'
    | 'NO_DNS_PORT';
  readonly message: string;
}

export interface BindInput {
  /** In the order of agent.yaml. */
  readonly bindings: readonly WorkloadBinding[];
  /** agent.yaml's gateways. */
  readonly gateways: readonly string[];
  /** Verified config's objects; only WorkloadGroups are read. */
  readonly objects: ReadonlyMap<ObjectKey, MeshObject>;
  /** This host's; undefined before enrolment or after revocation: nothing is served. */
  readonly grant: HostGrant | undefined;
  readonly trustDomain: string;
  /** User name -> uid of the users that exist. */
  readonly uids: ReadonlyMap<string, number>;
  /** Why a name has no uid; absent: it does not exist. */
  readonly unresolved?: ReadonlyMap<string, string>;
  /** Uids that never run a workload: the proxy's and the agent's. */
  readonly ownUids: ReadonlySet<number>;
  readonly ports: { readonly outbound: number; readonly dns: number };
  /** Ports that no workload may have: ssh and the mesh's own. */
  readonly reservedPorts: ReadonlySet<number>;
  readonly defaultNamespace: string;
  readonly assigned: PortAssignment;
  /** Of the port watcher, by group. */
  readonly health: (group: string) => LocalWorkload['health'];
}

export interface BindResult {
  /** Sorted as agent.yaml lists them. */
  readonly workloads: readonly LocalWorkload[];
  /** Gateways, which have no user; as agent.yaml lists them. */
  readonly gateways: readonly LocalIdentity[];
  readonly problems: readonly BindingProblem[];
  /** To be persisted when it differs from the input's. */
  readonly assigned: PortAssignment;
}

const FURTHER_OUTBOUND = { first: 15100, last: 15199 };
const MAX_DNS_NAMESPACES = 37; // 15053 to 15089; 15090 is Envoy's

/**
 * Namespaces that have a DNS listener, in the order of their ports (ports.dns + index): those of agent.yaml's bindings, then the default
 * one for users that run no workload. Stays put while WorkloadGroups come and go.
 */
export function dnsNamespaces(bindings: readonly WorkloadBinding[], defaultNamespace: string): string[] {
  const all = [...bindings.map(({ group }) => group.split('/')[0] ?? ''), defaultNamespace];
  return [...new Set(all)].slice(0, MAX_DNS_NAMESPACES);
}

/** Joins bindings with the groups that verified config has and the host is granted. Deterministic, never throws. */
export function bindWorkloads(input: BindInput): BindResult {
  const assigned = assignPorts(input);
  const namespaces = dnsNamespaces(input.bindings, input.defaultNamespace);
  const problems: BindingProblem[] = [];
  const workloads: LocalWorkload[] = [];
  const takenPorts = new Map<number, string>();
  const takenUids = new Map<number, string>();
  for (const binding of input.bindings) {
    const report = (code: BindingProblem['code'], message: string) =>
      void problems.push({ group: binding.group, code, message });
    const uid = usableUid(binding, input, report);
    const group = grantedGroup(binding.group, input, report);
    const outboundPort = assigned[binding.group];
    if (outboundPort === undefined) report('NO_OUTBOUND_PORT', 'a host has 101 outbound ports and all are taken');
    const [namespace = '', name = ''] = binding.group.split('/');
    const dnsIndex = namespaces.indexOf(namespace);
    if (dnsIndex < 0) report('NO_DNS_PORT', `a host serves at most ${MAX_DNS_NAMESPACES} namespaces`);
    const sharer = uid === undefined ? undefined : takenUids.get(uid);
    if (sharer !== undefined) {
      report('USER_REFUSED', `${binding.user} is uid ${uid}, which ${sharer} has: a user is one workload`);
      continue;
    }
    if (uid === undefined || group === undefined || outboundPort === undefined || dnsIndex < 0) continue;
    takenUids.set(uid, binding.group);
    const spec = groupSpec(group);
    const probe = usableProbe(spec.probe, binding, uid, input, report);
    workloads.push({
      ...identityOf(binding.group, spec, input),
      user: binding.user,
      uid,
      outboundPort,
      dnsPort: input.ports.dns + dnsIndex,
      ports: usablePorts(spec.ports, name, input, takenPorts, report),
      ...(probe === undefined ? {} : { probe }),
      health: input.health(binding.group),
    });
  }
  const gateways = bindGateways(input, problems);
  const bound = new Set([...input.bindings.map(({ group }) => group), ...input.gateways]);
  for (const group of input.grant?.workloadGroups ?? [])
    if (!bound.has(group))
      problems.push({
        group,
        code: 'NOT_BOUND',
        message: `granted, but agent.yaml binds no user to ${group}, nor has it among its gateways`,
      });
  return { workloads, gateways, problems, assigned };
}

function bindGateways(input: BindInput, problems: BindingProblem[]): LocalIdentity[] {
  return input.gateways.flatMap((id): LocalIdentity[] => {
    const report: Report = (code, message) => void problems.push({ group: id, code, message });
    const group = grantedGroup(id, input, report);
    if (group === undefined) return [];
    const spec = groupSpec(group);
    if (spec.probe !== undefined)
      report('PROBE_UNUSED', 'the probe of a gateway is not run: it is healthy while Envoy serves its ports');
    return [identityOf(id, spec, input)];
  });
}

function identityOf(group: string, spec: GroupSpec, { trustDomain }: BindInput): LocalIdentity {
  const [namespace = ''] = group.split('/');
  const serviceAccount = spec.serviceAccount ?? 'default';
  const spiffeId = workloadSpiffeId(trustDomain, namespace, serviceAccount);
  return { group, namespace, serviceAccount, spiffeId, labels: spec.labels };
}

type Report = (code: BindingProblem['code'], message: string) => void;

function usableUid({ user }: WorkloadBinding, input: BindInput, report: Report): number | undefined {
  const uid = input.uids.get(user);
  if (uid === undefined) {
    report('USER_UNKNOWN', input.unresolved?.get(user) ?? `user ${user} does not exist on this host`);
    return undefined;
  }
  const why = workloadUidFault(uid, input.ownUids);
  if (why === undefined) return uid;
  report('USER_REFUSED', `user ${user} (uid ${uid}) ${why}`);
  return undefined;
}

function grantedGroup(group: string, input: BindInput, report: Report): MeshObject | undefined {
  const [namespace, name = ''] = group.split('/');
  if (input.grant?.workloadGroups.includes(group) !== true) {
    report('NOT_GRANTED', `this host is not granted ${group}`);
    return undefined;
  }
  const object = input.objects.get(objectKey('WorkloadGroup', namespace, name));
  if (object === undefined) report('GROUP_MISSING', `there is no WorkloadGroup ${group}`);
  return object;
}

interface GroupSpec {
  readonly serviceAccount?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ports: Readonly<Record<string, number>>;
  readonly probe: ProbePlan | undefined;
}

/** Istio: labels of `metadata` and of `template` are both the workload's; the template's win. */
function groupSpec(group: MeshObject): GroupSpec {
  const spec = group.spec as
    | {
        metadata?: { labels?: Record<string, string> };
        probe?: ProbeSpec;
        template?: { serviceAccount?: string; labels?: Record<string, string>; ports?: Record<string, number> };
      }
    | undefined;
  return {
    serviceAccount: spec?.template?.serviceAccount || undefined,
    labels: { ...spec?.metadata?.labels, ...spec?.template?.labels },
    ports: spec?.template?.ports ?? {},
    probe: probePlan(spec?.probe),
  };
}

/** The probe as this host runs it: a command only by the unit that root made for it. One that is not listed fails, and this says the cure at once. */
function usableProbe(
  probe: ProbePlan | undefined,
  { execProbes }: WorkloadBinding,
  uid: number,
  { grant }: BindInput,
  report: Report,
): ProbePlan | undefined {
  if (probe === undefined) return undefined;
  const usable = listed(probe, execProbes, (command) => probeUnit(uid, command));
  if (usable.call.kind === 'exec' && usable.call.unit === undefined)
    report(
      'PROBE_UNLISTED',
      `a WorkloadGroup asks for an exec probe that agent.yaml does not list, so it is not run: add ${commandInWords(usable.call.command)} to workloads[].execProbes of this group in agent.yaml of host ${grant?.host ?? ''}`,
    );
  return usable;
}

function usablePorts(
  ports: Readonly<Record<string, number>>,
  name: string,
  input: BindInput,
  taken: Map<number, string>,
  report: Report,
): LocalWorkload['ports'] {
  const usable: { name: string; number: number }[] = [];
  const own = new Set<number>();
  for (const [portName, number] of Object.entries(ports)) {
    const other = taken.get(number);
    const further = number >= FURTHER_OUTBOUND.first && number <= FURTHER_OUTBOUND.last;
    if (other !== undefined) report('PORT_REFUSED', `port ${number} is served by ${other} on this host already`);
    else if (input.reservedPorts.has(number) || further)
      report('PORT_REFUSED', `port ${number} is one that the mesh never captures`);
    else {
      usable.push({ name: portName, number });
      own.add(number);
    }
  }
  for (const number of own) taken.set(number, name);
  return usable.sort((a, b) => a.number - b.number || (a.name < b.name ? -1 : 1));
}

/** Keeps what is assigned to groups that are still bound; the first without a port takes `ports.outbound` when it is free. */
function assignPorts({ bindings, assigned, ports }: BindInput): PortAssignment {
  const kept = new Map<string, number>();
  const used = new Set<number>();
  const valid = (port: number | undefined): port is number =>
    port !== undefined &&
    !used.has(port) &&
    (port === ports.outbound || (port >= FURTHER_OUTBOUND.first && port <= FURTHER_OUTBOUND.last));
  for (const { group } of bindings) {
    const port = Object.hasOwn(assigned, group) ? assigned[group] : undefined;
    if (!valid(port)) continue;
    kept.set(group, port);
    used.add(port);
  }
  for (const { group } of bindings) {
    if (kept.has(group)) continue;
    let port = ports.outbound;
    if (used.has(port)) port = FURTHER_OUTBOUND.first;
    while (used.has(port)) port++;
    if (port !== ports.outbound && port > FURTHER_OUTBOUND.last) continue;
    kept.set(group, port);
    used.add(port);
  }
  return Object.fromEntries(kept);
}
