// What an analysis costs, and that it ends: the controller does it while everybody else waits.
import t from 'tap';
import { analyzePushed } from '../../../../api/resources/analysis/analyze.ts';
import { BUDGET_LIMITS, createBudget, isOverBudget } from '../../../../api/resources/analysis/budget.ts';
import { meshFacts } from '../../../../api/resources/analysis/model.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';

const object = (kind: string, name: string, spec: object, namespace = 'shop'): MeshObject => ({
  apiVersion: 'networking.istio.io/v1',
  kind,
  metadata: { name, namespace },
  spec,
});
const times = <T>(count: number, make: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i));
const gateway = (name: string, hosts: readonly string[], port = 80) =>
  object('Gateway', name, { selector: { istio: 'gw' }, servers: [{ port: { number: port }, hosts }] });
const pods = (count: number) =>
  times(count, (i) => object('WorkloadGroup', `w${i}`, { template: { labels: { a: 'b' } } }));
const services = (count: number) =>
  times(count, (i) => object('Service', `s${i}`, { selector: { a: 'b' }, ports: [{ port: 80, name: 'http' }] }));

/** Steps of a look at the first of the objects. */
function stepsOf(objects: readonly MeshObject[]): number {
  let steps = 0;
  const facts = meshFacts(objects, true, {
    step: (count = 1) => {
      steps += count;
    },
  });
  steps = 0;
  analyzePushed(objects[0] as MeshObject, facts);
  return steps;
}

t.test('a gateway named a hundred times is looked at once, by hosts that are looked up', async (t) => {
  const bound = object('VirtualService', 'v', {
    gateways: times(100, () => 'g'),
    hosts: times(1000, (i) => `h${i}.example.com`),
  });
  const steps = stepsOf([
    bound,
    gateway(
      'g',
      times(1000, (i) => `*.s${i}.example.com`),
    ),
  ]);
  t.ok(steps > 2000, `${steps} steps`);
  t.ok(steps < 50_000, `${steps} steps, not a hundred million`);
});

/** The first object asks for more than the budget of one. */
const HEAVY: readonly [string, () => MeshObject[]][] = [
  [
    'hosts by Gateways',
    () => [
      object('VirtualService', 'v', { gateways: times(2000, (i) => `g${i}`), hosts: times(1000, (i) => `h${i}.com`) }),
      ...times(2000, (i) => gateway(`g${i}`, ['*'])),
    ],
  ],
  [
    'Gateways of the same hosts',
    () => [
      gateway(
        'g',
        times(1000, (i) => `h${i}.com`),
      ),
      ...times(2000, (i) => gateway(`g${i}`, ['a.com'])),
    ],
  ],
  [
    'portLevelSettings by members of all services',
    () => [
      object('DestinationRule', 'd', {
        host: '*',
        trafficPolicy: {
          portLevelSettings: times(100, () => ({ port: { number: 80 }, tls: { mode: 'ISTIO_MUTUAL' } })),
        },
      }),
      ...services(200),
      ...pods(200),
    ],
  ],
  [
    'subsets by members',
    () => [
      object('DestinationRule', 'd', {
        host: 's0',
        subsets: times(3000, (i) => ({ name: `n${i}`, labels: { a: `x${i}` } })),
      }),
      ...services(1),
      ...pods(1000),
    ],
  ],
  [
    'destinations by subsets',
    () => [
      object('VirtualService', 'v', {
        http: times(1500, (i) => ({ route: [{ destination: { host: 's0', subset: `n${i}` } }] })),
      }),
      ...services(1),
      object('DestinationRule', 'd', { host: 's0', subsets: times(2000, (i) => ({ name: `n${i}` })) }),
    ],
  ],
  [
    'twins by hosts',
    () => [
      object('ServiceEntry', 'e', { exportTo: ['.'], hosts: times(1500, () => 'a.com') }),
      object('ServiceEntry', 'f', { exportTo: ['.'], hosts: times(1500, () => 'a.com') }, 'other'),
    ],
  ],
  [
    'VirtualServices of the same hosts',
    () => [
      object('VirtualService', 'v', { exportTo: ['.'], hosts: times(1000, (i) => `h${i % 2}.com`) }),
      ...times(2500, (i) =>
        object('VirtualService', `v${i}`, { exportTo: ['.'], hosts: ['h0.com', 'h1.com'] }, 'other'),
      ),
    ],
  ],
  [
    'ports by members',
    () => [
      object('Service', 's', { selector: { a: 'b' }, ports: times(3000, (i) => ({ port: i + 1, name: `http-${i}` })) }),
      ...times(1000, (i) => object('WorkloadEntry', `e${i}`, { labels: { a: 'b' }, address: '10.0.0.1' })),
    ],
  ],
];

t.test('whatever it asks for, an object has no more steps than the budget', async (t) => {
  for (const [name, make] of HEAVY) {
    const objects = make();
    let steps = 0;
    const budget = createBudget(() => false);
    const step = (count = 1) => {
      steps += count;
      budget.step(count);
    };
    const facts = meshFacts(objects, true, { step });
    steps = 0;
    budget.renew();
    t.throws(() => analyzePushed(objects[0] as MeshObject, facts), { code: 'ANALYSIS_BUDGET' }, name);
    t.ok(steps < BUDGET_LIMITS.steps * 1.1, `${name}: ${steps}`);
    budget.renew();
    t.doesNotThrow(() => analyzePushed(object('Service', 'small', {}), facts), 'the next has steps of its own');
  }
});

t.test('imports of a Sidecar and delegates are looked up', async (t) => {
  const imports = object('Sidecar', 'x', { egress: [{ hosts: times(5000, (i) => `*/x${i}.com`) }] });
  t.ok(stepsOf([imports, ...services(5000)]) < 50_000);
  const delegating = object('VirtualService', 'root', {
    hosts: ['a.com'],
    http: times(2000, (i) => ({ delegate: { name: `d${i}` } })),
  });
  t.ok(stepsOf([delegating, ...times(2000, (i) => object('VirtualService', `d${i}`, { http: [{}] }))]) < 50_000);
});

t.test('the clock ends it too, also before the first object; without a budget nothing does', async (t) => {
  let looks = 0;
  const budget = createBudget(() => {
    looks += 1;
    return looks > 2;
  });
  let steps = 0;
  try {
    for (;;) {
      budget.step();
      steps += 1;
    }
  } catch (error) {
    t.ok(isOverBudget(error));
  }
  t.equal(steps, 3 * BUDGET_LIMITS.clockEvery - 1);
  t.notOk(isOverBudget(new Error('another')));
  const [, make] = HEAVY[0] as (typeof HEAVY)[0];
  const objects = make();
  t.same(analyzePushed(objects[0] as MeshObject, meshFacts(objects, true)), [], 'as meshctl analyze does');
});
