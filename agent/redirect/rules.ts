import { type Family, familyOf, type LocalPort, type RedirectSpec } from './spec.ts';
import type { OwnedTable, TableName } from './tables.ts';

/** Source address of Envoy's own leg to a local application: the first rule lets it pass (DESIGN 4). */
export const INBOUND_SOURCE: Readonly<Record<Family, string>> = { v4: '127.0.0.6/32', v6: '::6/128' };
/** Ours in every table; no other chain is ever touched. */
export const CHAINS = {
  output: 'MESH_OUTPUT',
  prerouting: 'MESH_PREROUTING',
  guardOut: 'MESH_GUARD_OUT',
  guardIn: 'MESH_GUARD_IN',
  guardAnswer: 'MESH_GUARD_ANSWER',
  zone: 'MESH_ZONE',
} as const;

/** conntrack zone in which captured DNS queries are looked up. Any number that nobody else uses. */
const DNS_ZONE = 19_795;

const LOOPBACK: Readonly<Record<Family, string>> = { v4: '127.0.0.0/8', v6: '::1/128' };
const LINK_LOCAL: Readonly<Record<Family, string>> = { v4: '169.254.0.0/16', v6: 'fe80::/10' };
const RESET = '-j REJECT --reject-with tcp-reset';
/** Guards look at connection attempts only: a reply whose port happens to be one of ours is none (`--syn` as iptables-save prints it). */
const SYN = '-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN';

/** What a listening socket answers a connection attempt with. */
const SYN_ACK = '-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN,ACK';
const LAST_UID = 4_294_967_294;

/**
 * The wanted content of our chains for one family, in the words of iptables-save, guards (filter) first, redirects (nat) last. `spec` has passed policy.ts,
 * so its excludes hold the built-in ports and agent.yaml's. Same spec, same text.
 */
export function renderRules(asked: RedirectSpec, family: Family): ReadonlyMap<TableName, OwnedTable> {
  const inboundPorts = asked.inboundPorts.filter(({ families }) => families?.includes(family) ?? true);
  const spec = { ...asked, inboundPorts };
  return new Map<TableName, OwnedTable>([
    ['filter', renderFilter(spec, family)],
    ['raw', renderRaw(spec)],
    ['nat', renderNat(spec, family)],
  ]);
}

/** An empty map's worth of rules: what clean-up wants. */
export const NO_RULES: ReadonlyMap<TableName, OwnedTable> = new Map([
  ['filter', { chains: new Map(), jumps: [] }],
  ['raw', { chains: new Map(), jumps: [] }],
  ['nat', { chains: new Map(), jumps: [] }],
]);

/**
 * Guards. (a) Nobody connects straight to a workload's outbound port or to the inbound port, from this host or another: it would be served
 * as that workload. (b) Over `lo` a workload's port takes root, the proxy, its owners and those allowed, unless PERMISSIVE: anyone else
 * would slip past mTLS and policy. (c) The proxy reaches nothing on loopback but a resolver: a name that an operator wrote, or its DNS answer,
 * would lead it to services that are this host's own (seen: endpoint `ip6-localhost`). What the redirects themselves send there is let by, and
 * the inbound leg to where a Sidecar says that the application is. Nor anything link-local: there clouds hand out this machine's own
 * credentials (169.254.169.254), and no connection of a workload's to it is captured. (e) A socket of the proxy's own takes the workload's user and root only.
 */
function renderFilter(spec: RedirectSpec, family: Family): OwnedTable {
  const meshPorts = [...spec.workloads.map((w) => w.outboundPort), spec.inboundPort];
  const straight = (chain: string, via: string) =>
    chunk(sorted(meshPorts)).map(
      (ports) => `-A ${chain} ${via}-p tcp -m multiport --dports ${ports} -m conntrack ! --ctstate DNAT ${RESET}`,
    );
  const guarded = guardedPorts(spec);
  const own = `-A ${CHAINS.guardOut} -d ${LOOPBACK[family]} -p tcp -m owner --uid-owner ${spec.proxyUid}`;
  const out = [
    ...straight(CHAINS.guardOut, '-o lo '),
    ...guardLocal(spec, family),
    `${own} -m tcp ! --dport 53 -m conntrack ! --ctstate DNAT ${RESET}`,
    `-A ${CHAINS.guardOut} -d ${LINK_LOCAL[family]} -p tcp -m owner --uid-owner ${spec.proxyUid} -m tcp ! --dport 53 ${RESET}`,
  ];
  if (guarded.length > 0) {
    const anywhere = sorted([0, spec.proxyUid, ...spec.loopbackAllowUids]);
    out.push(...anywhere.map((uid) => `-A ${CHAINS.guardOut} -o lo -p tcp -m owner --uid-owner ${uid} -j RETURN`));
    for (const { port, ownerUids } of guarded) {
      const match = `-A ${CHAINS.guardOut} -o lo -p tcp -m tcp --dport ${port}`;
      out.push(
        ...sorted(ownerUids).map((uid) => `${match} -m owner --uid-owner ${uid} -j RETURN`),
        `${match} ${RESET}`,
      );
    }
  }
  const answers = guardAnswers(spec, family);
  const jumps = [`-A INPUT ${SYN} -j ${CHAINS.guardIn}`, `-A OUTPUT ${SYN} -j ${CHAINS.guardOut}`];
  const chains = new Map([
    [CHAINS.guardIn as string, straight(CHAINS.guardIn, '')],
    [CHAINS.guardOut, out],
  ]);
  if (answers.length === 0) return { chains, jumps };
  chains.set(CHAINS.guardAnswer, answers);
  return { chains, jumps: [...jumps, `-A OUTPUT ${SYN_ACK} -j ${CHAINS.guardAnswer}`] };
}

