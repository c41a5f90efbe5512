import {
  checkDuration,
  checkExportTo,
  checkInteger,
  checkLabelName,
  checkLabels,
  checkPercent,
  checkPort,
  checkSelector,
  dnsNameFault,
  ipVersion,
} from '../formats.ts';
import { ruleCredentials } from '../gateway-binding.ts';
import type { MeshObject } from '../object.ts';
import type { Report } from '../report.ts';
import { checkLocality, type Locality } from './locality.ts';
import { type ClientTls, checkClientTls } from './tls-settings.ts';

type Numbers = Readonly<Record<string, unknown>>;

interface PortPolicy {
  readonly port?: { readonly number?: number };
  readonly connectionPool?: { readonly tcp?: Numbers & { tcpKeepalive?: Numbers }; readonly http?: Numbers };
  readonly outlierDetection?: Numbers;
  readonly loadBalancer?: LoadBalancer;
  readonly tls?: ClientTls;
}

interface TrafficPolicy extends PortPolicy {
  readonly portLevelSettings?: readonly PortPolicy[];
  readonly tunnel?: Tunnel;
  readonly proxyProtocol?: unknown;
  readonly retryBudget?: { readonly percent?: number; readonly minRetryConcurrency?: number };
}

interface Tunnel {
  readonly protocol?: string;
  readonly targetHost?: string;
  readonly targetPort?: number;
}

interface LoadBalancer {
  readonly simple?: string;
  readonly consistentHash?: Numbers & { readonly httpCookie?: { readonly name?: string; readonly ttl?: string } };
  readonly localityLbSetting?: Locality;
  readonly warmup?: { readonly duration?: string; readonly minimumPercent?: number; readonly aggression?: number };
  readonly warmupDurationSecs?: string;
}

export interface DestinationRuleSpec {
  readonly host?: string;
  readonly exportTo?: readonly string[];
  readonly workloadSelector?: { readonly matchLabels?: Readonly<Record<string, string>> };
  readonly trafficPolicy?: TrafficPolicy;
  readonly subsets?: readonly {
    readonly name?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly trafficPolicy?: TrafficPolicy;
  }[];
}

/** DestinationRule by itself, as Istio's ValidateDestinationRule judges it. */
export function checkDestinationRule(object: MeshObject, report: Report): void {
  const spec = (object.spec ?? {}) as DestinationRuleSpec;
  const host = spec.host ?? '';
  const fault = ipVersion(host) > 0 ? undefined : dnsNameFault(host, true);
  if (host === '') report.required('spec.host', 'host is required');
  else if (fault !== undefined) report.add('spec.host', fault);
  const namespace = object.metadata.namespace ?? '';
  checkExportTo(spec.exportTo, 'spec.exportTo', report, namespace);
  checkVisibility(spec, namespace, report);
  checkCredentials(object, spec, report);
  checkTrafficPolicy(spec.trafficPolicy, 'spec.trafficPolicy', report, namespace);
  const names = new Set<string>();
  for (const [i, subset] of (spec.subsets ?? []).entries()) {
    const path = `spec.subsets[${i}]`;
    checkLabelName(subset.name ?? '', `${path}.name`, report, 'subset name');
    if (names.has(subset.name ?? ''))
      report.add(`${path}.name`, `duplicate subset names: ${subset.name}`, 'FieldValueDuplicate');
    names.add(subset.name ?? '');
    checkLabels(subset.labels, `${path}.labels`, report);
    if (Object.keys(subset.labels ?? {}).length === 0)
      report.warn(path, 'a subset without labels selects every endpoint');
    checkTrafficPolicy(subset.trafficPolicy, `${path}.trafficPolicy`, report, namespace);
  }
}

/** Secrets are for workloads of the rule's own namespace that it selects, or for gateways there (Istio: the same, and plaintext elsewhere). */
function checkCredentials(object: MeshObject, spec: DestinationRuleSpec, report: Report): void {
  if (spec.workloadSelector === undefined && ruleCredentials(object).size > 0)
    report.warn(
      'spec',
      'credentialName without workloadSelector is for gateways of this namespace; others reach nobody',
    );
}

