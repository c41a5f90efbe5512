import { RE2JS } from 're2js';
import { cidrsOverlap, parseCidr } from '../cidr.ts';
import { LABEL } from '../identity/spiffe-id.ts';
import { type Report, shown } from './report.ts';

export { cidrsOverlap, ipBytes, ipVersion, parseCidr, parseIp6 } from '../cidr.ts';

/**
 * The small formats inside Istio's kinds, each with the verdict of Istio's own validation (its API reference and the CEL rules of its
 * CRDs). Every check takes the value, its path and the report; absent values are fine unless the name says otherwise.
 */

/** Addresses that no object may send traffic to (DESIGN 3.2): they would reach the proxy's own host or nothing at all. */
const FORBIDDEN: readonly (readonly [string, string])[] = [
  ['127.0.0.0/8', 'loopback'],
  ['::1/128', 'loopback'],
  ['0.0.0.0/8', 'unspecified'],
  ['::/128', 'unspecified'],
  ['169.254.0.0/16', 'link-local'],
  ['fe80::/10', 'link-local'],
  ['224.0.0.0/4', 'multicast'],
  ['ff00::/8', 'multicast'],
  ['255.255.255.255/32', 'broadcast'],
  ['240.240.0.0/16', 'in the range of the mesh’s own virtual addresses'],
];

/** CIDRs of the addresses that no object may send traffic to, without the mesh's own IPv6 ranges. */
export const REFUSED_RANGES: readonly string[] = FORBIDDEN.map(([range]) => range);

/** Why no endpoint may have this address, or undefined. IPv4-mapped IPv6 addresses count as the IPv4 address inside. `vipRanges`: CIDRs besides 240.240.0.0/16. */
export function forbiddenAddress(text: string, vipRanges: readonly string[] = []): string | undefined {
  const cidr = parseCidr(text);
  if (cidr === undefined) return undefined;
  const candidates = [cidr];
  const { bytes, prefix } = cidr;
  const mapped =
    bytes.length === 16 && bytes.slice(0, 10).every((b) => b === 0) && bytes[10] === 255 && bytes[11] === 255;
  if (mapped) candidates.push({ bytes: bytes.slice(12), prefix: Math.max(0, prefix - 96) });
  const own = vipRanges.map((range) => [range, 'in the range of the mesh’s own virtual addresses'] as const);
  for (const [range, why] of [...FORBIDDEN, ...own]) {
    const block = parseCidr(range);
    // A wide CIDR such as 0.0.0.0/0 may contain a forbidden block; only one that lies inside, or is an address, names it.
    if (block !== undefined && candidates.some((one) => one.prefix >= block.prefix && cidrsOverlap(one, block)))
      return why;
  }
  return undefined;
}

/** Ports of the mesh itself (DESIGN 7): an endpoint there would let one namespace talk to the machinery of every host. */
export function isMeshPort(port: number): boolean {
  return (
    [15001, 15006, 15020, 15021, 15053, 15090, 15200, 15201, 15300].includes(port) || (port >= 15100 && port <= 15199)
  );
}

