import { SUBDOMAIN } from '../../identity/spiffe-id.ts';
import { checkLabelName, dnsNameFault } from '../formats.ts';
import type { MeshObject } from '../object.ts';
import { type Report, shown } from '../report.ts';
import type { SemanticContext } from './context.ts';

/** Spec of MeshConfig, the one kind of our own that operators write. */
export interface MeshConfigSpec {
  /** Fixed by `mesh-controller init`. */
  readonly trustDomain?: string;
  readonly outboundTrafficPolicy?: { readonly mode?: 'ALLOW_ANY' | 'REGISTRY_ONLY' };
  readonly accessLog?: { readonly enabled?: boolean };
  /** Who may define an external or wildcard host for the whole mesh; the longest matching host decides. */
  readonly hostOwnership?: readonly { readonly hosts: readonly string[]; readonly namespace: string }[];
}

export function checkMeshConfig(object: MeshObject, report: Report, context: SemanticContext): void {
  const spec = (object.spec ?? {}) as MeshConfigSpec;
  if (spec.trustDomain !== undefined) {
    if (!SUBDOMAIN.test(spec.trustDomain))
      report.add('spec.trustDomain', `${shown(spec.trustDomain)} is not a trust domain`);
    else if (context.trustDomain !== undefined && spec.trustDomain !== context.trustDomain)
      report.add(
        'spec.trustDomain',
        `the trust domain is ${context.trustDomain} and cannot be changed`,
        'FieldValueForbidden',
      );
  }
  const owners = new Map<string, string>();
  for (const [i, rule] of (spec.hostOwnership ?? []).entries()) {
    checkLabelName(rule.namespace, `spec.hostOwnership[${i}].namespace`, report, 'namespace');
    for (const [k, host] of rule.hosts.entries()) {
      const path = `spec.hostOwnership[${i}].hosts[${k}]`;
      const fault = dnsNameFault(host, true);
      if (fault !== undefined) report.add(path, fault);
      if (/(^|\.)svc\.cluster\.local$/.test(host))
        report.add(path, 'names below svc.cluster.local belong to the namespace in them', 'FieldValueForbidden');
      if (owners.has(host)) report.add(path, `${host} is given to ${owners.get(host)} already`, 'FieldValueDuplicate');
      owners.set(host, rule.namespace);
    }
  }
}
