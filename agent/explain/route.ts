import type { HttpCall, Origin } from '../../api/http/host-query.ts';
import { at, type Body, listOf, maybe, numberOf, textOf, textsOf } from './envoy-json.ts';
import { all, headerMatches, regexMatches, replaceRegex, stringMatches, stringWords, type Truth } from './matchers.ts';

export interface VirtualHostFound {
  readonly virtualHost: Body;
  /** The domain that took it. */
  readonly domain: string;
}

/** The virtual host of an authority: exact, longest `*suffix`, longest `prefix*`, `*`. Source: config.route.v3.VirtualHost.domains. */
export function findVirtualHost(routes: Body, authority: string): VirtualHostFound | undefined {
  const host = (
    routes.ignore_port_in_host_matching === true ? authority.replace(/:\d+$/, '') : authority
  ).toLowerCase();
  let best: { score: number; found: VirtualHostFound } | undefined;
  for (const virtualHost of listOf(routes, 'virtual_hosts')) {
    for (const domain of textsOf(virtualHost, 'domains')) {
      const score = domainScore(domain.toLowerCase(), host);
      if (score !== undefined && score > (best?.score ?? -1)) best = { score, found: { virtualHost, domain } };
    }
  }
  return best?.found;
}

const KINDS_APART = 100_000;

function domainScore(domain: string, host: string): number | undefined {
  if (domain === host) return 3 * KINDS_APART;
  if (domain === '*') return 0;
  if (domain.startsWith('*'))
    return host.endsWith(domain.slice(1)) && host.length >= domain.length ? 2 * KINDS_APART + domain.length : undefined;
  if (domain.endsWith('*') && host.startsWith(domain.slice(0, -1)) && host.length >= domain.length)
    return KINDS_APART + domain.length;
  return undefined;
}

export interface RouteFound {
  readonly route: Body;
  readonly index: number;
  /** Earlier routes that may take the request as well: what they ask for cannot be known beforehand. */
  readonly perhaps: readonly { readonly index: number; readonly why: string }[];
}

/** The first route that matches. */
export function findRoute(virtualHost: Body, call: HttpCall): RouteFound | undefined {
  const perhaps: { index: number; why: string }[] = [];
  for (const [index, route] of listOf(virtualHost, 'routes').entries()) {
    const match = at(route, 'match');
    const truth = routeMatches(match, call);
    if (truth === true) return { route, index, perhaps };
    if (truth === undefined) perhaps.push({ index, why: matchWords(match) });
  }
  return undefined;
}

/** config.route.v3.RouteMatch. */
export function routeMatches(match: Body, call: HttpCall): Truth {
  const [path = '', query = ''] = splitOnce(call.path, '?');
  return all([
    pathMatches(match, path, call.method),
    ...listOf(match, 'headers').map((matcher) => headerMatches(matcher, headerOf(call, textOf(matcher, 'name')))),
    ...listOf(match, 'query_parameters').map((matcher) => queryMatches(matcher, new URLSearchParams(query))),
    maybe(match, 'grpc') === undefined ? true : /^application\/grpc($|[+;])/.test(call.headers['content-type'] ?? ''),
    // By chance, or by what the connection brought.
    fractionMatches(maybe(match, 'runtime_fraction')),
    ...['tls_context', 'dynamic_metadata', 'filter_state', 'cookies'].map((key) => (key in match ? undefined : true)),
  ]);
}

function fractionMatches(fraction: Body | undefined): Truth {
  if (fraction === undefined) return true;
  const value = at(fraction, 'default_value');
  const share = percentOf(value);
  return share >= 100 ? true : share <= 0 ? false : undefined;
}

/** envoy.type.v3.FractionalPercent, in percent. */
export function percentOf(fraction: Body): number {
  const of = { HUNDRED: 100, TEN_THOUSAND: 10_000, MILLION: 1_000_000 }[textOf(fraction, 'denominator') || 'HUNDRED'];
  return ((numberOf(fraction, 'numerator') ?? 0) * 100) / (of ?? 100);
}

