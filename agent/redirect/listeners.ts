import { MeshError } from '../../api/errors.ts';
import { type Listener, type Sockets, strangerOn } from '../host/sockets.ts';
import { capturesDns } from './rules.ts';
import type { Family, LocalPort, RedirectSpec } from './spec.ts';

/** A workload's port that is left alone because another user's socket listens on it now. */
export interface UncapturedPort {
  readonly port: number;
  readonly uid: number;
  readonly reason: string;
}

/** Uids of the processes that hold a root-owned listening socket: what the agent, without root, cannot see (DESIGN 3.5). */
export interface RootSocket {
  readonly inode: number;
  readonly uids: readonly number[];
}

/**
 * Refuses (REDIRECT_LISTENER) unless the proxy itself listens on every port that rules lead to, and root or the agent on the DNS ports:
 * all of them are above 1023, so any local process could sit there and be handed the workloads' plaintext.
 */
export async function checkListeners(
  sockets: Sockets,
  spec: RedirectSpec,
  families: readonly Family[],
  agentUid: number,
): Promise<void> {
  const [tcp, udp] = await Promise.all([sockets.listeners(), sockets.udp()]);
  const proxy = new Set([spec.proxyUid]);
  // Without inbound ports nothing leads to the inbound listener, and Envoy has none.
  const inbound = spec.inboundPorts.length > 0 ? [spec.inboundPort] : [];
  for (const port of [...inbound, ...spec.workloads.map((w) => w.outboundPort)])
    checkPort(tcp, port, families, proxy, 'the proxy');
  if (!capturesDns(spec)) return;
  const dnsOwners = new Set([0, agentUid]);
  const asked = spec.resolver === undefined ? [] : [spec.resolver.port];
  for (const port of new Set([...spec.workloads.map((w) => w.dnsPort), ...asked])) {
    checkPort(tcp, port, families, dnsOwners, 'mesh-agent-dns');
    checkPort(udp, port, families, dnsOwners, 'mesh-agent-dns');
  }
}

function checkPort(
  sockets: readonly Listener[],
  port: number,
  families: readonly Family[],
  uids: ReadonlySet<number>,
  who: string,
): void {
  const here = sockets.filter((socket) => socket.port === port);
  const stranger = here.find((socket) => !uids.has(socket.uid));
  const details = { port };
  if (stranger !== undefined) {
    const cause = `port ${port} is held by uid ${stranger.uid}, not by ${who} (uid ${[...uids].join(' or ')}): stop that program (ss -ltnup)`;
    throw new MeshError('REDIRECT_LISTENER', cause, { details: { ...details, uid: stranger.uid } });
  }
  for (const family of families)
    if (!here.some((socket) => reaches(socket, family)))
      throw new MeshError('REDIRECT_LISTENER', `nothing listens on port ${port} (IP${family}): is ${who} up?`, {
        details,
      });
}

/** REDIRECT in OUTPUT leads to 127.0.0.1 or ::1. */
function reaches({ family, address }: Listener, wanted: Family): boolean {
  if (wanted === 'v4')
    return (family === 'v4' && (address === '0.0.0.0' || address.startsWith('127.'))) || address === '::';
  return family === 'v6' && (address === '::' || address === '::1');
}

/**
 * Splits the workloads' ports into those to capture and those that another user's service holds: a WorkloadGroup pushed by someone who
 * does not know this host must not cut off its database or its second sshd. Each family for itself: a stranger that binds the port in one
 * leaves the workload's own socket in the other guarded. `rootSockets`: evidence for the agent.
 */
export async function judgeInbound(
  sockets: Sockets,
  spec: RedirectSpec,
): Promise<{ captured: RedirectSpec; uncaptured: UncapturedPort[]; rootSockets: RootSocket[] }> {
  const listeners = await sockets.listeners();
  const ports = new Set([...spec.inboundPorts, ...(spec.localPorts ?? [])].map((p) => p.port));
  const inodes = listeners.filter((l) => l.uid === 0 && ports.has(l.port)).map((l) => l.inode);
  const holders = await sockets.holders(new Set(inodes));
  const uncaptured: UncapturedPort[] = [];
  const inboundPorts = spec.inboundPorts.flatMap((asked) => {
    const owners = new Set(asked.ownerUids);
    const strangers = new Map(
      spec.families.map((family) => [family, strangerOn(asked.port, family, owners, listeners, holders)] as const),
    );
    const families = spec.families.filter((family) => strangers.get(family) === undefined);
    const stranger = [...strangers.values()].find((listener) => listener !== undefined);
    if (stranger === undefined) return [asked];
    const where = families.length === 0 ? '' : ` by IP${spec.families.filter((f) => !families.includes(f)).join(', ')}`;
    const reason = `port ${asked.port}${where} is listened on by uid ${stranger.uid}, not by ${asked.ownerUids.join(', ')}`;
    uncaptured.push({ port: asked.port, uid: stranger.uid, reason });
    return families.length === 0 ? [] : [{ ...asked, families }];
  });
  const localPorts = (spec.localPorts ?? []).filter((local) => {
    const stranger = strangerAt(local, spec, listeners, holders);
    if (stranger === undefined) return true;
    const reason = `port ${local.port} is listened on by uid ${stranger.uid}, which a Sidecar's ${local.kind === 'proxy' ? 'egress listener' : 'defaultEndpoint'} must not touch`;
    uncaptured.push({ port: local.port, uid: stranger.uid, reason });
    return false;
  });
  const rootSockets = [...holders].map(([inode, uids]) => ({ inode, uids: [...uids].sort((a, b) => a - b) }));
  const local = spec.localPorts === undefined ? {} : { localPorts };
  return { captured: { ...spec, inboundPorts, ...local }, uncaptured, rootSockets };
}

/** A socket of somebody else's where a local port is to be: of an application's any, of the proxy's own one on that address or on all. */
function strangerAt(
  { kind, port, address, ownerUids }: LocalPort,
  spec: RedirectSpec,
  listeners: readonly Listener[],
  holders: ReadonlyMap<number, ReadonlySet<number>>,
): Listener | undefined {
  if (kind === 'application') {
    const owners = new Set(ownerUids);
    for (const family of spec.families) {
      const stranger = strangerOn(port, family, owners, listeners, holders);
      if (stranger !== undefined) return stranger;
    }
    return undefined;
  }
  const here = [address, '0.0.0.0', '::'];
  return listeners.find((one) => one.port === port && here.includes(one.address) && one.uid !== spec.proxyUid);
}
