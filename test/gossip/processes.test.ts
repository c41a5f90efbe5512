/** Three hosts, each a process: what SIGKILL, SIGSTOP and SIGTERM look like to the others, and what one host costs when idle. */
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { HostGrant } from '../../api/signed-config/desired-config.ts';
import { createTestCa } from '../builders/test-ca.ts';
import type { HostFile } from './host.ts';
import { until } from './mesh.ts';

t.setTimeout(120_000);

interface HostProcess {
  readonly child: ChildProcess;
  last: { hosts: Record<string, string>; cpuMs: number; rss: number };
  lines: number;
  exited: number | null | undefined;
}

function setUp(t: Test, count: number) {
  const ca = createTestCa();
  const dir = t.testdir();
  const octet = 1 + ((process.pid * 13) % 250);
  const port = 15300;
  const address = (n: number) => `127.${octet}.9.${n + 1}`;
  const grants: HostGrant[] = Array.from({ length: count }, (_, n) => ({
    host: `h${n}`,
    epoch: 1,
    workloadGroups: [],
    gossipAddresses: [`${address(n)}:${port}`],
  }));
  const running = new Map<string, HostProcess>();
  const start = (n: number) => {
    const { chainPem, privateKeyPem } = ca.host(`h${n}`);
    const file: HostFile = {
      host: `h${n}`,
      trustDomain: ca.trustDomain,
      address: address(n),
      port,
      dir,
      chainPem,
      privateKeyPem,
      grants,
      intermediatePem: ca.intermediatePem,
    };
    const path = join(dir, `h${n}.json`);
    writeFileSync(path, JSON.stringify(file), { mode: 0o600 });
    const child = spawn(process.execPath, ['--max-semi-space-size=1', join(import.meta.dirname, 'host.ts'), path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const host: HostProcess = { child, last: { hosts: {}, cpuMs: 0, rss: 0 }, lines: 0, exited: undefined };
    let rest = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      const parts = (rest + chunk).split('\n');
      rest = parts.pop() ?? '';
      for (const line of parts) {
        host.last = JSON.parse(line);
        host.lines += 1;
      }
    });
    child.on('exit', (code) => {
      host.exited = code;
    });
    running.set(`h${n}`, host);
    return host;
  };
  t.teardown(() => {
    for (const { child } of running.values()) child.kill('SIGKILL');
  });
  for (let n = 0; n < count; n++) start(n);
  const see = (observers: string[], host: string, state: string) =>
    observers.every((o) => running.get(o)?.last.hosts[host] === state);
  const show = () => JSON.stringify([...running].map(([h, p]) => [h, p.last.hosts]));
  const whole = () => until(() => [...running.keys()].every((h) => see([...running.keys()], h, 'alive')), 20_000, show);
  return { running, start, see, show, whole };
}

t.test('killed, frozen, stopped in order, and back', async (t) => {
  const { running, start, see, show, whole } = setUp(t, 3);
  await whole();
  const others = ['h0', 'h1'];

  running.get('h2')!.child.kill('SIGKILL');
  const killed = await until(() => see(others, 'h2', 'dead'), 10_000, show);
  t.ok(killed < 4500, `killed: dead to all after ${Math.round(killed)} ms`);
  start(2);
  await whole();

  running.get('h2')!.child.kill('SIGSTOP');
  const frozen = await until(() => see(others, 'h2', 'dead'), 10_000, show);
  t.ok(frozen < 6500, `frozen: dead to all after ${Math.round(frozen)} ms`);
  running.get('h2')!.child.kill('SIGCONT');
  const thawed = await until(
    () => see(others, 'h2', 'alive') && see(['h2'], 'h0', 'alive') && see(['h2'], 'h1', 'alive'),
    10_000,
    show,
  );
  t.comment(`thawed: alive to all after ${Math.round(thawed)} ms`);
  t.notOk(Object.values(running.get('h2')!.last.hosts).includes('dead'), 'the frozen one blames nobody');

  running.get('h2')!.child.kill('SIGTERM');
  const left = await until(() => see(others, 'h2', 'left'), 5000, show);
  t.ok(left < 1500, `stopped in order: left after ${Math.round(left)} ms`);
  await until(() => running.get('h2')!.exited === 0, 5000);
});

t.test('a stall of two seconds is survived', async (t) => {
  const { running, whole, show } = setUp(t, 3);
  await whole();
  const settled = performance.now() + 6000;
  await until(() => performance.now() > settled, 8000);
  const died: string[] = [];
  for (const [name, { child }] of running) {
    child.stdout?.on('data', (chunk: Buffer) => {
      if (chunk.includes('"dead"')) died.push(name);
    });
  }
  running.get('h1')!.child.kill('SIGSTOP');
  const stall = performance.now() + 1900;
  await until(() => performance.now() > stall, 3000);
  running.get('h1')!.child.kill('SIGCONT');
  const after = performance.now() + 3500;
  await until(() => performance.now() > after, 5000);
  t.same(died, [], show());
});

t.test('an idle host', async (t) => {
  const { running, whole } = setUp(t, 3);
  await whole();
  const host = running.get('h1')!;
  const read = async () => {
    const lines = host.lines;
    host.child.kill('SIGUSR2');
    await until(() => host.lines > lines, 3000);
    return host.last;
  };
  // A share of a core needs a stretch of time: this is the measurement, not a wait for something.
  const stretch = async (ms: number) => {
    const end = performance.now() + ms;
    await until(() => performance.now() > end, ms + 2000);
  };
  await stretch(3000);
  const before = await read();
  await stretch(8000);
  const after = await read();
  const share = (after.cpuMs - before.cpuMs) / 8000;
  t.comment(`idle: ${(share * 100).toFixed(2)} % of a core, RSS ${Math.round(after.rss / 1e6)} MB`);
  t.ok(share < 0.1, 'no busy loop');
});
