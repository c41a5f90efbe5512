// VirtualServices as the view has them: names of hosts and gateways, delegates in their roots' place, which of several is for a host.
import { test } from 'tap';
import { clientView } from '../../../../agent/mesh-view/lookup.ts';
import type { HttpMatch, HttpRoute } from '../../../../agent/mesh-view/specs/virtual-service.ts';
import { gatewayName, gatewayNames } from '../../../../agent/mesh-view/virtual-services.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { cpuMs } from '../../../fakes/cpu-time.ts';
import { meshView, object } from './build-mesh.ts';

const views = (...objects: MeshObject[]) => meshView({ objects }).virtualServices;
const to = (host: string) => [{ destination: { host } }];

/** The rules of root `r` in `default` after the merge with delegate `d` in `shop`. */
function merged(rule: object, delegate: readonly object[], more: object = {}): readonly HttpRoute[] {
  const root = object('VirtualService', 'r', {
    hosts: ['r'],
    http: [{ delegate: { name: 'd', namespace: 'shop' }, ...rule }],
  });
  const other = object('VirtualService', 'd', { http: delegate, ...more }, { namespace: 'shop' });
  const [view] = views(root, other);
  return view?.spec.http ?? [];
}

test('hosts and gateways by their full names', async (t) => {
  const [view] = views(
    object('VirtualService', 'v', {
      hosts: ['Reviews', 'x.example', '*.y'],
      gateways: ['mesh', 'g', 'other/h'],
      http: [],
    }),
  );
  t.same(view?.hosts, ['reviews.default.svc.cluster.local', 'x.example', '*.y']);
  t.same(view?.gateways, ['mesh', 'default/g', 'other/h']);
  t.same(view?.origins, ['VirtualService/default/v']);
  t.same(gatewayNames([], 'n'), ['mesh']);
  t.same(gatewayNames(undefined, 'n'), ['mesh']);
  t.equal(gatewayName('./g', 'n'), 'n/g');
  t.equal(gatewayName('g.istio-system.svc.cluster.local', 'n'), 'istio-system/g');
});

test('a delegate’s rule takes what it does not say from the root’s', async (t) => {
  const root = { timeout: '1s', retries: { attempts: 1 }, headers: { request: { set: { a: 'root' } } }, name: 'root' };
  const [own, plain] = merged(root, [
    { name: 'own', timeout: '2s', headers: { request: { set: { b: 'own' } } }, route: to('x') },
    { route: to('x.y'), mirror: { host: 'm' }, mirrors: [{ destination: { host: 'n' } }] },
  ]);
  t.match(own, {
    name: 'root-own',
    timeout: '2s',
    retries: { attempts: 1 },
    headers: { request: { set: { b: 'own' } } },
  });
  t.notOk('a' in (own?.headers?.request?.set ?? {}), 'whole fields are taken, not parts of them');
  t.same(own?.route, to('x.shop.svc.cluster.local'), 'short names are of the delegate’s namespace');
  t.match(plain, {
    name: 'root',
    timeout: '1s',
    route: to('x.y'),
    mirror: { host: 'm.shop.svc.cluster.local' },
    mirrors: [{ destination: { host: 'n.shop.svc.cluster.local' } }],
  });
  t.notOk('delegate' in (plain ?? {}));
});

const prefix = (value: string) => ({ prefix: value });
const exact = (value: string) => ({ exact: value });

test('matches: the delegate’s must lie within the root’s', async (t) => {
  const rows: readonly (readonly [string, HttpMatch[], HttpMatch[], HttpMatch[] | undefined])[] = [
    ['none at the root', [], [{ uri: prefix('/a') }], [{ uri: prefix('/a') }]],
    ['none at the delegate', [{ uri: prefix('/a') }], [], [{ uri: prefix('/a') }]],
    ['prefix within prefix', [{ uri: prefix('/a') }], [{ uri: prefix('/a/b') }], [{ uri: prefix('/a/b') }]],
    ['exact within prefix', [{ uri: prefix('/a') }], [{ uri: exact('/ab') }], [{ uri: exact('/ab') }]],
    ['a wider prefix', [{ uri: prefix('/a/b') }], [{ uri: prefix('/a') }], undefined],
    ['prefix within exact', [{ uri: exact('/a') }], [{ uri: prefix('/a') }], undefined],
    ['another exact', [{ uri: exact('/a') }], [{ uri: exact('/b') }], undefined],
    ['regex', [{ uri: { regex: '/a' } }], [{ uri: exact('/a') }], undefined],
    [
      'regex that meets nothing',
      [{ method: exact('GET') }],
      [{ uri: { regex: '/a' } }],
      [{ method: exact('GET'), uri: { regex: '/a' } }],
    ],
    [
      'different parts',
      [{ uri: prefix('/a'), port: 80, sourceLabels: { a: '1' } }],
      [{ method: exact('GET'), headers: { x: {} }, sourceLabels: { b: '2' } }],
      [{ uri: prefix('/a'), method: exact('GET'), port: 80, headers: { x: {} }, sourceLabels: { a: '1', b: '2' } }],
    ],
    [
      'maps are joined',
      [{ headers: { a: exact('1') } }],
      [{ headers: { b: exact('2') } }],
      [{ headers: { a: exact('1'), b: exact('2') } }],
    ],
    [
      'a value within presence',
      [{ headers: { a: {} } }],
      [{ headers: { a: exact('1') } }],
      [{ headers: { a: exact('1') } }],
    ],
    ['presence is wider than a value', [{ headers: { a: exact('1') } }], [{ headers: { a: {} } }], undefined],
    ['query parameters', [{ queryParams: { q: exact('1') } }], [{ queryParams: { q: exact('2') } }], undefined],
    [
      'without: more is excluded',
      [{ withoutHeaders: { a: exact('xy') } }],
      [{ withoutHeaders: { a: prefix('x') } }],
      [{ withoutHeaders: { a: prefix('x') } }],
    ],
    [
      'without: less is excluded',
      [{ withoutHeaders: { a: prefix('x') } }],
      [{ withoutHeaders: { a: exact('xy') } }],
      undefined,
    ],
    ['another case rule', [{ uri: prefix('/a') }], [{ uri: prefix('/a'), ignoreUriCase: true }], undefined],
    ['another port', [{ port: 80 }], [{ port: 81 }], undefined],
    ['a port of 0 is none', [{ port: 80 }], [{ port: 0 }], [{ port: 80 }]],
    ['another namespace', [{ sourceNamespace: 'a' }], [{ sourceNamespace: 'b' }], undefined],
    ['names', [{ name: 'r' }], [{ name: 'd' }], [{ name: 'r-d' }]],
    [
      'each under each that covers it',
      [{ uri: prefix('/a') }, { headers: { x: {} } }],
      [{ uri: prefix('/a/b') }],
      [{ uri: prefix('/a/b') }, { headers: { x: {} }, uri: prefix('/a/b') }],
    ],
    [
      'one match that nothing covers takes the rule away',
      [{ uri: prefix('/a') }],
      [{ uri: prefix('/a/b') }, { uri: prefix('/c') }],
      undefined,
    ],
  ];
  for (const [what, root, own, expected] of rows) {
    const [rule] = merged({ match: root }, [{ match: own, route: to('x') }]);
    t.same(rule?.match, expected, what);
  }
});

