import { test } from 'tap';
import { TYPE_URLS, type XdsResource } from '../../../../agent/translate/resource-set.ts';
import { createEntry } from '../../../../agent/xds/snapshot-cache.ts';
import { encodeResponse, parseRequest, typeOfUrl } from '../../../../agent/xds/wire.ts';
import { cluster, endpoint, messages } from '../../../builders/xds.ts';

const REQUEST = 'envoy.service.discovery.v3.DeltaDiscoveryRequest';
const RESPONSE = 'envoy.service.discovery.v3.DeltaDiscoveryResponse';

test('requests: each field, and what stands for one that is not there', async (t) => {
  const empty = { nodeId: '', subscribe: [], unsubscribe: [], initialVersions: {}, nonce: '', error: undefined };
  for (const { json, expected } of [
    { json: { type_url: TYPE_URLS.cluster }, expected: {} },
    {
      json: {
        node: { id: 'sidecar~h~td', cluster: 'h', user_agent_name: 'envoy' },
        type_url: TYPE_URLS.cluster,
        initial_resource_versions: { a: 'v1', b: '', constructor: 'v2' },
      },
      expected: { nodeId: 'sidecar~h~td', initialVersions: { a: 'v1', b: '', constructor: 'v2' } },
    },
    {
      json: {
        type_url: TYPE_URLS.cluster,
        resource_names_subscribe: ['a', 'b'],
        resource_names_unsubscribe: ['c'],
        response_nonce: '7',
      },
      expected: { subscribe: ['a', 'b'], unsubscribe: ['c'], nonce: '7' },
    },
    {
      json: { type_url: TYPE_URLS.cluster, response_nonce: '7', error_detail: { code: 13, message: 'bad a' } },
      expected: { nonce: '7', error: 'bad a' },
    },
    {
      json: { type_url: TYPE_URLS.cluster, response_nonce: '7', error_detail: { code: 13 } },
      expected: { nonce: '7', error: 'code 13' },
    },
    {
      json: { type_url: TYPE_URLS.cluster, response_nonce: '7', error_detail: {} },
      expected: { nonce: '7', error: 'code 0' },
    },
  ]) {
    const parsed = parseRequest(messages, messages.encodeResource(REQUEST, json));
    t.strictSame(parsed, { ...empty, typeUrl: TYPE_URLS.cluster, ...expected });
  }
});

test('a version under the name __proto__ is a name as any other', async (t) => {
  const json = JSON.parse(`{"type_url":"x","initial_resource_versions":{"__proto__":"v"}}`);
  const parsed = parseRequest(messages, messages.encodeResource(REQUEST, json));
  t.strictSame(Object.entries(parsed.initialVersions), [['__proto__', 'v']]);
});

test('what is no request is refused', async (t) => {
  const whole = messages.encodeResource(REQUEST, { type_url: TYPE_URLS.cluster, resource_names_subscribe: ['abc'] });
  for (const [what, bytes] of [
    ['nothing at all: no type', new Uint8Array()],
    ['no type', messages.encodeResource(REQUEST, { resource_names_subscribe: ['a'] })],
    ['cut short', whole.subarray(0, whole.length - 2)],
    ['a length beyond the end', new Uint8Array([0x12, 0xff, 0xff, 0xff, 0xff, 0x0f])],
    ['a wire type that does not exist', new Uint8Array([0x17])],
  ] as const)
    t.throws(() => parseRequest(messages, bytes), { code: 'XDS_DECODE' }, what);
});

test('responses: the same bytes that the whole encoder makes', async (t) => {
  const resources: XdsResource[] = [cluster('a'), cluster('ü'), { ...cluster('x'), body: {} }];
  for (const { type, entries, removed } of [
    { type: 'cluster', entries: resources, removed: [] },
    { type: 'cluster', entries: [], removed: ['a', 'b'] },
    { type: 'endpoint', entries: [endpoint('a', 1, 2)], removed: ['gone'] },
    { type: 'listener', entries: [], removed: [] },
  ] as const) {
    const made = entries.map((resource) => createEntry(messages, resource));
    const bytes = encodeResponse({ type, nonce: '12', entries: made, removed });
    const json = messages.decodeResource(RESPONSE, bytes) as Record<string, unknown>;
    t.strictSame(json, {
      ...(made.length === 0
        ? {}
        : {
            resources: made.map((entry, i) => ({
              version: entry.version,
              resource: { '@type': TYPE_URLS[type], ...(entries[i]?.body as object) },
              name: entry.name,
            })),
          }),
      type_url: TYPE_URLS[type],
      nonce: '12',
      ...(removed.length === 0 ? {} : { removed_resources: removed }),
    });
    t.same(Buffer.from(messages.encodeResource(RESPONSE, json)), Buffer.from(bytes), 'field by field');
  }
});

test('types by URL', async (t) => {
  for (const [type, url] of Object.entries(TYPE_URLS)) t.equal(typeOfUrl(url), type);
  t.equal(typeOfUrl('type.googleapis.com/envoy.service.runtime.v3.Runtime'), undefined);
  t.equal(typeOfUrl('constructor'), undefined);
});
