import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import tap from 'tap';
import { UNIT_NAME } from '../../../../agent/config.ts';
import type { Exec } from '../../../../agent/host/exec.ts';
import { unitUser } from '../../../../agent/host/unit-user.ts';
import { createUsers } from '../../../../agent/host/users.ts';

tap.test('names', async (t) => {
  for (const name of ['a.service', 'web-1.service', 'app@eu.service', 'a:b\\x2d.service'])
    t.ok(UNIT_NAME.test(name), name);
  for (const name of ['a', 'a.socket', '../a.service', 'a/b.service', '.service', 'a b.service', 'a@b@c.service'])
    t.notOk(UNIT_NAME.test(name), name);
});

tap.test('the user of a unit', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'units-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const path = ['etc', 'run', 'usr'].map((folder) => join(dir, folder));
  const put = (file: string, text: string) => {
    mkdirSync(dirname(join(dir, file)), { recursive: true });
    writeFileSync(join(dir, file), text);
  };
  put(
    'usr/web.service',
    '[Unit]\nUser=nobody\n[Service]\n# User=x\nUser=www\nExecStart=/bin/a \\\n  User=y\n[Install]\nUser=z\n',
  );
  put('usr/app@.service', '[Service]\nUser=app\n');
  put('etc/app@eu.service', '[Service]\nUser=app-eu\n');
  put('usr/drop.service', '[Service]\nUser=first\n');
  put('usr/drop.service.d/20.conf', '[Service]\nUser=twenty\n');
  put('etc/drop.service.d/10.conf', '[Service]\nUser=ten\n');
  put('etc/both.service', '[Service]\nUser=etc\n');
  put('usr/both.service', '[Service]\nUser=usr\n');
  put('usr/both.service.d/a.conf', '[Service]\nUser=usr-a\n');
  put('etc/both.service.d/a.conf', '');
  put('usr/app@.service.d/a.conf', '[Service]\nGroup=g\n');
  put('usr/rooted.service', '[Service]\nExecStart=/bin/a\n');
  put('usr/reset.service', '[Service]\nUser=x\nUser=\n');
  put('usr/dynamic.service', '[Service]\nDynamicUser=yes\nUser=d\n');
  put('usr/percent@.service', '[Service]\nUser=%i\n');
  symlinkSync('/dev/null', join(dir, 'etc/masked.service'));
  for (const { unit, user, error } of [
    { unit: 'web.service', user: 'www' },
    { unit: 'app@de.service', user: 'app' },
    { unit: 'app@eu.service', user: 'app-eu' },
    { unit: 'drop.service', user: 'twenty' },
    { unit: 'both.service', user: 'etc' },
    { unit: 'none.service', error: /no such unit/ },
    { unit: 'masked.service', error: /masked/ },
    { unit: 'rooted.service', error: /runs as root/ },
    { unit: 'reset.service', error: /runs as root/ },
    { unit: 'dynamic.service', error: /DynamicUser=.*static User=/ },
    { unit: 'percent@a.service', error: /depends on the instance/ },
  ]) {
    if (error === undefined) t.equal(await unitUser(unit, path), user, unit);
    else await t.rejects(unitUser(unit, path), { code: 'USER_UNKNOWN', message: error }, unit);
  }

  const passwdPath = join(dir, 'passwd');
  writeFileSync(passwdPath, 'www:x:33:33::/:/bin/false\n');
  const exec: Exec = async () => ({ code: 2, stdout: '', stderr: '' }) as Awaited<ReturnType<Exec>>;
  const users = createUsers({ exec, passwdPath, unitPath: path });
  t.equal(await users.uid('web.service'), 33, 'createUsers takes a unit for its user');
  await t.rejects(users.uid('drop.service'), { code: 'USER_UNKNOWN', message: /twenty/ });
});
