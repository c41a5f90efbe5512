// api/resources/enforced-fields.ts promises that every field in it does something. Each row here sets one such field and must change what
// Envoy or DNS gets; a pattern without a row, or a row without a pattern, fails.
import { test } from 'tap';
import { dnsHosts } from '../../../../agent/mesh-view/dns-hosts.ts';
import { translate } from '../../../../agent/translate/translate.ts';
import { type ProbeSpec, probePlan } from '../../../../agent/workloads/probes/plan.ts';
import { ENFORCED } from '../../../../api/resources/enforced-fields.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { group, meshView, object, service, type TestHost } from '../mesh-view/build-mesh.ts';
import { DESTINATION_RULE_ROWS } from './enforced/destination-rule.ts';
import { GATEWAY_ROWS } from './enforced/gateway.ts';
import { MESH_CONFIG_ROWS } from './enforced/mesh-config.ts';
import type { Row } from './enforced/row.ts';
import { SECURITY_ROWS } from './enforced/security.ts';
import { SERVICE_ROWS } from './enforced/service.ts';
import { SIDECAR_ROWS } from './enforced/sidecar.ts';
import { VIRTUAL_SERVICE_ROWS } from './enforced/virtual-service.ts';

const HOSTS: readonly TestHost[] = [
  { id: 'a', addresses: ['10.0.0.1'], groups: ['default/web', 'other/client'], gateways: ['default/edge'] },
  { id: 'b', addresses: ['10.0.0.2'], groups: ['default/reviews'] },
  { id: 'c', addresses: ['10.0.0.3'], groups: ['other/far', 'default/reviews-b'] },
  {
    id: 'd',
    addresses: ['10.0.0.4'],
    groups: ['default/idle', 'default/reviews-c', 'default/reviews-d'],
    health: 'unhealthy',
  },
];

const MESH: readonly MeshObject[] = [
  group('web', { http: 8080 }),
  group('reviews', { http: 9080, admin: 9090 }, { labels: { version: 'v1' }, locality: 'eu/a' }),
  group('reviews-b', { http: 9080, admin: 9090 }, { app: 'reviews', labels: { version: 'v0' }, locality: 'us/b' }),
  group('reviews-c', { http: 9080, admin: 9090 }, { app: 'reviews', labels: { version: 'v1' }, locality: 'us/b' }),
  group('reviews-d', { http: 9080, admin: 9090 }, { app: 'reviews', labels: { version: 'v1' }, locality: 'ap/c' }),
  group('far', { http: 9080 }, { namespace: 'other' }),
  group('idle', { http: 9080 }),
  group('client', {}, { namespace: 'other' }),
  service('reviews', [
    { name: 'http', port: 80, targetPort: 9080 },
    { name: 'tcp-admin', port: 90, targetPort: 9090 },
  ]),
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

/** All that a mesh with this object comes to: what Envoy and DNS get, how workloads are probed. */
function outcome(extra: readonly MeshObject[], meshed: readonly MeshObject[] = MESH): string {
  const view = meshView({
    objects: [...meshed, ...extra],
    hosts: HOSTS,
    self: 'a',
    network: 'default',
    locality: 'eu/a',
  });
  const server = meshView({ objects: [...meshed, ...extra], hosts: HOSTS, self: 'b' });
  const sets = [view, server].map((each) =>
    Object.values(translate(each).resources).map((map) => [...map.values()].map((item) => [item.name, item.body])),
  );
  const names = ['default', 'other'].map((ns) => [...dnsHosts(view)(ns)]);
  const probes = [...meshed, ...extra].map((item) =>
    probePlan((item.spec as { probe?: ProbeSpec } | undefined)?.probe),
  );
  const concurrency = [view, server].map((each) => each.concurrency ?? 'auto');
  return JSON.stringify([sets, names, probes, concurrency]);
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

const ROWS: readonly Row[] = [
  ...SERVICE_ROWS,
  ...VIRTUAL_SERVICE_ROWS,
  ...DESTINATION_RULE_ROWS,
  ...GATEWAY_ROWS,
  ...SECURITY_ROWS,
  ...MESH_CONFIG_ROWS,
  ...SIDECAR_ROWS,
];

/** Said and kept, and nothing more: annotations are for people; these values are the defaults, written out. */
const INERT = new Set([
  'WorkloadGroup spec.metadata.annotations.*',
  'Service spec.type',
  'Service spec.ports[].protocol',
  'Sidecar spec.egress[].port.name',
  'Sidecar spec.ingress[].port.name',
  'MeshConfig spec.rootNamespace',
  'Service spec.clusterIPs[]',
  'Service spec.sessionAffinity',
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
