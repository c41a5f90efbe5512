import type { EgressView, InboundPort } from './view.ts';

type Port = Omit<InboundPort, 'mode'>;

/**
 * Hands out a host's ports to its workloads, in the order of agent.yaml: what an object names is not always to be had. A port of the host's own
 * (ssh, the mesh's, those that agent.yaml excludes) is no workload's; a port, or a socket of the proxy's, has one workload.
 */
export interface PortClaims {
  inbound(group: string, ports: readonly Port[]): readonly Port[];
  egress(group: string, listeners: readonly EgressView[]): readonly EgressView[];
  /** One line for each that was not given, but for ports of services that two workloads serve. */
  readonly problems: readonly string[];
}

/** Outbound ports of workloads after the first (DESIGN 7): 15100 to 15199. */
const isOutbound = (port: number): boolean => port >= 15_100 && port <= 15_199;

export function portClaims(reserved: ReadonlySet<number>): PortClaims {
  const ports = new Set<number>();
  const sockets = new Set<string>();
  const problems: string[] = [];
  const own = (port: number) => reserved.has(port) || isOutbound(port);
  const refuse = (group: string, what: string, port: number) =>
    problems.push(`${group}: ${what} ${port} is left out: the host keeps that port for itself`);
  return {
    problems,
    inbound(group, asked) {
      return asked.filter(({ number, endpoint }) => {
        const kept = [number, ...(endpoint === undefined ? [] : [endpoint.port])].find(own);
        if (kept !== undefined) refuse(group, 'port', kept);
        if (kept !== undefined || ports.has(number)) return false;
        ports.add(number);
        return true;
      });
    },
    egress(group, listeners) {
      return listeners.filter(({ captured, bind, port }) => {
        if (captured || port === undefined) return true;
        const socket = `${bind} ${port.number}`;
        if (own(port.number)) refuse(group, 'egress port', port.number);
        else if (sockets.has(socket))
          problems.push(
            `${group}: egress port ${port.number} at ${bind} is left out: another workload of the host has it`,
          );
        else {
          sockets.add(socket);
          return true;
        }
        return false;
      });
    },
  };
}
