import fc from 'fast-check';
import { test } from 'tap';
import { share } from '../../../../agent/mesh-view/share.ts';

const service = (host: string, port: number) => ({
  host,
  namespace: 'default',
  ports: [{ number: port }],
  none: undefined,
});

test('what did not change is the very object that it was', async (t) => {
  const before = {
    services: [service('a', 1), service('b', 2), service('c', 3)],
    names: ['x', 'y'],
    policy: { mode: 'A' },
  };
  const same = structuredClone(before);
  t.equal(share(before, same), before, 'all equal');
  const now = structuredClone(before);
  now.services[1] = service('b', 9);
  const changed = share(before, now);
  t.same(changed, now);
  t.equal(changed.services[0], before.services[0]);
  t.equal(changed.services[2], before.services[2]);
  t.equal(changed.names, before.names);
  t.not(changed.services[1], before.services[1]);
  t.same(before.services[1], service('b', 2), 'what was is not touched');
});

test('one more or one less in a list of named things shifts nothing', async (t) => {
  const before = [service('b', 2), service('c', 3), service('d', 4)];
  const rows = [
    { now: [service('a', 1), ...structuredClone(before)], kept: [undefined, 0, 1, 2] },
    { now: structuredClone(before).slice(1), kept: [1, 2] },
    { now: [...structuredClone(before)].reverse(), kept: [2, 1, 0] },
  ];
  for (const { now, kept } of rows) {
    const shared = share(before, now);
    t.same(shared, now);
    for (const [index, from] of kept.entries()) if (from !== undefined) t.equal(shared[index], before[from]);
  }
});

test('another namespace is another service; a missing field is not an undefined one', async (t) => {
  const before = [service('a', 1)];
  const other = [{ ...service('a', 1), namespace: 'other' }];
  t.not(share(before, other)[0], before[0]);
  t.not(share({ a: 1, b: undefined } as object, { a: 1 }), undefined);
  t.same(Object.keys(share({ a: 1, b: undefined } as object, { a: 1 })), ['a']);
  t.same(Object.keys(share({ a: 1 } as object, { a: 1, b: undefined })), ['a', 'b']);
});

test('whatever was before, the value is the one that is now', async (t) => {
  const json = fc.jsonValue({ maxDepth: 3 });
  fc.assert(
    fc.property(json, json, (before, now) => {
      const text = JSON.stringify(now);
      return JSON.stringify(share(before, now)) === text && JSON.stringify(now) === text;
    }),
    { numRuns: 1000, seed: 11 },
  );
  t.pass('1000 pairs');
});
