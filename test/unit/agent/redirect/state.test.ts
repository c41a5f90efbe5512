import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  currentPlace,
  loadState,
  openStateDir,
  type RedirectState,
  removeState,
  saveState,
  saveStatus,
  withLock,
} from '../../../../agent/redirect/state.ts';
import { until } from '../../../fakes/until.ts';

t.test('one run at a time; the lock of a dead process is taken over; it is freed when the work fails', async (t) => {
  const dir = t.testdir();
  let inside = 0;
  let most = 0;
  const work = async () => {
    most = Math.max(most, ++inside);
    await new Promise((resolve) => setImmediate(resolve));
    inside--;
  };
  writeFileSync(`${dir}/lock`, `${process.pid} 1`); // this pid, but a process that started at another time
  await Promise.all(Array.from({ length: 8 }, () => withLock(dir, work)));
  t.equal(most, 1);
  await t.rejects(
    withLock(dir, async () => Promise.reject(new Error('no'))),
    /no/,
  );
  t.strictSame(readdirSync(dir), []);
  let release = () => {};
  let held = false;
  const holding = withLock(dir, async () => {
    held = true;
    await new Promise<void>((resolve) => {
      release = resolve;
    });
  });
  await until(() => held);
  await t.rejects(
    withLock(dir, async () => {}, 60),
    { code: 'REDIRECT_BUSY' },
  );
  release();
  await holding;
});

t.test('state of this boot and namespace only; a broken file is as none', async (t) => {
  const dir = t.testdir();
  const state: RedirectState = {
    ...(await currentPlace()),
    absentBefore: ['v4/nat'],
    addressBefore: false,
    applied: {},
    confirmed: false,
  };
  t.equal(await loadState(dir), undefined);
  await saveState(dir, state);
  t.strictSame(await loadState(dir), state);
  t.equal(statSync(`${dir}/state.json`).mode & 0o777, 0o600);
  await saveState(dir, { ...state, netns: state.netns + 1 });
  t.equal(await loadState(dir), undefined, 'of another namespace');
  await saveState(dir, { ...state, bootId: 'other' });
  t.equal(await loadState(dir), undefined, 'of another boot');
  writeFileSync(`${dir}/state.json`, '{');
  t.equal(await loadState(dir), undefined);
  await removeState(dir);
  await removeState(dir);
});

t.test('the folder is made 0700 and must be a real one of ours', async (t) => {
  const dir = t.testdir();
  await openStateDir(`${dir}/a/b`);
  t.equal(statSync(`${dir}/a/b`).mode & 0o777, 0o700);
  mkdirSync(`${dir}/target`);
  symlinkSync(`${dir}/target`, `${dir}/link`);
  await t.rejects(openStateDir(`${dir}/link`), { code: 'REDIRECT_STATE' });
});

t.test('what a run did is one word in a folder of its own, for nobody else to read', async (t) => {
  const dir = join(t.testdir(), 'run-redirect');
  for (const status of ['applied', 'cleaned'] as const) {
    await saveStatus(dir, status);
    t.equal(readFileSync(join(dir, 'status'), 'utf8'), `${status}\n`);
  }
  t.strictSame(
    [dir, join(dir, 'status')].map((path) => statSync(path).mode & 0o777),
    [0o700, 0o600],
  );
  t.strictSame(readdirSync(dir), ['status']);
  symlinkSync(dir, `${dir}-link`);
  await t.rejects(saveStatus(`${dir}-link`, 'applied'), { code: 'REDIRECT_STATE' });
});
