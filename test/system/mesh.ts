// A mesh as an operator makes it, on booted machines: packages from the signed repository, one join string a host.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { LoadReport } from '../../scripts/lib/load.ts';
import { createWorld, eventually, type Machine, type World } from '../../scripts/lib/package/machine.ts';

const ROOT = join(import.meta.dirname, '../..');
export const NODE = '/usr/lib/mesh/node';
/** Newer than the package's own version: for upgrades. */
export const NEXT_VERSION = '0.99.0';

/** The packages whose version is this checkout's. */
const OURS = ['mesh-agent', 'mesh-controller', 'meshctl'];

/** Builds packages of this checkout, all unless told otherwise, and adds them to the repository. */
export function buildRepository(share: string, only: readonly string[] = [], more: readonly string[] = []): void {
  const packages = mkdtempSync(join(ROOT, 'build', 'system-packages-'));
  const run = (file: string, ...args: string[]) =>
    execFileSync(join(ROOT, file), args, { stdio: ['ignore', 'ignore', 'inherit'] });
  try {
    const arch = process.arch === 'arm64' ? 'arm64' : 'amd64';
    run('scripts/package', '--out', packages, '--arch', arch, ...only.flatMap((name) => ['--only', name]), ...more);
    run('scripts/repo', '--packages', packages, '--out', share);
  } finally {
    rmSync(packages, { recursive: true, force: true });
  }
}

/** The next version of our programs beside the present one. */
export function buildNextVersion(share: string): void {
  buildRepository(share, OURS, ['--version', NEXT_VERSION]);
}

/** The folder that machines see as /srv/share: the repository, and the programs that stand in for services and callers. */
export function makeShare(name: string): string {
  const share = join(ROOT, 'build/machine', `share-${name}`);
  rmSync(share, { recursive: true, force: true });
  mkdirSync(share, { recursive: true });
  for (const file of ['sample-service.ts', 'load.ts']) copyFileSync(join(ROOT, 'scripts/lib', file), join(share, file));
  buildRepository(share);
  return share;
}

/** What an operator does before the first `apt install`. */
export async function addRepository(machine: Machine): Promise<void> {
  await machine.must('install -m 0644 /srv/share/hostmesh.gpg /usr/share/keyrings/hostmesh.gpg');
  machine.write(
    '/etc/apt/sources.list.d/hostmesh.list',
    'deb [signed-by=/usr/share/keyrings/hostmesh.gpg] file:///srv/share/deb stable main\n',
  );
  await machine.must('apt-get -qq update');
}

export const apt = (command: string) => `DEBIAN_FRONTEND=noninteractive apt-get -y -qq ${command} </dev/null`;

export interface Mesh {
  readonly world: World;
  readonly controller: Machine;
  readonly a: Machine;
  readonly b: Machine;
  readonly d: Machine;
  meshctl(args: string, input?: string): Promise<string>;
  /** Steady requests from a's client to `url`; resolves with the report when stopped. */
  load(url: string, perSecond: number): Promise<() => Promise<LoadReport>>;
  /** One request from a's client to reviews, given so many seconds (5); the body, or undefined. */
  call(seconds?: number): Promise<Reply | undefined>;
}

