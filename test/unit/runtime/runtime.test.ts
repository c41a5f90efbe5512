import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { removeLeftovers, writeFileAtomic } from '../../../runtime/atomic-file.ts';
import { backoffMs } from '../../../runtime/backoff.ts';
import { delay } from '../../../runtime/clock.ts';
import { type Part, startParts } from '../../../runtime/lifecycle.ts';
import { createLogger, silentLogger } from '../../../runtime/log.ts';

t.test('parts start in order and stop in reverse; a failed start undoes the earlier ones and rethrows', async (t) => {
  const seen: string[] = [];
  const part = (name: string, fail = false): Part => ({
    name,
    start: async () => {
      seen.push(`+${name}`);
      if (fail) throw new Error(`${name} broke`);
    },
    stop: async () => void seen.push(`-${name}`),
  });
  const stop = await startParts([part('a'), part('b')], silentLogger);
  await stop();
  await stop();
  t.same(seen.splice(0), ['+a', '+b', '-b', '-a']);
  await t.rejects(startParts([part('a'), part('b', true), part('c')], silentLogger), /b broke/);
  t.same(seen, ['+a', '+b', '-b', '-a']);
});

t.test('a part that hangs in stop does not hold up the others', async (t) => {
  let stopped = false;
  const hang: Part = { name: 'hang', start: async () => {}, stop: () => new Promise(() => {}) };
  const stopOther = async () => {
    stopped = true;
  };
  const other: Part = { name: 'other', start: async () => {}, stop: stopOther };
  const stop = await startParts([other, hang], silentLogger, 20);
  await stop();
  t.ok(stopped);
});

t.test('an atomic write replaces whole, sets the mode, leaves no temp file', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'atomic-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const path = join(dir, 'f');
  writeFileSync(path, 'old', { mode: 0o644 });
  await Promise.all(Array.from({ length: 10 }, (_, i) => writeFileAtomic(path, `new ${i}`)));
  t.match(readFileSync(path, 'utf8'), /^new \d$/);
  t.equal(statSync(path).mode & 0o777, 0o600);
  await t.rejects(writeFileAtomic(join(dir, 'none', 'f'), 'x'));
  t.same(readdirSync(dir), ['f']);
});

t.test('back-off grows to its bound and is jittered', async (t) => {
  const options = { baseMs: 100, maxMs: 1000 };
  t.same(
    [0, 1, 2, 3, 4, 50].map((n) => backoffMs(n, options, () => 0.999999)).map(Math.round),
    [100, 200, 400, 800, 1000, 1000],
  );
  t.same(
    [0, 9].map((n) => backoffMs(n, options, () => 0)),
    [50, 500],
  );
});

t.test('delay ends with its signal', async (t) => {
  const abort = new AbortController();
  const waiting = delay(60_000, abort.signal);
  abort.abort(new Error('enough'));
  await t.rejects(waiting, /enough/);
  await t.rejects(delay(60_000, abort.signal), /enough/);
});

t.test('what a killed writer left is removed, nothing else', async (t) => {
  const dir = t.testdir({
    'host.pem': 'key',
    'host.pem.tmp-12-0': 'half a key',
    'a.tmp-x': 'ours? no',
    deep: { 'generation-3.json.tmp-7-14': '{', 'generation-2.json': '{}' },
    elsewhere: { 'other.tmp-1-1': 'not below by a link' },
    state: {},
  });
  symlinkSync(join(dir, 'elsewhere'), join(dir, 'state', 'link'));
  await removeLeftovers(join(dir, 'state'));
  t.same(readdirSync(join(dir, 'elsewhere')), ['other.tmp-1-1']);
  await removeLeftovers(dir);
  t.same(readdirSync(dir).sort(), ['a.tmp-x', 'deep', 'elsewhere', 'host.pem', 'state']);
  t.same(readdirSync(join(dir, 'deep')), ['generation-2.json']);
  await removeLeftovers(join(dir, 'none'));
});

t.test('a log line on a terminal is one line without what a terminal obeys', async (t) => {
  const written: string[] = [];
  t.intercept(process.stderr, 'write', { value: (text: string) => void written.push(text) });
  createLogger({ program: 'x', format: 'text' }).warn('refused', { reason: '\u001b[31mred\nfake line\u009b2J' });
  t.equal(written.length, 1);
  t.match(written[0], /reason=\\u001b\[31mred\\u000afake line\\u009b2J\n$/);
});
