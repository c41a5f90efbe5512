import { request } from 'node:https';
import t from 'tap';
import { until } from '../../../fakes/until.ts';
import { type Harness, startRest, VS, virtualService } from './harness.ts';

const ALL = '/apis/networking.istio.io/v1/virtualservices';
const names = (body: { items: { metadata: { name: string } }[] }) => body.items.map((one) => one.metadata.name);

async function seeded(h: Harness): Promise<void> {
  for (const [name, labels] of Object.entries({
    a: { app: 'x' },
    b: { app: 'y', tier: 'web' },
    c: { app: 'x', tier: 'db' },
    d: {},
  }))
    await h.send('POST', VS, virtualService(name, 100, { labels }));
  await h.send('POST', VS.replace('shop', 'other'), virtualService('z'));
}

t.test('lists: scope, selectors, pages of one moment', async (t) => {
  const h = await startRest(t);
  await seeded(h);
  t.same(
    names((await h.send('GET', ALL)).body),
    ['z', 'a', 'b', 'c', 'd'].sort((x, y) => (x === 'z' ? -1 : y === 'z' ? 1 : x < y ? -1 : 1)),
  );
  const selectors: [string, string[]][] = [
    ['labelSelector=app=x', ['a', 'c']],
    ['labelSelector=app==x,tier', ['c']],
    ['labelSelector=app!=x', ['b', 'd']],
    ['labelSelector=!tier', ['a', 'd']],
    ['labelSelector=app in (x,y),tier notin (db)', ['a', 'b']],
    ['fieldSelector=metadata.name=b', ['b']],
    ['fieldSelector=metadata.name!=b', ['a', 'c', 'd']],
    ['fieldSelector=metadata.namespace=other', []],
  ];
  for (const [query, expected] of selectors)
    t.same(names((await h.send('GET', `${VS}?${encodeURI(query)}`)).body), expected, query);
  const first = await h.send('GET', `${VS}?limit=2`);
  t.same(names(first.body), ['a', 'b']);
  await h.send('DELETE', `${VS}/c`);
  await h.send('POST', VS, virtualService('bb'));
  const second = await h.send('GET', `${VS}?limit=2&continue=${first.body.metadata.continue}`);
  t.same(names(second.body), ['c', 'd'], 'the moment of the first page');
  t.equal(second.body.metadata.resourceVersion, first.body.metadata.resourceVersion);
  t.notOk(second.body.metadata.continue);
  t.same(names((await h.send('GET', `${VS}?limit=1&labelSelector=tier`)).body), ['b'], 'a page counts matches');
  const exact = await h.send(
    'GET',
    `${VS}?resourceVersionMatch=Exact&resourceVersion=${first.body.metadata.resourceVersion}`,
  );
  t.same(names(exact.body), ['a', 'b', 'c', 'd']);
});