interface Reply {
  readonly service: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** reviews by name, and the groups that serve it and call it. YAML documents. */
export const REVIEWS = `
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec:
  selector: {app: reviews}
  ports: [{name: http, port: 9080}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: reviews, namespace: default}
spec:
  metadata: {labels: {app: reviews}}
  template: {serviceAccount: reviews, labels: {app: reviews}, ports: {http: 9080}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: client, namespace: default}
spec:
  metadata: {labels: {app: client}}
  template: {serviceAccount: client, labels: {app: client}}
`;

/** The same under STRICT. */
export const STRICT_REVIEWS = `${REVIEWS}---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: default}
spec: {mtls: {mode: STRICT}}
`;

const service = (user: string, command: string) => `[Unit]
After=mesh-agent.service
[Service]
User=${user}
ExecStart=${command}
Restart=always
[Install]
WantedBy=multi-user.target
`;

/** Makes a world in which these names mean the bridge's address outside, and gives it to `furnish`; a share goes with its world. */
export async function inWorld<T>(
  name: string,
  share: string,
  outside: readonly string[],
  furnish: (world: World) => Promise<T>,
): Promise<T> {
  const made = await createWorld(name, share);
  const world: World = {
    ...made,
    async down() {
      await made.down();
      rmSync(share, { recursive: true, force: true });
    },
  };
  try {
    const zone = Object.fromEntries(outside.map((host) => [host, { v4: world.address, v6: 'fd00:213::fe' }]));
    world.outside(process.execPath, [
      join(ROOT, 'scripts/lib/lab/upstream-dns.ts'),
      JSON.stringify({ zone, addresses: [world.address], port: 53 }),
    ]);
    return await furnish(world);
  } catch (error) {
    await world.down();
    throw error;
  }
}

/** What an operator does to have a controller. */
export async function startController(controller: Machine): Promise<void> {
  await addRepository(controller);
  await controller.must(apt('install mesh-controller meshctl'));
  controller.write('/etc/mesh/controller.yaml', `trustDomain: mesh.test\naddresses: [${controller.address}]\n`);
  await controller.must('mesh-controller init');
  await controller.must('systemctl enable --now mesh-controller');
}

/** meshctl on the controller's machine, as its first admin. */
export function meshctlOn(controller: Machine): Mesh['meshctl'] {
  return (args, input = '') =>
    controller.must(
      `MESH_API=https://${controller.address}:15200 MESH_CA_FILE=/var/lib/mesh-controller/ca.pem MESH_TOKEN_FILE=/var/lib/mesh-controller/admin-token meshctl ${args}`,
      { input },
    );
}

/** Boots controller, a (client), b and d (reviews), by the words of docs/packages.md. */
export function createMesh(name: string, share: string): Promise<Mesh> {
  return inWorld(name, share, ['outside.example'], furnish);
}

async function furnish(world: World): Promise<Mesh> {
  const [controller, a, b, d] = await Promise.all([
    world.boot('c', 9),
    world.boot('a', 1),
    world.boot('b', 2),
    world.boot('d', 4),
  ]);
  for (const machine of [a, b, d]) await addRepository(machine);
  await startController(controller);
  const meshctl = meshctlOn(controller);
  await meshctl('apply -f -', STRICT_REVIEWS);
  return {
    world,
    controller,
    a,
    b,
    d,
    meshctl,
    load: (url, rate) => startLoad(a, url, rate),
    call: (seconds) => call(a, seconds),
  };
}

/** Which WorkloadGroup a host runs, as which user. */
export interface HostSetup {
  readonly group: string;
  readonly user: string;
}

/** apt install, agent.yaml, join, the workload's user. Leaves the agent off. */
export async function joinHost(mesh: Mesh, machine: Machine, workload: { group: string; user: string }): Promise<void> {
  await machine.must(apt('install mesh-agent'));
  await machine.must(`id -u ${workload.user} >/dev/null 2>&1 || useradd --system ${workload.user}`);
  const path = '/etc/mesh/agent.yaml';
  const bound = `workloads: [{group: ${workload.group}, user: ${workload.user}}]`;
  await machine.must(`sed -i 's|^workloads: .*|${bound}|' ${path}`);
  const peers = [mesh.a, mesh.b, mesh.d]
    .filter((other) => other !== machine)
    .map(({ address }) => `--peer ${address}:15300`);
  const string = await mesh.meshctl(`token create --host ${machine.name} --group ${workload.group} ${peers.join(' ')}`);
  await machine.must('mesh-agent join', { input: string });
}

/** The workload, as a unit of its own; it answers with its machine's name. */
export async function startReviews(machine: Machine): Promise<void> {
  machine.write(
    '/etc/systemd/system/reviews.service',
    service('reviews', `${NODE} --no-warnings /srv/share/sample-service.ts ${machine.name} http=9080`),
  );
  await machine.must('systemctl daemon-reload && systemctl enable --now reviews');
}

async function call(machine: Machine, seconds = 5): Promise<Reply | undefined> {
  const ran = await machine.exec(`curl -sf -m ${seconds} http://reviews:9080/`, { user: 'client' });
  return ran.code === 0 ? (JSON.parse(ran.out) as Reply) : undefined;
}

async function startLoad(machine: Machine, url: string, perSecond: number): Promise<() => Promise<LoadReport>> {
  const child = machine.start(`exec ${NODE} --no-warnings /srv/share/load.ts ${url} ${perSecond}`, 'client');
  let [out, err] = ['', ''];
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  const ended = new Promise<void>((done) => void child.once('close', () => done()));
  await eventually('the load has started', 20_000, async () => out.includes('started'));
  return async () => {
    child.stdin!.end();
    await Promise.race([ended, delay(40_000, undefined, { ref: false })]);
    const report = out.trim().split('\n').at(-1) ?? '';
    if (!report.startsWith('{')) throw new Error(`no report of the load: ${out}${err}`);
    return JSON.parse(report) as LoadReport;
  };
}

/** Until a's client is served by so many hosts, and by nothing else. */
export async function waitServing(mesh: Mesh, hosts: number): Promise<void> {
  await eventually(`reviews answers from ${hosts} hosts`, 40_000, async () => {
    const seen = new Set<string | undefined>();
    for (let calls = 0; calls < 16; calls++) seen.add((await mesh.call())?.service);
    return !seen.has(undefined) && seen.size === hosts;
  });
}

/** Command that prints the rules of both families, bar counters and times. */
const RULES = "{ iptables-save; ip6tables-save; } | grep -v '^#' | sed 's/ \\[[0-9:]*\\]$//'";

/** The rules of both families; `after`: a command to run first. In one go, so that nobody is faster than the look. */
export function rulesOf(machine: Machine, after = 'true'): Promise<string> {
  return machine.must(`${after} && ${RULES}`);
}

/** The last lines that the mesh's units logged. */
export async function journal(machine: Machine, unit = 'mesh*'): Promise<string> {
  return (
    await machine.exec(
      `journalctl --no-pager -o cat -n 400 -u '${unit}' | grep -v '^{"authority"\\|grpc_stream.h\\|kill control group' | tail -40`,
    )
  ).out;
}
