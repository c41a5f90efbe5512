// What a push is told of: findings beside the rest of the mesh, within bounds.
import t from 'tap';
import type { Finding } from '../../../../api/resources/analysis/finding.ts';
import { exportDefaults } from '../../../../api/resources/export-to.ts';
import { keyOf, type MeshObject } from '../../../../api/resources/object.ts';
import { ADVICE_LIMITS, adviseWithin, mayHearOf } from '../../../../controller/rest/advice.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';
import { startRest } from './harness.ts';

const APPLY = '/apis/hostmesh.io/v1/apply';
const NETWORKING = 'networking.istio.io/v1';
const make = (apiVersion: string, kind: string, name: string, spec: object) => ({
  apiVersion,
  kind,
  metadata: { name, namespace: 'shop' },
  spec,
});
const GROUP = make(NETWORKING, 'WorkloadGroup', 'web', {
  metadata: { labels: { app: 'web', version: 'v1' } },
  template: { ports: { http: 8080 } },
});
const SERVICE = make('v1', 'Service', 'web', {
  selector: { app: 'web' },
  ports: [{ name: 'http', port: 80, targetPort: 8080 }],
});
const rule = (name: string, version: string) =>
  make(NETWORKING, 'DestinationRule', name, { host: 'web', subsets: [{ name: 'one', labels: { version } }] });
const route = (name: string, host: string, subset?: string) =>
  make(NETWORKING, 'VirtualService', name, {
    hosts: ['web'],
    http: [{ route: [{ destination: { host, ...(subset === undefined ? {} : { subset }) } }] }],
  });

interface Answer {
  readonly results: readonly { readonly warnings: readonly { readonly code?: string; readonly path: string }[] }[];
}
const told = ({ results }: Answer) =>
  results.map(({ warnings }) => warnings.map(({ code, path }) => `${code} ${path}`));

t.test('a transaction: objects that are legal and of no use', async (t) => {
  const h = await startRest(t);
  const push = async (...objects: unknown[]) => {
    const { code, body } = await h.send('POST', APPLY, { objects });
    t.equal(code, 200, JSON.stringify(body));
    return body;
  };
  t.same(told(await push(GROUP, SERVICE, rule('a', 'v1'), route('a', 'web', 'one'))), [[], [], [], []]);
  t.same(told(await push(rule('a', 'v2'))), [['IST0173 spec.subsets[0]']], 'a subset that no endpoint has');
  t.same(told(await push(route('a', 'web', 'one'))), [['IST0173 spec.http[0].route[0].destination.subset']]);
  t.same(told(await push(route('a', 'nobody'))), [['IST0101 spec.http[0].route[0].destination.host']]);
  t.same(told(await push(rule('b', 'v1'))), [['HM0017 spec.host']], 'an object that overrides another');
  t.same(told(await push(route('b', 'web'))), [['IST0109 spec.hosts[0]']]);
  const idle = {
    ...SERVICE,
    metadata: { name: 'idle', namespace: 'shop' },
    spec: { ...SERVICE.spec, selector: { a: 'b' } },
  };
  t.same(told(await push(idle)), [['HM0013 spec.selector']], 'a service that nobody serves');
  t.notOk('notes' in (await push(GROUP)));
  const dry = await h.send('POST', `${APPLY}?dryRun=All`, { objects: [rule('c', 'v1')] });
  t.same(told(dry.body), [['HM0017 spec.host', 'HM0017 spec.host']], 'in a dry run too');
});

t.test('one object by REST: a Warning header, with the code', async (t) => {
  const h = await startRest(t);
  const path = '/apis/networking.istio.io/v1/namespaces/shop/destinationrules';
  const made = await h.send('POST', path, rule('a', 'v1'));
  t.match(
    [made.headers.warning].flat().join(),
    /^299 - "spec\.host: host web\.shop\.svc\.cluster\.local is not known: .*\[IST0101\]"$/,
  );
  await h.send('POST', APPLY, { objects: [GROUP, SERVICE] });
  const put = await h.send('PUT', `${path}/a`, rule('a', 'v1'));
  t.match(put, { code: 200 });
  t.equal(put.headers.warning, undefined);
});

