/**
 * The lab's network: one namespace with a bridge, one namespace a node with a link to it, one link for the machine itself. In: the plan.
 * Out: kernel state, all of it inside namespaces called hm-*, but for the one device hm-root. Must never: touch a rule, route or device
 * that is not the lab's.
 */
import { readFile } from 'node:fs/promises';
import type { Exec } from '../../../agent/host/exec.ts';
import { MeshError } from '../../../api/errors.ts';
import { type LabPlan, NET_NAMESPACE, type Node, ROOT_NODE, SUBNET4, UPSTREAM } from './plan.ts';

/** Runs a command that must succeed; throws COMMAND_FAILED with its own words. */
export async function must(exec: Exec, file: string, args: readonly string[], input?: string): Promise<string> {
  const { code, stdout, stderr } = await exec(file, args, {
    timeoutMs: 60_000,
    ...(input === undefined ? {} : { input }),
  });
  if (code !== 0)
    throw new MeshError(
      'COMMAND_FAILED',
      `${file} ${args.join(' ')}: ${(stderr.trim() || stdout.trim() || `exit ${code}`).slice(0, 500)}`,
    );
  return stdout;
}

/** Throws LAB_SUBNET_TAKEN when this machine uses the lab's addresses for something else: a lab must not shadow a real network. */
export async function checkSubnetFree(exec: Exec): Promise<void> {
  const routes = JSON.parse((await must(exec, 'ip', ['-j', '-4', 'route', 'show', 'root', SUBNET4])) || '[]') as {
    dst: string;
    dev?: string;
  }[];
  if (routes.length > 0)
    throw new MeshError(
      'LAB_SUBNET_TAKEN',
      `this machine routes ${routes[0]?.dst} by ${routes[0]?.dev}; the lab uses ${SUBNET4} and would shadow it`,
    );
}

export async function createNetwork(exec: Exec, plan: LabPlan): Promise<void> {
  const nodes: Node[] = [...plan.controllers, ...plan.hosts];
  await must(exec, 'ip', ['netns', 'add', NET_NAMESPACE]);
  for (const node of nodes) await must(exec, 'ip', ['netns', 'add', node.netns]);
  for (const netns of [NET_NAMESPACE, ...nodes.map((n) => n.netns)])
    await must(exec, 'ip', ['netns', 'exec', netns, 'sh', '-c', SYSCTLS]);
  await batch(exec, NET_NAMESPACE, [
    'link set lo up',
    'link add br0 type bridge stp_state 0 mcast_snooping 0',
    `addr add ${UPSTREAM.ip4}/24 dev br0`,
    `addr add ${UPSTREAM.ip6}/64 dev br0 nodad`,
    'link set br0 up',
  ]);
  const links = nodes.map((n) => `link add eth0 netns ${n.netns} type veth peer name ${n.port} netns ${NET_NAMESPACE}`);
  await batch(exec, undefined, [
    ...links,
    `link add ${ROOT_NODE.device} type veth peer name proot netns ${NET_NAMESPACE}`,
    `addr add ${ROOT_NODE.ip4}/24 dev ${ROOT_NODE.device}`,
    `addr add ${ROOT_NODE.ip6}/64 dev ${ROOT_NODE.device} nodad`,
    `link set ${ROOT_NODE.device} up`,
  ]);
  await batch(
    exec,
    NET_NAMESPACE,
    [...nodes.map((n) => n.port), 'proot'].map((port) => `link set ${port} master br0 up`),
  );
  for (const node of nodes)
    await batch(exec, node.netns, [
      'link set lo up',
      `addr add ${node.ip4}/24 dev eth0`,
      `addr add ${node.ip6}/64 dev eth0 nodad`,
      'link set eth0 up',
    ]);
}

/** New namespaces take over the machine's defaults: the lab's need both families, no duplicate-address wait, no filtering of bridged packets. */
const SYSCTLS = [
  'for f in all default lo; do echo 0 > /proc/sys/net/ipv6/conf/$f/disable_ipv6; echo 0 > /proc/sys/net/ipv6/conf/$f/accept_dad; done',
  'for f in /proc/sys/net/bridge/bridge-nf-call-*tables; do [ ! -e $f ] || echo 0 > $f; done',
].join('; ');

