import { TOPOLOGY_LABELS } from '../mesh-view/destination-rules.ts';
import type { LocalityLbSpec } from '../mesh-view/specs/common.ts';
import type { EndpointView, ServiceView } from '../mesh-view/view.ts';

/** Where a client is: the place of its host, and the workload's own labels. */
export interface Site {
  readonly locality: string;
  readonly network?: string;
  readonly host: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Endpoints of one locality and priority. Priorities run from 0 without a gap. */
export interface LocalityGroup {
  readonly locality: string;
  readonly priority: number;
  readonly weight: number;
  readonly members: readonly EndpointView[];
}

/** The setting that counts: a DestinationRule's stands whole in place of the mesh's; `enabled: false` is none. */
export function localitySetting(
  rule: LocalityLbSpec | undefined,
  mesh: LocalityLbSpec | undefined,
): LocalityLbSpec | undefined {
  const setting = rule ?? mesh ?? {};
  return setting.enabled === false ? undefined : setting;
}

/** What a v1 Service's trafficDistribution means: nearest first, down from all to none of these in common (Istio). */
export function closestFirst({ closest }: Pick<ServiceView, 'closest'>): LocalityLbSpec | undefined {
  if (closest === undefined) return undefined;
  const { network, region, zone, subzone, hostname } = TOPOLOGY_LABELS;
  return { failoverPriority: [network, region, zone, subzone, ...(closest === 'host' ? [hostname] : [])] };
}

/** Whether a cluster must balance by localities' weights: where Istio asks for it, and never else, since it outweighs the load balancer. */
export function weighsLocalities(setting: LocalityLbSpec | undefined, failover: boolean): boolean {
  if (some(setting?.distribute)) return true;
  return failover && (some(setting?.failover) || some(setting?.failoverPriority));
}

/**
 * Endpoints by locality, in order of priority, then of name. `failover`: outlier detection is on, without which Envoy would never fall back
 * to a lower priority. Source: Istio, LocalityLoadBalancerSetting.
 */
export function localityGroups(
  endpoints: readonly EndpointView[],
  setting: LocalityLbSpec | undefined,
  failover: boolean,
  site: Site,
): readonly LocalityGroup[] {
  const plain = byLocality(endpoints);
  if (setting === undefined) return ordered(plain);
  if (some(setting.distribute)) return ordered(distributed(plain, setting, site));
  if (!failover) return ordered(plain);
  const labels = setting.failoverPriority ?? [];
  if (labels.length === 0) return ordered(failedOver(plain, setting, site));
  const split = plain.flatMap((group) => byLabels(group, labels, site));
  return ordered(some(setting.failover) ? failedOver(split, setting, site) : split);
}

function some(list: readonly unknown[] | undefined): boolean {
  return list !== undefined && list.length > 0;
}

function byLocality(endpoints: readonly EndpointView[]): LocalityGroup[] {
  const groups = new Map<string, EndpointView[]>();
  for (const endpoint of endpoints) {
    const known = groups.get(endpoint.locality);
    if (known === undefined) groups.set(endpoint.locality, [endpoint]);
    else known.push(endpoint);
  }
  return [...groups].map(([locality, members]) => ({ locality, priority: 0, weight: weightOf(members), members }));
}

function weightOf(members: readonly EndpointView[]): number {
  return members.reduce((sum, endpoint) => sum + endpoint.weight, 0);
}

/** Sorted, with the priorities that occur renumbered from 0: Envoy refuses gaps. */
function ordered(groups: readonly LocalityGroup[]): readonly LocalityGroup[] {
  const used = [...new Set(groups.map((group) => group.priority))].sort((a, b) => a - b);
  return groups
    .map((group) => ({ ...group, priority: used.indexOf(group.priority) }))
    .sort((a, b) => a.priority - b.priority || (a.locality < b.locality ? -1 : a.locality > b.locality ? 1 : 0));
}

/**
 * The first `from` that the client's place matches gives localities their weights; those that no `to` names get nothing. A `to` that covers
 * several localities shares its weight among them by theirs. No `from` matches: as if nothing were said.
 */
function distributed(groups: readonly LocalityGroup[], setting: LocalityLbSpec, site: Site): readonly LocalityGroup[] {
  const rule = setting.distribute?.find(({ from }) => localityMatches(from ?? '', site.locality));
  if (rule === undefined) return groups;
  const left = new Set(groups);
  const shares = Object.entries(rule.to ?? {}).sort(([a], [b]) => depth(b) - depth(a) || (a < b ? -1 : 1));
  return shares.flatMap(([to, share]) => {
    const here = [...left].filter((group) => localityMatches(to, group.locality));
    for (const group of here) left.delete(group);
    const total = here.reduce((sum, group) => sum + group.weight, 0);
    return here.map((group) => ({ ...group, weight: Math.max(1, Math.ceil((group.weight * share) / total)) }));
  });
}

/** More exact patterns first: `*` least. */
function depth(pattern: string): number {
  return pattern.split('/').filter((part) => part !== '*').length;
}

/** `REGION/ZONE/SUBZONE`, each `*` or left out for any. */
function localityMatches(pattern: string, locality: string): boolean {
  const [region = '', zone = '', subzone = ''] = pattern.split('/');
  const [ownRegion = '', ownZone = '', ownSubzone = ''] = locality.split('/');
  const fits = (wanted: string, own: string) => wanted === '*' || wanted === own;
  return (
    fits(region, ownRegion) && (zone === '' || fits(zone, ownZone)) && (subzone === '' || fits(subzone, ownSubzone))
  );
}

/** Distances from the same sub-zone to another region; 4: another region than the one that `failover` sends this client's region to. */
const FARTHEST = 4;

/** Same sub-zone, zone, region, then the rest; within the priorities that the groups have already. A client that knows not where it is prefers nobody. */
function failedOver(groups: readonly LocalityGroup[], setting: LocalityLbSpec, site: Site): readonly LocalityGroup[] {
  if (site.locality === '') return groups;
  const region = site.locality.split('/')[0];
  const rule = setting.failover?.find(({ from }) => from === region);
  return groups.map((group) => {
    const near = distance(site.locality, group.locality);
    const elsewhere = near === 3 && rule !== undefined && group.locality.split('/')[0] !== rule.to;
    return { ...group, priority: group.priority * (FARTHEST + 1) + (elsewhere ? FARTHEST : near) };
  });
}

/** 0 same sub-zone, 1 same zone, 2 same region, 3 another region. What one does not say equals what the other does not say. */
function distance(client: string, locality: string): number {
  const ours = client.split('/');
  const theirs = locality.split('/');
  let same = 0;
  while (same < 3 && (ours[same] ?? '') === (theirs[same] ?? '')) same++;
  return 3 - same;
}

/** Endpoints that match all labels come first, then all but the last, and so on: a label counts only where those before it match. */
function byLabels(group: LocalityGroup, labels: readonly string[], site: Site): LocalityGroup[] {
  const wanted = labels.map((text): [string, string] => {
    const at = text.indexOf('=');
    return at < 0 ? [text, ofClient(text, site)] : [text.slice(0, at), text.slice(at + 1)];
  });
  const byPriority = new Map<number, EndpointView[]>();
  for (const endpoint of group.members) {
    const miss = wanted.findIndex(([key, value]) => ofEndpoint(key, endpoint, site) !== value);
    const priority = miss < 0 ? 0 : labels.length - miss;
    byPriority.set(priority, [...(byPriority.get(priority) ?? []), endpoint]);
  }
  return [...byPriority].map(([priority, members]) => ({
    locality: group.locality,
    priority,
    weight: weightOf(members),
    members,
  }));
}

function ofClient(key: string, site: Site): string {
  if (key === TOPOLOGY_LABELS.network) return site.network ?? '';
  if (key === TOPOLOGY_LABELS.hostname) return site.host;
  return placeLabel(key, site.locality) ?? site.labels[key] ?? '';
}

/** An endpoint that does not say its network is reached directly, so it is in the client's. */
function ofEndpoint(key: string, endpoint: EndpointView, site: Site): string {
  if (key === TOPOLOGY_LABELS.network) return endpoint.labels[key] ?? site.network ?? '';
  if (key === TOPOLOGY_LABELS.hostname) return endpoint.labels[key] ?? endpoint.id.split('/')[0] ?? '';
  return placeLabel(key, endpoint.locality) ?? endpoint.labels[key] ?? '';
}

function placeLabel(key: string, locality: string): string | undefined {
  const keys: readonly string[] = [TOPOLOGY_LABELS.region, TOPOLOGY_LABELS.zone, TOPOLOGY_LABELS.subzone];
  const part = keys.indexOf(key);
  return part < 0 ? undefined : (locality.split('/')[part] ?? '');
}
