// The rpms on a booted machine: installed with dnf from the signed repository, joined, serving, upgraded, removed while running. systemd, shell
// and iptables of that machine are Debian's; a stand-in says that what the rpms need is there. So this shows our files, scriptlets and units,
// and neither the other userland of Fedora and RHEL nor SELinux.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import tap from 'tap';
import { eventually, type Machine } from '../../scripts/lib/package/machine.ts';
import { buildNextVersion, NEXT_VERSION, rulesOf, STRICT_REVIEWS } from './mesh.ts';
import {
  callerOf,
  createSmallMesh,
  explained,
  get,
  installExtras,
  isActive,
  join_,
  sampleUnit,
  untilStopped,
} from './small-mesh.ts';

tap.setTimeout(420_000);

const NAME = 'rpm';
/** What the machines see as /srv/share. */
const SHARE = join(import.meta.dirname, '../../build/machine', `share-${NAME}`);
const RPM_ARCH = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
const NEEDED =
  'systemd = 252 iptables iproute conntrack-tools procps-ng nftables kmod glibc = 2.36 libstdc++ = 12 /bin/sh';

/** A repository with one empty package that provides what Debian's packages have put there. */
function buildStandIn(folder: string): void {
  mkdirSync(folder);
  const work = mkdtempSync(join(SHARE, 'stand-in-'));
  const spec = join(work, 'standin.spec');
  writeFileSync(
    spec,
    `Name: standin\nVersion: 1\nRelease: 1\nSummary: Stands in for a base system\nLicense: MIT\nBuildArch: noarch\nProvides: ${NEEDED}\n%description\nStands in for a base system.\n%files\n`,
  );
  const define = [`_topdir ${work}`, `_rpmdir ${folder}`, '_rpmfilename %%{NAME}.rpm'];
  execFileSync('rpmbuild', ['-bb', '--quiet', ...define.flatMap((one) => ['--define', one]), spec], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  rmSync(work, { recursive: true });
  execFileSync('createrepo_c', ['--quiet', folder]);
}

/** What docs/packages.md says of dnf, and the stand-in. */
async function addRpmRepositories(machine: Machine): Promise<void> {
  await installExtras(machine, 'dnf rpm');
  machine.write(
    '/etc/yum.repos.d/hostmesh.repo',
    `[hostmesh]
name=Hostmesh
baseurl=file:///srv/share/rpm/$basearch
gpgcheck=1
repo_gpgcheck=1
gpgkey=file:///srv/share/hostmesh.asc
[standin]
name=Stand-in
baseurl=file:///srv/share/standin
gpgcheck=0
`,
  );
  await machine.must('rpm --import /srv/share/hostmesh.asc');
}

const dnf = (args: string) => `dnf -y -q --releasever=9 --forcearch=${RPM_ARCH} ${args}`;
const pid = async (machine: Machine, command: string) => (await machine.must(command)).trim();
const agentPid = (machine: Machine) => pid(machine, 'systemctl show -p MainPID --value mesh-agent');
const envoyPid = (machine: Machine) => pid(machine, 'pgrep -n -x -u mesh-proxy envoy');

tap.test('the rpms, by dnf, on a booted machine', async (t) => {
  const mesh = await createSmallMesh(NAME, { hosts: 1, objects: STRICT_REVIEWS, extras: true });
  t.teardown(() => mesh.world.down());
  const client = mesh.hosts[0]!;
  buildStandIn(join(SHARE, 'standin'));
  const host = await mesh.world.boot('r', 5);
  await explained(t, [client, host], async () => {
    await addRpmRepositories(host);
    const before = await rulesOf(host);
    const served = async () => {
      const { status, reply } = await get(client, 'client', 'http://reviews:9080/');
      return status === 200 && reply;
    };

    await host.must(dnf('install mesh-agent'), { timeoutMs: 120_000 });
    t.equal((await host.must("systemctl list-units --no-legend --plain 'mesh*'")).trim(), '', 'nothing is started');
    t.equal((await host.exec('systemctl is-enabled mesh-agent')).out.trim(), 'disabled', 'nor enabled');
    t.equal(await rulesOf(host), before, 'no rule');
    t.not((await host.exec('systemctl start mesh-agent')).code, 0, 'start before a join fails');
    t.match(await host.must('journalctl -o cat -u mesh-agent'), /^mesh-agent: this host has not joined a mesh/m);
    await host.must('rpm -V mesh-agent mesh-node mesh-envoy');

    await client.must('useradd --system client');
    await join_(mesh, client, [{ group: 'default/client', by: 'user: client' }]);
    await client.must('systemctl enable --now mesh-agent');
    await host.must('useradd --system reviews');
    host.write('/etc/systemd/system/reviews.service', sampleUnit('r', 'reviews', 9080));
    await host.must('systemctl enable --now reviews');
    await join_(mesh, host, [{ group: 'default/reviews', by: 'user: reviews' }]);
    const begun = performance.now();
    await host.must('systemctl enable --now mesh-agent');
    const ms = Math.round(performance.now() - begun);
    t.ok(ms < 5000, `ready after ${ms} ms`);
    const reply = await eventually('it serves', 20_000, served);
    t.equal(callerOf(reply), 'spiffe://mesh.test/ns/default/sa/client', 'by mutual TLS');

    buildNextVersion(SHARE);
    const [agent, envoy] = [await agentPid(host), await envoyPid(host)];
    await host.must(dnf('--refresh upgrade mesh-agent'), { timeoutMs: 120_000 });
    t.match(await host.must('rpm -q mesh-agent'), NEXT_VERSION);
    t.match(await host.must('mesh-agent --version'), NEXT_VERSION);
    await eventually('the new agent is ready', 20_000, async () => {
      const now = await agentPid(host);
      return now !== '0' && now !== agent && (await isActive(host, 'mesh-agent'));
    });
    t.equal(await envoyPid(host), envoy, 'Envoy went on');
    t.match(await host.must('cat /etc/mesh/agent.yaml'), /default\/reviews/, 'the edited agent.yaml is kept');
    await eventually('it serves', 20_000, served);

    await host.must(dnf('remove mesh-agent'), { timeoutMs: 120_000 });
    await untilStopped(host);
    t.equal(await rulesOf(host), before, 'removed while it ran: the rules are as before');
    t.notMatch(await host.must('ss -Hltnu'), /:15\d\d\d /, 'no port of the mesh is open');
    t.not((await host.exec('systemctl cat mesh-agent')).code, 0, 'the units are gone');
    await host.must('test -s /etc/mesh/agent.yaml.rpmsave && test -d /var/lib/mesh/identity');
    t.equal((await get(mesh.controller, undefined, `http://${host.address}:9080/`)).status, 200, 'plain traffic works');
  });
});
