import type { RedirectPolicy } from '../../agent/redirect/policy.ts';
import type { RedirectSpec } from '../../agent/redirect/spec.ts';

/** Uids used in the tests of redirection: those of users that every Debian has (proxy, backup, www-data, news, uucp, games). */
export const UID = { proxy: 13, agent: 34, web: 33, news: 9, stranger: 10, friend: 5 } as const;

/** Two workloads: www-data serves 8080 (STRICT), news serves 9090 (PERMISSIVE). */
export function buildSpec(part: Partial<RedirectSpec> = {}): RedirectSpec {
  return {
    version: 1,
    requestId: 'r1',
    families: ['v4', 'v6'],
    proxyUid: UID.proxy,
    inboundPort: 15006,
    inboundPorts: [
      { port: 8080, permissive: false, ownerUids: [UID.web] },
      { port: 9090, permissive: true, ownerUids: [UID.news] },
    ],
    workloads: [
      { uid: UID.web, outboundPort: 15001, dnsPort: 15053 },
      { uid: UID.news, outboundPort: 15100, dnsPort: 15054 },
    ],
    dns: true,
    vipRanges: ['240.240.0.0/16', 'fd6d:6573:6800::/48'],
    excludeCidrs: [],
    excludePorts: [],
    loopbackAllowUids: [],
    ...part,
  };
}

/** What agent.yaml of that host stands for. */
export function buildPolicy(part: Partial<RedirectPolicy> = {}): RedirectPolicy {
  return {
    proxyUid: UID.proxy,
    agentUid: UID.agent,
    workloadUids: new Set([UID.web, UID.news]),
    portOwnerUids: new Set(),
    loopbackAllowUids: new Set([UID.friend]),
    outboundPort: 15001,
    inboundPort: 15006,
    dnsPort: 15053,
    dnsEnabled: true,
    neverPorts: new Set([22, 15200, 15201, 15300]),
    excludeCidrs: [],
    namespaces: new Set(['default']),
    ...part,
  };
}
