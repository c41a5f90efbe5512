import { MeshError } from '../errors.ts';

/**
 * SPIFFE IDs of the mesh (SPIFFE-ID 2; DESIGN 3.4). A host: spiffe://TD/host/HOST-ID, used for gossip, enrolment and records only. A
 * workload: spiffe://TD/ns/NS/sa/SA, the only kind that Envoy accepts. A controller replica: spiffe://TD/controller/REPLICA.
 */
export type ParsedSpiffeId =
  | {
      readonly kind: 'workload';
      readonly trustDomain: string;
      readonly namespace: string;
      readonly serviceAccount: string;
    }
  | { readonly kind: 'host'; readonly trustDomain: string; readonly hostId: string }
  | { readonly kind: 'controller'; readonly trustDomain: string; readonly replica: string };

/** DNS-1123 label: namespaces, host ids, replica names. 1 to 63 characters. */
export const LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** DNS-1123 subdomain: service accounts, trust domains. 1 to 253 characters. */
export const SUBDOMAIN = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

export function workloadSpiffeId(trustDomain: string, namespace: string, serviceAccount: string): string {
  return `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`;
}

export function hostSpiffeId(trustDomain: string, hostId: string): string {
  return `spiffe://${trustDomain}/host/${hostId}`;
}

export function controllerSpiffeId(trustDomain: string, replica: string): string {
  return `spiffe://${trustDomain}/controller/${replica}`;
}

/** The DNS SAN that every SVID of a host carries, so that one stolen host can be refused while its twins serve (DESIGN 3.4). */
export function hostDnsName(trustDomain: string, hostId: string): string {
  return `${hostId}.hosts.${trustDomain}`;
}

/** Parses one of the three shapes above; throws MeshError SPIFFE_ID_INVALID on anything else. */
export function parseSpiffeId(uri: string): ParsedSpiffeId {
  const match = /^spiffe:\/\/([^/]{1,253})\/(.{1,600})$/.exec(uri);
  const trustDomain = match?.[1] ?? '';
  const path = match?.[2]?.split('/') ?? [];
  if (SUBDOMAIN.test(trustDomain)) {
    const [a, b, c, d] = path;
    if (path.length === 4 && a === 'ns' && c === 'sa' && LABEL.test(b ?? '') && SUBDOMAIN.test(d ?? '')) {
      return { kind: 'workload', trustDomain, namespace: b as string, serviceAccount: d as string };
    }
    if (path.length === 2 && a === 'host' && LABEL.test(b ?? ''))
      return { kind: 'host', trustDomain, hostId: b as string };
    if (path.length === 2 && a === 'controller' && LABEL.test(b ?? '')) {
      return { kind: 'controller', trustDomain, replica: b as string };
    }
  }
  throw new MeshError('SPIFFE_ID_INVALID', `not a SPIFFE ID of this mesh: ${uri.slice(0, 200)}`);
}
