/**
 * Between what gossip says of hosts and what Envoy is given. In: snapshots of the endpoint table, time. Out: snapshots in which a host that
 * flaps stays out until it is steady, and the last known endpoints of a group stay in where all of them went silent at once; what is held and
 * why. Pure: no IO, no clock of its own. Must never: keep a host in that left, drains or lost its grant by its own or config's word, or
 * delay the loss of one or two of a group's endpoints.
 */
import type { EndpointSnapshot, HostEntry, Liveness, WorkloadRecord } from '../../api/gossip/host-record.ts';

/** More changes between alive and dead than this in FLAP_WINDOW_MS: the host is held back. */
const FLAP_CHANGES = 3;
const FLAP_WINDOW_MS = 60_000;
/** How long it must be steadily alive then, doubled each time it flaps again; forgotten after STEADY_MS. */
const HOLD = { baseMs: 10_000, maxMs: 120_000 };
const STEADY_MS = 10 * 60_000;
/** A floor needs so many silent endpoints of a group, or so many silent hosts where nobody else is left. */
const FLOOR_MIN = 3;
/** Silent within this time counts together: who is cut off finds out about others one after another. */
const SILENT_WINDOW_MS = 120_000;
/** Where some are left (a tenth at most), only those count that went silent nearly at one moment. */
const AT_ONCE_MS = 5000;
const LEFT_SHARE = 0.1;
/** Then even the last known are given up. */
const FLOOR_MS = 10 * 60_000;
/** Once gossip hears of some again, the others have this long to be heard before their silence counts. */
const RECOVER_MS = 5000;

/** A host that is kept out although it is alive now. */
export interface HeldBack {
  readonly host: string;
  /** Alive and dead within the last minute. */
  readonly changes: number;
  /** ms until it is let in, if it stays alive. */
  readonly leftMs: number;
}

/** A group whose silent endpoints are kept in. */
export interface Kept {
  /** `NAMESPACE/NAME` of the WorkloadGroup. */
  readonly group: string;
  readonly hosts: readonly string[];
  readonly leftMs: number;
}

export interface Damped {
  readonly snapshot: EndpointSnapshot;
  readonly heldBack: readonly HeldBack[];
  readonly kept: readonly Kept[];
  /** ms after which it may be otherwise though the table did not change; undefined: nothing waits for time. */
  readonly nextMs: number | undefined;
}

interface Host {
  alive: boolean;
  /** When it changed, the latest last; within FLAP_WINDOW_MS. */
  changes: number[];
  aliveSince: number;
  silentSince: number | undefined;
  /** How often it was held back. */
  offences: number;
  heldSince: number | undefined;
}

interface Floor {
  readonly since: number;
  /** Who is silent since before that is no part of it. */
  readonly from: number;
  /** Too few for a floor of their own: in only as long as this host hears of nobody at all. */
  readonly alone: boolean;
  recoveringSince?: number | undefined;
}

/** One host's view; `look` is given each snapshot in the order of time, `now` monotonic ms. */
export interface Damping {
  look(snapshot: EndpointSnapshot, now: number): Damped;
}

export function createDamping(ownHost: string): Damping {
  const hosts = new Map<string, Host>();
  const floors = new Map<string, Floor>();

  return {
    look(snapshot, now) {
      for (const name of [...hosts.keys()]) if (!snapshot.hosts.has(name)) hosts.delete(name);
      for (const [name, { liveness }] of snapshot.hosts) if (name !== ownHost) observe(hosts, name, liveness, now);
      const members = byGroup(snapshot);
      const held = heldHosts(hosts, members, ownHost, now);
      const keep = keptGroups(floors, hosts, members, snapshot, { ownHost, held, now });
      return damped(snapshot, hosts, floors, held, keep, now);
    },
  };
}

const isUp = (liveness: Liveness): boolean => liveness === 'alive' || liveness === 'suspect';
const holdMs = (offences: number): number => Math.min(HOLD.maxMs, HOLD.baseMs * 2 ** Math.min(20, offences - 1));

