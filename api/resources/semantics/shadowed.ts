import type { Report } from '../report.ts';
import type { HttpMatch, L4Match } from './virtual-service.ts';

type StringMatch = Readonly<Record<string, unknown>>;

interface Rule<M> {
  readonly match?: readonly M[];
}

/** Matches are compared in pairs: beyond this many in one list the comparison would stall whoever validates it. */
const MAX_COMPARED = 1000;

/**
 * Warns of rules and matches of one list that nothing can reach, since an earlier match takes all that they would (Istio's
 * VirtualServiceUnreachableRule and VirtualServiceIneffectiveMatch). `path` is the list's. `covers`: the first takes all that the second does.
 */
export function warnShadowed<M>(
  rules: readonly Rule<M>[],
  path: string,
  report: Report,
  covers: (earlier: M, later: M) => boolean,
): void {
  const seen: { readonly at: string; readonly match: M | undefined }[] = [];
  for (const [i, rule] of rules.entries()) {
    const at = `${path}[${i}]`;
    const matches: readonly (M | undefined)[] = (rule.match ?? []).length === 0 ? [undefined] : (rule.match ?? []);
    const hidden = matches.map((match) => {
      const all = seen.find((one) => one.match === undefined);
      if (all !== undefined || match === undefined || seen.length > MAX_COMPARED) return all;
      return seen.find((one) => one.match !== undefined && covers(one.match, match));
    });
    const whole = hidden.every((one) => one !== undefined);
    if (whole) report.warn(at, `is never used: ${reason(hidden[0], matches.length)}`);
    for (const [k, one] of whole ? [] : hidden.entries()) {
      if (one !== undefined) report.warn(`${at}.match[${k}]`, `is never used: ${reason(one, 1)}`);
    }
    for (const [k, match] of matches.entries()) {
      if (hidden[k] === undefined) seen.push({ at: match === undefined ? at : `${at}.match[${k}]`, match });
    }
  }
}

function reason(by: { at: string; match: unknown } | undefined, matches: number): string {
  if (by?.match === undefined) return `${by?.at} before it has no match and takes everything`;
  return matches === 1
    ? `${by.at} before it takes all that it would`
    : 'matches of rules before it take all that it would';
}

/** True when the earlier HTTP match takes every request that the later one would. Careful: of what it cannot tell it says no. */
export function httpCovers(earlier: HttpMatch, later: HttpMatch): boolean {
  const { headers, queryParams, withoutHeaders } = earlier;
  return (
    uriCovers(earlier, later) &&
    (['scheme', 'method', 'authority'] as const).every((part) => takes(earlier[part], later[part])) &&
    everyEntry(headers, (name, value) => takes(value, later.headers?.[name])) &&
    everyEntry(queryParams, (name, value) => takes(value, later.queryParams?.[name])) &&
    everyEntry(withoutHeaders, (name, value) => sameMatch(value, later.withoutHeaders?.[name])) &&
    sourceCovers(earlier, later)
  );
}

function uriCovers(earlier: HttpMatch, later: HttpMatch): boolean {
  const first = earlier.uri;
  if (first === undefined || Object.keys(first).length === 0 || first.prefix === '/') return true;
  if (later.uri === undefined) return false;
  if (earlier.ignoreUriCase !== true) return later.ignoreUriCase !== true && takes(first, later.uri);
  if (first.regex !== undefined || later.uri.regex !== undefined) return sameMatch(first, later.uri);
  return takes(lowered(first), lowered(later.uri));
}

function lowered(match: StringMatch): StringMatch {
  return Object.fromEntries(Object.entries(match).map(([how, value]) => [how, String(value).toLowerCase()]));
}

/** True when every value that `later` admits is one that `earlier` admits. An empty match is presence; an absent one admits absence too. */
function takes(earlier: StringMatch | undefined, later: StringMatch | undefined): boolean {
  if (earlier === undefined) return true;
  if (later === undefined) return false;
  if (Object.keys(earlier).length === 0) return true;
  if (earlier.prefix !== undefined) {
    const start = later.exact ?? later.prefix;
    return typeof start === 'string' && start.startsWith(String(earlier.prefix));
  }
  return sameMatch(earlier, later);
}

function sameMatch(a: StringMatch, b: StringMatch | undefined): boolean {
  return b !== undefined && (['exact', 'prefix', 'regex'] as const).every((how) => a[how] === b[how]);
}

function everyEntry(
  map: Readonly<Record<string, StringMatch>> | undefined,
  test: (name: string, value: StringMatch) => boolean,
): boolean {
  return Object.entries(map ?? {}).every(([name, value]) => test(name, value));
}

function sourceCovers(earlier: L4Match, later: L4Match): boolean {
  const within = (all: readonly string[] | undefined, some: readonly string[] | undefined) =>
    (all ?? []).length === 0 || ((some ?? []).length > 0 && (some ?? []).every((one) => all?.includes(one)));
  return (
    (!earlier.port || earlier.port === later.port) &&
    (!earlier.sourceNamespace || earlier.sourceNamespace === later.sourceNamespace) &&
    Object.entries(earlier.sourceLabels ?? {}).every(([key, value]) => later.sourceLabels?.[key] === value) &&
    within(earlier.gateways, later.gateways)
  );
}

/** The same for tcp and tls matches. Of names the most specific decides, not the first: only the same names hide a match. */
export function l4Covers(earlier: L4Match, later: L4Match): boolean {
  const names = (later.sniHosts ?? []).every((name) => earlier.sniHosts?.includes(name));
  const subnets = (later.destinationSubnets ?? []).every((one) => earlier.destinationSubnets?.includes(one));
  const anywhere = (earlier.destinationSubnets ?? []).length === 0 && (earlier.sniHosts ?? []).length === 0;
  const somewhere = (later.destinationSubnets ?? []).length > 0 || (earlier.destinationSubnets ?? []).length === 0;
  return sourceCovers(earlier, later) && (anywhere || (names && subnets && somewhere));
}
