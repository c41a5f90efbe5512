import { MeshError } from '../../api/errors.ts';
import type { Exec } from '../host/exec.ts';
import { planDropIns } from './drop-ins.ts';
import { FOLDER, filesText, writeFiles } from './own-files.ts';
import { type ListedCommand, type ProbeUnitPlan, planProbeUnits } from './probe-units.ts';

/** What agent.yaml asks of systemd. */
export interface Wanted {
  /** Units that start after the mesh: names that passed UNIT_NAME. */
  readonly units: readonly string[];
  readonly commands: readonly ListedCommand[];
  /** What could not be found out, one line each. */
  readonly problems: readonly string[];
  readonly agentUser: string;
}

const SYSTEMCTL_MS = 30_000;

/** What is to be changed so that systemd has what agent.yaml asks of it, and no more. Reads only. `folder` is for tests. */
export async function planOrder(wanted: Wanted, folder = FOLDER): Promise<ProbeUnitPlan> {
  const dropIns = await planDropIns(wanted.units, folder);
  const probes = await planProbeUnits(wanted.commands, wanted.agentUser, folder);
  return {
    write: [...dropIns.write, ...probes.write],
    remove: [...dropIns.remove, ...probes.remove],
    problems: [...dropIns.problems, ...wanted.problems, ...probes.problems],
    sockets: probes.sockets,
  };
}

/**
 * Units that agent.yaml binds start after the mesh, by drop-ins of ours; commands that it lists can be asked for, by sockets and services of
 * ours; those of what it no longer says go. Returns what was done, or with `dryRun` would be, in words. Throws REDIRECT_ORDER when systemctl fails.
 */
export async function orderUnits(exec: Exec, wanted: Wanted, dryRun: boolean, folder?: string): Promise<string> {
  const plan = await planOrder(wanted, folder);
  const systemctl = async (...args: string[]) => {
    const { code, stderr } = await exec('systemctl', args, { timeoutMs: SYSTEMCTL_MS });
    if (code !== 0) throw new MeshError('REDIRECT_ORDER', `systemctl ${args[0]}: ${stderr.trim()}`);
  };
  if (!dryRun) {
    const { run, changed, stop } = plan.sockets;
    // while systemd still knows them
    if (stop.length > 0) await systemctl('stop', ...stop);
    if (await writeFiles(plan)) await systemctl('daemon-reload');
    if (changed.length > 0) await systemctl('restart', ...changed);
    if (run.length > 0) await systemctl('start', ...run);
  }
  return filesText(plan);
}
