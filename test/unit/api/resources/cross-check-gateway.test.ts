import { test } from 'tap';
import { crossCheck } from '../../../../api/resources/cross-check.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';

const make = (
  kind: string,
  namespace: string,
  name: string,
  spec: object,
  annotations?: Record<string, string>,
): MeshObject => ({
  apiVersion: 'v1',
  kind,
  metadata: { name, namespace, ...(annotations === undefined ? {} : { annotations }) },
  spec,
});
const edge = (namespace: string, annotations?: Record<string, string>) =>
  make('WorkloadGroup', namespace, 'edge', { template: { labels: { istio: 'ingressgateway' } } }, annotations);
const gateway = (tls?: object, hosts = ['*.example']) =>
  make('Gateway', 'shop', 'gw', { selector: { istio: 'ingressgateway' }, servers: [{ hosts, ...(tls && { tls }) }] });
const secret = (namespace: string, name: string) => make('Secret', namespace, name, {});
const vs = (gateways: string[], hosts = ['a.example']) =>
  make('VirtualService', 'shop', 'vs', { hosts, gateways, http: [{ directResponse: { status: 200 } }] });

const warnings = (object: MeshObject, ...others: MeshObject[]) =>
  crossCheck(object, { list: (kind) => others.filter((one) => one.kind === kind) }).map(
    ({ path, message }) => `${path}: ${message}`,
  );

const CASES: readonly [string, readonly string[], readonly RegExp[]][] = [
  ['a Gateway of its own namespace', warnings(gateway(), edge('shop')), []],
  ['of the root namespace’s gateway', warnings(gateway(), edge('istio-system')), []],
  ['nobody', warnings(gateway()), [/^spec\.selector: no WorkloadGroup/]],
  [
    'nobody who shares',
    warnings(gateway(), edge('other')),
    [/^spec\.selector: WorkloadGroup other\/edge .*does not share/],
  ],
  ['one who shares', warnings(gateway(), edge('other', { 'hostmesh.io/gateway': 'shop' })), []],
  [
    'a Secret in the Gateway’s namespace only',
    warnings(gateway({ mode: 'SIMPLE', credentialName: 'c' }), edge('istio-system'), secret('shop', 'c')),
    [/^spec\.servers\[0\]\.tls\.credentialName: Secret istio-system\/c is not known/],
  ],
  [
    'a Secret where it belongs',
    warnings(gateway({ mode: 'SIMPLE', credentialName: 'c' }), edge('shop'), secret('shop', 'c')),
    [],
  ],
  [
    'one of two, and the CA under either name',
    warnings(
      gateway({ mode: 'MUTUAL', credentialNames: ['a', 'b'], caCertCredentialName: 'ca' }),
      edge('shop'),
      secret('shop', 'a'),
      secret('shop', 'ca-cacert'),
    ),
    [/credentialNames\[1\]: Secret shop\/b/],
  ],
  ['a VirtualService of a Gateway', warnings(vs(['gw', 'mesh']), gateway()), []],
  ['by its full name', warnings(vs(['shop/gw']), gateway(undefined, ['./*'])), []],
  [
    'of an unknown one',
    warnings(vs(['other/gw']), gateway()),
    [/^spec\.gateways\[0\]: Gateway other\/gw is not known/],
  ],
  [
    'of one that has another host',
    warnings(vs(['gw']), gateway(undefined, ['b.example'])),
    [/^spec\.hosts\[0\]: no server of Gateway shop\/gw/],
  ],
  [
    'of one that is for another namespace',
    warnings(vs(['gw']), gateway(undefined, ['other/*'])),
    [/^spec\.hosts\[0\]: no server/],
  ],
];

for (const [name, found, expected] of CASES)
  test(name, async (t) => {
    t.equal(found.length, expected.length, found.join('\n'));
    for (const [i, pattern] of expected.entries()) t.match(found[i], pattern);
  });
