import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { applyRedirect } from '../../agent/redirect/apply.ts';
import { permit } from '../../agent/redirect/policy.ts';
import { buildPolicy, buildSpec, UID } from '../builders/redirect-spec.ts';
import { join, openSpace, type Space, standInProxy } from './redirect-lab.ts';

const HOLDER = fileURLToPath(new URL('./dns-holder.py', import.meta.url));
const MAIN = fileURLToPath(new URL('./dns-main.ts', import.meta.url));
const ASKER = `
const dns = require('node:dns');
const resolver = new dns.promises.Resolver({ timeout: 2000, tries: 2 });
resolver.setServers([process.argv[1]]);
process.setuid(33);
let sent = 0, answered = 0; const failures = [];
const timer = setInterval(() => {
  const name = sent % 2 ? 'reviews.shop.svc.cluster.local' : 'example.com';
  sent++;
  resolver.resolve4(name).then(() => { answered++; }, (error) => failures.push(error.code + ' ' + name));
  if (answered + failures.length === sent - 1) console.log('none waits, answered ' + answered);
}, 10);
process.stdin.once('data', async () => {
  clearInterval(timer);
  const end = Date.now() + 20_000;
  while (answered + failures.length < sent && Date.now() < end) await new Promise((r) => setTimeout(r, 10));
  console.log(JSON.stringify({ sent, answered, failures }));
  process.exit(0);
});
console.log('started');
`;

/** A DNS server in the space on sockets that outlive it. Returns the pids of its incarnations as they come. */
async function serve(t: Test, space: Space, sockets: [string, string, number][], config: object) {
  const env = { ...process.env, CONFIG: JSON.stringify({ inherited: sockets.length, ...config }) };
  const args = ['netns', 'exec', space.name, 'python3', HOLDER, JSON.stringify(sockets), process.execPath, MAIN];
  const holder = spawn('ip', args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => ended(holder, () => holder.kill('SIGTERM')));
  const pids: number[] = [];
  const lines = createInterface({ input: holder.stdout! });
  lines.on('line', (line) => pids.push(Number(line)));
  await new Promise((resolve) => lines.once('line', resolve));
  return pids;
}

function ended(child: ChildProcess, stop: () => void): Promise<unknown> {
  const done = new Promise((resolve) => child.once('close', resolve));
  stop();
  return done;
}

async function openPair(t: Test) {
  const host = openSpace('dns');
  const peer = openSpace('dns-peer');
  const etc = `/etc/netns/${host.name}`;
  t.teardown(async () => {
    await host.close();
    await peer.close();
    rmSync(etc, { recursive: true, force: true });
  });
  join(host, peer);
  mkdirSync(etc, { recursive: true });
  const at53: [string, string, number][] = ['10.9.0.2', 'fd09::2'].flatMap(
    (a) =>
      [
        ['udp', a, 53],
        ['tcp', a, 53],
      ] as [string, string, number][],
  );
  await serve(t, peer, at53, {
    basePort: 53,
    namespaces: ['x'],
    servers: [],
    table: { 'example.com': { v4: ['192.0.2.1'], v6: [] } },
  });
  await standInProxy(host, [15001, 15100, 15006]);
  const ports: [string, string, number][] = [15053, 15054].flatMap((port) =>
    ['127.0.0.1', '::1'].flatMap(
      (a) =>
        [
          ['udp', a, port],
          ['tcp', a, port],
        ] as [string, string, number][],
    ),
  );
  const pids = await serve(t, host, ports, {
    basePort: 15053,
    namespaces: ['shop', 'data'],
    servers: ['10.9.0.2'],
    table: {
      'reviews.shop.svc.cluster.local': { v4: ['240.240.0.1'], v6: ['fd6d:6573:6800::1'] },
      'reviews.data.svc.cluster.local': { v4: ['240.240.0.2'], v6: ['fd6d:6573:6800::2'] },
    },
  });
  const deps = {
    exec: host.exec,
    sockets: host.sockets,
    stateDir: `${t.testdir()}/state`,
    now: Date.now,
    procPath: host.procPath,
  };
  await applyRedirect(deps, permit(buildSpec(), buildPolicy()), { agentUid: UID.agent, revertAfterMs: 0 });
  return { host, pids, etc };
}

t.test('ordinary programs resolve mesh names by ordinary DNS, each in its own namespace', async (t) => {
  const { host, etc } = await openPair(t);
  for (const nameserver of ['10.9.0.2', 'fd09::2', '127.0.0.1']) {
    writeFileSync(`${etc}/resolv.conf`, `nameserver ${nameserver}\n`);
    const lookup = (uid: number, database: string, name: string) => {
      try {
        return host.run('setpriv', `--reuid=${uid}`, '--clear-groups', 'getent', database, name).split(/\s+/)[0];
      } catch {
        return 'none';
      }
    };
    for (const [uid, database, name, wanted] of [
      [UID.web, 'ahostsv4', 'reviews', '240.240.0.1'],
      [UID.news, 'ahostsv4', 'reviews', '240.240.0.2'],
      [UID.news, 'ahostsv4', 'reviews.shop', '240.240.0.1'],
      [UID.web, 'ahostsv6', 'reviews.data.svc.cluster.local', 'fd6d:6573:6800::2'],
      [UID.web, 'ahostsv4', 'example.com', '192.0.2.1'],
      [UID.web, 'ahostsv4', 'nothing.shop.svc.cluster.local', 'none'],
      [UID.stranger, 'ahostsv4', 'reviews', 'none'],
    ] as const)
      t.equal(lookup(uid, database, name), wanted, `uid ${uid}: ${name} by ${nameserver}`);
  }
});

// A query that the server had in hand when it was killed is gone; every stub resolver asks again, as this one does. What waits in the
// sockets, which are not the server's, is answered by its successor.
t.test('kill -9 of the server: its sockets stay, no look-up fails', async (t) => {
  const { host, pids } = await openPair(t);
  const asker = spawn('ip', ['netns', 'exec', host.name, process.execPath, '-e', ASKER, '10.9.0.2'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines: string[] = [];
  createInterface({ input: asker.stdout! }).on('line', (line) => lines.push(line));
  const wait = async (condition: () => boolean, what: string) => {
    for (const end = performance.now() + 30_000; !condition(); ) {
      if (performance.now() > end) throw new Error(`timed out: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  await wait(() => lines.length > 0, 'the asker to start');
  /** How many were answered when last none waited. */
  const answers = () => Number(/answered (\d+)$/.exec(lines.at(-1) ?? '')?.[1] ?? 0);
  for (let round = 1; round <= 3; round++) {
    process.kill(pids.at(-1)!, 'SIGKILL');
    await wait(() => pids.length > round, 'a new server');
    // What was lost is asked again after 2 s: before the next kill, as one query may be lost once and not twice.
    const before = answers();
    await wait(() => answers() >= before + 50, 'fifty more answers, and none that waits');
  }
  asker.stdin?.write('stop\n');
  await wait(() => lines.at(-1)!.startsWith('{'), 'the count');
  const { sent, answered, failures } = JSON.parse(lines.at(-1)!) as {
    sent: number;
    answered: number;
    failures: string[];
  };
  t.ok(sent > 100, `${sent} queries`);
  t.strictSame([answered, failures], [sent, []]);
});
