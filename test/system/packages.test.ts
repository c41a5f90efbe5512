// The packages as files: lint, sameness of two builds, signatures, and the rpm's life in a root of its own.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import tap from 'tap';
import { buildNextVersion, buildRepository } from './mesh.ts';

tap.setTimeout(840_000);

const ROOT = join(import.meta.dirname, '../..');
const RPM_ARCH = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
const work = mkdtempSync(join(ROOT, 'build', 'system-files-'));
tap.teardown(() => rmSync(work, { recursive: true, force: true }));

function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const ran = spawnSync(command, args, { encoding: 'utf8', env: { ...process.env, ...env }, maxBuffer: 1 << 26 });
  return { code: ran.status, out: `${ran.stdout}${ran.stderr}` };
}

const share = join(work, 'share');
execFileSync(join(ROOT, 'scripts/lib/package/machine-base'), { stdio: ['ignore', 'ignore', 'inherit'] });
buildRepository(share);
const ARCH = process.arch === 'arm64' ? 'arm64' : 'amd64';
const debs = readdirSync(join(share, 'deb/pool/main')).map((file) => join(share, 'deb/pool/main', file));
const rpms = join(share, 'rpm', RPM_ARCH);

const debOf = (name: string) => debs.find((file) => basename(file).startsWith(`${name}_`))!;

/** A folder with the files of all packages. */
function unpacked(): string {
  const root = join(work, 'unpacked');
  if (!existsSync(root)) for (const deb of debs) execFileSync('dpkg-deb', ['--extract', deb, root]);
  return root;
}

tap.test('lintian and rpmlint find nothing that has no reason', async (t) => {
  const lintian = run('lintian', ['--tag-display-limit', '0', '--fail-on', 'error,warning', ...debs]);
  t.notMatch(lintian.out, /^[EW]: /m);
  t.equal(lintian.code, 0, lintian.out);
  const files = readdirSync(rpms).filter((file) => file.endsWith('.rpm'));
  const rpmlint = run('rpmlint', ['-c', 'packaging/rpmlint.toml', ...files.map((file) => join(rpms, file))]);
  t.match(rpmlint.out, /5 packages .* 0 errors, 0 warnings/, rpmlint.out);
});

