/*
 * Room agent/redirect. In: a RedirectSpec that the agent wrote, agent.yaml. Out: iptables rules of our own chains, routes of the VIP ranges, a
 * result file. Pure files decide (spec, rules, tables, policy); apply.ts is the root oneshot.
 * Never: flush or touch a rule that is not ours, leave half the rules, redirect a user or port that agent.yaml does not stand for.
 */
import { createHash } from 'node:crypto';
import { isIP } from 'node:net';
import { MeshError } from '../../api/errors.ts';

/** IP family of rules, routes and listeners. */
export type Family = 'v4' | 'v6';

/**
 * What the agent asks the root oneshot for: the whole of the redirection, not a change of it. JSON in RUN_DIR/redirect/spec.json, at most
 * MAX_SPEC_BYTES. The oneshot trusts nothing in it: see policy.ts.
 */
export interface RedirectSpec {
  readonly version: 1;
  /** Chosen by the agent, echoed in the result: tells two requests with the same content apart. */
  readonly requestId: string;
  readonly families: readonly Family[];
  readonly proxyUid: number;
  /** Envoy's inbound listener, 15006. */
  readonly inboundPort: number;
  readonly inboundPorts: readonly InboundPort[];
  readonly workloads: readonly RedirectWorkload[];
  /** Whether udp and tcp 53 of the workloads' users go to their DNS ports. */
  readonly dns: boolean;
  /** CIDRs that are routed to `lo`, so that a VIP connects on a host without a default route (DESIGN 4). */
  readonly vipRanges: readonly string[];
  /** Destinations never captured, besides the built-in ones and agent.yaml's. */
  readonly excludeCidrs: readonly string[];
  readonly excludePorts: readonly number[];
  /** Users that may talk to workloads' ports over loopback, besides root, the proxy and the port's owners. */
  readonly loopbackAllowUids: readonly number[];
  /** Ports that a workload and its proxy speak over on this host alone: nothing is captured for them, they are guarded. */
  readonly localPorts?: readonly LocalPort[];
  /** What systemd-resolved is to ask the agent for, where it answers on this host. */
  readonly resolver?: MeshResolver;
}

/** The mesh's names as systemd-resolved is told of them: domains without a leading dot or `~`, lower-case. */
export interface MeshResolver {
  /** The agent's DNS port that it asks. */
  readonly port: number;
  /** Appended to names of one label. */
  readonly search: readonly string[];
  /** Names that are asked for there: these and all below them. */
  readonly route: readonly string[];
}

/** A workload's port: taken to the inbound listener when another host, or the proxy over `lo`, connects to it. */
export interface InboundPort {
  readonly port: number;
  /** PERMISSIVE: local strangers may connect over loopback too. */
  readonly permissive: boolean;
  /** The workload's uid and further owners of the listening socket (DESIGN 3.5); root is not listed. */
  readonly ownerUids: readonly number[];
  /** Families in which it is captured: absent in a request, where the oneshot decides (judgeInbound); then undefined means both. */
  readonly families?: readonly Family[];
}

/**
 * `application`: a Sidecar's defaultEndpoint: the proxy may go there, only the owners answer it, and nobody else goes there over `lo` unless
 * PERMISSIVE. `proxy`: a socket of the proxy's on a loopback address that serves whoever connects as the workload: only the owners may, and
 * only the proxy answers.
 */
export interface LocalPort {
  readonly kind: 'application' | 'proxy';
  readonly port: number;
  /** Of `proxy` only: the address that it is bound to. */
  readonly address?: string;
  readonly permissive: boolean;
  readonly ownerUids: readonly number[];
}

/** A workload's user and where its connections and queries go. */
export interface RedirectWorkload {
  readonly uid: number;
  readonly outboundPort: number;
  readonly dnsPort: number;
}

/** Bounds of a spec: a host has 100 workloads at most (DESIGN 7). */
export const MAX_SPEC_BYTES = 256 << 10;
const MAX_WORKLOADS = 100;
const MAX_PORTS = 1000;
const MAX_LIST = 256;
const MAX_DNS_NAMESPACES = 37;
/** resolved takes 1024 for a link. */
export const MAX_RESOLVER_DOMAINS = 1000;

