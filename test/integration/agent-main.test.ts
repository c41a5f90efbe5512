// mesh-agent as a program: exit codes and words before a host has joined, and joins that must leave nothing behind.
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tap from 'tap';
import { formatJoinString, type JoinString } from '../../api/http/join-string.ts';
import { createTestCa } from '../builders/test-ca.ts';

const MAIN = join(import.meta.dirname, '../../agent/main.ts');

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function agent(args: readonly string[], input = ''): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--no-warnings', MAIN, ...args], { timeout: 60_000 });
    let [out, err] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      err += text;
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, out, err }));
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}

function folder(t: { teardown(fn: () => void): void }): string {
  const dir = mkdtempSync(join(tmpdir(), 'agent-main-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function configOf(dir: string, more = ''): string {
  const file = join(dir, 'agent.yaml');
  writeFileSync(
    file,
    `stateDir: ${dir}/state\nrunDir: ${dir}/run\nproxyUser: nobody\nagentUser: daemon\nmetricsAddress: 127.0.0.1\n${more}`,
  );
  return file;
}

const STRING: JoinString = {
  controllers: ['https://127.0.0.1:1'],
  rootSha256: 'ab'.repeat(32),
  token: '0123456789abcdef',
  secret: 'S3cret_'.repeat(4),
  host: 'web-1',
  workloadGroups: ['default/web'],
  peers: [],
};

tap.test('help, version, wrong calls, wrong config', async (t) => {
  const dir = folder(t);
  const broken = join(dir, 'broken.yaml');
  writeFileSync(broken, 'host: web-1\ntrustDomain: mesh.test\nworkload: []\nports: {inbound: 80}\n');
  const good = configOf(dir, 'host: web-1\ntrustDomain: mesh.test\n');
  for (const { args, code, out, err } of [
    { args: ['--help'], code: 0, out: /^usage: mesh-agent COMMAND/, err: /^$/ },
    { args: ['--version'], code: 0, out: /^mesh-agent \d+\.\d+\.\d+\n$/, err: /^$/ },
    { args: [], code: 64, out: /^$/, err: /^mesh-agent: a command is missing\n\nusage/ },
    { args: ['fly'], code: 64, out: /^$/, err: /^mesh-agent: unknown command fly\n\nusage/ },
    { args: ['run', 'twice'], code: 64, out: /^$/, err: /unexpected twice/ },
    { args: ['run', '--fast'], code: 64, out: /^$/, err: /--fast/ },
    { args: ['check-config', '--config', good], code: 0, out: /is valid/, err: /^$/ },
    { args: ['--check-config', '--config', good], code: 0, out: /is valid/, err: /^$/ },
    { args: ['check-config', '--config', `${dir}/none`], code: 78, out: /^$/, err: /none: there is no such file/ },
    { args: ['check-config', '--config', broken], code: 78, out: /^$/, err: /broken\.yaml:3:1: .*workload/ },
    { args: ['run', '--config', broken], code: 78, out: /^$/, err: /broken\.yaml:4:18: .*1024/ },
    { args: ['redirect', '--help'], code: 0, out: /^usage: mesh-agent redirect/, err: /^$/ },
  ]) {
    const ended = await agent(args);
    t.equal(ended.code, code, args.join(' '));
    t.match(ended.out, out, args.join(' '));
    t.match(ended.err, err, args.join(' '));
  }
  t.notOk(existsSync(`${dir}/state`), 'nothing on the host was touched');
});

tap.test('run before join says what to do, once, and is not to be restarted', async (t) => {
  const dir = folder(t);
  const ended = await agent(['run', '--config', configOf(dir, 'host: web-1\ntrustDomain: mesh.test\n')]);
  t.equal(ended.code, 78);
  t.match(ended.err.trim().split('\n').at(-1), /^mesh-agent: .*run `mesh-agent join`/);
});

tap.test('leave asks the running agent, and says when it cannot', async (t) => {
  const dir = folder(t);
  const config = configOf(dir, 'host: web-1\ntrustDomain: mesh.test\n');
  mkdirSync(`${dir}/run`);
  const nobody = await agent(['leave', '--config', config]);
  t.equal(nobody.code, 1);
  t.match(nobody.err, /^mesh-agent: no mesh-agent answered on .*admin\.sock: .*\n$/);
  let answer = 204;
  const asked: string[] = [];
  const server = createHttpServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    response.writeHead(answer).end();
  });
  await new Promise<void>((resolve) => server.listen(`${dir}/run/admin.sock`, resolve));
  t.teardown(() => server.close());
  const left = await agent(['leave', '--config', config]);
  t.same([left.code, left.out, left.err], [0, '', '']);
  answer = 500;
  const refused = await agent(['leave', '--config', config]);
  t.equal(refused.code, 1);
  t.match(refused.err, /mesh-agent answered 500/);
  t.same(asked, ['POST /leave', 'POST /leave']);
});

tap.test('join strings that are no good: one line, no secret in it, nothing left behind', async (t) => {
  const dir = folder(t);
  const config = configOf(dir, 'workloads: [{group: default/other, user: daemon2}]\n');
  const loose = join(dir, 'loose');
  writeFileSync(loose, formatJoinString(STRING));
  chmodSync(loose, 0o644);
  for (const { name, args, input, err } of [
    { name: 'empty', args: [], input: '', err: /not a usable join string/ },
    { name: 'cut', args: [], input: formatJoinString(STRING).slice(0, 100), err: /cut or changed/ },
    { name: 'not granted', args: [], input: formatJoinString(STRING), err: /default\/other.*does not grant/ },
    { name: 'readable by others', args: ['--join-file', loose], input: '', err: /others may read it; run: chmod 600/ },
    { name: 'no such file', args: ['--join-file', `${dir}/none`], input: '', err: /ENOENT/ },
  ]) {
    const ended = await agent(['join', '--config', config, ...args], input);
    t.equal(ended.code, 1, name);
    t.match(ended.err, err, name);
    t.equal(ended.err.trim().split('\n').length, 1, `${name}: one line`);
    t.notOk(`${ended.err}${ended.out}`.includes(STRING.secret), `${name}: no secret`);
  }
  t.notOk(existsSync(`${dir}/state`));
});

tap.test('a server that shows another root gets nothing of the join string', async (t) => {
  const dir = folder(t);
  const bodies: string[] = [];
  const ca = createTestCa('mesh.test');
  const { chainPem, privateKeyPem } = ca.workload('default', 'web', 'a');
  const server = createServer({ cert: chainPem, key: privateKeyPem }, (request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text: string) => {
      body += text;
    });
    request.once('end', () => {
      bodies.push(`${request.method} ${request.url} ${JSON.stringify(request.headers)} ${body}`);
      response.end('{"signed":{}}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const config = configOf(dir);
  const before = readFileSync(config, 'utf8');
  const ended = await agent(['join', '--config', config], formatJoinString({ ...STRING, controllers: [url] }));
  t.equal(ended.code, 1);
  t.match(ended.err, /shows another TUF root than the join string pins/);
  t.equal(bodies.length, 1, 'it was asked for the root and for nothing else');
  t.notOk(bodies.join().includes(STRING.secret) || bodies.join().includes(STRING.token));
  t.notOk(existsSync(`${dir}/state`));
  t.equal(readFileSync(config, 'utf8'), before, 'agent.yaml is as it was');
});
