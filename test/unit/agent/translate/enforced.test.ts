// api/resources/enforced-fields.ts promises that every field in it does something. Each row here sets one such field and must change what
// Envoy or DNS gets; a pattern without a row, or a row without a pattern, fails.
import { test } from 'tap';
import { dnsHosts } from '../../../../agent/mesh-view/dns-hosts.ts';
import { translate } from '../../../../agent/translate/translate.ts';
import { ENFORCED } from '../../../../api/resources/enforced-fields.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { group, meshView, object, service, type TestHost } from '../mesh-view/build-mesh.ts';

const HOSTS: readonly TestHost[] = [
  { id: 'a', addresses: ['10.0.0.1'], groups: ['default/web'] },
  { id: 'b', addresses: ['10.0.0.2'], groups: ['default/reviews'] },
  { id: 'c', addresses: ['10.0.0.3'], groups: ['other/far', 'default/reviews-b'] },
];

const MESH: readonly MeshObject[] = [
  group('web', { http: 8080 }),
  group('reviews', { http: 9080, admin: 9090 }, { labels: { version: 'v1' } }),
  group('reviews-b', { http: 9080, admin: 9090 }, { app: 'reviews', labels: { version: 'v0' } }),
  group('far', { http: 9080 }, { namespace: 'other' }),
  service('reviews', [{ name: 'http', port: 80, targetPort: 9080 }]),
  service('web', [{ name: 'http', port: 80, targetPort: 8080 }]),
  service('far', [{ name: 'http', port: 80, targetPort: 9080 }], { namespace: 'other' }),
  service(
    'db',
    [
      { name: 'tcp', port: 5432, targetPort: 9090 },
      { name: 'tls-x', port: 8443, targetPort: 9090 },
      { name: 'tls-y', port: 8444, targetPort: 9090 },
    ],
    { app: 'reviews' },
  ),
];

/** All that a mesh with this object comes to. */
function outcome(extra: readonly MeshObject[], meshed: readonly MeshObject[] = MESH): string {
  const view = meshView({ objects: [...meshed, ...extra], hosts: HOSTS, self: 'a' });
  const server = meshView({ objects: [...meshed, ...extra], hosts: HOSTS, self: 'b' });
  const sets = [view, server].map((each) =>
    Object.values(translate(each).resources).map((map) => [...map.values()].map((item) => [item.name, item.body])),
  );
  return JSON.stringify([sets, ['default', 'other'].map((ns) => [...dnsHosts(view)(ns)])]);
}

/** Deep merge of plain objects; lists and scalars are replaced. */
function over(base: unknown, change: unknown): unknown {
  if (!isRecord(base) || !isRecord(change)) return change;
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(change)) merged[key] = over(base[key], value);
  return merged;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Paths of the leaves of a spec, in the notation of ENFORCED for the given patterns. */
function covered(patterns: readonly string[], spec: unknown): Set<string> {
  const found = new Set<string>();
  const walk = (value: unknown, path: string): void => {
    const direct = patterns.find((pattern) => pattern === path);
    if (direct !== undefined && !isRecord(value) && !Array.isArray(value)) found.add(direct);
    if (Array.isArray(value)) for (const item of value) walk(item, `${path}[]`);
    else if (isRecord(value)) {
      for (const [key, item] of Object.entries(value)) {
        const named = `${path}.${key}`;
        const star = `${path}.*`;
        walk(
          item,
          patterns.some((p) => p === named || p.startsWith(`${named}.`) || p.startsWith(`${named}[`)) ? named : star,
        );
      }
    }
  };
  walk(spec, 'spec');
  return found;
}

type Leaf = readonly (string | number)[];

function leaves(value: unknown, at: Leaf = []): Leaf[] {
  if (Array.isArray(value)) return value.flatMap((item, index) => leaves(item, [...at, index]));
  if (isRecord(value)) return Object.entries(value).flatMap(([key, item]) => leaves(item, [...at, key]));
  return value === undefined ? [] : [at];
}

