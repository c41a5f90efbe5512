// A command's look at a socket that plays systemd: what it is sent, what it may say, what becomes of runs that are given up.
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { createExecLook, parseEnd } from '../../../../../agent/workloads/probes/exec-call.ts';
import type { ExecCall } from '../../../../../agent/workloads/probes/plan.ts';

const CALL: ExecCall = { kind: 'exec', command: ['/c'], timeoutSeconds: 5, unit: 'mesh-probe-x' };

/** systemd, played: `answer` gets each connection after its first line, and says by `end` that the command has ended; `open` counts those before. */
function setUp(t: Test, answer: (end: (text: string) => void, socket: net.Socket) => void) {
  // a socket's path is short
  const folder = mkdtempSync(join(tmpdir(), 'probe-'));
  const path = join(folder, 's');
  const seen = { lines: [] as string[], open: 0, most: 0 };
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    seen.most = Math.max(seen.most, ++seen.open);
    socket.on('error', () => {});
    socket.once('data', (data) => {
      seen.lines.push(data.toString());
      answer((text) => {
        seen.open--;
        socket.end(text);
      }, socket);
    });
  });
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
    rmSync(folder, { recursive: true });
  });
  const look = createExecLook({ socketOf: () => path, systemdFolder: folder });
  const listening = () => new Promise<void>((resolve) => server.listen(path, resolve));
  return { look, listening, seen, path };
}

test('systemd’s word decides', async (t) => {
  for (const [text, outcome] of [
    ['success exited 0\n', { ok: true }],
    ['success exited 1\n', { ok: false, why: 'exit status 1' }],
    ['success exited 127\n', { ok: false, why: 'exit status 127 (there is no such program)' }],
    ['success exited 126\n', { ok: false, why: /cannot be run by this user/ }],
    ['success killed KILL\n', { ok: false, why: 'ended by signal KILL' }],
    ['success killed RTMIN+1\n', { ok: false, why: 'ended by signal RTMIN+1' }],
    ['timeout killed KILL\n', { ok: false, why: 'ran too long and was ended' }],
    ['oom-kill exited 0\n', { ok: false, why: 'ended for want of memory' }],
    ['exit-code exited 0\n', { ok: false, why: 'systemd: exit-code' }],
    ['resources  \n', { ok: false, why: 'systemd could not start it' }],
    ['success  \n', { ok: false }],
    ['', { ok: false, why: 'systemd did not say how it ended' }],
    ['success exited 0', { ok: false, why: /did not say/ }],
    ['success exited 0\nsuccess exited 0\n', { ok: false, why: /did not say/ }],
    ['ok\nsuccess exited 0\n', { ok: false, why: /did not say/ }],
    ['success exited 00\n', { ok: false }],
  ] as const)
    t.match(parseEnd(text), outcome, JSON.stringify(text));
});

test('it is told the seconds and nothing else, in one connection', async (t) => {
  const { look, listening, seen } = setUp(t, (end) => end('success exited 0\n'));
  await listening();
  t.strictSame(await look(CALL, AbortSignal.timeout(30_000)), { ok: true });
  t.strictSame(seen.lines, ['5\n']);
});

test('one that talks without end is cut off; one that hangs up has said nothing', async (t) => {
  const endless = setUp(t, (_end, socket) => {
    const more = () => socket.writable && socket.write('success exited 0\n'.repeat(100), () => setImmediate(more));
    more();
  });
  await endless.listening();
  t.match(await endless.look(CALL, AbortSignal.timeout(30_000)), { ok: false, why: /did not say/ });
  const mute = setUp(t, (end) => end(''));
  await mute.listening();
  t.match(await mute.look(CALL, AbortSignal.timeout(30_000)), { ok: false, why: /did not say/ });
});

test('never two runs at once: after one that was given up the next waits until it has ended', async (t) => {
  const ends: (() => void)[] = [];
  const { look, listening, seen } = setUp(t, (end) => {
    if (seen.lines.length > 1) end('success exited 0\n');
    else ends.push(() => end('success killed KILL\n'));
  });
  await listening();
  const first = new AbortController();
  const hanging = look(CALL, first.signal);
  while (ends.length === 0) await new Promise(setImmediate);
  first.abort();
  t.match(await hanging, { ok: false });
  t.match(await look(CALL, AbortSignal.timeout(60)), { ok: false, why: 'the run before has not ended' });
  t.equal(seen.open, 1, 'its connection is how its end is heard of');
  const next = look(CALL, AbortSignal.timeout(30_000));
  ends[0]?.();
  t.strictSame(await next, { ok: true });
  t.equal(seen.most, 1);
});

test('a command that is not listed asks nobody', async (t) => {
  const { look, seen, listening } = setUp(t, (end) => end('success exited 0\n'));
  await listening();
  t.match(await look({ ...CALL, unit: undefined }, AbortSignal.timeout(30_000)), { ok: false, why: /execProbes/ });
  t.equal(seen.open, 0);
});

test('a socket that comes a little later is waited for; one that does not come is said, and where nothing is systemd’s that', async (t) => {
  const { look, listening, seen } = setUp(t, (end) => end('success exited 0\n'));
  const early = look(CALL, AbortSignal.timeout(30_000));
  setTimeout(() => void listening(), 20);
  t.strictSame(await early, { ok: true });
  t.equal(seen.lines.length, 1);
  const folder = mkdtempSync(join(tmpdir(), 'probe-'));
  const absent = (systemdFolder: string) =>
    createExecLook({ socketOf: () => join(folder, 'none'), systemdFolder })(
      { ...CALL, timeoutSeconds: 0.1 },
      AbortSignal.timeout(30_000),
    );
  t.match(await absent(folder), { ok: false, why: /systemctl start mesh-order; journalctl .*-u mesh-probe-x\.socket/ });
  rmSync(folder, { recursive: true });
  t.match(await absent(folder), { ok: false, why: /only systemd can/ });
});
