/** Three hosts, each a process: what SIGKILL, SIGSTOP and SIGTERM look like to the others, and what one host costs when idle. */
import t from 'tap';
import { until } from './mesh.ts';
import { setUp } from './process-mesh.ts';

t.setTimeout(300_000);

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
    await until(() => host.lines > lines, 10_000);
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
