import { checkInteger } from '../formats.ts';
import { childPath, type Report, shown } from '../report.ts';

/** Istio's LocalityLoadBalancerSetting. */
export interface Locality {
  readonly distribute?: readonly { readonly from?: string; readonly to?: Readonly<Record<string, number>> }[];
  readonly failover?: readonly { readonly from?: string; readonly to?: string }[];
  readonly failoverPriority?: readonly string[];
}

const PLACE_LABELS = ['topology.kubernetes.io/region', 'topology.kubernetes.io/zone', 'topology.istio.io/subzone'];

/** localityLbSetting as Istio's ValidateLocalityLbSetting judges it. `outlier`: whether outlier detection stands beside it; absent: no matter. */
export function checkLocality(setting: Locality | undefined, path: string, report: Report, outlier = true): void {
  if (setting === undefined) return;
  const { distribute = [], failover = [], failoverPriority = [] } = setting;
  if (distribute.length > 0 && failover.length > 0)
    report.add(path, 'can not simultaneously specify distribute and failover');
  if (distribute.length > 0 && failoverPriority.length > 0)
    report.add(`${path}.failoverPriority`, 'has no effect beside distribute', 'FieldValueNotSupported');
  const place = failoverPriority.findIndex((label) => PLACE_LABELS.includes(label));
  if (failover.length > 0 && place >= 0) {
    const why = `can not simultaneously set failover and the topology label ${shown(failoverPriority[place])}`;
    report.add(`${path}.failoverPriority[${place}]`, why);
  }
  checkDistribute(distribute, path, report);
  checkFailover(failover, path, report);
  for (const [i, label] of failoverPriority.entries())
    if (label.split('=')[0] === '') report.required(`${path}.failoverPriority[${i}]`, 'a label must not be empty');
  if (failover.length + failoverPriority.length > 0 && !outlier)
    report.warn(path, 'outlier detection policy must be provided for failover: without it nothing fails over');
}

function checkDistribute(distribute: NonNullable<Locality['distribute']>, path: string, report: Report): void {
  const from = distribute.map((one) => one.from ?? '');
  checkPatterns(from, (i) => `${path}.distribute[${i}].from`, report);
  for (const [i, one] of distribute.entries()) {
    const at = `${path}.distribute[${i}].to`;
    const to = Object.entries(one.to ?? {});
    for (const [name, weight] of to) checkInteger(weight, childPath(at, name), report, 1, 100);
    const total = to.reduce((sum, [, weight]) => sum + weight, 0);
    if (total !== 100) report.add(at, `total locality weight ${total} != 100`);
    // A map has no order: the widest pattern is looked at last, where it takes what is left.
    const names = to.map(([name]) => name).sort((a, b) => Number(a.includes('*')) - Number(b.includes('*')));
    checkPatterns(names, (k) => childPath(at, names[k] as string), report);
  }
}

/** REGION[/ZONE[/SUBZONE]], a `*` at the very end at most; none that an earlier one covers or is covered by, a `*` after its like aside. */
function checkPatterns(patterns: readonly string[], pathOf: (index: number) => string, report: Report): void {
  for (const [i, pattern] of patterns.entries()) {
    const stars = pattern.split('*').length - 1;
    const parts = pattern.split('/');
    if (stars > 1 || (stars === 1 && !pattern.endsWith('*')))
      report.add(pathOf(i), `locality ${shown(pattern)}: one wildcard at most, at the end`);
    else if (parts.some((part) => part === '') || parts.length > 3)
      report.add(pathOf(i), `locality ${shown(pattern)} must be REGION[/ZONE[/SUBZONE]] without empty parts`);
    else if (patterns.slice(0, i).some((earlier) => overlap(earlier.split('/'), parts)))
      report.add(pathOf(i), `locality ${shown(pattern)} overlaps with one before it`);
  }
}

function overlap(earlier: readonly string[], later: readonly string[]): boolean {
  const common = Math.min(earlier.length, later.length);
  for (let at = 0; at < common; at++) {
    if (earlier[at] === '*') return true;
    if (earlier[at] !== later[at]) return false;
  }
  return true;
}

function checkFailover(failover: NonNullable<Locality['failover']>, path: string, report: Report): void {
  const seen = new Set<string>();
  for (const [i, { from = '', to = '' }] of failover.entries()) {
    const at = `${path}.failover[${i}]`;
    if (from === to) report.add(at, `locality failover settings must specify different regions: ${shown(from)}`);
    for (const [field, region] of Object.entries({ from, to })) {
      if (region.includes('/')) report.add(`${at}.${field}`, 'locality failover only specifies regions');
      if (region.includes('*')) report.add(`${at}.${field}`, 'a locality failover region must not contain a wildcard');
      if (region === '') report.required(`${at}.${field}`, 'a region');
    }
    if (seen.has(from)) report.add(`${at}.from`, `${shown(from)} fails over already`, 'FieldValueDuplicate');
    seen.add(from);
  }
}