function pathMatches(match: Body, path: string, method: string): Truth {
  const fold = match.case_sensitive === false;
  const text = fold ? path.toLowerCase() : path;
  const want = (key: string) => (fold ? textOf(match, key).toLowerCase() : textOf(match, key));
  if (typeof match.prefix === 'string') return text.startsWith(want('prefix'));
  if (typeof match.path === 'string') return text === want('path');
  if (typeof match.path_separated_prefix === 'string') {
    const prefix = want('path_separated_prefix');
    return text === prefix || text.startsWith(`${prefix}/`);
  }
  const regex = maybe(match, 'safe_regex');
  if (regex !== undefined) return regexMatches(textOf(regex, 'regex'), path);
  if ('connect_matcher' in match) return method === 'CONNECT';
  return 'path_match_policy' in match ? undefined : true;
}

/** A header or pseudo-header. */
export function headerOf(call: HttpCall, name: string): string | undefined {
  switch (name.toLowerCase()) {
    case ':method':
      return call.method;
    case ':path':
      return call.path;
    case ':authority':
    case 'host':
      return call.authority;
    case ':scheme':
      return call.headers[':scheme'] ?? 'http';
    default:
      return call.headers[name.toLowerCase()];
  }
}

function queryMatches(matcher: Body, query: URLSearchParams): Truth {
  const value = query.get(textOf(matcher, 'name'));
  const present = matcher.present_match;
  if (typeof present === 'boolean') return (value !== null) === present;
  const string = maybe(matcher, 'string_match');
  if (string === undefined) return value !== null;
  return value === null ? false : stringMatches(string, value);
}

/** What a route asks of a request, for people. */
export function matchWords(match: Body): string {
  const regex = maybe(match, 'safe_regex');
  const path =
    typeof match.prefix === 'string'
      ? `${match.prefix}*`
      : typeof match.path === 'string'
        ? match.path
        : typeof match.path_separated_prefix === 'string'
          ? `${match.path_separated_prefix}[/*]`
          : regex !== undefined
            ? `~ ${textOf(regex, 'regex')}`
            : 'connect_matcher' in match
              ? 'CONNECT'
              : '/*';
  const more = [
    ...listOf(match, 'headers').map(headerWords),
    ...listOf(match, 'query_parameters').map((one) => `?${textOf(one, 'name')} ${testWords(one)}`.trimEnd()),
    ...('runtime_fraction' in match ? [`${percentOf(at(match, 'runtime_fraction', 'default_value'))} % of them`] : []),
    ...('grpc' in match ? ['gRPC'] : []),
  ];
  return [path, ...more].join('; ');
}

function headerWords(matcher: Body): string {
  const no = matcher.invert_match === true ? 'not ' : '';
  return `${no}${textOf(matcher, 'name')} ${testWords(matcher)}`.trimEnd();
}

function testWords(matcher: Body): string {
  if (typeof matcher.present_match === 'boolean') return matcher.present_match ? 'present' : 'absent';
  const string = maybe(matcher, 'string_match');
  return string === undefined ? '' : stringWords(string);
}

/** Where a route goes, without looking further. `share` in percent. */
export type RouteTarget =
  | {
      readonly kind: 'clusters';
      readonly clusters: readonly { readonly name: string; readonly share: number; readonly body: Body }[];
    }
  | { readonly kind: 'answer'; readonly status: number }
  | { readonly kind: 'redirect'; readonly status: number; readonly to: string }
  | { readonly kind: 'unknown'; readonly why: string };

export function targetOf(route: Body): RouteTarget {
  const direct = maybe(route, 'direct_response');
  if (direct !== undefined) return { kind: 'answer', status: numberOf(direct, 'status') ?? 200 };
  const redirect = maybe(route, 'redirect');
  if (redirect !== undefined) return redirectOf(redirect);
  const action = at(route, 'route');
  if (typeof action.cluster === 'string')
    return { kind: 'clusters', clusters: [{ name: action.cluster, share: 100, body: {} }] };
  return weightedOf(action);
}

