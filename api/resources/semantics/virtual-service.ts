import {
  checkExportTo,
  checkHeaderName,
  checkLabelName,
  checkLabels,
  checkPort,
  checkStringMatch,
  dnsNameFault,
  hostsMatch,
  hostWithin,
  ipVersion,
  parseCidr,
  REGEX_LIMITS,
  regexSize,
} from '../formats.ts';
import type { MeshObject } from '../object.ts';
import { regexesIn } from '../regexes.ts';
import { childPath, type Report, shown } from '../report.ts';
import { hasControls } from './header-values.ts';
import { checkHttpAction, type HttpRoute } from './http-route.ts';
import { checkWeights, type WeightedRoute } from './route-parts.ts';
import { httpCovers, l4Covers, warnShadowed } from './shadowed.ts';

type Strings = readonly string[];
type StringMatch = Readonly<Record<string, unknown>>;

/** What http, tcp and tls matches have in common, and the fields of tcp and tls. */
export interface L4Match {
  readonly destinationSubnets?: Strings;
  readonly sourceSubnet?: string;
  readonly sniHosts?: Strings;
  readonly port?: number;
  readonly sourceLabels?: Readonly<Record<string, string>>;
  readonly gateways?: Strings;
  readonly sourceNamespace?: string;
}

export interface HttpMatch extends L4Match {
  readonly headers?: Readonly<Record<string, StringMatch>>;
  readonly withoutHeaders?: Readonly<Record<string, StringMatch>>;
  readonly queryParams?: Readonly<Record<string, StringMatch>>;
  readonly uri?: StringMatch;
  readonly scheme?: StringMatch;
  readonly method?: StringMatch;
  readonly authority?: StringMatch;
  readonly ignoreUriCase?: boolean;
  readonly statPrefix?: string;
}

interface L4Route {
  readonly match?: readonly L4Match[];
  readonly route?: readonly WeightedRoute[];
}

export interface VirtualServiceSpec {
  readonly hosts?: Strings;
  readonly gateways?: Strings;
  readonly exportTo?: Strings;
  readonly http?: readonly (HttpRoute & { readonly match?: readonly HttpMatch[] })[];
  readonly tcp?: readonly L4Route[];
  readonly tls?: readonly L4Route[];
}

/** VirtualService by itself, as Istio's ValidateVirtualService judges it. Without hosts it is a delegate. */
export function checkVirtualService(object: MeshObject, report: Report): void {
  const spec = (object.spec ?? {}) as VirtualServiceSpec;
  const hosts = spec.hosts ?? [];
  const gateways = spec.gateways ?? [];
  const delegate = hosts.length === 0;
  checkGatewayNames(spec.gateways, 'spec.gateways', report);
  if (delegate) checkDelegate(spec, report);
  checkHosts(hosts, gateways.length === 0 || gateways.includes('mesh'), report);
  checkExportTo(spec.exportTo, 'spec.exportTo', report, object.metadata.namespace ?? '');
  const rules = [spec.http, spec.tcp, spec.tls];
  if (rules.every((list) => (list ?? []).length === 0)) {
    report.required('spec', 'http, tcp or tls must be provided in virtual service');
  }
  for (const [i, route] of (spec.http ?? []).entries()) checkHttpRoute(route, `spec.http[${i}]`, report, delegate);
  for (const [i, route] of (spec.tcp ?? []).entries()) checkL4Route(route, `spec.tcp[${i}]`, report, 'TCP');
  for (const [i, route] of (spec.tls ?? []).entries()) checkTlsRoute(route, `spec.tls[${i}]`, report, hosts);
  checkRegexes(spec.http ?? [], report);
  warnShadowed(spec.http ?? [], 'spec.http', report, httpCovers);
  warnShadowed(spec.tcp ?? [], 'spec.tcp', report, l4Covers);
  warnShadowed(spec.tls ?? [], 'spec.tls', report, l4Covers);
}

/**
 * A request is compared with each expression in turn, in the proxy that serves everyone of the host: 200 of a few hundred steps kept one
 * busy for 65 s with a single path of 60 KB, and took 600 MB (seen).
 */
