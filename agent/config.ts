/**
 * agent.yaml: options of mesh-agent, their defaults, bounds and errors. In: the file's text. Out: AgentConfig, or MeshError CONFIG_INVALID
 * with FILE:LINE:COL of every fault. Nothing on the host is touched here. packaging/etc/agent.yaml shows every key (a test compares).
 */

import { isIP } from 'node:net';
import { LABEL, SUBDOMAIN } from '../api/identity/spiffe-id.ts';
import { hasHidden, showHidden } from '../api/text.ts';
import { type ConfigReader, readConfig } from '../runtime/config-file.ts';

/** Effective options of mesh-agent: agent.yaml over defaults. */
export interface AgentConfig {
  /** This host's id; written by `mesh-agent join`. */
  readonly host: string;
  readonly trustDomain: string;
  /** Keys, SVIDs, generations, endpoint table, bootstrap. Default /var/lib/mesh. */
  readonly stateDir: string;
  /** xds.sock, admin.sock, redirect spec and result. Default /run/mesh. */
  readonly runDir: string;
  /** Addresses that workloads are served on and peers are told; default: every global unicast address of the host. */
  readonly addresses: readonly string[];
  readonly network: string;
  readonly locality: string;
  readonly workloads: readonly WorkloadBinding[];
  /** `NAMESPACE/NAME` of the WorkloadGroups for which this host's Envoy is a gateway itself (docs/decisions/0009). */
  readonly gateways: readonly string[];
  /** Namespace in which short names are answered for users that run no workload. Default `default`. */
  readonly defaultNamespace: string;
  readonly controllers: readonly string[];
  readonly ports: {
    readonly outbound: number;
    readonly inbound: number;
    readonly metrics: number;
    readonly readiness: number;
    readonly dns: number;
    readonly envoyMetrics: number;
    readonly gossip: number;
  };
  readonly metricsAddress: string;
  readonly redirect: {
    readonly enabled: boolean;
    readonly onProxyFailure: 'closed' | 'bypass';
    /** Users that may talk to workloads' ports over loopback, besides root, the proxy and the workload. */
    readonly loopbackAllow: readonly string[];
    /** Destinations never captured: CIDRs and ports, besides the built-in ones (22, 169.254.0.0/16, gossip, controller). */
    readonly excludeCidrs: readonly string[];
    readonly excludePorts: readonly number[];
  };
  readonly dns: { readonly enabled: boolean; readonly upstreams: readonly string[] };
  /** Folder in which objects may name certificate files: their `/etc/mesh/tls/` lies here. Empty: nowhere. Default /etc/mesh/tls. */
  readonly tlsFiles: string;
  readonly proxyUser: string;
  readonly agentUser: string;
  readonly logLevel: 'error' | 'warn' | 'info' | 'debug';
}

/** Which unix user serves a WorkloadGroup on this host. */
export interface WorkloadBinding {
  /** `NAMESPACE/NAME` of the WorkloadGroup. */
  readonly group: string;
  /** A unix user; or `NAME.service` (agent.yaml's `unit`): whoever that unit's static User= is, looked up again now and then. */
  readonly user: string;
  /** Further users that may own the listening sockets (DESIGN 3.5). */
  readonly portOwners: readonly string[];
  /** Commands, program and arguments, that a WorkloadGroup's exec probe may have run as this user; none but these. */
  readonly execProbes: readonly (readonly string[])[];
}

