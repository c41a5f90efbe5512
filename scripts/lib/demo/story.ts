/** The story of the demo: what each step does to the lab and what must be true of live traffic after it. A step throws what broke. */
import { configSteps } from './story-config.ts';
import { downStep } from './story-down.ts';
import { failureSteps } from './story-failure.ts';
import { joinSteps } from './story-joins.ts';
import { meshSteps } from './story-mesh.ts';
import { policySteps } from './story-policy.ts';
import { refusedStep } from './story-refused.ts';
import { upSteps } from './story-up.ts';
import type { World } from './world.ts';

export interface Step {
  /** Number of the part of the story (issue 3) that it belongs to, 1 to 11. */
  readonly part: number;
  /** Stable name, for --json. */
  readonly name: string;
  readonly title: string;
  run(world: World, note: (line: string) => void): Promise<void>;
}

/** One step as it went: an item of `steps` in the report of --json. */
export interface StepResult {
  readonly part: number;
  readonly step: string;
  readonly title: string;
  readonly ok: boolean;
  readonly ms: number;
  readonly notes: readonly string[];
  readonly error?: string;
}

/** Parts 1 to 10, in order. Each needs those before it. */
export const STEPS: readonly Step[] = [
  ...upSteps,
  ...joinSteps,
  ...meshSteps,
  ...configSteps,
  ...policySteps,
  refusedStep,
  ...failureSteps,
];

/** Part 11: told when the mesh is taken off its hosts. */
export const LAST_STEP: Step = downStep;
