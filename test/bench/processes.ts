import { readFileSync } from 'node:fs';
import type { World } from '../../scripts/lib/demo/world.ts';
import { LAB_DIR } from '../../scripts/lib/lab/paths.ts';

/** CPU time of a process in seconds, user and system. proc(5): fields 14 and 15 of stat, in 1/100 s. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Resident memory in MB (2^20 bytes). */
export function rssMb(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
}

/** Process ids of a lab host's agent and Envoy, as scripts/lab knows them. */
export async function pidsOf(world: World, host: string): Promise<{ agent: number; proxy: number }> {
  const { stdout } = await world.lab('status');
  const line = stdout.split('\n').find((row) => row.startsWith(`${host} `)) ?? '';
  const pid = (name: string) => Number(new RegExp(`${name} running \\((\\d+)\\)`).exec(line)?.[1] ?? 0);
  return { agent: pid('agent'), proxy: pid('proxy') };
}

/** Path of a lab host's folder. */
export const nodeDir = (host: string): string => `${LAB_DIR}/nodes/${host}`;
