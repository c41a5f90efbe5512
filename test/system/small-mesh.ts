// A controller and one or two hosts on booted machines, for the rows that need no more. The packages are built once for all such files.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { eventually, type Machine, type World } from '../../scripts/lib/package/machine.ts';
import { addRepository, apt, buildRepository, inWorld, journal, meshctlOn, NODE, startController } from './mesh.ts';

const ROOT = join(import.meta.dirname, '../..');
const MACHINES = join(ROOT, 'build/machine');
const EXTRAS = join(MACHINES, 'extras');

/** What a package is made of: when none of it has changed, the packages have not. */
const SOURCES = ['api', 'runtime', 'agent', 'controller', 'cli', 'packaging', 'scripts', 'package-lock.json'];

function fingerprint(): string {
  const hash = createHash('sha256');
  const add = (path: string) => {
    const info = statSync(path);
    if (info.isDirectory()) for (const name of readdirSync(path).sort()) add(join(path, name));
    else hash.update(`${path} ${info.size} ${info.mtimeMs}\n`);
  };
  for (const source of SOURCES) add(join(ROOT, source));
  return hash.digest('hex').slice(0, 16);
}

/** The signed repository of this checkout, built when there is none of these very files yet. */
function builtRepository(): string {
  const path = join(MACHINES, `repo-${fingerprint()}`);
  if (!existsSync(path)) {
    mkdirSync(MACHINES, { recursive: true });
    for (const name of readdirSync(MACHINES))
      if (name.startsWith('repo-')) rmSync(join(MACHINES, name), { recursive: true, force: true });
    const making = mkdtempSync(join(MACHINES, 'making-'));
    try {
      buildRepository(making);
      renameSync(making, path);
    } finally {
      rmSync(making, { recursive: true, force: true });
    }
  }
  utimesSync(path, new Date(), new Date());
  return path;
}

/** As makeShare of mesh.ts, from the packages that are there already; `extras`: packages of Debian beside ours. */
function makeShare(name: string, extras: boolean): string {
  const share = join(MACHINES, `share-${name}`);
  rmSync(share, { recursive: true, force: true });
  execFileSync('cp', ['-a', builtRepository(), share]);
  execFileSync('chmod', ['755', share]);
  for (const file of ['scripts/lib/sample-service.ts', 'scripts/lib/load.ts', 'test/system/dns-client.ts'])
    copyFileSync(join(ROOT, file), join(share, basename(file)));
  if (extras) {
    execFileSync(join(ROOT, 'scripts/lib/package/machine-extras'), { stdio: ['ignore', 'ignore', 'inherit'] });
    execFileSync('cp', ['-a', EXTRAS, join(share, 'extras')]);
  }
  return share;
}

export interface SmallMesh {
  readonly world: World;
  readonly controller: Machine;
  readonly hosts: readonly Machine[];
  meshctl(args: string, input?: string): Promise<string>;
}

/** A group of the mesh, and what runs it: `unit: X` or `user: X`. */
export interface Bound {
  readonly group: string;
  readonly by: string;
}

const NAMES = ['a', 'b'] as const;

/** `objects`: YAML. `extras`: packages of Debian that hosts may install by installExtras. The hosts have joined nothing yet. */
export async function createSmallMesh(
  name: string,
  options: { readonly hosts: 1 | 2; readonly objects: string; readonly extras?: boolean },
): Promise<SmallMesh> {
  const share = makeShare(name, options.extras ?? false);
  return inWorld(name, share, ['outside.example', 'shop.example', 'www.shop.example'], async (world) => {
    const [controller, ...hosts] = await Promise.all([
      world.boot('c', 9),
      ...NAMES.slice(0, options.hosts).map((host, index) => world.boot(host, index + 1)),
    ]);
    const meshctl = meshctlOn(controller);
    await Promise.all([
      startController(controller).then(() => meshctl('apply -f -', options.objects)),
      ...hosts.map(async (host) => {
        await addRepository(host);
        await host.must(apt('install mesh-agent'));
      }),
    ]);
    return { world, controller, hosts, meshctl };
  });
}