/** Whom a rule is for. With a workloadSelector it is for its own namespace's workloads only; `~` (nobody) is for ServiceEntries. */
function checkVisibility(spec: DestinationRuleSpec, namespace: string, report: Report): void {
  const { exportTo = [], workloadSelector } = spec;
  if (exportTo.includes('~'))
    report.add(`spec.exportTo[${exportTo.indexOf('~')}]`, 'exportTo ~ (none) is not allowed for DestinationRules');
  if (workloadSelector === undefined) return;
  checkSelector(workloadSelector.matchLabels, 'spec.workloadSelector.matchLabels', report);
  if (Object.keys(workloadSelector.matchLabels ?? {}).length === 0)
    report.warn('spec.workloadSelector', 'a selector without labels selects every workload of the namespace');
  if (exportTo.length > 0 && (exportTo.length > 1 || (exportTo[0] !== '.' && exportTo[0] !== namespace)))
    report.add('spec.exportTo', 'a rule with workloadSelector cannot be exported beyond its own namespace');
}

function checkTrafficPolicy(policy: TrafficPolicy | undefined, path: string, report: Report, namespace: string): void {
  if (policy === undefined) return;
  if (Object.keys(policy).length === 0) report.required(path, 'traffic policy must have at least one field');
  checkPortPolicy(policy, path, report, namespace);
  const ports = new Set<number>();
  for (const [i, setting] of (policy.portLevelSettings ?? []).entries()) {
    const at = `${path}.portLevelSettings[${i}]`;
    const { port, ...sections } = setting;
    const number = port?.number;
    if (number === undefined) report.required(`${at}.port.number`, 'port level settings need a port number');
    else if (ports.has(number))
      report.add(`${at}.port.number`, `port ${number} has settings already`, 'FieldValueDuplicate');
    else ports.add(number);
    checkPort(number, `${at}.port.number`, report);
    if (Object.keys(sections).length === 0) report.required(at, 'port traffic policy must have at least one field');
    checkPortPolicy(setting, at, report, namespace);
  }
  const { tunnel, retryBudget, proxyProtocol } = policy;
  if (tunnel !== undefined && proxyProtocol !== undefined)
    report.add(`${path}.tunnel`, 'tunnel and proxyProtocol must not be set together');
  checkTunnel(tunnel, `${path}.tunnel`, report);
  checkPercent(retryBudget?.percent, `${path}.retryBudget.percent`, report);
  checkInteger(retryBudget?.minRetryConcurrency, `${path}.retryBudget.minRetryConcurrency`, report, 0, 2 ** 32 - 1);
}

function checkTunnel(tunnel: Tunnel | undefined, path: string, report: Report): void {
  if (tunnel === undefined) return;
  const { protocol = '', targetHost = '', targetPort = 0 } = tunnel;
  const fault = ipVersion(targetHost) > 0 ? undefined : dnsNameFault(targetHost, false);
  if (fault !== undefined)
    report.add(`${path}.targetHost`, `tunnel target host must be an FQDN or IP address: ${fault}`);
  checkPort(targetPort, `${path}.targetPort`, report);
  if (!['', 'CONNECT', 'POST'].includes(protocol))
    report.add(`${path}.protocol`, 'tunnel protocol must be CONNECT or POST');
}

function checkPortPolicy(policy: PortPolicy, path: string, report: Report, namespace: string): void {
  checkConnectionPool(policy.connectionPool, `${path}.connectionPool`, report);
  checkOutlierDetection(policy.outlierDetection, `${path}.outlierDetection`, report);
  checkLoadBalancer(policy, `${path}.loadBalancer`, report);
  checkClientTls(policy.tls, `${path}.tls`, report, namespace);
}

