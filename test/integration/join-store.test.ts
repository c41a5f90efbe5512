/** Needs root: what root's `join` does in folders that the agent's user owns, and may have laid traps in. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parseAgentConfig } from '../../agent/config.ts';
import { newKey } from '../../agent/identity/svid-file.ts';
import { keepJoined, prepareState, type Won } from '../../agent/join-store.ts';
import { trustAnchor } from '../../api/signed-config/verifier.ts';
import { createSignedMesh } from '../builders/signed-mesh.ts';
import { createTestCa } from '../builders/test-ca.ts';

/** A user that no process of this machine has, and a group of its own. */
const AGENT = { uid: 60_123, gid: 60_124 };

t.test('what root joins is the agent’s, down to the last file', async (t) => {
  const { config, won } = await host(t);
  await prepareState(config, AGENT, won.rootText, 1000);
  let uid = -1;
  await keepJoined(config, AGENT, won, async () => {
    uid = process.geteuid?.() ?? -1;
  });
  t.equal(uid, 0, 'agent.yaml is completed as root');
  t.same([process.geteuid?.(), process.getegid?.()], [0, 0], 'and root it is again');
  for (const path of files(config.stateDir).concat(files(config.runDir))) t.match(lstatSync(path), AGENT, path);
  t.equal(statSync(join(config.stateDir, 'identity', 'host.pem')).mode & 0o7777, 0o600);
  t.equal(statSync(join(config.stateDir, 'proxy', 'bootstrap.json')).mode & 0o7777, 0o640, "Envoy's group reads it");
});

t.test('links of an agent that was taken over lead root nowhere', async (t) => {
  for (const [name, plant] of [
    ['a link beside the state', (c: Config, prize: string) => symlinkSync(prize, join(c.stateDir, 'x'))],
    ['identity', (c: Config, prize: string) => symlinkSync(prize, join(c.stateDir, 'identity'))],
    ['config', (c: Config, prize: string) => symlinkSync(prize, join(c.stateDir, 'config'))],
    ["Envoy's bootstrap", (c: Config, prize: string) => symlinkSync(prize, join(c.stateDir, 'proxy'))],
    ["Envoy's socket folder", (c: Config, prize: string) => symlinkSync(prize, join(c.runDir, 'proxy'))],
  ] as const)
    t.test(name, async (t) => {
      const { config, won, dir } = await host(t);
      const prize = join(dir, 'prize');
      mkdirSync(prize, { mode: 0o755 });
      writeFileSync(join(prize, 'shadow'), 'root', { mode: 0o600 });
      for (const folder of [config.stateDir, config.runDir]) {
        mkdirSync(folder, { mode: 0o750 });
        chownSync(folder, AGENT.uid, AGENT.gid);
      }
      plant(config, prize);
      const done = prepareState(config, AGENT, won.rootText, 10).then(() =>
        keepJoined(config, AGENT, won, async () => {}),
      );
      if (name.startsWith('a link')) await done;
      else await t.rejects(done);
      t.same(readdirSync(prize), ['shadow'], 'nothing was written there');
      t.match(statSync(join(prize, 'shadow')), { uid: 0, gid: 0 });
      t.equal(statSync(prize).mode & 0o7777, 0o755);
      t.match(statSync(prize), { uid: 0 });
    });
});

t.test('a state that cannot keep what comes is known before the token is spent', async (t) => {
  const { config, won, dir } = await host(t);
  symlinkSync(dir, config.stateDir);
  await t.rejects(prepareState(config, AGENT, won.rootText, 10), { code: 'STATE_DIR_UNSAFE' });

  const { config: other, won: theirs } = await host(t);
  await prepareState(other, AGENT, theirs.rootText, 10);
  await keepJoined(other, AGENT, theirs, async () => {});
  const before = files(other.stateDir).map((path) => [path, statSync(path).mtimeMs]);
  await t.rejects(prepareState(other, AGENT, won.rootText, 10), { code: 'CONFIG_STATE_EXISTS' }, 'another mesh');
  t.same(
    files(other.stateDir).map((path) => path),
    before.map(([path]) => path),
    'and nothing of it stays',
  );

  const { config: small, won: last } = await host(t);
  mkdirSync(small.stateDir);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'join-store', small.stateDir]);
  t.teardown(() => void execFileSync('umount', [small.stateDir]));
  await t.rejects(prepareState(small, AGENT, last.rootText, 10), { code: 'JOIN_STATE', message: /ENOSPC/ }, 'full');
  t.same(readdirSync(small.stateDir), ['identity'], 'the trial is taken away');
});

type Config = ReturnType<typeof parseAgentConfig>;

async function host(t: Test): Promise<{ config: Config; won: Won; dir: string }> {
  const dir = join('/run', `join-store-${randomBytes(4).toString('hex')}`);
  mkdirSync(dir, { mode: 0o755 });
  const mesh = await createSignedMesh(t.testdir({}));
  t.teardown(async () => {
    await mesh.close();
    rmSync(dir, { recursive: true, force: true });
  });
  const text = `host: h1\ntrustDomain: mesh.test\ncontrollers: ['https://192.0.2.1:15201']\nworkloads: []\nstateDir: ${dir}/state\nrunDir: ${dir}/run\n`;
  const key = newKey();
  const won = {
    rootText: mesh.rootText,
    state: trustAnchor(mesh.rootText),
    peers: [],
    key,
    hostSvid: createTestCa().host('h1').chainPem,
  };
  return { config: parseAgentConfig(text, 'agent.yaml'), won, dir };
}

function files(folder: string): string[] {
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder, { recursive: true }) as string[];
  return [folder, ...names.map((name) => join(folder, name))].sort();
}