test('what has no effect: a missing delegate, one that is not exported, a delegate of a delegate', async (t) => {
  const rule = [{ route: to('x') }];
  t.equal(merged({}, rule).length, 1);
  t.equal(merged({}, rule, { exportTo: ['.'] }).length, 0, 'of its own namespace only');
  t.equal(merged({}, rule, { exportTo: ['default'] }).length, 1);
  t.equal(merged({}, rule, { exportTo: ['~'] }).length, 0);
  t.equal(merged({ delegate: { name: 'nobody' } }, rule).length, 0);
  t.equal(merged({}, [{ delegate: { name: 'd' } }, ...rule]).length, 1);
  t.equal(merged({}, rule, { hosts: ['h'] }).length, 0, 'one with hosts is no delegate');
});

test('where each rule was written, and by which objects', async (t) => {
  const [view] = views(
    object('VirtualService', 'r', {
      hosts: ['r'],
      http: [{ route: to('a') }, { match: [{ uri: prefix('/a') }], delegate: { name: 'd' } }],
    }),
    object('VirtualService', 'd', { http: [{ match: [{ uri: prefix('/b') }], route: to('b') }, { route: to('c') }] }),
  );
  t.same(view?.written, [
    { origin: 'VirtualService/default/r', path: 'spec.http[0]' },
    { origin: 'VirtualService/default/d', path: 'spec.http[1]' },
  ]);
  t.same(view?.origins, ['VirtualService/default/r', 'VirtualService/default/d']);
});

test('the VirtualServices of a host: the most specific, then the oldest; exportTo; the mesh’s only', async (t) => {
  const vs = (name: string, created: number, spec: object, namespace?: string) =>
    object(
      'VirtualService',
      name,
      { http: [], ...spec },
      { created, ...(namespace === undefined ? {} : { namespace }) },
    );
  const view = meshView({
    objects: [
      vs('young', 9, { hosts: ['a.x.example'] }),
      vs('old', 1, { hosts: ['a.x.example', 'b.example'] }),
      vs('wild', 0, { hosts: ['*.example'] }),
      vs('wilder', 5, { hosts: ['*.x.example'] }),
      vs('gateway', 0, { hosts: ['a.x.example'], gateways: ['g'] }),
      vs('hidden', 0, { hosts: ['a.x.example'], exportTo: ['.'] }, 'shop'),
      vs('nobody', 0, { hosts: ['a.x.example'], exportTo: ['~'] }),
      vs('named', 8, { hosts: ['b.example'], exportTo: ['shop', 'default'] }, 'shop'),
      vs('own', 9, { hosts: ['b.example'], exportTo: ['.'] }),
      vs('both', 7, { hosts: ['a.x.example'], gateways: ['g', 'mesh'] }),
    ],
  });
  const of = (host: string, namespace = 'default') =>
    clientView(view, namespace)
      .virtualServicesFor(host)
      .map((one) => one.key.split('/').at(-1));
  t.same(of('a.x.example'), ['old', 'both', 'young']);
  t.same(of('a.x.example', 'shop'), ['hidden', 'old', 'both', 'young']);
  t.same(of('b.example'), ['own', 'named', 'old'], 'kept to oneself, exported by name, for everyone');
  t.same(of('b.example', 'shop'), ['named', 'old']);
  t.same(of('b.x.example'), ['wilder']);
  t.same(of('c.example'), ['wild']);
  t.same(of('*.x.example'), ['wilder'], 'a wildcard service');
  t.same(of('*.y.x.example'), ['wilder']);
  t.same(of('else'), []);
});

test('a root and a delegate of thousands of matches do not multiply without bound', async (t) => {
  const many = Array.from({ length: 3000 }, (_, i) => ({ headers: { [`h${i}`]: {} } }));
  const started = cpuMs();
  const rules = merged({ match: many }, [
    { match: many.slice(0, 5), route: to('x') },
    { match: many, route: to('y') },
    { route: to('z') },
  ]);
  t.ok(rules.reduce((sum, rule) => sum + (rule.match?.length ?? 1), 0) <= 20_000);
  t.equal(rules[0]?.match?.length, 15_000, 'what is within the bound stands');
  t.ok(cpuMs() - started < 2000);
});
