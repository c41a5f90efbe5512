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
import type { MeshObject } from '../object.ts';
import { childPath, type Report, shown } from '../report.ts';
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
  readonly tunnel?: { readonly protocol?: string; readonly targetHost?: string; readonly targetPort?: number };
  readonly proxyProtocol?: unknown;
  readonly retryBudget?: { readonly percent?: number; readonly minRetryConcurrency?: number };
}

interface LoadBalancer {
  readonly simple?: string;
  readonly consistentHash?: Numbers & { readonly httpCookie?: { readonly name?: string; readonly ttl?: string } };
  readonly localityLbSetting?: Locality;
  readonly warmup?: { readonly duration?: string; readonly minimumPercent?: number; readonly aggression?: number };
  readonly warmupDurationSecs?: string;
}

interface Locality {
  readonly distribute?: readonly { readonly from?: string; readonly to?: Readonly<Record<string, number>> }[];
  readonly failover?: readonly { readonly from?: string; readonly to?: string }[];
  readonly failoverPriority?: readonly string[];
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
  checkExportTo(spec.exportTo, 'spec.exportTo', report, object.metadata.namespace ?? '');
  checkSelector(spec.workloadSelector?.matchLabels, 'spec.workloadSelector.matchLabels', report);
  checkTrafficPolicy(spec.trafficPolicy, 'spec.trafficPolicy', report);
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
    checkTrafficPolicy(subset.trafficPolicy, `${path}.trafficPolicy`, report);
  }
}

function checkTrafficPolicy(policy: TrafficPolicy | undefined, path: string, report: Report): void {
  if (policy === undefined) return;
  if (Object.keys(policy).length === 0) report.required(path, 'traffic policy must have at least one field');
  checkPortPolicy(policy, path, report);
  const ports = new Set<number>();
  for (const [i, setting] of (policy.portLevelSettings ?? []).entries()) {
    const at = `${path}.portLevelSettings[${i}]`;
    const port = setting.port?.number;
    if (port === undefined) report.required(`${at}.port.number`, 'port level settings need a port number');
    else if (ports.has(port))
      report.add(`${at}.port.number`, `port ${port} has settings already`, 'FieldValueDuplicate');
    else ports.add(port);
    checkPort(port, `${at}.port.number`, report);
    checkPortPolicy(setting, at, report);
  }
  const { tunnel, retryBudget } = policy;
  if (tunnel !== undefined) {
    if (!tunnel.targetHost) report.required(`${path}.tunnel.targetHost`, 'a tunnel needs targetHost');
    checkPort(tunnel.targetPort ?? 0, `${path}.tunnel.targetPort`, report);
    if (tunnel.protocol !== undefined && !['CONNECT', 'POST'].includes(tunnel.protocol))
      report.add(`${path}.tunnel.protocol`, 'tunnel protocol must be CONNECT or POST');
  }
  checkPercent(retryBudget?.percent, `${path}.retryBudget.percent`, report);
}

function checkPortPolicy(policy: PortPolicy, path: string, report: Report): void {
  checkConnectionPool(policy.connectionPool, `${path}.connectionPool`, report);
  checkOutlierDetection(policy.outlierDetection, `${path}.outlierDetection`, report);
  checkLoadBalancer(policy.loadBalancer, `${path}.loadBalancer`, report);
  checkClientTls(policy.tls, `${path}.tls`, report);
}

const POOL_COUNTS = [
  'http1MaxPendingRequests',
  'http2MaxRequests',
  'maxRequestsPerConnection',
  'maxRetries',
  'maxConcurrentStreams',
];

function checkConnectionPool(pool: PortPolicy['connectionPool'], path: string, report: Report): void {
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
    for (const field of ['connectTimeout', 'idleTimeout', 'maxConnectionDuration'])
      checkDuration(tcp[field], `${path}.tcp.${field}`, report);
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

function checkLoadBalancer(balancer: LoadBalancer | undefined, path: string, report: Report): void {
  if (balancer === undefined) return;
  const hash = balancer.consistentHash;
  if (hash !== undefined) {
    const at = `${path}.consistentHash`;
    const keys = HASH_KEYS.filter((key) => hash[key] !== undefined);
    if (keys.length > 1) report.add(at, `has ${keys.join(' and ')}: only one hash key may be set`);
    if (keys.length === 0) report.required(at, `consistent hash needs one of ${HASH_KEYS.join(', ')}`);
    if (hash.httpHeaderName === '') report.required(`${at}.httpHeaderName`, 'must not be empty');
    if (hash.httpQueryParameterName === '') report.required(`${at}.httpQueryParameterName`, 'must not be empty');
    if (hash.httpCookie !== undefined && !hash.httpCookie.name)
      report.required(`${at}.httpCookie.name`, 'name required for HttpCookie');
    checkDuration(hash.httpCookie?.ttl, `${at}.httpCookie.ttl`, report, 0);
    const algorithms = ['ringHash', 'maglev', 'minimumRingSize'].filter((key) => hash[key] !== undefined);
    if (algorithms.length > 1) report.add(at, `has ${algorithms.join(' and ')}: only one may be set`);
  }
  const { warmup, warmupDurationSecs } = balancer;
  if (warmup !== undefined || warmupDurationSecs !== undefined) {
    if (
      balancer.simple !== undefined &&
      !['ROUND_ROBIN', 'LEAST_REQUEST', 'LEAST_CONN', 'UNSPECIFIED'].includes(balancer.simple)
    )
      report.add(`${path}.warmup`, 'warmup is allowed with ROUND_ROBIN or LEAST_REQUEST only');
    checkDuration(
      warmup?.duration ?? warmupDurationSecs,
      `${path}.${warmup ? 'warmup.duration' : 'warmupDurationSecs'}`,
      report,
      1000,
    );
    checkPercent(warmup?.minimumPercent, `${path}.warmup.minimumPercent`, report);
    if (warmup?.aggression !== undefined && warmup.aggression < 1)
      report.add(`${path}.warmup.aggression`, 'must be 1 or more');
  }
  checkLocality(balancer.localityLbSetting, `${path}.localityLbSetting`, report);
}

function checkLocality(setting: Locality | undefined, path: string, report: Report): void {
  if (setting === undefined) return;
  const { distribute, failover, failoverPriority } = setting;
  if ((distribute ?? []).length > 0 && ((failover ?? []).length > 0 || (failoverPriority ?? []).length > 0))
    report.add(path, 'can not simultaneously specify distribute and failover or failoverPriority');
  for (const [i, one] of (distribute ?? []).entries()) {
    let total = 0;
    for (const [to, weight] of Object.entries(one.to ?? {})) {
      const at = childPath(`${path}.distribute[${i}].to`, to);
      checkInteger(weight, at, report, 1, 100);
      total += weight;
    }
    if (total !== 100) report.add(`${path}.distribute[${i}].to`, `total locality weight ${total} != 100`);
  }
  for (const [i, one] of (failover ?? []).entries()) {
    if (one.from === one.to)
      report.add(
        `${path}.failover[${i}]`,
        `locality failover settings must specify different regions: ${shown(one.from)}`,
      );
  }
}
