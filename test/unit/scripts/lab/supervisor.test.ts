import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import type { Answer, Order, SupervisorSpec } from '../../../../scripts/lib/lab/supervisor-spec.ts';

/** A stand-in for mesh-agent: takes its UDP socket by descriptor, echoes, notes its starts and what it was passed. */
const AGENT = `
import { createSocket } from 'node:dgram';
import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { rmSync } from 'node:fs';
const [log, admin] = process.argv.slice(2);
const note = (line) => appendFileSync(log, line + '\\n');
const { LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID } = process.env;
note('agent starts ' + LISTEN_FDS + ' ' + LISTEN_FDNAMES + ' ' + (Number(LISTEN_PID) === process.pid));
const udp = createSocket('udp4');
udp.on('message', (m, peer) => udp.send('echo ' + m, peer.port, peer.address));
udp.bind({ fd: 3 });
rmSync(admin, { force: true });
createServer((q, s) => { note('agent ' + q.method + ' ' + q.url); s.end(); }).listen(admin);
process.on('SIGTERM', () => { note('agent ends'); process.exit(0); });
`;
const PROXY = `trap 'echo proxy ends >> "$1"; exit 0' TERM; echo proxy starts >> "$1"; while :; do sleep 0.05 & wait $!; done`;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + 10_000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within 10 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function startSupervisor(t: Test) {
  const dir = mkdtempSync(join(tmpdir(), 'lab-')); // a unix socket's path is at most 107 bytes
  mkdirSync(join(dir, 'run', 'redirect'), { recursive: true });
  const log = join(dir, 'events');
  const port = await freePort();
  writeFileSync(log, '');
  writeFileSync(join(dir, 'agent.mjs'), AGENT);
  const restart = { delayMs: 50, burst: 2, intervalMs: 30_000, preventStatus: [78] };
  const unit = (argv: string[], extra: object = {}) => ({
    argv,
    env: { PATH: process.env.PATH ?? '' },
    log: join(dir, 'out'),
    restart,
    stopTimeoutMs: 3000,
    fdNames: [],
    ...extra,
  });
  const env = { PATH: process.env.PATH ?? '' };
  const root = (word: string) => ({ argv: ['sh', '-c', `echo ${word} >> ${log}`], env, log: join(dir, 'out') });
  const spec: SupervisorSpec = {
    name: 'h',
    control: join(dir, 'c.sock'),
    sockets: [
      { type: 'udp', address: '127.0.0.1', port, name: 'dns' },
      { type: 'tcp', address: '127.0.0.1', port, name: 'dns' },
    ],
    units: {
      agent: unit([process.execPath, join(dir, 'agent.mjs'), log, join(dir, 'run', 'a.sock')], {
        fdNames: ['dns', 'dns'],
      }),
      proxy: unit(['sh', '-c', PROXY, 'sh', log], { needs: join(dir, 'bootstrap') }),
      broken: unit(['sh', '-c', 'exit 78']),
      looping: unit(['sh', '-c', 'exit 1'], { onFailure: root('failed for good') }),
    },
    oneshot: { ...root('apply'), path: join(dir, 'run', 'redirect', 'spec.json') },
    leave: { socket: join(dir, 'run', 'a.sock'), path: '/leave', clean: root('clean') },
    runDir: join(dir, 'run'),
  };
  writeFileSync(join(dir, 'spec.json'), JSON.stringify(spec));
  const hold = new URL('../../../../scripts/lib/lab/hold.ts', import.meta.url).pathname;
  spawn(process.execPath, ['--no-warnings', hold, join(dir, 'spec.json'), join(dir, 'supervisor.log')], {
    stdio: 'ignore',
  });
  const order = (what: Order | string) =>
    new Promise<Answer>((resolve, reject) => {
      const socket = connect(spec.control);
      let text = '';
      socket.on('error', reject).on('data', (d) => {
        text += d;
      });
      socket.on('end', () => resolve(JSON.parse(text) as Answer));
      socket.write(`${typeof what === 'string' ? what : JSON.stringify(what)}\n`);
    });
  await until('the supervisor answers', () =>
    order({ do: 'status' }).then(
      () => true,
      () => false,
    ),
  );
  const events = () =>
    readFileSync(log, 'utf8')
      .trim()
      .split('\n')
      .filter((l) => l !== '');
  const state = async (name: string) => (await order({ do: 'status' })).units?.[name];
  t.teardown(async () => {
    await order({ do: 'end' });
    rmSync(dir, { recursive: true });
  });
  return { dir, port, order, events, state, spec };
}