function checkRegexes(http: readonly unknown[], report: Report): void {
  let steps = 0;
  for (const text of regexesIn(http)) {
    try {
      steps += regexSize(text);
    } catch {
      // said where it stands
    }
    if (steps <= REGEX_LIMITS.maxProgramsOfObject) continue;
    const most = REGEX_LIMITS.maxProgramsOfObject;
    const why = `the regular expressions of one VirtualService compile to at most ${most} steps together; use exact or prefix, or fewer`;
    report.add('spec.http', why, 'FieldValueTooLong');
    return;
  }
}

function checkDelegate(spec: VirtualServiceSpec, report: Report): void {
  if ((spec.gateways ?? []).length > 0)
    report.add(
      'spec.gateways',
      'a delegate virtual service (one without hosts) must have no gateways specified; others need at least one host',
    );
  for (const field of ['tls', 'tcp'] as const) {
    if ((spec[field] ?? []).length > 0)
      report.add(
        `spec.${field}`,
        `a delegate virtual service (one without hosts) must have no ${field} route specified; others need at least one host`,
      );
  }
}

/** Hosts are compared in pairs: more than these in one object would stall whoever validates it. */
const MAX_HOSTS = 1000;

function checkHosts(hosts: Strings, inMesh: boolean, report: Report): void {
  if (hosts.length > MAX_HOSTS) {
    report.add('spec.hosts', `has ${hosts.length} hosts; at most ${MAX_HOSTS} are allowed`, 'FieldValueTooLong');
    return;
  }
  for (const [i, host] of hosts.entries()) {
    const path = `spec.hosts[${i}]`;
    if (host === '*' && inMesh) {
      report.add(path, 'wildcard host * is not allowed for virtual services bound to the mesh gateway');
    } else if (ipVersion(host) === 0) {
      const fault = dnsNameFault(host, true);
      if (fault !== undefined) report.add(path, fault);
    }
    const earlier = hosts.slice(0, i).find((other) => hostsMatch(other, host));
    if (earlier !== undefined)
      report.add(path, `duplicate hosts in virtual service: ${earlier} & ${host}`, 'FieldValueDuplicate');
  }
}

function checkGatewayNames(names: Strings | undefined, path: string, report: Report): void {
  for (const [i, name] of (names ?? []).entries()) {
    const parts = name.split('/');
    const fault = parts.length > 2 ? 'must be NAMESPACE/NAME or NAME' : undefined;
    if (fault !== undefined) report.add(`${path}[${i}]`, `gateway ${shown(name)} ${fault}`);
    else if (parts.length === 2) {
      checkLabelName(parts[0], `${path}[${i}]`, report, 'gateway namespace');
      checkGatewayName(parts[1] ?? '', `${path}[${i}]`, report);
    } else checkGatewayName(name, `${path}[${i}]`, report);
  }
}

function checkGatewayName(name: string, path: string, report: Report): void {
  const fault = dnsNameFault(name, false);
  if (fault !== undefined) report.add(path, `gateway name ${fault}`);
}

function checkHttpRoute(
  route: HttpRoute & { readonly match?: readonly HttpMatch[] },
  path: string,
  report: Report,
  delegate: boolean,
): void {
  const merged = delegate || route.delegate !== undefined;
  for (const [i, match] of (route.match ?? []).entries()) checkHttpMatch(match, `${path}.match[${i}]`, report, merged);
  checkHttpAction(route, path, report, delegate);
  checkWeights(route.route, `${path}.route`, report);
}