const POOL_COUNTS = [
  'http1MaxPendingRequests',
  'http2MaxRequests',
  'maxRequestsPerConnection',
  'maxRetries',
  'maxConcurrentStreams',
];

export function checkConnectionPool(pool: PortPolicy['connectionPool'], path: string, report: Report): void {
  if (pool === undefined) return;
  const { tcp, http } = pool;
  if (tcp === undefined && http === undefined) report.required(path, 'connection pool must have at least one field');
  if (http !== undefined) {
    if (Object.keys(http).length === 0) report.required(`${path}.http`, 'must have at least one field');
    for (const field of POOL_COUNTS) checkInteger(http[field], `${path}.http.${field}`, report, 0);
    checkDuration(http.idleTimeout, `${path}.http.idleTimeout`, report);
    if (http.h2UpgradePolicy === 'UPGRADE' && http.useClientProtocol === true)
      report.add(
        `${path}.http.h2UpgradePolicy`,
        'use client protocol must not be true when H2UpgradePolicy is UPGRADE',
      );
  }
  if (tcp !== undefined) {
    if (Object.keys(tcp).length === 0) report.required(`${path}.tcp`, 'must have at least one field');
    checkInteger(tcp.maxConnections, `${path}.tcp.maxConnections`, report, 0);
    for (const field of ['connectTimeout', 'maxConnectionDuration'])
      checkDuration(tcp[field], `${path}.tcp.${field}`, report);
    checkDuration(tcp.idleTimeout, `${path}.tcp.idleTimeout`, report, 0); // 0s: no timeout
    checkInteger(tcp.tcpKeepalive?.probes, `${path}.tcp.tcpKeepalive.probes`, report, 0, 2 ** 32 - 1);
    for (const field of ['time', 'interval'])
      checkDuration(tcp.tcpKeepalive?.[field], `${path}.tcp.tcpKeepalive.${field}`, report, 1000);
  }
}

function checkOutlierDetection(outlier: Numbers | undefined, path: string, report: Report): void {
  if (outlier === undefined) return;
  for (const field of ['interval', 'baseEjectionTime']) checkDuration(outlier[field], `${path}.${field}`, report);
  for (const field of ['maxEjectionPercent', 'minHealthPercent'])
    checkInteger(outlier[field], `${path}.${field}`, report, 0, 100);
  const counts = [
    'consecutiveErrors',
    'consecutive5xxErrors',
    'consecutiveGatewayErrors',
    'consecutiveLocalOriginFailures',
  ];
  for (const field of counts) checkInteger(outlier[field], `${path}.${field}`, report, 0, 2 ** 32 - 1);
  if (Number(outlier.consecutiveLocalOriginFailures ?? 0) > 0 && outlier.splitExternalLocalOriginErrors !== true)
    report.add(
      `${path}.consecutiveLocalOriginFailures`,
      'outlier detection consecutive local origin failures is specified, but split external local origin errors is set to false',
    );
  if (outlier.consecutiveErrors !== undefined)
    report.warn(`${path}.consecutiveErrors`, 'is deprecated: use consecutiveGatewayErrors or consecutive5xxErrors');
}

const HASH_KEYS = ['httpHeaderName', 'httpCookie', 'useSourceIp', 'httpQueryParameterName'];

/** Envoy's bounds, which Istio's webhook leaves to it. */
const MAX_RING = 8_388_608;
const MAX_MAGLEV = 5_000_011;

function checkLoadBalancer(policy: PortPolicy, path: string, report: Report): void {
  const balancer = policy.loadBalancer;
  if (balancer === undefined) return;
  if (balancer.consistentHash !== undefined)
    checkConsistentHash(balancer.consistentHash, `${path}.consistentHash`, report);
  checkWarmup(balancer, path, report);
  const outlier = policy.outlierDetection !== undefined;
  checkLocality(balancer.localityLbSetting, `${path}.localityLbSetting`, report, outlier);
}

