import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tap from 'tap';
import { MAX_CONFIG_BYTES } from '../../../runtime/config-file.ts';
import { readConfigText } from '../../../runtime/program.ts';

tap.test('readConfigText bounds bytes, not characters: nothing is cut off and then believed', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'program-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, 'a.yaml');
  for (const { name, text, taken } of [
    { name: 'short', text: 'host: é\n', taken: true },
    { name: 'as long as may be', text: 'x'.repeat(MAX_CONFIG_BYTES), taken: true },
    { name: 'one byte more', text: 'x'.repeat(MAX_CONFIG_BYTES + 1), taken: false },
    { name: 'few characters of many bytes', text: `#${'é'.repeat(MAX_CONFIG_BYTES / 2)}\nhost: b\n`, taken: false },
  ]) {
    writeFileSync(path, text);
    if (taken) t.equal(readConfigText(path), text, name);
    else t.throws(() => readConfigText(path), { code: 'CONFIG_TOO_LARGE' }, name);
  }
  t.throws(() => readConfigText(join(dir, 'none')), { code: 'CONFIG_INVALID', message: /no such file/ });
});