/** Bounds of execProbes: commands of a workload, words of a command, bytes of a command. */
const MAX_EXEC = { commands: 16, words: 64, bytes: 4096 } as const;
const GROUP = /^[-a-z0-9]{1,63}\/[-.a-z0-9]{1,253}$/;
const USER = /^[a-z_][-a-z0-9_]{0,31}$/;
/** A service unit, an instance with its `@`; no slash, so that it names no file elsewhere. */
export const UNIT_NAME = /^[A-Za-z0-9:_.\\-]{1,200}(@[A-Za-z0-9:_.\\-]{0,100})?\.service$/;
const CIDR = /^[0-9a-fA-F:.]+(\/\d{1,3})?$/;
const HTTPS = /^https:\/\/[^/?#\s@]+$/;
const PATH = /^\/[^\0]*$/;

/** Parses agent.yaml. `file` is for messages. Throws CONFIG_INVALID. */
export function parseAgentConfig(text: string, file: string): AgentConfig {
  return readConfig(text, file, (r) => {
    const config: AgentConfig = {
      host: r.string('host', { pattern: LABEL, expected: 'a DNS label (written by `mesh-agent join`)' }),
      trustDomain: r.string('trustDomain', {
        pattern: SUBDOMAIN,
        expected: 'a DNS name (written by `mesh-agent join`)',
      }),
      stateDir: r.string('stateDir', { default: '/var/lib/mesh', pattern: PATH, expected: 'an absolute path' }),
      runDir: r.string('runDir', { default: '/run/mesh', pattern: PATH, expected: 'an absolute path' }),
      addresses: readAddresses(r, 'addresses'),
      network: r.string('network', {
        default: 'default',
        pattern: SUBDOMAIN,
        expected: 'a name of lower-case letters, digits and hyphens',
      }),
      locality: r.string('locality', {
        default: '',
        pattern: /^([^/\s]+(\/[^/\s]+){0,2})?$/,
        expected: 'REGION[/ZONE[/SUBZONE]]',
      }),
      workloads: r.list('workloads', readBinding),
      gateways: r.strings('gateways', { pattern: GROUP, expected: 'NAMESPACE/NAME of a WorkloadGroup', max: 16 }),
      defaultNamespace: r.string('defaultNamespace', { default: 'default', pattern: LABEL, expected: 'a namespace' }),
      controllers: r.strings('controllers', { pattern: HTTPS, expected: 'https://HOST:PORT', max: 9 }),
      ports: r.object('ports', readPorts),
      metricsAddress: readAddress(r, 'metricsAddress', '127.0.0.1'),
      redirect: r.object('redirect', readRedirect),
      dns: r.object('dns', (d) => ({ enabled: d.boolean('enabled', true), upstreams: readAddresses(d, 'upstreams') })),
      tlsFiles: r.string('tlsFiles', {
        default: '/etc/mesh/tls',
        pattern: /^(\/[^\0]*)?$/,
        expected: 'an absolute path, or nothing',
      }),
      proxyUser: r.string('proxyUser', { default: 'mesh-proxy', pattern: USER, expected: 'a user name' }),
      agentUser: r.string('agentUser', { default: 'mesh-agent', pattern: USER, expected: 'a user name' }),
      logLevel: r.oneOf('logLevel', ['error', 'warn', 'info', 'debug'], 'info'),
    };
    checkBindings(r, config);
    return config;
  });
}

function readBinding(r: ConfigReader): WorkloadBinding {
  const group = r.string('group', { pattern: GROUP, expected: 'NAMESPACE/NAME of a WorkloadGroup' });
  const byUnit = r.has('unit');
  if (byUnit && r.has('user')) r.fault('unit', 'a workload is bound to a user or to a unit, not to both');
  const user = byUnit
    ? r.string('unit', { pattern: UNIT_NAME, expected: 'NAME.service' })
    : r.string('user', { pattern: USER, expected: 'a user name (or give the unit: NAME.service)' });
  if (byUnit) r.string('user', { default: '' });
  else r.string('unit', { default: '' });
  const portOwners = r.strings('portOwners', { pattern: USER, expected: 'a user name', max: 16 });
  const execProbes = r.stringLists('execProbes', { max: MAX_EXEC.commands, check: commandFault });
  const seen = new Set<string>();
  for (const command of execProbes) {
    const text = JSON.stringify(command);
    if (seen.has(text)) r.fault('execProbes', `${text} is listed twice`);
    seen.add(text);
  }
  return { group, user, portOwners, execProbes };
}

/** What keeps these words from being a command line of a unit of systemd's, which takes UTF-8 lines only. */
function commandFault(words: readonly string[]): string | undefined {
  const [program] = words;
  if (program === undefined || !/^\/[^/]/.test(program) || program.endsWith('/'))
    return `expected [PROGRAM, ARGUMENT, ...] with the program's absolute path, found ${JSON.stringify(words).slice(0, 80)}`;
  if (words.includes('')) return 'no empty word: a probe cannot have one (Istio)';
  if (words.length > MAX_EXEC.words) return `at most ${MAX_EXEC.words} words`;
  if (words.reduce((sum, word) => sum + Buffer.byteLength(word), 0) > MAX_EXEC.bytes)
    return `at most ${MAX_EXEC.bytes} bytes`;
  for (const word of words)
    if (hasHidden(word))
      return `no line breaks, other control or format characters or broken Unicode: ${showHidden(JSON.stringify(word)).slice(0, 80)}`;
  return undefined;
}

function readPorts(r: ConfigReader): AgentConfig['ports'] {
  const port = (key: string, fallback: number) => r.integer(key, { default: fallback, min: 1024, max: 65535 });
  const ports = {
    outbound: port('outbound', 15001),
    inbound: port('inbound', 15006),
    metrics: port('metrics', 15020),
    readiness: port('readiness', 15021),
    dns: port('dns', 15053),
    envoyMetrics: port('envoyMetrics', 15090),
    gossip: port('gossip', 15300),
  };
  const seen = new Map<number, string>();
  for (const [key, number] of Object.entries(ports)) {
    const other = seen.get(number);
    if (other !== undefined) r.fault(key, `port ${number} is ${other}'s already`);
    seen.set(number, key);
  }
  return ports;
}

function readRedirect(r: ConfigReader): AgentConfig['redirect'] {
  return {
    enabled: r.boolean('enabled', true),
    onProxyFailure: r.oneOf('onProxyFailure', ['closed', 'bypass'], 'closed'),
    loopbackAllow: r.strings('loopbackAllow', { pattern: USER, expected: 'a user name', max: 32 }),
    excludeCidrs: r.strings('excludeCidrs', { pattern: CIDR, expected: 'an address or CIDR', max: 64 }),
    excludePorts: r.integers('excludePorts', { min: 1, max: 65535 }),
  };
}

function readAddress(r: ConfigReader, key: string, fallback: string): string {
  const value = r.string(key, { default: fallback });
  if (typeof value === 'string' && isIP(value) === 0)
    r.fault(key, `expected an IP address, found ${JSON.stringify(value)}`);
  return value;
}

function readAddresses(r: ConfigReader, key: string): string[] {
  const list = r.strings(key, { max: 8, expected: 'an IP address' });
  for (const item of list) if (isIP(item) === 0) r.fault(key, `expected an IP address, found ${JSON.stringify(item)}`);
  return list;
}

/** One unix user is one workload: outbound traffic is told apart by it. */
function checkBindings(r: ConfigReader, config: AgentConfig): void {
  const users = new Set<string>();
  const groups = new Set<string>();
  for (const { user, group } of config.workloads) {
    if (users.has(user)) r.fault('workloads', `user ${user} is bound twice; each workload has a user of its own`);
    if (groups.has(group)) r.fault('workloads', `WorkloadGroup ${group} is bound twice`);
    if (user === config.proxyUser || user === config.agentUser || user === 'root')
      r.fault('workloads', `user ${user} cannot run a workload`);
    users.add(user);
    groups.add(group);
  }
  for (const group of config.gateways) {
    if (groups.has(group)) r.fault('gateways', `WorkloadGroup ${group} is bound twice`);
    groups.add(group);
  }
  if (config.workloads.length > 100) r.fault('workloads', 'at most 100 on a host');
}
