/** What the lab remembers between commands: /run/hostmesh-lab/lab.json, written before anything else is made, so that `down` knows all of it. */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { MeshError } from '../../../api/errors.ts';
import { writeFileAtomic } from '../../../runtime/atomic-file.ts';
import { LAB_DIR, TREE } from './paths.ts';
import type { LabPlan, Node } from './plan.ts';

export interface LabState {
  readonly plan: LabPlan;
  /** Users that the lab made, or was about to make: removed by `down`. */
  readonly users: readonly string[];
  /** All namespaces, that of the bridge too. */
  readonly namespaces: readonly string[];
  /** False until `up` has ended well. */
  readonly complete: boolean;
}

const FILE = `${LAB_DIR}/lab.json`;

/** Takes the machine for one lab by making its folder. Throws LAB_EXISTS when another lab is up, or was left half-way. */
export function takeLock(): void {
  try {
    mkdirSync(LAB_DIR, { mode: 0o755 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    throw new MeshError(
      'LAB_EXISTS',
      `a lab is up on this machine, or was left half-way (${LAB_DIR}); only one runs at a time: end it with \`scripts/lab down\``,
    );
  }
}

export async function saveState(state: LabState): Promise<void> {
  await writeFileAtomic(FILE, JSON.stringify(state));
}

/** The lab's state; undefined when there is no lab. */
export function loadState(): LabState | undefined {
  let text: string;
  try {
    text = readFileSync(FILE, 'utf8');
  } catch {
    return undefined;
  }
  return JSON.parse(text) as LabState;
}

/** The state of a lab that is up. Throws LAB_DOWN. */
export function requireState(): LabState {
  const state = loadState();
  if (state === undefined)
    throw new MeshError('LAB_DOWN', 'no lab is up on this machine: `scripts/lab up --file TOPOLOGY.yaml`');
  return state;
}

/** The node that a user named. Throws LAB_NODE with the names there are. */
export function nodeNamed(state: LabState, name: string): Node {
  const nodes = [...state.plan.hosts, ...state.plan.controllers];
  const found = nodes.find((node) => node.name === name);
  if (found === undefined)
    throw new MeshError('LAB_NODE', `no host ${name} in this lab; there are ${nodes.map((n) => n.name).join(', ')}`);
  return found;
}

/** Removes the folder. The mount point of the work tree goes first and must be empty: a deletion must never reach into the work tree. */
export function releaseLock(): void {
  try {
    rmdirSync(TREE);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  let entries: string[] = [];
  try {
    entries = readdirSync(LAB_DIR);
  } catch {
    return; // there is none
  }
  for (const entry of entries.filter((e) => e !== 'lab.json'))
    rmSync(join(LAB_DIR, entry), { recursive: true, force: true });
  rmSync(LAB_DIR, { recursive: true, force: true }); // lab.json last: a `down` that dies half-way can be said again
}
