// Each golden mesh as one static bootstrap to `envoy --mode validate`: what xDS would carry stands inline.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { test } from 'tap';
import type { ResourceSet } from '../../agent/translate/resource-set.ts';
import { translate } from '../../agent/translate/translate.ts';
import { meshView } from '../unit/agent/mesh-view/build-mesh.ts';
import { GOLDEN_CASES } from '../unit/agent/translate/golden-cases.ts';

const ENVOY = join(dirname(fileURLToPath(import.meta.url)), '../../build/envoy/envoy');

type Body = { readonly [key: string]: unknown };

const bodies = (map: ReadonlyMap<string, { readonly body: unknown }>) =>
  [...map.values()].map((item) => item.body as Body);

/** Endpoints by EDS are left to Envoy's xDS; all else is inline. */
function bootstrap(set: ResourceSet, secretFile: string): object {
  const { cluster, listener, route, extension } = set.resources;
  const routes = bodies(route).map((body, index) =>
    holder(`route-${index}`, [httpManager({ route_config: body, http_filters: FILTERS })]),
  );
  const filters = bodies(extension).map((body, index) => {
    const config = body.typed_config as Body;
    const http = String(config['@type']).includes('filters.http');
    const tcp = String(config['@type']).includes('tcp_proxy');
    if (http)
      return holder(`extension-${index}`, [
        httpManager({ route_config: { name: 'x' }, http_filters: [named(config), ...ROUTER] }),
      ]);
    return holder(`extension-${index}`, tcp ? [named(config)] : [named(config), END]);
  });
  return {
    node: { id: 'validate', cluster: 'validate' },
    dynamic_resources: {
      ads_config: {
        api_type: 'DELTA_GRPC',
        transport_api_version: 'V3',
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }],
      },
    },
    static_resources: {
      clusters: [
        ...bodies(cluster).map((body) => withoutAds(body, secretFile)),
        { name: 'xds', connect_timeout: '1s', typed_extension_protocol_options: HTTP2 },
      ],
      listeners: [...bodies(listener), ...routes, ...filters],
    },
  };
}

/** Envoy falls over when it validates a cluster that begins to ask for secrets at once, as all do but EDS's: there is no stream. */
function withoutAds(body: Body, secretFile: string): Body {
  if (body.type === 'EDS') return body;
  const source = { path_config_source: { path: secretFile }, resource_api_version: 'V3' };
  const replace = (key: string, value: unknown) => (key === 'sds_config' || key === 'config_source' ? source : value);
  return JSON.parse(JSON.stringify(body, replace)) as Body;
}

const HTTP2 = {
  'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
    '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
    explicit_http_config: { http2_protocol_options: {} },
  },
};
const filter = (name: string, type: string, body: object = {}) => ({
  name,
  typed_config: { '@type': `type.googleapis.com/${type}`, ...body },
});
const named = (config: Body) => ({ name: String(config['@type']).split('.').at(-3) ?? 'x', typed_config: config });
const ROUTER = [filter('envoy.filters.http.router', 'envoy.extensions.filters.http.router.v3.Router')];
const FILTERS = [
  filter('envoy.filters.http.cors', 'envoy.extensions.filters.http.cors.v3.Cors'),
  filter('envoy.filters.http.fault', 'envoy.extensions.filters.http.fault.v3.HTTPFault'),
  ...ROUTER,
];
const END = filter('envoy.filters.network.tcp_proxy', 'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy', {
  stat_prefix: 'x',
  cluster: 'xds',
});

function httpManager(body: object): object {
  return filter('hcm', 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager', {
    stat_prefix: 'x',
    ...body,
  });
}

let port = 20_000;
function holder(name: string, filters: readonly object[]): object {
  port += 1;
  return {
    name,
    address: { socket_address: { address: '127.0.0.1', port_value: port } },
    filter_chains: [{ filters }],
  };
}

type Static = { readonly clusters: readonly Body[]; readonly listeners: readonly object[] };
type Outcome = { readonly stdout: string; readonly stderr: string; readonly signal?: string; readonly code?: unknown };

const VERDICT = /^configuration '.*' OK$/m;

async function validate(file: string, config: object): Promise<Outcome> {
  writeFileSync(file, JSON.stringify(config));
  const args = ['--mode', 'validate', '-c', file, '-l', 'error', '--disable-hot-restart'];
  return promisify(execFile)(ENVOY, args).catch((error: Outcome) => error);
}

/**
 * Envoy 1.40 says its verdict and then crashes on its way out when a listener asks for something over ADS, of which
 * validation has no stream: that crash, after OK, is let pass. Clusters alone must end well.
 */
for (const [name, mesh] of Object.entries(GOLDEN_CASES)) {
  test(`envoy --mode validate: ${name}`, async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'validate-'));
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    const file = join(dir, 'bootstrap.json');
    const secretFile = join(dir, 'secrets.json');
    writeFileSync(secretFile, '{"resources": []}');
    const whole = bootstrap(translate(meshView(mesh)), secretFile) as { readonly static_resources: Static };
    const { clusters } = whole.static_resources;
    const of = (some: Partial<Static>) => ({ ...whole, static_resources: { ...whole.static_resources, ...some } });

    const all = await validate(file, whole);
    const ended = all.code === undefined || all.signal === 'SIGSEGV';
    t.ok(VERDICT.test(all.stdout) && ended, 'whole', { stderr: all.stderr.slice(-1500) });

    const alone = await validate(file, of({ listeners: [] }));
    t.ok(VERDICT.test(alone.stdout) && alone.code === undefined, 'clusters', { stderr: alone.stderr.slice(-1500) });

    const spoilt = { ...clusters[0], outlier_detection: { max_ejection_percent: 101 } };
    const refused = await validate(file, of({ clusters: [spoilt, ...clusters.slice(1)] }));
    t.ok(!VERDICT.test(refused.stdout) && refused.code === 1, 'a wrong cluster is refused');
  });
}