async function batch(exec: Exec, netns: string | undefined, lines: readonly string[]): Promise<void> {
  await must(exec, 'ip', [...(netns === undefined ? [] : ['-n', netns]), '-batch', '-'], `${lines.join('\n')}\n`);
}

/** The cable of a node: down is silence and a lost carrier on its side, as when it is pulled. */
export async function setLink(exec: Exec, node: Node, up: boolean): Promise<void> {
  await must(exec, 'ip', ['-n', NET_NAMESPACE, 'link', 'set', node.port, up ? 'up' : 'down']);
}

const TABLE = 'hostmesh_lab';

/** Drops every frame between the nodes of `a` and those of `b`, both ways, besides what is cut already. */
export async function partition(exec: Exec, a: readonly Node[], b: readonly Node[]): Promise<void> {
  const rules = a.flatMap((x) =>
    b.flatMap((y) => [
      `add rule bridge ${TABLE} forward iifname ${x.port} oifname ${y.port} drop`,
      `add rule bridge ${TABLE} forward iifname ${y.port} oifname ${x.port} drop`,
    ]),
  );
  const text = [
    `add table bridge ${TABLE}`,
    `add chain bridge ${TABLE} forward { type filter hook forward priority 0; }`,
    ...rules,
    '',
  ].join('\n');
  await must(exec, 'ip', ['netns', 'exec', NET_NAMESPACE, 'nft', '-f', '-'], text);
}

/** Ends all partitions; links that were set down are up again. */
export async function heal(exec: Exec, nodes: readonly Node[]): Promise<void> {
  await must(
    exec,
    'ip',
    ['netns', 'exec', NET_NAMESPACE, 'nft', '-f', '-'],
    `add table bridge ${TABLE}\ndelete table bridge ${TABLE}\n`,
  );
  await batch(
    exec,
    NET_NAMESPACE,
    nodes.map((n) => `link set ${n.port} up`),
  );
}

export interface NetworkState {
  readonly downLinks: readonly string[];
  readonly partitioned: boolean;
}

/** Which ports are down and whether a partition stands. */
export async function networkState(exec: Exec): Promise<NetworkState> {
  const links = JSON.parse(await must(exec, 'ip', ['-j', '-n', NET_NAMESPACE, 'link', 'show', 'type', 'veth'])) as {
    ifname: string;
    flags: string[];
  }[];
  const { code } = await exec('ip', ['netns', 'exec', NET_NAMESPACE, 'nft', 'list', 'table', 'bridge', TABLE]);
  return { downLinks: links.filter((l) => !l.flags.includes('UP')).map((l) => l.ifname), partitioned: code === 0 };
}

/** Names of all network namespaces of the machine. */
export async function namespaces(exec: Exec): Promise<string[]> {
  const out = await must(exec, 'ip', ['netns', 'list']);
  return out
    .split('\n')
    .flatMap((line) => line.split(' ').slice(0, 1))
    .filter((name) => name !== '');
}

/** Pids in a namespace, the caller's own left out. */
export async function pidsIn(exec: Exec, netns: string): Promise<number[]> {
  const { code, stdout } = await exec('ip', ['netns', 'pids', netns]);
  return code === 0
    ? stdout
        .split('\n')
        .map(Number)
        .filter((pid) => pid > 0 && pid !== process.pid)
    : [];
}

/** Kills everything in a namespace: the lab's programs and what its users started there. Throws LAB_STUCK when something outlives SIGKILL for 10 s. */
export async function killNamespace(exec: Exec, netns: string): Promise<void> {
  for (let round = 0; round < 200; round++) {
    const pids = [];
    for (const pid of await pidsIn(exec, netns)) if (!(await isZombie(pid))) pids.push(pid);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // gone since it was listed
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new MeshError('LAB_STUCK', `processes of ${netns} do not end: ${(await pidsIn(exec, netns)).join(' ')}`);
}

async function isZombie(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') Z');
  return /\) Z/.test(stat);
}

/** Removes those of `names` that exist with all that is in them, and the machine's own leg. Nothing there: nothing done. */
export async function destroyNetwork(exec: Exec, names: readonly string[]): Promise<void> {
  const there = (await namespaces(exec)).filter((name) => names.includes(name));
  for (const netns of there) await killNamespace(exec, netns);
  await exec('ip', ['link', 'del', ROOT_NODE.device]);
  for (const netns of there) await must(exec, 'ip', ['netns', 'del', netns]);
}
