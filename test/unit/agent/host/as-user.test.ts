import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tap from 'tap';
import { folderOf } from '../../../../agent/host/as-user.ts';

tap.test('folderOf', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'as-user-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const mode = (path: string) => statSync(join(dir, path)).mode & 0o7777;
  const before = process.umask(0o077);
  t.teardown(() => process.umask(before));

  await folderOf(join(dir, 'a/b/state'), 0o2750, undefined);
  t.equal(mode('a/b/state'), 0o2750);
  t.equal(mode('a'), 0o755, 'the way to it is passable, whatever the umask');
  t.equal(mode('a/b'), 0o755);

  mkdirSync(join(dir, 'given'), { mode: 0o700 });
  await folderOf(join(dir, 'given'), 0o2750, undefined);
  t.equal(mode('given'), 0o700, 'the mode of what is there stays');

  symlinkSync(join(dir, 'given'), join(dir, 'link'));
  await t.rejects(folderOf(join(dir, 'link'), 0o2750, undefined), { code: 'STATE_DIR_UNSAFE' });
});
