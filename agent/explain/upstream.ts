import type { CallTarget, Origin, Step } from '../../api/http/host-query.ts';
import type { MeshObject, ObjectKey } from '../../api/resources/object.ts';
import { at, type Body, type HostState, listOf, maybe, numberOf, textOf } from './envoy-json.ts';
import { clusterParts } from './rows.ts';
import { byObjects, outboundPolicyOrigin, stepOf, type WhySources, words } from './sources.ts';

/** A cluster that a route leads to. */
export interface ClusterCall {
  readonly cluster: string;
  readonly share: number;
  readonly tcp: boolean;
  /** What names the cluster. */
  readonly writtenAt: Origin | undefined;
}

export interface UpstreamFound {
  readonly steps: readonly Step[];
  readonly target?: CallTarget;
}

const PASSTHROUGH = 'PassthroughCluster';
const BLACK_HOLE = 'BlackHoleCluster';
const MAX_ENDPOINTS_SHOWN = 20;

/** The cluster and its endpoints as load balancing has them. */
export async function clusterSteps(call: ClusterCall, sources: WhySources): Promise<UpstreamFound> {
  const name = call.cluster;
  if (name === BLACK_HOLE)
    return {
      steps: [
        stepOf(
          'cluster',
          'stop',
          'nowhere: no service of the mesh takes it, and it may not leave',
          outboundPolicyOrigin(sources),
        ),
      ],
    };
  if (name === PASSTHROUGH)
    return {
      steps: [
        stepOf('cluster', 'ok', 'out of the mesh, to where it was going, in plaintext', outboundPolicyOrigin(sources)),
      ],
    };
  const body = await sources.envoy.cluster(name);
  const served = sources.served('cluster', name);
  if (body === undefined) return { steps: [missing(call, served.refused)] };
  const { fqdn, port, subset } = clusterParts(name);
  const origins = clusterOrigins(served.origins, subset, sources);
  const transport = transportOf(body);
  const details = [
    `${textOf(body, 'type') || 'STATIC'}, ${(textOf(body, 'lb_policy') || 'ROUND_ROBIN').toLowerCase().replaceAll('_', ' ')}`,
    transport === 'mtls'
      ? 'mTLS'
      : transport === 'plain'
        ? 'plaintext'
        : transport === 'tls'
          ? 'TLS'
          : 'mTLS to endpoints of the mesh, plaintext to others',
    ...limitWords(body),
    ...words(served.refused),
  ];
  const label = subset === '' ? '' : `, subset ${subset}`;
  const share = call.share === 100 ? '' : `${call.share} %: `;
  const cluster = stepOf(
    'cluster',
    'ok',
    `${share}${fqdn}${port === undefined ? '' : `:${port}`}${label}`,
    origins,
    details,
  );
  if (textOf(body, 'type') === 'ORIGINAL_DST')
    return { steps: [cluster, stepOf('endpoints', 'ok', 'the address that the application connected to itself')] };
  const hosts = await sources.envoy.hosts(name);
  const target: CallTarget = {
    cluster: name,
    share: call.share,
    mtls: transport === 'mtls' || transport === 'mixed',
    endpoints: hosts.slice(0, 100).map(({ address, port: number, healthy }) => ({ address, port: number, healthy })),
  };
  return { steps: [cluster, endpointStep(body, hosts, origins)], target };
}

/** Envoy has no such cluster: the destination names a host, port or subset that is not there. */
function missing({ cluster, writtenAt, tcp }: ClusterCall, refused: string | undefined): Step {
  const { fqdn, port, subset } = clusterParts(cluster);
  const what =
    port === undefined ? `cluster ${fqdn}` : `port ${port}${subset === '' ? '' : `, subset ${subset}`} of ${fqdn}`;
  return stepOf(
    'cluster',
    'stop',
    `Envoy has no ${what}: ${tcp ? 'the connection is closed' : '503 (no cluster)'}`,
    writtenAt === undefined
      ? []
      : [
          {
            object: writtenAt.object,
            ...(writtenAt.path === undefined ? {} : { path: destinationPath(writtenAt.path) }),
          },
        ],
    words(refused),
  );
}

