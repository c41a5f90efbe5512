// What a push is told of: findings beside the rest of the mesh, within bounds.
import t from 'tap';
import type { Finding } from '../../../../api/resources/analysis/finding.ts';
import { keyOf, type MeshObject } from '../../../../api/resources/object.ts';
import { ADVICE_LIMITS, adviseWithin } from '../../../../controller/rest/advice.ts';
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