function removed(value: unknown, [first, ...rest]: Leaf): unknown {
  if (Array.isArray(value)) {
    if (rest.length === 0) return value.filter((_, index) => index !== first);
    return value.map((item, index) => (index === first ? removed(item, rest) : item));
  }
  if (!isRecord(value) || first === undefined) return value;
  const { [first]: gone, ...others } = value;
  return rest.length === 0 ? others : { ...others, [first]: removed(gone, rest) };
}

/** Undefined where a spec that lacks a required field cannot be translated: such a spec never passes the controller. */
function tryOutcome(row: Row, spec: unknown, meshed: readonly MeshObject[]): string | undefined {
  try {
    return outcome([object(row.kind, row.name ?? 'extra', spec)], meshed);
  } catch {
    return undefined;
  }
}

interface Row {
  readonly kind: string;
  readonly base: object;
  /** Each is merged over the base; the leaves that it adds are the fields under test. */
  readonly changes: readonly object[];
  /** Changes that put the object out of effect for this client: that they do is all that can be seen of them. */
  readonly exclusions?: readonly object[];
  /** Objects beside it. */
  readonly beside?: readonly MeshObject[];
  readonly name?: string;
}

const route = { destination: { host: 'reviews' } };
const http = (...rules: object[]) => ({ http: rules });
const one = (more: object) => http({ route: [route], ...more });
const vsMatch = (more: object) => http({ match: [more], route: [route] });
const l4 = (match: object) => ({ match: [match], route: [{ destination: { host: 'web' } }] });
const strings = ['exact', 'prefix', 'regex'];

const PORT_POLICY_CHANGES: readonly object[] = [
  ...['ROUND_ROBIN'].map((simple) => ({ loadBalancer: { simple } })),
  { loadBalancer: { consistentHash: { httpHeaderName: 'x' } } },
  { loadBalancer: { consistentHash: { httpCookie: { name: 'c', path: '/p', ttl: '5s' } } } },
  { loadBalancer: { consistentHash: { useSourceIp: true } } },
  { loadBalancer: { consistentHash: { httpQueryParameterName: 'q' } } },
  { loadBalancer: { consistentHash: { useSourceIp: true, minimumRingSize: 2048 } } },
  { loadBalancer: { consistentHash: { useSourceIp: true, ringHash: { minimumRingSize: 512 } } } },
  { loadBalancer: { consistentHash: { useSourceIp: true, maglev: { tableSize: 101 } } } },
  { connectionPool: { tcp: { maxConnections: 3 } } },
  { connectionPool: { tcp: { connectTimeout: '3s' } } },
  { connectionPool: { tcp: { tcpKeepalive: { probes: 3, time: '60s', interval: '10s' } } } },
  { connectionPool: { http: { http1MaxPendingRequests: 5 } } },
  { connectionPool: { http: { http2MaxRequests: 6 } } },
  { connectionPool: { http: { maxRequestsPerConnection: 7 } } },
  { connectionPool: { http: { maxRetries: 8 } } },
  { connectionPool: { http: { idleTimeout: '9s' } } },
  { connectionPool: { http: { h2UpgradePolicy: 'DO_NOT_UPGRADE' } } },
  { connectionPool: { http: { maxConcurrentStreams: 10 } } },
  { connectionPool: { http: { useClientProtocol: true } } },
  { outlierDetection: { consecutive5xxErrors: 2 } },
  { outlierDetection: { consecutiveGatewayErrors: 2 } },
  { outlierDetection: { splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2 } },
  { outlierDetection: { interval: '1s', baseEjectionTime: '2s', maxEjectionPercent: 30, minHealthPercent: 40 } },
  { tls: { mode: 'DISABLE' } },
];