/** Takes in what gossip says of one host now. What a host says of itself (it left, it is back) is no flapping. */
function observe(hosts: Map<string, Host>, name: string, liveness: Liveness, now: number): void {
  const alive = isUp(liveness);
  const known = hosts.get(name);
  if (known === undefined || liveness === 'left') {
    hosts.set(name, {
      alive,
      changes: [],
      aliveSince: now,
      silentSince: undefined,
      offences: known?.offences ?? 0,
      heldSince: undefined,
    });
    return;
  }
  known.changes = known.changes.filter((at) => now - at < FLAP_WINDOW_MS);
  if (alive !== known.alive) {
    const wasSilent = known.silentSince !== undefined;
    known.alive = alive;
    known.silentSince = alive ? undefined : now;
    if (alive) known.aliveSince = now;
    if (!alive || wasSilent) known.changes.push(now);
    if (known.changes.length > FLAP_CHANGES && known.heldSince === undefined) {
      known.heldSince = now;
      known.offences += 1;
    }
  }
  if (known.heldSince !== undefined && alive && now - known.aliveSince >= holdMs(known.offences)) {
    known.heldSince = undefined;
    known.changes = [];
  }
  if (known.offences > 0 && known.heldSince === undefined && alive && now - known.aliveSince >= STEADY_MS)
    known.offences = 0;
}

interface Member {
  readonly host: string;
  readonly entry: HostEntry;
}

/** Who says that it serves a group, the draining and unhealthy left out: those are out by their own word. */
function byGroup(snapshot: EndpointSnapshot): Map<string, Member[]> {
  const groups = new Map<string, Member[]>();
  for (const [host, entry] of snapshot.hosts) {
    if (entry.liveness === 'left' || entry.record.leaving === true) continue;
    for (const { group, health } of entry.record.workloads) {
      if (health !== 'healthy') continue;
      const members = groups.get(group);
      if (members === undefined) groups.set(group, [{ host, entry }]);
      else members.push({ host, entry });
    }
  }
  return groups;
}

/** Hosts that flap and are alive now, but for those without which a group would have nobody: better one that flaps than none. */
function heldHosts(
  hosts: ReadonlyMap<string, Host>,
  groups: ReadonlyMap<string, readonly Member[]>,
  ownHost: string,
  now: number,
): Map<string, HeldBack> {
  const held = new Map<string, HeldBack>();
  for (const [host, { heldSince, alive, aliveSince, offences, changes }] of hosts) {
    if (heldSince === undefined || !alive) continue;
    const leftMs = aliveSince + holdMs(offences) - now;
    held.set(host, { host, changes: changes.length, leftMs });
  }
  if (held.size === 0) return held;
  for (const members of groups.values()) {
    const up = members.filter(({ entry }) => isUp(entry.liveness));
    if (up.some(({ host }) => host === ownHost || !held.has(host))) continue;
    for (const { host } of up) held.delete(host);
  }
  return held;
}

interface Now {
  readonly ownHost: string;
  readonly held: ReadonlyMap<string, unknown>;
  readonly now: number;
}

/** Silent hosts that stay in, by group. */
function keptGroups(
  floors: Map<string, Floor>,
  hosts: ReadonlyMap<string, Host>,
  groups: ReadonlyMap<string, readonly Member[]>,
  snapshot: EndpointSnapshot,
  { ownHost, held, now }: Now,
): Map<string, string[]> {
  const silentFor = (host: string): number => now - (hosts.get(host)?.silentSince ?? Number.NEGATIVE_INFINITY);
  const others = [...hosts].filter(([host]) => snapshot.hosts.get(host)?.liveness !== 'left');
  const recently = others.filter(([host]) => silentFor(host) < SILENT_WINDOW_MS);
  const nobody = others.every(([, { alive }]) => !alive);
  const isAlone = nobody && recently.length >= FLOOR_MIN;
  const kept = new Map<string, string[]>();
  const given = new Set<string>();
  for (const group of [...floors.keys()]) if (!groups.has(group)) floors.delete(group);
  for (const [group, members] of groups) {
    const up = members.filter(({ host, entry }) => (isUp(entry.liveness) || host === ownHost) && !held.has(host));
    const silentSince = (from: number) =>
      members.filter(({ host }) => (hosts.get(host)?.silentSince ?? Number.NEGATIVE_INFINITY) >= from);
    const floor = floors.get(group);
    const from = floor?.from ?? now - (up.length === 0 ? SILENT_WINDOW_MS : AT_ONCE_MS);
    const silent = silentSince(from);
    if (floor === undefined) {
      const few = up.length <= LEFT_SHARE * (up.length + silent.length);
      const alone = silent.length < FLOOR_MIN;
      if (!few || (alone && !(isAlone && up.length === 0 && silent.length > 0))) continue;
      floors.set(group, { since: now, from, alone });
    } else if (isOver(floor, floor.alone && !nobody, up.length, silent.length, now)) {
      floors.delete(group);
      // They had their time: only who goes silent from now on can begin another.
      for (const { host } of silent) given.add(host);
      continue;
    }
    kept.set(group, silent.map(({ host }) => host).sort());
  }
  for (const host of given) {
    const known = hosts.get(host);
    if (known !== undefined) known.silentSince = Number.NEGATIVE_INFINITY;
  }
  return kept;
}

