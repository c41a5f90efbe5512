/**
 * What this host serves as a gateway (docs/decisions/0009): Gateways that select its gateway workloads, merged by port and bind as Istio does,
 * the oldest first. What contradicts an older server is left out and named in `problems`, never half served.
 */
import { isMeshPort } from '../../api/resources/formats.ts';
import { gatewaySelects } from '../../api/resources/gateway-binding.ts';
import { objectKey } from '../../api/resources/object.ts';
import type { DesiredConfig } from '../../api/signed-config/desired-config.ts';
import type { GatewayKind, GatewayListener, GatewayServer, ServerHost } from './gateway-view.ts';
import type { Member } from './members.ts';
import { compare, type ObjectIndex, type Typed } from './object-index.ts';
import type { BuiltService } from './services.ts';
import type { GatewaySpec, ServerSpec, ServerTlsSpec } from './specs/gateway.ts';
import type { WorkloadView } from './view.ts';

export interface GatewayViews {
  /** By port, then bind. */
  readonly listeners: readonly GatewayListener[];
  /** One line for each server that is not served. */
  readonly problems: readonly string[];
}

export interface GatewaySources {
  readonly desired: DesiredConfig;
  readonly objects: ObjectIndex;
  readonly members: ReadonlyMap<string, readonly Member[]>;
  readonly services: readonly BuiltService[];
  /** All of this host. */
  readonly workloads: readonly WorkloadView[];
}

export function gatewayViews(sources: GatewaySources): GatewayViews {
  const gateways = sources.objects<GatewaySpec>('Gateway');
  const taken = new Map<number, string>();
  for (const { group, inboundPorts } of sources.workloads)
    for (const port of inboundPorts) taken.set(port.number, `workload ${group}`);
  const merged = new Map<string, Draft>();
  const problems: string[] = [];
  for (const workload of sources.workloads.filter((one) => one.gateway === true)) {
    const portOf = portMap(workload, sources);
    for (const gateway of gateways.filter((one) => selects(sources, one, workload)))
      for (const server of (gateway.spec.servers ?? []).map((spec) => serverOf(gateway, spec))) {
        const at = { group: workload.group, port: portOf(server.number), bind: server.bind };
        const fault = place(merged, taken, at, server);
        if (fault !== undefined)
          problems.push(`Gateway ${server.gateway}: port ${server.number} (${server.name}) is left out: ${fault}`);
      }
  }
  const listeners = [...merged.values()].sort((a, b) => a.port - b.port || compare(a.bind ?? '', b.bind ?? ''));
  return { listeners, problems };
}

interface Draft extends GatewayListener {
  readonly servers: GatewayServer[];
}

function selects({ desired }: GatewaySources, gateway: Typed<GatewaySpec>, workload: WorkloadView): boolean {
  const group = desired.objects.get(objectKey('WorkloadGroup', workload.namespace, workload.name));
  const object = desired.objects.get(gateway.key);
  return group !== undefined && object !== undefined && gatewaySelects(object, group);
}

/** Istio: where a service of the workload has the port, its target is what is bound. */
function portMap(workload: WorkloadView, { members, services }: GatewaySources): (number: number) => number {
  const key = objectKey('WorkloadGroup', workload.namespace, workload.name);
  const member = members.get(workload.namespace)?.find((candidate) => candidate.key === key);
  const serving = services.filter((service) => service.view.resolution === 'STATIC' && service.serves(key));
  return (number) => {
    for (const service of member === undefined ? [] : serving) {
      const port = service.view.ports.find((candidate) => candidate.number === number);
      const target = port === undefined ? undefined : service.targetOf(member as Member, port);
      if (target !== undefined) return target;
    }
    return number;
  };
}

function serverOf(
  { key, namespace, name, spec: _ }: Typed<GatewaySpec>,
  spec: ServerSpec,
): GatewayServer & { bind?: string } {
  return {
    gateway: `${namespace}/${name}`,
    key,
    number: spec.port?.number ?? 0,
    name: spec.port?.name ?? '',
    protocol: (spec.port?.protocol ?? '').toUpperCase(),
    hosts: (spec.hosts ?? []).map((host) => serverHost(host.toLowerCase(), namespace)),
    ...(spec.name ? { label: spec.name } : {}),
    ...(spec.bind ? { bind: spec.bind } : {}),
    ...(spec.tls === undefined ? {} : { tls: spec.tls }),
  };
}

function serverHost(written: string, namespace: string): ServerHost {
  const [first = '', second] = written.split('/');
  if (second === undefined) return { namespace: undefined, host: first };
  return { namespace: first === '*' ? undefined : first === '.' ? namespace : first, host: second };
}

const HTTP = ['HTTP', 'HTTP2', 'GRPC', 'GRPC-WEB'];

/** True for HTTP, with or without TLS that ends here. */
export function isHttpServer({ protocol, tls }: GatewayServer): boolean {
  return HTTP.includes(protocol) || (protocol === 'HTTPS' && tls !== undefined && !isPassthrough(tls));
}

/** True when TLS goes on to where the connection is led. */
export function isPassthrough({ mode = 'PASSTHROUGH' }: ServerTlsSpec): boolean {
  return mode === 'PASSTHROUGH' || mode === 'AUTO_PASSTHROUGH';
}

function kindOf({ protocol, tls }: GatewayServer): GatewayKind {
  if (HTTP.includes(protocol)) return 'plain';
  return tls === undefined ? 'tcp' : 'tls';
}

/** Puts a server to those of its socket; or why not. */
function place(
  merged: Map<string, Draft>,
  taken: ReadonlyMap<number, string>,
  at: { readonly group: string; readonly port: number; readonly bind: string | undefined },
  server: GatewayServer & { bind?: string },
): string | undefined {
  const { group, port, bind } = at;
  if (isMeshPort(port) || port === 22) return `port ${port} belongs to the host or to the mesh itself`;
  const owner = taken.get(port);
  if (owner !== undefined) return `${owner} serves port ${port} on this host`;
  const { bind: _, ...own } = server;
  const kind = kindOf(server);
  const known = merged.get(`${port} ${bind ?? ''}`);
  if (known === undefined) {
    const draft = { group, port, ...(bind === undefined ? {} : { bind }), kind, servers: [own] };
    merged.set(`${port} ${bind ?? ''}`, draft);
    return undefined;
  }
  const [first] = known.servers;
  if (known.group !== group) return `port ${port} is served for ${known.group}`;
  if (known.kind !== kind || kind === 'tcp')
    return `Gateway ${first?.gateway} has the port for ${first?.protocol}, and ${server.protocol} cannot share it`;
  if (kind === 'tls') {
    const doubled = server.hosts.find(({ host }) =>
      known.servers.some((one) => one.hosts.some((h) => h.host === host)),
    );
    if (doubled !== undefined) return `another server of the port has the host ${doubled.host} already`;
  }
  known.servers.push(own);
  return undefined;
}
