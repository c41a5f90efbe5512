// Random VirtualServices: whatever the controller accepts, the agent translates without throwing, and into messages that Envoy has.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { test } from 'tap';
import { TYPE_URLS } from '../../../../agent/translate/resource-set.ts';
import { translate } from '../../../../agent/translate/translate.ts';
import { loadMessages } from '../../../../agent/xds/messages.ts';
import { kindByName } from '../../../../api/resources/registry.ts';
import { fieldSchemas } from '../../../../api/resources/schemas.ts';
import type { StructuralSchema } from '../../../../api/resources/structural.ts';
import { validateObject } from '../../../../api/resources/validate.ts';
import { group, meshView, object, service } from '../mesh-view/build-mesh.ts';

/** Values that a field of that name may well have; some of them wrong. */
const WORDS: Readonly<Record<string, readonly unknown[]>> = {
  host: ['reviews', 'db', 'nowhere', '*.wild.example', 'x.y'],
  hosts: ['reviews', 'db', 'made.up', '*.made.up', 'a.wild.example', '*.wild.example'],
  sniHosts: ['db', 'made.up', 'x.made.up', '*.made.up'],
  gateways: ['mesh'],
  exportTo: ['*', '.', 'default'],
  destinationSubnets: ['240.240.0.0/16', '10.0.0.1', 'fd00::/8'],
  timeout: ['1s', '0.5s', '100ms'],
  perTryTimeout: ['1s'],
  backoff: ['10ms'],
  fixedDelay: ['1s'],
  maxAge: ['1h'],
  retryOn: ['5xx', '503,reset', 'retriable-status-codes'],
  grpcStatus: ['UNAVAILABLE', 'OK'],
  httpStatus: [200, 418, 503],
  status: [200, 404],
  redirectCode: [301, 302, 308],
  scheme: ['http', 'https'],
  derivePort: ['FROM_REQUEST_PORT', 'FROM_PROTOCOL_DEFAULT'],
  unmatchedPreflights: ['IGNORE', 'FORWARD', 'UNSPECIFIED'],
  allowMethods: ['GET', 'PUT'],
  regex: ['.*', '/a/[a-z]+', '(x|y)'],
  match: ['^/a', '(x)(y)'],
  rewrite: ['/b', '\\2\\1'],
  bytes: ['aGk='],
  port: [80, 81, 5432],
  number: [80, 5432, 8443],
  weight: [0, 1, 50],
  attempts: [0, 1, 3],
  percent: [0, 50, 100],
  value: [0, 0.5, 100],
  namespace: ['default', 'shop', 'nobody'],
  name: ['d', 'n'],
  sourceNamespace: ['default', 'shop'],
  subset: ['v1', 'v2'],
  sourceLabels: ['web', 'x'],
  allowHeaders: ['x-a', '*'],
  exposeHeaders: ['x-a'],
  remove: ['x-a', 'b'],
};

function arbitrary(schema: StructuralSchema, field: string): fc.Arbitrary<unknown> {
  const words = WORDS[field];
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum.filter((one) => one !== ''));
  switch (schema.type) {
    case 'array':
      return fc.array(arbitrary(schema.items ?? {}, field), { maxLength: 2 });
    case 'string':
      return words === undefined ? fc.constantFrom('a', 'x-a', '/p', '%PROTOCOL%') : fc.constantFrom(...words);
    case 'number':
      return words === undefined ? fc.constantFrom(0, 1, 100) : fc.constantFrom(...words);
    case 'boolean':
      return fc.boolean();
    default:
      return record(schema, field);
  }
}

/** More would seldom be accepted. */
const seldom = (value: fc.Arbitrary<unknown>) =>
  fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: value });

function record(schema: StructuralSchema, field = ''): fc.Arbitrary<unknown> {
  if (schema.additionalProperties !== undefined) {
    return fc.dictionary(fc.constantFrom('a', 'x-b', 'host'), arbitrary(schema.additionalProperties, field), {
      maxKeys: 2,
    });
  }
  const oneOf = (schema.oneOf ?? []) as readonly { readonly required?: readonly string[] }[];
  const alternatives = oneOf.flatMap((one) => one.required ?? []);
  const fields = Object.entries(schema.properties ?? {});
  const model = Object.fromEntries(
    fields.map(([name, child]) => {
      const needed = schema.required?.includes(name) === true;
      return [name, needed ? arbitrary(child, name) : seldom(arbitrary(child, name))];
    }),
  );
  return fc.record(model).chain((value) => {
    if (alternatives.length === 0) return fc.constant(value);
    const others = Object.fromEntries(Object.entries(value).filter(([key]) => !alternatives.includes(key)));
    return fc
      .constantFrom(...alternatives)
      .map((key) => ({ ...others, ...(value[key] === undefined ? {} : { [key]: value[key] }) }));
  });
}

