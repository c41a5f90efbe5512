import { MeshError } from '../../errors.ts';

/** To be called before as much work, in comparisons or the like. Throws ANALYSIS_BUDGET when there has been enough. */
export type Step = (count?: number) => void;

/** Nobody waits: meshctl on the operator's own machine. */
export const UNBOUNDED: Step = () => {};

/** Steps of one object, some 50 ms; and how many pass between two looks at the clock, some 0.2 ms. */
export const BUDGET_LIMITS = { steps: 2_000_000, clockEvery: 4096 } as const;

/** Bounds an analysis that others wait for: it runs without a pause, and one object can ask for billions of comparisons. */
export interface Budget {
  readonly step: Step;
  /** The next object begins, with all its steps. Before the first there is only the clock. */
  renew(): void;
}

export const ANALYSIS_BUDGET = 'ANALYSIS_BUDGET';

export function createBudget(expired: () => boolean): Budget {
  let left: number = Number.POSITIVE_INFINITY;
  let unclocked = 0;
  return {
    step(count = 1) {
      left -= count;
      if (left < 0) throw new MeshError(ANALYSIS_BUDGET, `more than ${BUDGET_LIMITS.steps} steps for one object`);
      unclocked += count;
      if (unclocked < BUDGET_LIMITS.clockEvery) return;
      unclocked = 0;
      if (expired()) throw new MeshError(ANALYSIS_BUDGET, 'no time left');
    },
    renew() {
      left = BUDGET_LIMITS.steps;
    },
  };
}

export function isOverBudget(error: unknown): boolean {
  return error instanceof MeshError && error.code === ANALYSIS_BUDGET;
}
