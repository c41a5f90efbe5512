/**
 * `lab up`: from a plan to running machines. Order: record, users, network, DNS for the outside, controllers, WorkloadGroups and grants,
 * hosts. Each step is one function; whatever fails, `down` undoes what the record names.
 */
import { spawn } from 'node:child_process';
import { openSync } from 'node:fs';
import { chmod, chown, lchown, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Exec } from '../../../agent/host/exec.ts';
import { MeshError } from '../../../api/errors.ts';
import { adminStatus } from './admin.ts';
import { order } from './control.ts';
import { checkSubnetFree, createNetwork, must, namespaces } from './network.ts';
import { createOperator, type Operator } from './operator.ts';
import { LAB_DIR, pathsOf, ROOT, TREE } from './paths.ts';
import { type LabPlan, MESH_USERS, NET_NAMESPACE, type Node, type PlannedHost, PORTS, UPSTREAM } from './plan.ts';
import {
  COMPILE_CACHE,
  type Command,
  controllerSupervisor,
  hostSupervisor,
  OPERATOR,
  type Programs,
} from './programs.ts';
import { releaseLock, saveState, takeLock } from './state.ts';
import type { SupervisorSpec } from './supervisor-spec.ts';
import type { Zone } from './upstream-dns.ts';
import { absentUsers, createUsers, idsOf } from './users.ts';

export interface UpDeps {
  readonly exec: Exec;
  readonly programs: Programs;
  /** One line a step. */
  readonly say: (line: string) => void;
}

const READY_MS = 60_000;

/** Brings the plan up. Throws with the step's own words; the caller takes down what is there. */
export async function bringUp(deps: UpDeps, plan: LabPlan): Promise<void> {
  const { exec, say } = deps;
  const planned = [NET_NAMESPACE, ...plan.controllers.map((n) => n.netns), ...plan.hosts.map((n) => n.netns)];
  takeLock();
  await checkFree(exec, planned).catch((error: unknown) => {
    releaseLock();
    throw error;
  });
  const users = await absentUsers([...MESH_USERS, ...plan.users]);
  await saveState({ plan, users, namespaces: planned, complete: false });
  await createUsers(exec, users);
  await must(exec, 'usermod', ['--append', '--groups', 'mesh-proxy', 'mesh-agent']);
  await mkdir(TREE);
  await makeCompileCache();
  await createNetwork(exec, plan);
  await writeNameServers(plan);
  startUpstreamDns(plan);
  say(`${planned.length} network namespaces, ${users.length} users`);
  await bringUpMesh(deps, plan);
  await saveState({ plan, users, namespaces: planned, complete: true });
}

/** Folders in the work tree where Node keeps what it compiled; mesh-agent's is its own, whatever its uid was the last time. */
async function makeCompileCache(): Promise<void> {
  const { uid, gid } = await idsOf('mesh-agent');
  await mkdir(join(ROOT, COMPILE_CACHE.root), { recursive: true });
  const folder = join(ROOT, COMPILE_CACHE.agent);
  await mkdir(folder, { recursive: true });
  for (const name of await readdir(folder, { recursive: true })) await lchown(join(folder, name), uid, gid);
  await lchown(folder, uid, gid);
}

/** Throws LAB_SUBNET_TAKEN or LAB_NAMESPACE_TAKEN when the machine uses what the lab would make: it would not be the lab's to remove. */
async function checkFree(exec: Exec, planned: readonly string[]): Promise<void> {
  await checkSubnetFree(exec);
  const taken = (await namespaces(exec)).filter((name) => planned.includes(name));
  if (taken.length > 0)
    throw new MeshError(
      'LAB_NAMESPACE_TAKEN',
      `network namespaces of these names exist already and are not the lab's: ${taken.join(', ')}`,
    );
}

