import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { test } from 'tap';
import { createMessages, loadMessages } from '../../../../agent/xds/messages.ts';
import { hasCode, type MeshError } from '../../../../api/errors.ts';

const SET = fileURLToPath(new URL('../../../../build/envoy/descriptors.pb', import.meta.url));
const messages = loadMessages(SET);
const URL_OF = (name: string) => `type.googleapis.com/${name}`;
const CLUSTER = URL_OF('envoy.config.cluster.v3.Cluster');

const HTTP_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
const cluster = {
  name: 'outbound|80||a.default.svc.cluster.local',
  type: 'EDS',
  connect_timeout: '1.500s',
  eds_cluster_config: { eds_config: { ads: {}, resource_api_version: 'V3' } },
  per_connection_buffer_limit_bytes: 0,
  circuit_breakers: { thresholds: [{ max_connections: 4294967295 }, { priority: 'HIGH' }] },
  metadata: { filter_metadata: { istio: { list: [1.5, null, true, { nested: 'é' }], no: false } } },
  typed_extension_protocol_options: {
    [HTTP_OPTIONS]: {
      '@type': URL_OF(HTTP_OPTIONS),
      explicit_http_config: { http2_protocol_options: { max_concurrent_streams: 100 } },
    },
  },
};

test('what was encoded decodes to the same JSON', async (t) => {
  const cases: [string, unknown][] = [
    ['envoy.config.cluster.v3.Cluster', cluster],
    ['google.protobuf.Duration', '-0.000000001s'],
    ['google.protobuf.Timestamp', '2026-11-25T04:19:00.120Z'],
    ['google.protobuf.FieldMask', 'fooBar.baz,q'],
    ['google.protobuf.BoolValue', false],
    ['google.protobuf.UInt64Value', '18446744073709551615'],
    ['google.protobuf.Int64Value', '-9223372036854775808'],
    ['google.protobuf.BytesValue', '/+8='],
    ['google.protobuf.DoubleValue', '-Infinity'],
    ['google.protobuf.Struct', { _x: null, b: [], c: {} }],
    ['google.protobuf.Any', { '@type': URL_OF('google.protobuf.StringValue'), value: 'x' }],
    ['envoy.config.core.v3.DataSource', { inline_bytes: 'AAE=' }],
    ['envoy.config.core.v3.DataSource', { inline_string: '' }],
    ['envoy.service.discovery.v3.DeltaDiscoveryRequest', { initial_resource_versions: { a: '', b: 'v1' } }],
  ];
  for (const [name, json] of cases) {
    t.strictSame(messages.decodeResource(name, messages.encodeResource(URL_OF(name), json)), json, name);
  }
});

test('bytes do not depend on the order of keys, defaults without presence are left out', async (t) => {
  const reversed = Object.fromEntries(Object.entries(cluster).reverse());
  t.same(messages.encodeResource(CLUSTER, reversed), messages.encodeResource(CLUSTER, cluster));
  t.equal(
    messages.encodeResource(CLUSTER, { name: '', type: 'STATIC', respect_dns_ttl: false }).length,
    2,
    'a oneof member stays',
  );
});

test('parts that were encoded before give the same bytes, whatever they were part of', async (t) => {
  const host = { name: 'a', domains: ['a'], routes: [{ match: { prefix: '/' }, route: { cluster: 'c' } }] };
  const type = URL_OF('envoy.config.route.v3.RouteConfiguration');
  const config = (...hosts: object[]) => ({ name: 'r', virtual_hosts: hosts });
  const fresh = (json: unknown) => loadMessages(SET).encodeResource(type, structuredClone(json));
  for (const json of [config(host), config({ ...host, name: 'b' }, host), config(host, host)])
    t.same(Buffer.from(messages.encodeResource(type, json)), Buffer.from(fresh(json)));
  // the same object, in a field of another type: only its name is a field there
  const named = { name: 'x' };
  messages.encodeResource(type, config(named));
  const chain = { name: 'l', filter_chains: [named] };
  const listener = URL_OF('envoy.config.listener.v3.Listener');
  t.same(
    Buffer.from(messages.encodeResource(listener, chain)),
    Buffer.from(loadMessages(SET).encodeResource(listener, structuredClone(chain))),
  );
  const wrong = { ...host, nope: 1 };
  for (let twice = 0; twice < 2; twice++)
    t.throws(() => messages.encodeResource(type, config(host, wrong)), { message: /^virtual_hosts\[1\]: / });
});

test('an independent encoder makes messages of the same meaning', async (t) => {
  const require = createRequire(import.meta.url);
  const protobuf = require('protobufjs') as typeof import('protobufjs');
  require('protobufjs/ext/descriptor');
  const { fromJson } = require('protobufjs/ext/protojson') as {
    fromJson(type: unknown, json: unknown): Record<string, unknown>;
  };
  const root = (
    protobuf.Root as unknown as { fromDescriptor(set: Uint8Array): import('protobufjs').Root }
  ).fromDescriptor(readFileSync(SET));
  const type = root.lookupType('envoy.config.cluster.v3.Cluster');
  const theirs = type.encode(fromJson(type, cluster)).finish();
  t.strictSame(
    messages.decodeResource(CLUSTER, theirs),
    messages.decodeResource(CLUSTER, messages.encodeResource(CLUSTER, cluster)),
  );
});