t.test('the oldest PeerAuthentication counts, which one that is being made is not', async (t) => {
  const h = await startRest(t);
  const policy = (name: string, mode: string) =>
    make('security.istio.io/v1', 'PeerAuthentication', name, { mtls: { mode } });
  await h.send('POST', APPLY, { objects: [GROUP, SERVICE, policy('old', 'PERMISSIVE')] });
  await h.clock.advance(60_000);
  const plain = make(NETWORKING, 'DestinationRule', 'plain', {
    host: 'web',
    trafficPolicy: { tls: { mode: 'DISABLE' } },
  });
  const { body } = await h.send('POST', APPLY, { objects: [policy('a-new', 'STRICT'), plain] });
  t.same(told(body), [['HM0017 spec'], []]);
});

t.test('a principal hears nothing of objects that it may not read and nobody exports', async (t) => {
  const h = await startRest(t);
  const there = (object: object, annotations?: object) => ({
    ...object,
    metadata: { name: 'db', namespace: 'bank', annotations },
  });
  const open = { name: 'open', namespace: 'bank' };
  await h.send('POST', APPLY, {
    objects: [
      there(GROUP),
      there(SERVICE, { 'networking.istio.io/exportTo': '.' }),
      { ...SERVICE, metadata: open },
      { ...rule('x', 'v1'), metadata: open },
      there(make('security.istio.io/v1', 'PeerAuthentication', '', { mtls: { mode: 'STRICT' } })),
    ],
  });
  const plain = (name: string, host: string) =>
    make(NETWORKING, 'DestinationRule', name, {
      host: `${host}.bank.svc.cluster.local`,
      exportTo: ['.'],
      trafficPolicy: { tls: { mode: 'DISABLE' } },
    });
  const shop = await h.as({ namespaces: ['shop'] });
  const push = async (send: typeof shop) => {
    const { body } = await send('POST', `${APPLY}?dryRun=All`, { objects: [plain('a', 'db'), plain('b', 'open')] });
    return body;
  };
  const heard = await push(shop);
  t.same(told(heard), [['IST0101 spec.host'], []], 'as if it were not there; what is exported is');
  t.notMatch(JSON.stringify(heard), /bank\/|PeerAuthentication|STRICT/);
  const all = await push(h.send);
  t.same(told(all), [['IST0113 spec.trafficPolicy.tls'], ['IST0113 spec.trafficPolicy.tls']]);
  t.match(JSON.stringify(all), /PeerAuthentication bank\/db/);
});