const DNS_LABEL = /^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$/;
const WILDCARD_LABEL = /^(\*|(\*-?)?[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)$/;

/** Why `host` is no DNS name (RFC 1123), with a wildcard in its first label where allowed; undefined when it is. */
export function dnsNameFault(host: string, wildcard: boolean): string | undefined {
  if (host === '') return 'must not be empty';
  if (host.length > 255) return 'is longer than 255 characters';
  const labels = host.replace(/\.$/, '').split('.');
  for (const [i, label] of labels.entries()) {
    const pattern = i === 0 && wildcard ? WILDCARD_LABEL : DNS_LABEL;
    if (label.length > 63 || !pattern.test(label))
      return `${shown(host)} is not a valid host name (label ${shown(label)})`;
  }
  if (labels.length > 1 && /^\d+$/.test(labels.at(-1) as string)) return `${shown(host)}: the last label is all digits`;
  return undefined;
}

/** True when hosts `a` and `b`, either perhaps with a wildcard, can name the same thing (Istio's host.Name.Matches). */
export function hostsMatch(a: string, b: string): boolean {
  const wildA = a.startsWith('*');
  const wildB = b.startsWith('*');
  const suffixA = a.slice(1);
  const suffixB = b.slice(1);
  if (wildA && wildB) return suffixA.endsWith(suffixB) || suffixB.endsWith(suffixA);
  if (wildA) return b.endsWith(suffixA);
  if (wildB) return a.endsWith(suffixB);
  return a === b;
}

/** True when everything that `inner` names is named by `outer` (host.Name.SubsetOf). */
export function hostWithin(inner: string, outer: string): boolean {
  if (outer.startsWith('*')) return (inner.startsWith('*') ? inner.slice(1) : inner).endsWith(outer.slice(1));
  return inner === outer;
}

export function checkPort(port: unknown, path: string, report: Report): void {
  if (port === undefined) return;
  if (!Number.isInteger(port) || (port as number) < 1 || (port as number) > 65535) {
    report.add(path, `port ${shown(port)} must be in the range 1 to 65535`);
  }
}

export function checkInteger(value: unknown, path: string, report: Report, min: number, max = 2 ** 31 - 1): void {
  if (value === undefined) return;
  if (!Number.isInteger(value) || (value as number) < min || (value as number) > max) {
    report.add(
      path,
      `must be a whole number from ${min}${max === 2 ** 31 - 1 ? '' : ` to ${max}`}, found ${shown(value)}`,
    );
  }
}

/** 0 to 100, fractions allowed. */
export function checkPercent(value: unknown, path: string, report: Report): void {
  if (value === undefined) return;
  if (typeof value !== 'number' || value < 0 || value > 100)
    report.add(path, `percentage ${shown(value)} is not in the range 0 to 100`);
}

/** Milliseconds of a duration as Go's time.ParseDuration reads it (`1h2m`, `1.5s`, `300ms`); undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  const unit: Record<string, number> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1, us: 1e-3, µs: 1e-3, ns: 1e-6 };
  if (text === '0') return 0;
  if (text.length > 64 || !/^[+-]?((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, amount, name] of text.matchAll(/(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)/g)) {
    total += Number(amount) * (unit[name as string] as number);
  }
  return text.startsWith('-') ? -total : total;
}

/** A duration of at least `minMs`, in whole milliseconds (Istio: "duration must be greater than 1ms", "only durations to ms precision"). */
export function checkDuration(value: unknown, path: string, report: Report, minMs = 1): void {
  if (value === undefined) return;
  const ms = typeof value === 'string' ? parseDuration(value) : undefined;
  if (ms === undefined) report.add(path, `${shown(value)} is not a duration such as 10s, 1m30s or 250ms`);
  else if (ms < minMs)
    report.add(path, minMs === 1 ? 'must be a valid duration of at least 1ms' : `must be at least ${minMs}ms`);
  else if (Math.abs(ms - Math.round(ms)) > 1e-6) report.add(path, 'only whole milliseconds are supported in durations');
  else if (ms > 315_576_000_000_000) report.add(path, 'the duration is longer than 10,000 years');
}

/** Bounds of an operator's regular expression; the proxies' limit on the program is above it. */
export const REGEX_LIMITS = { maxChars: 1024, maxProgram: 3000, maxProgramsOfObject: 10_000 } as const;

/** Sizes of programs by expression: who sums them up must not compile them twice. */
const programs = new Map<string, number>();

/** Steps of the program that a regular expression is compiled to. Throws what RE2 says of one that is none. */
export function regexSize(text: string): number {
  const known = programs.get(text);
  if (known !== undefined) return known;
  const size = RE2JS.compile(text).programSize();
  if (programs.size >= 2000) programs.clear();
  programs.set(text, size);
  return size;
}

/** RE2 syntax, as Envoy and Istio take it: no look-around, no back-references; size and repetition bounded. Empty is refused. */
export function checkRegex(value: unknown, path: string, report: Report): void {
  if (value === undefined) return;
  const text = String(value);
  if (text === '') {
    report.required(path, 'regex string match should not be empty');
    return;
  }
  if (text.length > REGEX_LIMITS.maxChars) {
    report.add(path, `the regular expression is longer than ${REGEX_LIMITS.maxChars} characters`, 'FieldValueTooLong');
    return;
  }
  try {
    const size = regexSize(text);
    if (size > REGEX_LIMITS.maxProgram) {
      report.add(
        path,
        `the regular expression compiles to ${size} steps; at most ${REGEX_LIMITS.maxProgram} are allowed`,
        'FieldValueTooLong',
      );
    }
  } catch (error) {
    const why = (error instanceof Error ? error.message : String(error)).replace(/^error parsing regexp: /, '');
    report.add(path, `the regular expression is not valid in RE2 syntax: ${why.slice(0, 200)}`);
  }
}

/** Istio's StringMatch: exactly one of exact, prefix, regex is the schema's concern; here their values. */
export function checkStringMatch(
  value: Readonly<Record<string, unknown>> | undefined,
  path: string,
  report: Report,
): void {
  if (value === undefined) return;
  if (value.prefix === '') report.required(`${path}.prefix`, 'prefix string match should not be empty');
  checkRegex(value.regex, `${path}.regex`, report);
}

/** A DNS label: subset, port and namespace names. */
export function checkLabelName(value: unknown, path: string, report: Report, what: string): void {
  if (value === undefined) return;
  if (value === '') report.required(path, `the ${what} must not be empty`);
  else if (typeof value !== 'string' || !LABEL.test(value.toLowerCase()))
    report.add(path, `${what} ${shown(value)} is not a valid DNS label: letters, digits and -, at most 63`);
}

const QUALIFIED =
  /^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

/** A label map (Kubernetes' syntax of keys and values). `selector` refuses wildcards by name, as Istio does. */
export function checkLabels(labels: unknown, path: string, report: Report): void {
  if (labels === undefined) return;
  for (const [key, value] of Object.entries(labels as Record<string, unknown>)) {
    if (key === '') report.required(path, 'a label key must not be empty');
    else if (key.length > 317 || !QUALIFIED.test(key))
      report.add(path, `label key ${shown(key)} is not valid: [PREFIX/]NAME`);
    if (typeof value !== 'string' || !LABEL_VALUE.test(value)) {
      report.add(
        path,
        `the value ${shown(value)} of label ${shown(key)} is not valid: letters, digits, -, _ and ., at most 63`,
      );
    }
  }
}

/** A workload selector's `matchLabels` or `labels`: a key and no wildcard (Istio: "wildcard not allowed in label key match"). */
export function checkSelector(labels: unknown, path: string, report: Report): void {
  for (const [key, value] of Object.entries((labels as Record<string, unknown> | undefined) ?? {})) {
    if (key.includes('*')) report.add(path, 'wildcard not supported in a selector’s label key');
    else if (typeof value === 'string' && value.includes('*'))
      report.add(path, 'wildcard not supported in a selector’s label value');
    else checkLabels({ [key]: value }, path, report);
  }
}

/** `exportTo`: `.`, `*`, `~` or namespaces; `*` and `~` alone (Istio's ValidateExportTo). */
export function checkExportTo(list: unknown, path: string, report: Report, namespace: string): void {
  const seen = new Set<string>();
  const entries = (list as readonly string[] | undefined) ?? [];
  for (const [i, entry] of entries.entries()) {
    const at = `${path}[${i}]`;
    if (!['.', '*', '~'].includes(entry)) checkLabelName(entry, at, report, 'namespace');
    const key = entry === '.' ? namespace : entry;
    if (seen.has(key)) report.add(at, `duplicate entry ${shown(entry)} in exportTo`, 'FieldValueDuplicate');
    seen.add(key);
  }
  if (entries.length > 1 && (seen.has('*') || seen.has('~'))) {
    report.add(path, 'cannot have * or ~ together with other entries in exportTo');
  }
}

export const HTTP_TOKEN = /^[-!#$%&'*+.^_`|~0-9A-Za-z]+$/;

/** Names of headers to match: any token, or a pseudo header. */
export function checkHeaderName(name: string, path: string, report: Report): void {
  if (name === '') report.required(path, 'a header name must not be empty');
  else if (!HTTP_TOKEN.test(name.replace(/^:/, '')) && !/^@request\.auth\.claims/.test(name)) {
    report.add(path, `header name ${shown(name)} is not a valid header name`);
  }
}
