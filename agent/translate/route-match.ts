import type { StringMatch } from '../mesh-view/specs/common.ts';
import type { HttpMatch } from '../mesh-view/specs/virtual-service.ts';
import { compact, type JsonObject } from './json.ts';

/** Envoy's match of one HTTPMatchRequest; without one, everything. What does not depend on the request was decided before. */
export function routeMatch(match: HttpMatch | undefined): JsonObject {
  if (match === undefined) return { prefix: '/' };
  const headers = [
    ...pseudo(':method', match.method),
    ...pseudo(':authority', match.authority),
    ...pseudo(':scheme', match.scheme),
    ...Object.entries(match.headers ?? {}).map(([name, value]) => headerMatch(name, value)),
    ...Object.entries(match.withoutHeaders ?? {}).map(([name, value]) => withoutHeader(name, value)),
  ];
  const query = Object.entries(match.queryParams ?? {}).map(([name, value]) => {
    const test = stringMatch(value);
    return test === undefined ? { name, present_match: true } : { name, string_match: test };
  });
  return compact({
    ...path(match.uri),
    case_sensitive: match.ignoreUriCase === true ? false : undefined,
    headers: headers.length === 0 ? undefined : headers,
    query_parameters: query.length === 0 ? undefined : query,
  });
}

function path(uri: StringMatch | undefined): JsonObject {
  if (uri?.exact !== undefined) return { path: uri.exact };
  if (uri?.regex !== undefined) return { safe_regex: { regex: uri.regex } };
  return { prefix: uri?.prefix === undefined || uri.prefix === '' ? '/' : uri.prefix };
}

/** StringMatch as Envoy's StringMatcher; undefined when it is empty or `.*`, which means: present, whatever its value. */
export function stringMatch(match: StringMatch): JsonObject | undefined {
  if (match.exact !== undefined) return { exact: match.exact };
  if (match.prefix !== undefined && match.prefix !== '') return { prefix: match.prefix };
  if (match.regex !== undefined && match.regex !== '.*') return { safe_regex: { regex: match.regex } };
  return undefined;
}

function pseudo(name: string, match: StringMatch | undefined): JsonObject[] {
  return match === undefined ? [] : [headerMatch(name, match)];
}

function headerMatch(name: string, match: StringMatch): JsonObject {
  const test = stringMatch(match);
  return test === undefined ? { name, present_match: true } : { name, string_match: test };
}

/** Istio: the request must not carry the header with such a value; a request without the header passes. */
function withoutHeader(name: string, match: StringMatch): JsonObject {
  const test = stringMatch(match);
  if (test === undefined) return { name, present_match: true, invert_match: true };
  return { name, string_match: test, invert_match: true, treat_missing_header_as_empty: true };
}
