import t from 'tap';
import { createDamping, type Damped } from '../../../../agent/endpoints/damping.ts';
import type { EndpointSnapshot, HostEntry, Liveness, WorkloadRecord } from '../../../../api/gossip/host-record.ts';

/** A word a host: its liveness, or what it says of itself. */
type Word = Liveness | 'leaving' | 'draining' | 'unhealthy';

const WEB = 'default/web';

function entry(host: string, word: Word, groups: readonly string[]): HostEntry {
  const own = word === 'leaving' || word === 'draining' || word === 'unhealthy';
  const health: WorkloadRecord['health'] = word === 'draining' || word === 'unhealthy' ? word : 'healthy';
  return {
    liveness: own ? 'alive' : word,
    provenAddresses: [`10.0.0.${host.slice(1)}`],
    record: {
      host,
      epoch: 1,
      counter: 1,
      capability: 1,
      network: 'default',
      addresses: [`10.0.0.${host.slice(1)}`],
      gossipAddresses: [],
      probeKey: '',
      workloads: groups.map((group) => ({ group, health })),
      ...(word === 'leaving' ? { leaving: true } : {}),
    },
  };
}

/** h0 looks; `groups` names what each host serves, default/web where it says nothing. */
function view(groups: Readonly<Record<string, readonly string[]>> = {}) {
  const damping = createDamping('h0');
  const words = new Map<string, Word>();
  let last: Damped | undefined;
  let version = 0;
  return {
    /** What is given to Envoy at `seconds`: hosts in, for web or another group. */
    at(seconds: number, change: Readonly<Record<string, Word | 'gone'>>, group = WEB): string {
      for (const [host, word] of Object.entries(change))
        if (word === 'gone') words.delete(host);
        else words.set(host, word);
      const snapshot: EndpointSnapshot = {
        version: ++version,
        synced: true,
        hosts: new Map([...words].map(([host, word]) => [host, entry(host, word, groups[host] ?? [WEB])])),
      };
      last = damping.look(snapshot, seconds * 1000);
      return [...last.snapshot.hosts]
        .filter(([, { liveness, record }]) => {
          const workload = record.workloads.find((one) => one.group === group);
          return (liveness === 'alive' || liveness === 'suspect') && !record.leaving && workload?.health === 'healthy';
        })
        .map(([host]) => host)
        .join(' ');
    },
    last: () => last as Damped,
  };
}

const all = (word: Word, ...hosts: string[]) => Object.fromEntries(hosts.map((host) => [host, word]));