const ROWS: readonly Row[] = [
  {
    kind: 'Service',
    name: 'extra',
    base: { selector: { app: 'reviews' }, ports: [{ name: 'http', port: 7000 }] },
    changes: [
      { type: 'ClusterIP', selector: { app: 'web' } },
      { ports: [{ port: 7001, protocol: 'TCP', targetPort: 9080, appProtocol: 'grpc' }] },
      { ports: [{ name: 'tcp', port: 7000 }] },
    ],
  },
  {
    kind: 'ServiceEntry',
    name: 'extra',
    base: { hosts: ['x.example'], ports: [{ number: 80, name: 'http', protocol: 'HTTP' }], resolution: 'STATIC' },
    changes: [
      { hosts: ['y.example'] },
      { addresses: ['10.9.9.9'] },
      { ports: [{ number: 81, protocol: 'TCP', targetPort: 8888 }], endpoints: [{ address: '10.1.1.1' }] },
      { ports: [{ number: 80, name: 'admin' }], endpoints: [{ address: '10.1.1.1', ports: { admin: 81 } }] },
      { resolution: 'DNS' },
      { exportTo: ['nobody'] },
      { workloadSelector: { labels: { app: 'reviews' } } },
      {
        location: 'MESH_INTERNAL',
        endpoints: [{ address: '10.1.1.1', labels: { 'security.istio.io/tlsMode': 'istio' }, serviceAccount: 'q' }],
      },
      {
        endpoints: [
          {
            address: '10.1.1.1',
            labels: { app: 'z' },
            locality: 'eu/a',
            ports: { http: 8081 },
            weight: 3,
          },
        ],
      },
    ],
  },
  {
    kind: 'WorkloadEntry',
    name: 'extra',
    base: { address: '10.5.5.5', labels: { app: 'reviews' } },
    changes: [
      { address: '10.5.5.6' },
      { labels: { app: 'web' } },
      { locality: 'eu/b' },
      { ports: { http: 9999 } },
      { labels: { app: 'reviews', 'security.istio.io/tlsMode': 'istio' }, serviceAccount: 'own' },
      { weight: 5 },
    ],
  },
  {
    kind: 'WorkloadGroup',
    name: 'reviews',
    base: { metadata: { labels: { app: 'reviews' } }, template: { serviceAccount: 'reviews', ports: { http: 9080 } } },
    changes: [
      { metadata: { labels: { version: 'v9' } } },
      { template: { labels: { app: 'web' } } },
      { template: { locality: 'eu/c' } },
      { template: { ports: { http: 9081 } } },
      { template: { serviceAccount: 'else' } },
      { template: { weight: 7 } },
    ],
  },
  {
    kind: 'VirtualService',
    name: 'extra',
    base: { hosts: ['reviews'], ...one({ timeout: '7s' }) },
    exclusions: [
      { exportTo: ['other'] },
      vsMatch({ port: 81 }),
      vsMatch({ sourceLabels: { app: 'nobody' } }),
      vsMatch({ sourceNamespace: 'other' }),
      { hosts: ['db'], http: undefined, tcp: [l4({ port: 1 })] },
      { hosts: ['db'], http: undefined, tls: [l4({ port: 1, sniHosts: ['s.example'] })] },
      {
        hosts: ['db'],
        http: undefined,
        tcp: [l4({ sourceNamespace: 'other' })],
        tls: [l4({ sourceNamespace: 'other', sniHosts: ['s.example'] })],
      },
    ],
    changes: [
      { hosts: ['web'], ...one({ timeout: '1s' }) },
      { gateways: ['mesh'], ...one({ name: 'n', timeout: '1s' }) },
      ...['uri', 'scheme', 'method', 'authority'].flatMap((part) =>
        strings.map((how) => vsMatch({ [part]: { [how]: '/x' } })),
      ),
      ...['headers', 'withoutHeaders', 'queryParams'].flatMap((part) =>
        strings.map((how) => vsMatch({ [part]: { k: { [how]: 'x' } } })),
      ),
      http({ name: 'r', match: [{ name: 'm', uri: { prefix: '/x' }, ignoreUriCase: true }], route: [route] }),
      vsMatch({ gateways: ['mesh'], uri: { prefix: '/y' } }),
      http({
        route: [
          { destination: { host: 'db', subset: 's', port: { number: 8443 } }, weight: 1, headers: ops() },
          { ...route, weight: 2 },
        ],
      }),
      one({ headers: ops() }),
      http({ redirect: { uri: '/r', authority: 'a', scheme: 'https', port: 444, redirectCode: 302 } }),
      http({ redirect: { uri: '/r', derivePort: 'FROM_REQUEST_PORT' } }),
      http({ directResponse: { status: 200, body: { string: 's' } } }),
      http({ directResponse: { status: 200, body: { bytes: 'cw==' } } }),
      one({ rewrite: { uri: '/w', authority: 'w' } }),
      one({ rewrite: { uriRegexRewrite: { match: '/a', rewrite: '/b' } } }),
      one({ timeout: '2s' }),
      one({
        retries: {
          attempts: 4,
          perTryTimeout: '1s',
          retryOn: '503',
          backoff: '1s',
          retryIgnorePreviousHosts: false,
          retryRemoteLocalities: true,
        },
      }),
      one({ fault: { delay: { fixedDelay: '1s', percent: 5 } } }),
      one({ fault: { delay: { fixedDelay: '1s', percentage: { value: 5 } } } }),
      one({ fault: { abort: { httpStatus: 500, percentage: { value: 5 } } } }),
      one({ fault: { abort: { grpcStatus: 'UNAVAILABLE' } } }),
      one({ mirror: { host: 'db', subset: 's', port: { number: 8443 } }, mirrorPercentage: { value: 5 } }),
      one({ mirror: { host: 'web' }, mirrorPercent: 6 }),
      one({ mirror: { host: 'web' }, mirror_percent: 7 }),
      one({
        mirrors: [{ destination: { host: 'db', subset: 's', port: { number: 8443 } }, percentage: { value: 5 } }],
      }),
      ...strings.map((how) => one({ corsPolicy: { allowOrigins: [{ [how]: 'o' }] } })),
      one({
        corsPolicy: {
          allowOrigin: ['o'],
          allowMethods: ['GET'],
          allowHeaders: ['h'],
          exposeHeaders: ['e'],
          maxAge: '5s',
          allowCredentials: true,
          unmatchedPreflights: 'IGNORE',
        },
      }),
      {
        hosts: ['db'],
        http: undefined,
        tcp: [
          {
            match: [{ port: 5432, gateways: ['mesh'] }],
            route: [
              { destination: { host: 'db', port: { number: 8443 }, subset: 's' }, weight: 1 },
              { destination: { host: 'reviews' }, weight: 2 },
            ],
          },
        ],
      },
      {
        hosts: ['db'],
        http: undefined,
        tcp: [
          {
            match: [{ destinationSubnets: ['10.3.0.0/16'], sourceLabels: { app: 'web' } }],
            route: [route],
          },
        ],
      },
      {
        hosts: ['db'],
        http: undefined,
        tls: [
          {
            match: [{ sniHosts: ['s.example'], gateways: ['mesh'] }],
            route: [
              { destination: { host: 'db', port: { number: 8443 }, subset: 's' }, weight: 1 },
              { destination: { host: 'reviews' }, weight: 2 },
            ],
          },
        ],
      },
      {
        hosts: ['db'],
        http: undefined,
        tls: [
          {
            match: [
              {
                sniHosts: ['s.example'],
                destinationSubnets: ['10.3.0.0/16'],
                sourceLabels: { app: 'web' },
              },
            ],
            route: [route],
          },
        ],
      },
    ],
  },
  {
    kind: 'DestinationRule',
    name: 'extra',
    beside: [
      object('VirtualService', 'split', {
        hosts: ['reviews'],
        http: [
          { match: [{ uri: { prefix: '/v1' } }], route: [{ destination: { host: 'reviews', subset: 'v1' } }] },
          { route: [route] },
        ],
      }),
    ],
    base: { host: 'reviews', subsets: [{ name: 'v1', labels: { version: 'v1' } }], trafficPolicy: {} },
    changes: [
      { host: 'web' },
      { exportTo: ['other'] },
      { subsets: [{ name: 'v2', labels: { version: 'v2' } }] },
      ...PORT_POLICY_CHANGES.map((trafficPolicy) => ({ trafficPolicy })),
      ...PORT_POLICY_CHANGES.map((policy) => ({
        trafficPolicy: { portLevelSettings: [{ port: { number: 80 }, ...policy }] },
      })),
      ...PORT_POLICY_CHANGES.map((trafficPolicy) => ({
        subsets: [{ name: 'v1', labels: { version: 'v1' }, trafficPolicy }],
      })),
      ...PORT_POLICY_CHANGES.map((policy) => ({
        subsets: [
          {
            name: 'v1',
            labels: { version: 'v1' },
            trafficPolicy: { portLevelSettings: [{ port: { number: 80 }, ...policy }] },
          },
        ],
      })),
    ],
  },
  {
    kind: 'PeerAuthentication',
    name: 'extra',
    base: { selector: { matchLabels: { app: 'reviews' } }, mtls: { mode: 'PERMISSIVE' } },
    changes: [
      { mtls: { mode: 'STRICT' } },
      { mtls: { mode: 'STRICT' }, selector: { matchLabels: { app: 'web' } } },
      { portLevelMtls: { '9080': { mode: 'STRICT' } } },
    ],
  },
  { kind: 'MeshConfig', name: 'default', base: {}, changes: [{ outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } }] },
];

