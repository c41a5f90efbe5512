// A bundle is a whole program: it runs from a folder of its own, and twice the same.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { test } from 'tap';
import { bundleProgram, PROGRAMS, type ProgramName } from '../../../../scripts/lib/package/bundle.ts';

const ROOT = resolve(import.meta.dirname, '../../../..');

test('each program in one file', async (t) => {
  for (const name of Object.keys(PROGRAMS) as ProgramName[]) {
    const { text, licences } = await bundleProgram(ROOT, name, '7.8.9');
    t.notMatch(text.slice(0, 2), /#!/, `${name} is no script without a mode`);
    t.notOk(text.includes(ROOT), `${name}: no path of this machine`);
    t.ok(licences.length > 5, `${name}: its npm packages are known`);
    for (const { name: part, licence } of licences)
      t.match(licence, /MIT|ISC|Apache|BSD|Unlicense|0BSD|CC0|Python-2.0|BlueOak/, part);
    const file = `${t.testdir()}/${name}.mjs`;
    writeFileSync(file, text);
    const ran = spawnSync(process.execPath, [file, '--version'], { encoding: 'utf8', env: {} });
    t.match(ran.stdout, /(^| )7\.8\.9\n$/, `${name}: of its package's version`);
    t.equal(ran.stderr, '', `${name}: no warning`);
    if (name === 'meshctl') t.equal((await bundleProgram(ROOT, name, '7.8.9')).text, text, 'the same again');
  }
});
