import { test } from 'tap';
import {
  credentialsOf,
  gatewaySelects,
  isGatewayGroup,
  ruleArms,
  ruleCredentials,
} from '../../../../api/resources/gateway-binding.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';

const gateway = (namespace: string, selector: Record<string, string>, servers: object[] = []): MeshObject => ({
  apiVersion: 'networking.istio.io/v1',
  kind: 'Gateway',
  metadata: { name: 'gw', namespace },
  spec: { selector, servers },
});
const group = (namespace: string, labels: Record<string, string>, annotation?: string): MeshObject => ({
  apiVersion: 'networking.istio.io/v1',
  kind: 'WorkloadGroup',
  metadata: {
    name: 'g',
    namespace,
    ...(annotation === undefined ? {} : { annotations: { 'hostmesh.io/gateway': annotation } }),
  },
  spec: { template: { labels } },
});

const ISTIO = { istio: 'ingressgateway' };
const CASES: readonly [string, MeshObject, MeshObject, boolean][] = [
  ['own namespace', gateway('a', { app: 'x' }), group('a', { app: 'x', more: 'y' }), true],
  ['other labels', gateway('a', { app: 'y' }), group('a', { app: 'x' }), false],
  ['another namespace’s', gateway('b', ISTIO), group('a', ISTIO), false],
  ['shared with all', gateway('b', ISTIO), group('a', ISTIO, '*'), true],
  ['shared with some', gateway('b', ISTIO), group('a', ISTIO, 'c, b'), true],
  ['shared with others', gateway('b', ISTIO), group('a', ISTIO, 'c'), false],
  ['its own only', gateway('b', ISTIO), group('istio-system', ISTIO, '.'), false],
  ['Istio’s samples', gateway('b', ISTIO), group('istio-system', ISTIO), true],
  [
    'a workload of the root namespace that is none',
    gateway('b', { app: 'x' }),
    group('istio-system', { app: 'x' }),
    false,
  ],
  ['no selector, declared', gateway('a', {}), group('a', ISTIO), true],
  ['no selector, not declared', gateway('a', {}), group('a', { app: 'x' }), false],
];

for (const [name, from, to, expected] of CASES)
  test(`gatewaySelects: ${name}`, async (t) => t.equal(gatewaySelects(from, to), expected));

test('what peers take for a gateway', async (t) => {
  t.ok(isGatewayGroup(group('a', ISTIO), []));
  t.ok(isGatewayGroup(group('a', { app: 'x' }, '.'), []));
  t.ok(isGatewayGroup(group('a', { app: 'x' }), [gateway('a', { app: 'x' })]));
  t.notOk(isGatewayGroup(group('istio-system', { app: 'x' }), [gateway('b', { app: 'x' })]), 'no stranger decides');
});

test('the secrets that a Gateway names', async (t) => {
  const tls = [{ credentialName: 'a' }, { credentialNames: ['b', 'c'], caCertCredentialName: 'ca' }, {}];
  t.same(
    [
      ...credentialsOf(
        gateway(
          'a',
          {},
          tls.map((one) => ({ tls: one })),
        ),
      ),
    ],
    ['a', 'a-cacert', 'b', 'b-cacert', 'c', 'c-cacert', 'ca'],
  );
});

const rule = (namespace: string, spec: object): MeshObject => ({
  apiVersion: 'networking.istio.io/v1',
  kind: 'DestinationRule',
  metadata: { name: 'dr', namespace },
  spec: { host: 'x', ...spec },
});

test('the secrets that a DestinationRule names, wherever in it', async (t) => {
  const policy = (name: string) => ({ tls: { credentialName: name } });
  const spec = {
    trafficPolicy: { ...policy('a'), portLevelSettings: [policy('b')] },
    subsets: [{ trafficPolicy: policy('c') }, { trafficPolicy: { portLevelSettings: [policy('d'), {}] } }, {}],
  };
  t.same(
    [...ruleCredentials(rule('n', spec))],
    ['a', 'b', 'c', 'd'].flatMap((name) => [name, `${name}-cacert`]),
  );
  t.same([...ruleCredentials(rule('n', {}))], []);
});

test('whom a DestinationRule arms', async (t) => {
  const selecting = (labels: object) => ({ workloadSelector: { matchLabels: labels } });
  const rows: readonly [string, MeshObject, MeshObject, boolean][] = [
    ['selected', rule('a', selecting({ app: 'x' })), group('a', { app: 'x', more: 'y' }), true],
    ['not selected', rule('a', selecting({ app: 'y' })), group('a', { app: 'x' }), false],
    ['another namespace', rule('b', selecting({ app: 'x' })), group('a', { app: 'x' }), false],
    ['no selector, a gateway', rule('a', {}), group('a', ISTIO), true],
    ['no selector, a workload', rule('a', {}), group('a', { app: 'x' }), false],
    ['no selector, a gateway of another namespace', rule('b', {}), group('a', ISTIO, '*'), false],
    ['a gateway that is not selected', rule('a', selecting({ app: 'x' })), group('a', ISTIO), false],
  ];
  for (const [what, from, to, expected] of rows) t.equal(ruleArms(from, to, []), expected, what);
});