/** Users, agent.yaml and the join, with these workloads. Leaves the agent off. */
export async function join_(mesh: SmallMesh, machine: Machine, bound: readonly Bound[]): Promise<void> {
  await setWorkloads(machine, bound);
  const peers = mesh.hosts.filter((other) => other !== machine).map(({ address }) => `--peer ${address}:15300`);
  const groups = bound.map(({ group }) => `--group ${group}`);
  const string = await mesh.meshctl(`token create --host ${machine.name} ${[...groups, ...peers].join(' ')}`);
  await machine.must('mesh-agent join', { input: string });
}

/** Writes agent.yaml's workloads. */
export async function setWorkloads(machine: Machine, bound: readonly Bound[]): Promise<void> {
  const list = bound.map(({ group, by }) => `{group: ${group}, ${by}}`).join(', ');
  // a join writes the file anew, and a long list over several lines
  const program = `/^workloads:/ {print "workloads: [${list}]"; skip = 1; next} skip && /^[ \\t]/ {next} {skip = 0; print}`;
  await machine.must(
    `awk '${program}' /etc/mesh/agent.yaml > /root/agent.yaml && cat /root/agent.yaml > /etc/mesh/agent.yaml`,
  );
}

/** Installs Debian's own packages from the share. */
export async function installExtras(machine: Machine, packages: string): Promise<void> {
  machine.write('/etc/apt/sources.list.d/extras.list', 'deb [trusted=yes] file:///srv/share/extras ./\n');
  await machine.must('apt-get -qq update');
  await machine.must(apt(`install --no-install-recommends -o Dpkg::Options::=--force-unsafe-io ${packages}`));
}

/** A unit that runs the sample service as `user`; it answers with its name and what it was sent. */
export function sampleUnit(name: string, user: string, port: number): string {
  return `[Service]
User=${user}
ExecStart=${NODE} --no-warnings /srv/share/sample-service.ts ${name} http=${port}
Restart=always
[Install]
WantedBy=multi-user.target
`;
}

export interface Reply {
  readonly service: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** One request by a user of the machine; the status and the service's answer. */
export async function get(
  machine: Machine,
  user: string | undefined,
  url: string,
): Promise<{ readonly status: number; readonly reply: Reply | undefined }> {
  const ran = await machine.exec(`curl -s -m 5 -w '\\n%{http_code}' ${url}`, { user });
  const at = ran.out.lastIndexOf('\n');
  const [body, status] = [ran.out.slice(0, at).trim(), ran.out.slice(at + 1)];
  return { status: Number(status), reply: body.startsWith('{') ? (JSON.parse(body) as Reply) : undefined };
}

/** URIs of the callers that a server was told of. */
export function callerOf(reply: Reply | undefined): string | undefined {
  return /URI=([^;,]+)/.exec(reply?.headers['x-forwarded-client-cert'] ?? '')?.[1];
}

export const isActive = async (machine: Machine, unit: string) =>
  (await machine.exec(`systemctl is-active ${unit}`)).out.trim() === 'active';

/** Nothing of the mesh acts any more. */
export function untilStopped(machine: Machine): Promise<true> {
  return eventually(`${machine.name}: the units have stopped`, 20_000, async () => {
    const { out } = await machine.exec("systemctl list-units --no-legend --plain 'mesh*'");
    return !/ (active|activating|deactivating) /.test(out) && (true as const);
  });
}

/** Runs steps in order as subtests; the first that throws says what the hosts' journals said. */
export async function explained<T>(
  t: { comment(text: string): void },
  machines: readonly Machine[],
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    for (const machine of machines) t.comment(`${machine.name}: ${await journal(machine)}`);
    throw error;
  }
}
