/** Agents that die and come back. In: hosts. Out: when the new agents are ready. */
import { must } from './run.ts';
import type { World } from './world.ts';

const READY_MS = 60_000;

/** Waits until the agent of each host is ready; `not`: and is another than the one started at that time. */
export async function untilReady(world: World, hosts: readonly string[], not: readonly string[] = []): Promise<void> {
  await world.until(
    async () => {
      const all = await Promise.all(hosts.map((host) => world.agentStatus(host).catch(() => undefined)));
      return all.every((one, i) => one?.ready === true && one.startedAt !== not[i]);
    },
    `the agents of ${hosts.join(', ')} are ready`,
    READY_MS,
  );
}

/** SIGKILL to the agent of each host; resolves when those that the supervisor starts in their place are ready. */
export async function restartAgents(world: World, hosts: readonly string[]): Promise<void> {
  const before = await killAgents(world, hosts);
  await untilReady(world, hosts, before);
}

/** SIGKILL to the agent of each host, one after the other; they are started again at once. Returns when they had started. */
export async function killAgents(world: World, hosts: readonly string[]): Promise<string[]> {
  const before = await Promise.all(hosts.map(async (host) => (await world.agentStatus(host)).startedAt));
  for (const host of hosts) must(await world.lab('kill', host, 'agent'), `kill ${host} agent`);
  return before;
}
