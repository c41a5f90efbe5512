import type { Clock } from '../../runtime/clock.ts';
import type { Part } from '../../runtime/lifecycle.ts';
import type { Logger } from '../../runtime/log.ts';
import { judgePort, type Listener, type PortOwnership, type Sockets } from '../host/sockets.ts';
import type { LocalWorkload } from './local-workload.ts';

/** A workload whose ports are watched. `ownerUids`: the workload's and agent.yaml's portOwners. */
export interface WatchedWorkload {
  readonly group: string;
  readonly ports: readonly number[];
  readonly ownerUids: ReadonlySet<number>;
  /** The port that its health probe connects to, by which address; it need not be one that peers reach. */
  readonly probe?: { readonly port: number; readonly loopback: boolean };
}

/** Who holds a probe's port, and which port that was: a probe that was edited since is about another. */
export type ProbedPort = PortOwnership & { readonly probed: NonNullable<WatchedWorkload['probe']> };

/** What the watcher last saw of one workload. */
export interface WatchedState {
  readonly health: LocalWorkload['health'];
  readonly ports: ReadonlyMap<number, PortOwnership>;
  /** Of the probe's port, which no more than the probe depends on. */
  readonly probe?: ProbedPort;
  /** One line for each port that is not served. */
  readonly problems: readonly string[];
}

/** DESIGN 3.5: a workload's port is served only while its listening sockets are the workload's own. */
export interface PortWatcher extends Part {
  /** Replaces the set of watched workloads and looks at once. */
  watch(workloads: readonly WatchedWorkload[]): Promise<void>;
  /** `unhealthy` for a group that was never looked at: nothing is served on trust. */
  health(group: string): LocalWorkload['health'];
  states(): ReadonlyMap<string, WatchedState>;
  /** Who holds root's sockets, by inode, as the root oneshot saw it (RedirectResult.rootSockets). Looks again at once. */
  addEvidence(rootSockets: readonly { inode: number; uids: readonly number[] }[]): Promise<void>;
  /** Called when some workload's state has changed. Returns a function that takes the listener off. */
  onChange(listener: () => void): () => void;
  /** Called when a socket of root listens on a workload's port and this process may not see who holds it: run the oneshot. */
  onEvidenceNeeded(listener: () => void): () => void;
}

export interface PortWatcherDeps {
  readonly sockets: Sockets;
  readonly clock: Clock;
  readonly log: Logger;
  /** Default 1 s; three times as long while every port was as it should be at the last look. */
  readonly intervalMs?: number;
}

/** Evidence about a socket that is root's alone (a server that has not forked its workers yet) is asked for again after this long. */
const ASK_AGAIN_MS = 5000;
/** The kernel walks its whole table of connections for each look at the listening ones: a quarter of an idle agent's CPU at one a second. */
const QUIET_FACTOR = 3;

