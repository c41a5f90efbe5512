import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { test } from 'tap';
import { TREE } from '../../scripts/lib/lab/paths.ts';

const dir = mkdtempSync(join(tmpdir(), 'lab-test-'));
const file = join(dir, 'plain.yaml');
writeFileSync(
  file,
  'controllers: 0\nhosts: [{name: a, agent: false}, {name: b, agent: false}, {name: c, agent: false}]\n',
);

t.teardown(() => rmSync(dir, { recursive: true }));

function lab(args: string[], input = '') {
  const { status, stdout, stderr } = spawnSync('scripts/lab', args, { encoding: 'utf8', input });
  return { status, stdout, stderr };
}

/** What a lab could leave behind on this machine, `hm-` being its mark. */
function traces() {
  const run = (file: string, ...args: string[]) => spawnSync(file, args, { encoding: 'utf8' }).stdout;
  return {
    namespaces: run('ip', 'netns', 'list').match(/^hm-.*/gm) ?? [],
    devices: run('ip', '-o', 'link').match(/hm-root/g) ?? [],
    folder: existsSync('/run/hostmesh-lab'),
    users: readFileSync('/etc/passwd', 'utf8').match(/^(mesh-|hm-).*/gm) ?? [],
    rules: run('iptables-save')
      .replace(/^#.*\n/gm, '')
      .replace(/\[\d+:\d+\]/g, ''),
  };
}

/** A TCP connection in time, by bash's own /dev/tcp: no more programs are needed. */
function reaches(from: string, address: string, port: number, seconds = 15): boolean {
  const command = ['timeout', String(seconds), 'bash', '-c', `echo > /dev/tcp/${address}/${port}`];
  return lab(['exec', from, '--', ...command]).status === 0;
}

test('a lab of plain machines: network, resolver, exec, cuts, and nothing left behind', async (t) => {
  const before = traces();
  t.strictSame(before.namespaces, [], 'no lab is up before this test');
  t.teardown(() => lab(['down']));
  const up = lab(['up', '--file', file]);
  t.equal(up.status, 0, up.stderr);

  await t.test('one lab a machine', async (t) => {
    const second = lab(['up', '--file', file]);
    t.equal(second.status, 1);
    t.match(second.stderr, /a lab is up on this machine.*scripts\/lab down/);
    t.equal(lab(['status']).status, 0, 'the first is not harmed');
  });

  await t.test('exec passes stdin, exit status, user and signals through', async (t) => {
    t.match(lab(['exec', 'a', '--user', 'nobody', '--', 'sh', '-c', 'id -un; cat; exit 7'], 'hi'), {
      status: 7,
      stdout: 'nobody\nhi',
    });
    t.match(lab(['exec', 'nowhere', '--', 'true']), { status: 1, stderr: /no host nowhere/ });
    t.match(lab(['exec', 'a', 'true']), { status: 64, stderr: /-- is missing/ });
    t.match(lab(['exec', 'a', '--user', 'no-such', '--', 'true']), { status: 1, stderr: /no user no-such/ });
    const child = spawn('scripts/lab', [
      'exec',
      'a',
      '--',
      'bash',
      '-c',
      'trap "exit 42" USR1; echo up; while :; do read -t 0.1 <> <(:) || :; done',
    ]);
    await new Promise((resolve) => child.stdout.once('data', resolve));
    child.kill('SIGUSR1');
    t.equal(await new Promise((resolve) => child.once('exit', resolve)), 42, 'the signal reached the command itself');
  });

  await t.test('names outside the mesh', async (t) => {
    t.match(lab(['exec', 'a', '--', 'getent', 'ahostsv4', 'outside.test']).stdout, /^10\.77\.0\.253 /);
    t.match(lab(['exec', 'a', '--', 'getent', 'ahostsv6', 'b.lab.test']).stdout, /^fd77::12 /);
    t.equal(lab(['exec', 'a', '--', 'getent', 'hosts', 'reviews']).status, 2, 'a mesh name is unknown outside');
  });

  await t.test('cables and partitions', async (t) => {
    const sample = [`${TREE}/build/node/bin/node`, `${TREE}/scripts/lib/sample-service.ts`, 'b', 'http=8080'];
    const server = spawn('scripts/lab', ['exec', 'b', '--user', 'nobody', '--', ...sample]);
    await new Promise((resolve) => server.stdout.once('data', resolve));
    t.ok(reaches('a', '10.77.0.12', 8080), 'IPv4');
    t.ok(reaches('a', 'fd77::12', 8080), 'IPv6');
    const outside = await fetch('http://10.77.0.12:8080/').then((r) => r.status);
    t.equal(outside, 200, 'from the machine itself');
    lab(['partition', 'a', 'b']);
    t.notOk(reaches('a', '10.77.0.12', 8080, 2), 'cut');
    t.notOk(reaches('a', 'fd77::12', 8080, 2), 'cut in IPv6');
    t.ok(reaches('c', '10.77.0.12', 8080), 'others are not cut');
    t.match(lab(['status']).stdout, /partitioned/);
    lab(['heal']);
    t.ok(reaches('a', '10.77.0.12', 8080), 'healed');
    lab(['link', 'b', 'down']);
    t.notOk(reaches('c', '10.77.0.12', 8080, 2), 'cable out');
    t.match(lab(['status']).stdout, /b .*link down/);
    lab(['link', 'b', 'up']);
    t.ok(reaches('c', 'fd77::12', 8080), 'cable in');
  });

  await t.test('wrong calls are refused by name', async (t) => {
    t.match(lab(['kill', 'a', 'agent']), { status: 1, stderr: /a runs no agent/ });
    t.match(lab(['partition', 'a', 'x']), { status: 1, stderr: /no host x in this lab; there are a, b, c/ });
    t.match(lab(['link', 'a', 'sideways']), { status: 64 });
    t.match(lab(['env']), { status: 1, stderr: /no controller/ });
    t.match(lab(['frobnicate']), { status: 64, stderr: /unknown command frobnicate/ });
  });

  t.equal(lab(['down']).status, 0);
  t.strictSame(traces(), before, 'nothing is left, the server on b neither');
  t.match(lab(['down']), { status: 0, stderr: /none was up/ }, 'down is safe to repeat');
});

test('a lab that died half-way is taken down whole', async (t) => {
  const before = traces();
  const child = spawn('scripts/lab', ['up', '--file', file], { stdio: 'ignore' });
  const end = performance.now() + 15_000;
  while (!existsSync('/run/hostmesh-lab/lab.json') && performance.now() < end)
    await new Promise((resolve) => setTimeout(resolve, 2));
  child.kill('SIGKILL');
  await new Promise((resolve) => child.once('exit', resolve));
  t.match(lab(['up', '--file', file]), { status: 1, stderr: /left half-way/ });
  t.equal(lab(['down']).status, 0);
  t.strictSame(traces(), before);
});