t.test('Tables and metadata alone', async (t) => {
  const h = await startRest(t);
  await seeded(h);
  const table = { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json' };
  await h.clock.advance(125_000);
  const { body } = await h.send('GET', VS, undefined, table);
  t.match(body, { kind: 'Table', apiVersion: 'meta.k8s.io/v1', metadata: { resourceVersion: String } });
  t.same(
    body.columnDefinitions.map((one: { name: string }) => one.name),
    ['Name', 'Gateways', 'Hosts', 'Age'],
  );
  t.same(body.rows[0].cells, ['a', '', 'reviews', '2m5s']);
  t.match(body.rows[0].object, { kind: 'PartialObjectMetadata', metadata: { name: 'a' } });
  t.match((await h.send('GET', `${VS}?includeObject=Object`, undefined, table)).body.rows[0].object, {
    kind: 'VirtualService',
  });
  t.match((await h.send('GET', `${VS}/a`, undefined, table)).body, {
    kind: 'Table',
    rows: [{ cells: ['a', '', 'reviews', '2m5s'] }],
  });
  const partial = { accept: 'application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io' };
  const { items } = (await h.send('GET', VS, undefined, partial)).body;
  t.match(items[0], { kind: 'PartialObjectMetadata', metadata: { name: 'a' } });
  t.notOk(items[0].spec);
});

interface Event {
  type: string;
  // biome-ignore lint/suspicious/noExplicitAny: whatever came
  object: any;
}

/** A watch over a real socket; `events` grows. */
function watch(h: Harness, path: string, accept = 'application/json') {
  const events: Event[] = [];
  let head = 0;
  let ended = false;
  const outgoing = request({
    host: '127.0.0.1',
    port: h.rest.port(),
    ca: h.ca,
    path,
    agent: false,
    headers: { authorization: `Bearer ${h.adminToken}`, accept },
  });
  outgoing.once('response', (response) => {
    head = response.statusCode ?? 0;
    response.once('close', () => {
      ended = true;
    });
    response.on('error', () => {});
    let rest = '';
    response.on('data', (chunk) => {
      const lines = `${rest}${chunk}`.split('\n');
      rest = lines.pop() ?? '';
      events.push(...lines.map((line) => JSON.parse(line) as Event));
    });
  });
  outgoing.on('error', () => {});
  outgoing.end();
  const seen = () => events.map((one) => `${one.type} ${one.object.metadata?.name ?? one.object.code ?? ''}`);
  return { events, seen, headers: () => head, ended: () => ended, close: () => outgoing.destroy() };
}

t.test('a watch follows, by selector too, and shows deletions as they were', async (t) => {
  const h = await startRest(t);
  await seeded(h);
  const merge = { 'content-type': 'application/merge-patch+json' };
  const from = (await h.send('GET', VS)).body.metadata.resourceVersion;
  const all = watch(h, `${VS}?watch=true&resourceVersion=${from}`);
  const x = watch(h, `${VS}?watch=1&resourceVersion=${from}&labelSelector=app%3Dx`);
  const one = watch(h, `${VS}/a?watch=true&resourceVersion=${from}`);
  await until(() => all.headers() === 200 && x.headers() === 200 && one.headers() === 200, 'headers before any event');
  await h.send('PATCH', `${VS}/b`, { metadata: { labels: { app: 'x' } } }, merge);
  await h.send('PATCH', `${VS}/a`, { metadata: { labels: { app: 'y' } } }, merge);
  await h.send('POST', VS.replace('shop', 'other'), virtualService('unseen'));
  await h.send('DELETE', `${VS}/b`);
  await until(() => all.events.length === 3 && x.events.length === 3 && one.events.length === 1, 'events');
  t.same(all.seen(), ['MODIFIED b', 'MODIFIED a', 'DELETED b']);
  t.same(x.seen(), ['ADDED b', 'DELETED a', 'DELETED b']);
  t.same(one.seen(), ['MODIFIED a']);
  const last = all.events.at(-1)?.object;
  t.match(last, {
    kind: 'VirtualService',
    metadata: { labels: { app: 'x' }, resourceVersion: String(await h.store.revision()) },
  });
  for (const open of [all, x, one]) open.close();
});

t.test('initial events, bookmarks, Tables, time-out', async (t) => {
  const h = await startRest(t);
  await seeded(h);
  const list = watch(
    h,
    `${VS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=600`,
  );
  await until(() => list.events.length === 5, 'initial events and their end');
  t.same(list.seen().slice(0, 4), ['ADDED a', 'ADDED b', 'ADDED c', 'ADDED d']);
  t.match(list.events[4], {
    type: 'BOOKMARK',
    object: { kind: 'VirtualService', metadata: { annotations: { 'k8s.io/initial-events-end': 'true' } } },
  });
  await h.send('POST', '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'x' } });
  await h.clock.advance(61_000);
  await until(() => list.events.length === 6, 'a bookmark');
  t.match(
    list.events[5],
    { type: 'BOOKMARK', object: { metadata: { resourceVersion: String(await h.store.revision()) } } },
    'progress past other kinds',
  );
  await h.clock.advance(600_000);
  await until(() => list.ended(), 'its time is over');
  const table = watch(h, `${VS}?watch=true&resourceVersion=0`, 'application/json;as=Table;v=v1;g=meta.k8s.io');
  await until(() => table.events.length === 4, 'rows');
  t.match(table.events[0]?.object, {
    kind: 'Table',
    columnDefinitions: [{ name: 'Name' }, {}, {}, {}],
    rows: [{ cells: ['a', '', 'reviews', String] }],
  });
  t.equal(table.events[1]?.object.columnDefinitions, null, 'columns once');
  table.close();
});

t.test('a revision that history has lost: an ERROR event with 410; too many watches: 429; stop ends all', async (t) => {
  const h = await startRest(t, { maxWatches: 1 });
  const future = watch(h, `${VS}?watch=true&resourceVersion=9999`);
  await until(() => future.ended(), 'its end');
  t.match(future.events, [{ type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired' } }]);
  const open = watch(h, `${VS}?watch=true`);
  await until(() => open.headers() === 200, 'the watch');
  t.match((await h.send('GET', `${VS}?watch=true`)).body, { code: 429 });
  await h.rest.stop();
  await until(() => open.ended(), 'its end');
});