/**
 * (d) On the ports that redirects lead to nobody but the proxy answers. They are above 1023: when the proxy dies, any local user may bind them
 * before it is back, and would be handed what the workloads say (seen). The client then waits, and is served when the proxy is back. A
 * SYN-ACK without an owner is a SYN cookie: under a flood from outside the inbound port needs them, while a squatter on an outbound port
 * could bring them about.
 */
function guardAnswers(spec: RedirectSpec, family: Family): string[] {
  const { proxyUid } = spec;
  const rule = (ports: string, owner: string) =>
    `-A ${CHAINS.guardAnswer} -p tcp -m multiport --sports ${ports} -m owner ${owner} -j DROP`;
  const outbound = chunk(sorted(spec.workloads.map((w) => w.outboundPort)));
  const others = [proxyUid === 1 ? '0' : `0-${proxyUid - 1}`, `${proxyUid + 1}-${LAST_UID}`];
  return [
    ...outbound.map((ports) => rule(ports, `! --uid-owner ${proxyUid}`)),
    ...(spec.inboundPorts.length > 0
      ? others.map((range) => rule(String(spec.inboundPort), `--uid-owner ${range}`))
      : []),
    ...(spec.localPorts ?? []).flatMap((local) => guardLocalAnswers(local, spec, family)),
  ];
}

/** Ports that take root, the proxy, their owners and those allowed over `lo`, and nobody else. Of a port named twice all owners. */
function guardedPorts(spec: RedirectSpec): readonly { readonly port: number; readonly ownerUids: readonly number[] }[] {
  const applications = (spec.localPorts ?? []).filter(({ kind }) => kind === 'application');
  const owners = new Map<number, readonly number[]>();
  for (const { port, ownerUids, permissive } of [...spec.inboundPorts, ...applications])
    if (!permissive) owners.set(port, [...(owners.get(port) ?? []), ...ownerUids]);
  return [...owners].map(([port, ownerUids]) => ({ port, ownerUids })).sort((a, b) => a.port - b.port);
}

/** Who may connect: the inbound leg to an application's port, a workload's user to the proxy's own socket. */
function guardLocal({ localPorts = [], proxyUid }: RedirectSpec, family: Family): string[] {
  const out = `-A ${CHAINS.guardOut}`;
  return localPorts.flatMap(({ kind, port, address, ownerUids }) => {
    if (kind === 'application')
      return [
        `${out} -s ${INBOUND_SOURCE[family]} -d ${LOOPBACK[family]} -p tcp -m owner --uid-owner ${proxyUid} -m tcp --dport ${port} -j RETURN`,
      ];
    if (address === undefined || familyOf(address) !== family) return [];
    const match = `${out} -d ${canonicalCidr(address, family)} -p tcp -m tcp --dport ${port}`;
    return [
      ...sorted([0, ...ownerUids]).map((uid) => `${match} -m owner --uid-owner ${uid} -j RETURN`),
      `${match} ${RESET}`,
    ];
  });
}

/** Who may answer there: an operator's defaultEndpoint must not lead peers to another user's service, nor a squatter get a workload's calls. */
function guardLocalAnswers(
  { kind, port, address, ownerUids }: LocalPort,
  { proxyUid }: RedirectSpec,
  family: Family,
): string[] {
  const out = `-A ${CHAINS.guardAnswer}`;
  if (kind === 'proxy') {
    if (address === undefined || familyOf(address) !== family) return [];
    return [
      `${out} -s ${canonicalCidr(address, family)} -p tcp -m tcp --sport ${port} -m owner ! --uid-owner ${proxyUid} -j DROP`,
    ];
  }
  const match = `${out} -d ${INBOUND_SOURCE[family]} -p tcp -m tcp --sport ${port}`;
  return [
    ...sorted([0, ...ownerUids]).map((uid) => `${match} -m owner --uid-owner ${uid} -j RETURN`),
    `${match} -j DROP`,
  ];
}

/**
 * Queries of captured users are tracked in a zone of their own. conntrack asks the nat table for the first packet of a flow only, and a UDP
 * flow is known by its addresses and ports for 30 to 120 s: a query whose source port an uncaptured program (the agent's forwarder too) had
 * used to the same resolver would slip past the redirect (seen: 2 of 1,500 look-ups at 20 forwarded ones a second; istio/istio#33469).
 */
