import { type FSWatcher, watch } from 'node:fs';
import { join } from 'node:path';
import { UNIT_PATH } from './unit-user.ts';

/** Several files change together, and a reload of systemd follows at a person's pace. */
const SETTLED_MS = 100;

/**
 * Calls `onChange` soon after a file of one of these units, or a drop-in, came, changed or went: a unit that is restarted with another User= is
 * then captured at once. What cannot be watched is left out; whoever needs to be sure looks now and then. `unitPath` is for tests.
 */
export function watchUnits(
  units: readonly string[],
  onChange: () => void,
  unitPath: readonly string[] = UNIT_PATH,
): { stop(): void } {
  let watchers: FSWatcher[] = [];
  let timer: NodeJS.Timeout | undefined;
  const names = new Set(units.flatMap((unit) => [unit, unit.replace(/@[^@]*\.service$/, '@.service')]));
  const folders = [...names].map((name) => `${name}.d`);

  const add = (path: string, concerns: (file: string) => boolean) => {
    try {
      const watcher = watch(path, { persistent: false }, (_event, file) => {
        if (file === null || concerns(file)) changed();
      });
      watcher.on('error', () => watcher.close());
      watchers.push(watcher);
    } catch {
      // it is not there (yet): its parent is watched too
    }
  };
  const open = () => {
    for (const watcher of watchers) watcher.close();
    watchers = [];
    for (const folder of unitPath) {
      add(folder, (file) => names.has(file) || folders.includes(file));
      for (const name of folders) add(join(folder, name), () => true);
    }
  };
  function changed(): void {
    timer ??= setTimeout(() => {
      timer = undefined;
      // a folder that was made anew is another one
      open();
      onChange();
    }, SETTLED_MS);
  }
  if (units.length > 0) open();
  return {
    stop() {
      clearTimeout(timer);
      for (const watcher of watchers) watcher.close();
      watchers = [];
    },
  };
}
