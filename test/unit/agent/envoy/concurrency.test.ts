import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { createProxyConcurrency } from '../../../../agent/envoy/concurrency.ts';
import { silentLogger } from '../../../../runtime/log.ts';

test('the next start takes what is wanted; a running proxy that differs is said to, and nothing restarts it', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'concurrency-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'concurrency');
  let threads: number | Error = 2;
  const part = createProxyConcurrency({
    file,
    running: async () => {
      if (threads instanceof Error) throw threads;
      return threads;
    },
    log: silentLogger,
  });
  await part.want(undefined);
  t.throws(() => statSync(file), 'nobody asks: no file');
  t.same(part.problems(), []);
  await part.want(4);
  t.equal(readFileSync(file, 'utf8'), '4\n');
  t.equal(statSync(file).mode & 0o777, 0o640);
  t.match(part.problems(), [/2 worker threads, 4 are asked for/]);
  threads = 4;
  await part.look();
  t.same(part.problems(), [], 'reloaded');
  threads = new Error('Envoy is away');
  await part.want(3);
  t.same(part.problems(), [], 'a proxy that is away will start with it');
  await part.want(undefined);
  t.throws(() => statSync(file), 'taken back');
});
