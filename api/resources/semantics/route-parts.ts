import { checkHeaderName, checkInteger, checkLabelName, checkPort, dnsNameFault, ipVersion } from '../formats.ts';
import { childPath, type Report, shown } from '../report.ts';
import { checkHeaderValue, hasControls } from './header-values.ts';

type Strings = readonly string[];

export interface Destination {
  readonly host?: string;
  readonly subset?: string;
  readonly port?: { readonly number?: number };
}

export interface WeightedRoute {
  readonly destination?: Destination;
  readonly weight?: number;
  readonly headers?: HeaderOperations;
}

export interface HeaderOperations {
  readonly request?: HeaderOperation;
  readonly response?: HeaderOperation;
}

interface HeaderOperation {
  readonly set?: Readonly<Record<string, string>>;
  readonly add?: Readonly<Record<string, string>>;
  readonly remove?: Strings;
}

/** Destinations with their weights: none negative, and a sum above 0 when there are several. A missing weight is 0 beside others. */
export function checkWeights(routes: readonly WeightedRoute[] | undefined, path: string, report: Report): void {
  if (routes === undefined || routes.length === 0) return;
  let total = 0;
  for (const [i, route] of routes.entries()) {
    checkDestination(route.destination, `${path}[${i}].destination`, report);
    checkInteger(route.weight, `${path}[${i}].weight`, report, 0);
    checkHeaderOperations(route.headers, `${path}[${i}].headers`, report);
    total += route.weight ?? 0;
  }
  if (routes.length > 1 && total <= 0) report.add(path, 'total destination weight = 0: at least one must be above 0');
  if (total > 2 ** 32 - 1) report.add(path, 'the sum of the weights is larger than 4294967295');
}

/** A destination: host (a wildcard is not a place to go), subset, port. */
export function checkDestination(destination: Destination | undefined, path: string, report: Report): void {
  if (destination === undefined) {
    report.required(path, 'destination is required');
    return;
  }
  const host = destination.host ?? '';
  const fault =
    host === '*'
      ? 'invalid destination host *'
      : ipVersion(host) > 0
        ? `${shown(host)} is an address: a destination is the host of a Service or ServiceEntry`
        : dnsNameFault(host, true);
  if (fault !== undefined) report.add(`${path}.host`, fault);
  checkLabelName(destination.subset, `${path}.subset`, report, 'subset name');
  if (destination.port !== undefined) {
    if (destination.port.number === undefined) report.required(`${path}.port.number`, 'a port number is required');
    checkPort(destination.port.number, `${path}.port.number`, report);
  }
}

/** Header manipulation: names are tokens; Host, :authority and pseudo headers are rewritten by `rewrite`, not here. */
export function checkHeaderOperations(headers: HeaderOperations | undefined, path: string, report: Report): void {
  for (const direction of ['request', 'response'] as const) {
    const operation = headers?.[direction];
    for (const verb of ['set', 'add'] as const) {
      for (const [name, value] of Object.entries(operation?.[verb] ?? {})) {
        const at = childPath(`${path}.${direction}.${verb}`, name);
        checkOperationName(name, at, report, direction === 'request');
        if (direction === 'request' && isAuthority(name)) checkAuthority(value, at, report);
        else checkHeaderValue(value, at, report);
      }
    }
    for (const [i, name] of (operation?.remove ?? []).entries())
      checkOperationName(name, `${path}.${direction}.remove[${i}]`, report, false);
  }
}

/** Every value that `headers` gives the request's authority: it may have one only, `rewrite.authority` included. */
export function authorities(headers: HeaderOperations | undefined): string[] {
  const { set, add } = headers?.request ?? {};
  return [set, add].flatMap((values) =>
    Object.entries(values ?? {})
      .filter(([name]) => isAuthority(name))
      .map(([, value]) => value),
  );
}

const isAuthority = (name: string): boolean => /^(host|:authority)$/i.test(name);

/** A value for `Host`: no control characters, not empty. */
export function checkAuthority(value: string, path: string, report: Report): void {
  if (value === '') report.required(path, 'an authority must not be empty');
  else if (hasControls(value)) report.add(path, 'an authority must not hold control characters');
}

function checkOperationName(name: string, path: string, report: Report, authorityAllowed: boolean): void {
  if (authorityAllowed && isAuthority(name)) return;
  if (name.toLowerCase() === 'host' || name.startsWith(':'))
    report.add(path, `header ${shown(name)} can not be host or begin with :`);
  else checkHeaderName(name, path, report);
}