test('what is not exactly right is refused with its path', async (t) => {
  const deep = (n: number): unknown => (n === 0 ? 1 : [deep(n - 1)]);
  const cases: [unknown, string, RegExp][] = [
    [{ nme: 'x' }, '', /no field nme/],
    [{ connectTimeout: '1s' }, '', /no field connectTimeout/],
    [{ name: 1 }, 'name', /string expected/],
    [{ name: null }, 'name', /string expected, got null/],
    [{ name: '\ud800' }, 'name', /Unicode/],
    [[], '', /Cluster expected, got a list/],
    [{ type: 'FOO' }, 'type', /no value FOO/],
    [{ type: 77 }, 'type', /no value 77/],
    [{ type: 'EDS', cluster_type: { name: 'x' } }, '', /only one of cluster_discovery_type/],
    [{ connect_timeout: '1' }, 'connect_timeout', /duration/],
    [{ connect_timeout: '1.1234567891s' }, 'connect_timeout', /duration/],
    [{ connect_timeout: '999999999999s' }, 'connect_timeout', /duration/],
    [{ respect_dns_ttl: 'true' }, 'respect_dns_ttl', /true or false/],
    [{ circuit_breakers: { thresholds: {} } }, 'circuit_breakers.thresholds', /list expected/],
    [
      { circuit_breakers: { thresholds: [{}, { max_retries: -1 }] } },
      'circuit_breakers.thresholds[1].max_retries',
      /range/,
    ],
    [
      { circuit_breakers: { thresholds: [{ max_retries: 1.5 }] } },
      'circuit_breakers.thresholds[0].max_retries',
      /integer/,
    ],
    [
      { circuit_breakers: { thresholds: [{ max_retries: 4294967296 }] } },
      'circuit_breakers.thresholds[0].max_retries',
      /range/,
    ],
    [{ transport_socket: { typed_config: { value: 1 } } }, 'transport_socket.typed_config', /@type/],
    [
      { transport_socket: { typed_config: { '@type': URL_OF('no.Such') } } },
      'transport_socket.typed_config',
      /unknown type/,
    ],
    [
      { transport_socket: { typed_config: { '@type': URL_OF('google.protobuf.Duration'), value: '1s', x: 1 } } },
      'transport_socket.typed_config',
      /nothing else/,
    ],
    [
      { typed_extension_protocol_options: { k: { '@type': CLUSTER, nme: 1 } } },
      'typed_extension_protocol_options.k',
      /no field nme/,
    ],
    [{ metadata: { filter_metadata: { x: { a: Number.NaN } } } }, 'metadata.filter_metadata.x.a', /number expected/],
    [{ metadata: { filter_metadata: { x: { a: deep(120) } } } }, '', /nested deeper/],
    [
      { dns_resolvers: [{ socket_address: { address: 'x', port_value: '80 ' } }] },
      'dns_resolvers[0].socket_address.port_value',
      /integer/,
    ],
  ];
  for (const [json, path, words] of cases) {
    try {
      messages.encodeResource(CLUSTER, json);
      t.fail(`taken: ${JSON.stringify(json).slice(0, 100)}`);
    } catch (error) {
      t.ok(hasCode(error, 'XDS_ENCODE'), String(error));
      t.match((error as MeshError).message, words);
      if (path !== '') t.equal((error as MeshError).details.path, path);
    }
  }
  t.throws(() => messages.encodeResource('envoy.no.Such', {}), { code: 'XDS_TYPE' });
  t.throws(() => messages.encodeResource('envoy.config.core.v3.DataSource', { inline_bytes: 'A' }), {
    code: 'XDS_ENCODE',
  });
});

test('broken bytes are an error, unknown fields are passed over, an unknown Any keeps its bytes', async (t) => {
  t.throws(() => messages.decodeResource(CLUSTER, new Uint8Array([0x0a, 0x7f, 1])), { code: 'XDS_DECODE' });
  t.strictSame(messages.decodeResource('google.protobuf.Empty', new Uint8Array([0xf8, 0x07, 1])), {});
  const any = { '@type': 'type.googleapis.com/no.Such', value: 'AQ==' };
  const bytes = new Uint8Array([0x0a, any['@type'].length, ...Buffer.from(any['@type']), 0x12, 1, 1]);
  t.strictSame(messages.decodeResource('google.protobuf.Any', bytes), any);
});

test('a set that is missing or broken is named', async (t) => {
  t.throws(() => loadMessages('/nonexistent/descriptors.pb'), {
    code: 'XDS_DESCRIPTORS',
    message: /nonexistent.*fetch-envoy/,
  });
  t.throws(() => createMessages(new Uint8Array([0x0a, 0x05, 1])), { code: 'XDS_DESCRIPTORS' });
  t.throws(() => createMessages(new Uint8Array()), { code: 'XDS_DESCRIPTORS' });
});

test('the types that the mesh stands on are in the pinned Envoy', async (t) => {
  for (const name of [
    'envoy.config.bootstrap.v3.Bootstrap',
    'envoy.extensions.access_loggers.stats.v3.Config',
    'envoy.extensions.filters.http.rbac.v3.RBAC',
    'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
    'envoy.service.discovery.v3.DeltaDiscoveryResponse',
    'google.rpc.Status',
  ])
    t.ok(messages.has(name), name);
});