/** Hash of what a spec asks for; the request id is left out. Equal hash, equal rules. */
export function specHash(spec: RedirectSpec): string {
  const { requestId: _, ...content } = spec;
  return createHash('sha256').update(JSON.stringify(content)).digest('hex');
}

/** Parses the agent's file strictly: unknown key, wrong type, out of bounds or duplicate: MeshError REDIRECT_SPEC with the path. */
export function parseSpec(text: string): RedirectSpec {
  if (text.length > MAX_SPEC_BYTES) throw invalid('', `larger than ${MAX_SPEC_BYTES} bytes`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new MeshError('REDIRECT_SPEC', 'the redirection spec is not JSON', { cause });
  }
  const o = record(json, '', SPEC_KEYS);
  if (o.version !== 1) throw invalid('version', 'this program knows version 1 only');
  if (typeof o.requestId !== 'string' || !/^[-a-zA-Z0-9]{1,64}$/.test(o.requestId))
    throw invalid('requestId', 'an id of 1 to 64');
  const spec: RedirectSpec = {
    version: 1,
    requestId: o.requestId,
    families: list(o.families, 'families', 2, family),
    proxyUid: integer(o.proxyUid, 'proxyUid', 1, MAX_UID),
    inboundPort: integer(o.inboundPort, 'inboundPort', 1024, 65535),
    inboundPorts: list(o.inboundPorts, 'inboundPorts', MAX_PORTS, inboundPort),
    workloads: list(o.workloads, 'workloads', MAX_WORKLOADS, workload),
    dns: flag(o.dns, 'dns'),
    vipRanges: list(o.vipRanges, 'vipRanges', 16, cidr),
    excludeCidrs: list(o.excludeCidrs, 'excludeCidrs', MAX_LIST, cidr),
    excludePorts: list(o.excludePorts, 'excludePorts', MAX_LIST, (v, p) => integer(v, p, 1, 65535)),
    loopbackAllowUids: list(o.loopbackAllowUids, 'loopbackAllowUids', MAX_LIST, (v, p) => integer(v, p, 0, MAX_UID)),
    ...(o.localPorts === undefined ? {} : { localPorts: list(o.localPorts, 'localPorts', MAX_LIST, localPort) }),
    ...(o.resolver === undefined ? {} : { resolver: resolver(o.resolver, 'resolver') }),
  };
  unique(spec.families, 'families');
  unique(
    spec.inboundPorts.map((p) => p.port),
    'inboundPorts',
  );
  unique(
    spec.workloads.map((w) => w.uid),
    'workloads',
  );
  unique(
    spec.workloads.map((w) => w.outboundPort),
    'workloads',
  );
  return spec;
}

const SPEC_KEYS = [
  'version',
  'requestId',
  'families',
  'proxyUid',
  'inboundPort',
  'inboundPorts',
  'workloads',
  'dns',
  'vipRanges',
  'excludeCidrs',
  'excludePorts',
  'loopbackAllowUids',
  'localPorts',
  'resolver',
];
const MAX_UID = 0xffff_fffe;

/** Family of an address or CIDR that passed validation. */
export function familyOf(cidr: string): Family {
  return cidr.includes(':') ? 'v6' : 'v4';
}

/** True for ADDRESS or ADDRESS/BITS in a form that iptables takes; names are refused: iptables would resolve them. */
export function isCidr(text: string): boolean {
  const [address = '', bits, rest] = text.split('/');
  const version = isIP(address);
  if (version === 0 || address.includes('%') || rest !== undefined) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (version === 4 ? 32 : 128));
}

function inboundPort(value: unknown, path: string): InboundPort {
  const o = record(value, path, ['port', 'permissive', 'ownerUids']);
  return {
    port: integer(o.port, `${path}.port`, 1, 65535),
    permissive: flag(o.permissive, `${path}.permissive`),
    ownerUids: list(o.ownerUids, `${path}.ownerUids`, 32, (v, p) => integer(v, p, 0, MAX_UID)),
  };
}

