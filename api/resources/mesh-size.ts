/**
 * How much of a host's proxy the objects of each namespace ask for. Two small objects can ask for millions (4,000 ports by 3,000 subsets, a
 * thousand hosts by five thousand rules, a hash ring of eight million places), and every host of the mesh makes them. Pure.
 */
import { type MeshLookup, resolveHost } from './cross-check.ts';
import type { MeshObject } from './object.ts';
import { regexesIn } from './regexes.ts';
import type { DestinationRuleSpec } from './semantics/destination-rule.ts';
import type { ServiceEntrySpec } from './semantics/service-entry.ts';

/** Kinds that clustersByNamespace reads. */
export const SIZED_KINDS: readonly string[] = ['Service', 'ServiceEntry', 'DestinationRule', 'VirtualService'];

/** Enough to refuse; counting ends there, so that counting is not the attack. */
const COUNT_NO_FURTHER = 10_000_000;
/** What costs a proxy as much as a cluster, roughly: routes of one host; places on a hash ring; in a Maglev table. */
const ROUTES = 10;
/** A regular expression beside its route: RE2 keeps up to 3 MB for each. */
const REGEX_ROUTES = 50;
const RING_PLACES = 1024;
const MAGLEV_PLACES = 4096;

/**
 * How many clusters the objects of each namespace ask of a host's proxy that sees all of them: one a host and port, and one more a subset of
 * a DestinationRule, charged to the rule's namespace. Routes, and hash rings beyond the usual size, count as the clusters that they cost as
 * much as.
 */
export function clustersByNamespace(lookup: MeshLookup): Map<string, number> {
  const counts = new Map<string, number>();
  let total = 0;
  const charge = (object: MeshObject, clusters: number) => {
    const namespace = object.metadata.namespace ?? '';
    counts.set(namespace, (counts.get(namespace) ?? 0) + clusters);
    total += clusters;
  };
  /** Ports by host. */
  const hosts = new Map<string, number>();
  const serve = (object: MeshObject, names: readonly string[]) => {
    const ports = (object.spec as { ports?: readonly unknown[] } | undefined)?.ports?.length ?? 0;
    for (const host of names) hosts.set(host, (hosts.get(host) ?? 0) + ports);
    charge(object, ports * names.length);
  };
  for (const service of lookup.list('Service'))
    serve(service, [`${service.metadata.name}.${service.metadata.namespace ?? ''}.svc.cluster.local`]);
  for (const entry of lookup.list('ServiceEntry'))
    serve(entry, (entry.spec as ServiceEntrySpec | undefined)?.hosts ?? []);
  const portsOf = portCounter(hosts);
  for (const rule of lookup.list('DestinationRule')) {
    const spec = rule.spec as DestinationRuleSpec | undefined;
    const subsets = spec?.subsets?.length ?? 0;
    const ring = ringSize(spec);
    if (subsets === 0 && ring === 0) continue;
    const ports = portsOf(resolveHost(spec?.host ?? '', rule.metadata.namespace ?? ''));
    charge(rule, subsets * ports + ring * (subsets + 1) * ports);
    if (total > COUNT_NO_FURTHER) return counts;
  }
  const routesOf = routeCounter(lookup);
  for (const vs of lookup.list('VirtualService')) {
    const namespace = vs.metadata.namespace ?? '';
    const places = ((vs.spec ?? {}) as RoutesSpec).hosts?.map((host) =>
      Math.max(1, portsOf(resolveHost(host, namespace))),
    );
    const copies = (places ?? []).reduce((sum, ports) => sum + ports, 0);
    charge(vs, copies === 0 ? 0 : Math.floor((routesOf(vs) * copies) / ROUTES));
    if (total > COUNT_NO_FURTHER) break;
  }
  return counts;
}