function ops(): object {
  const each = { set: { s: '1' }, add: { a: '2' }, remove: ['r'] };
  return { request: each, response: each };
}

/** Said and kept, and nothing more: annotations are for people; these values are the defaults, written out. */
const INERT = new Set([
  'WorkloadGroup spec.metadata.annotations.*',
  'Service spec.type',
  'Service spec.ports[].protocol',
]);

/** Last names of leaves of which only the default value is taken. */
const ALONE_NOTHING = new Set(['gateways', 'type', 'protocol']);

for (const row of ROWS) {
  test(`${row.kind}: every enforced field does something`, async (t) => {
    const patterns = ENFORCED[row.kind] ?? [];
    const others = MESH.filter((item) => !(item.kind === row.kind && item.metadata.name === row.name));
    const meshed = [...others, ...(row.beside ?? [])];
    const before = tryOutcome(row, row.base, meshed);
    const seen = new Set<string>();
    for (const change of [...row.changes, ...(row.exclusions ?? [])]) {
      const spec = over(row.base, change);
      const after = tryOutcome(row, spec, meshed);
      t.not(after, before, JSON.stringify(change));
      for (const path of covered(patterns, spec)) seen.add(path);
      if (row.exclusions?.includes(change) === true) continue;
      for (const leaf of leaves(change)) {
        const name = leaf.filter((part) => typeof part === 'string').at(-1) as string;
        if (ALONE_NOTHING.has(name)) continue;
        if (tryOutcome(row, removed(spec, leaf), meshed) === after) {
          t.fail(`${JSON.stringify(change)}: ${leaf.join('.')} does nothing`);
        }
      }
    }
    const missing = patterns.filter((pattern) => !seen.has(pattern) && !INERT.has(`${row.kind} ${pattern}`));
    t.same(missing, [], 'no enforced field goes untested');
  });
}

test('every kind with enforced fields has rows', async (t) => {
  t.same(Object.keys(ENFORCED).sort(), ROWS.map((row) => row.kind).sort());
});