function localPort(value: unknown, path: string): LocalPort {
  const o = record(value, path, ['kind', 'port', 'address', 'permissive', 'ownerUids']);
  if (o.kind !== 'application' && o.kind !== 'proxy') throw invalid(`${path}.kind`, '"application" or "proxy"');
  const address = o.kind === 'proxy' ? { address: loopback(o.address, `${path}.address`) } : {};
  if (o.kind === 'application' && o.address !== undefined) throw invalid(`${path}.address`, 'nothing');
  return {
    kind: o.kind,
    port: integer(o.port, `${path}.port`, 1, 65535),
    ...address,
    permissive: flag(o.permissive, `${path}.permissive`),
    ownerUids: list(o.ownerUids, `${path}.ownerUids`, 32, (v, p) => integer(v, p, 0, MAX_UID)),
  };
}

function loopback(value: unknown, path: string): string {
  if (typeof value !== 'string' || isIP(value) === 0 || !(value === '::1' || value.startsWith('127.')))
    throw invalid(path, 'a loopback address');
  return value;
}

function workload(value: unknown, path: string): RedirectWorkload {
  const o = record(value, path, ['uid', 'outboundPort', 'dnsPort']);
  return {
    uid: integer(o.uid, `${path}.uid`, 1, MAX_UID),
    outboundPort: integer(o.outboundPort, `${path}.outboundPort`, 1024, 65535),
    dnsPort: integer(o.dnsPort, `${path}.dnsPort`, 1024, 65535),
  };
}

function resolver(value: unknown, path: string): MeshResolver {
  const o = record(value, path, ['port', 'search', 'route']);
  return {
    port: integer(o.port, `${path}.port`, 1024, 65535),
    search: list(o.search, `${path}.search`, MAX_DNS_NAMESPACES, domain),
    route: list(o.route, `${path}.route`, MAX_RESOLVER_DOMAINS, domain),
  };
}

function record(value: unknown, path: string, keys: readonly string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(path, 'an object');
  for (const key of Object.keys(value))
    if (!keys.includes(key)) throw invalid(path, `unknown key ${JSON.stringify(key.slice(0, 64))}`);
  return value as Record<string, unknown>;
}

function list<T>(value: unknown, path: string, max: number, parse: (value: unknown, path: string) => T): T[] {
  if (!Array.isArray(value)) throw invalid(path, 'a list');
  if (value.length > max) throw invalid(path, `at most ${max} entries`);
  return value.map((item, index) => parse(item, `${path}[${index}]`));
}

function integer(value: unknown, path: string, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max)
    throw invalid(path, `a whole number from ${min} to ${max}`);
  return value;
}

function flag(value: unknown, path: string): boolean {
  if (typeof value !== 'boolean') throw invalid(path, 'true or false');
  return value;
}

function family(value: unknown, path: string): Family {
  if (value !== 'v4' && value !== 'v6') throw invalid(path, '"v4" or "v6"');
  return value;
}

function cidr(value: unknown, path: string): string {
  if (typeof value !== 'string' || !isCidr(value)) throw invalid(path, 'an IP address or CIDR');
  return value;
}

function domain(value: unknown, path: string): string {
  if (typeof value !== 'string' || value.length > 253 || !DOMAIN.test(value)) throw invalid(path, 'a DNS name');
  return value;
}

/** A leading `-` would be an option of resolvectl. */
const DOMAIN = /^[a-z0-9_]([-a-z0-9_]{0,62})(\.[a-z0-9_]([-a-z0-9_]{0,62}))*$/;

function unique(values: readonly unknown[], path: string): void {
  if (new Set(values).size !== values.length) throw invalid(path, 'no duplicates');
}

function invalid(path: string, expected: string): MeshError {
  return new MeshError('REDIRECT_SPEC', `redirection spec${path === '' ? '' : `, ${path}`}: expected ${expected}`, {
    details: { path },
  });
}