async function bringUpMesh({ exec, programs, say }: UpDeps, plan: LabPlan): Promise<void> {
  for (const node of plan.controllers) await startController(exec, programs, node);
  const hosts = plan.hosts.filter((host) => host.agent);
  if (plan.controllers.length === 0) return;
  const operator = await createOperator(plan.controllers[0] as Node, READY_MS);
  say(`controller answers on https://${plan.controllers[0]?.ip4}:${PORTS.rest}`);
  await operator.apply(plan.groups);
  const first = hosts[0];
  // All end before a failure is thrown: what is taken down then must not be written to any more.
  const joins = await Promise.allSettled(
    hosts.map(async (host) => {
      // one peer's address at most: the first host knows none
      const peers = host === first || first === undefined ? [] : [`${first.ip4}:${PORTS.gossip}`];
      await joinHost(exec, programs, operator, host, plan.controllers, peers);
      say(`host ${host.name} joined`);
    }),
  );
  for (const join of joins) if (join.status === 'rejected') throw join.reason;
  await Promise.all(hosts.map(async (host) => say(`host ${host.name} is ready after ${await untilReady(host)} ms`)));
}

/**
 * ip-netns(8) puts these in the place of /etc's files for whatever runs in the namespace. No host names: they would hide services. A resolver
 * is asked for ten seconds in all, as by libc's own 5 s twice, and again sooner: an agent that starts on a busy machine may take five.
 */
async function writeNameServers(plan: LabPlan): Promise<void> {
  const files = {
    'resolv.conf': `nameserver ${UPSTREAM.ip4}\noptions timeout:2 attempts:5\n`,
    hosts: '127.0.0.1 localhost\n::1 localhost ip6-localhost\n',
    'nsswitch.conf':
      'passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n',
  };
  for (const { netns } of [...plan.controllers, ...plan.hosts]) {
    await mkdir(`/etc/netns/${netns}`, { recursive: true });
    for (const [name, text] of Object.entries(files))
      await writeFile(`/etc/netns/${netns}/${name}`, text, { mode: 0o644 });
  }
}

/** Names of the lab's own network: `outside.test` and `dns.test` are the resolver itself, `NODE.lab.test` each node. */
function startUpstreamDns(plan: LabPlan): void {
  const own = { v4: UPSTREAM.ip4, v6: UPSTREAM.ip6 };
  const nodes = [...plan.controllers, ...plan.hosts].map((n) => [`${n.name}.lab.test`, { v4: n.ip4, v6: n.ip6 }]);
  const zone: Zone = { 'outside.test': own, 'dns.test': own, ...Object.fromEntries(nodes) };
  const config = JSON.stringify({ zone, addresses: [own.v4, own.v6], port: 53 });
  detached(
    NET_NAMESPACE,
    [process.execPath, join(import.meta.dirname, 'upstream-dns.ts'), config],
    `${LAB_DIR}/upstream-dns.log`,
  );
}

function detached(netns: string, argv: readonly string[], logPath: string): void {
  const log = openSync(logPath, 'a', 0o640);
  spawn('ip', ['netns', 'exec', netns, ...argv], { stdio: ['ignore', log, log], detached: true, cwd: '/' }).unref();
}

async function makeFolders(node: Node, owner: string, group: string): Promise<void> {
  const paths = pathsOf(node.name);
  const [{ uid }, { gid }] = await Promise.all([idsOf(owner), idsOf(group)]);
  for (const folder of [dirname(paths.config), paths.logDir]) await mkdir(folder, { recursive: true, mode: 0o755 });
  for (const folder of [paths.stateDir, paths.runDir]) {
    await mkdir(folder);
    await chown(folder, uid, gid);
    await chmod(folder, 0o2750); // what the agent makes here is of the proxy's group
  }
}

/** Starts a node's supervisor in its namespace, the work tree mounted where the mesh's users can read it, and waits until it takes orders. */
async function startSupervisor(node: Node, spec: SupervisorSpec): Promise<void> {
  const paths = pathsOf(node.name);
  await writeFile(paths.supervisorSpec, JSON.stringify(spec), { mode: 0o600 });
  const script = 'source=$1 tree=$2; shift 2; mount --bind "$source" "$tree" && exec "$@"';
  const log = `${paths.logDir}/supervisor.log`;
  const node24 = `${TREE}/build/node/bin/node`;
  detached(
    node.netns,
    ['sh', '-c', script, 'sh', ROOT, TREE, node24, `${TREE}/scripts/lib/lab/hold.ts`, paths.supervisorSpec, log],
    log,
  );
  await poll(`supervisor of ${node.name}`, log, 20_000, () => order(node.name, { do: 'status' }));
}

