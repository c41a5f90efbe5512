/*
 * Room agent/dns. In: queries on loopback sockets, one port a namespace; the mesh's names; the host's resolvers. Out: addresses of mesh
 * names, everything else as the resolvers answer it. resolve.ts and message.ts decide (pure); forwarder.ts and server.ts do IO.
 * Never: send a query to itself, take over a name that is not the mesh's, change what a resolver answered.
 */
import { type Answer, CLASS_IN, type Query, RCODE, TYPE } from './message.ts';

/** Textual addresses of one host of the mesh. */
export interface NameAddresses {
  readonly v4: readonly string[];
  readonly v6: readonly string[];
}

/** What the mesh says to a name: its addresses, that it is in the mesh's own domain and does not exist, or nothing (`foreign`). */
export type NameVerdict =
  | ({ readonly kind: 'addresses' } & NameAddresses)
  | { readonly kind: 'nxdomain' }
  | { readonly kind: 'foreign' };

/** The mesh's names as a workload of `namespace` sees them. `name` is lower-case without trailing dot. */
export interface Names {
  lookup(namespace: string, name: string): NameVerdict;
}

/** Where services' full names end (Istio's own, so that its documents hold). */
export const CLUSTER_DOMAIN = 'svc.cluster.local';
/** Short: an address that moves is noticed soon; long enough that a busy client does not ask for each connection. */
export const TTL_SECONDS = 10;

export type Decision = { readonly kind: 'answer'; readonly answer: Answer } | { readonly kind: 'forward' };

/**
 * Answers from the mesh or sends on. A and AAAA get the addresses (ANY both, RFC 8482 allows a subset), other types of a mesh name an empty
 * NOERROR, so that clients do not take the name as missing. `searchDomains`: the host's own.
 */
export function decide(query: Query, namespace: string, names: Names, searchDomains: readonly string[]): Decision {
  // A label that no host name can have would else meet a wildcard.
  if (query.class !== CLASS_IN || query.name.includes('\\')) return { kind: 'forward' };
  const verdict = hasMeshTail(query.name, searchDomains)
    ? ({ kind: 'nxdomain' } as const)
    : names.lookup(namespace, query.name);
  if (verdict.kind === 'foreign') return { kind: 'forward' };
  const zone = query.name.endsWith(CLUSTER_DOMAIN) ? CLUSTER_DOMAIN : query.name;
  if (verdict.kind === 'nxdomain') return answer({ rcode: RCODE.nxDomain, addresses: [], ttl: TTL_SECONDS, zone });
  const v4 = query.type === TYPE.a || query.type === TYPE.any ? verdict.v4 : [];
  const v6 = query.type === TYPE.aaaa || query.type === TYPE.any ? verdict.v6 : [];
  return answer({ rcode: RCODE.noError, addresses: [...v4, ...v6], ttl: TTL_SECONDS, zone });
}

function answer(value: Answer): Decision {
  return { kind: 'answer', answer: value };
}

/**
 * `reviews.default.svc.cluster.local.corp.example`: a resolver trying its search list on a full mesh name. It does not exist, and nobody
 * outside needs to hear of it. Shorter names with a tail may be real ones out there: they are sent on.
 */
function hasMeshTail(name: string, searchDomains: readonly string[]): boolean {
  return searchDomains.some((domain) => name.endsWith(`.${CLUSTER_DOMAIN}.${domain}`));
}

/**
 * Names over a plain table. `hosts(namespace)`: full names and `*.suffix` patterns that the namespace sees, lower-case. Tried in order: the
 * name as it stands, NAME in the asker's namespace, NAME.NS, NAME.NS.svc, the longest wildcard. In the mesh's domain what is not there
 * does not exist; a host without addresses (no VIP) is foreign.
 */
export function createNames(hosts: (namespace: string) => ReadonlyMap<string, NameAddresses>): Names {
  return {
    lookup(namespace, name) {
      const table = hosts(namespace);
      for (const candidate of candidates(name, namespace)) {
        const found = table.get(candidate);
        if (found !== undefined && found.v4.length + found.v6.length > 0) return { kind: 'addresses', ...found };
      }
      return name === CLUSTER_DOMAIN || name.endsWith(`.${CLUSTER_DOMAIN}`)
        ? { kind: 'nxdomain' }
        : { kind: 'foreign' };
    },
  };
}

/** Whether a name is one of `domains`, or below one. */
export function isBelow(name: string, domains: ReadonlySet<string>): boolean {
  const labels = name.split('.');
  return labels.some((_, at) => domains.has(labels.slice(at).join('.')));
}

function candidates(name: string, namespace: string): string[] {
  const labels = name.split('.');
  const list = [name];
  if (labels.length === 1 && name !== '') list.push(`${name}.${namespace}.${CLUSTER_DOMAIN}`);
  if (labels.length === 2) list.push(`${name}.${CLUSTER_DOMAIN}`);
  if (labels.length === 3 && labels[2] === 'svc') list.push(`${name}.cluster.local`);
  for (let at = 1; at < labels.length; at++) list.push(`*.${labels.slice(at).join('.')}`);
  return list;
}
