/**
 * From a Topology to everything `up` makes: addresses, namespaces, users, WorkloadGroups, bindings. Pure and deterministic: the same
 * file gives the same lab.
 */
import type { MeshObject } from '../../../api/resources/object.ts';
import type { LabWorkload, Topology } from './topology.ts';

export const TRUST_DOMAIN = 'mesh.test';
/** The machine's own leg on the lab's network, for meshctl and curl from outside the namespaces. */
export const ROOT_NODE = { ip4: '10.77.0.254', ip6: 'fd77::254', device: 'hm-root' } as const;
/** Answers for names outside the mesh, inside the namespace of the bridge. */
export const UPSTREAM = { ip4: '10.77.0.253', ip6: 'fd77::253' } as const;
export const SUBNET4 = '10.77.0.0/24';
export const NET_NAMESPACE = 'hm-net';
/** mesh-controller's REST and agents' ports (DESIGN 7). */
export const PORTS = { rest: 15200, agents: 15201, gossip: 15300, dns: 15053 } as const;
/** Users of the mesh's own programs. */
export const MESH_USERS = ['mesh-agent', 'mesh-proxy', 'mesh-controller'] as const;

/** One machine of the lab: a namespace with one link to the bridge. */
export interface Node {
  readonly name: string;
  readonly netns: string;
  readonly ip4: string;
  readonly ip6: string;
  /** Name of its port on the bridge. */
  readonly port: string;
}

export interface PlannedHost extends Node {
  readonly agent: boolean;
  readonly locality: string;
  readonly bindings: readonly { readonly group: string; readonly user: string }[];
  /** WorkloadGroups for which it is a gateway. */
  readonly gateways: readonly string[];
  /** Namespaces of its workloads in the order of first use: DNS listens on 15053 + index for each, one at least. */
  readonly namespaces: readonly string[];
}

export interface LabPlan {
  readonly controllers: readonly Node[];
  readonly hosts: readonly PlannedHost[];
  readonly groups: readonly MeshObject[];
  /** Users that workloads run as. */
  readonly users: readonly string[];
}

export function planLab(topology: Topology): LabPlan {
  const groupNames = nameGroups(topology);
  const hosts = topology.hosts.map((host, index): PlannedHost => {
    const groupOf = (w: LabWorkload) => `${w.namespace}/${groupNames.get(w)}`;
    const captured = host.gateway ? [] : host.workloads;
    const namespaces = [...new Set(captured.map((w) => w.namespace))];
    return {
      ...node(host.name, 11 + index),
      agent: host.agent,
      locality: host.workloads[0]?.locality ?? '',
      bindings: captured.map((w) => ({ group: groupOf(w), user: w.user })),
      gateways: host.gateway ? host.workloads.map(groupOf) : [],
      namespaces: namespaces.length === 0 ? ['default'] : namespaces,
    };
  });
  const groups = new Map<string, MeshObject>();
  for (const workload of topology.hosts.flatMap((host) => host.workloads)) {
    const group = workloadGroup(workload, groupNames.get(workload) as string);
    groups.set(`${workload.namespace}/${group.metadata.name}`, group);
  }
  return {
    controllers: Array.from({ length: topology.controllers }, (_, index) => node(`ctl${index + 1}`, 2 + index)),
    hosts,
    groups: [...groups.values()],
    users: [...new Set(topology.hosts.filter((h) => !h.gateway).flatMap((host) => host.workloads.map((w) => w.user)))],
  };
}

function node(name: string, number: number): Node {
  return { name, netns: `hm-${name}`, ip4: `10.77.0.${number}`, ip6: `fd77::${number}`, port: `p${number}` };
}

/**
 * Name of each workload's WorkloadGroup: the workload's own, unless another host has a workload of the same name with other labels,
 * ports or account: a WorkloadGroup has one template, so these get NAME-HOST.
 */
function nameGroups(topology: Topology): Map<LabWorkload, string> {
  const templates = new Map<string, Set<string>>();
  const key = (w: LabWorkload) => `${w.namespace}/${w.name}`;
  for (const workload of topology.hosts.flatMap((host) => host.workloads)) {
    const known = templates.get(key(workload)) ?? new Set();
    templates.set(key(workload), known.add(JSON.stringify(workloadGroup(workload, workload.name))));
  }
  const names = new Map<LabWorkload, string>();
  for (const host of topology.hosts)
    for (const workload of host.workloads)
      names.set(
        workload,
        (templates.get(key(workload))?.size ?? 0) > 1 ? `${workload.name}-${host.name}` : workload.name,
      );
  return names;
}

function workloadGroup(workload: LabWorkload, name: string): MeshObject {
  const template = {
    serviceAccount: workload.serviceAccount,
    labels: sorted(workload.labels),
    ports: sorted(workload.ports),
  };
  return {
    apiVersion: 'networking.istio.io/v1',
    kind: 'WorkloadGroup',
    metadata: { name, namespace: workload.namespace },
    spec: { metadata: { labels: sorted(workload.labels) }, template },
  };
}

function sorted<T>(record: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}
