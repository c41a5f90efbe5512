// Scripts of the packages and redirect-watch, run by a shell with their folders led into a test's and stand-ins for programs.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { probeUnit } from '../../../../agent/host/probe-unit.ts';

const PACKAGING = fileURLToPath(new URL('../../../../packaging/', import.meta.url));
const UNIT = probeUnit(1001, ['/c']);
const OURS = '# Hostmesh: ours\n';
const QUOTED = '# of ours they say\n# Hostmesh: ours\n';

/** A root for one script; `systemctl` writes down what it is asked, then does `systemctl` of `programs`. */
function setUp(t: Test, programs: Readonly<Record<string, string>> = {}) {
  const root = t.testdir({ bin: {}, run: { systemd: { system: {} } } });
  const all = { systemctl: ':', ...programs };
  for (const [name, text] of Object.entries(all))
    writeFileSync(
      join(root, 'bin', name),
      `#!/bin/sh\n[ ${name} != systemctl ] || echo "$*" >>${root}/asked\n${text}\n`,
      {
        mode: 0o755,
      },
    );
  const put = (path: string, text: string) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  const run = (script: string, ...args: string[]) => {
    const text = readFileSync(join(PACKAGING, script), 'utf8')
      .replaceAll(/(?<![\w/])\/(etc|run|var|usr\/lib\/mesh)\//g, `${root}/$1/`)
      .replaceAll('TEST_ROOT', root);
    const env = { PATH: `${root}/bin:${process.env.PATH}` };
    return spawnSync('sh', ['-c', text, 'sh', ...args], { env, encoding: 'utf8', timeout: 20_000 });
  };
  const asked = () => (existsSync(`${root}/asked`) ? readFileSync(`${root}/asked`, 'utf8').split('\n') : []);
  return { root, put, run, asked };
}

for (const [script, args] of [
  ['deb/mesh-agent.postrm', ['remove']],
  ['rpm/mesh-agent.postun', ['0']],
] as const)
  t.test(`${script}: files of ours go, by their first line; others' stay`, async (t) => {
    const { root, put, run } = setUp(t);
    const folder = 'etc/systemd/system';
    for (const [path, text] of [
      [`${UNIT}.socket`, OURS],
      [`${UNIT}@.service`, OURS],
      ['mesh-probe-0123456789abcdef.socket', QUOTED],
      ['mesh-probe-exporter.socket', OURS],
      ['web.service.d/50-mesh.conf', OURS],
      ['own.service.d/50-mesh.conf', QUOTED],
      ['both.service.d/50-mesh.conf', OURS],
      ['both.service.d/own.conf', ''],
      ['elsewhere/50-mesh.conf', OURS],
    ] as const)
      put(`${folder}/${path}`, text);
    symlinkSync(join(root, folder, 'elsewhere'), join(root, folder, 'link.service.d'));
    const { status, stderr } = run(script, ...args);
    t.equal(status, 0, stderr);
    t.strictSame(readdirSync(join(root, folder)).sort(), [
      'both.service.d',
      'elsewhere',
      'link.service.d',
      'mesh-probe-0123456789abcdef.socket',
      'mesh-probe-exporter.socket',
      'own.service.d',
    ]);
    t.strictSame(readdirSync(join(root, folder, 'both.service.d')), ['own.conf']);
  });

for (const [script, args] of [
  ['deb/mesh-agent.prerm', ['remove']],
  ['rpm/mesh-agent.preun', ['0']],
] as const)
  t.test(`${script}: stops what runs exec probes, and no unit that is only named like it`, async (t) => {
    const { run, asked } = setUp(t);
    t.equal(run(script, ...args).status, 0);
    const patterns = asked()
      .find((line) => line.startsWith('stop mesh-probe-'))
      ?.split(' ')
      .slice(1);
    t.equal(patterns?.length, 2);
    const stopped = (unit: string) =>
      patterns?.some((glob) => new RegExp(`^${glob.replaceAll('.', '\\.').replaceAll('*', '.*')}$`).test(unit));
    for (const unit of [`${UNIT}.socket`, `${UNIT}@7-1234-990.service`]) t.ok(stopped(unit), unit);
    for (const unit of [
      'mesh-probe-exporter.service',
      'mesh-probe-exporter.socket',
      `${UNIT}.service`,
      `${UNIT}0.socket`,
    ])
      t.notOk(stopped(unit), unit);
  });

t.test(
  'redirect-watch has rules written again by what root’s oneshot said, and by nothing of the agent’s',
  async (t) => {
    /** How often it asked for the rules within four looks that find them changed. `fails`: a run fails, and says so. */
    const writes = (status: string | undefined, fails = false) => {
      const { root, put, run, asked } = setUp(t, {
        sleep: 'echo >>TEST_ROOT/slept; [ "$(wc -l <TEST_ROOT/slept)" -le 4 ]',
        'iptables-save': 'echo "-A MESH_OUTPUT $(cat TEST_ROOT/slept)"',
        'ip6tables-save': ':',
        systemctl:
          'case $1 in show) echo active ;; start) [ -z "$FAILS" ] || { echo failed >$STATUS; exit 1; } ;; esac',
      });
      for (const name of ['sleep', 'iptables-save', 'systemctl']) {
        const path = join(root, 'bin', name);
        const text = readFileSync(path, 'utf8');
        writeFileSync(
          path,
          text
            .replaceAll('TEST_ROOT', root)
            .replaceAll('$FAILS', fails ? 'yes' : '')
            .replaceAll('$STATUS', `${root}/run/mesh-redirect/status`),
        );
      }
      put('usr/lib/mesh/node', '#!/bin/sh\nexit 1\n');
      put('run/mesh-redirect/watched', 'other');
      if (status !== undefined) put('run/mesh-redirect/status', status);
      put('run/mesh/redirect/x', '');
      t.equal(spawnSync('mkfifo', [`${root}/run/mesh/redirect/result.json`]).status, 0);
      const { error } = run('bin/redirect-watch');
      t.equal(error, undefined, 'nothing blocks it');
      rmSync(`${root}/run/mesh/redirect/result.json`);
      return asked().filter((line) => line === 'start mesh-redirect-apply.service').length;
    };
    t.equal(writes('applied\n'), 4);
    for (const status of ['cleaned\n', 'reverted\n']) t.equal(writes(status), 0, status);
    t.equal(writes('refused\n'), 0, 'the agent asks again');
    t.equal(writes(undefined), 0, 'a version before this one wrote none: the agent’s next request does');
    t.equal(writes('applied\n', true), 4, 'what it asked for itself it asks for again');
  },
);
