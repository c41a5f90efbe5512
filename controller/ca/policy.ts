import { parseSpiffeId } from '../../api/identity/spiffe-id.ts';
import { credentialsOf, gatewaySelects, ruleArms, ruleCredentials } from '../../api/resources/gateway-binding.ts';
import type { MeshObject } from '../../api/resources/object.ts';
import type { HostRow } from '../store/internal-rows.ts';

export type Verdict =
  | { readonly allowed: true; readonly spiffeId: string }
  | { readonly allowed: false; readonly code: string; readonly message: string };

/**
 * May this host have an SVID for this WorkloadGroup, and under which SPIFFE ID (DESIGN 3.4: no grant, no SVID)? `workloadGroup` is the
 * stored object, or undefined when there is none. Pure.
 */
export function mayIssueWorkload(
  host: HostRow | undefined,
  group: string,
  workloadGroup: MeshObject | undefined,
  trustDomain: string,
): Verdict {
  if (host === undefined) return refuse('HOST_UNKNOWN', 'this host has no grant');
  if (host.revokedAt !== undefined) return refuse('HOST_REVOKED', `host ${host.host} was revoked at ${host.revokedAt}`);
  if (!host.workloadGroups.includes(group)) {
    return refuse(
      'NOT_GRANTED',
      `host ${host.host} is not granted WorkloadGroup ${group}; create a token that names it`,
    );
  }
  if (workloadGroup === undefined) return refuse('WORKLOAD_GROUP_UNKNOWN', `WorkloadGroup ${group} does not exist yet`);
  const namespace = group.slice(0, group.indexOf('/'));
  const template = (workloadGroup.spec as { template?: { serviceAccount?: string } } | undefined)?.template;
  const spiffeId = `spiffe://${trustDomain}/ns/${namespace}/sa/${template?.serviceAccount || 'default'}`;
  try {
    parseSpiffeId(spiffeId);
  } catch {
    return refuse('SERVICE_ACCOUNT_INVALID', `WorkloadGroup ${group} names no valid service account`);
  }
  return { allowed: true, spiffeId };
}

/** May the holder of this host SVID (serial, hash of its key, expiry) have a new one? Detects clones by serial (DESIGN 3.4). */
export function mayRenewHost(
  host: HostRow | undefined,
  presented: { readonly serial: string; readonly keySha256: string; readonly expired: boolean },
): { readonly allowed: true } | { readonly allowed: false; readonly code: string; readonly message: string } {
  if (host === undefined) return refuse('HOST_UNKNOWN', 'this host has no grant');
  if (host.revokedAt !== undefined) return refuse('HOST_REVOKED', `host ${host.host} was revoked at ${host.revokedAt}`);
  if (host.hostKey !== presented.keySha256) {
    return refuse(
      'HOST_KEY_CHANGED',
      `the key is not the one that ${host.host} enrolled with; enrol again with a new token`,
    );
  }
  if (presented.expired && !(host.serials ?? []).includes(presented.serial)) {
    return refuse(
      'HOST_CLONED',
      `an older SVID of ${host.host} came back: two machines may hold its key; revoke or enrol again`,
    );
  }
  return { allowed: true };
}

/**
 * May this host have the Secret (docs/decisions/0009)? Its grant must name a WorkloadGroup of the Secret's namespace that a Gateway with that
 * credential selects, or that a DestinationRule with it arms (0011). `groups`: the objects of the granted WorkloadGroups; `gateways`: all of
 * the mesh; `rules`: the DestinationRules of the Secret's namespace. Pure.
 */
export function mayHaveSecret(
  host: HostRow | undefined,
  secret: { readonly namespace: string; readonly name: string },
  groups: readonly MeshObject[],
  gateways: readonly MeshObject[],
  rules: readonly MeshObject[] = [],
): { readonly allowed: true } | { readonly allowed: false; readonly code: string; readonly message: string } {
  if (host === undefined) return refuse('HOST_UNKNOWN', 'this host has no grant');
  if (host.revokedAt !== undefined) return refuse('HOST_REVOKED', `host ${host.host} was revoked at ${host.revokedAt}`);
  const own = groups.filter(
    ({ metadata: { namespace, name } }) =>
      namespace === secret.namespace && host.workloadGroups.includes(`${namespace}/${name}`),
  );
  const naming = gateways.filter((gateway) => credentialsOf(gateway).has(secret.name));
  if (naming.some((gateway) => own.some((group) => gatewaySelects(gateway, group)))) return { allowed: true };
  const arming = rules.filter((rule) => ruleCredentials(rule).has(secret.name));
  if (arming.some((rule) => own.some((group) => ruleArms(rule, group, gateways)))) return { allowed: true };
  return refuse(
    'SECRET_NOT_GRANTED',
    `no Gateway or DestinationRule that names Secret ${secret.namespace}/${secret.name} is for a WorkloadGroup of its namespace that host ${host.host} is granted`,
  );
}

function refuse(code: string, message: string): { allowed: false; code: string; message: string } {
  return { allowed: false, code, message };
}
