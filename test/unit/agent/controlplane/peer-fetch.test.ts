import t from 'tap';
import { createPeerFetch, type Member } from '../../../../agent/controlplane/peer-fetch.ts';
import { MeshError } from '../../../../api/errors.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';

/** What a peer does: ms until it answers, and with which timestamp version; `refuse`, or never. */
type Behaviour = 'never' | 'refuse' | 'junk' | { readonly afterMs: number; readonly version: number };

function fetcher(peers: Readonly<Record<string, Behaviour>>, members: readonly Member[] = []) {
  const clock = createFakeClock();
  const asked: string[] = [];
  const aborted: string[] = [];
  let held = 1;
  let most = 0;
  let open = 0;
  const room = createPeerFetch({
    async fetch(peer, _request, signal) {
      asked.push(peer);
      most = Math.max(most, ++open);
      signal.addEventListener('abort', () => aborted.push(peer));
      const behaviour = peers[peer] ?? 'never';
      try {
        if (behaviour === 'refuse') throw new MeshError('FETCH_REFUSED', 'no');
        if (behaviour === 'junk') return Buffer.from('0');
        await new Promise<void>((resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason));
          if (behaviour !== 'never') clock.after(behaviour.afterMs, resolve);
        });
        return Buffer.from(String(behaviour === 'never' ? 0 : behaviour.version));
      } finally {
        open -= 1;
      }
    },
    members: () => members,
    held: () => ({ root: 1, generation: 1, timestamp: held }),
    async offer(data) {
      const version = Number(data);
      if (version === 0) return { kind: 'refused', error: new MeshError('CONFIG_MALFORMED', 'junk') };
      take(version);
      return { kind: 'timestamp' };
    },
    clock,
    random: () => 0.5,
    log: silentLogger,
  });
  const take = (version: number) => {
    if (version <= held) return;
    held = version;
    room.progressed();
  };
  return { room, clock, asked, aborted, take, held: () => held, most: () => most };
}

const member = (host: string, linked = false): Member => ({ host, linked });

const cases: {
  what: string;
  peers: Record<string, Behaviour>;
  members?: Member[];
  /** ms until it is there, at most. */
  within: number;
  asked?: string[];
}[] = [
  { what: 'the announcer has it', peers: { a: { afterMs: 5, version: 2 } }, within: 60, asked: ['a'] },
  {
    what: 'the announcer refuses: the next at once',
    peers: { a: 'refuse', b: { afterMs: 5, version: 2 } },
    members: [member('b')],
    within: 60,
    asked: ['a', 'b'],
  },
  {
    what: 'the announcer hangs: the next after one short wait',
    peers: { a: 'never', b: { afterMs: 5, version: 2 } },
    members: [member('b')],
    within: 800,
    asked: ['a', 'b'],
  },
  {
    what: 'junk is refused and another asked',
    peers: { a: 'junk', b: { afterMs: 5, version: 2 } },
    members: [member('b')],
    within: 60,
  },
  {
    what: 'an older one than announced is taken, and the rest asked for elsewhere',
    peers: { a: { afterMs: 5, version: 1 }, b: { afterMs: 5, version: 2 } },
    members: [member('b')],
    within: 100,
  },
  {
    what: 'all neighbours lie: one who is none is asked third',
    peers: { a: 'refuse', n1: 'refuse', n2: 'refuse', n3: 'refuse', far: { afterMs: 5, version: 2 } },
    members: [member('n1', true), member('n2', true), member('n3', true), member('far')],
    within: 60,
  },
  {
    what: 'nobody has it yet: asked again with growing waits',
    peers: { a: { afterMs: 5, version: 2 }, b: 'refuse' },
    members: [member('b')],
    within: 60,
  },
];

for (const { what, peers, members, within, asked } of cases) {
  t.test(what, async (t) => {
    const fetch = fetcher(peers, members);
    fetch.room.announced(2, 'a');
    await fetch.clock.advance(within);
    t.equal(fetch.held(), 2);
    if (asked !== undefined) t.same(fetch.asked, asked);
    await fetch.room.stop();
  });
}

t.test('what a controller delivered in the meantime is asked of nobody, or no longer waited for', async (t) => {
  const early = fetcher({ a: 'never' });
  early.room.announced(2, 'a');
  early.take(2);
  await early.clock.advance(1000);
  t.same(early.asked, []);
  const late = fetcher({ a: 'never' });
  late.room.announced(2, 'a');
  await late.clock.advance(100);
  t.same(late.asked, ['a']);
  late.take(2);
  t.same(late.aborted, ['a']);
});

t.test('peers that never answer: at most three at once, each given up after 10 s, none asked in a hurry', async (t) => {
  const names = ['a', 'b', 'c', 'd', 'e', 'f'];
  const fetch = fetcher(
    Object.fromEntries(names.map((name) => [name, 'never' as const])),
    names.map((name) => member(name)),
  );
  fetch.room.announced(2, 'a');
  await fetch.clock.advance(60_000);
  t.equal(fetch.most(), 3);
  t.ok(fetch.asked.length <= 24, `${fetch.asked.length} in a minute`);
  fetch.room.announced(3, 'g');
  await fetch.room.stop();
  const before = fetch.asked.length;
  await fetch.clock.advance(60_000);
  t.equal(fetch.asked.length, before, 'stopped');
});

t.test('asked around: three, not the neighbours first; an announcement does not wait for them', async (t) => {
  const members = [member('n1', true), member('n2', true), member('x'), member('y'), member('z')];
  const fetch = fetcher({ n1: { afterMs: 5, version: 2 } }, members);
  fetch.room.askAround();
  await fetch.clock.advance(5000);
  t.same([...fetch.asked].sort(), ['x', 'y', 'z']);
  fetch.room.announced(2, 'n1');
  await fetch.clock.advance(100);
  t.equal(fetch.held(), 2);
  t.same(fetch.aborted.filter((peer) => peer !== 'n1').sort(), ['x', 'y', 'z']);
});

t.test('who asks for what is on its way here waits for it, a second at most', async (t) => {
  const fetch = fetcher({ a: { afterMs: 300, version: 2 }, b: 'never' });
  await fetch.room.arrival();
  fetch.room.announced(2, 'a');
  let arrived = 0;
  void fetch.room.arrival().then(() => (arrived += 1));
  await fetch.clock.advance(200);
  t.equal(arrived, 0);
  await fetch.clock.advance(200);
  t.equal(arrived, 1);
  fetch.room.announced(3, 'b');
  void fetch.room.arrival().then(() => (arrived += 1));
  await fetch.clock.advance(900);
  t.equal(arrived, 1);
  await fetch.clock.advance(200);
  t.equal(arrived, 2);
  await fetch.room.stop();
});