function renderRaw(spec: RedirectSpec): OwnedTable {
  if (!capturesDns(spec)) return { chains: new Map(), jumps: [] };
  const match = '-p udp -m udp --dport 53';
  const rules = sorted(spec.workloads.map((w) => w.uid)).map(
    (uid) => `-A ${CHAINS.zone} ${match} -m owner --uid-owner ${uid} -j CT --zone-orig ${DNS_ZONE}`,
  );
  return { chains: new Map([[CHAINS.zone, rules]]), jumps: [`-A OUTPUT ${match} -j ${CHAINS.zone}`] };
}

/**
 * Order (DESIGN 4): inbound leg, proxy to local workload, proxy, link-local and excluded destinations, DNS, loopback destinations, excluded
 * ports, one redirect a workload user. DNS stands before loopback so that a resolver on 127.0.0.1 (dnsmasq, unbound) is captured too.
 */
function renderNat(spec: RedirectSpec, family: Family): OwnedTable {
  const out = `-A ${CHAINS.output}`;
  const proxy = `-m owner --uid-owner ${spec.proxyUid}`;
  const inbound = chunk(sorted(spec.inboundPorts.map((p) => p.port)));
  const redirect = `-j REDIRECT --to-ports`;
  const excluded = spec.excludeCidrs.filter((c) => familyOf(c) === family).map((c) => canonicalCidr(c, family));
  const workloads = [...spec.workloads].sort((a, b) => a.uid - b.uid);
  const rules = [
    `${out} -s ${INBOUND_SOURCE[family]} ${proxy} -j RETURN`,
    ...inbound.map(
      (ports) =>
        `${out} ! -d ${LOOPBACK[family]} -o lo -p tcp ${proxy} -m multiport --dports ${ports} ${redirect} ${spec.inboundPort}`,
    ),
    `${out} ${proxy} -j RETURN`,
    ...[LINK_LOCAL[family], ...[...new Set(excluded)].sort()].map((net) => `${out} -d ${net} -j RETURN`),
  ];
  if (capturesDns(spec))
    for (const { uid, dnsPort } of workloads)
      for (const protocol of ['udp', 'tcp'])
        rules.push(
          `${out} -p ${protocol} -m ${protocol} --dport 53 -m owner --uid-owner ${uid} ${redirect} ${dnsPort}`,
        );
  rules.push(
    `${out} -d ${LOOPBACK[family]} -j RETURN`,
    ...chunk(sorted(spec.excludePorts)).map((ports) => `${out} -p tcp -m multiport --dports ${ports} -j RETURN`),
    ...workloads.map(
      ({ uid, outboundPort }) => `${out} -p tcp -m owner --uid-owner ${uid} ${redirect} ${outboundPort}`,
    ),
  );
  const jumps = [`-A OUTPUT -p tcp -j ${CHAINS.output}`];
  if (capturesDns(spec)) jumps.push(`-A OUTPUT -p udp -m udp --dport 53 -j ${CHAINS.output}`);
  const chains = new Map([[CHAINS.output as string, rules]]);
  if (inbound.length > 0) {
    // addrtype: a router or a container host forwards connections to the same port number; those are not ours.
    const rule = (ports: string) =>
      `-A ${CHAINS.prerouting} -p tcp -m multiport --dports ${ports} ${redirect} ${spec.inboundPort}`;
    chains.set(CHAINS.prerouting, inbound.map(rule));
    jumps.unshift(`-A PREROUTING -p tcp -m addrtype --dst-type LOCAL -j ${CHAINS.prerouting}`);
  }
  return { chains, jumps };
}

/** DNS is captured when asked for, there is a user to capture, and port 53 is not excluded. */
export function capturesDns(spec: RedirectSpec): boolean {
  return spec.dns && spec.workloads.length > 0 && !spec.excludePorts.includes(53);
}

/** Port lists of at most 15, the bound of xt_multiport. */
function chunk(ports: readonly number[]): string[] {
  const lists: string[] = [];
  for (let at = 0; at < ports.length; at += 15) lists.push(ports.slice(at, at + 15).join(','));
  return lists;
}

function sorted(numbers: readonly number[]): number[] {
  return [...new Set(numbers)].sort((a, b) => a - b);
}

/** As iptables-save prints it: host bits cleared, prefix length always there. */
export function canonicalCidr(cidr: string, family: Family): string {
  const [address = '', given] = cidr.split('/');
  const width = family === 'v4' ? 32 : 128;
  const bits = BigInt(given ?? width);
  const host = BigInt(width) - bits;
  const value = (toNumber(address, family) >> host) << host;
  return `${toText(value, family)}/${bits}`;
}

function toNumber(address: string, family: Family): bigint {
  if (family === 'v4') return address.split('.').reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  const plain = new URL(`http://[${address}]`).hostname.slice(1, -1); // also turns a dotted tail into groups
  const [head = '', tail] = plain.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups =
    tail === undefined ? left : [...left, ...Array<string>(8 - left.length - right.length).fill('0'), ...right];
  return groups.reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n);
}

function toText(value: bigint, family: Family): string {
  if (family === 'v4') return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 255n).join('.');
  const groups = Array.from({ length: 8 }, (_, i) => ((value >> BigInt(112 - 16 * i)) & 0xffffn).toString(16));
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}