const to = fc.constantFrom<object>(
  { host: 'reviews' },
  { host: 'reviews', subset: 'v1' },
  { host: 'db', port: { number: 8443 } },
);
const ACTIONS = ['route', 'redirect', 'directResponse', 'delegate', 'rewrite', 'fault', 'mirror', 'mirrors'];

/** An http rule with one action, and a few of the fields that go with it. */
function rule(schema: StructuralSchema): fc.Arbitrary<unknown> {
  const properties = schema.properties ?? {};
  const rest = Object.fromEntries(Object.entries(properties).filter(([name]) => !ACTIONS.includes(name)));
  const one = (name: string) => arbitrary(properties[name] ?? {}, name).map((value) => ({ [name]: value }));
  const route = fc.array(fc.record({ destination: to, weight: fc.constantFrom(1, 2) }), { minLength: 1, maxLength: 2 });
  const routed = fc.record({
    route,
    more: fc.oneof(fc.constant({}), ...['rewrite', 'fault', 'mirror', 'mirrors'].map(one)),
  });
  const action = fc.oneof(
    routed.map(({ route, more }) => ({ route, ...more })),
    ...['redirect', 'directResponse', 'delegate'].map(one),
  );
  const extra = record({ type: 'object', properties: rest });
  return fc.tuple(extra, action).map(([fields, action]) => ({ ...(fields as object), ...action }));
}

const MESH = [
  group('web', {}),
  group('reviews', { http: 9080, tcp: 5432 }),
  service('reviews', [
    { name: 'http', port: 80, targetPort: 9080 },
    { name: 'http-b', port: 81, targetPort: 9080 },
  ]),
  service(
    'db',
    [
      { name: 'tcp', port: 5432 },
      { name: 'tls', port: 8443, targetPort: 5432 },
    ],
    { app: 'reviews' },
  ),
  object('ServiceEntry', 'wild', {
    hosts: ['*.wild.example'],
    ports: [{ number: 80, name: 'http', protocol: 'HTTP' }],
  }),
  object('DestinationRule', 'r', { host: 'reviews', subsets: [{ name: 'v1', labels: { v: '1' } }] }),
  object(
    'VirtualService',
    'd',
    { http: [{ match: [{ uri: { prefix: '/p' } }], route: [{ destination: { host: 'db' } }] }] },
    { namespace: 'shop' },
  ),
];

const TYPES = {
  route: TYPE_URLS.route,
  listener: TYPE_URLS.listener,
  extension: TYPE_URLS.extension,
  cluster: TYPE_URLS.cluster,
};

test('what is accepted can be translated and encoded', async (t) => {
  const file = fileURLToPath(new URL('../../../../build/envoy/descriptors.pb', import.meta.url));
  t.ok(existsSync(file));
  const messages = loadMessages(file);
  const schema = fieldSchemas(kindByName('VirtualService') as NonNullable<ReturnType<typeof kindByName>>)
    .spec as StructuralSchema;
  const counts = { accepted: 0, refused: 0 };
  const spec = fc.record({
    hosts: fc.constant(['reviews', 'made.up', '*.wild.example', 'db']),
    http: fc.array(rule(schema.properties?.http?.items ?? {}), { minLength: 1, maxLength: 2 }),
    tcp: fc.array(arbitrary(schema.properties?.tcp?.items ?? {}, ''), { maxLength: 1 }),
  });
  fc.assert(
    fc.property(spec, (value) => {
      const input = {
        apiVersion: 'networking.istio.io/v1',
        kind: 'VirtualService',
        metadata: { name: 'it' },
        spec: value,
      };
      const { object: accepted } = validateObject(JSON.parse(JSON.stringify(input)));
      counts[accepted === undefined ? 'refused' : 'accepted'] += 1;
      if (accepted === undefined) return;
      const view = meshView({
        objects: [...MESH, accepted],
        hosts: [{ id: 'a', addresses: ['10.0.0.1'], groups: ['default/web'] }],
      });
      const { resources } = translate(view);
      for (const [type, url] of Object.entries(TYPES)) {
        for (const { body } of resources[type as keyof typeof TYPES].values())
          messages.encodeResource(url.replace('type.googleapis.com/', ''), body);
      }
    }),
    { numRuns: Number(process.env.RUNS ?? 300), seed: Number(process.env.SEED ?? 7) },
  );
  t.ok(counts.accepted > counts.refused / 9, JSON.stringify(counts));
});
