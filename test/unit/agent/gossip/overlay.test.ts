import t from 'tap';
import { createOverlay, type LinkView, OVERLAY_DEFAULTS } from '../../../../agent/gossip/overlay.ts';
import { seeded } from '../../../fakes/seeded.ts';

const live = (n: number) => Array.from({ length: n }, (_, i) => ({ host: `h${i}`, alive: true }));
const none: ReadonlySet<string> = new Set();
const out = (...hosts: string[]): LinkView[] => hosts.map((host) => ({ host, direction: 'outbound' as const }));
const inbound = (n: number): LinkView[] =>
  Array.from({ length: n }, (_, i) => ({ host: `i${i}`, direction: 'inbound' as const }));

t.test('four outbound links, whatever the size of the mesh', async (t) => {
  t.equal(createOverlay(seeded(1)).plan([], none, () => live(200), 0).dial.length, 4);
  t.equal(createOverlay(seeded(1)).plan([], none, () => live(2), 0).dial.length, 2);
  t.same(createOverlay(seeded(1)).plan(out('h0', 'h1', 'h2', 'h3'), none, () => live(200), 0).dial, []);
  t.equal(
    createOverlay(seeded(1)).plan(out('h0', 'h1'), new Set(['h2']), () => live(200), 0).dial.length,
    1,
    'dials under way count',
  );
});

t.test('no dial at fourteen links', async (t) => {
  t.same(createOverlay(seeded(1)).plan(inbound(14), none, () => live(200), 0).dial, []);
  t.equal(createOverlay(seeded(1)).plan(inbound(13), none, () => live(200), 0).dial.length, 1);
});

t.test('linked hosts are not dialled; the dead only when too few live', async (t) => {
  const candidates = [...live(3), { host: 'd1', alive: false }, { host: 'd2', alive: false }];
  const { dial } = createOverlay(seeded(1)).plan(out('h0'), none, () => candidates, 0);
  t.same(new Set(dial.slice(0, 2)), new Set(['h1', 'h2']));
  t.match(dial[2], /^d/);
});

t.test('a failed dial waits longer and longer, a success forgets', async (t) => {
  const overlay = createOverlay(() => 0.5);
  const can = (now: number) => overlay.plan([], none, () => live(1), now).dial.length === 1;
  let now = 0;
  const waits: number[] = [];
  for (let i = 0; i < 6; i++) {
    overlay.failed('h0', now);
    const failedAt = now;
    while (!can(now)) now += 50;
    waits.push(now - failedAt);
  }
  t.ok(waits[0]! <= 1000 && waits[5]! <= OVERLAY_DEFAULTS.retryMaxMs && waits[5]! > waits[0]!, waits.join(' '));
  overlay.failed('h0', now);
  overlay.succeeded('h0');
  t.ok(can(now));
  overlay.holdOff('h0', now + 100);
  t.notOk(can(now + 99));
  t.ok(can(now + 100));
});

t.test('one outbound link is replaced now and then', async (t) => {
  const overlay = createOverlay(seeded(3));
  const links = out('h0', 'h1', 'h2', 'h3');
  const drops: string[] = [];
  for (let now = 0; now <= 3_600_000; now += 1000) drops.push(...overlay.plan(links, none, () => live(20), now).drop);
  t.ok(drops.length >= 6 && drops.length <= 26, `${drops.length} in an hour`);
  t.same(createOverlay(seeded(3)).plan(links, none, () => live(4), 0).drop, [], 'never without a substitute');
});

t.test('random members: many nodes make one graph of small degree', async (t) => {
  const n = 200;
  const random = seeded(5);
  const degree = Array<number>(n).fill(0);
  const parent = Array.from({ length: n }, (_, i) => i);
  const find = (x: number): number => (parent[x] === x ? x : find(parent[x] as number));
  for (let i = 0; i < n; i++) {
    const candidates = live(n).filter((c) => c.host !== `h${i}`);
    for (const host of createOverlay(random).plan([], none, () => candidates, 0).dial) {
      const j = Number(host.slice(1));
      degree[i]! += 1;
      degree[j]! += 1;
      parent[find(i)] = find(j);
    }
  }
  t.equal(new Set(parent.map((_, i) => find(i))).size, 1, 'connected');
  t.ok(Math.max(...degree) <= 20, `largest degree ${Math.max(...degree)}`);
});
