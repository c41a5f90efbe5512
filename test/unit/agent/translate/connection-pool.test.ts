import { test } from 'tap';
import type { ConnectionPoolSpec, PortPolicy } from '../../../../agent/mesh-view/specs/destination-rule.ts';
import type { Protocol, Transport } from '../../../../agent/mesh-view/view.ts';
import type { ClusterPlan } from '../../../../agent/translate/cluster-plan.ts';
import { circuitBreakers, httpOptions, httpVersion, keepalive } from '../../../../agent/translate/connection-pool.ts';

type H2 = 'UPGRADE' | 'DO_NOT_UPGRADE' | undefined;

/** The parts of a plan that decide what is spoken. */
function plan(protocol: Protocol, transport: Transport, policy: PortPolicy = {}, h2UpgradePolicy?: H2): ClusterPlan {
  return {
    port: { number: 80, name: 'x', protocol, transport },
    transport,
    policy,
    defaults: { h2UpgradePolicy },
  } as ClusterPlan;
}

const http = (settings: ConnectionPoolSpec['http']): PortPolicy => ({ connectionPool: { http: settings } });
const tcp = (settings: ConnectionPoolSpec['tcp']): PortPolicy => ({ connectionPool: { tcp: settings } });
const TUNNEL: PortPolicy = { tunnel: { targetHost: 'x', targetPort: 1 } };

const ROWS: readonly (readonly [string, ClusterPlan, 'http1' | 'http2' | 'same'])[] = [
  ['between proxies', plan('HTTP', 'mtls'), 'http2'],
  ['to a server without a proxy', plan('HTTP', 'plain'), 'http1'],
  ['to either', plan('HTTP', 'mixed'), 'http1'],
  ['declared HTTP/2', plan('HTTP2', 'plain'), 'http2'],
  ['not declared, between proxies', plan('AUTO', 'mtls'), 'http2'],
  ['not declared, elsewhere', plan('AUTO', 'plain'), 'same'],
  ['maxConnections counts HTTP/1.1', plan('HTTP', 'mtls', tcp({ maxConnections: 1 })), 'http1'],
  ['0 counts nothing', plan('HTTP', 'mtls', tcp({ maxConnections: 0 })), 'http2'],
  ['http1MaxPendingRequests', plan('HTTP', 'mtls', http({ http1MaxPendingRequests: 1 })), 'http1'],
  ['maxRequestsPerConnection', plan('HTTP', 'mtls', http({ maxRequestsPerConnection: 1 })), 'http1'],
  ['http2MaxRequests does not', plan('HTTP', 'mtls', http({ http2MaxRequests: 1 })), 'http2'],
  ['DO_NOT_UPGRADE', plan('HTTP', 'mtls', http({ h2UpgradePolicy: 'DO_NOT_UPGRADE' })), 'http1'],
  [
    'DO_NOT_UPGRADE does not take HTTP/2 from who declared it',
    plan('HTTP2', 'mtls', http({ h2UpgradePolicy: 'DO_NOT_UPGRADE' })),
    'http2',
  ],
  ['UPGRADE', plan('HTTP', 'plain', http({ h2UpgradePolicy: 'UPGRADE' })), 'http2'],
  [
    'UPGRADE beside counts',
    plan('HTTP', 'mtls', { connectionPool: { tcp: { maxConnections: 1 }, http: { h2UpgradePolicy: 'UPGRADE' } } }),
    'http2',
  ],
  ['the client’s', plan('HTTP', 'mtls', http({ useClientProtocol: true })), 'same'],
  [
    'the client’s, although HTTP/2 is declared (Istio)',
    plan('HTTP2', 'plain', http({ useClientProtocol: true })),
    'same',
  ],
  ['a forward proxy speaks its port’s', plan('HTTP', 'mtls', TUNNEL), 'http1'],
  ['a forward proxy of HTTP/2', plan('HTTP2', 'plain', TUNNEL), 'http2'],
  ['the mesh upgrades', plan('HTTP', 'plain', {}, 'UPGRADE'), 'http2'],
  ['the mesh does not', plan('HTTP', 'mtls', {}, 'DO_NOT_UPGRADE'), 'http1'],
  ['the rule against the mesh', plan('HTTP', 'plain', http({ h2UpgradePolicy: 'DO_NOT_UPGRADE' }), 'UPGRADE'), 'http1'],
  ['the mesh upgrades no port that is not declared', plan('AUTO', 'plain', {}, 'UPGRADE'), 'same'],
];

test('which HTTP is spoken', async (t) => {
  for (const [what, one, expected] of ROWS) t.equal(httpVersion(one), expected, what);
});

test('limits: 0 and absent are none; a budget with its defaults', async (t) => {
  const none = 4_294_967_295;
  const unlimited = { max_connections: none, max_pending_requests: none, max_requests: none, max_retries: none };
  const pool = { tcp: { maxConnections: 0 }, http: { maxRetries: 0 } };
  t.same(circuitBreakers(pool), { thresholds: [unlimited] });
  t.match(circuitBreakers(undefined, {}), {
    thresholds: [{ retry_budget: { budget_percent: { value: 20 }, min_retry_concurrency: 3 } }],
  });
  t.match(circuitBreakers(undefined, { percent: 0, minRetryConcurrency: 9 }), {
    thresholds: [{ retry_budget: { budget_percent: { value: 0 }, min_retry_concurrency: 9 } }],
  });
});

test('lives of connections: the rule’s; else an hour, jittered, between proxies', async (t) => {
  const common = (one: ClusterPlan) =>
    // biome-ignore lint/suspicious/noExplicitAny: Envoy's own message
    (Object.values(httpOptions(one, {}) as any)[0] as any).common_http_protocol_options;
  t.same(common(plan('HTTP', 'plain')), { idle_timeout: '3600s' });
  t.match(common(plan('HTTP', 'mtls')), { max_connection_duration: '3600s', max_connection_duration_jitter: {} });
  t.same(common(plan('HTTP', 'mtls', tcp({ maxConnectionDuration: '5s', idleTimeout: '0s' }))), {
    idle_timeout: '0s',
    max_connection_duration: '5s',
  });
  const both: PortPolicy = {
    connectionPool: { tcp: { idleTimeout: '1s' }, http: { idleTimeout: '2s', maxRequestsPerConnection: 0 } },
  };
  t.same(common(plan('HTTP', 'plain', both)), { idle_timeout: '2s' }, 'HTTP’s own idle timeout counts');
});

test('TCP keepalive: the kernel’s where nothing is said', async (t) => {
  t.same(keepalive(undefined), {});
  t.same(keepalive({}), { upstream_connection_options: { tcp_keepalive: {} } });
  t.same(keepalive({ probes: 0, time: '1.5s', interval: '2m' }), {
    upstream_connection_options: { tcp_keepalive: { keepalive_time: 2, keepalive_interval: 120 } },
  });
});
