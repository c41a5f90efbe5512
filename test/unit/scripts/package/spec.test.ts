// The packages' recipe: every file of packaging/ is in one, none is named that is not there, and nfpm is told all modes and owners.
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { test } from 'tap';
import { nfpmConfig, packageFileName } from '../../../../scripts/lib/package/nfpm.ts';
import { packageSpecs } from '../../../../scripts/lib/package/spec.ts';

const specs = packageSpecs({ program: '1.2.3', release: 1, node: '24.1.0', envoy: '1.40.0' });
const named = specs.flatMap(({ name, files, scripts }) => [
  ...files.map(({ from }) => from).filter((from) => from.startsWith('packaging/')),
  ...scripts.deb.map((script) => `packaging/deb/${name}.${script}`),
  ...scripts.rpm.map((script) => `packaging/rpm/${name}.${script}`),
]);

test('all that is named is there, and all that is there is packaged', (t) => {
  for (const file of named) t.ok(existsSync(file), file);
  const folders = ['systemd', 'bin', 'deb', 'rpm', 'etc', 'sysusers.d', 'tmpfiles.d', 'lintian'];
  for (const file of folders.flatMap((folder) => globSync(`packaging/${folder}/*`)))
    t.ok(named.includes(file), `${file} is in a package`);
  t.end();
});

test('no path is in two packages, none outside what a distribution leaves to packages', (t) => {
  for (const format of ['deb', 'rpm'] as const) {
    const paths = specs.flatMap(({ files }) =>
      files.filter(({ only }) => only === undefined || only === format).map(({ to }) => to),
    );
    t.equal(new Set(paths).size, paths.length, format);
    for (const path of paths) t.match(path, /^\/(etc\/mesh|usr\/(bin|sbin|lib|share))\//);
  }
  t.end();
});

test('scripts are shell, and none starts or enables what did not run', (t) => {
  for (const file of named.filter((name) => /\/(bin|deb|rpm)\//.test(name))) {
    const text = readFileSync(file, 'utf8');
    t.equal(spawnSync('sh', ['-n'], { input: text }).status, 0, `${file}: syntax`);
    t.notMatch(text, /systemctl .*\b(enable|preset)\b/, `${file}: enables nothing`);
  }
  t.end();
});

test('nfpm is told mode, owner and time of everything', (t) => {
  const places = { root: '/R', stage: '/S', binaries: '/B' };
  const meta = { maintainer: 'M <m@x>', epoch: 1_700_000_000, releases: [] };
  for (const spec of specs)
    for (const format of ['deb', 'rpm'] as const) {
      const config = nfpmConfig(spec, format, spec.arches[0]!, places, meta) as {
        contents: { src?: string; dst: string; type?: string; file_info: Record<string, unknown> }[];
        depends: string[];
        scripts: Record<string, string>;
      };
      for (const { dst, file_info } of config.contents) {
        t.match(file_info, { owner: 'root', group: 'root', mtime: '2023-11-14T22:13:20Z' }, dst);
        t.ok([0o644, 0o755].includes(file_info.mode as number), dst);
      }
      if (format === 'rpm' && Object.keys(config.scripts).length > 0)
        t.ok(config.depends.includes('/bin/sh'), `${spec.name}: an rpm with scripts needs a shell`);
    }
  t.end();
});

test('a config that join completes is no conffile of the deb and noreplace in the rpm', (t) => {
  const agent = specs.find(({ name }) => name === 'mesh-agent')!;
  const at = (format: 'deb' | 'rpm') =>
    (
      nfpmConfig(
        agent,
        format,
        'all',
        { root: '', stage: '', binaries: '' },
        { maintainer: '', epoch: 1, releases: [] },
      ) as { contents: { dst: string; type?: string }[] }
    ).contents.filter(({ dst }) => dst.endsWith('/agent.yaml'));
  t.match(at('deb'), [{ dst: '/usr/share/mesh/agent.yaml' }]);
  t.equal(at('deb')[0]!.type, undefined);
  t.match(at('rpm'), [{ dst: '/etc/mesh/agent.yaml', type: 'config|noreplace' }]);
  t.end();
});

test('names of package files', (t) => {
  const [agent, , , node] = specs;
  t.equal(packageFileName(agent!, 'deb', 'all'), 'mesh-agent_1.2.3-1_all.deb');
  t.equal(packageFileName(agent!, 'rpm', 'all'), 'mesh-agent-1.2.3-1.noarch.rpm');
  t.equal(packageFileName(node!, 'deb', 'arm64'), 'mesh-node_24.1.0-1_arm64.deb');
  t.equal(packageFileName(node!, 'rpm', 'arm64'), 'mesh-node-24.1.0-1.aarch64.rpm');
  t.end();
});