/** A watcher that looks each interval, at sockets in LISTEN only. A look that fails leaves the last states and is logged once. */
export function createPortWatcher({ sockets, clock, log, intervalMs = 1000 }: PortWatcherDeps): PortWatcher {
  let watched: readonly WatchedWorkload[] = [];
  let states = new Map<string, WatchedState>();
  let cancel = () => {};
  let running = false;
  let failing = false;
  let looking: Promise<void> = Promise.resolve();
  const held = new Map<number, ReadonlySet<number>>();
  const asked = new Map<number, number>();
  const changeListeners = new Set<() => void>();
  const evidenceListeners = new Set<() => void>();

  const look = async () => {
    const listeners = await sockets.listeners();
    const ports = new Set(watched.flatMap((w) => [...w.ports, ...(w.probe === undefined ? [] : [w.probe.port])]));
    const rootInodes = listeners.filter((l) => l.uid === 0 && ports.has(l.port)).map((l) => l.inode);
    await learnHolders(new Set(rootInodes));
    const next = new Map(watched.map((w) => [w.group, judge(w, listeners, held)]));
    const changed = fingerprint(next) !== fingerprint(states);
    states = next;
    if (changed) for (const listener of changeListeners) listener();
  };

  /** Looks by itself first (an agent that runs as root, or as the workload's user); asks root's oneshot for the rest. */
  const learnHolders = async (inodes: ReadonlySet<number>) => {
    for (const inode of held.keys()) if (!inodes.has(inode)) held.delete(inode);
    for (const inode of asked.keys()) if (!inodes.has(inode)) asked.delete(inode);
    const onlyRoot = (inode: number) => [...(held.get(inode) ?? [])].every((uid) => uid === 0);
    const now = clock.monotonic();
    const due = [...inodes].filter(
      (inode) => onlyRoot(inode) && now - (asked.get(inode) ?? Number.NEGATIVE_INFINITY) >= ASK_AGAIN_MS,
    );
    if (due.length === 0) return;
    for (const inode of due) asked.set(inode, now);
    for (const [inode, uids] of await sockets.holders(new Set(due))) held.set(inode, uids);
    if (due.some(onlyRoot)) for (const listener of evidenceListeners) listener();
  };

  /** One look at a time; a failure is logged when it begins. */
  const lookSafely = () => {
    looking = looking.then(look).then(
      () => {
        failing = false;
      },
      (error: unknown) => {
        if (!failing) log.warn('listening sockets could not be read', { error });
        failing = true;
      },
    );
    return looking;
  };
  const schedule = () => {
    const quiet =
      !failing &&
      [...states.values()].every(
        ({ problems, probe }) => problems.length === 0 && (probe === undefined || probe.state === 'owned'),
      );
    cancel = clock.after(quiet ? intervalMs * QUIET_FACTOR : intervalMs, () => {
      void lookSafely().finally(() => running && schedule());
    });
  };

  return {
    name: 'port-watcher',
    async start() {
      running = true;
      await lookSafely();
      schedule();
    },
    async stop() {
      running = false;
      cancel();
      await looking;
    },
    watch(workloads) {
      watched = workloads;
      return lookSafely();
    },
    health: (group) => states.get(group)?.health ?? 'unhealthy',
    states: () => states,
    addEvidence(rootSockets) {
      for (const { inode, uids } of rootSockets) held.set(inode, new Set(uids));
      return lookSafely();
    },
    onChange: (listener) => subscribe(changeListeners, listener),
    onEvidenceNeeded: (listener) => subscribe(evidenceListeners, listener),
  };
}

/**
 * A foreign socket on any of its ports takes the whole workload out: the record has one health for all. A port on which nothing listens
 * yet only counts when no other port is served. A workload without ports (a client) is healthy.
 */
function judge(
  { ports, ownerUids, probe }: WatchedWorkload,
  listeners: readonly Listener[],
  held: ReadonlyMap<number, ReadonlySet<number>>,
): WatchedState {
  const verdicts = new Map(ports.map((port) => [port, judgePort(port, ownerUids, listeners, held)]));
  const all = [...verdicts.values()];
  const stolen = all.some((verdict) => verdict.state === 'foreign' || verdict.state === 'unproved');
  const served = all.length === 0 || all.some((verdict) => verdict.state === 'owned');
  return {
    health: served && !stolen ? 'healthy' : 'unhealthy',
    ports: verdicts,
    ...(probe === undefined ? {} : { probe: { ...judgeProbe(probe, ownerUids, listeners, held), probed: probe } }),
    problems: all.flatMap((verdict) => (verdict.state === 'owned' ? [] : [verdict.reason])),
  };
}

/** On loopback only the sockets that take connections there count, and they may be bound to it. */
function judgeProbe(
  { port, loopback }: NonNullable<WatchedWorkload['probe']>,
  ownerUids: ReadonlySet<number>,
  listeners: readonly Listener[],
  held: ReadonlyMap<number, ReadonlySet<number>>,
): PortOwnership {
  if (!loopback) return judgePort(port, ownerUids, listeners, held);
  const local = listeners.filter(({ address }) => /^(127\.|::1$|::$|0\.0\.0\.0$)/.test(address));
  const anywhere = local.map((listener) => ({ ...listener, address: '0.0.0.0' }));
  return judgePort(port, ownerUids, anywhere, held);
}

function fingerprint(states: ReadonlyMap<string, WatchedState>): string {
  return JSON.stringify([...states].map(([group, { health, problems }]) => [group, health, problems]));
}

function subscribe(set: Set<() => void>, listener: () => void): () => void {
  set.add(listener);
  return () => void set.delete(listener);
}
