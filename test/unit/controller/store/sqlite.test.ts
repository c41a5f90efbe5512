import { statSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import t from 'tap';
import { createStoreRows } from '../../../../controller/store/rows.ts';
import { initSqliteStore, openSqliteStore } from '../../../../controller/store/sqlite.ts';
import { storeContract } from '../../../contract/store.ts';

let files = 0;
const folder = t.testdir();
const fresh = () => join(folder, `store-${files++}.db`);

storeContract('sqlite', async (historyRevisions) => {
  const path = fresh();
  initSqliteStore(path);
  return openSqliteStore({ path, historyRevisions });
});

t.test('the file is private, made once, found again', async (t) => {
  const path = fresh();
  initSqliteStore(path);
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.throws(() => initSqliteStore(path), { code: 'STORE_EXISTS' });
  const first = openSqliteStore({ path });
  await first.commit([{ key: 'a', value: '1' }]);
  t.equal(statSync(`${path}-wal`).mode & 0o777, 0o600);
  await first.close();
  const second = openSqliteStore({ path });
  t.match(await second.get('a'), { value: '1', revision: 2 });
  t.equal((await second.list('', { revision: 1 })).entries.length, 0, 'history survives too');
  await second.close();
});

t.test('never starts from zero: missing, empty, foreign, newer and broken files are errors', async (t) => {
  const missing = fresh();
  t.throws(() => openSqliteStore({ path: missing }), { code: 'STORE_MISSING' });
  t.throws(() => statSync(missing), { code: 'ENOENT' }, 'and nothing is made');
  const empty = fresh();
  writeFileSync(empty, '');
  t.throws(() => openSqliteStore({ path: empty }), { code: 'STORE_BROKEN' });
  const text = fresh();
  writeFileSync(text, 'no database at all'.repeat(100));
  t.throws(() => openSqliteStore({ path: text }), { code: 'STORE_BROKEN' });
  const foreign = fresh();
  new DatabaseSync(foreign).exec('CREATE TABLE a (b)');
  t.throws(() => openSqliteStore({ path: foreign }), { code: 'STORE_BROKEN', message: /not a store/ });
  const newer = fresh();
  initSqliteStore(newer);
  const db = new DatabaseSync(newer);
  db.exec('PRAGMA user_version = 99');
  db.close();
  t.throws(() => openSqliteStore({ path: newer }), { code: 'STORE_VERSION' });
});

t.test('damaged pages and a truncated file are seen at open', async (t) => {
  for (const damage of ['overwrite', 'truncate']) {
    const path = fresh();
    initSqliteStore(path);
    const store = openSqliteStore({ path });
    await store.commit(
      Array.from({ length: 500 }, (_, i) => ({ key: `k/${i}`, value: JSON.stringify('v'.repeat(300)) })),
    );
    await store.close();
    const size = statSync(path).size;
    if (damage === 'truncate') truncateSync(path, Math.floor(size / 2 / 4096) * 4096);
    else {
      const file = await open(path, 'r+');
      await file.write(Buffer.alloc(8192, 0x5a), 0, 8192, Math.floor(size / 2));
      await file.close();
    }
    t.throws(() => openSqliteStore({ path }), { code: 'STORE_BROKEN', message: /backup/ }, damage);
  }
});

t.test('two processes cannot share it; a closed one is free again', async (t) => {
  const path = fresh();
  initSqliteStore(path);
  const first = openSqliteStore({ path });
  t.throws(() => openSqliteStore({ path }), { code: 'STORE_LOCKED' });
  await first.close();
  await openSqliteStore({ path }).close();
});

t.test('a backup taken in use opens as a store', async (t) => {
  const path = fresh();
  const copy = fresh();
  initSqliteStore(path);
  const store = openSqliteStore({ path });
  await store.commit([{ key: 'a', value: '1' }]);
  await store.backup(copy);
  await t.rejects(store.backup(copy), { code: 'STORE_EXISTS' });
  await store.commit([{ key: 'a', value: '2' }]);
  await store.close();
  t.equal(statSync(copy).mode & 0o777, 0o600);
  const back = openSqliteStore({ path: copy });
  t.match(await back.get('a'), { value: '1', revision: 2 });
  await back.close();
});

t.test('a full disk is told, and nothing of the transaction stays', async (t) => {
  const path = fresh();
  initSqliteStore(path);
  const store = openSqliteStore({ path });
  await store.commit([{ key: 'a', value: '1' }]);
  await store.close();
  // SQLite's own limit gives the same code as the file system's ENOSPC.
  const limited = openSqliteStore({ path, maxPages: 20 });
  const writes = Array.from({ length: 50 }, (_, i) => ({ key: `k/${i}`, value: JSON.stringify('v'.repeat(4000)) }));
  await t.rejects(limited.commit(writes), { code: 'STORE_FULL' });
  t.equal(await limited.count(''), 1);
  t.equal(await limited.revision(), 2);
  await limited.close();
});

t.test('rows: compare and set, and the commit is announced', async (t) => {
  const path = fresh();
  initSqliteStore(path);
  const store = openSqliteStore({ path });
  const heard: number[] = [];
  const rows = createStoreRows(store, (revision) => heard.push(revision));
  t.equal(await rows.commit([{ key: '_internal/hosts/a', row: { host: 'a' }, ifRevision: 0 }]), true);
  t.equal(await rows.commit([{ key: '_internal/hosts/a', row: { host: 'b' }, ifRevision: 0 }]), false);
  t.same(await rows.get('_internal/hosts/a'), { row: { host: 'a' }, revision: 2 });
  t.equal(await rows.get('_internal/hosts/b'), undefined);
  t.same(heard, [2]);
  await store.close();
});

t.test('history is bounded by bytes as well, whatever one revision holds', async (t) => {
  const path = fresh();
  initSqliteStore(path);
  const store = openSqliteStore({ path, historyBytes: 10_000 });
  for (let i = 0; i < 30; i++) await store.commit([{ key: `k/${i}`, value: JSON.stringify('v'.repeat(998)) }]);
  const now = await store.revision();
  t.equal((await store.list('', { revision: now - 5 })).entries.length, 25);
  await t.rejects(store.list('', { revision: now - 20 }), { code: 'STORE_COMPACTED' });
  await store.commit([{ key: 'big', value: JSON.stringify('v'.repeat(50_000)) }]);
  t.equal((await store.list('', { revision: now })).entries.length, 30, 'the last change is always kept');
  await store.close();
});