/** `merged`: the match is compared with another when a root and its delegate are put together, which no regex can be. */
function checkHttpMatch(match: HttpMatch, path: string, report: Report, merged: boolean): void {
  const check = (value: StringMatch | undefined, at: string) => {
    if (merged && value?.regex !== undefined)
      report.add(`${at}.regex`, 'a match does not support regex where a virtual service delegates or is a delegate');
    checkStringMatch(value, at, report);
  };
  for (const field of ['uri', 'scheme', 'method', 'authority'] as const) check(match[field], `${path}.${field}`);
  for (const field of ['headers', 'withoutHeaders', 'queryParams'] as const) {
    for (const [name, value] of Object.entries(match[field] ?? {})) {
      const at = childPath(`${path}.${field}`, name);
      if (field !== 'queryParams') checkMatchedHeader(name, at, report);
      else if (name === '') report.required(at, 'a query parameter name must not be empty');
      check(value, at);
    }
  }
  if (match.statPrefix !== undefined && hasControls(match.statPrefix))
    report.add(`${path}.statPrefix`, 'must not hold control characters');
  checkL4Match(match, path, report);
}

const CLAIM = /^@request\.auth\.claims[.[]/;

function checkMatchedHeader(name: string, path: string, report: Report): void {
  if (CLAIM.test(name))
    report.add(path, 'not supported: JWT claim based routing is for gateways only', 'FieldValueNotSupported');
  else checkHeaderName(name, path, report);
  if (['uri', 'scheme', 'method', 'authority'].includes(name))
    report.warn(
      path,
      `matches a header that is called ${name}; the request's own ${name} is the match's field ${name}`,
    );
}

function checkL4Match(match: L4Match, path: string, report: Report): void {
  for (const [i, subnet] of (match.destinationSubnets ?? []).entries()) {
    if (parseCidr(subnet) === undefined)
      report.add(`${path}.destinationSubnets[${i}]`, `${shown(subnet)} is not an IP address or a CIDR`);
  }
  if (match.sourceSubnet !== undefined && parseCidr(match.sourceSubnet) === undefined)
    report.add(`${path}.sourceSubnet`, `${shown(match.sourceSubnet)} is not an IP address or a CIDR`);
  checkPort(match.port, `${path}.port`, report);
  checkLabels(match.sourceLabels, `${path}.sourceLabels`, report);
  checkGatewayNames(match.gateways, `${path}.gateways`, report);
  checkLabelName(match.sourceNamespace, `${path}.sourceNamespace`, report, 'source namespace');
}

function checkL4Route(route: L4Route, path: string, report: Report, what: string): void {
  for (const [i, match] of (route.match ?? []).entries()) checkL4Match(match, `${path}.match[${i}]`, report);
  if ((route.route ?? []).length === 0) report.required(`${path}.route`, `${what} route is required`);
  checkWeights(route.route, `${path}.route`, report);
}

function checkTlsRoute(route: L4Route, path: string, report: Report, hosts: Strings): void {
  if ((route.match ?? []).length === 0)
    report.required(`${path}.match`, 'TLS route must have at least one match condition');
  for (const [i, match] of (route.match ?? []).entries()) {
    const at = `${path}.match[${i}].sniHosts`;
    if ((match.sniHosts ?? []).length === 0) report.required(at, 'TLS match must have at least one SNI host');
    for (const [k, sni] of (match.sniHosts ?? []).entries()) {
      if (ipVersion(sni) !== 0) {
        report.warn(
          `${at}[${k}]`,
          `using an IP address (${shown(sni)}) goes against the SNI spec: most clients send none`,
        );
        continue;
      }
      const fault = sni === '*' ? undefined : sniFault(sni);
      if (fault !== undefined) report.add(`${at}[${k}]`, fault);
      else if (!hosts.some((host) => hostWithin(sni, host)))
        report.add(
          `${at}[${k}]`,
          `SNI host ${shown(sni)} is not a compatible subset of the virtual service hosts: ${hosts.join(', ')}`,
        );
    }
  }
  checkL4Route(route, path, report, 'TLS');
}

/** A name that a filter chain can be chosen by: a wildcard is a whole label, or Envoy refuses it. */
function sniFault(sni: string): string | undefined {
  const fault = dnsNameFault(sni, true);
  if (fault !== undefined) return fault;
  return sni.startsWith('*') && !sni.startsWith('*.')
    ? `${shown(sni)}: in an SNI host * must be a label by itself`
    : undefined;
}