/** `spec.http[0].match[1]` decides the route; its destinations are beside it. */
function destinationPath(path: string): string {
  return `${path.replace(/\.match\[\d+\]$/, '')}.route`;
}

/** Of the DestinationRules behind a cluster, the subset's own field. */
function clusterOrigins(keys: readonly ObjectKey[], subset: string, sources: WhySources): Origin[] {
  return keys.map((object) => {
    const index =
      subset === '' || !object.startsWith('DestinationRule/') ? -1 : subsetIndex(sources.object(object), subset);
    return index < 0 ? { object } : { object, path: `spec.subsets[${index}]` };
  });
}

function subsetIndex(rule: MeshObject | undefined, subset: string): number {
  const subsets = (rule?.spec as { subsets?: readonly { name?: string }[] } | undefined)?.subsets ?? [];
  return subsets.findIndex((one) => one.name === subset);
}

/** How connections of a cluster are secured. `mixed`: by each endpoint's metadata. */
function transportOf(cluster: Body): 'mtls' | 'plain' | 'tls' | 'mixed' {
  if (listOf(cluster, 'transport_socket_matches').length > 0) return 'mixed';
  const socket = maybe(cluster, 'transport_socket');
  if (socket === undefined || textOf(socket, 'name') === 'envoy.transport_sockets.raw_buffer') return 'plain';
  const common = at(socket, 'typed_config', 'common_tls_context');
  const alpn = common.alpn_protocols;
  const ours = Array.isArray(alpn) && alpn.some((one) => String(one).startsWith('istio'));
  return ours ? 'mtls' : 'tls';
}

const NO_LIMIT = 4_294_967_295;

function limitWords(cluster: Body): string[] {
  const [first = {}] = listOf(at(cluster, 'circuit_breakers'), 'thresholds');
  return ['max_connections', 'max_pending_requests', 'max_requests', 'max_retries'].flatMap((key) => {
    const limit = numberOf(first as Body, key);
    return limit === undefined || limit === NO_LIMIT ? [] : [`at most ${limit} ${key.slice(4).replaceAll('_', ' ')}`];
  });
}

function endpointStep(cluster: Body, hosts: readonly HostState[], origins: readonly Origin[]): Step {
  const service = origins.filter(({ object, path }) => path !== undefined || !object.startsWith('DestinationRule/'));
  if (hosts.length === 0) return stepOf('endpoints', 'stop', 'nobody serves it: 503 (no endpoint)', service);
  const healthy = hosts.filter((host) => host.healthy);
  const details = hosts.slice(0, MAX_ENDPOINTS_SHOWN).map(hostWords);
  if (hosts.length > MAX_ENDPOINTS_SHOWN) details.push(`and ${hosts.length - MAX_ENDPOINTS_SHOWN} more`);
  const threshold = numberOf(at(cluster, 'common_lb_config', 'healthy_panic_threshold'), 'value') ?? 50;
  const levels = [...new Set(hosts.map((host) => host.priority))].sort((a, b) => a - b);
  const counts = `${healthy.length} of ${hosts.length} endpoints healthy`;
  if (healthy.length === 0 && threshold === 0)
    return stepOf('endpoints', 'stop', `${counts}: 503 (no healthy endpoint)`, service, details);
  if (healthy.length === 0)
    return stepOf('endpoints', 'unsure', `${counts}: Envoy tries all of them all the same`, service, details);
  const serving = levels.find((level) => healthy.some((host) => host.priority === level)) ?? 0;
  if (levels.length > 1)
    details.unshift(`priority ${serving} is the nearest with healthy endpoints (priorities ${levels.join(', ')})`);
  return stepOf('endpoints', 'ok', counts, byObjects([]), details);
}

function hostWords(host: HostState): string {
  const where = host.address.includes(':') ? `[${host.address}]:${host.port}` : `${host.address}:${host.port}`;
  const parts = [
    host.ejected ? 'ejected by outlier detection' : host.status.toLowerCase(),
    ...(host.locality === '' ? [] : [host.locality]),
    ...(host.priority === 0 ? [] : [`priority ${host.priority}`]),
  ];
  return `${where} ${parts.join(', ')}`;
}
