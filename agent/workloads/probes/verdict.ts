import type { ProbePlan } from './plan.ts';

/** What one look at a workload came to; `why`: of a failure, in words, bounded. */
export type Outcome = { readonly ok: true } | { readonly ok: false; readonly why: string };

/** Where a probe stands. */
export interface ProbeVerdict {
  readonly healthy: boolean;
  /** Outcomes of one kind in a row, up to now. */
  readonly run: number;
  /** Of the last look; undefined before the first. */
  readonly last: Outcome | undefined;
}

/** A workload that nobody has looked at is not healthy (Istio); one that was healthy before this agent started still is. */
export function firstVerdict(healthy: boolean): ProbeVerdict {
  return { healthy, run: 0, last: undefined };
}

/** The verdict after one more outcome: it turns once as many in a row say so as its threshold. Pure. */
export function nextVerdict(before: ProbeVerdict, outcome: Outcome, plan: ProbePlan): ProbeVerdict {
  const run = before.last?.ok === outcome.ok ? before.run + 1 : 1;
  const threshold = outcome.ok ? plan.successThreshold : plan.failureThreshold;
  return { healthy: run >= threshold ? outcome.ok : before.healthy, run, last: outcome };
}
