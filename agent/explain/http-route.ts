import type { HttpCall, Origin, Step, WhyQuery } from '../../api/http/host-query.ts';
import { type ObjectKey, objectKey } from '../../api/resources/object.ts';
import { at, type Body, listOf, textOf, textsOf } from './envoy-json.ts';
import { findRoute, findVirtualHost, matchWords, originOf, targetOf, targetWords } from './route.ts';
import { faultOf, routeDetails } from './route-words.ts';
import { byObjects, type Found, stepOf, type Way, type WhySources, words } from './sources.ts';

/** Virtual host and route of a request, by the table that an HTTP connection manager has. */
export async function httpRoute(
  query: WhyQuery,
  manager: Body,
  secure: boolean,
  sources: WhySources,
): Promise<Found<Way>> {
  const name = textOf(at(manager, 'rds'), 'route_config_name');
  const config = name === '' ? at(manager, 'route_config') : await sources.envoy.route(name);
  if (config === undefined)
    return { step: stepOf('route', 'stop', `Envoy waits for the route table ${name}: requests get 404`) };
  const http = callOf(query, secure, manager);
  const served = sources.served('route', name);
  const host = findVirtualHost(config, http.authority);
  if (host === undefined)
    return { step: stepOf('route', 'stop', `no virtual host for ${http.authority}: 404`, [], words(served.refused)) };
  const hostName = textOf(host.virtualHost, 'name');
  if (textOf(host.virtualHost, 'require_tls') === 'ALL' && !secure)
    return {
      step: stepOf('route', 'ok', `${hostName} redirects (301) to https`, gatewaysOf(host.virtualHost)),
      found: { clusters: [], http },
    };
  const found = findRoute(host.virtualHost, http);
  const place = `route table ${name || '(inline)'}, virtual host ${hostName} (by ${host.domain})`;
  if (found === undefined) return { step: noRoute(host.virtualHost, http, [place, ...words(served.refused)]) };
  const { route, index } = found;
  const target = targetOf(route);
  const origin = originOf(route);
  const owner = origin ?? serviceOrigin(hostName, served.origins);
  const fault = faultOf(route);
  const details = [
    place,
    `matches ${matchWords(at(route, 'match'))}`,
    ...found.perhaps.map((one) => `route ${one.index} may take it first: ${one.why}`),
    ...routeDetails(route),
    ...words(served.refused),
  ];
  const label = `route ${index}${textOf(route, 'name') === '' ? '' : ` (${textOf(route, 'name')})`}`;
  const by = [...(owner === undefined ? [] : [owner]), ...gatewaysOf(host.virtualHost)];
  if (fault?.always === true)
    return { step: stepOf('route', 'stop', `${label}: fault injection ${fault.words}`, by, details) };
  if (target.kind === 'answer' || target.kind === 'redirect') {
    const verdict = target.kind === 'answer' && target.status >= 400 ? 'stop' : 'ok';
    return {
      step: stepOf('route', verdict, `${label} ${targetWords(target)}`, by, details),
      found: { clusters: [], http },
    };
  }
  if (target.kind === 'unknown') return { step: stepOf('route', 'unsure', `${label}: ${target.why}`, by, details) };
  const unsure = found.perhaps.length > 0;
  const step = stepOf('route', unsure ? 'unsure' : 'ok', `${label}, to ${targetWords(target)}`, by, details);
  return { step, found: { clusters: target.clusters, route, http, ...(owner === undefined ? {} : { origin: owner }) } };
}

/** Gateways whose servers have the virtual host (translate/gateway-route.ts): `NAMESPACE/NAME:SERVER`. */
function gatewaysOf(virtualHost: Body): Origin[] {
  const servers = textsOf(at(virtualHost, 'metadata', 'filter_metadata', 'hostmesh'), 'servers');
  return [...new Set(servers.map((server) => server.replace(/:.*$/, '')))].map((name) => ({
    object: `Gateway/${name}`,
  }));
}

/** Without a VirtualService the service itself is behind the route. */
function serviceOrigin(virtualHost: string, origins: readonly ObjectKey[]): Origin | undefined {
  const found = /^([^.]+)\.([^.]+)\.svc\.cluster\.local:\d+$/.exec(virtualHost);
  if (found !== null) return { object: objectKey('Service', found[2], found[1] as string) };
  const entries = origins.filter((key) => key.startsWith('ServiceEntry/'));
  return entries.length === 1 ? { object: entries[0] as string } : undefined;
}

function callOf({ to, port, method, path, headers }: WhyQuery, secure: boolean, manager: Body): HttpCall {
  const { host, ':authority': authority, ...others } = headers;
  const name = to.includes(':') ? `[${to}]` : to;
  return {
    authority: authority ?? host ?? (port === (secure ? 443 : 80) ? name : `${name}:${port}`),
    method,
    path,
    headers: { ...others, ...introduced(manager) },
  };
}

/** Headers that the connection manager itself writes before it looks for a route (translate/caller.ts): those whose values are known. */
function introduced(manager: Body): Record<string, string> {
  const written = listOf(manager, 'early_header_mutation_extensions')
    .flatMap((extension) => listOf(at(extension, 'typed_config'), 'mutations'))
    .map((mutation) => at(mutation, 'append', 'header'))
    .map((header) => [textOf(header, 'key'), textOf(header, 'value')] as const)
    .filter(([key, value]) => key !== '' && !value.includes('%'));
  return Object.fromEntries(written);
}

function noRoute(virtualHost: Body, { method, path }: HttpCall, details: readonly string[]): Step {
  const routes = listOf(virtualHost, 'routes');
  const origins = [...new Set(routes.map((route) => originOf(route)?.object).filter((key) => key !== undefined))];
  const asked = routes.map((route, i) => `route ${i} asks for ${matchWords(at(route, 'match'))}`).slice(0, 20);
  const summary = `no route of ${textOf(virtualHost, 'name')} takes ${method} ${path}: 404`;
  return stepOf('route', 'stop', summary, byObjects(origins), [...details, ...asked]);
}
