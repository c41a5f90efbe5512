import { MeshError } from '../../api/errors.ts';
import { canonicalCidr } from './rules.ts';
import { familyOf, type MeshResolver, type RedirectSpec } from './spec.ts';

/** What agent.yaml, which only root writes, lets a spec ask for. Users are resolved to uids by the root oneshot itself. */
export interface RedirectPolicy {
  readonly proxyUid: number;
  readonly agentUid: number;
  /** Of the users that agent.yaml binds to WorkloadGroups. */
  readonly workloadUids: ReadonlySet<number>;
  /** Of `portOwners`. */
  readonly portOwnerUids: ReadonlySet<number>;
  readonly loopbackAllowUids: ReadonlySet<number>;
  /** Outbound port of the first workload; the others take 15100-15199. */
  readonly outboundPort: number;
  readonly inboundPort: number;
  /** First DNS port; namespaces count up from it. */
  readonly dnsPort: number;
  readonly dnsEnabled: boolean;
  /** Built-in ports (22, gossip, controllers, the mesh's own) and agent.yaml's: captured neither way. */
  readonly neverPorts: ReadonlySet<number>;
  readonly excludeCidrs: readonly string[];
  /** Namespaces of agent.yaml's bindings and its default one: the only single labels that systemd-resolved may be told of. */
  readonly namespaces: ReadonlySet<string>;
}

/** Outbound ports of the workloads after the first (DESIGN 7). */
export const FURTHER_OUTBOUND = { first: 15100, last: 15199 } as const;
/** At most this many namespaces have a DNS listener. */
export const MAX_DNS_LISTENERS = 37; // 15053 to 15089; 15090 is Envoy's metrics

/** Ports that no rule ever leads away: ssh, the controllers' REST and agent API (DESIGN 7). */
const BUILT_IN_PORTS = [22, 15200, 15201];

/** Ports that are captured neither way and that no workload may have: the built-in ones, the mesh's own, agent.yaml's. */
export function neverPorts(config: {
  readonly ports: Readonly<Record<string, number>>;
  readonly redirect: { readonly excludePorts: readonly number[] };
}): ReadonlySet<number> {
  return new Set([...BUILT_IN_PORTS, ...Object.values(config.ports), ...config.redirect.excludePorts]);
}

/**
 * Refuses (REDIRECT_DENIED) whatever agent.yaml does not stand for, so that an agent that was taken over through gossip cannot redirect
 * other users; else the spec with the ports and CIDRs that are never captured added. VIP ranges: 240.0.0.0/4 and fc00::/7 only, since
 * they become routes.
 */