tap.test('built again in another place, by another umask: the same bytes', async (t) => {
  const again = join(work, 'again');
  execFileSync('sh', ['-c', `umask 077; exec scripts/package --out ${again} --arch ${ARCH}`], {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  // those of the repository are signed: a signature stands beside the header, which has the digest of all that follows
  const same: Readonly<Record<string, (file: string) => string>> = {
    '.deb': (file) => createHash('sha256').update(readFileSync(file)).digest('hex'),
    '.rpm': (file) => run('rpm', ['-qp', '--nosignature', '--qf', '%{SHA256HEADER} %{PAYLOADDIGEST}', file]).out,
  };
  const files = readdirSync(again);
  t.equal(files.length, 10, 'five packages, both formats');
  for (const file of files) {
    const digest = same[extname(file)]!;
    const former = file.endsWith('.deb') ? join(share, 'deb/pool/main', file) : join(rpms, file);
    t.match(digest(former), /[0-9a-f]{64}/);
    t.equal(digest(join(again, file)), digest(former), file);
  }
  rmSync(again, { recursive: true });
});

tap.test('each program says the version of its package', async (t) => {
  const root = unpacked();
  for (const name of ['mesh-agent', 'mesh-controller', 'meshctl', 'mesh-node', 'mesh-envoy']) {
    const version = run('dpkg-deb', ['--field', debOf(name), 'Version'])
      .out.trim()
      .replace(/-\d+$/, '');
    const command = name.startsWith('mesh-') && /node|envoy/.test(name) ? [name.slice(5)] : ['node', `${name}.mjs`];
    const [program = '', ...args] = command.map((file) => join(root, 'usr/lib/mesh', file));
    t.match(
      run(program, [...args, '--version']).out,
      new RegExp(`(^|[ v/])${version.replaceAll('.', '\\.')}[/\\n]`),
      name,
    );
  }
});

tap.test('completion, asked of the shells themselves', async (t) => {
  const share = join(unpacked(), 'usr/share');
  const named = (typed: string) => typed.split(' ', 1)[0] as string;
  const asked: Readonly<Record<string, (typed: string) => string>> = {
    bash: (typed) =>
      run('bash', [
        '-c',
        `. ${share}/bash-completion/completions/${named(typed)}; COMP_WORDS=(${typed} ''); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _${named(typed).replace('-', '_')}; echo "\${COMPREPLY[@]}"`,
      ]).out,
    zsh: (typed) =>
      run('zsh', [
        '-fc',
        `fpath=(${share}/zsh/vendor-completions); autoload -U _${named(typed)}; compadd() { shift; print -r -- $@ }; words=(${typed} ''); CURRENT=$#words; _${named(typed)}`,
      ]).out,
    fish: (typed) =>
      run('fish', [
        '-N',
        '-c',
        `source ${share}/fish/vendor_completions.d/${named(typed)}.fish; complete -C '${typed} '`,
      ]).out,
  };
  for (const [shell, offered] of Object.entries(asked)) {
    t.match(offered('meshctl'), /\bapply\b/, `${shell}: commands`);
    t.match(offered('meshctl token'), /\bcreate\b/, `${shell}: commands below one`);
    t.notMatch(offered('meshctl token'), /\bapply\b/, `${shell}: and no others`);
    t.match(offered('mesh-agent redirect'), /\border\b/, `${shell}: the agent's verbs`);
    t.match(offered('mesh-controller'), /\binit\b/, `${shell}: the controller's commands`);
  }
});

tap.test('what a package may contain', async (t) => {
  for (const deb of debs) {
    const list = run('dpkg-deb', ['--contents', deb]).out;
    t.notMatch(list, /usr\/local|\/opt\//, deb);
    const odd = list
      .trim()
      .split('\n')
      .filter((line) => !/^(drwxr-xr-x|-rwxr-xr-x|-rw-r--r--) root\/root /.test(line));
    t.strictSame(odd, [], 'all is root’s, nothing writable by others, nothing setuid');
  }
  const text = run('dpkg-deb', ['--fsys-tarfile', debOf('mesh-agent')]).out;
  t.notMatch(text, new RegExp(ROOT.replaceAll('/', '\\/')), 'no path of the machine that built it');
});

tap.test('apt takes the repository by its signature, and refuses one that was changed', async (t) => {
  const apt = (repository: string) => {
    const state = mkdtempSync(join(work, 'apt-'));
    for (const folder of ['lists/partial', 'cache/archives/partial', 'etc'])
      mkdirSync(join(state, folder), { recursive: true });
    writeFileSync(
      join(state, 'sources.list'),
      `deb [signed-by=${share}/hostmesh.gpg] file://${repository} stable main\n`,
    );
    const options = {
      'Dir::Etc::SourceList': join(state, 'sources.list'),
      'Dir::Etc::SourceParts': '/nonexistent',
      'Dir::State::Lists': join(state, 'lists'),
      'Dir::Cache': join(state, 'cache'),
      'APT::Sandbox::User': 'root',
    };
    return run('apt-get', ['update', ...Object.entries(options).flatMap(([key, value]) => ['-o', `${key}=${value}`])]);
  };
  t.equal(apt(join(share, 'deb')).code, 0);
  const changed = join(work, 'changed');
  execFileSync('cp', ['-a', join(share, 'deb'), changed]);
  const release = join(changed, 'dists/stable/InRelease');
  writeFileSync(release, readFileSync(release, 'utf8').replace('Label: Hostmesh', 'Label: Hostmash'));
  rmSync(join(changed, 'dists/stable/Release.gpg'));
  const refused = apt(changed);
  t.match(refused.out, /BADSIG|signatures were invalid/);
});

/** A root with a shell, systemd's own files and nothing else: stands in for a distribution's base packages. */
function rpmBase(folder: string): string {
  const base = join(work, 'rpm-base');
  mkdirSync(join(base, 'usr/bin'), { recursive: true });
  const spec = join(work, 'base.spec');
  writeFileSync(
    spec,
    `Name: testbase
Version: 1
Release: 1
Summary: Stands in for a base system
License: MIT
BuildArch: ${RPM_ARCH}
AutoReqProv: no
Provides: /bin/sh systemd = 252 iptables iproute conntrack-tools procps-ng nftables kmod glibc = 2.40 libstdc++ = 14 meshctl-base
%description
Stands in for a base system.
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/bin
cp /usr/bin/busybox %{buildroot}/usr/bin/busybox
for tool in sh grep sed cat rm mkdir; do ln -s /usr/bin/busybox %{buildroot}/bin/$tool; done
for tool in systemd-sysusers systemd-tmpfiles systemctl; do
  printf '#!/bin/sh\\necho "%s $*" >> /scriptlets\\n' $tool > %{buildroot}/usr/bin/$tool
  chmod 755 %{buildroot}/usr/bin/$tool
done
%files
/usr/bin/*
/bin/*
`,
  );
  execFileSync(
    'rpmbuild',
    [
      '-bb',
      '--quiet',
      '--define',
      `_topdir ${work}/rpmbuild`,
      '--define',
      `_rpmdir ${folder}`,
      '--define',
      '_rpmfilename %%{NAME}.rpm',
      '--define',
      '__brp_strip /bin/true',
      spec,
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  execFileSync('createrepo_c', ['--quiet', folder]);
  return folder;
}

tap.test('dnf: install, upgrade, downgrade, remove in a root of its own, by the signatures', async (t) => {
  const base = rpmBase(join(work, 'base-repo'));
  const root = join(work, 'root');
  for (const folder of ['dev', 'run/systemd/system', 'proc', 'etc', 'cache', 'log'])
    mkdirSync(join(folder === 'cache' || folder === 'log' ? work : root, folder), { recursive: true });
  execFileSync('mknod', ['-m', '666', join(root, 'dev/null'), 'c', '1', '3']);
  execFileSync('rpm', ['--root', root, '--import', join(share, 'hostmesh.asc')]);
  const config = join(work, 'repos');
  mkdirSync(config);
  const repo = (name: string, url: string, more: string) =>
    writeFileSync(join(config, `${name}.repo`), `[${name}]\nname=${name}\nbaseurl=file://${url}\n${more}\n`);
  repo('base', base, 'gpgcheck=0');
  repo('hostmesh', rpms, `gpgcheck=1\nrepo_gpgcheck=1\ngpgkey=file://${share}/hostmesh.asc`);
  const dnf = (...args: string[]) =>
    run('dnf', [
      '-y',
      '-q',
      `--setopt=reposdir=${config}`,
      `--setopt=cachedir=${work}/cache`,
      `--setopt=logdir=${work}/log`,
      '--releasever=9',
      `--installroot=${root}`,
      ...args,
    ]);
  const at = (path: string) => join(root, path);
  const scriptlets = () => {
    const text = existsSync(at('scriptlets')) ? readFileSync(at('scriptlets'), 'utf8') : '';
    rmSync(at('scriptlets'), { force: true });
    return text;
  };

  const installed = dnf('install', 'mesh-agent', 'mesh-controller');
  t.equal(installed.code, 0, installed.out);
  for (const path of [
    'usr/lib/mesh/node',
    'usr/lib/mesh/envoy',
    'usr/lib/mesh/mesh-agent.mjs',
    'usr/lib/mesh/descriptors.pb',
    'usr/lib/systemd/system/mesh-agent.service',
    'usr/sbin/mesh-agent',
    'etc/mesh/agent.yaml',
    'etc/mesh/controller.yaml',
  ])
    t.ok(existsSync(at(path)), path);
  const said = scriptlets();
  t.match(said, /systemd-sysusers .*mesh-agent\.conf/);
  t.match(said, /systemd-tmpfiles --create .*mesh-agent\.conf/);
  t.notMatch(said, /systemctl.* (start|enable|restart|try-restart) /, 'nothing is started or enabled');
  t.equal(
    run('rpm', ['--root', root, '-V', 'mesh-agent', 'mesh-node', 'mesh-envoy']).code,
    0,
    'rpm -V finds all as packaged',
  );

  writeFileSync(at('etc/mesh/agent.yaml'), 'host: edited\n');
  buildNextVersion(share);
  const upgraded = dnf('--refresh', 'upgrade', 'mesh-agent');
  t.equal(upgraded.code, 0, upgraded.out);
  t.match(run('rpm', ['--root', root, '-q', 'mesh-agent']).out, /^mesh-agent-0\.99\.0-1\.noarch/);
  t.match(
    scriptlets(),
    /systemctl reset-failed mesh-agent\.service mesh-agent-dns\.socket\nsystemctl .*try-restart mesh-agent\.service/,
  );
  t.equal(readFileSync(at('etc/mesh/agent.yaml'), 'utf8'), 'host: edited\n', 'the edited config is kept');
  const downgraded = dnf('downgrade', 'mesh-agent');
  t.equal(downgraded.code, 0, downgraded.out);
  scriptlets();

  const removed = dnf('remove', 'mesh-agent', 'mesh-controller');
  t.equal(removed.code, 0, removed.out);
  const last = scriptlets();
  t.match(
    last,
    /systemctl stop mesh-agent\.service mesh-agent-dns\.socket\nsystemctl stop .*mesh-redirect\.service mesh-proxy\.service/,
  );
  t.match(last, /systemctl --no-reload disable mesh-agent\.service/);
  t.notOk(existsSync(at('usr/lib/mesh/mesh-agent.mjs')));
  t.ok(existsSync(at('etc/mesh/agent.yaml.rpmsave')), 'an edited config is put aside, not lost');
});