/** `weighted_clusters` of a route or of a TCP proxy, or its one `cluster`. */
export function weightedOf(action: Body): RouteTarget {
  if (typeof action.cluster === 'string')
    return { kind: 'clusters', clusters: [{ name: action.cluster, share: 100, body: {} }] };
  const weighted = listOf(at(action, 'weighted_clusters'), 'clusters');
  if (weighted.length === 0) return { kind: 'unknown', why: 'its cluster is chosen by the request itself' };
  const total = weighted.reduce((sum, one) => sum + (numberOf(one, 'weight') ?? 0), 0);
  return {
    kind: 'clusters',
    clusters: weighted
      .filter((one) => (numberOf(one, 'weight') ?? 0) > 0)
      .map((one) => ({
        name: textOf(one, 'name'),
        share: Math.round(((numberOf(one, 'weight') ?? 0) * 1000) / Math.max(1, total)) / 10,
        body: one,
      })),
  };
}

const REDIRECTS: Readonly<Record<string, number>> = {
  MOVED_PERMANENTLY: 301,
  FOUND: 302,
  SEE_OTHER: 303,
  TEMPORARY_REDIRECT: 307,
  PERMANENT_REDIRECT: 308,
};

function redirectOf(redirect: Body): RouteTarget {
  const scheme = textOf(redirect, 'scheme_redirect') || (redirect.https_redirect === true ? 'https' : '');
  const port = numberOf(redirect, 'port_redirect');
  const to = `${scheme === '' ? '' : `${scheme}://`}${textOf(redirect, 'host_redirect')}${port === undefined ? '' : `:${port}`}${textOf(redirect, 'path_redirect') || textOf(redirect, 'prefix_rewrite')}`;
  return { kind: 'redirect', status: REDIRECTS[textOf(redirect, 'response_code') || 'MOVED_PERMANENTLY'] ?? 301, to };
}

/** Where a target leads, for people. */
export function targetWords(target: RouteTarget): string {
  switch (target.kind) {
    case 'answer':
      return `answers ${target.status}`;
    case 'redirect':
      return `redirects (${target.status}) to ${target.to}`;
    case 'unknown':
      return target.why;
    case 'clusters': {
      const [only, ...others] = target.clusters;
      if (only === undefined) return 'no cluster';
      return others.length === 0
        ? only.name
        : target.clusters.map(({ name, share }) => `${share} % ${name}`).join(', ');
    }
  }
}

/** The object and field that a route was written in (translate/route.ts). */
export function originOf(route: Body): Origin | undefined {
  const written = at(route, 'metadata', 'filter_metadata', 'hostmesh');
  const object = textOf(written, 'origin');
  return object === '' ? undefined : { object, path: textOf(written, 'path') };
}

/** The request as it leaves by the route: rewritten path and authority. */
export function rewritten(call: HttpCall, route: Body, chosen: Body): HttpCall {
  const action = at(route, 'route');
  const authority = textOf(chosen, 'host_rewrite_literal') || textOf(action, 'host_rewrite_literal') || call.authority;
  return { ...call, authority, path: rewrittenPath(call.path, at(route, 'match'), action) };
}

function rewrittenPath(path: string, match: Body, action: Body): string {
  const prefix = textOf(action, 'prefix_rewrite');
  if (prefix !== '') {
    const taken = textOf(match, 'prefix') || textOf(match, 'path_separated_prefix') || textOf(match, 'path');
    return prefix + path.slice(taken.length);
  }
  const regex = maybe(action, 'regex_rewrite');
  if (regex === undefined) return path;
  const [bare = '', query] = splitOnce(path, '?');
  const made = replaceRegex(textOf(at(regex, 'pattern'), 'regex'), bare, textOf(regex, 'substitution'));
  return query === undefined ? made : `${made}?${query}`;
}

function splitOnce(text: string, by: string): [string, string | undefined] {
  const place = text.indexOf(by);
  return place < 0 ? [text, undefined] : [text.slice(0, place), text.slice(place + 1)];
}