export function permit(spec: RedirectSpec, policy: RedirectPolicy): RedirectSpec {
  const deny = (path: string, reason: string): never => {
    throw new MeshError('REDIRECT_DENIED', `redirection spec, ${path}: ${reason}`, { details: { path } });
  };
  if (spec.proxyUid !== policy.proxyUid)
    deny('proxyUid', `is ${spec.proxyUid}, agent.yaml's proxyUser is ${policy.proxyUid}`);
  if (spec.inboundPort !== policy.inboundPort) deny('inboundPort', `agent.yaml says ${policy.inboundPort}`);
  if (spec.dns && !policy.dnsEnabled) deny('dns', 'is switched off in agent.yaml');
  const special = new Set([0, policy.proxyUid, policy.agentUid]);
  for (const { uid, outboundPort, dnsPort } of spec.workloads) {
    const path = `workloads, uid ${uid}`;
    if (!policy.workloadUids.has(uid) || special.has(uid)) deny(path, 'is no user that agent.yaml binds to a workload');
    const further = outboundPort >= FURTHER_OUTBOUND.first && outboundPort <= FURTHER_OUTBOUND.last;
    if (outboundPort !== policy.outboundPort && !further)
      deny(path, `port ${outboundPort} is no outbound port of the mesh`);
    if (dnsPort < policy.dnsPort || dnsPort >= policy.dnsPort + MAX_DNS_LISTENERS)
      deny(path, `port ${dnsPort} is no DNS port of the mesh`);
  }
  for (const { port, ownerUids } of spec.inboundPorts) {
    const path = `inboundPorts, port ${port}`;
    if (policy.neverPorts.has(port)) deny(path, 'is never captured');
    if (port >= FURTHER_OUTBOUND.first && port <= FURTHER_OUTBOUND.last) deny(path, "is one of the mesh's own");
    checkOwners(ownerUids, path, policy, deny);
  }
  for (const { port, ownerUids } of spec.localPorts ?? []) {
    const path = `localPorts, port ${port}`;
    if (policy.neverPorts.has(port)) deny(path, 'is never guarded');
    if (port >= FURTHER_OUTBOUND.first && port <= FURTHER_OUTBOUND.last) deny(path, "is one of the mesh's own");
    checkOwners(ownerUids, path, policy, deny);
  }
  for (const uid of spec.loopbackAllowUids)
    if (!policy.loopbackAllowUids.has(uid) && uid !== policy.agentUid)
      deny('loopbackAllowUids', `uid ${uid} is not in agent.yaml's loopbackAllow`);
  for (const range of spec.vipRanges)
    if (!isVipRange(range)) deny('vipRanges', `${range} is outside 240.0.0.0/4 and fc00::/7`);
  if (spec.resolver !== undefined) checkResolver(spec.resolver, policy, deny);
  const ports = new Set([...policy.neverPorts, ...spec.excludePorts]);
  return {
    ...spec,
    excludePorts: [...ports].sort((a, b) => a - b),
    excludeCidrs: [...new Set([...policy.excludeCidrs, ...spec.excludeCidrs])].sort(),
    // The agent's own user asks for itself: it probes workloads.
    loopbackAllowUids: [...new Set([...policy.loopbackAllowUids, ...spec.loopbackAllowUids])].sort((a, b) => a - b),
  };
}

function checkOwners(
  ownerUids: readonly number[],
  path: string,
  policy: RedirectPolicy,
  deny: (path: string, reason: string) => never,
): void {
  if (!ownerUids.some((uid) => policy.workloadUids.has(uid)))
    deny(path, 'has no owner that agent.yaml binds to a workload');
  for (const uid of ownerUids)
    if (!policy.workloadUids.has(uid) && !policy.portOwnerUids.has(uid))
      deny(path, `uid ${uid} is no owner that agent.yaml names`);
}

/**
 * resolved answers for every user of the host: a whole top-level domain, or all names (`~.`), is not to be had by an agent that was taken
 * over. Hosts of ServiceEntries it may name, as the mesh's config does.
 */
function checkResolver(
  { port, search, route }: MeshResolver,
  policy: RedirectPolicy,
  deny: (path: string, reason: string) => never,
): void {
  if (port < policy.dnsPort || port >= policy.dnsPort + MAX_DNS_LISTENERS)
    deny('resolver', `port ${port} is no DNS port of the mesh`);
  for (const domain of search) {
    const [namespace = '', ...rest] = domain.split('.');
    if (rest.join('.') !== 'svc.cluster.local' || !policy.namespaces.has(namespace))
      deny('resolver', `search domain ${domain} is of no namespace that agent.yaml binds`);
  }
  for (const domain of route)
    if (!domain.includes('.') && !policy.namespaces.has(domain))
      deny('resolver', `${domain} is a top-level domain and no namespace that agent.yaml binds`);
}

/** Never wider than /8 (IPv4) or /40 (IPv6): a route to `lo` takes all of it off the network. */
function isVipRange(range: string): boolean {
  const family = familyOf(range);
  const [address = '', bits = '0'] = canonicalCidr(range, family).split('/');
  if (family === 'v4')
    return Number(address.split('.')[0]) >= 240 && address !== '255.255.255.255' && Number(bits) >= 8;
  return /^f[cd]/.test(address) && address.split(':')[0]?.length === 4 && Number(bits) >= 40;
}