t.test('what MeshConfig exports to nobody else is not told of either', async (t) => {
  const h = await startRest(t);
  const private_ = ['defaultServiceExportTo', 'defaultVirtualServiceExportTo', 'defaultDestinationRuleExportTo'];
  const meshConfig = {
    apiVersion: 'hostmesh.io/v1',
    kind: 'MeshConfig',
    metadata: { name: 'default' },
    spec: Object.fromEntries(private_.map((field) => [field, ['.']])),
  };
  const bank = (object: object, name: string) => ({ ...object, metadata: { name, namespace: 'bank' } });
  const theirs = (exportTo?: string[]) => ({
    hosts: ['site.test'],
    http: [{ directResponse: { status: 200 } }],
    exportTo,
  });
  const push = async (send: typeof h.send, ...objects: unknown[]) =>
    (await send('POST', `${APPLY}?dryRun=All`, { objects })).body;
  const probes = [
    make(NETWORKING, 'VirtualService', 'probe', {
      hosts: ['probe.test'],
      exportTo: ['.'],
      http: [{ route: [{ destination: { host: 'db.bank.svc.cluster.local' } }] }],
    }),
    make(NETWORKING, 'DestinationRule', 'probe', { host: 'api.bank.test', exportTo: ['.'] }),
  ];
  const stored = await h.send('POST', APPLY, {
    objects: [
      bank(GROUP, 'web'),
      bank(SERVICE, 'db'),
      bank(
        make(NETWORKING, 'ServiceEntry', '', {
          hosts: ['api.bank.test'],
          resolution: 'NONE',
          ports: [{ number: 443, name: 'tls', protocol: 'TLS' }],
        }),
        'api',
      ),
      bank(make(NETWORKING, 'VirtualService', '', theirs()), 'site'),
    ],
  });
  t.equal(stored.code, 200, JSON.stringify(stored.body));
  const shop = await h.as({ namespaces: ['shop'] });
  const twin = make(NETWORKING, 'VirtualService', 'twin', theirs(['.']));
  t.same(told(await push(shop, ...probes, twin)), [[], [], ['IST0109 spec.hosts[0]']], 'exported to all by default');
  t.equal((await h.send('POST', APPLY, { objects: [meshConfig] })).code, 200);
  const heard = await push(shop, ...probes, twin);
  t.same(told(heard), [['IST0101 spec.http[0].route[0].destination.host'], ['IST0101 spec.host'], []]);
  t.notMatch(JSON.stringify(heard), /bank\//);
  t.same(
    told(await push(h.send, ...probes, twin)),
    [['HM0011 spec.http[0].route[0].destination.host'], [], []],
    'who may know all is told that it is not exported',
  );
});

t.test('of Gateways only those that take the principal’s hosts, of Secrets only its own', async (t) => {
  const h = await startRest(t);
  const EDGE = make(NETWORKING, 'WorkloadGroup', '', { template: { labels: { istio: 'ingressgateway' } } });
  const at = (namespace: string, object: object, name: string, annotations?: object) => ({
    ...object,
    metadata: { name, namespace, annotations },
  });
  const gateway = (hosts: string[], tls?: object) =>
    make(NETWORKING, 'Gateway', '', {
      selector: { istio: 'ingressgateway' },
      servers: [
        { port: { number: 443, name: 'https', protocol: 'HTTPS' }, hosts, tls: tls ?? { mode: 'PASSTHROUGH' } },
      ],
    });
  const stored = await h.send('POST', APPLY, {
    objects: [
      at('edge', EDGE, 'gw', { 'hostmesh.io/gateway': '*' }),
      at('edge', gateway(['bank/a.test']), 'bank'),
      at('edge', gateway(['./a.test']), 'own'),
      at('edge', gateway(['shop/a.test']), 'shop'),
      at('edge', gateway(['*/a.test']), 'all'),
      at('edge', gateway(['a.test']), 'bare'),
      at('istio-system', gateway(['bank/a.test']), 'root'),
    ],
  });
  t.equal(stored.code, 200, JSON.stringify(stored.body));
  const shop = await h.as({ namespaces: ['shop'] });
  const tls = { mode: 'SIMPLE', credentialName: 'cert' };
  const names = async (send: typeof h.send) => {
    const mine = at('shop', gateway(['a.test'], tls), 'mine');
    const { body } = await send('POST', `${APPLY}?dryRun=All`, { objects: [mine] });
    const text = JSON.stringify(body);
    return [...text.matchAll(/(?:Gateway|Secret) ([a-z-]+\/[a-z]+)/g)].map(([, name]) => name);
  };
  t.same(await names(shop), ['edge/shop', 'edge/all', 'edge/bare'].sort());
  t.same(
    await names(h.send),
    ['edge/all', 'edge/bank', 'edge/bare', 'edge/own', 'edge/shop', 'istio-system/root', 'edge/cert'],
    'an admin hears of all, and that the Secret is not there',
  );
  const hears = mayHearOf({ role: 'namespace', namespaces: ['shop'] }, exportDefaults(undefined));
  const secret = (namespace: string) => hears(at(namespace, make('v1', 'Secret', '', {}), 'cert') as never);
  t.same([secret('shop'), secret('edge'), secret('istio-system')], [true, false, false]);
});

t.test('who may not read hears of what it pushes only', async (t) => {
  const h = await startRest(t);
  await h.send('POST', APPLY, { objects: [GROUP, SERVICE, rule('a', 'v1')] });
  const verbs = ['create', 'update', 'apply'] as never;
  for (const send of [await h.as({ verbs }), await h.as({ namespaces: ['shop'], verbs })]) {
    const { code, body } = await send('POST', `${APPLY}?dryRun=All`, { objects: [rule('b', 'v1'), rule('c', 'v9')] });
    t.equal(code, 200, JSON.stringify(body));
    const [both] = told(body);
    t.same(both, ['IST0101 spec.host', 'HM0017 spec.host']);
    t.match(JSON.stringify(body.results[0].warnings), /among the objects of this push.*DestinationRule shop\/c/);
    t.notMatch(JSON.stringify(body), /shop\/a/);
    t.match(body.notes, [/other objects of this push only/]);
  }
});

t.test(
  'an object that asks for millions of comparisons is answered, and said to be unseen where it still is too much',
  async (t) => {
    const h = await startRest(t);
    const times = <T>(count: number, make: (i: number) => T) => Array.from({ length: count }, (_, i) => make(i));
    const gateway = (name: string, hosts: readonly string[]) =>
      make(NETWORKING, 'Gateway', name, {
        selector: { istio: 'gw' },
        servers: [{ port: { number: 80, name: 'http', protocol: 'HTTP' }, hosts }],
      });
    const bound = (gateways: readonly string[]) =>
      make(NETWORKING, 'VirtualService', 'v', {
        hosts: times(1000, (i) => `h${i}.example.com`),
        gateways,
        http: [{ directResponse: { status: 200 } }],
      });
    const g = gateway(
      'g',
      times(1000, (i) => `s${i}.example.com`),
    );
    const push = async (...objects: unknown[]) => (await h.send('POST', `${APPLY}?dryRun=All`, { objects })).body;
    const attack = await push(bound(times(100, () => 'g')), g);
    t.equal(attack.results?.[0].warnings.length, 100, JSON.stringify(attack).slice(0, 500));
    t.notOk('notes' in attack, 'within the steps of an object');
    const most = times(400, (i) => `g${i}`);
    await h.send('POST', APPLY, { objects: most.map((name) => gateway(name, ['*'])) });
    const { results, notes } = await push(bound(most), SERVICE);
    t.same(told({ results }), [[], ['HM0013 spec.selector']]);
    t.match(notes, [/^1 of 2 objects were stored without a look/]);
  },
);

const objects = (count: number) =>
  Array.from({ length: count }, (_, i) => make('v1', 'Service', `s${i}`, {}) as unknown as MeshObject);
const finding = (object: MeshObject): Finding => ({
  severity: 'warning',
  code: 'HM0013',
  object: keyOf(object),
  path: 'spec',
  message: 'idle',
});

t.test('bounded in time, and others have their turn meanwhile', async (t) => {
  let elapsed = 0;
  const clock = { monotonic: () => elapsed };
  const slow = (object: MeshObject) => {
    elapsed += 10;
    return [finding(object)];
  };
  let turns = 0;
  let next: NodeJS.Immediate;
  const turn = () => {
    turns += 1;
    next = setImmediate(turn);
  };
  turn();
  const advice = await adviseWithin(objects(1000), () => slow, clock);
  clearImmediate(next!);
  t.equal(advice.warnings.size, ADVICE_LIMITS.totalMs / 10);
  t.match(advice.note, /^975 of 1000 objects were stored without a look .*meshctl analyze/);
  t.ok(turns > 5, `${turns} turns`);
  t.same((await adviseWithin(objects(20), () => slow, clock)).note, undefined);
});

t.test('bounded in steps: an object, and what comes before the first', async (t) => {
  const clock = createFakeClock();
  const [heavy, ...rest] = objects(5);
  const look = (step: (count?: number) => void) => (object: MeshObject) => {
    for (let i = 0; i < (object === heavy ? 1e9 : 1e6); i += 1000) step(1000);
    return [finding(object)];
  };
  const advice = await adviseWithin([heavy as MeshObject, ...rest], look, clock);
  t.same([...advice.warnings.keys()], rest.map(keyOf));
  t.match(advice.note, /^1 of 5 objects were stored without a look/);
  let elapsed = 0;
  const ticking = { monotonic: () => (elapsed += 10) };
  const slow = (step: (count?: number) => void) => {
    for (;;) step();
  };
  t.match((await adviseWithin(rest, slow, ticking)).note, /^4 of 4 objects/);
  t.ok(elapsed < 2 * ADVICE_LIMITS.totalMs);
  await t.rejects(
    adviseWithin(rest, () => () => JSON.parse('{'), clock),
    SyntaxError,
  );
});

t.test('bounded in number', async (t) => {
  const clock = createFakeClock();
  const look = (object: MeshObject) => Array.from({ length: 90 }, () => finding(object));
  const { warnings, note } = await adviseWithin(objects(1000), () => look, clock);
  t.equal([...warnings.values()].flat().length, ADVICE_LIMITS.warnings);
  t.equal(note, 'more than 200 warnings: the rest is left out; meshctl analyze tells all');
  const h = await startRest(t);
  const route = (match: unknown) => ({ match: [match], route: [{ destination: { host: 'web' } }] });
  const shadowed = (name: string) =>
    make(NETWORKING, 'VirtualService', name, {
      hosts: [`${name}.test`],
      http: [{ uri: { prefix: '/' } }, ...Array.from({ length: 60 }, () => ({ uri: { prefix: '/a' } }))].map(route),
    });
  const many = Array.from({ length: 12 }, (_, i) => shadowed(`v${i}`));
  const { body } = await h.send('POST', APPLY, { objects: [GROUP, SERVICE, ...many] });
  t.equal((body as Answer).results.flatMap((one) => one.warnings).length, 500);
  t.same(body.notes, ['220 more warnings are left out']);
});
