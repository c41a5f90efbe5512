/**
 * What agent.yaml asks of systemd, and the one place where it is done: mesh-order.service, root's. In: agent.yaml, users. Out: files of ours in
 * /etc/systemd/system, sockets that run. Must never: take a word of the agent's or of an operator's objects, or touch a file that is not ours.
 */
import { hasCode, MeshError } from '../../api/errors.ts';
import { UNIT_NAME } from '../config.ts';
import type { Exec } from '../host/exec.ts';
import type { Users } from '../host/users.ts';
import { workloadUidFault } from '../host/workload-uid.ts';
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

/** The part of agent.yaml that says it. */
export interface OrderConfig {
  readonly workloads: readonly {
    readonly group: string;
    readonly user: string;
    readonly execProbes: readonly (readonly string[])[];
  }[];
  readonly proxyUser: string;
  readonly agentUser: string;
}

const SYSTEMCTL_MS = 30_000;

/** Commands run as no user that could not be a workload's, by whatever name. */
export async function wantedOf(config: OrderConfig, users: Users): Promise<Wanted> {
  const uidOf = (name: string) =>
    users.uid(name).catch((error: unknown) => {
      if (!hasCode(error, 'USER_UNKNOWN')) throw error;
    });
  const commands: ListedCommand[] = [];
  const problems: string[] = [];
  const listing = config.workloads.filter(({ execProbes }) => execProbes.length > 0);
  const ours = listing.length === 0 ? [] : await Promise.all([config.proxyUser, config.agentUser].map(uidOf));
  const own = new Set(ours.filter((uid) => uid !== undefined));
  for (const { group, user, execProbes } of listing) {
    const uid = await uidOf(user);
    const fault = uid === undefined ? 'is not known' : workloadUidFault(uid, own);
    if (uid === undefined || fault !== undefined) problems.push(`${group}: execProbes are not run: ${user} ${fault}`);
    else commands.push(...execProbes.map((command) => ({ group, uid, command })));
  }
  const units = config.workloads.map(({ user }) => user).filter((user) => UNIT_NAME.test(user));
  return { units, commands, problems, agentUser: config.agentUser };
}

/** Has mesh-order.service do it, where there is something to do: for who may not write units. Throws REDIRECT_ORDER. */
export async function askForOrder(exec: Exec, wanted: Wanted, folder?: string): Promise<void> {
  const { write, remove } = await planOrder(wanted, folder);
  if (write.length + remove.length > 0) await systemctl(exec, 'start', '--no-block', 'mesh-order.service');
}

async function systemctl(exec: Exec, ...args: string[]): Promise<void> {
  const { code, stderr } = await exec('systemctl', args, { timeoutMs: SYSTEMCTL_MS });
  if (code !== 0) throw new MeshError('REDIRECT_ORDER', `systemctl ${args[0]}: ${stderr.trim()}`);
}

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
  if (!dryRun) {
    const { run, changed, stop } = plan.sockets;
    // while systemd still knows them
    if (stop.length > 0) await systemctl(exec, 'stop', ...stop);
    // One that was asked too often would fail again at the first question of its interval (systemd 252): it counts anew after a reload only.
    const failed =
      run.length > 0 &&
      (await exec('systemctl', ['is-failed', '--quiet', ...run], { timeoutMs: SYSTEMCTL_MS })).code === 0;
    if ((await writeFiles(plan)) || failed) await systemctl(exec, 'daemon-reload');
    if (changed.length > 0) await systemctl(exec, 'restart', ...changed);
    if (run.length > 0) await systemctl(exec, 'start', ...run);
  }
  return filesText(plan);
}
