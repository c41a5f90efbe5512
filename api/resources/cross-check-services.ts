import { perMesh } from './analysis/model.ts';
import type { MeshLookup } from './cross-check.ts';
import type { MeshObject } from './object.ts';
import type { Report } from './report.ts';
import type { ServiceEntrySpec } from './semantics/service-entry.ts';
import type { WorkloadFields } from './semantics/workload.ts';

interface ServiceSpec {
  readonly type?: string;
  readonly externalName?: string;
  readonly ports?: readonly { readonly port?: number; readonly targetPort?: number | string }[];
}

interface GroupSpec {
  readonly template?: WorkloadFields;
}

const CLUSTER_DOMAIN = '.svc.cluster.local';
const NETWORK_LABEL = 'topology.istio.io/network';

/** What looks wrong of services and workloads only beside the rest of the mesh: warnings, as crossCheck has them. */
export function checkServicesBeside(object: MeshObject, lookup: MeshLookup, report: Report): void {
  switch (object.kind) {
    case 'Service':
      checkAlias((object.spec ?? {}) as ServiceSpec, lookup, report);
      return;
    case 'ServiceEntry':
      checkEntry(object, lookup, report);
      return;
    case 'WorkloadEntry':
      checkNetwork((object.spec as WorkloadFields | undefined)?.network, 'spec.network', lookup, report);
      return;
    case 'WorkloadGroup':
      checkNetwork((object.spec as GroupSpec | undefined)?.template?.network, 'spec.template.network', lookup, report);
      return;
  }
}

/** Another name for a service of the mesh: that must be there, with the ports. */
function checkAlias(spec: ServiceSpec, lookup: MeshLookup, report: Report): void {
  if (spec.type !== 'ExternalName') return;
  const target = (spec.externalName ?? '').toLowerCase().replace(/\.$/, '');
  if (!target.endsWith(CLUSTER_DOMAIN)) return;
  for (const service of lookup.list('Service')) {
    if (`${service.metadata.name}.${service.metadata.namespace}${CLUSTER_DOMAIN}` !== target) continue;
    const theirs = new Set(((service.spec as ServiceSpec | undefined)?.ports ?? []).map(({ port }) => port));
    for (const [i, port] of (spec.ports ?? []).entries()) {
      const wanted = Number(port.targetPort ?? port.port);
      if (!theirs.has(wanted))
        report.warn(`spec.ports[${i}]`, `${target} has no port ${wanted}: nobody serves this one`);
    }
    return;
  }
  report.warn('spec.externalName', `there is no Service ${target}`);
}

function checkEntry(object: MeshObject, lookup: MeshLookup, report: Report): void {
  const spec = (object.spec ?? {}) as ServiceEntrySpec;
  const places = new Map((spec.hosts ?? []).map((host, i) => [host, i]).reverse() as [string, number][]);
  lookup.step?.(places.size + (spec.endpoints ?? []).length);
  for (const [i, endpoint] of (spec.endpoints ?? []).entries())
    checkNetwork(endpoint.network, `spec.endpoints[${i}].network`, lookup, report);
  for (const other of lookup.list('ServiceEntry')) {
    if (other.metadata.namespace !== object.metadata.namespace || other.metadata.name === object.metadata.name)
      continue;
    const theirs = (other.spec ?? {}) as ServiceEntrySpec;
    if ((theirs.resolution ?? 'NONE') === (spec.resolution ?? 'NONE')) continue;
    lookup.step?.(1 + (theirs.hosts ?? []).length);
    const index = (theirs.hosts ?? []).reduce(
      (first, host) => Math.min(first, places.get(host) ?? first),
      Number.POSITIVE_INFINITY,
    );
    if (index < Number.POSITIVE_INFINITY)
      report.warn(
        `spec.hosts[${index}]`,
        `ServiceEntry ${other.metadata.namespace}/${other.metadata.name} has it with another resolution: the older one counts alone`,
      );
  }
}

const networksWithGateway = perMesh(
  (lookup: MeshLookup) => new Set([...lookup.list('Service')].map(({ metadata }) => metadata.labels?.[NETWORK_LABEL])),
);

/** Istio: a network without a gateway is reached as if it were one's own. */
function checkNetwork(network: string | undefined, path: string, lookup: MeshLookup, report: Report): void {
  if (network === undefined || network === '') return;
  if (networksWithGateway(lookup).has(network)) return;
  report.warn(
    path,
    `no Service has the label ${NETWORK_LABEL}: ${network}: without a gateway the network is reached directly from everywhere`,
  );
}