function echo(port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4');
    const timer = setTimeout(() => reject(new Error(`no echo of ${text}`)), 8000);
    socket.once('message', (message) => {
      clearTimeout(timer);
      socket.close();
      resolve(message.toString());
    });
    socket.send(text, port, '127.0.0.1');
  });
}

test('a supervisor does for a lab host what systemd does for a real one', async (t) => {
  const { dir, port, order, events, state } = await startSupervisor(t);

  await order({ do: 'start', unit: 'agent' });
  t.equal(await echo(port, 'one'), 'echo one', 'the unit serves on the held socket');
  t.strictSame(
    events(),
    ['agent starts 2 dns:dns true'],
    'LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID as sd_listen_fds(3) says',
  );

  const before = (await state('agent'))?.pid;
  await order({ do: 'kill', unit: 'agent', stayDown: false });
  t.equal(await echo(port, 'two'), 'echo two', 'a query waits in the socket while the unit restarts');
  t.not((await state('agent'))?.pid, before);

  await order({ do: 'kill', unit: 'agent', stayDown: true });
  t.equal((await state('agent'))?.state, 'stopped', 'stays down when told so');
  await order({ do: 'start', unit: 'agent' });
  t.equal(await echo(port, 'three'), 'echo three');

  await order({ do: 'start', unit: 'proxy' });
  t.equal((await state('proxy'))?.state, 'waiting', 'a unit waits for the file that it needs');
  writeFileSync(join(dir, 'bootstrap'), '');
  await until('the proxy starts', () => events().includes('proxy starts'));

  writeFileSync(join(dir, 'run', 'redirect', 'spec.tmp'), '{}');
  renameSync(join(dir, 'run', 'redirect', 'spec.tmp'), join(dir, 'run', 'redirect', 'spec.json'));
  await until('the oneshot runs', () => events().includes('apply'));

  const seen = events().length;
  await order({ do: 'stop', unit: 'agent' });
  t.strictSame(
    events().slice(seen),
    ['agent POST /leave', 'clean', 'proxy ends', 'agent ends'],
    'an orderly stop, in order',
  );

  await order({ do: 'start', unit: 'broken' });
  await until('failed', async () => (await state('broken'))?.state === 'failed');
  t.equal((await state('broken'))?.starts, 1, 'exit 78: not started again');
  await order({ do: 'start', unit: 'looping' });
  await until('failed', async () => (await state('looping'))?.state === 'failed');
  t.equal((await state('looping'))?.starts, 3, 'a crash loop ends at the limit');
  await until('OnFailure= runs', () => events().includes('failed for good'));

  t.match(await order({ do: 'start', unit: 'nonsense' }), { error: /no unit nonsense on h; it has agent, proxy/ });
  t.match(await order('junk'), { error: /JSON/ }, 'junk is answered, not died of');
});

test('a power loss and the boot after it', async (t) => {
  const { dir, port, order, events } = await startSupervisor(t);
  writeFileSync(join(dir, 'bootstrap'), '');
  await order({ do: 'start', unit: 'agent' });
  await order({ do: 'start', unit: 'proxy' });
  t.equal(await echo(port, 'one'), 'echo one');
  await until('the proxy starts', () => events().includes('proxy starts'));
  mkdirSync(join(dir, 'run', 'left'));
  writeFileSync(join(dir, 'run', 'redirect', 'result.json'), '');
  const seen = events().length;
  await order({ do: 'kill', unit: 'all', stayDown: false });
  t.strictSame(events().slice(seen), [], 'nobody says goodbye');
  await order({ do: 'start', unit: 'agent' });
  await until('the agent starts', () => events().length > seen + 1);
  t.strictSame(events().slice(seen), ['clean', 'agent starts 2 dns:dns true'], 'the kernel has no rules after a boot');
  t.notOk(existsSync(join(dir, 'run', 'left')), 'what lay on tmpfs is gone');
  t.notOk(existsSync(join(dir, 'run', 'redirect', 'result.json')));
});
