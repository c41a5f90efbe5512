import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lchownSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { createRedirectClient } from '../../agent/redirect/client.ts';
import { parseResult, type RedirectResult } from '../../agent/redirect/result.ts';
import { buildSpec, UID } from '../builders/redirect-spec.ts';
import { openSpace, type Space, standInProxy } from './redirect-lab.ts';

t.setTimeout(580_000);

const MAIN = fileURLToPath(new URL('./redirect-main.ts', import.meta.url));

/** One host with agent.yaml, a run folder that belongs to the agent's user, and the oneshot as a process of its own. */
interface Host {
  readonly space: Space;
  readonly dir: string;
  readonly folder: string;
  readonly config: string;
  start(...args: string[]): ChildProcess;
  redirect(...args: string[]): Promise<{ code: number | null; out: string }>;
  writeSpec(part?: object): void;
  result(): RedirectResult;
}

async function openHost(t: Test, label: string, yaml = ''): Promise<Host> {
  const space = openSpace(label);
  t.teardown(() => space.close());
  await standInProxy(space);
  const dir = t.testdir({ run: { redirect: {} } });
  const folder = join(dir, 'run/redirect');
  for (const path of [join(dir, 'run'), folder]) lchownSync(path, UID.agent, UID.agent);
  const config = join(dir, 'agent.yaml');
  writeFileSync(
    config,
    `host: h1
trustDomain: mesh.test
runDir: ${dir}/run
proxyUser: proxy
agentUser: backup
workloads:
- {group: default/web, user: www-data}
- {group: default/news, user: news}
- {group: default/later, user: not-there-yet}
redirect: {loopbackAllow: [games]}
${yaml}`,
  );
  const start = (...args: string[]) =>
    spawn('ip', ['netns', 'exec', space.name, process.execPath, MAIN, ...args, '--config', config], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  return {
    space,
    dir,
    folder,
    config,
    start,
    redirect: (...args) =>
      new Promise((resolve) => {
        const child = start(...args);
        let out = '';
        for (const stream of [child.stdout, child.stderr])
          stream?.on('data', (chunk) => {
            out += chunk;
          });
        child.once('close', (code) => resolve({ code, out }));
      }),
    writeSpec(part = {}) {
      const file = join(folder, 'spec.json');
      writeFileSync(`${file}.new`, JSON.stringify({ ...buildSpec(), ...part }));
      lchownSync(`${file}.new`, UID.agent, UID.agent);
      renameSync(`${file}.new`, file);
    },
    result: () => parseResult(readFileSync(join(folder, 'result.json'), 'utf8')),
  };
}

t.test('apply, check, plan, clean: exit codes, output and result', async (t) => {
  const h = await openHost(t, 'verbs');
  const before = h.space.snapshot();
  const kept = () => readFileSync(join(h.dir, 'run-redirect/status'), 'utf8');
  t.match(await h.redirect('apply'), { code: 1, out: /has not asked for any rules/ });
  t.equal(kept(), 'refused\n');
  h.writeSpec();
  const plan = await h.redirect('plan');
  t.match(plan, {
    code: 0,
    out: /\+\+\+ iptables-save \(after\)[\s\S]*\+-A MESH_OUTPUT .*--to-ports 15001[\s\S]*\+\+\+ ip6tables-save/,
  });
  t.match(await h.redirect('apply', '--dry-run'), { code: 0, out: plan.out }, 'a dry run is the plan');
  t.match(await h.redirect('check'), {
    code: 1,
    out: /differs from what was asked for: v4\/filter, v4\/raw, v4\/nat, v6\/filter, v6\/raw, v6\/nat/,
  });
  t.equal(h.space.snapshot(), before, 'nothing was touched so far');
  t.match(await h.redirect('apply', '--revert-after', '0'), { code: 0, out: /rules written \(nft, v4 and v6\)/ });
  t.match(h.result(), {
    status: 'applied',
    changed: true,
    requestId: 'r1',
    backend: 'nft',
    families: ['v4', 'v6'],
    warnings: [],
  });
  t.equal(kept(), 'applied\n');
  t.match(await h.redirect('apply', '--revert-after', '0'), { code: 0, out: /no change/ });
  t.match(await h.redirect('check'), { code: 0 });
  await h.space.listen(UID.web, '0.0.0.0', 8080, 'WEB');
  t.match((await h.redirect('plan')).out, /no change[\s\S]*tcp 0\.0\.0\.0:8080, uid 33/);
  t.match(await h.redirect('clean'), { code: 0, out: /removed/ });
  t.match(h.result(), { status: 'cleaned', changed: true });
  t.equal(kept(), 'cleaned\n');
  t.match(await h.redirect('clean'), { code: 0, out: /nothing of ours was there/ });
  t.equal(h.space.snapshot(), before);
  const wrong: [argv: string[], says: RegExp][] = [
    [[], /: a verb is missing\n\nusage:/],
    [['flush'], /: unknown verb flush\n\nusage:/],
    [['apply', '--force'], /: Unknown option '--force'\n\nusage:/],
    [['apply', 'twice', 'x'], /: unexpected twice\n\nusage:/],
    [['apply', '--revert-after', 'soon'], /: --revert-after: 0 to 86400 seconds\n\nusage:/],
  ];
  for (const [argv, out] of wrong) t.match(await h.redirect(...argv), { code: 64, out }, argv.join(' '));
});

t.test('refused, with the cause in result.json, and the standing rules stay', async (t) => {
  const h = await openHost(t, 'deny');
  h.writeSpec();
  t.match(await h.redirect('apply', '--revert-after', '0'), { code: 0 });
  const standing = h.space.snapshot();
  const spec = join(h.folder, 'spec.json');
  const web = buildSpec().workloads[0]!;
  const cases: [why: string, prepare: () => void, code: string][] = [
    ['another user', () => h.writeSpec({ workloads: [{ ...web, uid: UID.stranger }] }), 'REDIRECT_DENIED'],
    ['the proxy uid', () => h.writeSpec({ proxyUid: UID.stranger }), 'REDIRECT_DENIED'],
    [
      'ssh',
      () => h.writeSpec({ inboundPorts: [{ port: 22, permissive: false, ownerUids: [UID.web] }] }),
      'REDIRECT_DENIED',
    ],
    ['unknown key', () => h.writeSpec({ flush: true }), 'REDIRECT_SPEC'],
    [
      'a link to a file of root',
      () => {
        rmSync(spec);
        symlinkSync('/etc/shadow', spec);
      },
      'REDIRECT_FILE',
    ],
    [
      'a folder',
      () => {
        rmSync(spec);
        mkdirSync(spec);
      },
      'REDIRECT_FILE',
    ],
    [
      'too large',
      () => {
        rmSync(spec, { recursive: true });
        writeFileSync(spec, 'x'.repeat(300_000));
      },
      'REDIRECT_FILE',
    ],
    [
      'of a third user',
      () => {
        h.writeSpec();
        lchownSync(spec, UID.stranger, 0);
      },
      'REDIRECT_FILE',
    ],
  ];
  for (const [why, prepare, code] of cases) {
    prepare();
    t.match(await h.redirect('apply'), { code: 1 }, why);
    t.match(h.result(), { status: 'refused', changed: false, error: { code } }, why);
    t.equal(h.space.snapshot(), standing, why);
  }
  h.writeSpec();
  await h.space.closePort(15001);
  t.match(await h.redirect('apply'), { code: 1, out: /nothing listens on port 15001/ });
  t.match(h.result(), { status: 'refused', error: { code: 'REDIRECT_LISTENER' } });
});

t.test('the run folder as a link: nothing is written where it points', async (t) => {
  const h = await openHost(t, 'link');
  const other = join(h.dir, 'elsewhere');
  mkdirSync(other);
  rmSync(h.folder, { recursive: true });
  symlinkSync(other, h.folder);
  t.match(await h.redirect('apply'), { code: 1, out: /symbolic link/ });
  t.equal(existsSync(join(other, 'result.json')), false);
});

t.test('agent.yaml that others can write, or that is wrong: exit 78', async (t) => {
  const h = await openHost(t, 'yaml');
  h.writeSpec();
  chmodSync(h.config, 0o666);
  t.match(await h.redirect('apply'), { code: 78, out: /writable by others/ });
  chmodSync(h.config, 0o640);
  lchownSync(h.config, UID.agent, 0);
  t.match(await h.redirect('apply'), { code: 78, out: /belongs to uid 34, not to root/ });
  lchownSync(h.config, 0, 0);
  writeFileSync(h.config, `${readFileSync(h.config, 'utf8')}\nredirects: {}\n`);
  t.match(await h.redirect('apply'), { code: 78, out: /unknown key redirects/ });
});

t.test('switched off in agent.yaml: apply takes the rules away', async (t) => {
  const h = await openHost(t, 'off');
  const before = h.space.snapshot();
  h.writeSpec();
  await h.redirect('apply', '--revert-after', '0');
  writeFileSync(h.config, readFileSync(h.config, 'utf8').replace('redirect: {', 'redirect: {enabled: false, '));
  t.match(await h.redirect('apply'), { code: 0, out: /removed/ });
  t.match(h.result(), { status: 'cleaned' });
  t.equal(h.space.snapshot(), before);
});

t.test('the proxy or the agent has failed for good', async (t) => {
  const h = await openHost(t, 'failed');
  const before = h.space.snapshot();
  h.writeSpec();
  t.match(await h.redirect('apply', '--revert-after', '0'), { code: 0 });
  const standing = h.space.snapshot();
  for (const port of [15001, 15100, 15006]) await h.space.closePort(port);
  t.match(await h.redirect('proxy-failed'), { code: 0, out: /the rules stay/ });
  t.equal(h.space.snapshot(), standing, 'closed: fail static is not fail open');
  for (const port of [15053, 15054]) await h.space.closePort(port);
  t.match(await h.redirect('dns-off'), { code: 0, out: /no longer captured/ });
  t.notMatch(h.space.snapshot(), /(?<!! )--dport 53 /, 'no rule leads port 53 anywhere');
  t.match(h.space.snapshot(), /--to-ports 15001/);
  writeFileSync(h.config, readFileSync(h.config, 'utf8').replace('redirect: {', 'redirect: {onProxyFailure: bypass, '));
  t.match(await h.redirect('proxy-failed'), { code: 0, out: /removed/ });
  t.equal(h.space.snapshot(), before);
  t.match(await h.redirect('dns-off'), { code: 0, out: /no rule stands/ });
  t.equal(h.space.snapshot(), before, 'where nothing stood it writes nothing');
});

t.test('clean works with a broken agent.yaml', async (t) => {
  const h = await openHost(t, 'broken');
  const before = h.space.snapshot();
  h.writeSpec();
  t.match(await h.redirect('apply', '--revert-after', '0'), { code: 0 });
  writeFileSync(h.config, 'workloads: [');
  t.match(await h.redirect('clean', '--state-dir', join(h.dir, 'run-redirect')), {
    code: 0,
    out: /going on without agent.yaml[\s\S]*removed/,
  });
  t.equal(h.space.snapshot(), before);
});

t.test('client: asks, waits for the answer to its own request, confirms; unconfirmed rules go', async (t) => {
  const h = await openHost(t, 'client');
  const before = h.space.snapshot();
  const client = createRedirectClient(h.folder);
  const ask = async (...args: string[]) => {
    const { version: _, requestId: __, ...content } = buildSpec();
    const answer = client.apply(content, { timeoutMs: 30_000 });
    await until(
      () => existsSync(join(h.folder, 'spec.json')) && readFileSync(join(h.folder, 'spec.json'), 'utf8') !== seen,
    );
    seen = readFileSync(join(h.folder, 'spec.json'), 'utf8');
    await h.redirect('apply', ...args);
    return answer;
  };
  let seen = '';
  const first = await ask('--revert-after', '2');
  t.match(first, { status: 'applied', changed: true, revert: { id: /^[-0-9a-f]{36}$/ } });
  await until(() => h.result().status === 'reverted', 30_000);
  t.equal(readFileSync(join(h.dir, 'run-redirect/status'), 'utf8'), 'reverted\n');
  t.equal(h.space.snapshot(), before, 'nobody confirmed');
  const second = await ask('--revert-after', '5'); // the confirmation must come within it, however busy the machine is
  await client.confirm(second.revert!.id);
  t.match(await ask(), { status: 'applied', changed: false, revert: undefined }, 'confirmed: no timer any more');
  await until(() => Date.now() > second.revert!.deadline + 300);
  t.match(await h.redirect('check'), { code: 0 }, 'they stand after the deadline');
  await t.rejects(client.apply({ ...buildSpec() }, { timeoutMs: 60 }), { code: 'REDIRECT_TIMEOUT' });
});

t.test('20 times apply, kill -9 or clean at a random moment: clean leaves the host as it was', async (t) => {
  const h = await openHost(t, 'chaos');
  h.space.run('iptables-nft', '-t', 'nat', '-A', 'POSTROUTING', '-s', '172.17.0.0/16', '-j', 'MASQUERADE');
  const before = h.space.snapshot();
  let random = 42;
  const next = (max: number) => {
    random = (random * 1103515245 + 12345) % 2 ** 31;
    return (random >> 8) % max;
  };
  for (let round = 0; round < 20; round++) {
    h.writeSpec(next(2) === 0 ? {} : { dns: false, excludePorts: [next(1000) + 1] });
    const child = h.start(next(3) === 0 ? 'clean' : 'apply', ...(next(2) === 0 ? ['--revert-after', '0'] : []));
    const done = new Promise((resolve) => child.once('close', resolve));
    const kill = setTimeout(() => child.kill('SIGKILL'), 60 + next(160));
    await done;
    clearTimeout(kill);
    // What the killed one had started goes on for a moment, and would write between the two looks.
    await until(() => !writers(h.space.name));
    const guards = h.space.run('iptables-nft-save', '-t', 'filter');
    const nat = h.space.run('iptables-nft-save', '-t', 'nat');
    if (nat.includes('MESH_OUTPUT'))
      t.match(guards, 'MESH_GUARD_OUT', `round ${round}: never redirected without guards`);
  }
  t.match(await h.redirect('clean'), { code: 0 });
  t.equal(h.space.snapshot(), before);
  t.equal(h.space.run('ip', 'route', 'show', 'dev', 'lo'), '');
  t.notMatch(h.space.run('ip', '-6', 'addr', 'show', 'dev', 'lo'), '::6');
});

/** Whether an iptables or nft runs in that namespace. */
function writers(namespace: string): boolean {
  const pids = execFileSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' }).split('\n').filter(Boolean);
  return pids.some((pid) => {
    try {
      return /tables|nft/.test(readFileSync(`/proc/${pid}/comm`, 'utf8'));
    } catch {
      return false; // it has ended
    }
  });
}

async function until(condition: () => boolean, timeoutMs = 20_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error('the condition did not come true in time');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
