/**
 * What every Store must do, whoever keeps the data. `open` gives an empty store that keeps at least `historyRevisions` revisions and
 * compacts at 1.25 times as many at the latest; the suite closes it.
 */
import t from 'tap';
import type { Changes, Store } from '../../controller/store/store.ts';

export function storeContract(name: string, open: (historyRevisions: number) => Promise<Store>): void {
  const withStore = (title: string, run: (store: Store, t: Tap) => Promise<void>, historyRevisions = 1000) =>
    t.test(`${name}: ${title}`, async (t) => {
      const store = await open(historyRevisions);
      try {
        await run(store, t);
      } finally {
        await store.close();
      }
    });

  withStore('a fresh store is at revision 1 and empty', async (store, t) => {
    t.equal(await store.revision(), 1);
    t.equal(await store.get('A/b/c'), undefined);
    t.same(await store.list(''), { entries: [], revision: 1, more: false });
    t.equal(await store.count(''), 0);
  });

  withStore('put, replace and delete move revisions as etcd does', async (store, t) => {
    t.same(await store.commit([{ key: 'A/x/1', value: '"a"' }]), { ok: true, revision: 2 });
    t.same(await store.commit([{ key: 'A/x/1', value: '"b"' }]), { ok: true, revision: 3 });
    t.same(await store.get('A/x/1'), { key: 'A/x/1', value: '"b"', revision: 3, createRevision: 2 });
    t.same(await store.commit([{ key: 'A/x/1', value: null }]), { ok: true, revision: 4 });
    t.equal(await store.get('A/x/1'), undefined);
    t.same(await store.commit([{ key: 'A/x/1', value: '"c"' }]), { ok: true, revision: 5 });
    t.match(await store.get('A/x/1'), { createRevision: 5 }, 'created anew');
  });

  withStore('deleting what is absent writes nothing', async (store, t) => {
    t.same(await store.commit([{ key: 'A/x/1', value: null }]), { ok: true, revision: 1 });
    t.same(await store.commit([]), { ok: true, revision: 1 });
  });

  withStore('writes are guarded by the revision that their writer saw', async (store, t) => {
    t.same(await store.commit([{ key: 'k', value: '1', ifRevision: 0 }]), { ok: true, revision: 2 });
    t.same(await store.commit([{ key: 'k', value: '2', ifRevision: 0 }]), { ok: false, key: 'k', revision: 2 });
    t.same(await store.commit([{ key: 'k', value: '2', ifRevision: 1 }]), { ok: false, key: 'k', revision: 2 });
    t.same(await store.commit([{ key: 'k', value: null, ifRevision: 1 }]), { ok: false, key: 'k', revision: 2 });
    t.same(await store.commit([{ key: 'no', value: null, ifRevision: 7 }]), { ok: false, key: 'no', revision: 0 });
    t.same(await store.commit([{ key: 'k', value: '2', ifRevision: 2 }]), { ok: true, revision: 3 });
    t.same(await store.commit([{ key: 'k', value: null, ifRevision: 3 }]), { ok: true, revision: 4 });
  });

  withStore('a transaction is one revision, all or none', async (store, t) => {
    await store.commit([{ key: 'a', value: '1' }]);
    t.same(
      await store.commit([
        { key: 'a', value: null },
        { key: 'b', value: '2' },
        { key: 'c', value: '3' },
      ]),
      { ok: true, revision: 3 },
    );
    t.same(
      await store.commit([
        { key: 'd', value: '4' },
        { key: 'b', value: '5', ifRevision: 2 },
      ]),
      { ok: false, key: 'b', revision: 3 },
    );
    t.same(await store.commit([{ key: 'e', value: '6' }], [{ key: 'a', ifRevision: 2 }]), {
      ok: false,
      key: 'a',
      revision: 0,
    });
    t.same(
      (await store.list('')).entries.map((e) => [e.key, e.value, e.revision]),
      [
        ['b', '2', 3],
        ['c', '3', 3],
      ],
    );
    t.same(await store.commit([{ key: 'e', value: '6' }], [{ key: 'b', ifRevision: 3 }]), { ok: true, revision: 4 });
  });

  withStore('two writes of one key in a transaction, and odd keys, are refused', async (store, t) => {
    const twice = [
      { key: 'a', value: '1' },
      { key: 'a', value: '2' },
    ];
    await t.rejects(store.commit(twice), { code: 'STORE_KEY_INVALID' });
    for (const key of ['', 'a b', 'ä', 'a\0', 'x'.repeat(1025)])
      await t.rejects(store.commit([{ key, value: '1' }]), { code: 'STORE_KEY_INVALID' });
    t.equal(await store.revision(), 1);
  });

  withStore('lists by prefix in key order, in pages of one moment', async (store, t) => {
    const keys = ['A/n/a', 'A/n/b', 'A/n/c', 'A/na/a', 'A/o/a', 'B/n/a'];
    await store.commit([...keys].reverse().map((key) => ({ key, value: JSON.stringify(key) })));
    const names = async (prefix: string, options = {}) => (await store.list(prefix, options)).entries.map((e) => e.key);
    t.same(await names(''), keys);
    t.same(await names('A/n/'), ['A/n/a', 'A/n/b', 'A/n/c']);
    t.same(await names('A/n/', { after: 'A/n/a' }), ['A/n/b', 'A/n/c']);
    t.equal(await store.count('A/'), 5);
    const first = await store.list('A/', { limit: 2 });
    t.match(first, { more: true, revision: 2 });
    await store.commit([
      { key: 'A/n/c', value: null },
      { key: 'A/n/bb', value: '0' },
      { key: 'A/o/a', value: '"new"' },
    ]);
    await store.commit([
      { key: 'A/n/c', value: '"back"' },
      { key: 'A/o/a', value: null },
    ]);
    const second = await store.list('A/', { limit: 2, after: 'A/n/b', revision: first.revision });
    t.same(
      second.entries.map((e) => [e.key, e.value, e.revision]),
      [
        ['A/n/c', '"A/n/c"', 2],
        ['A/na/a', '"A/na/a"', 2],
      ],
    );
    t.match(second, { more: true, revision: 2 });
    const third = await store.list('A/', { limit: 2, after: 'A/na/a', revision: first.revision });
    t.same(
      third.entries.map((e) => [e.key, e.value]),
      [['A/o/a', '"A/o/a"']],
    );
    t.equal(third.more, false);
    t.same(await names('A/n', { limit: 4 }), ['A/n/a', 'A/n/b', 'A/n/bb', 'A/n/c']);
    await t.rejects(store.list('', { revision: 99 }), { code: 'STORE_REVISION_FUTURE' });
  });

  withStore('a watch replays what came after its revision, then follows', async (store, t) => {
    await store.commit([{ key: 'A/n/a', value: '1' }]);
    await store.commit([{ key: 'A/n/a', value: '2' }]);
    await store.commit([{ key: 'B/n/a', value: '0' }]);
    const watch = follow(store, 'A/', 2);
    t.same(await watch.next(), {
      revision: 3,
      changes: [
        {
          key: 'A/n/a',
          revision: 3,
          entry: { key: 'A/n/a', value: '2', revision: 3, createRevision: 2 },
          previous: { key: 'A/n/a', value: '1', revision: 2, createRevision: 2 },
        },
      ],
    });
    t.same(await watch.next(), { revision: 4, changes: [] }, 'progress past what is not watched');
    const pending = watch.next();
    await store.commit([
      { key: 'A/n/b', value: '3' },
      { key: 'A/n/a', value: null },
    ]);
    t.same(await pending, {
      revision: 5,
      changes: [
        { key: 'A/n/a', revision: 5, previous: { key: 'A/n/a', value: '2', revision: 3, createRevision: 2 } },
        { key: 'A/n/b', revision: 5, entry: { key: 'A/n/b', value: '3', revision: 5, createRevision: 5 } },
      ],
    });
    const last = watch.next();
    watch.stop();
    t.equal(await last, undefined, 'ends when aborted');
  });

  withStore('a watch never splits a revision, whatever its size', async (store, t) => {
    for (let r = 0; r < 3; r++)
      await store.commit(Array.from({ length: 400 }, (_, i) => ({ key: `A/n/${1000 + i}`, value: String(r) })));
    const watch = follow(store, 'A/', 1);
    for (const revision of [2, 3, 4]) {
      const batch = await watch.next();
      t.equal(batch?.revision, revision);
      t.equal(batch?.changes.length, 400);
    }
    watch.stop();
  });

  withStore('a watch from the future is refused, and ends with the store', async (store, t) => {
    await t.rejects(follow(store, '', 2).next(), { code: 'STORE_REVISION_FUTURE' });
    const pending = follow(store, '', 1).next();
    await store.close();
    await t.rejects(pending, { code: 'STORE_CLOSED' });
    await t.rejects(store.get('a'), { code: 'STORE_CLOSED' });
  });

  withStore(
    'history is bounded: older revisions are compacted, for lists and watches',
    async (store, t) => {
      const slow = follow(store, '', 1);
      for (let i = 0; i < 40; i++) await store.commit([{ key: `k/${i % 3}`, value: String(i) }]);
      await t.rejects(slow.next(), { code: 'STORE_COMPACTED' });
      await t.rejects(store.list('', { revision: 5 }), { code: 'STORE_COMPACTED' });
      const at = (await store.revision()) - 10;
      t.same(
        (await store.list('', { revision: at })).entries.map((e) => e.value),
        ['27', '28', '29'],
      );
      const recent = follow(store, '', at);
      t.equal((await recent.next())?.revision, at + 1);
      recent.stop();
      t.equal(await store.count(''), 3);
    },
    10,
  );

  withStore('writers that race on one key: exactly one wins', async (store, t) => {
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, i) => store.commit([{ key: 'k', value: String(i), ifRevision: 0 }])),
    );
    t.equal(results.filter((r) => r.ok).length, 1);
    t.equal(await store.revision(), 2);
  });
}

type Tap = Pick<typeof t, 'same' | 'equal' | 'match' | 'rejects'>;

/** A watch to be read step by step; `next` gives undefined at its end. */
function follow(store: Store, prefix: string, from: number) {
  const abort = new AbortController();
  const iterator = store.watch(prefix, from, abort.signal)[Symbol.asyncIterator]();
  return {
    next: async (): Promise<Changes | undefined> => {
      const step = await iterator.next();
      return step.done ? undefined : step.value;
    },
    stop: () => abort.abort(),
  };
}
