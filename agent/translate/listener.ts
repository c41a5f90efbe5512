import { compact, duration, extension, type JsonObject, socketAddress } from './json.ts';

/** One filter chain before it has a name: two with the same match would make Envoy refuse the listener. */
export interface Chain {
  readonly name: string;
  readonly match: JsonObject;
  readonly filters: readonly JsonObject[];
  readonly transportSocket?: JsonObject;
  readonly metadata?: JsonObject;
}

/** Ports whose servers speak first: their connections are never held back to see what the client says. A constant, so that no config change replaces a listener. */
const SERVER_FIRST_PORTS = [21, 25, 110, 143, 587, 3306, 33_060];

/** Undeclared protocols are told apart within this time, or taken as bytes (DESIGN 3.13), unless MeshConfig gives another; 0s: without end. */
const DETECTION_TIMEOUT = '0.2s';

/**
 * What every listener does with a new connection: where it was going (unless the application speaks to this very socket: `captured` false),
 * whether it is TLS, whether it is HTTP.
 */
export function listenerBody(options: {
  readonly addresses: readonly string[];
  readonly port: number;
  readonly direction: 'INBOUND' | 'OUTBOUND';
  readonly chains: readonly Chain[];
  readonly defaultChain?: Chain;
  readonly captured?: boolean;
  /** MeshConfig's protocolDetectionTimeout. */
  readonly detectionTimeout?: string | undefined;
}): JsonObject {
  const { addresses, port, direction, chains, defaultChain, captured = true, detectionTimeout } = options;
  const [first, ...others] = addresses.map((address) => socketAddress(address, port)) as [JsonObject, ...JsonObject[]];
  return compact({
    address: first,
    additional_addresses: others.length === 0 ? undefined : others.map((address) => ({ address })),
    traffic_direction: direction,
    listener_filters: captured ? [ORIGINAL_DESTINATION, ...INSPECTORS] : INSPECTORS,
    listener_filters_timeout: duration(detectionTimeout) ?? DETECTION_TIMEOUT,
    continue_on_listener_filters_timeout: true,
    connection_balance_config: direction === 'INBOUND' ? { exact_balance: {} } : undefined,
    filter_chains: chainBodies(chains),
    default_filter_chain: defaultChain === undefined ? undefined : chainBody(defaultChain),
  });
}

const SERVER_FIRST: JsonObject = {
  or_match: {
    rules: SERVER_FIRST_PORTS.map((port) => ({ destination_port_range: { start: port, end: port + 1 } })),
  },
};

const ORIGINAL_DESTINATION = extension(
  'envoy.filters.listener.original_dst',
  'envoy.extensions.filters.listener.original_dst.v3.OriginalDst',
);

const INSPECTORS: readonly JsonObject[] = [
  {
    ...extension(
      'envoy.filters.listener.tls_inspector',
      'envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector',
    ),
    filter_disabled: SERVER_FIRST,
  },
  {
    ...extension(
      'envoy.filters.listener.http_inspector',
      'envoy.extensions.filters.listener.http_inspector.v3.HttpInspector',
    ),
    filter_disabled: SERVER_FIRST,
  },
];

/** Filter chains for a listener of its own kind. */
export function chainBodies(chains: readonly Chain[]): readonly JsonObject[] {
  return withoutOverlap(chains).map(chainBody);
}

function chainBody(chain: Chain): JsonObject {
  return compact({
    name: chain.name,
    filter_chain_match: Object.keys(chain.match).length === 0 ? undefined : chain.match,
    filters: chain.filters,
    transport_socket: chain.transportSocket,
    metadata: chain.metadata,
  });
}

/**
 * Chains sorted by name, each without what an earlier one of `chains` matches already: Envoy refuses a listener in which two chains share
 * one combination of port, prefix, server name and protocols. A chain of which nothing is left goes.
 */
function withoutOverlap(chains: readonly Chain[]): readonly Chain[] {
  const taken = new Set<string>();
  const kept: Chain[] = [];
  for (const chain of chains) {
    const { prefix_ranges, server_names, application_protocols, ...rest } = chain.match;
    const prefixes = (prefix_ranges ?? [null]) as readonly JsonObject[];
    const protocols = (application_protocols ?? [null]) as readonly string[];
    const keysOf = (prefix: unknown, name: unknown) =>
      protocols.map((protocol) => JSON.stringify([rest, prefix, name, protocol]));
    const free = (prefix: unknown, name: unknown) => keysOf(prefix, name).every((key) => !taken.has(key));
    const names = ((server_names ?? [null]) as readonly string[]).filter((name) => prefixes.some((p) => free(p, name)));
    const own = prefixes.filter((prefix) => names.length > 0 && names.every((name) => free(prefix, name)));
    if (own.length === 0) continue;
    for (const prefix of own) for (const name of names) for (const key of keysOf(prefix, name)) taken.add(key);
    const match = {
      ...chain.match,
      ...(prefix_ranges === undefined ? {} : { prefix_ranges: own }),
      ...(server_names === undefined ? {} : { server_names: names }),
    };
    kept.push({ ...chain, match });
  }
  return kept.sort((a, b) => (a.name < b.name ? -1 : 1));
}
