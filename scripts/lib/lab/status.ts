import type { Exec } from '../../../agent/host/exec.ts';
import { adminStatus } from './admin.ts';
import { order } from './control.ts';
import { networkState } from './network.ts';
import { pathsOf } from './paths.ts';
import type { Node, PlannedHost } from './plan.ts';
import type { LabState } from './state.ts';
import type { Answer } from './supervisor-spec.ts';

export interface NodeStatus {
  readonly name: string;
  readonly kind: 'controller' | 'host' | 'plain';
  readonly addresses: readonly string[];
  readonly link: 'up' | 'down';
  readonly units: NonNullable<Answer['units']>;
  /** Absent where no agent answers. */
  readonly ready?: boolean;
  readonly workloads: readonly string[];
}

export interface LabStatus {
  readonly version: 1;
  readonly complete: boolean;
  readonly partitioned: boolean;
  readonly nodes: readonly NodeStatus[];
}

/** What runs now, node by node. */
export async function labStatus(exec: Exec, state: LabState): Promise<LabStatus> {
  const network = await networkState(exec);
  const one = async (node: Node, kind: NodeStatus['kind'], workloads: readonly string[]): Promise<NodeStatus> => {
    const units =
      kind === 'plain'
        ? {}
        : await order(node.name, { do: 'status' }).then(
            (a) => a.units ?? {},
            () => ({}),
          );
    const ready =
      kind === 'host'
        ? await adminStatus(pathsOf(node.name).runDir).then(
            (s) => s.ready,
            () => undefined,
          )
        : undefined;
    const link = network.downLinks.includes(node.port) ? 'down' : 'up';
    return {
      name: node.name,
      kind,
      addresses: [node.ip4, node.ip6],
      link,
      units,
      ...(ready === undefined ? {} : { ready }),
      workloads,
    };
  };
  const bindings = (host: PlannedHost) => host.bindings.map((b) => `${b.group} as ${b.user}`);
  const nodes = await Promise.all([
    ...state.plan.controllers.map((n) => one(n, 'controller', [])),
    ...state.plan.hosts.map((h) => one(h, h.agent ? 'host' : 'plain', bindings(h))),
  ]);
  return { version: 1, complete: state.complete, partitioned: network.partitioned, nodes };
}

/** The status as text for people. */
export function statusText(status: LabStatus): string {
  const lines = status.nodes.map((node) => {
    const units = Object.entries(node.units).map(
      ([name, u]) => `${name} ${u.state}${u.pid === undefined ? '' : ` (${u.pid})`}`,
    );
    const ready = node.ready === undefined ? [] : [node.ready ? 'ready' : 'not ready'];
    const parts = [...units, ...ready, ...(node.link === 'down' ? ['link down'] : []), ...node.workloads];
    return `${node.name.padEnd(12)} ${node.kind.padEnd(10)} ${node.addresses.join(' ').padEnd(22)} ${parts.join(', ')}`;
  });
  const notes = [
    ...(status.complete ? [] : ['this lab did not come up whole']),
    ...(status.partitioned ? ['the network is partitioned'] : []),
  ];
  return `${[...lines, ...notes].join('\n')}\n`;
}
