import { type LocalPort, MAX_RESOLVER_DOMAINS, type MeshResolver, type RedirectSpec } from './spec.ts';

/** A local workload as redirection needs it: LocalWorkload joined with the view's inbound ports. */
export interface SpecWorkload {
  readonly uid: number;
  readonly outboundPort: number;
  readonly dnsPort: number;
  /** Ports that Envoy's inbound listener serves; `mode` as PeerAuthentication resolves it. */
  readonly inboundPorts: readonly SpecPort[];
  /** Sockets of the proxy's own that serve the workload (a Sidecar's egress with captureMode NONE). */
  readonly sockets?: readonly { readonly address: string; readonly port: number }[];
  /** agent.yaml's portOwners, as uids. */
  readonly portOwnerUids: readonly number[];
}

/** A port that the proxy serves for a workload. `endpoint`: where the application is instead; `bind`: the proxy's own socket, not captured. */
export interface SpecPort {
  readonly number: number;
  readonly mode: 'DISABLE' | 'PERMISSIVE' | 'STRICT';
  readonly endpoint?: { readonly address: string; readonly port: number };
  readonly bind?: string;
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
  const local = new Map<string, LocalPort>();
  for (const { uid, inboundPorts, portOwnerUids, sockets = [] } of input.workloads) {
    const ownerUids = [...new Set([uid, ...portOwnerUids])].sort((a, b) => a - b);
    for (const { number, mode, endpoint, bind } of inboundPorts) {
      // Where plaintext is taken from anyone, so it is from this host's own users.
      const permissive = mode !== 'STRICT';
      if (bind === undefined) inbound.set(number, { port: number, permissive, ownerUids });
      if (endpoint === undefined) continue;
      const { port } = endpoint;
      local.set(`application ${port}`, { kind: 'application', port, permissive, ownerUids });
      // An application that the network reaches beside its STRICT listener is captured there too, where no chain takes it.
      if (!permissive && !isLoopback(endpoint.address) && !inbound.has(port))
        inbound.set(port, { port, permissive, ownerUids });
    }
    for (const { address, port } of sockets)
      local.set(`proxy ${address} ${port}`, { kind: 'proxy', port, address, permissive: false, ownerUids: [uid] });
  }
  const localPorts = [...local.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, port]) => port);
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
    ...(localPorts.length === 0 ? {} : { localPorts }),
    ...(input.resolver === undefined ? {} : { resolver: input.resolver }),
  };
}

function isLoopback(address: string): boolean {
  return address === '::1' || address.startsWith('127.');
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
