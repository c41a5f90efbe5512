import { MAX_RESOLVER_DOMAINS, type MeshResolver, type RedirectSpec } from './spec.ts';

/** A local workload as redirection needs it: LocalWorkload joined with the view's inbound ports. */
export interface SpecWorkload {
  readonly uid: number;
  readonly outboundPort: number;
  readonly dnsPort: number;
  /** Ports that Envoy's inbound listener serves; `mode` as PeerAuthentication resolves it. */
  readonly inboundPorts: readonly { readonly number: number; readonly mode: 'DISABLE' | 'PERMISSIVE' | 'STRICT' }[];
  /** agent.yaml's portOwners, as uids. */
  readonly portOwnerUids: readonly number[];
}

export interface SpecInput {
  readonly proxyUid: number;
  readonly inboundPort: number;
  readonly workloads: readonly SpecWorkload[];
  readonly dns: boolean;
  /** MeshView.vipRanges. */
  readonly vipRanges: readonly string[];
  /** The agent's own user, where it probes workloads: it may reach their ports over `lo`. */
  readonly proberUid?: number | undefined;
  /** For systemd-resolved; undefined: it is told nothing. */
  readonly resolver: MeshResolver | undefined;
}

/**
 * What to ask the root oneshot for. Excludes and loopbackAllow are agent.yaml's and added by the oneshot itself. Both families are asked
 * for; the oneshot leaves out one that the host lacks. Sorted, so that the same host gives the same hash.
 */
export function buildRedirectSpec(input: SpecInput): Omit<RedirectSpec, 'version' | 'requestId'> {
  const inbound = new Map<number, { port: number; permissive: boolean; ownerUids: number[] }>();
  for (const { uid, inboundPorts, portOwnerUids } of input.workloads)
    for (const { number, mode } of inboundPorts)
      inbound.set(number, {
        port: number,
        // Where plaintext is taken from anyone, so it is from this host's own users.
        permissive: mode !== 'STRICT',
        ownerUids: [...new Set([uid, ...portOwnerUids])].sort((a, b) => a - b),
      });
  return {
    families: ['v4', 'v6'],
    proxyUid: input.proxyUid,
    inboundPort: input.inboundPort,
    inboundPorts: [...inbound.values()].sort((a, b) => a.port - b.port),
    workloads: input.workloads
      .map(({ uid, outboundPort, dnsPort }) => ({ uid, outboundPort, dnsPort }))
      .sort((a, b) => a.uid - b.uid),
    dns: input.dns,
    vipRanges: [...input.vipRanges].sort(),
    excludeCidrs: [],
    excludePorts: [],
    loopbackAllowUids: input.proberUid === undefined ? [] : [input.proberUid],
    ...(input.resolver === undefined ? {} : { resolver: input.resolver }),
  };
}

/**
 * What systemd-resolved is told of the mesh: all of its own domain, hosts of ServiceEntries, and `NAME` and `NAME.NS` of these namespaces, the
 * first one leading. `hosts`: full names and `*.suffix` patterns that the first one sees. At most MAX_RESOLVER_DOMAINS, in order of the alphabet.
 */
export function meshResolver(
  port: number,
  namespaces: readonly string[],
  hosts: Iterable<string>,
  clusterDomain: string,
): MeshResolver {
  const route = new Set<string>();
  for (const host of hosts) {
    const domain = host.replace(/^\*\./, '');
    if (domain.includes('.') && !domain.endsWith(`.${clusterDomain}`)) route.add(domain);
  }
  const own = [clusterDomain, ...namespaces];
  return {
    port,
    search: namespaces.map((namespace) => `${namespace}.${clusterDomain}`),
    route: [...own, ...[...route].sort()].slice(0, MAX_RESOLVER_DOMAINS),
  };
}