function isOver(floor: Floor, heard: boolean, up: number, silent: number, now: number): boolean {
  if (silent === 0 || now - floor.since >= FLOOR_MS) return true;
  const isBack = heard || up > LEFT_SHARE * (up + silent);
  if (!isBack) floor.recoveringSince = undefined;
  else floor.recoveringSince ??= now;
  return floor.recoveringSince !== undefined && now - floor.recoveringSince >= RECOVER_MS;
}

function damped(
  snapshot: EndpointSnapshot,
  hosts: ReadonlyMap<string, Host>,
  floors: ReadonlyMap<string, Floor>,
  held: ReadonlyMap<string, HeldBack>,
  keep: ReadonlyMap<string, readonly string[]>,
  now: number,
): Damped {
  const kept = [...keep]
    .filter(([, names]) => names.length > 0)
    .map(([group, names]): Kept => {
      const { since, recoveringSince } = floors.get(group) as Floor;
      const ends = Math.min(since + FLOOR_MS, (recoveringSince ?? Number.POSITIVE_INFINITY) + RECOVER_MS);
      return { group, hosts: names, leftMs: ends - now };
    });
  const waits = [...held.values(), ...kept].map(({ leftMs }) => leftMs);
  // Who is held back though its group needs it is let in for good by time too.
  for (const { heldSince, alive, aliveSince, offences } of hosts.values())
    if (heldSince !== undefined && alive) waits.push(aliveSince + holdMs(offences) - now);
  const nextMs = waits.length === 0 ? undefined : Math.max(1, Math.ceil(Math.min(...waits)));
  return { snapshot: changed(snapshot, held, kept), heldBack: [...held.values()], kept, nextMs };
}

/** The snapshot itself where nothing is held. */
function changed(
  snapshot: EndpointSnapshot,
  held: ReadonlyMap<string, unknown>,
  kept: readonly Kept[],
): EndpointSnapshot {
  if (held.size === 0 && kept.length === 0) return snapshot;
  const groups = new Map<string, Set<string>>();
  for (const { group, hosts } of kept)
    for (const host of hosts) groups.set(host, (groups.get(host) ?? new Set()).add(group));
  const hosts = new Map<string, HostEntry>();
  for (const [name, entry] of snapshot.hosts) {
    const keptOf = groups.get(name);
    if (held.has(name)) hosts.set(name, { ...entry, liveness: 'dead' });
    else hosts.set(name, keptOf === undefined ? entry : keptIn(entry, keptOf));
  }
  return { ...snapshot, hosts };
}

/** In, for those groups alone: its others have live endpoints elsewhere, and it must not be taken for one of them. */
function keptIn(entry: HostEntry, groups: ReadonlySet<string>): HostEntry {
  const workloads = entry.record.workloads.map(
    (workload): WorkloadRecord => (groups.has(workload.group) ? workload : { ...workload, health: 'draining' }),
  );
  return { ...entry, liveness: 'suspect', record: { ...entry.record, workloads } };
}
