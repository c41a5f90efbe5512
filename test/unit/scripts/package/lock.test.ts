// Two runs of scripts/package over one build/ folder: the second waits, says so, and then works.
import { spawn } from 'node:child_process';
import { chmodSync, copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { until } from '../../../fakes/until.ts';

/** In place of Node: says when it begins and ends, and ends when the test lets it. */
const NODE = `#!/bin/sh
echo begin >>log
until [ -e may-end ]; do sleep 0.02; done
echo end >>log
`;

test('one at a time', async (t) => {
  const root = t.testdir({ scripts: { bootstrap: '#!/bin/sh\n' }, build: { node: { bin: { node: NODE } } }, log: '' });
  copyFileSync('scripts/package', join(root, 'scripts/package'));
  for (const file of ['scripts/package', 'scripts/bootstrap', 'build/node/bin/node'])
    chmodSync(join(root, file), 0o755);
  const log = () => readFileSync(join(root, 'log'), 'utf8');
  const run = () => {
    const child = spawn(join(root, 'scripts/package'), { env: { PATH: process.env.PATH, SOURCE_DATE_EPOCH: '1' } });
    const state = { stderr: '', code: undefined as number | null | undefined };
    child.stderr.on('data', (data: Buffer) => (state.stderr += data));
    child.on('close', (code) => (state.code = code));
    return state;
  };
  const first = run();
  await until(() => log() === 'begin\n');
  const second = run();
  await until(() => second.stderr !== '');
  t.match(second.stderr, /^package: another scripts\/package is at work in .*\/build; waiting until it is done\n$/);
  t.equal(log(), 'begin\n');
  writeFileSync(join(root, 'may-end'), '');
  await until(() => first.code !== undefined && second.code !== undefined);
  t.match([first, second], [{ code: 0, stderr: '' }, { code: 0 }]);
  t.equal(log(), 'begin\nend\nbegin\nend\n');
});
