import { SUBDOMAIN } from '../../identity/spiffe-id.ts';
import { checkDuration, checkExportTo, checkInteger, checkLabelName, dnsNameFault } from '../formats.ts';
import type { MeshObject } from '../object.ts';
import { ROOT_NAMESPACE } from '../registry.ts';
import { type Report, shown } from '../report.ts';
import type { SemanticContext } from './context.ts';
import { checkLogFormat } from './header-values.ts';
import { checkRetries } from './http-route.ts';
import { checkLocality } from './locality.ts';

/** Spec of MeshConfig, the one kind of our own that operators write. */
export interface MeshConfigSpec {
  /** Fixed by `mesh-controller init`. */
  readonly trustDomain?: string;
  readonly rootNamespace?: string;
  readonly outboundTrafficPolicy?: { readonly mode?: 'ALLOW_ANY' | 'REGISTRY_ONLY' };
  readonly accessLog?: { readonly enabled?: boolean };
  readonly accessLogFile?: string;
  readonly accessLogFormat?: string;
  readonly accessLogEncoding?: string;
  readonly connectTimeout?: string;
  readonly dnsRefreshRate?: string;
  readonly protocolDetectionTimeout?: string;
  readonly tcpKeepalive?: { readonly probes?: number; readonly time?: string; readonly interval?: string };
  readonly defaultServiceExportTo?: readonly string[];
  readonly defaultVirtualServiceExportTo?: readonly string[];
  readonly defaultDestinationRuleExportTo?: readonly string[];
  readonly defaultHttpRetryPolicy?: Parameters<typeof checkRetries>[0];
  readonly localityLbSetting?: Parameters<typeof checkLocality>[0];
  readonly defaultConfig?: { readonly concurrency?: number };
  /** Who may define an external or wildcard host for the whole mesh; the longest matching host decides. */
  readonly hostOwnership?: readonly { readonly hosts: readonly string[]; readonly namespace: string }[];
}

export function checkMeshConfig(object: MeshObject, report: Report, context: SemanticContext): void {
  const spec = (object.spec ?? {}) as MeshConfigSpec;
  checkTrustDomain(spec.trustDomain, report, context);
  if (spec.rootNamespace !== undefined && spec.rootNamespace !== ROOT_NAMESPACE)
    report.add('spec.rootNamespace', `the root namespace is ${ROOT_NAMESPACE}`, 'FieldValueNotSupported');
  checkAccessLog(spec, report);
  checkDuration(spec.connectTimeout, 'spec.connectTimeout', report);
  checkDuration(spec.dnsRefreshRate, 'spec.dnsRefreshRate', report);
  checkDuration(spec.protocolDetectionTimeout, 'spec.protocolDetectionTimeout', report, 0);
  checkInteger(spec.tcpKeepalive?.probes, 'spec.tcpKeepalive.probes', report, 0, 2 ** 32 - 1);
  for (const field of ['time', 'interval'] as const)
    checkDuration(spec.tcpKeepalive?.[field], `spec.tcpKeepalive.${field}`, report, 1000);
  for (const field of [
    'defaultServiceExportTo',
    'defaultVirtualServiceExportTo',
    'defaultDestinationRuleExportTo',
  ] as const)
    checkExportTo(spec[field], `spec.${field}`, report, '');
  checkRetries(spec.defaultHttpRetryPolicy, 'spec.defaultHttpRetryPolicy', report);
  checkLocality(spec.localityLbSetting, 'spec.localityLbSetting', report);
  checkInteger(spec.defaultConfig?.concurrency, 'spec.defaultConfig.concurrency', report, 0, 1024);
  checkOwnership(spec.hostOwnership, report);
}

function checkTrustDomain(trustDomain: string | undefined, report: Report, context: SemanticContext): void {
  if (trustDomain === undefined) return;
  if (!SUBDOMAIN.test(trustDomain)) report.add('spec.trustDomain', `${shown(trustDomain)} is not a trust domain`);
  else if (context.trustDomain !== undefined && trustDomain !== context.trustDomain)
    report.add(
      'spec.trustDomain',
      `the trust domain is ${context.trustDomain} and cannot be changed`,
      'FieldValueForbidden',
    );
}

/** Envoy's own output only: an operator of the mesh opens no files on hosts. */
function checkAccessLog(spec: MeshConfigSpec, report: Report): void {
  const { accessLogFile, accessLogFormat, accessLogEncoding } = spec;
  if (accessLogFile && accessLogFile !== '/dev/stdout')
    report.add(
      'spec.accessLogFile',
      `${shown(accessLogFile)}: only /dev/stdout, which is the host's journal, or empty for none`,
      'FieldValueNotSupported',
    );
  if (!accessLogFormat) return;
  checkLogFormat(accessLogFormat, 'spec.accessLogFormat', report);
  if (accessLogEncoding === 'JSON' && !isRecord(accessLogFormat))
    report.add('spec.accessLogFormat', 'must be a JSON object where accessLogEncoding is JSON');
}

function isRecord(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

function checkOwnership(rules: MeshConfigSpec['hostOwnership'], report: Report): void {
  const owners = new Map<string, string>();
  for (const [i, rule] of (rules ?? []).entries()) {
    checkLabelName(rule.namespace, `spec.hostOwnership[${i}].namespace`, report, 'namespace');
    for (const [k, host] of rule.hosts.entries()) {
      const path = `spec.hostOwnership[${i}].hosts[${k}]`;
      const fault = dnsNameFault(host, true);
      if (fault !== undefined) report.add(path, fault);
      if (/(^|\.)svc\.cluster\.local$/.test(host))
        report.add(path, 'names below svc.cluster.local belong to the namespace in them', 'FieldValueForbidden');
      if (owners.has(host)) report.add(path, `${host} is given to ${owners.get(host)} already`, 'FieldValueDuplicate');
      owners.set(host, rule.namespace);
    }
  }
}
