import { X509Certificate } from 'node:crypto';
import type {
  ClusterRow,
  ConfigFilter,
  EndpointRow,
  ListenerRow,
  Origin,
  RouteRow,
  SecretRow,
} from '../../api/http/host-query.ts';
import type { ObjectKey } from '../../api/resources/object.ts';
import { chainWords, lastFilter } from './chain.ts';
import { at, type Body, type HostState, listOf, maybe, numberOf, textOf, textsOf } from './envoy-json.ts';
import { matchWords, originOf, targetOf, targetWords, weightedOf } from './route.ts';

/** A row and the resource of Envoy's that it was made of. */
export interface Made<Row> {
  readonly row: Row;
  readonly resource: Body;
}

/** One row a filter chain. `target(name)`: words for a TCP proxy that comes as a resource of its own. */
export function listenerRows(
  listeners: readonly Body[],
  target: (extension: string) => string,
  filter: ConfigFilter,
): Made<ListenerRow>[] {
  return listeners.flatMap((listener) => {
    const socket = at(listener, 'address', 'socket_address');
    const base = {
      listener: textOf(listener, 'name'),
      address: textOf(socket, 'address'),
      port: numberOf(socket, 'port_value') ?? 0,
    };
    const inbound = textOf(listener, 'traffic_direction') === 'INBOUND';
    if (filter.name !== undefined && filter.name !== base.listener) return [];
    if (filter.direction !== undefined && (filter.direction === 'inbound') !== inbound) return [];
    if (filter.address !== undefined && filter.address !== base.address) return [];
    const fallback = maybe(listener, 'default_filter_chain');
    const chains = [...listOf(listener, 'filter_chains'), ...(fallback === undefined ? [] : [fallback])];
    return chains
      .filter((chain) => filter.port === undefined || filter.port === base.port || portOf(chain) === filter.port)
      .map((chain) => ({
        row: { ...base, match: chainWords(chain), destination: destinationOf(chain, target) },
        resource: listener,
      }))
      .filter(
        ({ row }) =>
          filter.fqdn === undefined || row.destination.includes(filter.fqdn) || row.match.includes(filter.fqdn),
      );
  });
}

function portOf(chain: Body): number | undefined {
  return numberOf(at(chain, 'filter_chain_match'), 'destination_port');
}

function destinationOf(chain: Body, target: (extension: string) => string): string {
  const last = lastFilter(chain);
  if (last === undefined) return 'nothing';
  if (last.kind === 'discovered') return target(last.name);
  if (last.kind === 'tcp') return `Cluster: ${targetWords(weightedOf(last.config))}`;
  const route = textOf(at(last.config, 'rds'), 'route_config_name');
  if (route !== '') return `Route: ${route}`;
  return `Inline Route: ${listOf(at(last.config, 'route_config'), 'virtual_hosts')
    .flatMap((host) => listOf(host, 'routes'))
    .map((one) => targetWords(targetOf(one)))
    .join(', ')}`;
}

/** One row a route. */
export function routeRows(configs: readonly Body[], filter: ConfigFilter): Made<RouteRow>[] {
  return configs.flatMap((config) => {
    const name = textOf(config, 'name');
    if (filter.name !== undefined && filter.name !== name) return [];
    if (filter.port !== undefined && !name.includes(`_.${filter.port}_.`)) return [];
    return listOf(config, 'virtual_hosts')
      .filter((host) => filter.fqdn === undefined || textsOf(host, 'domains').some((domain) => domain === filter.fqdn))
      .flatMap((host) =>
        listOf(host, 'routes').map((route) => {
          const origin: Origin | undefined = originOf(route);
          const row: RouteRow = {
            name,
            virtualHost: textOf(host, 'name'),
            domains: textsOf(host, 'domains'),
            match: matchWords(at(route, 'match')),
            target: targetWords(targetOf(route)),
            ...(origin === undefined ? {} : { origin }),
          };
          return { row, resource: config };
        }),
      );
  });
}

/** What `outbound_.80_.v1_.reviews.default.svc.cluster.local` says (translate/names.ts), the client's own suffix left out. */
export function clusterParts(name: string): Pick<ClusterRow, 'fqdn' | 'port' | 'subset' | 'direction'> {
  const found = /^(outbound|inbound)_\.(\d+)_\.([^_]*)_\.([^~]*)/.exec(name);
  if (found === null) return { fqdn: name, subset: '', direction: name.startsWith('inbound') ? 'inbound' : '' };
  const [, direction, port, subset = '', fqdn = ''] = found;
  return { fqdn, port: Number(port), subset, direction: direction as 'outbound' | 'inbound' };
}

export function clusterRows(
  clusters: readonly Body[],
  origins: (cluster: string) => readonly ObjectKey[],
  filter: ConfigFilter,
): Made<ClusterRow>[] {
  return clusters.flatMap((cluster) => {
    const name = textOf(cluster, 'name');
    if (!clusterAsked(name, filter)) return [];
    const row: ClusterRow = {
      name,
      ...clusterParts(name),
      type: textOf(cluster, 'type') || textOf(at(cluster, 'cluster_type'), 'name') || 'STATIC',
      destinationRules: origins(name).filter((key) => key.startsWith('DestinationRule/')),
    };
    return [{ row, resource: cluster }];
  });
}

