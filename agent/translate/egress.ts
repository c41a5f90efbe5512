import { type ClientView, throughListener } from '../mesh-view/lookup.ts';
import type { EgressView, ServicePort, ServiceView, WorkloadView } from '../mesh-view/view.ts';

/** Services that a workload reaches by one set of chains, at the ports that these are for. */
export interface EgressScope {
  readonly client: ClientView;
  readonly served: readonly Served[];
}

export interface Served {
  readonly service: ServiceView;
  readonly port: ServicePort;
}

/** A listener of the workload's Sidecar that is for one address: the proxy's own socket, or connections made to that address. */
export interface BoundEgress extends EgressScope {
  readonly listener: EgressView & { readonly bind: string; readonly port: NonNullable<EgressView['port']> };
}

/**
 * A workload's captured connections by the Sidecar's listeners: the catch-all has every port that no other listener has taken; one with a
 * port has that port alone, for its own hosts. Without a Sidecar one scope has everything. Pure: a function of client and workload.
 */
export function capturedScopes(client: ClientView, { egress }: WorkloadView): readonly EgressScope[] {
  if (egress === undefined) return [scopeOf(client, undefined, () => true)];
  const open = egress.filter((listener) => listener.captured && listener.bind === undefined);
  const taken = new Set(open.flatMap(({ port }) => (port === undefined ? [] : [port.number])));
  return open.map((listener) =>
    scopeOf(
      throughListener(client, listener),
      listener.port?.protocol,
      listener.port === undefined ? (number) => !taken.has(number) : () => true,
    ),
  );
}

/** Its listeners that are for one address only. */
export function boundScopes(client: ClientView, { egress = [] }: WorkloadView): readonly BoundEgress[] {
  return egress.filter(isBound).map((listener) => ({
    ...scopeOf(throughListener(client, listener), listener.port.protocol, () => true),
    listener,
  }));
}

function isBound(listener: EgressView): listener is BoundEgress['listener'] {
  return listener.bind !== undefined && listener.port !== undefined;
}

/** `protocol`: the listener's own word for its port stands before the services'. */
function scopeOf(
  client: ClientView,
  protocol: ServicePort['protocol'] | undefined,
  admits: (port: number) => boolean,
): EgressScope {
  const served = client.services.flatMap((service) =>
    client
      .ports(service)
      .filter((port) => admits(port.number))
      .map((port) => ({ service, port: protocol === undefined ? port : { ...port, protocol } })),
  );
  return { client, served };
}
