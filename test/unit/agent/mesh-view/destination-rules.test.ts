import { test } from 'tap';
import {
  distinguishingLabels,
  type EffectiveRule,
  effectiveRule,
  ruleVariant,
} from '../../../../agent/mesh-view/destination-rules.ts';
import type { ServiceView } from '../../../../agent/mesh-view/view.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { meshView, object, service } from './build-mesh.ts';

const HOST = 'reviews.shop.svc.cluster.local';

/** A rule whose load balancer tells it apart: `name`, and the namespace that it is in. */
function rule(name: string, spec: object = {}, namespace = 'shop', created = 0): MeshObject {
  const policy = { connectionPool: { tcp: { connectTimeout: `${name.length}s` } } };
  return object('DestinationRule', name, { host: HOST, trafficPolicy: policy, ...spec }, { namespace, created });
}

function found(objects: readonly MeshObject[], namespace: string, labels?: Record<string, string>) {
  const view = meshView({ objects: [...objects, service('reviews', [], { namespace: 'shop' })] });
  const reviews = view.services.find((each) => each.host === HOST) as ServiceView;
  return { rule: effectiveRule(view.destinationRules, { namespace, labels }, reviews), view };
}

const names = (effective: EffectiveRule | undefined) => effective?.origins.map((key) => key.split('/').at(-1));

const only = (label: string, value: string) => ({ workloadSelector: { matchLabels: { [label]: value } } });

const ROWS: readonly (readonly [
  string,
  readonly MeshObject[],
  string,
  Record<string, string> | undefined,
  string[]?,
])[] = [
  ['the client’s namespace before the service’s', [rule('a', {}, 'client'), rule('b')], 'client', {}, ['a']],
  ['the service’s before the root’s', [rule('a', {}, 'istio-system'), rule('b')], 'client', {}, ['b']],
  ['the root’s at last', [rule('a', {}, 'istio-system')], 'client', {}, ['a']],
  ['a third namespace never', [rule('a', {}, 'third')], 'client', {}],
  [
    'a wildcard of the client’s before an exact host elsewhere',
    [rule('a', { host: '*.local' }, 'client'), rule('b')],
    'client',
    {},
    ['a'],
  ],
  [
    'the longest wildcard',
    [rule('a', { host: '*' }), rule('b', { host: '*.svc.cluster.local' }), rule('c', { host: '*.local' })],
    'client',
    {},
    ['b'],
  ],
  ['an exact host before wildcards', [rule('a', { host: '*.shop.svc.cluster.local' }), rule('b')], 'client', {}, ['b']],
  ['exported to nobody else', [rule('a', { exportTo: ['.'] })], 'client', {}],
  ['exported to a list', [rule('a', { exportTo: ['other', 'client'] })], 'client', {}, ['a']],
  [
    'a private one gives way to a public one of the same host',
    [rule('a', { exportTo: ['.'] }), rule('b', {}, 'shop', 1)],
    'client',
    {},
    ['b'],
  ],
  ['in its own namespace whatever its exportTo', [rule('a', { exportTo: ['other'] })], 'shop', {}, ['a']],
  [
    'root clients: a public rule of the root after the service’s',
    [rule('a', {}, 'istio-system'), rule('b')],
    'istio-system',
    {},
    ['b'],
  ],
  [
    'root clients: a private rule of the root first',
    [rule('a', { exportTo: ['.'] }, 'istio-system'), rule('b')],
    'istio-system',
    {},
    ['a'],
  ],
  ['a selector that selects', [rule('a', only('app', 'x')), rule('b')], 'shop', { app: 'x' }, ['a', 'b']],
  ['a selector that does not', [rule('a', only('app', 'x')), rule('b')], 'shop', { app: 'y' }, ['b']],
  ['a selector is for its own namespace only', [rule('a', only('app', 'x'))], 'client', { app: 'x' }],
  ['the namespace at large is selected by none', [rule('a', only('app', 'x'))], 'shop', undefined],
  [
    'a selector that does not select hides no other host',
    [rule('a', only('app', 'x')), rule('b', { host: '*' })],
    'shop',
    {},
    ['b'],
  ],
  ['an empty selector selects all of its namespace', [rule('a', { workloadSelector: {} })], 'shop', {}, ['a']],
];

test('which rules count for a client', async (t) => {
  for (const [what, objects, namespace, labels, expected] of ROWS) {
    t.same(names(found(objects, namespace, labels).rule), expected, what);
  }
});

test('rules of one host are merged: the oldest policy, the subsets of all, each name once', async (t) => {
  const subset = (name: string, version: string) => ({ name, labels: { version } });
  const { rule: merged } = found(
    [
      rule('younger', { subsets: [subset('v1', 'other'), subset('v2', 'v2')] }, 'shop', 2),
      rule('old', { subsets: [subset('v1', 'v1')], trafficPolicy: undefined }, 'shop', 0),
      rule('older', { host: 'reviews' }, 'shop', 1),
    ],
    'client',
    {},
  );
  t.same(merged?.subsets, [subset('v1', 'v1'), subset('v2', 'v2')]);
  t.same(
    merged?.trafficPolicy,
    { connectionPool: { tcp: { connectTimeout: '5s' } } },
    'of `older`: the oldest has none',
  );
  t.equal(merged?.selective, false);
});

test('a selected workload has the selector’s policy, and subsets of the general rule', async (t) => {
  const objects = [
    rule('general', { subsets: [{ name: 'v1', labels: { version: 'v1' } }] }, 'shop', 0),
    rule('own', only('app', 'x'), 'shop', 5),
  ];
  const selected = found(objects, 'shop', { app: 'x' }).rule;
  t.same(selected?.trafficPolicy, { connectionPool: { tcp: { connectTimeout: '3s' } } });
  t.same(
    selected?.subsets.map(({ name }) => name),
    ['v1'],
  );
  t.equal(selected?.selective, true);
  const other = found(objects, 'shop', { app: 'y' }).rule;
  t.same(other?.trafficPolicy, { connectionPool: { tcp: { connectTimeout: '7s' } } });
  t.equal(ruleVariant(other, { namespace: 'shop', labels: { app: 'y' } }), '');
  t.equal(ruleVariant(selected, { namespace: 'shop', labels: { app: 'x' } }), '~general+own');
});

test('labels that tell workloads apart: of selectors, and those that failoverPriority compares', async (t) => {
  const priority = (...failoverPriority: string[]) => ({ loadBalancer: { localityLbSetting: { failoverPriority } } });
  const objects = [
    rule('a', only('app', 'x')),
    rule('b', {
      host: 'b.example',
      trafficPolicy: { portLevelSettings: [{ port: { number: 1 }, ...priority('tier', 'fixed=1') }] },
      subsets: [{ name: 's', trafficPolicy: priority('topology.kubernetes.io/region', 'ring') }],
    }),
  ];
  const { view } = found(objects, 'shop');
  t.same(distinguishingLabels(view.destinationRules), ['app', 'ring', 'tier']);
  const here = found([rule('c', { trafficPolicy: priority('tier', 'ring') })], 'shop', {});
  t.equal(ruleVariant(here.rule, { namespace: 'shop', labels: { ring: '1' } }), '~ring=1,tier=');
});