/** Whether a cluster of that name was asked for. */
export function clusterAsked(name: string, filter: ConfigFilter): boolean {
  const parts = clusterParts(name);
  return (
    (filter.name === undefined || filter.name === name) &&
    (filter.fqdn === undefined || parts.fqdn === filter.fqdn || parts.fqdn.startsWith(`${filter.fqdn}.`)) &&
    (filter.port === undefined || parts.port === filter.port) &&
    (filter.subset === undefined || parts.subset === filter.subset) &&
    (filter.direction === undefined || parts.direction === filter.direction)
  );
}

/** Endpoints out of `/clusters?format=json`. */
export function endpointRows(statuses: readonly Body[], filter: ConfigFilter): Made<EndpointRow>[] {
  return statuses.flatMap((status) => {
    const cluster = textOf(status, 'name');
    // A port names the endpoint's here, as istioctl has it.
    if (!clusterAsked(cluster, { ...filter, port: undefined })) return [];
    return listOf(status, 'host_statuses').flatMap((one) => {
      const host = hostState(one);
      if (filter.address !== undefined && filter.address !== host.address) return [];
      if (filter.port !== undefined && filter.port !== host.port) return [];
      if (filter.status !== undefined && (filter.status === 'healthy') !== host.healthy) return [];
      const row: EndpointRow = {
        endpoint:
          host.port === 0
            ? host.address
            : `${host.address.includes(':') ? `[${host.address}]` : host.address}:${host.port}`,
        status: host.status,
        outlier: host.ejected ? 'FAILED' : 'OK',
        cluster,
        locality: host.locality,
        priority: host.priority,
        weight: host.weight,
      };
      return [{ row, resource: { cluster, ...one, stats: undefined } }];
    });
  });
}

/** One entry of host_statuses (admin.v3.HostStatus). */
export function hostState(status: Body): HostState {
  const socket = at(status, 'address', 'socket_address');
  const health = at(status, 'health_status');
  const eds = textOf(health, 'eds_health_status') || 'UNKNOWN';
  const ejected = health.failed_outlier_check === true;
  const checked = health.failed_active_health_check === true;
  const locality = at(status, 'locality');
  return {
    address: textOf(socket, 'address') || textOf(at(status, 'address', 'pipe'), 'path'),
    port: numberOf(socket, 'port_value') ?? 0,
    status: checked ? 'UNHEALTHY' : eds,
    ejected,
    healthy: !ejected && !checked && ['HEALTHY', 'UNKNOWN', 'DEGRADED'].includes(eds),
    locality: [locality.region, locality.zone, locality.sub_zone].filter((part) => typeof part === 'string').join('/'),
    priority: numberOf(status, 'priority') ?? 0,
    weight: numberOf(status, 'weight') ?? 1,
  };
}

/** One row a certificate; never a key. `secrets`: entries of the secrets' dump, `active` or warming. */
export function secretRows(
  secrets: readonly { readonly entry: Body; readonly active: boolean }[],
  filter: ConfigFilter,
  now: number,
): SecretRow[] {
  return secrets.flatMap(({ entry, active }): SecretRow[] => {
    const name = textOf(entry, 'name');
    if (filter.name !== undefined && filter.name !== name) return [];
    const secret = at(entry, 'secret');
    const chain = maybe(secret, 'tls_certificate', 'certificate_chain');
    const trusted = maybe(secret, 'validation_context', 'trusted_ca');
    const status = active ? ('ACTIVE' as const) : ('WARMING' as const);
    const empty = { name, status, valid: false, serial: '', notAfter: '', notBefore: '', sans: [] };
    if (chain !== undefined)
      return certificates(chain)
        .slice(0, 1)
        .map((one) => ({ ...empty, type: 'Cert Chain' as const, ...shown(one, now) }));
    if (trusted !== undefined)
      return certificates(trusted).map((one) => ({ ...empty, type: 'CA' as const, ...shown(one, now) }));
    return [{ ...empty, type: 'Cert Chain' as const }];
  });
}

function certificates(source: Body): X509Certificate[] {
  const pem =
    textOf(source, 'inline_string') || Buffer.from(textOf(source, 'inline_bytes'), 'base64').toString('latin1');
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
  return blocks.flatMap((block) => {
    try {
      return [new X509Certificate(block)];
    } catch {
      return [];
    }
  });
}

function shown(
  certificate: X509Certificate,
  now: number,
): Pick<SecretRow, 'valid' | 'serial' | 'notAfter' | 'notBefore' | 'sans'> {
  const [notBefore, notAfter] = [certificate.validFromDate, certificate.validToDate];
  return {
    valid: now >= notBefore.getTime() && now <= notAfter.getTime(),
    serial: certificate.serialNumber.toLowerCase(),
    notAfter: notAfter.toISOString(),
    notBefore: notBefore.toISOString(),
    sans: (certificate.subjectAltName ?? '').split(', ').filter((one) => one !== ''),
  };
}
