import t, { type Test } from 'tap';
import { createPortWatcher } from '../../../../agent/workloads/port-watcher.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';
import { FakeHost } from '../../../fakes/fake-host.ts';

const WEB = { group: 'shop/web', ports: [80, 81], ownerUids: new Set([33]) };

async function open(t: Test) {
  const host = new FakeHost();
  const clock = createFakeClock();
  const watcher = createPortWatcher({ sockets: host, clock, log: silentLogger });
  const events: string[] = [];
  watcher.onChange(() => events.push(watcher.health('shop/web')));
  watcher.onEvidenceNeeded(() => events.push('evidence'));
  t.teardown(() => watcher.stop());
  return { host, watcher, events, clock };
}

t.test('healthy while a socket of its own listens; nothing is taken on trust', async (t) => {
  const { host, watcher, events } = await open(t);
  t.equal(watcher.health('shop/web'), 'unhealthy', 'never looked at');
  await watcher.watch([WEB]);
  t.equal(watcher.health('shop/web'), 'unhealthy', 'nothing listens');
  host.listen(80, 33);
  await watcher.watch([WEB]);
  t.equal(watcher.health('shop/web'), 'healthy', 'one port of two is up');
  t.strictSame(watcher.states().get('shop/web')?.problems, ['nothing listens on port 81']);
  host.listen(81, 10, '::1');
  await watcher.watch([WEB]);
  t.equal(watcher.health('shop/web'), 'unhealthy', 'a stranger sits on the other');
  host.close(81);
  await watcher.watch([WEB]);
  await watcher.watch([WEB]);
  t.strictSame(events, ['unhealthy', 'healthy', 'unhealthy', 'healthy'], 'one event a change');
});

t.test('a workload without ports is a client: healthy', async (t) => {
  const { watcher } = await open(t);
  await watcher.watch([{ ...WEB, ports: [] }]);
  t.equal(watcher.health('shop/web'), 'healthy');
});

t.test("root's socket: evidence is asked for, kept by inode, and asked again when it shows root alone", async (t) => {
  const { host, watcher, events, clock } = await open(t);
  const inode = host.listen(80, 0, '0.0.0.0', []);
  await watcher.watch([WEB]);
  t.strictSame(events, ['evidence', 'unhealthy']);
  await watcher.watch([WEB]);
  t.equal(host.holderLooks, 1, 'not asked for again at once');
  await watcher.addEvidence([{ inode, uids: [0] }]);
  t.equal(watcher.health('shop/web'), 'unhealthy', 'a master without workers');
  await clock.advance(5000);
  await watcher.watch([WEB]);
  t.equal(events.filter((e) => e === 'evidence').length, 2);
  await watcher.addEvidence([{ inode, uids: [0, 33] }]);
  t.equal(watcher.health('shop/web'), 'healthy');
  await clock.advance(60_000);
  await watcher.watch([WEB]);
  t.equal(host.holderLooks, 2, 'proved: not looked for any more');
  host.close(80);
  host.listen(80, 0, '0.0.0.0', []);
  await watcher.watch([WEB]);
  t.equal(watcher.health('shop/web'), 'unhealthy', 'another socket, another proof');
});

t.test('looks each interval; a look that fails keeps the last states', async (t) => {
  const { host, watcher, clock } = await open(t);
  host.listen(80, 33);
  await watcher.watch([WEB]);
  await watcher.start(new AbortController().signal);
  host.failure = new Error('EMFILE');
  host.close(80);
  await clock.advance(3000);
  t.equal(watcher.health('shop/web'), 'healthy');
  host.failure = undefined;
  await clock.advance(1000);
  t.equal(watcher.health('shop/web'), 'unhealthy');
});

t.test('looks each second while a port is missing, each third one while all is well', async (t) => {
  const { host, watcher, clock } = await open(t);
  let looks = 0;
  const listeners = host.listeners.bind(host);
  host.listeners = () => {
    looks += 1;
    return listeners();
  };
  const looksIn = async (ms: number) => {
    const before = looks;
    await clock.advance(ms);
    return looks - before;
  };
  host.listen(80, 33);
  await watcher.watch([WEB]);
  await watcher.start(new AbortController().signal);
  t.equal(await looksIn(6000), 6, 'port 81 is missing');
  host.listen(81, 33);
  await clock.advance(1000);
  t.equal(await looksIn(6000), 2, 'both are served');
  host.close(80);
  await clock.advance(3000);
  t.strictSame(watcher.states().get('shop/web')?.problems, ['nothing listens on port 80'], 'seen within three seconds');
  t.equal(await looksIn(3000), 3);
});
