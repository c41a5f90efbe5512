/**
 * One route table for all of a host's workloads of a namespace: Envoy holds it once, whatever the number of identities. In: the virtual hosts
 * that each of them would have for itself. Out: virtual hosts that take each one's requests to where its own would. What sets workloads
 * apart (sourceLabels, mirrors, Sidecars) stands in the table as a condition on the header by which a request says whose it is, and which
 * the proxy itself writes (caller.ts): the table's name, which is in filter chains, never changes with it.
 */
import { MESH_HEADER } from './caller.ts';
import type { JsonObject } from './json.ts';

/** One workload's table: domains are unique, and one of the hosts has the domain `*`. */
export interface Column {
  /** Name of the workload, unique in its namespace. */
  readonly caller: string;
  readonly hosts: readonly JsonObject[];
}

/** The virtual hosts of all columns together. Those on which all agree are the very objects. */
export function mergeColumns(columns: readonly Column[]): readonly JsonObject[] {
  const [first] = columns;
  if (first === undefined) return [];
  if (columns.every(({ hosts }) => sameHosts(hosts, first.hosts))) return first.hosts;
  const number = numbering();
  const lookups = columns.map(({ hosts }) => lookup(hosts));
  const groups = new Map<JsonObject | string, { readonly hosts: readonly JsonObject[]; readonly domains: string[] }>();
  for (const domain of new Set(columns.flatMap(({ hosts }) => hosts.flatMap(domainsOf)))) {
    const hosts = lookups.map((find) => find(domain));
    const key = hosts.every((host) => host === hosts[0]) ? (hosts[0] as JsonObject) : hosts.map(number).join();
    const group = groups.get(key) ?? { hosts, domains: [] };
    group.domains.push(domain);
    groups.set(key, group);
  }
  const names = new Map<string, number>();
  return [...groups.values()].map(({ hosts, domains }) => {
    const host = joined(columns, hosts, domains, number);
    const times = (names.get(String(host.name)) ?? 0) + 1;
    names.set(String(host.name), times);
    return times === 1 ? host : { ...host, name: `${host.name}#${times}` };
  });
}

function sameHosts(a: readonly JsonObject[], b: readonly JsonObject[]): boolean {
  return a === b || (a.length === b.length && a.every((host, i) => host === b[i] || text(host) === text(b[i])));
}

function text(value: unknown): string {
  return JSON.stringify(value);
}

/** Numbers virtual hosts by where they lead: the same number, the same routes. */
function numbering(): (host: JsonObject) => number {
  const byObject = new Map<JsonObject, number>();
  const byText = new Map<string, number>();
  return (host) => {
    let found = byObject.get(host);
    if (found === undefined) {
      const key = text(host.routes);
      found = byText.get(key) ?? byText.size;
      byText.set(key, found);
      byObject.set(host, found);
    }
    return found;
  };
}

function domainsOf({ domains }: JsonObject): readonly string[] {
  return domains as readonly string[];
}

/** Which of the hosts Envoy would take for a domain, a wildcard of which stands for all below it that have no other: exact, longest suffix, `*`. */
function lookup(hosts: readonly JsonObject[]): (domain: string) => JsonObject {
  const byDomain = new Map(hosts.flatMap((host) => domainsOf(host).map((domain) => [domain, host] as const)));
  const wild = [...byDomain.keys()].filter((domain) => domain.startsWith('*')).sort((a, b) => b.length - a.length);
  return (domain) =>
    byDomain.get(domain) ??
    (byDomain.get(
      wild.find((one) => domain.length >= one.length && domain.endsWith(one.slice(1))) ?? '*',
    ) as JsonObject);
}

/** One host for `domains`, which leads each column's caller where that column's host does. */
function joined(
  columns: readonly Column[],
  hosts: readonly JsonObject[],
  domains: readonly string[],
  number: (host: JsonObject) => number,
): JsonObject {
  const first = hosts[0] as JsonObject;
  const same = domains.length === domainsOf(first).length && domains.every((one, i) => one === domainsOf(first)[i]);
  const ways = new Map<number, { readonly host: JsonObject; readonly callers: string[] }>();
  for (const [i, { caller }] of columns.entries()) {
    const host = hosts[i] as JsonObject;
    const way = ways.get(number(host)) ?? { host, callers: [] };
    way.callers.push(caller);
    ways.set(number(host), way);
  }
  if (ways.size === 1) return same ? first : { ...first, domains };
  const routes = [...ways.values()].flatMap(({ host, callers }) =>
    (host.routes as readonly JsonObject[]).map((route) => onlyFor(route, callers)),
  );
  return { name: first.name, domains, routes };
}

function onlyFor(route: JsonObject, callers: readonly string[]): JsonObject {
  const match = route.match as JsonObject;
  const [only = '', ...others] = callers;
  const regex = callers.map((caller) => caller.replace(/[^\w-]/g, '\\$&')).join('|');
  const string_match: JsonObject = others.length === 0 ? { exact: only } : { safe_regex: { regex } };
  const headers = [...((match.headers ?? []) as readonly JsonObject[]), { name: MESH_HEADER.workload, string_match }];
  return { ...route, match: { ...match, headers } };
}
