import type { RedirectSpec } from './spec.ts';

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
    loopbackAllowUids: [],
  };
}
