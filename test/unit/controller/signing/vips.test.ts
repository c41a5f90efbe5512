import t from 'tap';
import { allocateVips, createVips, VIP_HOLD_MS, type VipRow } from '../../../../controller/signing/vips.ts';

const NOW = 1_000_000;
const apply = (rows: ReadonlyMap<string, VipRow>, wanted: string[], now: number) => {
  const after = new Map(rows);
  for (const [name, row] of allocateVips(rows, new Set(wanted), now).changes)
    row === undefined ? after.delete(name) : after.set(name, row);
  return after;
};

t.test(
  'an address stays as long as its name lives, comes back within seven days, and goes to nobody else before',
  async (t) => {
    const first = apply(new Map(), ['a', 'b'], NOW);
    const a = first.get('a')?.index;
    t.equal(apply(first, ['a', 'b', 'c', 'd'], NOW).get('a')?.index, a);
    t.equal(allocateVips(first, new Set(['a', 'b']), NOW).changes.size, 0, 'nothing to write');
    const released = apply(first, ['b'], NOW + 1);
    t.same(released.get('a'), { index: a, releasedAt: NOW + 1 });
    t.same(apply(released, ['a', 'b'], NOW + 2).get('a'), { index: a }, 'the same one again');
    t.ok(apply(released, ['b'], NOW + VIP_HOLD_MS).has('a'));
    t.notOk(apply(released, ['b'], NOW + 1 + VIP_HOLD_MS).has('a'), 'free after seven days');
  },
);

t.test('no two names share an address, also when hashes collide and the range is nearly full', async (t) => {
  const names = Array.from({ length: 65_534 }, (_, i) => `s${i}`);
  const all = apply(new Map(), names, NOW);
  t.equal(new Set([...all.values()].map((row) => row.index)).size, 65_534);
  t.same(allocateVips(all, new Set([...names, 'late']), NOW).refused, ['late']);
  const held = allocateVips(apply(all, names.slice(1), NOW), new Set([...names.slice(1), 'late']), NOW + 5);
  t.same(held.refused, ['late'], 'a held address is not taken');
  for (const { index } of all.values()) if (index < 1 || index > 65_534) t.fail(`index ${index}`);
});

t.test('addresses: both families, the ULA of the trust domain', async (t) => {
  t.equal(createVips('mesh.test')(1).v4, '240.240.0.1');
  t.equal(createVips('mesh.test')(65_534).v4, '240.240.255.254');
  t.match(createVips('mesh.test')(258).v6, /^fd[0-9a-f]{2}:[0-9a-f]{1,4}:[0-9a-f]{1,4}::102$/);
  t.not(createVips('a.test')(1).v6, createVips('b.test')(1).v6);
});
