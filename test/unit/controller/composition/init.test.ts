import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { type ControllerConfig, parseControllerConfig, restartKeys } from '../../../../controller/config.ts';
import { initMesh } from '../../../../controller/init.ts';
import { byToken } from '../../../../controller/rest/principals.ts';
import { loadFacts, statePaths } from '../../../../controller/state-dir.ts';
import { serviceUser } from '../../../../controller/state-owner.ts';
import { openSqliteStore } from '../../../../controller/store/sqlite.ts';
import { systemClock } from '../../../../runtime/clock.ts';

const configIn = (stateDir: string, more = ''): ControllerConfig =>
  parseControllerConfig(`{trustDomain: mesh.test, addresses: [10.0.0.1], stateDir: ${stateDir}${more}}`, 'c.yaml');

async function tree(dir: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const { mode } = await stat(path);
    found[path.slice(dir.length + 1)] =
      `${(mode & 0o7777).toString(8)} ${entry.isFile() ? (await readFile(path)).toString('base64') : ''}`;
  }
  return found;
}

t.test('a mesh once: whole, closed to others, never overwritten', async (t) => {
  const dir = t.testdir();
  const config = configIn(join(dir, 'state'));
  const made = await initMesh({ config, root: { keys: 3, threshold: 2 }, clock: systemClock });
  t.equal(made.rootKeyFiles.length, 3);
  for (const file of made.rootKeyFiles) t.match(await readFile(file, 'utf8'), /PRIVATE KEY/, 'they lie where it says');
  t.same(await loadFacts(made.paths, config), { trustDomain: 'mesh.test', replica: 'c1', rootSha256: made.rootSha256 });
  const before = await tree(config.stateDir);
  for (const [path, text] of Object.entries(before)) {
    const [mode, content] = text.split(' ') as [string, string];
    const open = (Number.parseInt(mode, 8) & 0o077) !== 0;
    const isCertificate = Buffer.from(content, 'base64').toString().startsWith('-----BEGIN CERTIFICATE-----');
    t.equal(open, isCertificate, `${path}: ${mode}`);
  }
  t.equal((await stat(config.stateDir)).mode & 0o777, 0o700);

  const store = openSqliteStore({ path: made.paths.store });
  const token = (await readFile(made.paths.adminToken, 'utf8')).trim();
  t.match(await byToken(store, token), { name: 'admin', role: 'admin' });
  await store.close();

  const second = initMesh({ config, clock: systemClock });
  await t.rejects(second, { code: 'ALREADY_INITIALISED', message: /nothing was changed.*mesh-controller run/ });
  const after = await tree(config.stateDir);
  for (const path of Object.keys(before)) if (!/store\.db/.test(path)) t.equal(after[path], before[path], path);
});

t.test('what an init that was cut short left is thrown away', async (t) => {
  const dir = t.testdir();
  const config = configIn(dir);
  const paths = statePaths(dir);
  await mkdir(join(`${paths.mesh}.new`, 'keys'), { recursive: true });
  await writeFile(join(`${paths.mesh}.new`, 'keys', 'root-1.pem'), 'half a key');
  await writeFile(paths.adminToken, 'of a mesh that never was\n', { mode: 0o644 });
  await initMesh({ config, clock: systemClock });
  t.same((await readdir(dir)).sort(), ['admin-token', 'ca.pem', 'mesh']);
  t.match(await readFile(join(paths.keys, 'root-1.pem'), 'utf8'), /PRIVATE KEY/);
  t.match(await readFile(paths.adminToken, 'utf8'), /^admin\./);
  t.equal((await stat(paths.adminToken)).mode & 0o777, 0o600);
});

t.test('a failure leaves no mesh and says why', async (t) => {
  const dir = t.testdir({ file: 'not a folder' });
  const root = { keys: 1, threshold: 2 };
  const config = configIn(join(dir, 'state'));
  await t.rejects(initMesh({ config, root, clock: systemClock }), { code: 'SIGNING_KEY_INVALID' });
  t.same(await readdir(join(dir, 'state')), []);
  const under = initMesh({ config: configIn(join(dir, 'file', 'state')), clock: systemClock });
  await t.rejects(under, { code: 'STATE_DIR', message: /file\/state/ });
});

t.test('what lies in the state folder is judged before anything is opened', async (t) => {
  const dir = t.testdir();
  const config = configIn(dir);
  const paths = statePaths(dir);
  await t.rejects(loadFacts(paths, config), { code: 'NOT_INITIALISED', message: /mesh-controller init/ });
  await mkdir(paths.facts, { recursive: true });
  await t.rejects(loadFacts(paths, config), { code: 'STATE_UNREADABLE' }, 'unreadable is not absent');
  await rm(paths.facts, { recursive: true });
  const good = { trustDomain: 'mesh.test', replica: 'c1', rootSha256: 'ab'.repeat(32) };
  for (const bad of ['', 'null', '{', '[]', JSON.stringify({ ...good, rootSha256: 'ab' })]) {
    await writeFile(paths.facts, bad);
    await t.rejects(loadFacts(paths, config), { code: 'STATE_BROKEN', message: /backup/ }, JSON.stringify(bad));
  }
  for (const key of ['trustDomain', 'replica']) {
    await writeFile(paths.facts, JSON.stringify({ ...good, [key]: 'other' }));
    const message = new RegExp(`^${key} is .* made with other: it cannot be changed`);
    await t.rejects(loadFacts(paths, config), { code: 'CONFIG_INVALID', message });
  }
});

t.test('root makes a mesh for the service’s user', async (t) => {
  const passwd =
    'root:x:0:0:root:/root:/bin/sh\nmesh-controllers:x:7:7::/:/\nmesh-controller:x:994:993:Hostmesh controller:/:/usr/sbin/nologin\n';
  t.same(serviceUser(passwd), { uid: 994, gid: 993 });
  t.same(serviceUser('root:x:0:0:root:/root:/bin/sh\n'), { uid: 0, gid: 0 });
});

t.test('what a running controller cannot take up', async (t) => {
  const before = configIn('/s');
  const cases: [more: string, keys: string[]][] = [
    ['', []],
    [', logLevel: debug', []],
    [', dnsNames: [c1.test]', ['dnsNames']],
    [', ports: {rest: 15300}, listen: 127.0.0.1, logLevel: warn', ['listen', 'ports']],
  ];
  for (const [more, keys] of cases) t.same(restartKeys(before, configIn('/s', more)), keys, more);
  t.same(restartKeys(before, configIn('/other')), ['stateDir']);
});