function checkConsistentHash(hash: NonNullable<LoadBalancer['consistentHash']>, at: string, report: Report): void {
  const keys = HASH_KEYS.filter((key) => hash[key] !== undefined);
  if (keys.length > 1) report.add(at, `has ${keys.join(' and ')}: only one hash key may be set`);
  if (keys.length === 0) report.required(at, `consistent hash needs one of ${HASH_KEYS.join(', ')}`);
  if (hash.httpHeaderName === '') report.required(`${at}.httpHeaderName`, 'must not be empty');
  if (hash.httpQueryParameterName === '') report.required(`${at}.httpQueryParameterName`, 'must not be empty');
  if (hash.httpCookie !== undefined && !hash.httpCookie.name)
    report.required(`${at}.httpCookie.name`, 'name required for HttpCookie');
  checkDuration(hash.httpCookie?.ttl, `${at}.httpCookie.ttl`, report, 0);
  const { ringHash, maglev } = hash as { ringHash?: Numbers; maglev?: Numbers };
  const rings = { minimumRingSize: hash.minimumRingSize, 'ringHash.minimumRingSize': ringHash?.minimumRingSize };
  for (const [field, size] of Object.entries(rings)) checkInteger(size, `${at}.${field}`, report, 0, MAX_RING);
  if (hash.minimumRingSize) report.warn(`${at}.minimumRingSize`, 'is deprecated: use ringHash.minimumRingSize');
  const algorithms = ['ringHash', 'maglev', 'minimumRingSize'].filter((key) => hash[key] !== undefined);
  if (algorithms.length > 1) report.add(at, `has ${algorithms.join(' and ')}: only one may be set`);
  if (maglev === undefined) return;
  checkInteger(maglev.tableSize, `${at}.maglev.tableSize`, report, 0, MAX_MAGLEV - 1);
  const size = Number(maglev.tableSize ?? 0);
  if (size === 0) report.required(`${at}.maglev.tableSize`, 'tableSize must be set for maglev');
  else if (size < MAX_MAGLEV && !isPrime(size))
    report.add(`${at}.maglev.tableSize`, 'tableSize must be a prime number for maglev');
}

function isPrime(size: number): boolean {
  if (size < 2) return false;
  for (let factor = 2; factor * factor <= size; factor++) if (size % factor === 0) return false;
  return true;
}

function checkWarmup(balancer: LoadBalancer, path: string, report: Report): void {
  const { warmup, warmupDurationSecs, simple, consistentHash } = balancer;
  if (warmup === undefined && warmupDurationSecs === undefined) return;
  const field = warmup === undefined ? 'warmupDurationSecs' : 'warmup';
  const fit = ['ROUND_ROBIN', 'LEAST_REQUEST', 'LEAST_CONN', 'UNSPECIFIED'];
  if (consistentHash !== undefined || (simple !== undefined && !fit.includes(simple))) {
    const why = 'not supported: warmup works with ROUND_ROBIN and LEAST_REQUEST only';
    report.add(`${path}.${field}`, why, 'FieldValueNotSupported');
  }
  if (warmup !== undefined && warmupDurationSecs !== undefined)
    report.add(`${path}.warmupDurationSecs`, 'not supported: warmup counts in its place', 'FieldValueNotSupported');
  if (warmupDurationSecs !== undefined) report.warn(`${path}.warmupDurationSecs`, 'is deprecated: use warmup.duration');
  if (warmup !== undefined && warmup.duration === undefined)
    report.required(`${path}.warmup.duration`, 'duration is required');
  checkDuration(warmup?.duration, `${path}.warmup.duration`, report);
  checkDuration(warmupDurationSecs, `${path}.warmupDurationSecs`, report);
  checkPercent(warmup?.minimumPercent, `${path}.warmup.minimumPercent`, report);
  if (warmup?.aggression !== undefined && warmup.aggression < 1)
    report.add(`${path}.warmup.aggression`, 'must be 1 or more');
}