/** Steps of one view: at a second, what changes, and who is in then. */
const cases: {
  what: string;
  groups?: Readonly<Record<string, readonly string[]>>;
  steps: readonly (readonly [seconds: number, change: Readonly<Record<string, Word | 'gone'>>, inThen: string])[];
}[] = [
  {
    what: 'one of two endpoints goes silent: out at once, and so is the second',
    groups: { h0: [], h3: [] },
    steps: [
      [0, all('alive', 'h0', 'h1', 'h2', 'h3'), 'h1 h2'],
      [3, { h1: 'dead' }, 'h2'],
      [9, { h2: 'dead' }, ''],
    ],
  },
  {
    what: 'three of three go silent together while others are heard: kept, given up after ten minutes',
    groups: { h0: [], h4: [] },
    steps: [
      [0, all('alive', 'h0', 'h1', 'h2', 'h3', 'h4'), 'h1 h2 h3'],
      [3, { h1: 'dead' }, 'h2 h3'],
      [3.2, { h2: 'dead' }, 'h3'],
      [4, { h3: 'dead' }, 'h1 h2 h3'],
      [600, {}, 'h1 h2 h3'],
      [604, {}, ''],
      [700, {}, ''],
    ],
  },
  {
    what: 'kept until some are back: the others have five seconds to be heard',
    groups: { h0: [] },
    steps: [
      [0, all('alive', 'h0', 'h1', 'h2', 'h3'), 'h1 h2 h3'],
      [4, all('dead', 'h1', 'h2', 'h3'), 'h1 h2 h3'],
      [60, { h1: 'alive' }, 'h1 h2 h3'],
      [62, { h2: 'alive' }, 'h1 h2 h3'],
      [66, {}, 'h1 h2'],
      [67, { h2: 'dead' }, 'h1'],
    ],
  },
  {
    what: 'nine of ten are silent at once and one is left: kept; eight of ten: not',
    groups: { h0: [] },
    steps: [
      [0, all('alive', 'h0', ...Array.from({ length: 10 }, (_, i) => `h${i + 1}`)), 'h1 h2 h3 h4 h5 h6 h7 h8 h9 h10'],
      [4, all('dead', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'h7', 'h8'), 'h9 h10'],
      [5, { h9: 'dead' }, 'h1 h2 h3 h4 h5 h6 h7 h8 h9 h10'],
    ],
  },
  {
    what: 'nine of ten one after another, each at its time: not kept, the last one serves',
    groups: { h0: [] },
    steps: [
      [0, all('alive', 'h0', ...Array.from({ length: 10 }, (_, i) => `h${i + 1}`)), 'h1 h2 h3 h4 h5 h6 h7 h8 h9 h10'],
      [10, all('dead', 'h1', 'h2', 'h3'), 'h4 h5 h6 h7 h8 h9 h10'],
      [20, all('dead', 'h4', 'h5', 'h6'), 'h7 h8 h9 h10'],
      [30, all('dead', 'h7', 'h8', 'h9'), 'h10'],
    ],
  },
  {
    what: 'by their own word nobody is kept: left, leaving, draining, ill, no longer a member',
    groups: { h0: [] },
    steps: [
      [0, all('alive', 'h0', 'h1', 'h2', 'h3', 'h4', 'h5'), 'h1 h2 h3 h4 h5'],
      [1, { h1: 'left', h2: 'leaving', h3: 'draining', h4: 'unhealthy', h5: 'gone' }, ''],
    ],
  },
  {
    what: 'who says in time that it leaves is not kept with those who said nothing',
    groups: { h0: [] },
    steps: [
      [0, all('alive', 'h0', 'h1', 'h2', 'h3', 'h4'), 'h1 h2 h3 h4'],
      [1, { h4: 'draining' }, 'h1 h2 h3'],
      [4, all('dead', 'h1', 'h2', 'h3'), 'h1 h2 h3'],
      [9, { h1: 'left' }, 'h2 h3'],
      [10, { h2: 'gone' }, 'h3'],
    ],
  },
  {
    what: 'dead long ago is no last known endpoint',
    groups: { h0: [] },
    steps: [
      [0, all('alive', 'h0', 'h1', 'h2', 'h3', 'h4'), 'h1 h2 h3 h4'],
      [5, { h4: 'dead' }, 'h1 h2 h3'],
      [500, all('dead', 'h1', 'h2', 'h3'), 'h1 h2 h3'],
    ],
  },
  {
    what: 'dead before this agent ever saw it alive is none either',
    groups: { h0: [] },
    steps: [[0, { h0: 'alive', ...all('dead', 'h1', 'h2', 'h3') }, '']],
  },
  {
    what: 'this host hears of nobody: even the one endpoint of a service is kept, until somebody is heard',
    groups: { h0: [], h1: [WEB], h2: ['default/a'], h3: ['default/b'] },
    steps: [
      [0, all('alive', 'h0', 'h1', 'h2', 'h3'), 'h1'],
      [3, { h1: 'dead' }, ''],
      [4, { h2: 'dead' }, ''],
      [6, { h3: 'dead' }, 'h1'],
      [90, {}, 'h1'],
      [100, { h2: 'alive' }, 'h1'],
      [106, {}, ''],
    ],
  },
  {
    what: 'an endpoint on this very host is enough: nobody silent is kept beside it',
    steps: [
      [0, all('alive', 'h0', 'h1', 'h2', 'h3'), 'h0 h1 h2 h3'],
      [4, all('dead', 'h1', 'h2', 'h3'), 'h0'],
    ],
  },
  {
    what: 'one that flaps is held back until it was steady for ten seconds, twenty the next time',
    groups: { h0: [] },
    steps: [
      [0, all('alive', 'h0', 'h1', 'h2'), 'h1 h2'],
      [5, { h1: 'dead' }, 'h2'],
      [8, { h1: 'alive' }, 'h1 h2'],
      [12, { h1: 'dead' }, 'h2'],
      [15, { h1: 'alive' }, 'h2'],
      [20, { h1: 'dead' }, 'h2'],
      [22, { h1: 'suspect' }, 'h2'],
      [31.9, {}, 'h2'],
      [32, {}, 'h1 h2'],
      [40, { h1: 'dead' }, 'h2'],
      [41, { h1: 'alive' }, 'h1 h2'],
      [44, { h1: 'dead' }, 'h2'],
      [45, { h1: 'alive' }, 'h2'],
      [64, {}, 'h2'],
      [65, {}, 'h1 h2'],
    ],
  },
  {
    what: 'three changes in a minute, or more in more time, are no flapping; nor are restarts in order',
    groups: { h0: [] },
    steps: [
      [0, all('alive', 'h0', 'h1', 'h2'), 'h1 h2'],
      [5, { h1: 'dead' }, 'h2'],
      [6, { h1: 'alive' }, 'h1 h2'],
      [10, { h1: 'dead' }, 'h2'],
      [66, { h1: 'alive' }, 'h1 h2'],
      ...[70, 72, 74, 76, 78].flatMap((at): [number, Record<string, Word>, string][] => [
        [at, { h2: 'left' }, 'h1'],
        [at + 1, { h2: 'alive' }, 'h1 h2'],
      ]),
    ],
  },
  {
    what: 'better one that flaps than none',
    groups: { h0: [] },
    steps: [
      [0, all('alive', 'h0', 'h1', 'h2'), 'h1 h2'],
      [5, { h1: 'dead' }, 'h2'],
      [8, { h1: 'alive' }, 'h1 h2'],
      [12, { h1: 'dead' }, 'h2'],
      [15, { h1: 'alive' }, 'h2'],
      [16, { h2: 'dead' }, 'h1'],
      [17, { h2: 'alive' }, 'h2'],
    ],
  },
];

