import { ipVersion } from '../../api/resources/formats.ts';
import { reachedFrom } from './lookup.ts';
import type { MeshView, ServiceView } from './view.ts';

/** Addresses of one host name. */
export interface HostAddresses {
  readonly v4: readonly string[];
  readonly v6: readonly string[];
}

/**
 * What agent/dns answers from: for a namespace, the full names and `*.suffix` patterns of the services that its workloads on this host see (by
 * their Sidecars) and that have
 * addresses, with these; a headless service's are its endpoints'. Services that live wherever their clients go, and ranges of addresses,
 * are left to the host's own resolvers.
 */
export function dnsHosts(view: MeshView): (namespace: string) => ReadonlyMap<string, HostAddresses> {
  const tables = new Map<string, ReadonlyMap<string, HostAddresses>>();
  return (namespace) => {
    const known = tables.get(namespace);
    if (known !== undefined) return known;
    const table = new Map<string, HostAddresses>();
    for (const service of reachedFrom(view, namespace)) {
      const addresses = answersOf(service);
      if (addresses.length === 0) continue;
      table.set(service.host, {
        v4: addresses.filter((address) => !address.includes(':')),
        v6: addresses.filter((address) => address.includes(':')),
      });
    }
    tables.set(namespace, table);
    return table;
  };
}

/** Of a headless service what is ready and reached directly: clients go there by themselves. */
function answersOf({ addresses, headless, endpoints }: ServiceView): readonly string[] {
  if (headless !== true) return addresses.filter((address) => !address.includes('/'));
  const ready = endpoints
    .filter((endpoint) => endpoint.health === 'healthy' && endpoint.viaGateway !== true)
    .flatMap((endpoint) => endpoint.addresses);
  return [...new Set(ready)].filter((address) => ipVersion(address) !== 0);
}
