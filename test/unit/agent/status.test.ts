import { test } from 'tap';
import { agentStatus, hostStatus, type StatusSources } from '../../../agent/status.ts';

/** An agent whose Envoy refused some resources, and what its view says of gateways. */
function sources(refused: { resource: string; message: string }[], gatewayProblems: string[] = []): StatusSources {
  const bound = {
    workloads: [],
    gateways: [{ group: 'istio-system/edge', spiffeId: 'spiffe://mesh.test/ns/istio-system/sa/edge' }],
    problems: [],
  };
  const run = { desired: { generation: 3 }, bound, view: { gatewayProblems } };
  return {
    host: 'h',
    startedAt: 0,
    ready: true,
    controlplane: { problems: [] },
    xds: { connected: true, ackedGeneration: 3, settled: true, pending: 0, refused },
    identity: { svids: [], problems: [] },
    reconciler: { last: () => run, refused: () => [] },
    watched: new Map(),
    peers: { alive: 0, suspect: 0, dead: 0, links: ['b'] },
    gossipRefused: [{ host: 'b', reason: 'hostile', count: 1, lastAt: '2026-11-25T05:59:20Z' }],
    contacts: new Map(),
    controllers: [],
    problems: [],
  } as unknown as StatusSources;
}

const cannot = (why: string) => `error adding listener '0.0.0.0:443': cannot bind '0.0.0.0:443': ${why}`;

const CASES: readonly [string, string, readonly string[]][] = [
  ['gateway_443', cannot('Address already in use'), ['gateway port 443 is not served: another program listens there']],
  [
    'gateway_443',
    cannot('Permission denied'),
    ['gateway port 443 is not served: the proxy may not (CAP_NET_BIND_SERVICE)'],
  ],
  [
    'gateway_443_10.9.9.9',
    cannot('Cannot assign requested address'),
    ['gateway port 443 is not served: this host has no such address'],
  ],
  ['gateway_443', 'invalid cipher suites', []],
  ['outbound_15001', cannot('Address already in use'), []],
];

for (const [resource, message, expected] of CASES)
  test(`${resource}: ${message}`, async (t) => {
    t.same(agentStatus(sources([{ resource, message }])).problems, expected);
  });

test('gateways are among the workloads; what their Gateways lack is said', async (t) => {
  const status = agentStatus(sources([], ['Gateway a/b: port 80 (http) is left out: x']));
  t.match(status.workloads, [{ group: 'istio-system/edge', health: 'healthy' }]);
  t.match(status.problems, [/Gateway a\/b/]);
});

test('controllers hear whom gossip refused and whom it is linked to', async (t) => {
  const status = hostStatus(agentStatus(sources([])));
  t.same(status.peers.links, ['b']);
  t.match(status.gossipRefused, [{ host: 'b', reason: 'hostile' }]);
});
