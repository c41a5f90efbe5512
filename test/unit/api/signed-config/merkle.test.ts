import fc from 'fast-check';
import t from 'tap';
import { canonicalJson, sha256Hex } from '../../../../api/signed-config/canonical.ts';
import { applyDelta, diffContent, emptyContent, headOf } from '../../../../api/signed-config/content.ts';
import {
  emptyMerkle,
  type Merkle,
  merkleDelete,
  merkleDiff,
  merkleRoot,
  merkleSet,
} from '../../../../api/signed-config/merkle.ts';

const fill = (entries: readonly (readonly [string, string])[]): Merkle =>
  entries.reduce((map, [key, value]) => merkleSet(map, key, sha256Hex(value)), emptyMerkle);

t.test('the root is a function of the content, whatever the order and the detours', async (t) => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), fc.string()),
      fc.array(fc.string()),
      fc.infiniteStream(fc.nat()),
      (content, noise, random) => {
        const entries = Object.entries(content);
        const shuffled = entries
          .map((entry) => [random.next().value, entry] as const)
          .sort((a, b) => a[0] - b[0])
          .map(([, entry]) => entry);
        let detour = fill(noise.map((key) => [key, 'x'] as const));
        for (const [key, value] of shuffled) detour = merkleSet(detour, key, sha256Hex(value));
        for (const key of noise) if (!Object.hasOwn(content, key)) detour = merkleDelete(detour, key);
        return merkleRoot(detour) === merkleRoot(fill(entries)) && detour.size === entries.length;
      },
    ),
    { numRuns: 200, seed: 7 },
  );
  t.equal(merkleRoot(emptyMerkle), '0'.repeat(64));
});

t.test('another content has another root; a diff makes one into the other', async (t) => {
  const map = fc.dictionary(fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'), fc.constantFrom('1', '2'));
  const outcome = fc.check(
    fc.property(map, map, (a, b) => {
      const [from, to] = [fill(Object.entries(a)), fill(Object.entries(b))];
      const same = canonicalJson({ ...a }) === canonicalJson({ ...b });
      const diff = merkleDiff(from, to);
      let made = from;
      for (const key of diff.delete) made = merkleDelete(made, key);
      for (const key of diff.set) made = merkleSet(made, key, sha256Hex(b[key] ?? ''));
      const minimal = diff.set.every((key) => a[key] !== b[key]) && diff.delete.every((key) => !Object.hasOwn(b, key));
      return (merkleRoot(from) === merkleRoot(to)) === same && merkleRoot(made) === merkleRoot(to) && minimal;
    }),
    { numRuns: 300, seed: 7 },
  );
  t.notOk(outcome.failed, JSON.stringify(outcome.counterexample));
});

t.test('a leaf cannot pass for a branch, nor a branch for a leaf', async (t) => {
  const one = fill([['a', '1']]);
  const two = fill([
    ['a', '1'],
    ['b', '2'],
  ]);
  // The branch's 64 bytes as the value of a leaf give another root, since each is hashed under its own first byte.
  t.not(merkleRoot(merkleSet(emptyMerkle, 'a', merkleRoot(two))), merkleRoot(two));
  t.not(merkleRoot(one), sha256Hex('1'));
});

t.test('canonical text: sorted keys, fractions, no loss; refuses what JSON cannot carry', async (t) => {
  t.equal(
    canonicalJson({ b: 0.1, a: [1, 'x\n', null, true], c: undefined, '\u00e9': -0 }),
    '{"a":[1,"x\\n",null,true],"b":0.1,"é":0}',
  );
  t.equal(canonicalJson(JSON.parse('{"__proto__":1}')), '{"__proto__":1}');
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, () => 1, Symbol('x'), 1n])
    t.throws(() => canonicalJson(bad), { code: 'CONFIG_MALFORMED' });
  let deep: unknown = 1;
  for (let i = 0; i < 200; i++) deep = { a: deep };
  t.throws(() => canonicalJson(deep), { code: 'CONFIG_MALFORMED' });
  fc.assert(
    fc.property(fc.jsonValue(), (value) => canonicalJson(JSON.parse(canonicalJson(value))) === canonicalJson(value)),
    { numRuns: 300, seed: 7 },
  );
});

t.test('content: a role holds its own keys only; size and count follow', async (t) => {
  for (const [role, key] of [
    ['policy', 'host/h1'],
    ['state', 'object/VirtualService/default/x'],
    ['state', 'mesh'],
    ['policy', 'object/../x'],
    ['policy', ''],
  ] as const)
    t.throws(
      () => applyDelta(role, emptyContent, { set: { [key]: 1 }, delete: [] }),
      { code: 'CONFIG_MALFORMED' },
      `${role} ${key}`,
    );
  const one = applyDelta('state', emptyContent, { set: { 'host/a': { x: 1 }, 'host/b': 2 }, delete: [] });
  const two = applyDelta('state', one, { set: { 'host/a': 'longer' }, delete: ['host/b', 'host/none'] });
  t.match(headOf(two, 7), { generation: 7, count: 1, bytes: 8 });
  t.same(diffContent(one, two), { set: { 'host/a': 'longer' }, delete: ['host/b'] });
  t.equal(one.values.size, 2, 'the old one stays');
});