/** Ports of the services that a host, perhaps a wildcard, names. Wildcards by a sorted list: a thousand of them must not be a walk each. */
function portCounter(hosts: ReadonlyMap<string, number>): (host: string) => number {
  const reversed = [...hosts].map(([host, ports]) => ({ name: backwards(host), ports }));
  reversed.sort((a, b) => (a.name < b.name ? -1 : 1));
  const before = [0];
  for (const { ports } of reversed) before.push((before.at(-1) as number) + ports);
  /** How many names stand before `text`. */
  const rank = (text: string) => {
    let [low, high] = [0, reversed.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((reversed[middle] as { name: string }).name < text) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return (host) => {
    if (!host.startsWith('*')) return hosts.get(host) ?? 0;
    const suffix = backwards(host.slice(1));
    return (before[rank(`${suffix}\uffff`)] as number) - (before[rank(suffix)] as number);
  };
}

function backwards(text: string): string {
  return [...text].reverse().join('');
}

/** A root takes no more of its delegates than this (agent/mesh-view/delegates.ts). */
const MOST_DELEGATED = 20_000;

/** A VirtualService of a host and a few rules: what it adds is within what the next count finds, and each write of one need not count the mesh. */
export function isSmall({ spec }: MeshObject): boolean {
  const { hosts = [], http = [], tcp, tls } = (spec ?? {}) as RoutesSpec;
  const plain = hosts.length > 0 && hosts.every((host) => !host.startsWith('*'));
  const led = http.some((rule) => rule.delegate !== undefined);
  return plain && !led && hosts.length * (sum(http) + ROUTES * (sum(tcp) + sum(tls))) <= ROUTES;
}

interface RuleSpec {
  readonly match?: readonly unknown[];
  readonly delegate?: { readonly name?: string; readonly namespace?: string };
}

interface RoutesSpec {
  readonly hosts?: readonly string[];
  readonly http?: readonly RuleSpec[];
  readonly tcp?: readonly RuleSpec[];
  readonly tls?: readonly RuleSpec[];
}

const known = new WeakMap<RuleSpec, number>();

function matches(rule: RuleSpec): number {
  const seen = known.get(rule);
  if (seen !== undefined) return seen;
  const made = Math.max(1, rule.match?.length ?? 0) + REGEX_ROUTES * regexesIn(rule).length;
  known.set(rule, made);
  return made;
}

const sum = (rules: readonly RuleSpec[] = []): number => rules.reduce((total, rule) => total + matches(rule), 0);

/** Routes that a VirtualService makes of each of its hosts, its delegates' among them. A rule for bytes is a chain, as dear as a cluster. */
function routeCounter(lookup: MeshLookup): (vs: MeshObject) => number {
  const delegates = new Map<string, number>();
  for (const { metadata, spec } of lookup.list('VirtualService')) {
    const { hosts = [], http } = (spec ?? {}) as RoutesSpec;
    if (hosts.length === 0) delegates.set(`${metadata.namespace}/${metadata.name}`, sum(http));
  }
  return ({ metadata, spec }) => {
    const { http = [], tcp, tls } = (spec ?? {}) as RoutesSpec;
    const routes = http.map((rule) => {
      const { name = '', namespace } = rule.delegate ?? {};
      const led = rule.delegate === undefined ? 1 : (delegates.get(`${namespace || metadata.namespace}/${name}`) ?? 1);
      return Math.min(matches(rule) * led, MOST_DELEGATED);
    });
    return routes.reduce((total, count) => total + count, 0) + ROUTES * (sum(tcp) + sum(tls));
  };
}

/** The largest hash ring or Maglev table of a rule, beyond what a cluster has anyway, in clusters. */
function ringSize(spec: DestinationRuleSpec | undefined): number {
  const policies = [spec?.trafficPolicy, ...(spec?.subsets ?? []).map((subset) => subset.trafficPolicy)];
  const all = policies.flatMap((policy) => [policy, ...(policy?.portLevelSettings ?? [])]);
  return Math.max(0, ...all.map((policy) => placesOf(policy?.loadBalancer?.consistentHash)));
}

function placesOf(hash: Readonly<Record<string, unknown>> | undefined): number {
  const { ringHash, maglev, minimumRingSize } = (hash ?? {}) as {
    ringHash?: { minimumRingSize?: number };
    maglev?: { tableSize?: number };
    minimumRingSize?: number;
  };
  const ring = Math.ceil((ringHash?.minimumRingSize || minimumRingSize || 0) / RING_PLACES) - 1;
  return Math.max(0, ring, Math.ceil((maglev?.tableSize ?? 0) / MAGLEV_PLACES) - 1);
}
