import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { analyzePushed } from '../../../../api/resources/analysis/analyze.ts';
import { meshFacts } from '../../../../api/resources/analysis/model.ts';
import { keyOf, type MeshObject } from '../../../../api/resources/object.ts';
import { openapiSchemas } from '../../../../api/resources/openapi.ts';
import {
  apiVersionOf,
  displayName,
  findKind,
  groups,
  KINDS,
  kindByName,
  kindByResource,
  kindOf,
  resourcePath,
} from '../../../../api/resources/registry.ts';
import { fieldSchemas } from '../../../../api/resources/schemas.ts';
import { generateSchemas } from '../../../../scripts/gen-schemas.ts';

t.test('every kind of the design is there, under names that do not clash', async (t) => {
  const wanted =
    'ServiceEntry WorkloadEntry WorkloadGroup VirtualService DestinationRule Gateway Sidecar PeerAuthentication RequestAuthentication ' +
    'AuthorizationPolicy Telemetry ProxyConfig Service ServiceAccount Namespace Secret MeshConfig Host JoinToken';
  for (const name of wanted.split(' ')) t.ok(kindByName(name), name);
  t.equal(KINDS.length, wanted.split(' ').length);
  const typed = KINDS.flatMap((info) => [...new Set([info.plural, info.singular, ...info.shortNames])]);
  t.equal(new Set(typed).size, typed.length, 'plural, singular and short names are unique');
  for (const info of KINDS.filter((one) => one.stored)) {
    const schemas = fieldSchemas(info);
    for (const field of info.fields.filter((one) => one !== 'spec' || info.kind !== 'Namespace')) {
      if (info.kind !== 'Namespace') t.ok(schemas[field], `${info.kind}.${field} has a schema`);
    }
  }
});

t.test('look-ups', async (t) => {
  for (const typed of [
    'vs',
    'virtualservice',
    'virtualservices',
    'VirtualService',
    'virtualservices.networking.istio.io',
  ])
    t.equal(findKind(typed)?.kind, 'VirtualService', typed);
  t.equal(findKind('pods'), undefined);
  t.equal(kindOf('networking.istio.io/v1alpha3', 'Gateway')?.plural, 'gateways');
  t.equal(kindOf('networking.istio.io/v1', 'ProxyConfig'), undefined);
  t.equal(kindOf('v1', 'Gateway'), undefined);
  t.equal(kindByResource('', 'v1', 'services')?.kind, 'Service');
  t.equal(kindByResource('networking.istio.io', 'v1beta1', 'proxyconfigs')?.kind, 'ProxyConfig');
  const vs = findKind('vs');
  t.ok(vs);
  if (vs === undefined) return;
  t.equal(resourcePath(vs, 'shop', 'a'), '/apis/networking.istio.io/v1/namespaces/shop/virtualservices/a');
  t.equal(resourcePath(vs), '/apis/networking.istio.io/v1/virtualservices');
  t.equal(resourcePath(vs, '../x', 'a/b'), '/apis/networking.istio.io/v1/namespaces/..%2Fx/virtualservices/a%2Fb');
  t.equal(displayName(vs, 'a'), 'virtualservice.networking.istio.io/a');
  t.equal(resourcePath(kindByName('Namespace') as never, undefined, 'a'), '/api/v1/namespaces/a');
  t.same(groups().find(({ group }) => group === 'networking.istio.io')?.versions, ['v1', 'v1beta1', 'v1alpha3']);
});

t.test('the committed schemas are what the model packages say', async (t) => {
  const path = join(import.meta.dirname, '../../../../api/resources/schemas.json');
  t.same(JSON.parse(readFileSync(path, 'utf8')), generateSchemas(), 'run: node scripts/gen-schemas.ts');
});

t.test('OpenAPI documents cover each group and version', async (t) => {
  for (const { group, versions } of groups()) {
    for (const version of versions) {
      const schemas = openapiSchemas(group === '' ? version : `${group}/${version}`);
      const kinds = KINDS.filter((info) => info.group === group && info.versions.includes(version));
      t.equal(Object.keys(schemas).length, 2 * kinds.length + 1, `${group}/${version}`);
    }
  }
  const vs = openapiSchemas('networking.istio.io/v1')['io.istio.networking.v1.VirtualService'] as Record<
    string,
    unknown
  >;
  t.same(vs['x-kubernetes-group-version-kind'], [
    { group: 'networking.istio.io', version: 'v1', kind: 'VirtualService' },
  ]);
  t.match(vs, {
    properties: { spec: { properties: { http: { items: { properties: { timeout: { type: 'string' } } } } } } },
  });
  t.same(openapiSchemas('apps/v1'), {});
});

const object = (kind: string, name: string, spec: object, namespace = 'default'): MeshObject => ({
  apiVersion: apiVersionOf(kindByName(kind) as never),
  kind,
  metadata: { name, namespace },
  spec,
});
const messages = (subject: MeshObject, ...others: MeshObject[]): string[] =>
  analyzePushed(subject, meshFacts([subject, ...others], true)).map(({ path, message }) => `${path}: ${message}`);

t.test('what looks wrong beside the rest of the mesh is a warning', async (t) => {
  const route = (host: string, subset?: string) => ({ http: [{ route: [{ destination: { host, subset } }] }] });
  const reviews = object('Service', 'reviews', { selector: { app: 'reviews' }, ports: [{ name: 'http', port: 80 }] });
  const group = object('WorkloadGroup', 'reviews', {
    metadata: { labels: { app: 'reviews' } },
    template: { ports: { http: 80 } },
  });
  const subsets = object('DestinationRule', 'reviews', { host: 'reviews', subsets: [{ name: 'v1' }] });
  const vs = object('VirtualService', 'a', { hosts: ['reviews'], ...route('reviews', 'v1') });
  t.same(messages(vs, reviews, subsets), []);
  t.match(messages(vs, reviews), [
    /route\[0\].destination.subset: subset v1 of reviews.default.svc.cluster.local is not known/,
  ]);
  t.match(messages(vs), [/destination.host: host reviews/]);
  const elsewhere = object('VirtualService', 'a', { hosts: ['reviews'], ...route('reviews', 'v1') }, 'shop');
  t.equal(messages(elsewhere, reviews, subsets).length, 1, 'a short name is of the object’s own namespace');
  const twin = object('VirtualService', 'b', { hosts: ['reviews.default.svc.cluster.local'], ...route('reviews') });
  t.match(messages(vs, reviews, subsets, twin), [/spec.hosts\[0\]: VirtualService default\/b has host/]);
  const other = object('VirtualService', 'b', { hosts: ['reviews'], gateways: ['gw'], ...route('reviews') });
  t.same(messages(vs, reviews, subsets, other), [], 'other gateways do not meet');
  t.same(messages(reviews, group), []);
  t.match(messages(reviews), [/spec.selector: no WorkloadGroup/]);
  t.match(messages(subsets), [/spec.host: host reviews/]);
  const second = object('DestinationRule', 'more', { host: 'reviews.default.svc.cluster.local' });
  t.match(messages(subsets, reviews, second), [/spec.host: DestinationRule default\/more is for/]);
  const external = object('ServiceEntry', 'e', { hosts: ['*.example.com'] });
  const out = object('VirtualService', 'o', { hosts: ['x.example.com'], ...route('x.example.com') });
  t.same(messages(out, external), []);
  t.equal(keyOf(external), 'ServiceEntry/default/e');
});
