// The agent's side of the redirection, over a folder and a pretended oneshot.
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Asked, createRedirectClient } from '../../../../agent/redirect/client.ts';
import { buildSpec } from '../../../builders/redirect-spec.ts';

t.test('a request that systemd did not hear of is written once more, and is the same request', async (t) => {
  const folder = t.testdir();
  const { version: _version, requestId: _requestId, ...asked } = buildSpec();
  const client = createRedirectClient(folder);
  const path = join(folder, 'spec.json');
  const seen = new Map<number, string>();
  // it misses the first file that is put there
  const looking = setInterval(() => {
    const inode = statSync(path, { throwIfNoEntry: false })?.ino;
    if (inode === undefined) return;
    seen.set(inode, (JSON.parse(readFileSync(path, 'utf8')) as { requestId: string }).requestId);
    if (seen.size < 2) return;
    // once only: a reader must not meet the file while it is written anew in place
    clearInterval(looking);
    const result = { version: 1, requestId: [...seen.values()][1], status: 'applied' };
    writeFileSync(join(folder, 'result.json'), JSON.stringify(result));
  }, 10);
  t.teardown(() => clearInterval(looking));
  const result = await client.apply(asked as Asked, { timeoutMs: 8000 });
  t.equal(result.status, 'applied');
  t.equal(new Set(seen.values()).size, 1);
  t.strictSame((await client.standing())?.spec, asked);
  await t.rejects(client.apply(asked as Asked, { timeoutMs: 50 }), { code: 'REDIRECT_TIMEOUT' });
});
