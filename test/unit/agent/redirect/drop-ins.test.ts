// Drop-ins that order workloads' units after the mesh, in folders of a test.
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { planDropIns } from '../../../../agent/redirect/drop-ins.ts';
import { filesText, writeFiles } from '../../../../agent/redirect/own-files.ts';

function setUp(t: Test) {
  const dir = t.testdir({ etc: {}, usr: {} });
  const put = (file: string, text: string) => {
    mkdirSync(dirname(join(dir, file)), { recursive: true });
    writeFileSync(join(dir, file), text);
  };
  const [etc, usr] = [join(dir, 'etc'), join(dir, 'usr')];
  return { dir, etc, put, plan: (...units: string[]) => planDropIns(units, etc, [etc, usr]) };
}

t.test(
  'written once, kept, taken away when the unit is no longer bound; what else is in the folder stays',
  async (t) => {
    const { dir, etc, put, plan } = setUp(t);
    put('usr/web.service', '[Service]\nUser=web\n');
    put('etc/web.service.d/10-own.conf', '[Service]\nNice=5\n');
    const first = await plan('web.service', 'app@eu.service');
    t.match(
      filesText(first),
      /^\+\+\+ .*app@eu\.service\.d\/50-mesh\.conf\n\+# Hostmesh: .*\n\+\[Unit\]\n\+After=mesh-agent\.service\n/,
    );
    t.strictSame(readdirSync(etc), ['web.service.d'], 'a plan writes nothing');
    t.equal(await writeFiles(first), true);
    const text = readFileSync(join(dir, 'etc/web.service.d/50-mesh.conf'), 'utf8');
    t.match(text, /^# Hostmesh: .*\n\[Unit\]\nAfter=mesh-agent\.service\n$/);
    t.notMatch(text, /Wants|Requires|BindsTo/);
    const again = await plan('web.service', 'app@eu.service');
    t.strictSame(
      [again, await writeFiles(again), filesText(again)],
      [{ write: [], remove: [], problems: [] }, false, ''],
    );
    const unbound = await plan('web.service');
    t.match(filesText(unbound), /^--- .*app@eu\.service\.d\/50-mesh\.conf\n$/);
    t.equal(await writeFiles(unbound), true);
    t.strictSame(readdirSync(etc), ['web.service.d'], 'its folder goes with it');
    await writeFiles(await plan());
    t.strictSame(readdirSync(join(etc, 'web.service.d')), ['10-own.conf'], 'a folder with something of others stays');
  },
);

t.test('a file or folder that is not ours is not touched', async (t) => {
  const { dir, etc, put, plan } = setUp(t);
  const own = '[Unit]\nAfter=mesh-agent.service\n';
  put('etc/web.service.d/50-mesh.conf', own);
  put('else/50-mesh.conf', '# Hostmesh: no\n');
  symlinkSync(join(dir, 'else'), join(etc, 'app.service.d'));
  const made = await plan('web.service', 'app.service');
  t.match(made, {
    write: [],
    remove: [],
    problems: [/^app\.service is not ordered.*not ours/, /^web\.service is not/],
  });
  t.strictSame(await plan(), { write: [], remove: [], problems: [] });
  await writeFiles(await plan());
  t.equal(readFileSync(join(etc, 'web.service.d/50-mesh.conf'), 'utf8'), own);
});

t.test('a unit that the mesh itself waits for is not made to wait for the mesh', async (t) => {
  for (const [text, why] of [
    ['[Unit]\nDefaultDependencies=no\n', /DefaultDependencies/],
    ['[Unit]\nBefore=a.service network.target\n', /before network\.target/],
    ['[Unit]\nBefore=mesh-agent.service\n', /before mesh-agent\.service/],
  ] as const) {
    const { put, plan } = setUp(t);
    put('usr/early.service', text);
    t.match(await plan('early.service'), { write: [], problems: [why] });
  }
  const { put, plan } = setUp(t);
  put('usr/late.service', '[Unit]\nBefore=other.service\nDefaultDependencies=yes\n');
  t.match(await plan('late.service'), { problems: [] });
});
