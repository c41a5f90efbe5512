import { buildMeshView, type LocalWorkloadInput, type MeshViewInput } from '../../../../agent/mesh-view/mesh-view.ts';
import type { MeshView } from '../../../../agent/mesh-view/view.ts';
import type { EndpointSnapshot, HostEntry, Liveness, WorkloadRecord } from '../../../../api/gossip/host-record.ts';
import { workloadSpiffeId } from '../../../../api/identity/spiffe-id.ts';
import { keyOf, type MeshObject } from '../../../../api/resources/object.ts';
import type { DesiredConfig, HostGrant, Vip } from '../../../../api/signed-config/desired-config.ts';

export const TRUST_DOMAIN = 'mesh.test';

/** One host of a test mesh: what it serves, and whether it is well. */
export interface TestHost {
  readonly id: string;
  readonly addresses: readonly string[];
  /** `NAMESPACE/NAME` of each WorkloadGroup that it is granted and serves. */
  readonly groups: readonly string[];
  /** The same, of gateways: without a user. */
  readonly gateways?: readonly string[];
  readonly liveness?: Liveness;
  readonly health?: WorkloadRecord['health'];
  readonly weight?: number;
  readonly provenAddresses?: readonly string[];
  readonly grant?: readonly string[];
}

/** A test mesh: operators' objects, hosts, and whose view is taken. */
export interface TestMesh {
  readonly objects: readonly MeshObject[];
  readonly hosts?: readonly TestHost[];
  readonly vips?: Readonly<Record<string, Vip>>;
  readonly revoked?: readonly string[];
  /** Host whose view is taken; default the first. Its groups are the local workloads. */
  readonly self?: string;
  readonly locality?: string;
  /** Name of the network that the host is on; default: it reaches all. */
  readonly network?: string;
  readonly ipv6?: boolean;
}

/** An object as signed config carries it. `created` orders objects of one kind. */
export function object(
  kind: string,
  name: string,
  spec: unknown,
  meta: { namespace?: string; created?: number; labels?: Record<string, string> } = {},
): MeshObject {
  const group = {
    Service: 'v1',
    PeerAuthentication: 'security.istio.io/v1',
    AuthorizationPolicy: 'security.istio.io/v1',
    MeshConfig: 'hostmesh.io/v1',
  }[kind];
  return {
    apiVersion: group ?? 'networking.istio.io/v1',
    kind,
    metadata: {
      name,
      ...(kind === 'MeshConfig' ? {} : { namespace: meta.namespace ?? 'default' }),
      creationTimestamp: new Date(1_700_000_000_000 + (meta.created ?? 0) * 1000).toISOString(),
      ...(meta.labels === undefined ? {} : { labels: meta.labels }),
    },
    spec,
  };
}

/** A WorkloadGroup with label app=NAME (and more), its own service account NAME. */
export function group(
  name: string,
  ports: Record<string, number>,
  options: { namespace?: string; labels?: Record<string, string>; locality?: string; app?: string } = {},
): MeshObject {
  return object(
    'WorkloadGroup',
    name,
    {
      metadata: { labels: { app: options.app ?? name, ...options.labels } },
      template: {
        serviceAccount: name,
        ports,
        ...(options.locality === undefined ? {} : { locality: options.locality }),
      },
    },
    { namespace: options.namespace },
  );
}

/** A v1 Service selecting app=APP (default its own name). */
export function service(
  name: string,
  ports: { name: string; port: number; targetPort?: number | string; appProtocol?: string }[],
  options: { namespace?: string; app?: string } = {},
): MeshObject {
  return object('Service', name, { selector: { app: options.app ?? name }, ports }, { namespace: options.namespace });
}