for (const { what, groups, steps } of cases) {
  t.test(what, async (t) => {
    const damped = view(groups);
    for (const [seconds, change, inThen] of steps)
      t.equal(damped.at(seconds, change), inThen, `at ${seconds} s: ${JSON.stringify(change)}`);
  });
}

t.test('a host that is kept for one group is not taken for a live one of another', async (t) => {
  const damped = view({ h0: [], h1: [WEB, 'default/b'], h4: ['default/b'] });
  damped.at(0, all('alive', 'h0', 'h1', 'h2', 'h3', 'h4'));
  t.equal(damped.at(4, all('dead', 'h1', 'h2', 'h3'), 'default/b'), 'h4');
  t.equal(damped.at(4, {}), 'h1 h2 h3');
  const entry = damped.last().snapshot.hosts.get('h1');
  t.same(
    entry?.record.workloads.map(({ group, health }) => `${group} ${health}`),
    [`${WEB} healthy`, 'default/b draining'],
    'still known as the one that is granted it',
  );
});

t.test('it says what it does and when to look again; where it does nothing the snapshot is the same', async (t) => {
  const damped = view({ h0: [] });
  damped.at(0, all('alive', 'h0', 'h1', 'h2', 'h3'));
  t.same(damped.last().kept, []);
  t.equal(damped.last().nextMs, undefined);
  damped.at(4, all('dead', 'h1', 'h2', 'h3'));
  t.match(damped.last().kept, [{ group: WEB, hosts: ['h1', 'h2', 'h3'], leftMs: 600_000 }]);
  t.equal(damped.last().nextMs, 600_000);
  damped.at(10, { h1: 'alive' });
  t.equal(damped.last().nextMs, 5000);
  const flapping = view({ h0: [] });
  flapping.at(0, all('alive', 'h0', 'h1', 'h2'));
  for (let i = 1; i <= 40; i++) flapping.at(i, { h1: i % 2 === 1 ? 'dead' : 'alive' });
  t.match(flapping.last().heldBack, [{ host: 'h1', leftMs: 10_000 }]);
  t.equal(flapping.last().nextMs, 10_000);
});

t.test('however often it flaps, it is let in two minutes after it became steady', async (t) => {
  const damped = view({ h0: [] });
  let now = 0;
  damped.at(now, all('alive', 'h0', 'h1', 'h2'));
  for (let round = 0; round < 8; round++) {
    for (const word of ['dead', 'alive', 'dead', 'alive', 'dead', 'alive'] as const) {
      now += 2;
      damped.at(now, { h1: word });
    }
    t.equal(damped.at(now + 9, {}), 'h2');
    now += 120;
    t.equal(damped.at(now, {}), 'h1 h2', `round ${round}`);
  }
});
