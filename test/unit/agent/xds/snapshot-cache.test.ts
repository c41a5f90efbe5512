import { test } from 'tap';
import { type ResourceSet, TYPE_URLS, type XdsResource } from '../../../../agent/translate/resource-set.ts';
import type { Messages } from '../../../../agent/xds/messages.ts';
import { secretEntry } from '../../../../agent/xds/secrets.ts';
import { createEntry, createSnapshotCache, SERVED_TYPES } from '../../../../agent/xds/snapshot-cache.ts';
import { cluster, endpoint, listener, messages, policy, proxy, resourceSet, route } from '../../../builders/xds.ts';

const all = (timeout = '1s'): XdsResource[] => [
  cluster('a', timeout),
  endpoint('a', 1),
  listener('l', 80, { route: 'r', policy: 'p', proxy: 'x' }),
  route('r', 'a', ['VirtualService/n/one']),
  policy('p', 'p'),
  proxy('x', 'a'),
];

/** Messages that count what they encode. */
function counting(): { messages: Messages; encoded: string[] } {
  const encoded: string[] = [];
  return {
    encoded,
    messages: {
      ...messages,
      encodeResource(url, json) {
        encoded.push((json as { name?: string; cluster_name?: string }).name ?? 'endpoints');
        return messages.encodeResource(url, json);
      },
    },
  };
}

test('a version is the content’s: another agent, and another order of keys, come to the same one', async (t) => {
  const one = createEntry(messages, cluster('a'));
  const turned: XdsResource = {
    ...cluster('a'),
    body: Object.fromEntries(Object.entries(cluster('a').body as object).reverse()),
  };
  t.equal(createEntry(messages, turned).version, one.version);
  t.not(createEntry(messages, cluster('a', '2s')).version, one.version);
  t.match(one.version, /^[\w-]{22}$/);
  t.same(messages.decodeResource(TYPE_URLS.cluster, one.bytes), cluster('a').body);
});

test('what an entry says of itself', async (t) => {
  const named: XdsResource = {
    ...cluster('a'),
    body: { name: 'a', type: 'EDS', eds_cluster_config: { service_name: 'other' } },
  };
  for (const { resource, edsName, needsClusters } of [
    { resource: cluster('a'), edsName: 'a', needsClusters: undefined },
    { resource: named, edsName: 'other', needsClusters: undefined },
    {
      resource: { ...cluster('a'), body: { name: 'a', type: 'STATIC' } },
      edsName: undefined,
      needsClusters: undefined,
    },
    { resource: endpoint('a', 1), edsName: undefined, needsClusters: undefined },
    { resource: route('r', 'a'), edsName: undefined, needsClusters: undefined },
    { resource: policy('p', 'p'), edsName: undefined, needsClusters: undefined },
    { resource: proxy('x', 'a'), edsName: undefined, needsClusters: true },
  ] as const) {
    const entry = createEntry(messages, resource);
    t.equal(entry.edsName, edsName, resource.name);
    t.equal(entry.needsClusters, needsClusters, resource.name);
  }
});

test('equal types are the same Map, equal entries the same object, and nothing is encoded twice', async (t) => {
  const { messages: counted, encoded } = counting();
  const cache = createSnapshotCache(counted);
  const resources = all();
  const first = cache.next(resourceSet(1, resources));
  t.equal(encoded.length, 6);
  t.strictSame([...first.edsNames], ['a']);
  const second = cache.next(resourceSet(2, resources));
  t.equal(encoded.length, 6, 'the same objects are not looked into');
  t.equal(second.generation, 2);
  for (const type of SERVED_TYPES) t.equal(second.entries[type], first.entries[type], type);
  t.equal(second.edsNames, first.edsNames);
  const third = cache.next(resourceSet(3, all()));
  t.equal(encoded.length, 12, 'other objects are');
  for (const type of SERVED_TYPES) t.equal(third.entries[type], first.entries[type], `${type}, equal objects`);
  const fourth = cache.next(resourceSet(4, [...all('2s'), cluster('b')]));
  t.not(fourth.entries.cluster, first.entries.cluster);
  t.strictSame([...fourth.edsNames], ['a', 'b']);
  for (const type of ['endpoint', 'listener', 'route', 'extension'] as const)
    t.equal(fourth.entries[type], first.entries[type], type);
  const fifth = cache.next(resourceSet(5, [cluster('b')]));
  t.strictSame([...fifth.entries.cluster.keys()], ['b'], 'a type that only lost something is another Map');
  t.equal(fifth.entries.cluster.get('b'), fourth.entries.cluster.get('b'), 'with the same entry');
});

test('origins alone make another entry of the same version', async (t) => {
  const cache = createSnapshotCache(messages);
  const first = cache.next(resourceSet(1, [route('r', 'a', ['VirtualService/n/one'])]));
  const second = cache.next(resourceSet(2, [route('r', 'a', ['VirtualService/n/two'])]));
  t.not(second.entries.route, first.entries.route);
  t.strictSame(second.entries.route.get('r')?.origins, ['VirtualService/n/two']);
  t.equal(second.entries.route.get('r')?.version, first.entries.route.get('r')?.version);
});

test('a resource that cannot be encoded is named, and the rest goes on', async (t) => {
  const cache = createSnapshotCache(messages);
  const good = cache.next(resourceSet(1, [cluster('a'), cluster('b')]));
  const typo: XdsResource = { ...cluster('b'), body: { name: 'b', nme: 1 }, origins: ['DestinationRule/n/b'] };
  const mixed = cache.next(resourceSet(2, [cluster('a'), typo]));
  t.strictSame([...mixed.entries.cluster.keys()], ['a']);
  t.match(mixed.unencodable, [{ type: 'cluster', name: 'b', origins: ['DestinationRule/n/b'], message: /nme/ }]);
  const again = cache.next(resourceSet(3, [cluster('a'), cluster('b')]));
  t.strictSame(again.unencodable, []);
  t.equal(again.entries.cluster.get('a'), good.entries.cluster.get('a'));
  const only = cache.next({
    ...resourceSet(4, []),
    resources: { ...resourceSet(4, []).resources, route: new Map([['x', typo]]) },
  } as ResourceSet);
  t.equal(only.unencodable.length, 1);
});

test('secrets: what Envoy is given under a name', async (t) => {
  const decoded = (material: Parameters<typeof secretEntry>[2]) =>
    messages.decodeResource(TYPE_URLS.secret, secretEntry(messages, 'n', material).bytes);
  t.strictSame(decoded({ certificateChainPem: 'chain', privateKeyPem: 'key' }), {
    name: 'n',
    tls_certificate: { certificate_chain: { inline_string: 'chain' }, private_key: { inline_string: 'key' } },
  });
  t.strictSame(decoded({ trustedCaPem: 'ca', validation: { max_verify_depth: 2 } }), {
    name: 'n',
    validation_context: { trusted_ca: { inline_string: 'ca' }, max_verify_depth: 2 },
  });
  t.throws(() => decoded({ trustedCaPem: 'ca', validation: { typo: 1 } }), { code: 'XDS_ENCODE' });
  const [one, two] = ['k1', 'k2'].map((privateKeyPem) =>
    secretEntry(messages, 'n', { certificateChainPem: 'c', privateKeyPem }),
  );
  t.not(one?.version, two?.version, 'a key alone is another version');
  t.strictSame(one?.origins, []);
});
