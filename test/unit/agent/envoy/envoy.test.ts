import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tap from 'tap';
import { createEnvoyAdmin } from '../../../../agent/envoy/admin.ts';
import { bootstrap, FRUGAL } from '../../../../agent/envoy/bootstrap.ts';
import { mergeMetrics } from '../../../../agent/envoy/merge-metrics.ts';

const INPUT = {
  host: 'web-1',
  trustDomain: 'mesh.example',
  locality: '',
  xdsSocket: '/run/mesh/xds.sock',
  adminSocket: '/run/mesh/proxy/admin.sock',
  metricsAddress: '127.0.0.1',
  ports: { envoyMetrics: 15090, readiness: 15021 },
};

tap.test('bootstrap: node, sockets and ports are the input’s', async (t) => {
  for (const { locality, expected } of [
    { locality: '', expected: undefined },
    { locality: 'eu', expected: { region: 'eu' } },
    { locality: 'eu/a', expected: { region: 'eu', zone: 'a' } },
    { locality: 'eu/a/rack1', expected: { region: 'eu', zone: 'a', sub_zone: 'rack1' } },
  ]) {
    const { node } = bootstrap({ ...INPUT, locality }) as { node: { id: string; locality?: object } };
    t.equal(node.id, 'sidecar~web-1~mesh.example');
    t.strictSame(node.locality, expected, `locality ${JSON.stringify(locality)}`);
  }
  const text = JSON.stringify(
    bootstrap({ ...INPUT, metricsAddress: '10.0.0.1', ports: { envoyMetrics: 1, readiness: 2 } }),
  );
  t.match(text, '"pipe":{"path":"/run/mesh/proxy/admin.sock","mode":432}', 'the admin socket is its group’s only');
  t.match(text, '{"address":"10.0.0.1","port_value":1}');
  t.match(text, '{"address":"10.0.0.1","port_value":2}');
  t.notMatch(text, '0.0.0.0', 'nothing listens beyond what agent.yaml says');
  t.equal(JSON.stringify(bootstrap(INPUT)), JSON.stringify(bootstrap(INPUT)), 'same input, same text');
});

tap.test('bootstrap: of a cluster’s numbers those stay that say how it does', async (t) => {
  const { stats_matcher } = FRUGAL.stats_config as {
    stats_matcher: { exclusion_list: { patterns: { safe_regex: { regex: string } }[] } };
  };
  const regex = new RegExp(`^(?:${stats_matcher.exclusion_list.patterns[0]?.safe_regex.regex})$`);
  const cluster = 'cluster.outbound|80||reviews_default_svc_cluster_local';
  const kept = [
    ...['upstream_rq_total', 'upstream_cx_active', 'upstream_rq_pending_overflow', 'membership_total'].map(
      (n) => `.${n}`,
    ),
    ...['.membership_healthy', '.circuit_breakers.default.cx_open'],
    ...['.outlier_detection.ejections_active', '.outlier_detection.ejections_enforced_total', '.ssl.handshake'],
    ...['.outlier_detection.ejections_total', '.outlier_detection.ejections_overflow', '.ssl.fail_verify_san'],
    ...['.ssl.connection_error', '.update_success', '.ssl.versions.TLSv1.3', '.external.upstream_rq_200'],
  ];
  const left = ['.update_duration', '.version', '.lb_subsets_active', '.ssl.ocsp_staple_failed', '.membership_change'];
  for (const name of kept) t.notMatch(`${cluster}${name}`, regex, name);
  for (const name of left) t.match(`${cluster}${name}`, regex, name);
  for (const name of ['cluster.xds-agent.update_success', 'cluster_manager.cds.update_success', 'server.version'])
    t.notMatch(name, regex, name);
});

tap.test('mergeMetrics', async (t) => {
  const agent = '# TYPE mesh_agent_ready gauge\nmesh_agent_ready 1\n';
  for (const { name, envoy, has, lacks } of [
    {
      name: 'Istio’s metrics lose Envoy’s prefix, others keep it',
      envoy:
        '# TYPE envoy_istio_requests_total counter\nenvoy_istio_requests_total{a="envoy_istio_x"} 3\n# TYPE envoy_server_live gauge\nenvoy_server_live{} 1\n',
      has: [
        '# TYPE istio_requests_total counter\n',
        '\nistio_requests_total{a="envoy_istio_x"} 3\n',
        'envoy_server_live{} 1\n',
        'mesh_agent_envoy_up 1\n',
        'mesh_agent_ready 1\n',
      ],
      lacks: ['envoy_istio_requests_total'],
    },
    {
      name: 'an Envoy that does not answer is a metric',
      envoy: undefined,
      has: ['mesh_agent_envoy_up 0\n'],
      lacks: ['envoy_server'],
    },
    { name: 'an empty answer is one', envoy: '', has: ['mesh_agent_envoy_up 1\n'], lacks: ['undefined'] },
  ]) {
    const text = mergeMetrics(agent, envoy);
    for (const part of has) t.ok(text.includes(part), `${name}: ${JSON.stringify(part)}`);
    for (const part of lacks) t.notOk(text.includes(part), `${name}: no ${part}`);
    t.ok(text.endsWith('\n'), name);
  }
});

tap.test('the admin client names what fails', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'ev-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const socket = join(dir, 'a.sock');
  const seen: string[] = [];
  let ready = 'LIVE\n';
  const server = createServer((request, response) => {
    seen.push(`${request.method} ${request.url}`);
    if (request.url === '/ready') return void response.writeHead(ready === 'LIVE\n' ? 200 : 503).end(ready);
    if (request.url === '/stats/prometheus') return void response.end('x 1\n');
    if (request.url?.startsWith('/drain_listeners')) return void response.end('OK\n');
    response.writeHead(404).end('no');
  });
  const admin = createEnvoyAdmin(socket);
  t.equal(await admin.ready(), false, 'nobody listens');
  await t.rejects(admin.prometheus(), { code: 'ENVOY_ADMIN' });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  t.teardown(() => new Promise((resolve) => server.close(resolve)));
  t.equal(await admin.ready(), true);
  t.equal(await admin.prometheus(), 'x 1\n');
  await admin.drain();
  ready = 'PRE_INITIALIZING\n';
  t.equal(await admin.ready(), false, 'up, but without config');
  t.strictSame(seen, ['GET /ready', 'GET /stats/prometheus', 'POST /drain_listeners?graceful', 'GET /ready']);
});
