import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import { loadVaultKey } from '../../../../controller/store/secret-vault.ts';

const none = async () => false;
const some = async () => true;

test('the key of Secrets: made once, 0600, never anew beside Secrets that it would lose', async (t) => {
  const path = join(t.testdir(), 'secrets.key');
  await t.rejects(loadVaultKey(path, some), { code: 'SECRET_KEY_LOST', message: /restore it from a backup/ });
  const key = await loadVaultKey(path, none);
  t.equal(key.length, 32);
  t.equal((await stat(path)).mode & 0o777, 0o600);
  t.same(await loadVaultKey(path, some), key, 'the same again');
  t.notSame(key, Buffer.alloc(32));
  const text = await readFile(path, 'utf8');
  await writeFile(path, text.slice(0, 20));
  await t.rejects(loadVaultKey(path, none), { code: 'SECRET_KEY_LOST', message: /damaged/ });
  await rm(path);
  t.notSame(await loadVaultKey(path, none), key, 'a mesh without Secrets may have another');
});