async function startController(exec: Exec, programs: Programs, node: Node): Promise<void> {
  const paths = pathsOf(node.name);
  await makeFolders(node, 'mesh-controller', 'mesh-controller');
  await writeFile(paths.config, programs.controllerConfig(node, paths), { mode: 0o644 });
  await runOn(exec, node, programs.controllerInit(node, paths), '');
  await startSupervisor(node, controllerSupervisor(programs, node));
  await order(node.name, { do: 'start', unit: 'all' });
  await keepCredentials(paths.stateDir);
}

/** `mesh-controller init` leaves the admin's token and the certificate to trust in its state folder; the operator's side gets them. */
async function keepCredentials(stateDir: string): Promise<void> {
  await mkdir(dirname(OPERATOR.token), { mode: 0o755 });
  await writeFile(OPERATOR.token, await readFile(`${stateDir}/admin-token`), { mode: 0o600 });
  await writeFile(OPERATOR.caFile, await readFile(`${stateDir}/ca.pem`), { mode: 0o644 });
}

async function joinHost(
  exec: Exec,
  programs: Programs,
  operator: Operator,
  host: PlannedHost,
  controllers: readonly Node[],
  peers: readonly string[],
): Promise<void> {
  const paths = pathsOf(host.name);
  await makeFolders(host, 'mesh-agent', 'mesh-proxy');
  await mkdir(`${paths.runDir}/redirect`);
  await chmod(`${paths.runDir}/redirect`, 0o755);
  const { uid } = await idsOf('mesh-agent');
  await chown(`${paths.runDir}/redirect`, uid, (await idsOf('mesh-proxy')).gid);
  await writeFile(paths.config, programs.agentConfig(host, paths, controllers), { mode: 0o644 });
  await startSupervisor(host, hostSupervisor(programs, host));
  const joinString = await operator.createJoinString(
    host.name,
    [...host.bindings.map((b) => b.group), ...host.gateways],
    peers,
  );
  await runOn(exec, host, programs.agentJoin(host, paths), joinString);
  await order(host.name, { do: 'start', unit: 'all' });
}

/** Runs a command of the mesh in a node's namespace to its end, as its user. Throws COMMAND_FAILED with its last words. */
async function runOn(exec: Exec, node: Node, command: Command, input: string): Promise<string> {
  const script = 'source=$1 tree=$2; shift 2; mount --bind "$source" "$tree" && exec "$@"';
  const drop =
    command.user === undefined
      ? []
      : [
          'setpriv',
          '--reuid',
          command.user,
          '--regid',
          command.user,
          '--init-groups',
          '--inh-caps=-all',
          '--bounding-set=-all',
          '--no-new-privs',
        ];
  const env = ['env', '-i', ...Object.entries(command.env).map(([key, value]) => `${key}=${value}`)];
  return must(
    exec,
    'ip',
    ['netns', 'exec', node.netns, 'sh', '-c', script, 'sh', ROOT, TREE, ...env, ...drop, ...command.argv],
    input,
  );
}

/** A host is ready when its agent says so on its admin socket: config and endpoints acknowledged by Envoy, rules standing. Returns how long that took. */
async function untilReady(host: PlannedHost): Promise<number> {
  const begun = performance.now();
  const log = `${pathsOf(host.name).logDir}/agent.log`;
  await poll(`host ${host.name}`, log, READY_MS, async () => {
    const status = await adminStatus(pathsOf(host.name).runDir);
    if (!status.ready) throw new MeshError('LAB_NOT_READY', status.problems.join('; ') || 'the agent is not ready');
  });
  return Math.round(performance.now() - begun);
}

/** Tries until it goes well; throws LAB_TIMEOUT with the last failure and the end of the log. */
export async function poll(
  what: string,
  logPath: string,
  timeoutMs: number,
  attempt: () => Promise<unknown>,
): Promise<void> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    try {
      await attempt();
      return;
    } catch (error) {
      if (performance.now() > end) {
        const log = await readFile(logPath, 'utf8').catch(() => '');
        throw new MeshError(
          'LAB_TIMEOUT',
          `${what} is not up after ${timeoutMs / 1000} s; end of ${logPath}:\n${log.slice(-2000)}`,
          { cause: error },
        );
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
