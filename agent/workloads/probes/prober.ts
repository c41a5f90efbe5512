/**
 * Health probes of this host's workloads. In: plans from verified WorkloadGroups, who holds the ports, time. Out: healthy or not a group,
 * why not. Must never: connect to anything but a port that the workload itself holds on this host (a namespace's operator must not reach
 * other services of a host by a probe), have a command run that agent.yaml does not list, follow a redirect, read without bound, or look at
 * one workload twice at once.
 */
import type { Registry } from 'prom-client';
import type { Clock } from '../../../runtime/clock.ts';
import type { Part } from '../../../runtime/lifecycle.ts';
import type { Logger } from '../../../runtime/log.ts';
import type { ProbedPort } from '../port-watcher.ts';
import type { Look } from './calls.ts';
import { probeMetrics } from './metrics.ts';
import { inWords, type PortCall, type ProbeCall, type ProbePlan } from './plan.ts';
import type { KnownHealth } from './probe-file.ts';
import { firstVerdict, nextVerdict, type Outcome, type ProbeVerdict } from './verdict.ts';

/** A local workload; without a plan it is healthy as far as probes go. */
export interface ProbedWorkload {
  readonly group: string;
  readonly plan: ProbePlan | undefined;
}

export interface Prober extends Part {
  /** Replaces the set of workloads. One whose plan changed keeps its health and is looked at anew. */
  watch(workloads: readonly ProbedWorkload[]): void;
  health(group: string): 'healthy' | 'unhealthy';
  verdict(group: string): ProbeVerdict | undefined;
  /** One line for each workload that its probe calls unhealthy. */
  problems(): readonly string[];
  /** Called when a group's health has turned. */
  onChange(listener: () => void): void;
}

export interface ProberDeps {
  readonly look: Look;
  /** Who holds the port that the group's probe connects to, as last seen. */
  ownership(group: string): ProbedPort | undefined;
  /** The host's first address, on which peers reach its workloads. */
  address(): string | undefined;
  /** What an agent before this one knew. */
  readonly known: KnownHealth;
  save(known: KnownHealth): Promise<void>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: Registry;
}

const ASK_AGAIN_MS = 100;

function isAbout({ probed }: ProbedPort, call: PortCall): boolean {
  return probed.port === call.port && probed.loopback === (call.loopback !== undefined);
}

interface Watched {
  readonly plan: ProbePlan;
  verdict: ProbeVerdict;
  cancel(): void;
}

export function createProber(deps: ProberDeps): Prober {
  const { clock, log } = deps;
  const metrics = probeMetrics(deps.registry);
  const known = new Map(deps.known);
  const watched = new Map<string, Watched>();
  const listeners: (() => void)[] = [];
  let running = false;

  const remember = (group: string, healthy: boolean) => {
    if (known.get(group) === healthy) return;
    known.set(group, healthy);
    deps.save(known).catch((error) => log.warn('health by probes not written', { error }));
  };

  /** Where to look: nowhere in particular for a command. Undefined: it is not known yet who holds the port. */
  const targetOf = (group: string, call: ProbeCall): { address: string } | { why: string } | undefined => {
    if (call.kind === 'exec') return { address: '' };
    const held = deps.ownership(group);
    // Nobody has looked at its port yet, or at another since the probe was edited: that says nothing about who holds this one.
    if (held === undefined || !isAbout(held, call)) return undefined;
    if (held.state !== 'owned') return { why: held.reason };
    const address = call.loopback ?? deps.address();
    return address === undefined ? { why: 'the host has no address' } : { address };
  };

  const lookAt = async ({ call, timeoutMs }: ProbePlan, address: string): Promise<Outcome> => {
    const ended = new AbortController();
    const late: Outcome = { ok: false, why: `no answer within ${timeoutMs / 1000} s` };
    let cancel = () => {};
    const timeout = new Promise<Outcome>((resolve) => {
      cancel = clock.after(timeoutMs, () => {
        resolve(late);
        ended.abort();
      });
    });
    const outcome = await Promise.race([deps.look(call, address, ended.signal), timeout]).finally(cancel);
    return outcome.ok ? outcome : { ok: false, why: `${inWords(call, address)}: ${outcome.why}` };
  };

  const round = async (group: string, entry: Watched) => {
    const target = targetOf(group, entry.plan.call);
    if (target === undefined) return schedule(group, entry, ASK_AGAIN_MS);
    const started = clock.monotonic();
    const outcome: Outcome =
      'why' in target ? { ok: false, why: target.why } : await lookAt(entry.plan, target.address);
    const took = clock.monotonic() - started;
    if (watched.get(group) !== entry || !running) return;
    metrics.looked(group, outcome.ok, took / 1000);
    const before = entry.verdict;
    entry.verdict = nextVerdict(before, outcome, entry.plan);
    schedule(group, entry, Math.max(0, entry.plan.periodMs - took));
    if (entry.verdict.healthy === before.healthy) return;
    log.info(entry.verdict.healthy ? 'workload is healthy' : 'workload is unhealthy', {
      group,
      ...(outcome.ok ? {} : { reason: outcome.why }),
    });
    remember(group, entry.verdict.healthy);
    report();
    for (const listener of listeners) listener();
  };

  const schedule = (group: string, entry: Watched, ms: number) => {
    entry.cancel = clock.after(ms, () => void round(group, entry));
  };
  const report = () => metrics.healthy(new Map([...watched].map(([group, { verdict }]) => [group, verdict.healthy])));
  const begin = (group: string, entry: Watched) =>
    schedule(group, entry, known.has(group) ? 0 : entry.plan.initialDelayMs);

  return {
    name: 'prober',
    async start() {
      running = true;
      for (const [group, entry] of watched) begin(group, entry);
    },
    async stop() {
      running = false;
      for (const entry of watched.values()) entry.cancel();
    },
    watch(workloads) {
      const before = new Map(watched);
      watched.clear();
      for (const { group, plan } of workloads) {
        const old = before.get(group);
        before.delete(group);
        if (plan === undefined) {
          old?.cancel();
          remember(group, true);
          continue;
        }
        if (old !== undefined && JSON.stringify(old.plan) === JSON.stringify(plan)) {
          watched.set(group, old);
          continue;
        }
        old?.cancel();
        // Editing a probe must not take a group out of service everywhere at once: what was healthy is, until it fails.
        const entry = { plan, verdict: firstVerdict(known.get(group) ?? false), cancel: () => {} };
        watched.set(group, entry);
        if (running) begin(group, entry);
      }
      for (const gone of before.values()) gone.cancel();
      report();
    },
    health: (group) => ((watched.get(group)?.verdict.healthy ?? true) ? 'healthy' : 'unhealthy'),
    verdict: (group) => watched.get(group)?.verdict,
    problems: () =>
      [...watched].flatMap(([group, { verdict, plan }]) => {
        if (verdict.healthy) return [];
        if (verdict.last === undefined) return [`${group}: not probed yet`];
        if (verdict.last.ok) return [`${group}: probe succeeded ${verdict.run} of ${plan.successThreshold} times`];
        return [`${group}: probe failing: ${verdict.last.why} (${verdict.run} in a row)`];
      }),
    onChange: (listener) => void listeners.push(listener),
  };
}