/** The input of buildMeshView for a test mesh. */
export function meshInput(mesh: TestMesh): MeshViewInput {
  const hosts = mesh.hosts ?? [];
  const self = hosts.find((host) => host.id === mesh.self) ?? hosts[0];
  const objects = new Map(mesh.objects.map((item) => [keyOf(item), item]));
  return {
    desired: desired(mesh, objects, hosts),
    endpoints: snapshot(hosts),
    workloads: [
      ...(self?.groups ?? []).map((id, index) => localWorkload(id, index, objects)),
      ...(self?.gateways ?? []).map((id) => ({
        ...localWorkload(id, 0, objects),
        outboundPort: 0,
        gateway: true as const,
      })),
    ],
    host: {
      id: self?.id ?? 'self',
      addresses: self?.addresses ?? ['10.0.0.1'],
      locality: mesh.locality ?? '',
      ...(mesh.network === undefined ? {} : { network: mesh.network }),
      ipv6: mesh.ipv6 ?? true,
    },
  };
}

export function meshView(mesh: TestMesh): MeshView {
  return buildMeshView(meshInput(mesh));
}

function desired(mesh: TestMesh, objects: DesiredConfig['objects'], hosts: readonly TestHost[]): DesiredConfig {
  return {
    generation: 7,
    trustDomain: TRUST_DOMAIN,
    objects,
    hosts: new Map(
      hosts.map((host): [string, HostGrant] => [
        host.id,
        {
          host: host.id,
          epoch: 1,
          workloadGroups: host.grant ?? [...host.groups, ...(host.gateways ?? [])],
          gossipAddresses: [],
        },
      ]),
    ),
    revokedHosts: new Set(mesh.revoked),
    vips: new Map(Object.entries(mesh.vips ?? allocate(objects))),
    anchors: new Map(),
    minCapability: 1,
  };
}

/** VIPs in order of host name: 240.240.0.1 and up. */
function allocate(objects: DesiredConfig['objects']): Record<string, Vip> {
  const names = [...objects.values()].flatMap((item) => {
    if (item.kind === 'Service') return [`${item.metadata.name}.${item.metadata.namespace}.svc.cluster.local`];
    const spec = item.spec as { hosts?: string[]; addresses?: string[] };
    if (item.kind !== 'ServiceEntry' || spec.addresses !== undefined) return [];
    return (spec.hosts ?? []).filter((host) => !host.startsWith('*'));
  });
  return Object.fromEntries(
    [...new Set(names)]
      .sort()
      .map((name, index) => [
        name,
        { v4: `240.240.0.${index + 1}`, v6: `fd6d:6573:6800::${(index + 1).toString(16)}` },
      ]),
  );
}

function snapshot(hosts: readonly TestHost[]): EndpointSnapshot {
  return {
    version: 1,
    synced: true,
    hosts: new Map(
      hosts.map((host): [string, HostEntry] => [
        host.id,
        {
          liveness: host.liveness ?? 'alive',
          provenAddresses: host.provenAddresses ?? host.addresses,
          record: {
            host: host.id,
            epoch: 1,
            counter: 1,
            capability: 1,
            network: 'default',
            addresses: host.addresses,
            gossipAddresses: [],
            probeKey: '',
            workloads: [...host.groups, ...(host.gateways ?? [])].map((id) => ({
              group: id,
              health: host.health ?? 'healthy',
              ...(host.weight === undefined ? {} : { weight: host.weight }),
            })),
          },
        },
      ]),
    ),
  };
}

function localWorkload(id: string, index: number, objects: DesiredConfig['objects']): LocalWorkloadInput {
  const [namespace = ''] = id.split('/');
  const spec = objects.get(`WorkloadGroup/${id}`)?.spec as {
    metadata?: { labels?: Record<string, string> };
    template?: { serviceAccount?: string; ports?: Record<string, number>; labels?: Record<string, string> };
  };
  const serviceAccount = spec?.template?.serviceAccount ?? 'default';
  return {
    group: id,
    namespace,
    serviceAccount,
    spiffeId: workloadSpiffeId(TRUST_DOMAIN, namespace, serviceAccount),
    labels: { ...spec?.metadata?.labels, ...spec?.template?.labels },
    outboundPort: index === 0 ? 15001 : 15099 + index,
    ports: Object.entries(spec?.template?.ports ?? {}).map(([port, number]) => ({ name: port, number })),
  };
}
