// Files of units are seen to change: over real folders, each change waited for.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { watchUnits } from '../../../../agent/host/watch-units.ts';

t.test('a unit, its drop-ins, and a folder that comes, goes and comes again', async (t) => {
  const dir = t.testdir({ etc: {}, usr: { 'other.service': '' } });
  const [etc, usr] = [join(dir, 'etc'), join(dir, 'usr')];
  let changes = 0;
  let heard = () => {};
  const watcher = watchUnits(['web@eu.service'], () => {
    changes++;
    heard();
  }, [etc, join(dir, 'missing'), usr]);
  t.teardown(() => watcher.stop());
  /** Resolves when it is heard of; a test that hears nothing runs into its timeout. */
  const after = (act: () => void) => {
    const done = new Promise<void>((resolve) => {
      heard = resolve;
    });
    act();
    return done;
  };
  const folder = join(etc, 'web@eu.service.d');
  await after(() => writeFileSync(join(usr, 'web@.service'), '[Service]\nUser=a\n'));
  await after(() => mkdirSync(folder));
  await after(() => writeFileSync(join(folder, 'x.conf'), '[Service]\nUser=b\n'));
  await after(() => rmSync(folder, { recursive: true }));
  await after(() => mkdirSync(folder));
  await after(() => writeFileSync(join(folder, 'x.conf'), '[Service]\nUser=c\n'));
  const before = changes;
  writeFileSync(join(usr, 'other.service'), 'x');
  await after(() => writeFileSync(join(usr, 'web@.service'), '[Service]\nUser=d\n'));
  t.equal(changes, before + 1, 'another unit is none of its business');
});
